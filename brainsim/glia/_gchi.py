"""The astrocyte of De Pitta and others, in which glutamate makes the IP3."""

from typing import Any, ClassVar

import diffrax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, slow_current, start

_LEAST = 1e-9  # uM of glutamate: at 0 its power 0.7 has no finite derivative


def _hill(x: Any, k: Any) -> Any:
    return x / (x + k)


class GChI(AbstractUnit):
    r"""Calcium of an astrocyte, with IP3 that glutamate and calcium produce and two enzymes degrade.

    $$\frac{dc}{dt} = (r_C (m n h)^3 + r_L)(c_0 - (1 + c_1) c) - v_{ER} \frac{c^2}{c^2 + K_{ER}^2}, \quad
    \frac{dh}{dt} = a_2 (Q_2 - (Q_2 + c) h), \quad Q_2 = d_2 \frac{i + d_1}{i + d_3},$$
    $$\frac{di}{dt} = v_\beta H(\gamma^{0.7}, K_\gamma^{0.7}) + \frac{v_\delta}{1 + i / \kappa_\delta}
    H(c^2, K_\delta^2) - v_{3K} H(c^4, K_D^4) H(i, K_3) - r_{5P}\, i,$$

    with $H(x, k) = x / (x + k)$, $m = H(i, d_1)$, $n = H(c, d_5)$, $K_\gamma = K_R + K_p H(c, K_\pi)$, and glutamate
    $\gamma$ that decays with $\tau_{glu}$ (variables `glu`, `ca`, `h`, `ip3`).
    Glutamate arrives at a port `bs.Delta("glu")` (uM an event). The unit has no spikes and sends a slow inward current
    as `LiRinzel` does.

    **Arguments:** `r_c`, `r_l`, `r_5p` (1/ms), `v_er`, `v_delta`, `v_3k`, `v_beta` (uM/ms), `a2` (1/(uM ms)), `c0`,
    `d1`, `d2`, `d3`, `d5`, `k_er`, `k_delta`, `kappa_delta`, `k_d`, `k_3`, `k_r`, `k_p`, `k_pi` (uM), `c1`: volume of
    the stores over that of the cytosol; `tau_glu`: ms; `sic_th` (uM), `sic_scale` (pA). The defaults are those of
    amplitude modulation, of which `v_beta`, `v_delta`, `r_5p` and `k_er` differ from those of frequency modulation
    (0.5e-3, 0.05e-3, 0.05e-3, 0.05).

    Source: De Pittà, Goldberg, Volman, Berry & Ben-Jacob 2009, doi:10.1007/s10867-009-9155-y, table 1; the form and
    both sets are those of the implementation by Manninen, Havela & Linne 2017, ModelDB 223269.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    r_c: Param = 6e-3
    r_l: Param = 0.11e-3
    v_er: Param = 0.9e-3
    c0: Param = 2.0
    c1: Param = 0.185
    k_er: Param = 0.1
    d1: Param = 0.13
    d2: Param = 1.049
    d3: Param = 0.9434
    d5: Param = 0.08234
    a2: Param = 0.2e-3
    v_beta: Param = 0.2e-3
    k_r: Param = 1.3
    k_p: Param = 10.0
    k_pi: Param = 0.6
    v_delta: Param = 0.02e-3
    k_delta: Param = 0.1
    kappa_delta: Param = 1.5
    v_3k: Param = 2e-3
    k_d: Param = 0.7
    k_3: Param = 1.0
    r_5p: Param = 0.04e-3
    tau_glu: Param = 100.0
    sic_th: Param = 0.19669
    sic_scale: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "c0", "c1", "k_er", "d1", "d2", "d3", "d5", "k_r", "k_pi", "k_delta", "k_d", "k_3", "tau_glu")

    def init(self, n, clock):
        return start(n, glu=0.0, ca=0.073, h=0.793, ip3=0.16)

    def vector_field(self, y, z, inp):
        glu, ca, h, ip3 = (y[name] for name in ("glu", "ca", "h", "ip3"))
        gate = _hill(ip3, self.d1) * _hill(ca, self.d5) * h
        square = ca * ca
        flow = (self.r_c * gate * gate * gate + self.r_l) * (self.c0 - (1.0 + self.c1) * ca)
        pump = self.v_er * square / (square + self.k_er * self.k_er)
        q2 = self.d2 * (ip3 + self.d1) / (ip3 + self.d3)
        made = self.v_beta * _hill(_power(glu), _power(self.k_r + self.k_p * _hill(ca, self.k_pi)))
        made = made + self.v_delta / (1.0 + ip3 / self.kappa_delta) * _hill(square, self.k_delta * self.k_delta)
        fourth = self.k_d * self.k_d * self.k_d * self.k_d
        lost = self.v_3k * _hill(square * square, fourth) * _hill(ip3, self.k_3) + self.r_5p * ip3
        return {
            "glu": -glu * (1.0 / self.tau_glu),
            "ca": flow - pump + inp,
            "h": self.a2 * (q2 - (q2 + ca) * h),
            "ip3": made - lost,
        }

    def emit(self, y, z, s):
        return slow_current(y["ca"], self.sic_th, self.sic_scale)


def _power(x: Array) -> Array:
    """`x ^ 0.7`."""
    return jnp.maximum(x, _LEAST) ** 0.7
