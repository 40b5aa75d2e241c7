"""The exact mean field of quadratic integrate-and-fire neurons."""

import math
from typing import Any, ClassVar

import diffrax

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, start


class MontbrioPazoRoxin(AbstractUnit):
    r"""Rate `r` (1/ms) and mean potential `v` of infinitely many quadratic integrate-and-fire neurons, $\tau \dot v_j =
    v_j^2 + \eta_j + J \tau r + c$, whose $\eta_j$ have a Lorentzian distribution:

    $$\tau \dot r = \frac{\Delta}{\pi \tau} + 2 r v, \quad \tau \dot v = v^2 + \eta + J \tau r + c - (\pi \tau r)^2$$

    The input c (no unit) of the node and of its ports is added to that of every neuron. Nothing holds `r` above 0: a
    value below it comes from a step that is too long.

    Source: Montbrió, Pazó & Roxin 2015, doi:10.1103/PhysRevX.5.021028, eq. 12.

    **Arguments:** `tau`: membrane time constant (ms); `delta`: half width of the Lorentzian; `eta`: its centre; `J`:
    recurrent coupling.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    tau: Param = 10.0
    delta: Param = 1.0
    eta: Param = -5.0
    J: Param = 15.0

    def __check_init__(self) -> None:
        positive(self, "tau")

    def init(self, n, clock):
        return start(n, r=0.0, v=-2.0)

    def emit(self, y, z, s):
        return y["r"]

    def vector_field(self, y, z, inp):
        r, v, rate = y["r"], y["v"], 1.0 / self.tau
        scaled = self.tau * r
        return {
            "r": (self.delta * rate * (1.0 / math.pi) + 2.0 * r * v) * rate,
            "v": (v * v + self.eta + self.J * scaled + inp - (math.pi * scaled) ** 2) * rate,
        }
