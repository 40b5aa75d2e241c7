"""What a run returns."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..base import is_traced, unknown
from ..core import Network, State
from ._count import Count
from ._flags import OVERFLOWED, WHAT, said
from ._saveat import Origin
from ._stats import Stats

NOT_RUN = -1.0
ONE_OF_A_BATCH = "take one run of the batch first: jax.tree.map(lambda x: x[k], sol)."


class SpikeTrain(NamedTuple):
    """Spikes in the order of time: `t` (ms, the end of the step) and `i` (unit number), each of shape (n_spikes,)."""

    t: np.ndarray
    i: np.ndarray


class SpikeList(eqx.Module):
    """Compact spikes as recorded: `ids[:counts.sum()]` are the units, `counts[k]` how many of them spiked in step k.

    A list that overflowed holds the first spikes and all counts.
    """

    ids: Int[Array, " capacity"]
    counts: Int[Array, " n_steps"]


def overflow(listed: SpikeList, n0: Int[Array, ""]) -> tuple[Array, Array]:
    """The flag of a list of a run from step `n0` on: the first step for whose spikes it has no room."""
    xp: Any = jnp if is_traced(listed.counts) or is_traced(n0) else np
    # read at its first crossing, before a sum of int32 can wrap
    beyond = xp.cumsum(xp.asarray(listed.counts), dtype=xp.int32) > listed.ids.shape[0]
    bad = beyond.any()
    step = xp.asarray(n0) + xp.argmax(beyond).astype(xp.int32)
    return xp.where(bad, OVERFLOWED, 0).astype(xp.int32), xp.where(bad, step, -1).astype(xp.int32)


class SimulationError(RuntimeError):
    """A run went wrong; the message names the node, the step and the reason. `solution` holds what was computed."""

    def __init__(self, message: str, solution: "Solution"):
        super().__init__(message)
        self.solution = solution


class Solution(eqx.Module):
    """Times, recordings, final state, firing rates, flags and timings of a run.

    `sol["P.v"]` is a recording, `sol.times("P.v")` its times (ms), `sol.spikes("P")` the spike train of a population,
    `sol.rates["P"]` its mean firing rate (Hz), `sol.state` the final state to go on from. `compile_s` and `run_s` are
    the seconds spent on compilation and on the run itself (-1 inside a transformation).

    `sol.flags` are pairs (code, step): by node and edge as in `State`, 0 where all is fine; by list of spikes, e.g.
    `sol.flags["P.spikes"]`, 3 where it overflowed, with the first such step. `sol.units_of(key)` are the unit numbers
    of the columns of a recording. Of a batch of runs, made by `vmap`, all arrays have one more axis; run k is
    `jax.tree.map(lambda x: x[k], sol)`.
    """

    recordings: dict[str, Any]
    state: State
    events: dict[str, Count]
    flags: dict[str, tuple[Array, Array]]
    graded: dict[str, Bool[Array, ""]]
    n0: Int[Array, ""]
    every: dict[str, int] = eqx.field(static=True)
    sizes: dict[str, int] = eqx.field(static=True)
    origins: dict[str, Origin] = eqx.field(static=True)
    n_steps: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    compile_s: float = eqx.field(static=True, default=NOT_RUN)
    run_s: float = eqx.field(static=True, default=NOT_RUN)

    def __getitem__(self, key: str) -> Any:
        if key not in self.recordings:
            raise KeyError(unknown("recording", key, self.recordings) + " Ask for it in saveat=[...].")
        return self.recordings[key]

    def times(self, key: str) -> np.ndarray:
        """Times of the samples of recording `key` (ms), at the ends of steps; of a batch, all of whose runs begin
        together, those of each."""
        self[key]
        return (self.first_step + self.every[key] * np.arange(1, self.n_steps // self.every[key] + 1)) * self.dt

    @property
    def first_step(self) -> int:
        """The number of steps before the run; raises inside transformations, and where a batch has several."""
        if is_traced(self.n0):
            raise TypeError("Solution: times are numbers; read them outside jit, grad and vmap.")
        starts = np.unique(np.asarray(self.n0))
        if starts.size != 1:
            raise ValueError(f"Solution: its runs begin at steps {starts.tolist()}; {ONE_OF_A_BATCH}")
        return int(starts[0])

    def spikes(self, node: str, *, partial: bool = False) -> SpikeTrain:
        """The spikes of a population recorded with `Spikes(node)`.

        **Arguments:** `partial`: whether the first spikes will do, of a list that overflowed.

        **Raises:** ValueError for a list that overflowed, and for a batch of runs.
        """
        if is_traced(self.n0):
            raise TypeError("Solution.spikes reads numbers; call it outside jit, grad and vmap.")
        listed: SpikeList = self[f"{node}.spikes"]
        counts = np.asarray(listed.counts)
        if counts.ndim != 1:
            raise ValueError(f"Solution.spikes reads one run; {ONE_OF_A_BATCH}")
        needed = int(counts.sum(dtype=np.int64))
        if needed > listed.ids.shape[0] and not partial:
            raise ValueError(f"{_overflowed(node, needed, listed)} They are sol.spikes({node!r}, partial=True).")
        ids = np.asarray(listed.ids)[:needed]
        times = (self.first_step + 1 + np.arange(counts.size)) * self.dt
        return SpikeTrain(np.repeat(times, counts)[: ids.size], ids)

    def units_of(self, key: str) -> np.ndarray:
        """The unit numbers of the columns of recording `key`, or of the units in a list of spikes."""
        self[key]
        return units_of(self, key)

    @property
    def n_events(self) -> dict[str, Any]:
        """Number of events of every node that spikes, over the whole run; inside of transformations it ends at
        2^31 - 1."""
        return {name: count.whole for name, count in self.events.items()}

    @property
    def rates(self) -> dict[str, Float[Array, ""]]:
        """Mean firing rate of every node that spikes (Hz), over the whole run; NaN of a source of graded events, which
        has none. A count: its derivative is 0; use `Events`."""
        seconds = self.n_steps * self.dt * 1e-3
        rates: dict[str, Any] = {
            name: count.real / (max(self.sizes[name], 1) * seconds) for name, count in self.events.items()
        }
        return rates | {name: jnp.where(x, jnp.nan, rates[name]) for name, x in self.graded.items() if name in rates}

    @property
    def stats(self) -> Stats:
        """Firing rates (Hz), numbers of events, flags, compile and run time (s): what to print beside any speed."""
        stats = {
            "rate_hz": {k: np.asarray(v).tolist() for k, v in self.rates.items()},
            "n_events": {k: np.asarray(v).tolist() for k, v in self.n_events.items()},
            "flags": {name: f"{WHAT[code]} at step {first}" for name, code, first in _raised(self)},
            "compile_s": self.compile_s,
            "run_s": self.run_s,
        }
        return Stats(stats)


class EventSolution(eqx.Module):
    """Spike times of an event-driven run, all differentiable.

    `sol["P"]` are the spike times of a node (ms), (n, max_spikes), in order, `inf` where there are no more; so
    `sol["P"][:, 0]` is the first spike of every unit. `sol.counts["P"]` (n,) are their numbers, `sol.y["P"]` the
    flowing variables at `sol.t` (ms). That is `t1` unless `sol.overflow`: there were more events than `max_events`, or
    more spikes of a unit than `max_spikes`. `n_events` is how many of `max_events` were used.
    """

    times: dict[str, Float[Array, "n max_spikes"]]
    counts: dict[str, Int[Array, " n"]]
    y: dict[str, Any]
    t: Float[Array, ""]
    n_events: Int[Array, ""]
    overflow: Bool[Array, ""]

    def __getitem__(self, node: str) -> Float[Array, "n max_spikes"]:
        if node not in self.times:
            raise KeyError(unknown("node", node, self.times))
        return self.times[node]

    def spikes(self, node: str) -> SpikeTrain:
        """The spikes of `node` in the order of time; outside transformations."""
        times = self[node]
        if is_traced(times):
            raise TypeError("EventSolution.spikes reads numbers; call it outside jit, grad and vmap.")
        unit, k = np.nonzero(np.isfinite(np.asarray(times)))
        t = np.asarray(times)[unit, k]
        order = np.argsort(t, kind="stable")
        return SpikeTrain(t[order], unit[order])


def is_batch(sol: Solution) -> bool:
    """Whether `sol` holds a batch of runs."""
    return np.ndim(sol.n0) > 0


def units_of(run: Any, key: str) -> np.ndarray:
    """As `Solution.units_of`, of all that has `sizes` and `origins`."""
    origin = run.origins[key]
    if origin.units is None and origin.node not in run.sizes:
        raise ValueError(f"the columns of recording {key!r}, a {origin.kind}, are not the units of a node.")
    return np.arange(run.sizes[origin.node]) if origin.units is None else np.asarray(origin.units)


def _overflowed(node: str, needed: int, listed: SpikeList) -> str:
    capacity = listed.ids.shape[-1]
    return (
        f"Spikes({node!r}) overflowed: {needed} spikes for a list of {capacity}. Raise max_rate in "
        f"Spikes({node!r}, max_rate=...); the first {capacity} are kept."
    )


def _raised(sol: Solution) -> list[tuple[str, int, int]]:
    """Name, code and first step of every flag that is raised, that of the first run of a batch which has it; what
    overflowed comes last."""
    found = []
    for name, (code, first) in sol.flags.items():
        codes, firsts = np.atleast_1d(np.asarray(code)), np.atleast_1d(np.asarray(first))
        if codes.any():
            k = int(np.flatnonzero(codes)[0])
            found.append((name, int(codes.flat[k]), int(firsts.flat[k])))
    return sorted(found, key=lambda flag: (flag[1] == OVERFLOWED, flag[2], flag[0]))


def flag_message(sol: Solution, net: Network, inputs: dict[str, Any]) -> str | None:
    """What the flags of a finished run of `net` say, or None."""
    if any(is_traced(x) for x in jax.tree.leaves(sol.flags)):
        return None
    for name, code, first in _raised(sol):
        when = f"at step {first} (t = {first * sol.dt:g} ms)"
        if code == OVERFLOWED:
            listed = sol.recordings[name]
            needed = int(np.max(np.sum(np.asarray(listed.counts), -1, dtype=np.int64)))
            return _overflowed(name.removesuffix(".spikes"), needed, listed)
        return said(code, name, when, net, inputs, sol.state)
    return None
