"""What a rule remembers of a unit: traces of its events, averages of its variables, integrals since its last event."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

Side = Literal["pre", "post"]


def _lost(dt: Any, tau: Any) -> Any:
    """`1 - exp(-dt / tau)`: as a difference from 1 it keeps its digits where tau is many steps."""
    return -jnp.expm1(-dt / tau)


class SpikeTrace(NamedTuple):
    r"""A trace of the events of a unit: `dx/dt = -x / tau`; an event adds 1 to it, or sets it to 1.

    **Arguments:** `side`: `"pre"` or `"post"`; `tau`: ms; `nearest`: True to set, so that only the last event counts;
    `start`: its value at time 0. An event of value k adds k.
    """

    side: Side
    tau: Any
    nearest: bool = False
    start: float = 0.0

    def flow(self, x: Array, seen: SimpleNamespace, mod: Any, dt: Array) -> Array:
        """The trace at the end of a step, before the events of that step."""
        del seen, mod
        return x - x * _lost(dt, self.tau)

    def jump(self, x: Array, value: Array) -> Array:
        """The trace after events."""
        return jnp.where(value != 0, jnp.ones_like(x), x) if self.nearest else x + value


class LowPass(NamedTuple):
    r"""A running average of a quantity of a unit: `dx/dt = (of - x) / tau`.

    **Arguments:** `side`; `tau`: ms; `of`: a function of the unit, whose attributes are its variables (`unit.v`) and
    the traces above this one, and of the modulator; `start`: its value at time 0.
    """

    side: Side
    tau: Any
    of: Callable[[SimpleNamespace, Any], Any]
    start: float = 0.0

    def flow(self, x, seen, mod, dt):
        return x + (self.of(seen, mod) - x) * _lost(dt, self.tau)

    def jump(self, x, value):
        del value
        return x


class Integral(NamedTuple):
    r"""An integral since the last event of a unit: `dx/dt = of`, back to 0 at an event.

    With `of=lambda unit, mod: 1.0` the time since the last event (ms).

    **Arguments:** `side`, `of`, `start`: as in `LowPass`; `reset`: False: since time 0, events change nothing.
    """

    side: Side
    of: Callable[[SimpleNamespace, Any], Any]
    start: float = 0.0
    reset: bool = True

    def flow(self, x, seen, mod, dt):
        return x + dt * self.of(seen, mod)

    def jump(self, x, value):
        return jnp.where(value != 0, jnp.zeros_like(x), x) if self.reset else x


Spec = SpikeTrace | LowPass | Integral


def flowed(
    specs: dict[str, Spec], z: dict[str, Array], unit: dict[str, Array], mod: Any, dt: Float[Array, ""]
) -> dict[str, Array]:
    """The traces at the end of a step, before its events."""
    seen = SimpleNamespace(**unit)
    out = {}
    for name, spec in specs.items():
        out[name] = spec.flow(z[name], seen, mod, dt)
        setattr(seen, name, out[name])
    return out
