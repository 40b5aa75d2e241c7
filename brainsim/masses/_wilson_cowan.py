"""The Wilson-Cowan model of an excitatory and an inhibitory population."""

from typing import Any, ClassVar

import diffrax

from ..base import Param
from ..core import AbstractUnit
from ._shared import logistic, positive, start


class WilsonCowan(AbstractUnit):
    r"""Fractions `E` and `I` of active excitatory and inhibitory cells:

    $$\tau_e \dot E = -E + (k_e - r E)\, S_e(c_1 E - c_2 I + P + c), \quad
    \tau_i \dot I = -I + (k_i - r I)\, S_i(c_3 E - c_4 I + Q)$$

    with $S(x) = \sigma(a (x - \theta)) - \sigma(-a \theta)$, which is 0 at 0, and its largest value $k = 1 -
    \sigma(-a \theta)$. The input c (no unit) of the node and of its ports is added to that of E. The defaults are the
    limit cycle of the paper's figure 11; its unit of time is taken as `tau_e` = `tau_i` = 8 ms.

    Source: Wilson & Cowan 1972, doi:10.1016/S0006-3495(72)86068-5, eq. 11 and 12.

    **Arguments:** `c1`, `c2`, `c3`, `c4`: coupling E to E, I to E, E to I, I to I; `a_e`, `a_i`: slopes; `th_e`,
    `th_i`: thresholds; `r`: refractory fraction; `P`, `Q`: constant inputs; `tau_e`, `tau_i`: time constants (ms).
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    c1: Param = 16.0
    c2: Param = 12.0
    c3: Param = 15.0
    c4: Param = 3.0
    a_e: Param = 1.3
    th_e: Param = 4.0
    a_i: Param = 2.0
    th_i: Param = 3.7
    r: Param = 1.0
    P: Param = 1.25
    Q: Param = 0.0
    tau_e: Param = 8.0
    tau_i: Param = 8.0

    def __check_init__(self) -> None:
        positive(self, "tau_e", "tau_i", "a_e", "a_i")

    def init(self, n, clock):
        return start(n, E=0.1, I=0.05)

    def emit(self, y, z, s):
        return y["E"]

    def vector_field(self, y, z, inp):
        E, I = y["E"], y["I"]
        rest_e, rest_i = logistic(-self.a_e * self.th_e), logistic(-self.a_i * self.th_i)
        s_e = logistic(self.a_e * (self.c1 * E - self.c2 * I + self.P + inp - self.th_e)) - rest_e
        s_i = logistic(self.a_i * (self.c3 * E - self.c4 * I + self.Q - self.th_i)) - rest_i
        return {
            "E": (-E + (1.0 - rest_e - self.r * E) * s_e) * (1.0 / self.tau_e),
            "I": (-I + (1.0 - rest_i - self.r * I) * s_i) * (1.0 / self.tau_i),
        }
