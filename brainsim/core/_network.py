"""The network: a declarative graph of nodes and edges, checked at construction."""

import graphlib
import itertools
from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ..base import Frozen, FrozenDict, Key, float_dtype, unknown
from ._edge import AbstractDeclaredEdge, AbstractEdge, AbstractScheduledEdge
from ._gap import WiredGapJunctions, coupled
from ._node import AbstractNode, Population
from ._part import Part, Sizes, cut
from ._state import Clock, NodeState, State, name_hash, unflagged
from ._wiring import check_sign


class AbstractGraph(Frozen):
    """Nodes joined by edges, wired or scheduled, and what is asked about names."""

    nodes: eqx.AbstractVar[dict[str, AbstractNode]]
    edges: eqx.AbstractVar[Any]
    parts: eqx.AbstractVar[dict[str, Part]]
    order: eqx.AbstractVar[tuple[str, ...]]

    # Properties, not methods: equinox goes through every leaf of a module at each call of a method.
    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of units by every name a node goes by: its own, and those of the nodes that `pack` merged into it."""
        return Sizes(self.nodes, self.parts)

    @property
    def members(self) -> dict[str, list[str]]:
        """Of every packed node the names of those merged into it, in the order of their units."""
        found: dict[str, list[str]] = {}
        for name, part in self.parts.items():
            if part.whole in self.nodes:
                found.setdefault(part.whole, []).append(name)
        return found

    def unit_range(self, name: str) -> tuple[str, slice]:
        """The node in which the units called `name` are, and which of its units they are."""
        if name in self.nodes:
            return name, slice(0, self.nodes[name].size)
        part = self.parts.get(name)
        if part is None or part.whole not in self.nodes:
            raise ValueError(f"Network.unit_range: {unknown('node', name, self.sizes)}")
        return part.whole, slice(part.start, part.stop)

    def ready(self) -> Self:
        """The network with the default derivatives of spikes worked out from its parameters, once for a run."""
        nodes = {name: node.ready() if isinstance(node, Population) else node for name, node in self.nodes.items()}
        return eqx.tree_at(lambda net: net.nodes, self, FrozenDict(nodes, "Network.nodes"))


class Network(AbstractGraph):
    """A graph of nodes joined by edges.

    Construction checks every name, port, size and sign, and builds connectivity and weights from rules and
    distributions with `key` folded with each edge's name, so that adding an edge never changes another.

    **Arguments:**

    - `nodes`: name -> `Population` or `Source`.
    - `edges`: name -> `Projection`, `GapJunctions`, ...
    - `key`: needed when connectivity, weights or delays are drawn.

    Parameters are plain leaves: `net.nodes["E"].unit.tau_m`, `net.edges["EE"].weight`; change them
    in a copy, with `bs.train.with_parameters` or `eqx.tree_at`. Nothing of a network can be assigned.
    """

    nodes: dict[str, AbstractNode]
    edges: dict[str, AbstractEdge]
    parts: dict[str, Part]
    """Nodes and edges that `pack` merged, by the name they had."""
    order: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        nodes: dict[str, AbstractNode],
        edges: Mapping[str, AbstractDeclaredEdge | AbstractEdge] | None = None,
        *,
        key: Key | None = None,
        parts: dict[str, Part] | None = None,
    ):
        edges = {} if edges is None else edges
        for kind, group, base in (("node", nodes, AbstractNode), ("edge", edges, AbstractDeclaredEdge | AbstractEdge)):
            if not isinstance(group, dict):
                raise TypeError(
                    f"Network.{kind}s is {group!r}; expected a dict from names to {kind}s, e.g. {{'P': ...}}."
                )
            for name, member in group.items():
                if not isinstance(name, str) or not name.isidentifier():
                    raise ValueError(
                        f"{kind} name {name!r}: expected letters, digits and _, not starting with a digit."
                    )
                if not isinstance(member, base):
                    node = "a node such as bs.Population(bs.LIF(), 100)"
                    wanted = node if kind == "node" else "an edge such as bs.Projection('A', 'B.exc', ...)"
                    raise TypeError(f"{kind} {name!r} is {member!r}; expected {wanted}. {_fix(member)}")
        clash = sorted(set(nodes) & set(edges))
        if clash:
            raise ValueError(
                f"{clash} name both a node and an edge; every name must be unique, as it seeds randomness. Rename one."
            )
        if key is not None and not isinstance(key, jax.Array):
            raise TypeError(
                f"Network.key is {key!r} of type {type(key).__name__}; expected a JAX key. Pass jax.random.key(0)."
            )
        for name in sorted(nodes):
            nodes[name].check(name)
        self.nodes = FrozenDict({name: nodes[name] for name in sorted(nodes)}, "Network.nodes")
        built = {}
        for name in sorted(edges):
            folded = None if key is None else jax.random.fold_in(key, name_hash(name))
            edge = edges[name]
            declared = isinstance(edge, AbstractDeclaredEdge)
            built[name] = edge.wire(f"edge {name!r}", self.nodes, folded) if declared else edge
            check_sign(name, built[name], self.nodes)
        for name, edge in built.items():
            for role, other in edge.sees.items():
                if other not in built:
                    raise ValueError(f"edge {name!r}.sees[{role!r}]: {unknown('edge', other, built)}")
                if role in edge.reads:
                    raise ValueError(f"edge {name!r} has the role {role!r} in reads and in sees; rename one.")
        self.edges = FrozenDict(built, "Network.edges")
        self.parts = FrozenDict({} if parts is None else parts, "Network.parts")
        self.order = _order(self.nodes, built)

    def check(self, dt: float) -> None:
        """Raise on weights and delays that do not fit; warn of durations that steps of `dt` (ms) do not divide and of
        gap junctions that they do not resolve. On the host: traced values pass."""
        nodes = {name: node.at(name, dt) for name, node in self.nodes.items()}
        gaps: dict[str, AbstractScheduledEdge] = {}
        for name, edge in self.edges.items():
            check_sign(name, edge, self.nodes)
            edge.check(f"edge {name!r}", dt)
            if isinstance(edge, WiredGapJunctions):
                gaps[name] = edge.schedule(f"edge {name!r}", dt)
        coupled(nodes, gaps, dt)

    def at(self, dt: float) -> "ScheduledNetwork":
        """The network with its edges scheduled for steps of `dt` (ms)."""
        nodes = FrozenDict({name: node.at(name, dt) for name, node in self.nodes.items()}, "Network.nodes")
        edges = {name: edge.schedule(f"edge {name!r}", dt) for name, edge in self.edges.items()}
        edges = FrozenDict(coupled(nodes, edges, dt), "Network.edges")
        return ScheduledNetwork(nodes, edges, self.parts, self.order)

    def known(self, dt: float) -> "Network":
        """The network with what its edges work out for steps of `dt` before a run is traced."""
        edges = {name: edge.known(dt) for name, edge in self.edges.items()}
        return eqx.tree_at(lambda net: net.edges, self, FrozenDict(edges, "Network.edges"))


class ScheduledNetwork(AbstractGraph):
    """A network for steps of one dt, as a run has it."""

    nodes: dict[str, AbstractNode]
    edges: dict[str, AbstractScheduledEdge]
    parts: dict[str, Part]
    order: tuple[str, ...] = eqx.field(static=True)


def _fix(member: Any) -> str:
    return (
        "Pass an instance, not the class."
        if isinstance(member, type)
        else "Build it from brainsim's classes or your own."
    )


def _order(nodes: dict[str, AbstractNode], edges: dict[str, AbstractEdge]) -> tuple[str, ...]:
    """Node names so that every INSTANT edge goes forward."""
    before: dict[str, dict[str, None]] = {
        name: {} for name in nodes
    }  # dicts, as the order of sets changes with the process
    for edge in edges.values():
        if edge.instant:
            before[edge.writes[0]] |= dict.fromkeys(sorted(edge.reads.values()))
    try:
        return tuple(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as e:
        way = e.args[1]
        steps = set(itertools.pairwise(way))
        guilty = [
            k for k, x in edges.items() if x.instant and any((pre, x.writes[0]) in steps for pre in x.reads.values())
        ]
        raise ValueError(
            f"INSTANT edges form the cycle {' -> '.join(way)}; within one step every node must come before those it "
            "feeds. "
            f"Give one of the edges {', '.join(map(repr, guilty))} a delay >= 0."
        ) from None


def _stack(*x: Any) -> Any:
    return jnp.concatenate(x)


def _keys(key: Key) -> tuple[Key, Key]:
    """The keys of the initial values and of the run."""
    if not isinstance(key, jax.Array) or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.ndim:
        raise TypeError(
            f"key is {key!r}; expected one JAX random key. Pass key=jax.random.key(seed), or vmap over keys."
        )
    start, run = jax.random.split(key)
    return start, run


def run_key(key: Key) -> Key:
    """What a run draws from that is given `key`: the same with the state that `key` draws and with any other."""
    return _keys(key)[1]


def initial_state(net: Network, *, dt: float, key: Key) -> State:
    """The state of `net` at time 0, with initial values drawn from `key`.

    **Arguments:** `dt`: the step (ms), which fixes the depth of the inboxes; `key`: seeds initial values and the
    whole run.

    **Returns:** a `State`; pass it to `step`, or to `simulate(..., state=...)`.
    """
    start, run = _keys(key)
    n = jnp.asarray(0, jnp.int32)
    nodes, members = {}, net.members
    for name, node in net.nodes.items():
        # a packed node begins as its members did, each with its own name and initial values
        each = {m: cut(node, net.parts[m]) for m in members.get(name, [])} or {name: node}
        states = [member.init(Clock.of(m, n, dt, start)) for m, member in each.items()]
        nodes[name] = NodeState(*(states[0] if len(states) == 1 else jax.tree.map(_stack, *states)))
    edges = {name: edge.init(Clock.of(name, n, dt, start)) for name, edge in net.edges.items()}
    depth: dict[tuple[str, str], int] = {}
    for edge in net.edges.values():
        depth[edge.writes] = max(depth.get(edge.writes, 1), edge.depth(dt))
    inbox: dict[str, Any] = {name: {} for name in net.nodes}
    for (node, port), d in sorted(depth.items()):
        inbox[node][port] = jnp.zeros((d, net.nodes[node].ports[port]), float_dtype())
    started = dict(nodes)
    for name, edge in net.edges.items():
        edges[name], rows = edge.begin(f"edge {name!r}", edges[name], net.nodes, started, dt)
        if rows is not None:
            node, port = edge.writes
            old = nodes[node]
            nodes[node] = NodeState(*net.nodes[node].arrive(old.y, old.z, {port: rows[0]}))
            inbox[node][port] = inbox[node][port].at[: rows.shape[0] - 1].add(rows[1:])
    flags = dict.fromkeys((*net.nodes, *net.edges), unflagged())
    return State(n, run, nodes, edges, inbox, {}, {}, flags, float(dt))
