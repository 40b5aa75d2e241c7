"""`pack`: a network of many populations as one of few, under unchanged names."""

import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from ..base import unknown
from ._input import AbstractInput
from ._join import JOIN, Place, movable, side_by_side
from ._network import Network
from ._node import AbstractNode, Population, Source
from ._part import Part, parameters_of, resized
from ._state import Clock


def pack(net: Network, *, keep: Iterable[str] = ()) -> Network:
    """The same network with alike populations merged into one node, and alike edges between those into one edge.

    A step of a network costs by the node and by the edge, and so does compiling it: merged, 100 populations joined by
    1,000 edges are one population and two edges. Merged are

    - populations of one unit, with the same receptors, noise and surrogate (types, ports and static fields alike;
      parameters may differ: they become arrays), and sources of one kind (`Poisson`, `Regular`, `External`). What an
      INSTANT edge joins stays apart, so do units that are not elementwise, those with waveforms as parameters, and
      nodes of edges of one's own type, of `Procedural` ones and of those whose delays are learnt;
    - projections into the same port, whatever their weights and delays; with short-term plasticity where every pre
      unit has one; gap junctions of one delay; Poisson inputs onto different units. `Dense` ones stay apart.

    **The names stay.** `Spikes("E17")`, `Trace("E17.v")`, `inputs={"E17": ...}`, `solver={"E17": ...}`, `sol.rates`
    and flags know every population by the name it had, and a short-term plastic edge for its `Trace`.
    `net.unit_range("E17")` says where its units and their parameters are now, e.g. `("LIF", slice(1700, 1800))`.

    **The results stay.** Initial values are those of the unpacked network. Without noise the spikes are the same, but
    for the rounding of sums: what arrives at a unit in one step is added in the order of the merged pre units. Random
    numbers of a step (noise, Poisson sources and inputs) are keyed by the merged name: other draws of the same law.

    **Arguments:** `net`; `keep`: nodes to leave as they are, for their own random numbers or another solver.

    **Returns:** a `Network`. `pack` is a pure function of its arrays: call it once before the runs, or within what is
    differentiated, jitted or batched, after the parameters were put in under their old names.

    **Raises:** ValueError for a name in `keep` that does not exist, and for a network that is packed already.

    !!! Example
        ```python
        packed = bs.pack(net)
        sol = bs.simulate(packed, t1=1000.0, key=jax.random.key(1), saveat=[bs.Spikes("E17")])
        ```
    """
    if net.parts:
        raise ValueError("pack: this network is packed already. Pack the one it was made from.")
    keep = set(keep)
    for name in sorted(keep):
        if name not in net.nodes:
            raise ValueError(f"pack: keep: {unknown('node', name, net.nodes)}")
    edges_of: dict[type | None, dict[str, Any]] = {}
    seen = {name for edge in net.edges.values() for name in edge.sees.values()}
    for name, edge in net.edges.items():
        kind = type(edge) if movable(edge) and name not in seen else None
        edges_of.setdefault(kind, {})[name] = edge
        if kind is None:
            keep |= {edge.writes[0], *edge.reads.values()}
    taken = {*net.nodes, *net.edges}
    nodes, parts, places = {}, {}, {}
    for members in _alike(net, keep):
        name = members[0] if len(members) == 1 else _new(type(_model(net.nodes[members[0]])).__name__, taken)
        starts = itertools.accumulate((net.nodes[m].size for m in members), initial=0)
        size = sum(net.nodes[m].size for m in members)
        places |= {m: Place(name, start, size) for m, start in zip(members, starts, strict=False)}
        nodes[name] = net.nodes[name] if len(members) == 1 else _merged([net.nodes[m] for m in members])
        if len(members) > 1:
            for m in members:
                start, old = places[m].start, net.nodes[m]
                parts[m] = Part(name, start, start + old.size, init_values=getattr(old, "init_values", {}))
    edges = {}
    for kind, group in edges_of.items():
        moved = [] if kind is None else JOIN[kind](group, places)
        edges |= group if kind is None else {}
        for edge, names in moved:
            name = next(iter(names))
            stateful = {old: units for old, units in names.items() if units is not None}
            if len(names) > 1 or stateful:
                name = _new("_".join([*edge.reads.values(), *edge.writes]), taken)
            edges[name] = edge
            parts |= {old: Part(name, units.start, units.stop, units.step) for old, units in stateful.items()}
    return Network(nodes, edges, parts=parts)


def _model(node: Any) -> Any:
    return node.process if isinstance(node, Source) else node.unit


def _alike(net: Network, keep: set[str]) -> list[list[str]]:
    """Names of the nodes that become one, by group."""
    level: dict[str, int] = {}
    for name in net.order:  # nodes joined within the step must run one after the other
        before = [
            level[pre] for e in net.edges.values() if e.instant and e.writes[0] == name for pre in e.reads.values()
        ]
        level[name] = 1 + max(before, default=-1)
    groups: dict[Any, list[str]] = {}
    for name, node in net.nodes.items():
        kind = None if name in keep else _kind(node)
        groups.setdefault(name if kind is None else (level[name], kind), []).append(name)
    for key, members in list(groups.items()):
        if len(members) > 1 and not _by_unit(net.nodes[members[0]]):
            del groups[key]
            groups |= {name: [name] for name in members}
    return list(groups.values())


def _kind(node: AbstractNode) -> Any:
    """Nodes of equal kinds may be merged; None: never."""
    if not isinstance(node, Population | Source):
        return None
    if not (node.process.packable and not node.driven if isinstance(node, Source) else node.structure.independent):
        return None
    parameters = parameters_of(node)
    for x in jax.tree.leaves(parameters, is_leaf=lambda x: isinstance(x, AbstractInput)):
        if isinstance(x, AbstractInput) or jnp.shape(x) not in ((), (node.size,)):
            return None
    return type(node), jax.tree.structure(parameters), getattr(node, "detach_reset", None)


def _by_unit(node: AbstractNode) -> bool:
    """Whether every array of the state has one row per unit."""
    state = jax.eval_shape(node.init, Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0)))
    return all(x.shape[:1] == (node.size,) for x in jax.tree.leaves(state))


def _merged(nodes: list[Any]) -> AbstractNode:
    sizes = [node.size for node in nodes]
    parameters = jax.tree.map(lambda *x: side_by_side(x, sizes), *map(parameters_of, nodes))
    return resized(nodes[0], sum(sizes), parameters, {})


def _new(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, ..., whatever is free, which is then taken."""
    free = next(n for n in itertools.chain([name], (f"{name}_{k}" for k in itertools.count(2))) if n not in taken)
    taken.add(free)
    return free
