"""What a run returns."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..base import float_dtype, is_traced, unknown
from ..core import State
from ._stats import Stats

NOT_RUN = -1.0


class SpikeTrain(NamedTuple):
    """Spikes in the order of time: `t` (ms, the end of the step) and `i` (unit number), each of shape (n_spikes,)."""

    t: np.ndarray
    i: np.ndarray


class SpikeList(eqx.Module):
    """Compact spikes as recorded: `ids[:counts.sum()]` are the units, `counts[k]` how many of them spiked in step k."""

    ids: Int[Array, " capacity"]
    counts: Int[Array, " n_steps"]


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
    """

    recordings: dict[str, Any]
    state: State
    n_events: dict[str, Int[Array, ""]]
    flags: dict[str, tuple[Array, Array]]
    n0: Int[Array, ""]
    every: dict[str, int] = eqx.field(static=True)
    sizes: dict[str, int] = eqx.field(static=True)
    n_steps: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    compile_s: float = eqx.field(static=True, default=NOT_RUN)
    run_s: float = eqx.field(static=True, default=NOT_RUN)

    def __getitem__(self, key: str) -> Any:
        if key not in self.recordings:
            raise KeyError(unknown("recording", key, self.recordings) + " Ask for it in saveat=[...].")
        return self.recordings[key]

    def times(self, key: str) -> np.ndarray:
        """Times of the samples of recording `key` (ms), at the ends of steps."""
        self[key]
        every = self.every[key]
        return (int(self.n0) + every * np.arange(1, self.n_steps // every + 1)) * self.dt

    def spikes(self, node: str) -> SpikeTrain:
        """The spikes of a population recorded with `Spikes(node)`."""
        if is_traced(self.n0):
            raise TypeError("Solution.spikes reads numbers; call it outside jit, grad and vmap.")
        listed: SpikeList = self[f"{node}.spikes"]
        counts = np.asarray(listed.counts)
        if counts.ndim != 1:
            raise ValueError(
                "Solution.spikes reads one run; take one of the batch first: jax.tree.map(lambda x: x[k], sol)."
            )
        ids = np.asarray(listed.ids)[: int(counts.sum())]
        times = (int(self.n0) + 1 + np.arange(counts.size)) * self.dt
        return SpikeTrain(np.repeat(times, counts)[: ids.size], ids)

    @property
    def rates(self) -> dict[str, Float[Array, ""]]:
        """Mean firing rate of every population (Hz), over the whole run. A count: its derivative is 0; use `Events`."""
        seconds = self.n_steps * self.dt * 1e-3
        return {
            name: count.astype(float_dtype()) / (max(self.sizes[name], 1) * seconds)
            for name, count in self.n_events.items()
        }

    @property
    def stats(self) -> Stats:
        """Firing rates (Hz), numbers of events, compile and run time (s): what to print beside any speed."""
        stats = {
            "rate_hz": {k: np.asarray(v).tolist() for k, v in self.rates.items()},
            "n_events": {k: np.asarray(v).tolist() for k, v in self.n_events.items()},
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


def flag_message(sol: Solution, capacities: dict[str, int]) -> str | None:
    """What the flags of a finished run say, or None."""
    if any(is_traced(x) for x in jax.tree.leaves(sol.flags)):
        return None
    for name, (code, first) in sorted(sol.flags.items()):
        codes, firsts = np.atleast_1d(np.asarray(code)), np.atleast_1d(np.asarray(first))
        if codes.any():
            k = int(np.flatnonzero(codes)[0])
            when = f"at step {firsts.flat[k]} (t = {firsts.flat[k] * sol.dt:g} ms)"
            if codes.flat[k] == 1:
                return f"Node {name!r} is not finite {when}: the run diverged. Try a smaller dt or another solver."
            return f"The solver of node {name!r} failed {when}. Try a smaller dt or another solver."
    for name, capacity in capacities.items():
        needed = int(np.max(np.sum(np.asarray(sol.recordings[f"{name}.spikes"].counts), -1), initial=0))
        if needed > capacity:
            return (
                f"Spikes({name!r}) overflowed: {needed} spikes for a list of {capacity}. Raise max_rate in "
                f"Spikes({name!r}, max_rate=...); the first {capacity} are kept."
            )
    return None
