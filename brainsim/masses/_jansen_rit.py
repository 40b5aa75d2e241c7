"""The Jansen-Rit model of a cortical column."""

from typing import Any, ClassVar

import diffrax

from ..base import Param
from ..core import AbstractUnit
from ._shared import logistic, positive, start


class JansenRit(AbstractUnit):
    r"""Pyramidal cells with an excitatory and an inhibitory feedback loop; the EEG signal is `y1 - y2` (mV).

    $$\ddot y_0 = A a\, S(y_1 - y_2) - 2 a \dot y_0 - a^2 y_0$$
    $$\ddot y_1 = A a\, (p + c + C_2 S(C_1 y_0)) - 2 a \dot y_1 - a^2 y_1$$
    $$\ddot y_2 = B b\, C_4 S(C_3 y_0) - 2 b \dot y_2 - b^2 y_2$$

    with $S(v) = 2 e_0 / (1 + \exp(r (v_0 - v)))$ and $C_1, C_2, C_3, C_4 = C, 0.8 C, 0.25 C, 0.25 C$; `y3`, `y4`, `y5`
    are the derivatives. The input c (pulses per ms) of the node and of its ports is added to p. Other programs have
    `v0` = 5.52 mV by default, the paper 6.

    Source: Jansen & Rit 1995, doi:10.1007/BF00199471.

    **Arguments:** `A`, `B`: largest potentials (mV); `a`, `b`: rates (1/ms); `e0`: half of the largest firing rate
    (1/ms); `v0`: potential at half of it (mV); `r`: slope (1/mV); `C`: number of contacts; `p`: constant input (1/ms).
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    A: Param = 3.25
    B: Param = 22.0
    a: Param = 0.1
    b: Param = 0.05
    e0: Param = 0.0025
    v0: Param = 6.0
    r: Param = 0.56
    C: Param = 135.0
    p: Param = 0.22

    def __check_init__(self) -> None:
        positive(self, "a", "b", "r")

    def init(self, n, clock):
        return start(n, y0=0.0, y1=0.0, y2=0.0, y3=0.0, y4=0.0, y5=0.0)

    def rate(self, v):
        """The firing rate S(v) (1/ms) at a potential (mV)."""
        return 2.0 * self.e0 * logistic(self.r * (v - self.v0))

    def emit(self, y, z, s):
        return self.rate(y["y1"] - y["y2"])

    def vector_field(self, y, z, inp):
        A, B, a, b, C = self.A, self.B, self.a, self.b, self.C
        y0, y1, y2, y3, y4, y5 = (y[f"y{k}"] for k in range(6))
        return {
            "y0": y3,
            "y1": y4,
            "y2": y5,
            "y3": A * a * self.rate(y1 - y2) - 2.0 * a * y3 - a * a * y0,
            "y4": A * a * (self.p + inp + 0.8 * C * self.rate(C * y0)) - 2.0 * a * y4 - a * a * y1,
            "y5": B * b * 0.25 * C * self.rate(0.25 * C * y0) - 2.0 * b * y5 - b * b * y2,
        }
