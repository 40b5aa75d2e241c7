"""One astrocyte for a whole network, and a spiking unit with one of its own: models of machine learning."""

from typing import Any, ClassVar

import diffrax
import jax.numpy as jnp

from ..base import Param, float_dtype
from ..core import AbstractUnit
from ._shared import positive, start


class GlobalAstrocyte(AbstractUnit):
    r"""The astrocyte of NALSM, which integrates the difference between the activity of a network and of its input:

    $$\tau \frac{dA}{dt} = b - A + w \Big(\sum_\mathrm{liquid} s - \sum_\mathrm{input} s\Big).$$

    Events arrive at a port `bs.Delta("a")`; an event of weight $\pm w \Delta t / \tau$, with the step $\Delta t$ of the
    source (1 ms), is that sum. Named as the modulator of a rule (`modulator="G.a"`) A is its amplitude of depression.
    Variable: `a`; it has no spikes and sends A.

    **Arguments:** `tau`: ms; `bias`: b, where A also begins.

    Source: Ivanov & Michmizos 2021, arXiv:2111.01760, eq. 5.
    """

    default_solver: ClassVar[Any] = diffrax.Euler()
    tau: Param = 100.0
    bias: Param = 0.15

    def __check_init__(self) -> None:
        positive(self, "tau")

    def init(self, n, clock):
        return {"a": jnp.broadcast_to(self.bias, (n,)).astype(float_dtype())}, {}

    def vector_field(self, y, z, inp):
        return {"a": (self.bias - y["a"] + inp) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return y["a"]


class AMSU(AbstractUnit):
    r"""A reconstruction of the astrocyte-modulated spiking unit: a neuron whose own slow calcium scales its input.

    $$\tau_m \dot v = -v + (1 + m)\, I, \quad \tau_g\, \dot g = -g, \quad
    \tau_c\, \dot c = \frac{g}{g + k} - c, \quad m = \gamma \tanh c,$$

    with glutamate g that pre events bring to a port `bs.Delta("glu")`, calcium c, and a spike at $v \ge$ `v_th` that
    sets v to 0. Variables: `v`, `glu`, `ca`. The equations of the paper were not to be had: this is written in its
    spirit, and no figure of the paper is claimed for it.

    **Arguments:** `tau_m`, `tau_g`, `tau_c`: ms; `k`: half activation; `gain`: $\gamma$; `v_th`: threshold.

    Source of the idea: arXiv:2312.07625.
    """

    default_solver: ClassVar[Any] = diffrax.Euler()
    tau_m: Param = 20.0
    tau_g: Param = 20.0
    tau_c: Param = 500.0
    k: Param = 1.0
    gain: Param = 1.0
    v_th: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau_m", "tau_g", "tau_c", "k", "v_th")

    def init(self, n, clock):
        return start(n, v=0.0, glu=0.0, ca=0.0)

    def vector_field(self, y, z, inp):
        drive = (1.0 + self.gain * jnp.tanh(y["ca"])) * inp
        active = y["glu"] / (y["glu"] + self.k)
        return {
            "v": (drive - y["v"]) * (1.0 / self.tau_m),
            "glu": y["glu"] * (-1.0 / self.tau_g),
            "ca": (active - y["ca"]) * (1.0 / self.tau_c),
        }

    def guard(self, y, z):
        return y["v"] - self.v_th

    def reset(self, y, z, s, inp, clock):
        return {**y, "v": y["v"] * (1.0 - s)}, z
