"""Signals in volume: dopamine and others of its kind."""

from typing import Any, ClassVar

import diffrax

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, start


class Neuromodulator(AbstractUnit):
    r"""Concentration of a transmitter that events release and transporters take up:

    $$\frac{dc}{dt} = -\frac{V c}{K + c} + I.$$

    Events of its sources arrive at a port `bs.Delta("c")`: a weight is a jump of c (uM). The input of the node is
    tonic release (uM/ms). Variable: `c`, which it also sends, so that an edge into a `bs.HeldCurr` makes a current of
    it; as `modulator="D.c"` rules read it, and as `bs.ModulatedGain("D.c")` edges. Well below K it decays with K / V.

    **Arguments:** `v_max`: V (uM/ms), `k_m`: K (uM). The defaults are of dopamine in the dorsal striatum.

    Source: Wightman & Zimmerman 1990, doi:10.1016/0165-0173(90)90015-G; Dreyer, Herrik, Berg & Hounsgaard 2010,
    doi:10.1523/JNEUROSCI.1894-10.2010.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    v_max: Param = 4.1e-3
    k_m: Param = 0.21

    def __check_init__(self) -> None:
        positive(self, "v_max", "k_m")

    def init(self, n, clock):
        return start(n, c=0.0)

    def vector_field(self, y, z, inp):
        return {"c": inp - self.v_max * y["c"] / (self.k_m + y["c"])}

    def emit(self, y, z, s):
        return y["c"]
