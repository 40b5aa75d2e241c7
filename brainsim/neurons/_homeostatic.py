"""Units that keep their rate."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..base import Param, float_dtype, is_traced
from ..core import AbstractUnit, Structure


class Homeostatic(AbstractUnit):
    r"""Any unit, with a threshold that moves until the unit fires at a target rate.

    $$\theta \leftarrow \theta + \eta\, (s - \rho\, dt)$$

    in every step, s being 1 at a spike: $\theta$ (variable `theta`, in the unit of the guard, mV) is at rest in the
    mean exactly where the rate is $\rho$. It rises by $\eta$ at a spike and falls by $\eta \rho$ per ms, so a small
    $\eta$ is slow regulation of excitability and a large one adaptation too. The unit spikes where its own guard
    exceeds $\theta$.

    Source: Zhang & Linden 2003, doi:10.1038/nrn1248 (intrinsic plasticity); the rule is that of Diehl & Cook 2015,
    doi:10.3389/fncom.2015.00099, with a linear instead of an exponential decay.

    **Arguments:** `unit`: an `AbstractUnit` with a guard; `rate`: the target (Hz) >= 0, one or one per unit; `eta`: mV
    a spike.

    !!! Example
        `bs.Population(bs.Homeostatic(bs.LIF(), rate=10.0), 100)`; its parameters are `unit.unit.tau_m`, `unit.rate`.
    """

    unit: AbstractUnit
    rate: Param = 10.0
    eta: Param = 0.1

    def __check_init__(self) -> None:
        if not isinstance(self.unit, AbstractUnit):
            raise TypeError(f"Homeostatic.unit is {self.unit!r}; expected a unit such as bs.LIF(). Pass an instance.")
        if self.unit.structure is Structure.OPERATOR:
            kind = type(self.unit).__name__
            raise TypeError(f"Homeostatic.unit is a {kind}, whose units flow together; expected one that flows alone.")
        for name in ("rate", "eta"):
            x = getattr(self, name)
            if not is_traced(x) and np.any(np.asarray(x) < 0):
                raise ValueError(f"Homeostatic.{name} is {np.asarray(x)}; expected {name} >= 0. Mend the value given.")

    @property
    def structure(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.unit.structure

    @property
    def default_solver(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.unit.default_solver

    def init(self, n, clock):
        y, z = self.unit.init(n, clock)
        if "theta" in y or "theta" in z:
            kind = type(self.unit).__name__
            raise ValueError(f"Homeostatic.unit: {kind} has a variable 'theta' of its own. Rename it.")
        return y, {**z, "theta": jnp.zeros(n, float_dtype())}

    def _own(self, z: dict) -> dict:
        return {k: x for k, x in z.items() if k != "theta"}

    def vector_field(self, y, z, inp):
        return self.unit.vector_field(y, self._own(z), inp)

    def guard(self, y, z):
        guard: Any = self.unit.guard(y, self._own(z))
        return None if guard is None else guard - z["theta"]

    def emit(self, y, z, s):
        return self.unit.emit(y, self._own(z), s)

    def reset(self, y, z, s, inp, clock):
        y, own = self.unit.reset(y, self._own(z), s, inp, clock)
        return y, {**own, "theta": z["theta"] + self.eta * (s - 1e-3 * self.rate * clock.dt)}

    def held(self, z):
        return self.unit.held(self._own(z))
