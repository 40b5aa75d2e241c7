"""What is wrong with a graph, node by node, and what can be done about it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import unknown
from ._graph import Graph, NIRError, Node
from ._shapes import SHAPED, Shapes, sizes_fit

NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold")
"""Primitives with a state, and the threshold: what becomes a node."""

FIELDS: dict[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Linear": ("weight",),
    "Affine": ("weight", "bias"),
    "Scale": ("scale",),
    "Conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "I": ("r",),
    "IF": ("r", "v_threshold"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in"),
}
"""The primitives of NIR with the attributes that each must have."""

_POSITIVE = ("tau", "tau_syn", "tau_mem")
_WORDS = ("padding",)
_WHOLE = ("stride", "dilation", "groups", "kernel_size", "shape", "start_dim", "end_dim")


@dataclasses.dataclass(frozen=True)
class Problem:
    """One fault of a graph: `rule` is its id, `where` the node, and `repair` what `repair=True` does about it."""

    rule: str
    where: str
    message: str
    repair: str | None = None
    mend: Callable[[Graph], Graph] | None = dataclasses.field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        fix = f" Repair: {self.repair}." if self.repair else ""
        return f"[{self.rule}] {self.where}: {self.message}{fix}"


def check(graph: Graph) -> list[Problem]:
    """Every fault of a graph, its subgraphs included; empty where there is none.

    Rules: NIR-TYPE (no such primitive), NIR-ATTRIBUTE (one is missing or not a number that it can be), NIR-EDGE (an end
    that does not exist, an edge twice), NIR-ENDS (no Input or Output, an edge into an Input), NIR-SHAPE (what is sent
    has not the shape of what takes it), NIR-ORDER (a cycle without a neuron).
    """
    problems = [p for where, node in graph.walk() if isinstance(node, Node) for p in _attributes(where, node)]
    problems += _edges("", graph)
    for where, node in graph.walk():
        if isinstance(node, Graph):
            problems += _edges(f"{where}.", node)
    return problems or _shapes(graph)


def mended(graph: Graph, repair: bool) -> tuple[Graph, list[str]]:
    """The graph, or with `repair` the repaired one and what was done; raises NIRError on what is left."""
    done: list[str] = []
    for _ in range(100):
        problems = check(graph)
        able = [p for p in problems if p.mend is not None]
        if not problems or not repair or len(able) < len(problems):
            break
        assert able[0].mend is not None
        graph = able[0].mend(graph)
        done.append(f"{able[0].where}: {able[0].repair}")
    if problems:
        hint = " All can be repaired: repair=True." if not repair and len(able) == len(problems) else ""
        said = "\n".join(f"  {p}" for p in problems[:20])
        raise NIRError(f"the graph has {len(problems)} fault(s).{hint}\n{said}", tuple(problems))
    return graph, done


def _attributes(where: str, node: Node) -> list[Problem]:
    if node.type not in FIELDS:
        return [Problem("NIR-TYPE", where, unknown("primitive", node.type, FIELDS))]
    found = []
    for name in FIELDS[node.type]:
        if name not in node.fields:
            found.append(Problem("NIR-ATTRIBUTE", where, f"{node.type} without {name!r}."))
            continue
        if (why := _unfit(name, node.fields[name])) is not None:
            found.append(Problem("NIR-ATTRIBUTE", where, f"{node.type}.{name} {why}."))
    if found:
        return found
    return [Problem("NIR-ATTRIBUTE", where, why) for why in SHAPED[node.type](node)] if node.type in SHAPED else []


def _unfit(name: str, x: Any) -> str | None:
    """Why an attribute cannot be what it is for, or None."""
    if isinstance(x, str):
        return None if name in _WORDS and x in ("same", "valid") else f"is the text {x[:40]!r}; expected numbers"
    if not isinstance(x, np.ndarray | np.generic) or x.dtype == object or x.dtype.kind not in "iufb":
        return "is not numeric"
    a: Any = np.asarray(x)
    if not np.all(np.isfinite(a)):
        return "has NaN or infinite entries; expected finite numbers"
    if name in _POSITIVE and not np.all(a > 0):
        return f"goes down to {a.min():g} s; expected time constants > 0"
    if name == "delay" and not np.all(a >= 0):
        return f"goes down to {a.min():g} s; expected delays >= 0"
    if name in _WHOLE + _WORDS and not np.all(a == np.floor(a)):
        return "is not whole"
    if name in ("stride", "dilation", "groups", "kernel_size", "shape") and not np.all(a >= 1):
        return f"goes down to {a.min()}; expected numbers >= 1"
    if name == "padding" and not np.all(a >= 0):
        return f"goes down to {a.min()}; expected numbers >= 0"
    return None


def _edges(prefix: str, graph: Graph) -> list[Problem]:
    found: list[Problem] = []
    where = prefix.rstrip(".") or "the graph"
    named = {k for e in graph.edges for k in e}
    strangers, idle = sorted(named - graph.nodes.keys()), sorted(graph.nodes.keys() - named)
    for name in strangers:
        fix, mend = None, None
        if len(strangers) == 1 and len(idle) == 1:
            fix, mend = (
                f"the edges of {name!r} go to {idle[0]!r}, the one node without edges",
                _renaming(prefix, name, idle[0]),
            )
        found.append(
            Problem(
                "NIR-EDGE",
                where,
                f"edges name a node that is not there: {unknown('node', name, graph.nodes)}",
                fix,
                mend,
            )
        )
    twice = (
        sorted({e for e in graph.edges if graph.edges.count(e) > 1}) if len(set(graph.edges)) < len(graph.edges) else []
    )
    for a, b in twice:
        found.append(
            Problem(
                "NIR-EDGE", where, f"the edge {a!r} -> {b!r} is listed more than once.", "it counts once", _once(prefix)
            )
        )
    types = {k: n.type if isinstance(n, Node) else "NIRGraph" for k, n in graph.nodes.items()}
    for end in ("Input", "Output"):
        if end not in types.values():
            found.append(Problem("NIR-ENDS", where, f"no {end}; a graph has at least one."))
    for a, b in graph.edges:
        if types.get(b) == "Input" or types.get(a) == "Output":
            found.append(Problem("NIR-ENDS", where, f"the edge {a!r} -> {b!r} enters an Input or leaves an Output."))
    if not strangers:
        for name in idle:
            if types[name] not in ("Input", "Output"):
                found.append(Problem("NIR-EDGE", f"{prefix}{name}", "a node without edges."))
    return found


def _within(graph: Graph, prefix: str, change: Callable[[Graph], Graph]) -> Graph:
    """`change` of the subgraph that `prefix` names."""
    if not prefix:
        return change(graph)
    for name, node in graph.nodes.items():
        if isinstance(node, Graph) and prefix.startswith(f"{name}."):
            inner = _within(node, prefix[len(name) + 1 :], change)
            return dataclasses.replace(graph, nodes={k: inner if k == name else n for k, n in graph.nodes.items()})
    return graph


def _renaming(prefix: str, old: str, new: str) -> Callable[[Graph], Graph]:
    def change(graph: Graph) -> Graph:
        edges = [(new if a == old else a, new if b == old else b) for a, b in graph.edges]
        return dataclasses.replace(graph, edges=edges)

    return lambda graph: _within(graph, prefix, change)


def _once(prefix: str) -> Callable[[Graph], Graph]:
    return lambda graph: _within(graph, prefix, lambda g: dataclasses.replace(g, edges=list(dict.fromkeys(g.edges))))


def _reshaping(name: str, shape: tuple[int, ...]) -> Callable[[Graph], Graph]:
    def change(graph: Graph) -> Graph:
        node = graph.nodes[name]
        assert isinstance(node, Node)
        new = dataclasses.replace(node, fields=node.fields | {"shape": np.asarray(shape, np.int64)})
        return dataclasses.replace(graph, nodes=graph.nodes | {name: new})

    return change


def _shapes(graph: Graph) -> list[Problem]:
    """Edges whose ends do not fit, of a graph that is otherwise in order."""
    flat, found = graph.flat(), []
    try:
        shapes = Shapes(flat)
    except NIRError as e:
        return [Problem("NIR-ORDER" if "cycle" in str(e) else "NIR-SHAPE", "the graph", str(e))]
    for a, b in flat.edges:
        sent, wanted = shapes.out[a], shapes.into[b]
        if wanted is None or sent == wanted:
            continue
        node, fix, mend = flat.nodes[b], None, None
        same = math.prod(sent) == math.prod(wanted)
        if same and sizes_fit(sent, wanted) and b in graph.nodes and isinstance(node, Node) and node.type == "Output":
            fix, mend = f"{b!r} takes the shape {sent}", _reshaping(b, sent)
        elif same and isinstance(node, Node) and node.type in NEURONS:
            continue  # one number per neuron, in the order of the numbers
        found.append(Problem("NIR-SHAPE", b, f"takes shape {wanted}, and {a!r} sends {sent}.", fix, mend))
    return found
