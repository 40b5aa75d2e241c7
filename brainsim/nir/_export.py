"""From a network back to a NIR graph."""

import dataclasses
from typing import Any

import numpy as np

from ..neurons import DiscreteNeurons
from ._check import NEURONS
from ._file import write
from ._graph import Graph, NIRError, Node
from ._import import NIRNetwork, from_nir, layout


def to_nir(model: NIRNetwork, path: Any = None) -> Graph:
    """The NIR graph of a network that came from one, with what was changed or trained since.

    Every attribute whose leaves are those of the import keeps its bits, type and shape; of the others the new value is
    written, in the type and shape that it had. Decays become time constants again, by the rule of the dialect.

    **Arguments:** `model`: from `from_nir`, its `net` changed or not. `path`: where to write a file; None: nowhere.

    **Returns:** a `bs.nir.Graph`.

    **Raises:** `bs.nir.NIRError` where the change cannot be said in NIR, such as weights of a dialect with `levels`.
    """
    old = from_nir(model.graph, model.dialect)
    news: dict[str, dict[str, Any]] = {}
    for name, own in old.names.items():
        node = _find(model.graph, name)
        found = _of_neurons(model, old, own, node) if node.type in NEURONS else _of_edge(model, old, own, node)
        if found:
            if model.dialect.levels:
                raise NIRError(f"{name}: {sorted(found)} changed; {model.dialect.name} holds integers of these alone.")
            news[name] = {k: _like(node.fields[k], x) for k, x in found.items()}
    graph = _with(model.graph, "", news)
    if path is not None:
        write(graph, path)
    return graph


def _find(graph: Graph, name: str) -> Node:
    found = dict(graph.walk())[name]
    assert isinstance(found, Node)
    return found


def _with(graph: Graph, prefix: str, news: dict[str, dict[str, Any]]) -> Graph:
    nodes: dict[str, Node | Graph] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, Graph):
            nodes[name] = _with(node, f"{prefix}{name}.", news)
        else:
            nodes[name] = dataclasses.replace(node, fields=node.fields | news.get(prefix + name, {}))
    return dataclasses.replace(graph, nodes=nodes)


def _like(old: Any, new: Any) -> Any:
    """`new` in the type of `old`, and in its shape where one number still says it."""
    a, b = np.asarray(new), np.asarray(old)
    if a.size == b.size:
        return a.reshape(b.shape).astype(b.dtype)
    return a.astype(b.dtype)


def _changed(new: Any, old: Any) -> bool:
    return np.asarray(new).tobytes() != np.asarray(old).tobytes() or np.shape(new) != np.shape(old)


def _of_edge(model: NIRNetwork, old: NIRNetwork, own: str, node: Node) -> dict[str, Any]:
    """The attributes of a linear primitive that changed."""
    found = {}
    if own in old.net.edges:
        edge, before = model.net.edges[own], old.net.edges[own]
        if _changed(edge.weight, before.weight):  # pyright: ignore[reportAttributeAccessIssue]
            found |= _weight(model, edge, node)
        if node.type == "Delay" and _changed(edge.delay, before.delay):  # pyright: ignore[reportAttributeAccessIssue]
            raise NIRError(f"{own}: its delays changed; a delay is part of the wiring here. Change the graph instead.")
    for name, neurons in model.net.nodes.items():
        if isinstance(neurons, DiscreteNeurons) and own in neurons.bias:
            was = old.net.nodes[name]
            assert isinstance(was, DiscreteNeurons)
            if _changed(neurons.bias[own], was.bias[own]):
                found["bias"] = _bias(neurons, model.shapes[name], own, node)
    return found


def _bias(neurons: DiscreteNeurons, shape: tuple[int, ...], own: str, node: Node) -> np.ndarray:
    """A bias in NIR's order; of a convolution the mean over places, which must be one number."""
    each = np.broadcast_to(np.asarray(neurons.bias[own]), (neurons.size,))[np.argsort(layout(shape))]
    channels = np.size(node.fields["bias"])
    if each.size == channels:
        return each
    each = each.reshape(channels, -1)
    if np.any(each != each[:, :1]):
        raise NIRError(f"{own}: its bias differs from place to place; {node.type} has one number per channel.")
    return each[:, 0]


def _weight(model: NIRNetwork, edge: Any, node: Node) -> dict[str, Any]:
    """The weight of a changed edge, in NIR's order."""
    first, last = (layout(model.shapes[k]) for k in (edge.pre, edge.post))
    w = np.asarray(edge.weight)
    if node.type in ("Linear", "Affine"):
        back = np.argsort(first)
        if model.dialect.channel_last and len(model.shapes[edge.pre]) > 1:
            back = np.arange(first.size)
        return {"weight": w.T[np.argsort(last)][:, back]}
    if node.type == "Scale":
        return {"scale": np.broadcast_to(w.reshape(-1), first.shape)[np.argsort(first)]}
    if node.type.startswith("Conv"):
        return {"weight": np.moveaxis(w, (-1, -2), (0, 1))}
    raise NIRError(f"{edge.pre} -> {edge.post}: the weight of a {node.type} changed, which NIR does not have.")


def _of_neurons(model: NIRNetwork, old: NIRNetwork, own: str, node: Node) -> dict[str, Any]:
    """The attributes of a neuron that changed."""
    new, was = model.net.nodes[own], old.net.nodes[own]
    assert isinstance(new, DiscreteNeurons)
    assert isinstance(was, DiscreteNeurons)
    dialect, found = model.dialect, {}
    back = np.argsort(layout(model.shapes[own]))

    def moved(field: str) -> np.ndarray | None:
        a, b = getattr(new, field), getattr(was, field)
        if (a is None) != (b is None):
            raise NIRError(f"{own}.{field} is {a!r}, and was {b!r}; a {node.type} has no other form.")
        if a is None or not _changed(a, b):
            return None
        a = np.asarray(a, np.float64)
        return a.reshape(-1)[back] if a.ndim else a

    membrane = "tau" if "tau" in node.fields else "tau_mem"
    times = {"beta": membrane, "alpha": "tau_syn"}
    for field, name in times.items():
        if (x := moved(field)) is not None:
            if name not in node.fields:
                raise NIRError(f"{own}.{field} changed; a {node.type} keeps all.")
            found[name] = dialect.tau(x)
    if (x := moved("v_th")) is not None:
        found["threshold" if node.type == "Threshold" else "v_threshold"] = x
    for field, tau, scale in (("gain_v", membrane, "r"), ("gain_i", "tau_syn", "w_in")):
        x = moved(field)
        if x is None and tau in found and not dialect.whole_input and scale in node.fields:
            x = np.asarray(getattr(new, field), np.float64)
            x = x.reshape(-1)[back] if x.ndim else x
        if x is not None:
            if dialect.whole_input or scale not in node.fields:
                raise NIRError(f"{own}.{field} changed; under {dialect.name} a {node.type} has none.")
            found[scale] = x / dialect.part(found.get(tau, np.asarray(node.fields[tau]).reshape(-1)))
    for field in ("offset_i", "offset_v", "v_start", "i_start"):
        if moved(field) is not None:
            raise NIRError(f"{own}.{field} changed, which NIR cannot say. Move v_threshold or a bias instead.")
    return found
