"""Oscillators: the normal form of the Hopf bifurcation, phases, and a relaxation oscillator."""

from typing import Any, ClassVar

import diffrax

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, start


class StuartLandau(AbstractUnit):
    r"""The normal form of the supercritical Hopf bifurcation, with amplitude $\sqrt a$ above it:

    $$\dot x = (a - x^2 - y^2)\, x - \omega y + c, \quad \dot y = (a - x^2 - y^2)\, y + \omega x$$

    The input c (1/ms) of the node and of its ports is added to the derivative of x. Source: Deco et al. 2017,
    doi:10.1038/s41598-017-03073-5.

    **Arguments:** `a`: distance to the bifurcation (1/ms); `omega`: angular frequency (1/ms), $2 \pi f / 1000$ for f in
    Hz.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    a: Param = -0.02
    omega: Param = 0.2513274

    def init(self, n, clock):
        return start(n, x=0.1, y=0.0)

    def emit(self, y, z, s):
        return y["x"]

    def vector_field(self, y, z, inp):
        x, y = y["x"], y["y"]
        growth = self.a - x * x - y * y
        return {"x": growth * x - self.omega * y + inp, "y": growth * y + self.omega * x}


class Kuramoto(AbstractUnit):
    r"""A phase: $\dot \theta = \omega + c$, with the coupling $c = \sum_j K_{ij} \sin(\theta_j - \theta_i)$ of
    `bs.PairCoupling` and `bs.sinusoidal`.

    `theta` (rad) grows without bound; take it modulo $2 \pi$ where that matters. Source: Kuramoto 1984,
    doi:10.1007/978-3-642-69689-3.

    **Arguments:** `omega`: angular frequency (1/ms).
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    omega: Param = 0.2513274

    def init(self, n, clock):
        return start(n, theta=0.0)

    def emit(self, y, z, s):
        return y["theta"]

    def vector_field(self, y, z, inp):
        return {"theta": self.omega + inp}


class FitzHughNagumo(AbstractUnit):
    r"""A fast variable `v` with cubic nonlinearity and a slow recovery `w`:

    $$\tau_v \dot v = v - v^3 / 3 - w + I + c, \quad \tau_v \tau \dot w = v + a - b w$$

    The input c (no unit) of the node and of its ports is added to I. Source: FitzHugh 1961,
    doi:10.1016/S0006-3495(61)86902-6; Nagumo et al. 1962, doi:10.1109/JRPROC.1962.288235.

    **Arguments:** `a`, `b`: of the recovery; `tau`: how much slower it is; `I`: constant input; `tau_v`: the unit of
    time (ms).
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    a: Param = 0.7
    b: Param = 0.8
    tau: Param = 12.5
    I: Param = 0.5
    tau_v: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau", "tau_v")

    def init(self, n, clock):
        return start(n, v=-1.0, w=-0.5)

    def emit(self, y, z, s):
        return y["v"]

    def vector_field(self, y, z, inp):
        v, w, rate = y["v"], y["w"], 1.0 / self.tau_v
        return {
            "v": (v - v * v * v * (1.0 / 3.0) - w + self.I + inp) * rate,
            "w": (v + self.a - self.b * w) * (rate * (1.0 / self.tau)),
        }
