"""Many edges as one: their rows, weights, delays and short-term states side by side over all units of a packed node."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import is_traced
from ..events import CSR, AbstractMap, DrawnRows
from ._delay import AbstractDelay
from ._gap import WiredGapJunctions
from ._projection import WiredProjection
from ._wiring import Route, weight_shape


class Place(NamedTuple):
    """Where the units of a node are now: from `start` on in `node`, which has `size` units."""

    node: str
    start: int
    size: int

    def units(self, part: tuple[int, int, int]) -> tuple[int, int, int]:
        """The units `part` of the old node in the new one."""
        return part[0] + self.start, part[1] + self.start, part[2]


Places = dict[str, Place]


class Joined(NamedTuple):
    """An edge of the packed network, and by name those it stands for, each with its range in the state of that edge."""

    edge: Any
    names: dict[str, range | None]


def same(values: Sequence[Any]) -> bool:
    """Whether the leaves of all these trees are known to be equal: the same objects, or numbers that can be read."""

    def equal(a, b):
        if a is b:
            return True
        return not (is_traced(a) or is_traced(b)) and np.array_equal(np.asarray(a), np.asarray(b))

    first, *rest = values
    return all(jax.tree.all(jax.tree.map(equal, first, other)) for other in rest)


def side_by_side(values: Sequence[Any], sizes: Sequence[int], order: Any = None) -> Any:
    """One number if all are that number, else their values one after the other, in the order given."""
    if all(jnp.ndim(x) == 0 for x in values) and same(values):
        return jnp.asarray(values[0])
    xp = jnp if any(map(is_traced, values)) or is_traced(order) else np
    spread = [
        xp.broadcast_to(x, (n,)) if jnp.ndim(x) == 0 else x.reshape(-1) for x, n in zip(values, sizes, strict=True)
    ]
    joined = xp.concatenate(spread)
    return jnp.asarray(joined if order is None else joined[order])


def _rows(topology: Any) -> tuple[Any, Any]:
    """The pre unit of every synapse and its post unit, in the order of the weights; traced if the topology is."""
    if isinstance(topology, CSR):
        if is_traced(topology.indptr) or is_traced(topology.indices):
            rows, lengths = jnp.arange(topology.n_pre), jnp.diff(topology.indptr)
            return jnp.repeat(rows, lengths, total_repeat_length=topology.n_syn), topology.indices
    elif is_traced(getattr(topology, "indices", None)):
        return jnp.repeat(jnp.arange(topology.n_pre), topology.k), topology.indices.reshape(-1)
    return topology.to_coo()


def _stacked(topologies: list[Any], pre: list[range], post: list[Any], n_pre: int, n_post: int) -> tuple[CSR, Any]:
    """One CSR of all the synapses, and the order that sorts their values. Within a row the edges keep their order."""
    pairs = [_rows(topology) for topology in topologies]
    xp = jnp if any(is_traced(x) for pair in pairs for x in pair) else np
    rows = xp.concatenate([i * p.step + p.start for (i, _), p in zip(pairs, pre, strict=True)]).astype(xp.int32)
    indices = xp.concatenate([j * p.step + p.start for (_, j), p in zip(pairs, post, strict=True)]).astype(xp.int32)
    order = xp.argsort(rows, stable=True)
    ends = xp.cumsum(xp.bincount(rows, **({"length": n_pre} if xp is jnp else {"minlength": n_pre})))
    indptr = xp.concatenate([xp.zeros(1, xp.int32), ends.astype(xp.int32)])
    return CSR(indptr, indices[order], n_post), order


class _Edge(NamedTuple):
    """A wired projection or gap junctions and its units in the packed nodes."""

    name: str
    edge: Any
    pre: range
    post: range
    """Of the whole post node for sparse formats, whose indices count in it; of the view for `Dense`."""

    @staticmethod
    def of(name: str, edge: Any, places: Places) -> "_Edge":
        route, topology = edge.route, edge.connect
        reads = places[edge.route.pre].units(route.units_pre or (0, topology.n_pre, 1))
        writes = places[route.post].units(
            route.units_post if isinstance(topology, AbstractMap) else (0, topology.n_post, 1)
        )
        return _Edge(name, edge, range(*reads), range(*writes))


def _moved(e: _Edge, places: Places, **changes: Any) -> Any:
    """The edge between the packed nodes, with the changes."""
    before, after = places[e.edge.route.pre], places[e.edge.route.post]
    view = (e.pre.start, e.pre.stop, e.pre.step)
    route = Route(
        before.node,
        None if "connect" in changes or view == (0, before.size, 1) else view,
        after.node,
        e.edge.route.port,
        (e.post.start, e.post.stop, e.post.step) if "connect" not in changes else (0, after.size, 1),
        e.edge.route.delay_drawn,
        e.edge.route.at_end,
    )
    reads = before.node if route.units_pre is None else f"{before.node}[{':'.join(map(str, view))}]"
    return dataclasses.replace(e.edge, pre=reads, post=f"{after.node}.{route.port}", route=route, **changes)


def _merged(members: list[_Edge], places: Places) -> Any:
    """The members as one edge over all pre units; its plasticity is that of the first."""
    first = members[0].edge
    before, after = places[first.route.pre], places[first.route.post]
    edges = [e.edge.by_synapse(f"edge {e.name!r}") for e in members]
    connect, order = _stacked(
        [e.connect for e in edges], [e.pre for e in members], [e.post for e in members], before.size, after.size
    )
    sizes = [int(np.prod(weight_shape(e.connect))) for e in edges]
    changes: dict[str, Any] = {"order": None, "weight": side_by_side([e.weight for e in edges], sizes, order)}
    if not first.instant:
        changes |= {"delay": side_by_side([e.delay for e in edges], sizes, order)}
        changes |= {"max_delay": max(e.max_delay for e in edges)}
    merged = _moved(members[0], places, connect=connect, **changes)
    drawn = any(e.route.delay_drawn for e in edges)
    return dataclasses.replace(merged, route=merged.route._replace(delay_drawn=drawn))


def _grouped(edges: list[_Edge], kind: Callable[[_Edge], Any], places: Places) -> list[list[_Edge]]:
    """Edges of one kind between the same packed nodes and into the same port together."""
    groups: dict[Any, list[_Edge]] = {}
    for e in edges:
        ends = places[e.edge.route.pre].node, places[e.edge.route.post].node, e.edge.route.port
        groups.setdefault((*ends, kind(e)), []).append(e)
    return list(groups.values())


def _untouched(e: _Edge, places: Places) -> bool:
    return all(places[node].node == node for node in (e.edge.route.pre, e.edge.route.post))


def join_projections(edges: dict[str, WiredProjection], places: Places) -> list[Joined]:
    """Projections of one kind as one; `Dense` ones, and those that share pre units with different plasticity, apart."""

    def kind(e):
        apart = isinstance(e.edge.connect, AbstractMap) or _untouched(e, places)
        return e.name if apart else (e.edge.instant, jax.tree.structure(e.edge.short_term))

    joined = []
    for group in _grouped([_Edge.of(*item, places) for item in edges.items()], kind, places):
        first = group[0]
        if _untouched(first, places):
            joined.append(Joined(first.edge, {first.name: None}))
        elif isinstance(first.edge.connect, AbstractMap):
            joined.append(Joined(_moved(first, places), {first.name: None}))
        elif first.edge.short_term is None:
            joined.append(Joined(_merged(group, places), {e.name: None for e in group}))
        else:
            n_pre = places[first.edge.route.pre].size
            joined += [_with_short_term(*one, places) for one in _one_state(group, n_pre)]
    return joined


def _one_state(group: list[_Edge], n_pre: int) -> list[tuple[np.ndarray, list[_Edge]]]:
    """The edges in sets within which every pre unit has one plasticity, with the first edge that each unit belongs to.

    Edges that read the same units share the state if their parameters are equal: what it follows is the same.
    """
    sets: list[tuple[np.ndarray, list[_Edge]]] = []

    def fits(e, owner, members):
        owners = np.unique(owner[e.pre])
        if owners.size != 1 or owners[0] == -1:
            return owners.size == 0 or (owners.size == 1 and owners[0] == -1)
        other = members[owners[0]]
        return other.pre == e.pre and same([other.edge.short_term, e.edge.short_term])

    for e in group:
        for owner, members in sets:
            if fits(e, owner, members):
                break
        else:
            owner, members = np.full(n_pre, -1), []
            sets.append((owner, members))
        owner[e.pre] = np.where(owner[e.pre] == -1, len(members), owner[e.pre])
        members.append(e)
    return sets


def _with_short_term(owner: np.ndarray, members: list[_Edge], places: Places) -> Joined:
    """The members as one edge whose plasticity has a parameter for every pre unit."""
    place = np.zeros(owner.size, int)  # of a pre unit in the parameters side by side; anywhere if it has no synapse
    first = 0
    for k, e in enumerate(members):
        units = np.asarray(e.pre)
        mine = owner[units] == k
        place[units[mine]] = first + np.flatnonzero(mine)
        first += len(units)
    sizes = [len(e.pre) for e in members]
    short_term = jax.tree.map(lambda *x: side_by_side(x, sizes, place), *(e.edge.short_term for e in members))
    edge = dataclasses.replace(_merged(members, places), short_term=short_term)
    return Joined(edge, {e.name: e.pre for e in members})


def join_gap_junctions(edges: dict[str, WiredGapJunctions], places: Places) -> list[Joined]:
    """Gap junctions of one delay as one; those whose delay is traced apart."""

    def kind(e):
        return e.name if is_traced(e.edge.delay) or _untouched(e, places) else float(e.edge.delay)

    groups = _grouped([_Edge.of(*item, places) for item in edges.items()], kind, places)
    return [
        Joined(group[0].edge if _untouched(group[0], places) else _merged(group, places), {e.name: None for e in group})
        for group in groups
    ]


JOIN: Final[dict[type, Callable[[Any, Places], list[Joined]]]] = {
    WiredProjection: join_projections,
    WiredGapJunctions: join_gap_junctions,
}
"""How edges of a type move to packed nodes; nodes that any other edge reads or reaches stay as they are."""


def movable(edge: Any) -> bool:
    """Whether `edge` can move to packed nodes: its type is known here, its rows and delays are stored arrays."""
    learnt, drawn = getattr(edge, "delay", None), getattr(edge, "connect", None)
    return type(edge) in JOIN and not isinstance(learnt, AbstractDelay) and not isinstance(drawn, DrawnRows)
