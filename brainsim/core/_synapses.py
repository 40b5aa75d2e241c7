"""The synapses of an edge as a list: who sends to whom, how strongly and how late."""

from typing import Any, NamedTuple

import numpy as np

from ..base import is_traced, unknown
from ..events import AbstractMap, DrawnRows
from ._delay import AbstractDelay
from ._network import Network
from ._state import State
from ._units import Units
from ._wiring import _Instant, drawn_weight


class Synapses(NamedTuple):
    """Synapses, each array of shape (n,): `pre` and `post` are unit numbers, counted in their whole populations;
    `weight` and `delay` (ms) are in the unit of the edge, the delay NaN of an INSTANT one; `index` is the place of the
    synapse in the arrays of the edge."""

    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    delay: np.ndarray
    index: np.ndarray


def synapses_of(net: Network, edge: str, *, pre: Any = None, post: Any = None, state: State | None = None) -> Synapses:
    """The synapses of an edge, or those from and to chosen units.

    **Arguments:** `edge`: its name; `pre`, `post`: which units, as numbers, a slice, a mask or text such as `":10"`;
    None for all. `state`: with the state of a run, weights that plasticity has changed are those of that state.

    **Returns:** a `Synapses`, in the order of the edge's arrays: where an edge has one value per synapse,
    `net.edges[edge].weight.reshape(-1)[found.index]` are its weights.

    **Raises:** ValueError for edges or units that do not exist; TypeError inside transformations.

    !!! Example
        `bs.synapses_of(net, "E", pre=[0], post=":100").weight`
    """
    if edge not in net.edges:
        raise ValueError(f"synapses_of: {unknown('edge', edge, net.edges)}")
    e: Any = net.edges[edge]
    if getattr(e, "route", None) is None or getattr(e, "connect", None) is None:
        raise TypeError(f"synapses_of: edge {edge!r} is a {e.kind}, which has no list of synapses.")
    delay = e.delay.d if isinstance(e.delay, AbstractDelay) else e.delay
    now = {} if state is None else state.edges.get(edge, {})
    if is_traced(e.weight) or is_traced(delay) or is_traced(now.get("w")):
        raise TypeError(f"synapses_of: edge {edge!r} is traced; read its synapses outside jit, grad and vmap.")
    graph, weight, back = e.connect, drawn_weight(e.weight), None
    if isinstance(graph, DrawnRows):
        graph, drawn = graph.to_csr(weight)
        weight = drawn if e.connect.law != "one" else weight
    i, j = graph.to_coo()
    units = e.route.units_pre
    i = i if units is None else units[0] + units[2] * i
    if isinstance(graph, AbstractMap):  # all others count in the whole population
        j = e.route.units_post[0] + e.route.units_post[2] * j
    if getattr(e, "order", None) is not None:  # from that of the topology to that of the user's list
        back = np.argsort(np.asarray(e.order))
        i, j = i[back], j[back]
    if "w" in now:  # kept in the order of the topology
        weight = now["w"] if back is None else np.asarray(now["w"])[back]
    keep = np.ones(i.size, bool)
    for what, name, chosen, of in (("pre", e.reads["pre"], pre, i), ("post", e.route.post, post, j)):
        where, read = f"synapses_of: {what}", Units.of(f"synapses_of: {what}", chosen)
        if read is not None:
            keep &= np.isin(of, list(read.within(where, name, net.nodes[name].size)))
    index = np.flatnonzero(keep)
    late = np.nan if isinstance(delay, _Instant) else delay

    def each(x: Any) -> np.ndarray:
        x = np.asarray(x)
        return x.reshape(-1)[index] if x.ndim else np.full(index.size, x)

    return Synapses(i[index], j[index], each(weight), each(late), index)
