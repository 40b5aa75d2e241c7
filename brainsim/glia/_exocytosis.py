"""Astrocytes that release transmitter of their own."""

from typing import Any

import jax.numpy as jnp

from ..base import Param, float_dtype
from ..core import AbstractUnit
from ._shared import positive


class Exocytosis(AbstractUnit):
    r"""Any astrocyte, with transmitter that it releases when its calcium rises through a threshold.

    $$\frac{dx}{dt} = \Omega_A (1 - x), \quad \frac{dg}{dt} = -\Omega_e\, g; \qquad
    \text{at a release:}\ g \leftarrow g + \rho\, G\, U x,\ x \leftarrow x - U x,$$

    with the stores x and the transmitter g outside of the cell (variables `store`, `glio`). The unit emits an event at
    each release, one for every time that calcium rises through the threshold, in place of the current of the astrocyte
    itself. `GliaModulated` is a synapse whose release listens to g.

    **Arguments:** `unit`: an astrocyte with a variable `ca`, such as `bs.LiRinzel()`; `ca_th` (uM): threshold; `u`:
    share of the stores that a release uses; `amount`: $\rho\, G$, concentration outside of the cell that full stores
    would make (uM); `omega_a`, `omega_e`: rates of refilling and clearance (1/ms).

    Source: De Pittà, Volman, Berry & Ben-Jacob 2011, doi:10.1371/journal.pcbi.1002293; the constants are those of
    Stimberg, Goodman, Brette & De Pittà 2019, doi:10.1007/978-3-030-00817-8_18.
    """

    unit: AbstractUnit
    ca_th: Param = 0.5
    u: Param = 0.6
    amount: Param = 130.0
    omega_a: Param = 0.6e-3
    omega_e: Param = 60e-3

    def __check_init__(self) -> None:
        if not isinstance(self.unit, AbstractUnit):
            raise TypeError(f"Exocytosis.unit is {self.unit!r}; expected an astrocyte such as bs.LiRinzel().")
        positive(self, "ca_th", "u", "amount", "omega_a", "omega_e")

    @property
    def default_solver(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.unit.default_solver

    def init(self, n, clock):
        y, z = self.unit.init(n, clock)
        if "ca" not in y:
            kind = type(self.unit).__name__
            raise TypeError(f"Exocytosis.unit is a {kind}, which has no variable 'ca'; expected an astrocyte.")
        store, none = jnp.ones(n, float_dtype()), jnp.zeros(n, float_dtype())
        return {**y, "store": store, "glio": none}, {**z, "high": none}

    def _own(self, y: dict, z: dict) -> tuple[dict, dict]:
        return {k: x for k, x in y.items() if k not in ("store", "glio")}, {k: x for k, x in z.items() if k != "high"}

    def vector_field(self, y, z, inp):
        released: Any = {"store": self.omega_a * (1.0 - y["store"]), "glio": -self.omega_e * y["glio"]}
        own, own_z = self._own(y, z)
        return {**self.unit.vector_field(own, own_z, inp), **released}

    def guard(self, y, z):
        return jnp.where(z["high"] > 0, -jnp.ones_like(y["ca"]), y["ca"] - self.ca_th)

    def reset(self, y, z, s, inp, clock):
        own, own_z = self.unit.reset(*self._own(y, z), jnp.zeros_like(s), inp, clock)
        used = self.u * y["store"] * s
        moved = {"store": y["store"] - used, "glio": y["glio"] + self.amount * used}
        return {**own, **moved}, {**own_z, "high": (y["ca"] > self.ca_th).astype(s.dtype)}

    def held(self, z):
        return self.unit.held({k: x for k, x in z.items() if k != "high"})
