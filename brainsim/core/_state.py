"""What changes during a run, and what a pure function may know of time and chance."""

import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from ..base import Key, float_dtype, to_steps
from ._time import Exact, Instant, instant_of_step


def name_hash(name: str) -> int:
    """A number that depends on the name only, so that the order of nodes and edges never changes a result."""
    return zlib.crc32(name.encode())


def ring_slot(n: Int[Array, ""], depth: int, every: int = 1) -> Int[Array, ""]:
    """The row of a ring of `depth` rows that belongs to step `n`, of a node that runs once in `every` steps; a constant
    where there is only one."""
    if depth == 1:
        return jnp.asarray(0, jnp.int32)
    if every > 1:
        n = jax.lax.div(n, jnp.asarray(every, n.dtype))
    return jax.lax.rem(n, jnp.asarray(depth, n.dtype))


class Clock(eqx.Module):
    """The time and the randomness of one node in one step.

    `n` is the step counter, the only clock: absolute time is `n * dt` (ms), which `instant` has without the rounding
    that float32 makes of it late in a run (`step` is dt as the user gave it). `key` is
    `fold_in(fold_in(run key, n), hash(name))`; it is derived, never advanced, so a resumed run draws the same numbers.
    """

    n: Int[Array, ""]
    dt: Float[Array, ""]
    run_key: Key
    name: str = eqx.field(static=True, default="")
    step: float | None = eqx.field(static=True, default=None)

    @staticmethod
    def of(name: str, n: Int[Array, ""], dt: float, key: Key) -> "Clock":
        """The clock of the node or edge called `name`."""
        return Clock(n, jnp.asarray(dt, float_dtype()), key, name, float(dt))

    @property
    def key(self) -> Key:
        """The random key of this node in this step."""
        return jax.random.fold_in(jax.random.fold_in(self.run_key, self.n), name_hash(self.name))

    @property
    def t(self) -> Float[Array, ""]:
        """Time at the start of the step (ms), to float32: after 16 s steps of 0.001 ms are no longer told apart."""
        return self.n.astype(self.dt.dtype) * self.dt

    def instant(self, late: float = 0.0) -> Instant:
        """The time `late` steps after the start of the step."""
        if self.step is None:  # a clock made by hand
            return Exact.of(t := (self.n.astype(self.dt.dtype) + late) * self.dt).instant(t)
        return instant_of_step(self.n, self.step, late)

    def steps(self, duration: Array) -> Int[Array, "..."]:
        """A duration in ms as a whole number of steps, to the nearest, halves upward, as delays are."""
        return to_steps(duration, self.dt)


class Emitted(eqx.Module):
    """What a node emits in one step.

    `value` is 0 for silence, 1 for a spike, a whole number k above 1 (up to 2^24) for k spikes of the unit, any other
    number for one graded event. `support` marks the units whose surrogate derivative is non-zero (None: all of them),
    so that the backward pass visits only rows with support or value; `words` are the units with a value packed, bit k
    of word w for unit 32 w + k, where the node has them. `single`: no unit ever has more than one event in a step.
    """

    value: Float[Array, " n"]
    support: Bool[Array, " n"] | None = None
    words: UInt32[Array, " n_words"] | None = None
    single: bool = eqx.field(static=True, default=False)

    def of(self, units: tuple[int, int, int] | None) -> "Emitted":
        """The events of the units start, stop, step (None: of all)."""
        if units is None:
            return self
        part = slice(*units)
        support = None if self.support is None else self.support[part]
        return Emitted(self.value[part], support, single=self.single)

    def rows(self, units: tuple[int, int, int] | None) -> tuple["Emitted", int]:
        """Events whose unit `first + i` is unit i of `of(units)`, and `first`: a copy only where units have gaps."""
        if units is None or units[2] == 1:
            return self, units[0] if units else 0
        return self.of(units), 0


class NodeState(eqx.Module):
    """State of a node: `y` flows (floats, integrated by the solver), `z` jumps (counters, flags, traces)."""

    y: Any
    z: Any


class InputState(eqx.Module):
    """State `z` of the waveform that a node is given, and the `kind` of waveform it belongs to."""

    z: Any
    kind: str = eqx.field(static=True)


class View(eqx.Module):
    """The read-only state and events of a node after its jump, as edges and recordings see it."""

    y: Any
    z: Any
    events: Emitted
    inp: Any = None
    """What `inputs` held for the node in this step, () or (n,)."""


class State(eqx.Module):
    """Everything that changes, one PyTree; `dt` is kept because the inboxes are counted in steps.

    `inbox[node][port]` is a ring of shape (depth, width): row `n % depth` holds what arrives at step `n`.
    `inputs[node]` is the state of the waveform that the node is given, and the kind of waveform that it belongs to.
    `recordings[key]` is the state of a recording that has one, such as a BOLD signal.
    `flags[name]`, of every node and edge, is (code, step): 0 fine; with the first such step, 1 a flowing variable is
    not finite, 2 the solver failed, 7 a source cannot emit; with the first step of the run, 4 a parameter or an input
    is not finite, 5 a delay is not within 0 and `max_delay`; with the step after the run, 6 another variable is NaN.
    """

    n: Int[Array, ""]
    key: Key
    nodes: dict[str, NodeState]
    edges: dict[str, Any]
    inbox: dict[str, dict[str, Float[Array, "depth width"]]]
    inputs: dict[str, InputState]
    recordings: dict[str, Any]
    flags: dict[str, tuple[Array, Array]]
    dt: float = eqx.field(static=True)


def unflagged() -> tuple[Int[Array, ""], Int[Array, ""]]:
    """The flag of what is fine."""
    return jnp.asarray(0, jnp.int32), jnp.asarray(-1, jnp.int32)
