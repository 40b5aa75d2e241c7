"""The astrocyte of Li and Rinzel."""

from typing import Any, ClassVar

import diffrax
import jax.numpy as jnp

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, slow_current, start


class LiRinzel(AbstractUnit):
    r"""Calcium of an astrocyte that IP3 releases from its stores, as `astrocyte_lr_1994` of NEST 3.10 has it.

    $$\frac{d\,IP_3}{dt} = \frac{IP_{3,0} - IP_3}{\tau_{IP3}}, \quad
    \frac{dc}{dt} = \rho\, (r_{IP3R} (m n h)^3 + r_L)(c_{ER} - c) - r_S \frac{c^2}{K_m^2 + c^2} + I,$$
    $$\frac{dh}{dt} = k \Big(K_{inh} \frac{IP_3 + K_1}{IP_3 + K_2} (1 - h) - c\, h\Big),$$

    with $m = IP_3 / (IP_3 + K_1)$, $n = c / (c + K_{act})$, $c_{ER} = (c_{tot} - c) / \rho$ and c held within 0 and
    $c_{tot}$ (variables `ip3`, `ca`, `h`). Glutamate is what arrives at a port `bs.Delta("ip3")`: a weight is a jump
    of IP3 (uM). The unit has no spikes. It sends the slow inward current that its calcium drives,
    `sic_scale ln(1000 (ca - sic_th))` pA where the argument is above 1, times the weight of an edge into a
    `bs.HeldCurr`. The input of the node is the noise current J (uM/ms).

    Over 15 s with 20 events the run with Heun and 0.1 ms is NEST's to 3e-9 uM in float64. In float32 a step of 0.1 ms
    is too short: what it adds is lost in rounding (1e-3); there a node of astrocytes runs every 10th step or more
    rarely, `bs.Every(diffrax.Heun(), 10)` (1e-4 at 1 ms), or the run is in float64.

    **Arguments:**

    - `ca_tot`, `ip3_0`: total calcium and resting IP3 (uM).
    - `k_act`, `k_inh`, `k_ip3_1`, `k_ip3_2`, `k_m`: constants of the receptor and the pump (uM).
    - `k`: rate of the receptor's inactivation (1/(uM ms)).
    - `rate_ip3r`, `rate_l`: release and leak (1/ms); `rate_serca`: pump (uM/ms).
    - `ratio`: volume of the stores over that of the cytosol.
    - `tau_ip3`: ms.
    - `sic_th`: threshold of calcium (uM); `sic_scale`: pA.

    Source: Li & Rinzel 1994, doi:10.1006/jtbi.1994.1041; Nadkarni & Jung 2003, doi:10.1103/PhysRevLett.91.268101.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    ca_tot: Param = 2.0
    ip3_0: Param = 0.16
    k_act: Param = 0.08234
    k_inh: Param = 1.049
    k_ip3_1: Param = 0.13
    k_ip3_2: Param = 0.9434
    k_m: Param = 0.1
    k: Param = 2e-4
    rate_ip3r: Param = 6e-3
    rate_l: Param = 1.1e-4
    rate_serca: Param = 9e-4
    ratio: Param = 0.185
    tau_ip3: Param = 7142.0
    sic_th: Param = 0.19669
    sic_scale: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "ca_tot", "k_act", "k_inh", "k_ip3_1", "k_ip3_2", "k_m", "ratio", "tau_ip3")

    def init(self, n, clock):
        return start(n, ip3=0.16, ca=0.073, h=0.793)

    def vector_field(self, y, z, inp):
        ip3, ca, h = y["ip3"], jnp.clip(y["ca"], 0.0, self.ca_tot), y["h"]
        gate = ip3 / (ip3 + self.k_ip3_1) * (ca / (ca + self.k_act)) * h
        stored = (self.ca_tot - ca) / self.ratio
        flow = self.ratio * (self.rate_ip3r * gate * gate * gate + self.rate_l) * (stored - ca)
        pump = self.rate_serca * ca * ca / (self.k_m * self.k_m + ca * ca)
        opened = self.k_inh * (ip3 + self.k_ip3_1) / (ip3 + self.k_ip3_2) * (1.0 - h)
        decay = (self.ip3_0 - ip3) * (1.0 / self.tau_ip3)
        return {"ip3": decay, "ca": flow - pump + inp, "h": self.k * (opened - ca * h)}

    def emit(self, y, z, s):
        return slow_current(y["ca"], self.sic_th, self.sic_scale)
