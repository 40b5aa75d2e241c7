"""The shape of what every node takes and sends; the order in which nodes run within a step."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._graph import Graph, NIRError, Node

Shape = tuple[int, ...]
STATEFUL = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")


def numbers(x: Any, n: int) -> tuple[int, ...]:
    """`n` whole numbers, of one or of n."""
    a = np.asarray(x).astype(int).reshape(-1)
    return tuple(int(v) for v in (np.repeat(a, n) if a.size == 1 else a))


def padding_of(node: Node, axes: int) -> tuple[tuple[int, int], ...]:
    """What is added before and after each axis; 'same' with a stride keeps ceil(size / stride) only for stride 1, and
    adds what PyTorch adds."""
    pad = node.fields["padding"]
    if not isinstance(pad, str):
        return tuple((p, p) for p in numbers(pad, axes))
    if pad == "valid":
        return ((0, 0),) * axes
    kernel, dilation = np.shape(node.fields["weight"])[2:], numbers(node.fields["dilation"], axes)
    whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((w // 2, w - w // 2) for w in whole)


def windows(node: Node) -> tuple[Shape, Shape, tuple[tuple[int, int], ...], Shape]:
    """Kernel, stride, padding and dilation of a convolution or pool."""
    if node.type.endswith("Pool2d"):
        kernel = numbers(node.fields["kernel_size"], 2)
        return kernel, numbers(node.fields["stride"], 2), padding_of(node, 2), (1, 1)
    kernel = np.shape(node.fields["weight"])[2:]
    axes = len(kernel)
    return kernel, numbers(node.fields["stride"], axes), padding_of(node, axes), numbers(node.fields["dilation"], axes)


def slid(node: Node, size: Shape) -> Shape:
    """How many places the window of a convolution or pool has along every axis."""
    parts = zip(size, *windows(node), strict=True)
    return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts)


def flattened(node: Node, shape: Shape) -> Shape:
    """The shape after a Flatten, whose axes do not count the batch."""
    n = len(shape)
    first, last = (int(np.asarray(node.fields[k]).reshape(())) for k in ("start_dim", "end_dim"))
    first, last = first + n if first < 0 else first, last + n if last < 0 else last
    if not 0 <= first <= last < max(n, 1):
        raise NIRError(f"a Flatten of axes {first} to {last} of the shape {shape}.")
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def sizes_fit(a: Shape, b: Shape) -> bool:
    """Whether two shapes differ by axes of length 1 alone."""
    return [n for n in a if n != 1] == [n for n in b if n != 1]


def _linear(node: Node) -> list[str]:
    w = np.shape(node.fields["weight"])
    if len(w) != 2:
        return [f"{node.type}.weight has shape {w}; expected (out, in)."]
    b = np.shape(node.fields.get("bias", np.zeros(w[0])))
    return [] if b == w[:1] else [f"{node.type}.bias has shape {b}; expected {w[:1]}, one number per row of weight."]


def _conv(axes: int) -> Callable[[Node], list[str]]:
    def check(node: Node) -> list[str]:
        w, g, found = np.shape(node.fields["weight"]), np.asarray(node.fields["groups"]).reshape(-1), []
        if len(w) != 2 + axes:
            return [
                f"{node.type}.weight has shape {w}; expected (out, in / groups, {'kernel, ' * axes}).".replace(
                    ", )", ")"
                )
            ]
        if g.size != 1 or w[0] % int(g[0]):
            found.append(f"{node.type}.groups is {node.fields['groups']}; expected a divisor of {w[0]} channels.")
        if np.shape(node.fields["bias"]) != w[:1]:
            found.append(f"{node.type}.bias has shape {np.shape(node.fields['bias'])}; expected {w[:1]}.")
        for name in ("stride", "padding", "dilation"):
            x = node.fields[name]
            if not isinstance(x, str) and np.size(x) not in (1, axes):
                found.append(f"{node.type}.{name} has {np.size(x)} entries; expected 1 or {axes}.")
        return found

    return check


def _pool(node: Node) -> list[str]:
    names = ("kernel_size", "stride", "padding")
    return [
        f"{node.type}.{k} has {np.size(node.fields[k])} entries; expected 1 or 2."
        for k in names
        if np.size(node.fields[k]) not in (1, 2)
    ]


def _alike(node: Node) -> list[str]:
    shapes = {np.shape(x) for x in node.fields.values() if isinstance(x, np.ndarray | np.generic)} - {()}
    return (
        [f"{node.type} has attributes of the shapes {sorted(shapes)}; expected one shape."] if len(shapes) > 1 else []
    )


SHAPED: dict[str, Callable[[Node], list[str]]] = {
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    **dict.fromkeys(STATEFUL, _alike),
}
"""Checks of the shapes of one node's attributes."""


