"""NIR graphs as data: nodes with their attributes as the file has them, and edges."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np


class NIRError(ValueError):
    """A NIR file or graph that cannot be used; `problems` lists what is wrong with it."""

    def __init__(self, message: str, problems: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems
        """Of a malformed graph every `Problem`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One primitive: its `type` and the attributes of the file, with their types and shapes; `metadata` beside them."""

    type: str
    fields: dict[str, Any]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Node)
            and self.type == other.type
            and _same((self.fields, self.metadata), (other.fields, other.metadata))
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A NIR graph: `nodes` by name, each a `Node` or a `Graph`, and `edges` as pairs of names.

    Two graphs are equal where every attribute is, bit for bit and in type and shape; the order of edges counts.
    """

    nodes: dict[str, "Node | Graph"]
    edges: list[tuple[str, str]]
    version: str = "1.0.8"
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Attributes that the format does not name, kept for the way back."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Graph)
            and self.nodes.keys() == other.nodes.keys()
            and all(self.nodes[k] == other.nodes[k] for k in self.nodes)
            and self.edges == other.edges
            and _same((self.metadata, self.others), (other.metadata, other.others))
        )

    def flat(self) -> "Graph":
        """The graph without subgraphs: the node b of a subgraph a is called a.b; their Input and Output are joined."""
        nodes: dict[str, Node | Graph] = {}
        edges = list(self.edges)
        for name, node in self.nodes.items():
            if not isinstance(node, Graph):
                nodes[name] = node
                continue
            inner = node.flat()
            enters = [k for k, n in inner.nodes.items() if isinstance(n, Node) and n.type == "Input"]
            leaves = [k for k, n in inner.nodes.items() if isinstance(n, Node) and n.type == "Output"]
            own = {k: f"{name}.{k}" for k in inner.nodes}
            nodes |= {own[k]: n for k, n in inner.nodes.items() if k not in (*enters, *leaves)}
            first = [b for a, b in inner.edges if a in enters]
            last = [a for a, b in inner.edges if b in leaves]
            within = [(own[a], own[b]) for a, b in inner.edges if a not in enters and b not in leaves]
            outside = []
            for a, b in edges:
                starts = [own[k] for k in last] if a == name else [a]
                ends = [own[k] for k in first] if b == name else [b]
                outside += [(p, q) for p in starts for q in ends]
            edges = outside + within
        return Graph(nodes, edges, self.version, self.metadata, self.others)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Node | Graph"]]:
        """Every node and subgraph with its full name."""
        for name, node in self.nodes.items():
            yield prefix + name, node
            if isinstance(node, Graph):
                yield from node.walk(f"{prefix}{name}.")


def _same(a: Any, b: Any) -> bool:
    """Whether attributes have the same bits, types and shapes."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray | np.generic) and isinstance(b, np.ndarray | np.generic):
        x, y = np.asarray(a), np.asarray(b)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
    return type(a) is type(b) and a == b
