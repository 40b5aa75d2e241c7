"""What a run costs: events counted by step and core; energy and latency are counts times a table of coefficients."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ._image import Image
from ._legalise import Layout
from ._tables import Synapses
from ._targets import Fact

BARRIER = "barrier of "
"""How the events of a table of latencies begin that end a step, by the number of tiles in use."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """Events of a run by step and core, (steps, cores); any table of coefficients can be applied to them afterwards."""

    layout: Layout
    spikes: Int[np.ndarray, "steps cores"]
    """Spikes of the cells of a core."""
    synaptic_events: Int[np.ndarray, "steps cores"]
    """Synapses of a core that an event was sent over."""
    updated: Int[np.ndarray, "steps cores"]
    """Cells of a core with something to do: a synaptic event in this step, or v not 0 before it, or a bias."""
    sent: Int[np.ndarray, "steps cores"]
    """Messages from a core: one for each spike and each core that it reaches."""
    received: Int[np.ndarray, "steps cores"]
    """Messages to a core, those from outside too."""
    traffic: Int[np.ndarray, "cores cores"]
    """Messages of the run from a core to a core."""

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return len(self.spikes)

    @property
    def cells(self) -> Int[np.ndarray, " cores"]:
        """Cells of every core: so many are accessed in every step."""
        return np.bincount(np.concatenate(list(self.layout.core.values())), minlength=self.layout.n_cores)

    @property
    def accessed(self) -> Int[np.ndarray, " cores"]:
        """Cells of a core times steps."""
        return self.cells * self.steps

    @property
    def packets(self) -> int:
        """Messages between cores, and from a core to itself."""
        return int(self.traffic.sum())

    @property
    def input_packets(self) -> int:
        """Messages from outside of the chips, one for each input event and each core that it reaches; no hops are
        known."""
        return int(self.received.sum()) - self.packets

    @property
    def hops_east_west(self) -> int:
        """Steps of the messages along the rows of tiles; a message within its tile makes none."""
        return int((self.traffic * _apart(tiles(self.layout)[:, 0])).sum())

    @property
    def hops_north_south(self) -> int:
        """Steps of the messages along the columns of tiles."""
        return int((self.traffic * _apart(tiles(self.layout)[:, 1])).sum())

    @property
    def hops_between_chips(self) -> int:
        """Borders between chips, which stand in a row, that the messages cross; no table has a coefficient for them."""
        return int((self.traffic * _apart(self.layout.chip)).sum())

    def energy(self, table: Mapping[str, Fact]) -> dict[str, Float[np.ndarray, ""]]:
        """Energy (pJ) by event of `table`, one of `Target.energy`; an estimate, of the grade of its coefficients.

        A table counts the events that its source does: accesses, updates and spikes of cells (SANA-FE), or active and
        inactive cells (Davies et al. 2018), active being those that are updated. ValueError for an event that a ledger
        has no count of.
        """
        accessed, updated = self.accessed.sum(), self.updated.sum()
        counts = {
            "synaptic event": self.synaptic_events.sum(),
            "neuron": accessed,
            "neuron, accessed": accessed,
            "neuron, updated": updated,
            "neuron, spiked": self.spikes.sum(),
            "neuron, active": updated,
            "neuron, inactive": accessed - updated,
            "packet": self.packets,
            "spike within a tile": self.packets,
            "hop east-west": self.hops_east_west,
            "hop north-south": self.hops_north_south,
        }
        _check_known("energy", table, counts)
        return {event: counts[event] * fact.value for event, fact in table.items()}

    def latency(self, table: Mapping[str, Fact]) -> tuple[float, float]:
        """Time that the run takes on the chips (ns), by one of `Target.latency`: from and to; an estimate.

        In a step every core computes its cells and sends messages, and takes the messages that it gets; the step ends
        at a barrier for all tiles in use. The first number holds if both happen side by side on the slowest core of
        each, the second if the slowest receiver begins when the slowest sender has ended, the longest way later.
        Messages that wait for each other on the mesh, and the borders of chips, are not counted. ValueError as in
        `energy`.
        """
        known = ("synaptic event", "neuron, accessed", "neuron, updated", "neuron, spiked")
        known += ("packet, sent", "packet, received", "hop east-west", "hop north-south")
        of = {event: fact.value for event, fact in table.items()}
        barriers = {int(k.removeprefix(BARRIER).split()[0]): x for k, x in of.items() if k.startswith(BARRIER)}
        _check_known("latency", [k for k in table if not k.startswith(BARRIER)], known)
        cost = lambda event, count: of.get(event, 0.0) * count  # noqa: E731
        sending = cost("neuron, accessed", self.cells) + cost("neuron, updated", self.updated)
        sending = sending + cost("neuron, spiked", self.spikes) + cost("packet, sent", self.sent)
        taking = cost("packet, received", self.received) + cost("synaptic event", self.synaptic_events)
        sending, taking = sending.max(1), taking.max(1)
        where = tiles(self.layout)
        way = cost("hop east-west", _apart(where[:, 0])) + cost("hop north-south", _apart(where[:, 1]))
        longest = float(np.max(way * (self.traffic > 0), initial=0.0))
        used = len(np.unique(where, axis=0))
        barrier = max((x for tiles_, x in barriers.items() if tiles_ <= used), default=0.0) * self.steps
        late = np.where(self.sent.sum(1) > 0, longest, 0.0)
        return float(np.maximum(sending, taking).sum()) + barrier, float((sending + taking + late).sum()) + barrier

    def __str__(self) -> str:
        total = f"{self.spikes.sum():,} spikes, {self.synaptic_events.sum():,} synaptic events"
        way = f"{self.packets:,} packets, {self.hops_east_west + self.hops_north_south:,} hops"
        if self.layout.n_chips > 1:
            way += f", {self.hops_between_chips:,} between chips"
        return f"{self.steps:,} steps on {self.layout.n_cores} cores: {total}, {way}"


def _apart(x: Int[np.ndarray, " cores"]) -> Int[np.ndarray, "cores cores"]:
    return np.abs(x[:, None] - x[None])


def _check_known(method: str, table: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"Ledger.{method}: nothing is counted for {unknown}; known are {sorted(known)}.")


def tiles(layout: Layout) -> Int[np.ndarray, "cores 2"]:
    """Column and row of the tile of every core: the tiles are filled column after column, as SANA-FE does, and the mesh
    goes on over the chips, which stand in a row.

    Of a target whose grid is not known, all are (0, 0), and no hops are counted.
    """
    if not layout.target.grid:
        return np.zeros((layout.n_cores, 2), np.int64)
    grid = {k: int(fact.value) for k, fact in layout.target.grid.items()}
    tile = np.arange(layout.n_cores) // grid["cores a tile"]
    return np.stack([tile // grid["tiles, y"], tile % grid["tiles, y"]], axis=1)


def counted(
    layout: Layout,
    synapses: Iterable[tuple[str, str, Any, Any]],
    events: Mapping[str, Any],
    busy: Mapping[str, Bool[np.ndarray, "steps n"]] | None = None,
) -> Ledger:
    """The ledger of `events` (by group and input, (steps, n)) sent over `synapses` (ends, sources and targets).

    `busy`: by group, which cells are updated; None: all, in every step.
    """
    from scipy.sparse import csr_matrix

    n = layout.n_cores
    reach: dict[str, Any] = {}
    sent: dict[str, Any] = {name: csr_matrix(np.asarray(x) > 0, dtype=np.int64) for name, x in events.items()}
    steps = next(iter(sent.values())).shape[0]
    spikes, synaptic, updated, out, received = (np.zeros((steps, n), np.int64) for _ in range(5))
    traffic = np.zeros((n, n), np.int64)
    for pre, post, sources, targets in synapses:
        home = layout.core[post][targets]
        on: Any = csr_matrix((np.ones(home.size, np.int64), (sources, home)), (sent[pre].shape[1], n))
        synaptic += (sent[pre] @ on).toarray()
        reach[pre] = reach[pre] + on if pre in reach else on
    for pre, on in reach.items():
        on = (on > 0).astype(np.int64)
        received += (sent[pre] @ on).toarray()
        if pre in layout.core:
            fan, pairs = np.diff(on.indptr), on.tocoo()
            times = np.asarray(sent[pre].sum(0)).reshape(-1)
            np.add.at(traffic, (layout.core[pre][pairs.row], pairs.col), times[pairs.row])
            out += (sent[pre] @ _at(layout.core[pre], n, fan)).toarray()
    for name, core in layout.core.items():
        spikes += (sent[name] @ _at(core, n)).toarray()
        every: Any = csr_matrix(np.ones((steps, core.size), bool) if busy is None else busy[name], dtype=np.int64)
        updated += (every @ _at(core, n)).toarray()
    return Ledger(layout, spikes, synaptic, updated, out, received, traffic)


def _at(core: Int[np.ndarray, " n"], n_cores: int, weight: Any = 1) -> Any:
    """Cells by cores, `weight` where a cell lies."""
    from scipy.sparse import csr_matrix

    return csr_matrix((np.broadcast_to(weight, core.shape), (np.arange(core.size), core)), (core.size, n_cores))


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
    tables, busy = image.tables, {}
    sent = {name: np.asarray(events[name]).astype(bool) for name in (*tables.cells, *tables.inputs) if name in events}
    steps = len(next(iter(sent.values())))
    reached = {name: np.zeros((steps, c.size), bool) for name, c in tables.cells.items()}
    for s in tables.synapses.values():
        _mark(s, sent[s.pre], steps, reached[s.post])
    for name, c in tables.cells.items():
        before = np.concatenate([np.zeros((1, c.size)), np.asarray(v[name])[:-1]])
        before = np.where(np.concatenate([np.zeros((1, c.size), bool), sent[name][:-1]]), 0.0, before)  # the marker
        busy[name] = reached[name] | (before != 0) | (c.bias != 0)
    return counted(layout, ((s.pre, s.post, s.sources, s.targets) for s in tables.synapses.values()), sent, busy)


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