class Shapes:
    """Of a flat graph the order in which nodes run, and by name what every node takes (None: any) and sends."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = {k: n for k, n in graph.nodes.items() if isinstance(n, Node)}
        self.before: dict[str, list[str]] = {k: [] for k in self.nodes}
        for a, b in graph.edges:
            self.before[b].append(a)
        self.order = self._order()
        self.place = {k: i for i, k in enumerate(self.order)}
        self.out: dict[str, Shape] = {}
        self.into: dict[str, Shape | None] = {}
        for name in self.order:
            known = [self.out[a] for a in self.before[name] if a in self.out]
            self.into[name], self.out[name] = self._shape(name, self.nodes[name], known[0] if known else None)

    def _order(self) -> list[str]:
        """Every node after those it reads; a neuron may run once one of its inputs is there: the others are recurrent
        and act a step later."""
        order: list[str] = []
        placed: set[str] = set()
        rest = dict.fromkeys(self.nodes)
        while rest:
            ready = next((k for k in rest if all(a in placed for a in self.before[k])), None)
            if ready is None:
                some = (k for k in rest if self.nodes[k].type in STATEFUL and placed.intersection(self.before[k]))
                ready = next(some, None)
            if ready is None:
                raise NIRError(f"a cycle without a neuron that anything enters: {sorted(rest)[:8]}.")
            order.append(ready)
            placed.add(ready)
            del rest[ready]
        return order

    def _shape(self, name: str, node: Node, sent: Shape | None) -> tuple[Shape | None, Shape]:
        fields, kind = node.fields, node.type
        if kind in ("Input", "Output"):
            shape = numbers(fields["shape"], 1)
            return shape, shape
        if kind in ("Linear", "Affine"):
            out, into = np.shape(fields["weight"])
            return (into,), (out,)
        if kind in STATEFUL or kind in ("Scale", "Delay", "Threshold"):
            names = {"Scale": ("scale",), "Delay": ("delay",), "Threshold": ("threshold",)}.get(kind, tuple(fields))
            own = max((np.shape(fields[k]) for k in names if not isinstance(fields[k], str | dict)), key=len)
            shape = own or sent
            if shape is None:
                raise NIRError(f"{name}: attributes without a shape, and nothing with one comes in.")
            return shape, tuple(int(n) for n in shape)
        if sent is None:
            raise NIRError(f"{name}: a {kind} whose input comes later.")
        if kind == "Flatten":
            return None, flattened(node, sent)
        axes = 1 if kind == "Conv1d" else 2
        if len(sent) != axes + 1:
            raise NIRError(f"{name}: a {kind} takes shapes of {axes + 1} axes (channels first), not {sent}.")
        channels, *size = sent
        if kind.startswith("Conv"):
            w, groups = np.shape(fields["weight"]), numbers(fields["groups"], 1)[0]
            if channels != w[1] * groups:
                raise NIRError(f"{name}: weight {w} in {groups} groups takes {w[1] * groups} channels, not {channels}.")
            channels = w[0]
        out = slid(node, tuple(size))
        if min(out) < 1:
            raise NIRError(f"{name}: the window of this {kind} is larger than its input {tuple(size)}.")
        return sent, (channels, *out)
