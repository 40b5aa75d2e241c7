"""NIR files as networks that a chip can have."""

from typing import Any

import numpy as np

from ..core import INSTANT, AbstractNode, Network, Population, Projection, Source
from ..events import Dense
from ..neurons import CubaLIF, External
from ..nir import Graph, Node, read
from ..synapses import Delta
from ._canonical import LoweringError

_NEURONS, _LINEAR = ("CubaLIF", "LIF"), ("Affine", "Linear")


def of_nir(source: Any, *, dt: float) -> Network:
    """The network of a NIR file or `bs.nir.Graph`, in units of a chip: `CubaLIF` populations and dense projections.

    It means what it says under forward Euler with the step `dt` (ms) for which it was written. An edge acts within its
    step unless it is part of a loop, then one step later; a bias acts from the second step on. `LIF` is a `CubaLIF`
    whose current lasts one step. To run a file as one of the libraries of NIR does, take `bs.from_nir`.

    **Raises** LoweringError: NIR-NODE for other primitives than Input, Output, Affine, Linear, LIF and CubaLIF,
    NIR-EDGE for an order of these other than neuron, linear, neuron; and `bs.nir.NIRError` for what is no NIR file.
    """
    graph = (source if isinstance(source, Graph) else read(source)).flat()
    kinds: dict[str, Node] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, Node) or node.type not in ("Input", "Output", *_NEURONS, *_LINEAR):
            kind = node.type if isinstance(node, Node) else "a graph"
            raise LoweringError("NIR-NODE", name, f"{kind}; expected Input, Output, Affine, Linear, LIF or CubaLIF.")
        kinds[name] = node
    links = [link for name in kinds if kinds[name].type in _LINEAR for link in _through(name, kinds, graph.edges)]
    for a, b in graph.edges:
        if kinds[a].type in ("Input", *_NEURONS) and kinds[b].type in _NEURONS:
            raise LoweringError("NIR-EDGE", f"{a} -> {b}", "no weights; expected an Affine or Linear between.")
    after: dict[str, set[str]] = {name: {post for pre, _, post in links if pre == name} for name in kinds}
    nodes: dict[str, AbstractNode] = {}
    edges: dict[str, Any] = {}
    for name, node in kinds.items():
        if node.type == "Input":
            nodes[_plain(name)] = Source(process=External(), size=int(np.prod(node.fields["shape"])))
        elif node.type in _NEURONS:
            biases = [kinds[k].fields["bias"] for _, k, post in links if post == name and "bias" in kinds[k].fields]
            nodes[_plain(name)] = _population(node, sum(np.asarray(b, np.float64) for b in biases), dt)
    for pre, linear, post in links:
        weight = np.asarray(kinds[linear].fields["weight"], np.float64) * _entering(kinds[post], dt)[:, None]
        delay: Any = 0.0 if pre in _reached(post, after) else INSTANT
        key = _plain(linear) if sum(k == linear for _, k, _ in links) == 1 else _plain(f"{linear}_{pre}_{post}")
        edges[key] = Projection(_plain(pre), _plain(post), Dense(*weight.T.shape), weight=weight.T, delay=delay)
    return Network(nodes, edges)


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _through(linear: str, kinds: dict[str, Node], edges: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """What a linear node joins: (sender, linear, receiver)."""
    before, behind = [a for a, b in edges if b == linear], [b for a, b in edges if a == linear]
    for name in (*before, *behind):
        if kinds[name].type in _LINEAR or (name in behind and kinds[name].type == "Output"):
            raise LoweringError("NIR-EDGE", linear, f"beside {name!r}; expected a neuron on either side.")
    return [(a, linear, b) for a in before for b in behind]


def _reached(name: str, after: dict[str, set[str]]) -> set[str]:
    """Where events of `name` get to."""
    found, todo = {name}, [name]
    while todo:
        new = after[todo.pop()] - found
        found |= new
        todo += new
    return found


def _entering(node: Node, dt: float) -> np.ndarray:
    """What a unit impulse adds to the current."""
    size = np.asarray(node.fields["v_threshold"]).size
    if node.type == "LIF":
        return np.ones(size)
    w_in, tau = (np.asarray(node.fields[k], np.float64) for k in ("w_in", "tau_syn"))
    return np.broadcast_to((w_in * 1e-3 * dt / tau).reshape(-1), (size,))


def _population(node: Node, bias: Any, dt: float) -> Population:
    f = {k: np.asarray(v, np.float64).reshape(-1) for k, v in node.fields.items() if np.asarray(v).dtype.kind in "fiu"}
    n = f["v_threshold"].size
    leak, reset = f.get("v_leak", np.zeros(n)), f.get("v_reset", np.zeros(n))
    if node.type == "LIF":
        tau: dict[str, Any] = dict(tau_syn=dt, tau_m=1e3 * f["tau"], w_in=1.0)
    else:
        tau = dict(tau_syn=1e3 * f["tau_syn"], tau_m=1e3 * f["tau_mem"], w_in=f["w_in"])
    unit = CubaLIF(**tau, r=f["r"], e_l=leak, v_th=f["v_threshold"], v_reset=reset)
    return Population(unit, n, {"i": Delta("i")}, i_e=bias)
