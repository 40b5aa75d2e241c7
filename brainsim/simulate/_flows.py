"""Of which populations a run is differentiated in its own time, and of which from spike to spike."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx

from ..base import FrozenDict
from ..core import Crossing, Endpoint, Network, Population
from ._saveat import AbstractRecording, Events, Rate, Trace


def with_flows(net: Network, recordings: Sequence[Any]) -> Network:
    """`net` with `Crossing.exact_flow` chosen where it is None.

    False where the events of a population are recorded or drive others, True where a trace is recorded, or nothing;
    where both are recorded it stays None, which warns once it is differentiated.
    """

    def node(target: str) -> str:
        return Endpoint.parse("saveat", target).node

    recordings = [s for r in recordings for s in (r.sources if isinstance(r, AbstractRecording) else (r,))]
    counted = {net.unit_range(node(r.node))[0] for r in recordings if isinstance(r, Events | Rate)}
    names = [node(r.target) for r in recordings if isinstance(r, Trace)]
    traced = {net.unit_range(name)[0] for name in names if name in net.sizes}
    drives = {source for edge in net.edges.values() for source in edge.reads.values()}
    nodes = dict(net.nodes)
    for name, population in net.nodes.items():
        if not isinstance(population, Population) or not population.guarded:
            continue
        rule = population.derivative if population.surrogate is not None or not population.linear else None
        if not isinstance(rule, Crossing) or rule.exact_flow is not None or {name} <= counted & traced:
            continue
        exact = name not in counted and (name in traced or name not in drives)
        nodes[name] = eqx.tree_at(lambda p: p.surrogate, population, Crossing(exact), is_leaf=lambda x: x is None)
    return eqx.tree_at(lambda net: net.nodes, net, FrozenDict(nodes, "Network.nodes"))
