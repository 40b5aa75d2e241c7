"""What a run costs a chip: events counted by core, and energy as counts times a table of coefficients."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ._image import Image
from ._legalise import Layout
from ._tables import Synapses
from ._targets import Fact


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """Events of a run, by core (n_cores,) or in all; any table of coefficients can be applied to them afterwards."""

    steps: int
    spikes: Int[np.ndarray, " cores"]
    """Spikes of the cells of a core."""
    synaptic_events: Int[np.ndarray, " cores"]
    """Synapses of a core that an event was sent over."""
    accessed: Int[np.ndarray, " cores"]
    """Cells of a core times steps."""
    updated: Int[np.ndarray, " cores"]
    """Of these the ones with something to do: a synaptic event in this step, or v not 0 before it, or a bias."""
    packets: int
    """Messages: one for each spike and each core that it reaches."""
    input_packets: int
    """Messages from outside of the chip, one for each input event and each core that it reaches; no hops are known."""
    traffic: Int[np.ndarray, "cores cores"]
    """Of the packets, how many went from a core to a core."""
    hops_east_west: int
    hops_north_south: int
    """Steps of the messages over the mesh of tiles; a message within its tile makes none."""

    def energy(self, table: Mapping[str, Fact]) -> dict[str, Float[np.ndarray, ""]]:
        """Energy (pJ) by event of `table`, one of `Target.energy`; an estimate, of the grade of its coefficients.

        A table counts the events that its source does: accesses, updates and spikes of cells (SANA-FE), or active and
        inactive cells (Davies et al. 2018), active being those that are updated. ValueError for an event that a ledger
        has no count of.
        """
        counts = {
            "synaptic event": self.synaptic_events.sum(),
            "neuron": self.accessed.sum(),
            "neuron, accessed": self.accessed.sum(),
            "neuron, updated": self.updated.sum(),
            "neuron, spiked": self.spikes.sum(),
            "neuron, active": self.updated.sum(),
            "neuron, inactive": self.accessed.sum() - self.updated.sum(),
            "packet": self.packets,
            "spike within a tile": self.packets,
            "hop east-west": self.hops_east_west,
            "hop north-south": self.hops_north_south,
        }
        unknown = sorted(set(table) - set(counts))
        if unknown:
            raise ValueError(f"Ledger.energy: nothing is counted for {unknown}; known are {sorted(counts)}.")
        return {event: counts[event] * fact.value for event, fact in table.items()}

    def __str__(self) -> str:
        total = f"{self.spikes.sum():,} spikes, {self.synaptic_events.sum():,} synaptic events"
        way = f"{self.packets:,} packets, {self.hops_east_west + self.hops_north_south:,} hops"
        return f"{self.steps:,} steps on {self.spikes.size} cores: {total}, {way}"


def tiles(layout: Layout) -> Int[np.ndarray, "cores 2"]:
    """Column and row of the tile of every core: the tiles are filled column after column, as SANA-FE does.

    Of a target whose grid is not known, all are (0, 0), and no hops are counted.
    """
    if not layout.target.grid:
        return np.zeros((layout.n_cores, 2), np.int64)
    grid = {k: int(fact.value) for k, fact in layout.target.grid.items()}
    tile = np.arange(layout.n_cores) // grid["cores a tile"]
    return np.stack([tile // grid["tiles, y"], tile % grid["tiles, y"]], axis=1)


def ledger(
    image: Image,
    layout: Layout,
    events: Mapping[str, Any],
    v: Mapping[str, Any],
) -> Ledger:
    """Count a run of `image` from rest on the cores of `layout`.

    **Arguments:** `events`: by the name of every group and input, (steps, n) of 0 and 1; `v`: of every group, its `v`
    at the end of every step, (steps, n): recordings `Events` and `Trace("P.v")` of `Image.simulate`.

    Synaptic events and packets are counted when they are sent, also those that arrive after the last step. Messages go
    by the shortest way over the mesh. Equal to SANA-FE 2.2.9 in every count and energy, of the cells' updates too.
    """
    tables, n_cores = image.tables, layout.n_cores
    sent = {name: np.asarray(x).astype(bool) for name, x in events.items()}
    steps = len(next(iter(sent.values())))
    spikes, synaptic, updated = (np.zeros(n_cores, np.int64) for _ in range(3))
    reached = {name: np.zeros((steps, c.size), bool) for name, c in tables.cells.items()}
    where, pairs = tiles(layout), {name: set() for name in sent}
    for s in tables.synapses.values():
        total = sent[s.pre].sum(0)
        home = layout.core[s.post][s.targets]
        np.add.at(synaptic, home, total[s.sources])
        _mark(s, sent[s.pre], steps, reached[s.post])
        used = total[s.sources] > 0
        pairs[s.pre] |= set(zip(s.sources[used].tolist(), home[used].tolist(), strict=True))
    packets, outside, hops = 0, 0, np.zeros(2, np.int64)
    traffic = np.zeros((n_cores, n_cores), np.int64)
    for name, found in pairs.items():
        if not found:
            continue
        source, core = np.array(sorted(found)).T
        times = sent[name].sum(0)[source]
        if name in tables.inputs:
            outside += int(times.sum())
            continue
        packets += int(times.sum())
        np.add.at(traffic, (layout.core[name][source], core), times)
        way = np.abs(where[layout.core[name][source]] - where[core])
        hops += (way * times[:, None]).sum(0)
    accessed = np.bincount(np.concatenate(list(layout.core.values())), minlength=n_cores) * steps
    for name, c in tables.cells.items():
        before = np.concatenate([np.zeros((1, c.size)), np.asarray(v[name])[:-1]])
        before = np.where(np.concatenate([np.zeros((1, c.size), bool), sent[name][:-1]]), 0.0, before)  # the marker
        np.add.at(updated, layout.core[name], (reached[name] | (before != 0) | (c.bias != 0)).sum(0))
        np.add.at(spikes, layout.core[name], sent[name].sum(0))
    return Ledger(steps, spikes, synaptic, accessed, updated, packets, outside, traffic, int(hops[0]), int(hops[1]))


@dataclasses.dataclass(frozen=True, eq=False)
class Overflows:
    """How often the states of every cell of a group left their range within a run, (n,)."""

    wraps: Int[np.ndarray, " n"]
    """Steps in which q, u or `u + bias` wrapped around."""
    clips: Int[np.ndarray, " n"]
    """Steps in which v was clipped."""


def overflows(
    image: Image, events: Mapping[str, Any], u: Mapping[str, Any], v: Mapping[str, Any]
) -> dict[str, Overflows]:
    """Wraps and clips of every group in a run of `image` from rest, counted from its recordings in 64-bit integers.

    **Arguments:** `events`, `v`: as in `ledger`; `u`: of every group, its u at the end of every step, (steps, n).

    Every word of the recording is computed anew from the words of the step before: **raises** AssertionError should one
    differ, which would be a fault of this library. Where `Bounds.steady` holds of all cells the counts are 0.
    """
    tables, out = image.tables, {}
    sent = {name: np.asarray(x).astype(bool) for name, x in events.items()}
    steps, d = len(next(iter(sent.values()))), tables.dialect
    for name, c in tables.cells.items():
        q = _arrived(image, name, sent, steps)
        after_u, after_v = (np.rint(np.asarray(x[name])).astype(np.int64) for x in (u, v))
        spiked = sent[name]
        rest = np.zeros((1, c.size), np.int64)
        before_u = np.concatenate([rest, after_u[:-1]])
        before_v = np.concatenate([rest, np.where(spiked, 0, after_v)[:-1]])
        if d.q_bits is not None:
            half = 1 << (d.q_bits - 1)
            inside = (q >= -half) & (q < half)
            q = (q + half) % (2 * half) - half
        else:
            inside = np.ones_like(spiked)
        now = _decayed(before_u, 4096 - c.decay_u - d.decay_u_offset) + q
        now, ok = _turned(now, d.u_range)
        drive, fits = _turned(now + c.bias, d.u_range if d.wraps_bias else None)
        full = _decayed(before_v, 4096 - c.decay_v) + drive
        silent = _silent(spiked, c.refractory)
        low, high = (c.v_min, c.v_max) if d.v_range is not None else (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
        clipped = ((full < low) | (full > high)) & ~silent
        full = np.where(silent, 0, np.clip(full, low, high))
        assert np.array_equal(now, after_u)
        assert np.array_equal(np.where(spiked, d.marker, full), after_v)
        assert np.array_equal((full > 64 * c.threshold) & ~silent, spiked)
        out[name] = Overflows((~(inside & ok & fits)).sum(0), clipped.sum(0))
    return out


def _arrived(image: Image, name: str, sent: Mapping[str, np.ndarray], steps: int) -> Int[np.ndarray, "steps n"]:
    """What arrives at the cells `name` in every step, before any wrap."""
    tables = image.tables
    q = np.zeros((steps, tables.cells[name].size), np.int64)
    for key, s in tables.synapses.items():
        if s.post != name:
            continue
        words = s.words(key, tables.dialect)
        for d in np.unique(s.delay):
            some, late, sums = np.flatnonzero(s.delay == d), int(d) + 1, np.zeros_like(q)
            t, j = np.nonzero(sent[s.pre][: max(steps - late, 0), s.sources[some]])
            np.add.at(sums, (t + late, s.targets[some][j]), words[some][j])
            q += (sums >> -s.exponent) * 64 if s.shifts_sum(tables.dialect) else sums
    return q


def _decayed(x: Int[np.ndarray, "steps n"], keep: Int[np.ndarray, " n"]) -> Int[np.ndarray, "steps n"]:
    return np.sign(x) * ((np.abs(x) * keep) >> 12)


def _turned(x: Int[np.ndarray, "steps n"], ends: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """`x` wrapped by 2^24 into `ends`, and where it lay inside."""
    if ends is None:
        return x, np.ones(x.shape, bool)
    low, high = ends
    return np.where(x > high, x - 2**24, np.where(x < low, x + 2**24, x)), (x >= low) & (x <= high)


def _silent(spiked: np.ndarray, refractory: Int[np.ndarray, " n"]) -> np.ndarray:
    """Steps in which v is held after a spike."""
    silent, last = np.zeros_like(spiked), np.full(refractory.shape, -(2**30))
    for t in range(len(spiked)):
        silent[t] = t < last + refractory
        last = np.where(spiked[t], t, last)
    return silent


def _mark(s: Synapses, sent: np.ndarray, steps: int, reached: np.ndarray) -> None:
    """Mark in `reached` (steps, n) where an event arrived."""
    for d in np.unique(s.delay):
        some, late = np.flatnonzero(s.delay == d), int(d) + 1
        t, j = np.nonzero(sent[: max(steps - late, 0), s.sources[some]])
        reached[t + late, s.targets[some][j]] = True
