"""Which core holds which cell, so that packets travel little: neighbours in the network are neighbours on the mesh."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ._image import Tables
from ._ledger import tiles
from ._legalise import Layout, legalise, limits_of, measured, units
from ._targets import LOIHI1, Target

ROUNDS, SHARE, MOST, COLD = 60, 0.1, 2000, 0.02
"""Of annealing: rounds; share of the cells that may move in one, and at most so many; the last temperature as a part
of the first."""


def place(
    tables: Tables,
    target: Target = LOIHI1,
    *,
    rates: Mapping[str, Any] | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
    chips: int = 1,
) -> Layout:
    """`legalise` with cells where their packets have few hops to go: rate times distance, summed over spikes and cores.

    Cells are filled in reverse Cuthill-McKee order (scipy) within what the limits of a core allow, and cores along a
    snake through the mesh; then `rounds` rounds of annealing swap cells of equal registers between cores. In a round
    the change that each cell would make on each core is exact for the placement before it, and no two cells move that
    are connected, so that changes hardly disturb each other. The best placement of all rounds that keeps every limit
    is taken.

    **Arguments:** `rates`: of every group, spikes a step of its cells, (n,) or a number, by default 1; `seed`: of the
    annealing; the same gives the same; `chips`: as in `legalise`.

    **Raises** what `legalise` does, and ValueError for a target whose mesh is not known.
    """
    if not target.grid:
        raise ValueError(f"place: the mesh of {target.name} is not known; expected loihi1.")
    net = _Cells.of(tables, rates or {})
    layout = _snaked(legalise(tables, target, chips=chips, near=net.ranks(tables)))
    core, where = net.joined(layout.core), tiles(layout)
    found = [(hops(net, core, where), -1, core)]
    for k in range(rounds):
        temperature = float(net.rate.mean()) * COLD ** (k / rounds)
        core = _round(net, core, where, temperature, np.random.default_rng([seed, k]))
        found.append((hops(net, core, where), k, core))
    for _, k, core in sorted(found, key=lambda x: x[:2]):
        moved = layout if k < 0 else _moved(tables, layout, net, core)
        if moved is not None:
            return moved
    raise AssertionError("the layout before annealing keeps its limits")


@dataclasses.dataclass(frozen=True, eq=False)
class _Cells:
    """All cells of a network, numbered over its groups."""

    forward: Any
    """Which cells each reaches: sparse, (n, n)."""
    backward: Any
    """By which cells each is reached."""
    rate: Float[np.ndarray, " n"]
    kind: Int[np.ndarray, " n"]
    """Number of the registers: cells of one kind can change places."""
    groups: tuple[str, ...]
    sizes: tuple[int, ...]

    @staticmethod
    def of(tables: Tables, rates: Mapping[str, Any]) -> "_Cells":
        from scipy.sparse import csr_matrix

        begin, n = units(tables), sum(c.size for c in tables.cells.values())
        parts = [s for s in tables.synapses.values() if s.pre in tables.cells]
        empty = [np.zeros(0, np.int64)]
        source = np.concatenate(empty + [begin[s.pre] + s.sources for s in parts])
        target = np.concatenate(empty + [begin[s.post] + s.targets for s in parts])
        forward = csr_matrix((np.ones(source.size, np.float32), (source, target)), (n, n))
        forward.data[:] = 1.0
        rate = [np.broadcast_to(np.asarray(rates.get(k, 1.0), np.float32), (c.size,)) for k, c in tables.cells.items()]
        registers = [np.stack([c.decay_u, c.decay_v, c.refractory, c.threshold]) for c in tables.cells.values()]
        own = [np.full(c.size, k) for k, c in enumerate(tables.cells.values())]
        every = np.concatenate([np.concatenate(registers, axis=1), np.concatenate(own)[None]])
        kind = np.unique(every, axis=1, return_inverse=True)[1].reshape(-1)
        sizes = tuple(c.size for c in tables.cells.values())
        return _Cells(forward, forward.T.tocsr(), np.concatenate(rate), kind, tuple(tables.cells), sizes)

    def ranks(self, tables: Tables) -> dict[str, Int[np.ndarray, " n"]]:
        """Places of the cells of every group in reverse Cuthill-McKee order of all."""
        from scipy.sparse.csgraph import reverse_cuthill_mckee

        order = reverse_cuthill_mckee((self.forward + self.backward).tocsr(), symmetric_mode=True)
        rank = np.empty(order.size, np.int64)
        rank[order] = np.arange(order.size)
        return self.split(rank)

    def joined(self, by_group: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([by_group[name] for name in self.groups])

    def split(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.groups, np.split(x, np.cumsum(self.sizes)[:-1]), strict=True))


def hops(net: _Cells, core: Int[np.ndarray, " n"], where: Int[np.ndarray, "cores 2"]) -> float:
    """Rate-weighted hops: each spike sends one packet to each core that it reaches."""
    source, target = net.forward.nonzero()
    pairs = np.unique(source.astype(np.int64) * len(where) + core[target])
    cell, to = pairs // len(where), pairs % len(where)
    return float((net.rate[cell] * np.abs(where[core[cell]] - where[to]).sum(1)).sum())


def _snaked(layout: Layout) -> Layout:
    """`layout` with its cores renumbered so that the next one is always the next tile."""
    grid = {k: int(fact.value) for k, fact in layout.target.grid.items()}
    per, rows = grid["cores a tile"], grid["tiles, y"]
    old = np.arange(layout.n_cores)
    column, row = old // per // rows, old // per % rows
    new = (column * rows + np.where(column % 2, rows - 1 - row, row)) * per + old % per
    cores = int(new.max(initial=-1)) + 1
    usage = {
        rule: np.bincount(new, weights=used, minlength=cores).astype(np.int64) for rule, used in layout.usage.items()
    }
    return Layout(layout.target, {k: new[c] for k, c in layout.core.items()}, layout.slot, usage)


def _round(net: _Cells, core: np.ndarray, where: np.ndarray, temperature: float, rng: Any) -> Int[np.ndarray, " n"]:
    """One round of swaps at one temperature."""
    from scipy.sparse import csr_matrix

    n, cores = core.size, len(where)
    far = np.abs(where[:, None] - where[None]).sum(2).astype(np.float32)
    on = csr_matrix((np.ones(n, np.float32), (np.arange(n), core)), (n, cores))
    count = (net.forward @ on).toarray()  # targets of a cell on a core
    paid = far[core] * net.rate[:, None]
    sent, alone = net.rate[:, None] * ((count > 0) @ far), net.backward @ (paid * (count == 1))
    here = np.arange(n), core
    change = sent - sent[here][:, None] + net.backward @ (paid * (count == 0)) - alone[here][:, None]
    change[here] = 0.0
    some = rng.permutation(n)[: min(int(np.ceil(SHARE * n)), MOST)]
    wish = np.argmin(change[some] - temperature * rng.gumbel(size=(some.size, cores)), axis=1)
    core, still = core.copy(), np.ones(n, bool)
    members = np.split(np.argsort(core, kind="stable"), np.cumsum(np.bincount(core, minlength=cores))[:-1])
    for q in np.argsort(change[some, wish], kind="stable"):
        cell, to = some[q], wish[q]
        others = members[to][still[members[to]] & (net.kind[members[to]] == net.kind[cell])]
        if not still[cell] or core[cell] == to or not others.size:
            continue
        other = others[np.argmin(change[others, core[cell]])]
        if change[cell, to] + change[other, core[cell]] < temperature * rng.exponential():
            core[cell], core[other] = to, core[cell]
            for moved in (cell, other):
                still[moved] = False
                for edges in (net.forward, net.backward):
                    still[edges.indices[edges.indptr[moved] : edges.indptr[moved + 1]]] = False
    return core


def _moved(tables: Tables, layout: Layout, net: _Cells, core: np.ndarray) -> Layout | None:
    """`layout` with cells on these cores; None where a limit is broken."""
    by = np.argsort(core, kind="stable")
    slot = np.empty(core.size, np.int64)
    slot[by] = np.arange(core.size) - np.searchsorted(core[by], core[by])
    cores, slots = net.split(core), net.split(slot)
    usage = measured(tables, layout.target, cores, layout.n_cores)
    limits = limits_of(layout.target)
    if any(used.max(initial=0) > limits[rule.partition("-")[2]] for rule, used in usage.items()):
        return None
    return Layout(layout.target, cores, slots, usage)
