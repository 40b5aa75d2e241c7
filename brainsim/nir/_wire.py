"""A graph as one stream of bytes: JSON for what is small, the arrays behind it. Nothing in it can be executed."""

import json
import struct
from typing import Any, BinaryIO

import numpy as np

from ._graph import Graph, Node

_HEAD = struct.Struct("<QQ")


def _packed(x: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(x, Graph):
        nodes = {k: _packed(n, arrays) for k, n in x.nodes.items()}
        rest = _packed([x.metadata, x.others], arrays)
        return {"graph": [nodes, [list(e) for e in x.edges], x.version, rest]}
    if isinstance(x, Node):
        return {"node": [x.type, _packed([x.fields, x.metadata], arrays)]}
    if isinstance(x, dict):
        return {"dict": [[k, _packed(v, arrays)] for k, v in x.items()]}
    if isinstance(x, list):
        return [_packed(v, arrays) for v in x]
    if isinstance(x, np.ndarray) and x.dtype == object:
        return {"text": [list(x.shape), [str(s) for s in x.reshape(-1)]]}
    if isinstance(x, np.ndarray | np.generic):
        a = np.asarray(x)
        arrays.append(np.ascontiguousarray(a))
        return {"array": [a.dtype.str, list(a.shape), isinstance(x, np.generic)]}
    return {"str": x}


def _unpacked(x: Any, take: Any) -> Any:
    if isinstance(x, list):
        return [_unpacked(v, take) for v in x]
    ((kind, held),) = x.items()
    if kind == "graph":
        nodes, edges, version, rest = held
        built = {k: _unpacked(n, take) for k, n in nodes.items()}
        metadata, others = _unpacked(rest, take)
        return Graph(built, [(a, b) for a, b in edges], version, metadata, others)
    if kind == "node":
        return Node(held[0], *_unpacked(held[1], take))
    if kind == "dict":
        return {k: _unpacked(v, take) for k, v in held}
    if kind == "text":
        return np.array(held[1], object).reshape(held[0])
    if kind == "array":
        dtype, shape, scalar = held
        a = take(np.dtype(dtype), shape)
        return a[()] if scalar else a
    return held


def send(x: Any, to: BinaryIO) -> None:
    """Write a graph, or a plain string in its place."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_packed(x, arrays)).encode()
    to.write(_HEAD.pack(len(text), sum(a.nbytes for a in arrays)))
    to.write(text)
    for a in arrays:
        to.write(a.tobytes())
    to.flush()


def size_of(head: bytes) -> int:
    """Number of bytes that follow a head of `HEAD` bytes."""
    return sum(_HEAD.unpack(head))


HEAD = _HEAD.size


def received(head: bytes, body: bytes) -> Any:
    """What was sent."""
    n, _ = _HEAD.unpack(head)
    at = n

    def take(dtype: np.dtype, shape: list[int]) -> np.ndarray:
        nonlocal at
        count = int(np.prod(shape, dtype=object))
        a = np.frombuffer(body, dtype, count, at).reshape(shape).copy()
        at += count * dtype.itemsize
        return a

    return _unpacked(json.loads(body[:n]), take)
