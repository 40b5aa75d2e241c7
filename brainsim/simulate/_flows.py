"""Of which populations a run is differentiated in its own time, and of which from spike to spike."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx

from ..base import FrozenDict
from ..core import Crossing, Network, Population
from ._saveat import Events, Rate, Trace


def with_flows(net: Network, recordings: Sequence[Any]) -> Network:
    """`net` with `Crossing.exact_flow` chosen where it is None.

    False where the events of a population are recorded or drive others, True where a trace is recorded, or nothing;
    where both are recorded it stays None, which warns once it is differentiated.
    """
    counted = {net.unit_range(r.node)[0] for r in recordings if isinstance(r, Events | Rate)}
    names = [r.target.partition(".")[0] for r in recordings if isinstance(r, Trace)]
    traced = {net.unit_range(name)[0] for name in names if name in net.sizes}
    drives = {node for edge in net.edges.values() for node in edge.reads.values()}
    nodes = dict(net.nodes)
    for name, node in net.nodes.items():
        if not isinstance(node, Population):
            continue
        rule = node.derivative if node.surrogate is not None or not node.linear else None
        if not isinstance(rule, Crossing) or rule.exact_flow is not None or {name} <= counted & traced:
            continue
        exact = name not in counted and (name in traced or name not in drives)
        nodes[name] = eqx.tree_at(lambda p: p.surrogate, node, Crossing(exact), is_leaf=lambda x: x is None)
    return eqx.tree_at(lambda net: net.nodes, net, FrozenDict(nodes, "Network.nodes"))
