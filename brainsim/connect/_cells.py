"""Units in nested boxes, and the pairs of boxes between which a kernel is nearly flat."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ._kernels import AbstractKernel

WASTE = 8
"""A pair of boxes is split while its bound promises more candidates than its far end: a quarter of all, and this number
for each pair of children."""

DEEPEST = 62
"""Bits of a box number."""


class Level(NamedTuple):
    """The boxes of one depth, those with units in them, in the order of the units."""

    start: Int[np.ndarray, " c"]  # first unit, in the order of the tree
    size: Int[np.ndarray, " c"]  # number of units
    low: Float[np.ndarray, "dims c"]  # corners of the smallest box around the units
    high: Float[np.ndarray, "dims c"]
    child: Int[np.ndarray, " c"]  # first child in the next level; the last level is its own
    children: Int[np.ndarray, " c"]


class Leaves(NamedTuple):
    """Pairs of boxes that together hold every pair of units at most once, and all that can be connected."""

    start_pre: Int[np.ndarray, " m"]
    size_pre: Int[np.ndarray, " m"]
    start_post: Int[np.ndarray, " m"]
    size_post: Int[np.ndarray, " m"]
    bound: Float[np.ndarray, " m"]

    @property
    def pairs(self) -> Int[np.ndarray, " m"]:
        """Pairs of units in each pair of boxes."""
        return self.size_pre * self.size_post


def lengths(delta: Float[np.ndarray, "dims *n"], extent: Float[np.ndarray, " dims"]) -> Float[np.ndarray, "*n"]:
    """Euclidean length of coordinate differences, the shorter way round where `extent` is finite.

    Summed in one fixed order, so that it grows with every coordinate, rounding included.
    """
    total = np.zeros(delta.shape[1:])
    for d, period in zip(delta, extent, strict=True):
        d = np.abs(d)
        total += np.minimum(d, period - d) ** 2 if np.isfinite(period) else d**2
    return np.sqrt(total)


def tree(positions: Float[np.ndarray, "dims n"]) -> tuple[Int[np.ndarray, " n"], list[Level]]:
    """The order of the units along a Morton curve, and the levels of boxes, halved in each dimension, from the root."""
    dims, n = positions.shape
    depth = min(DEEPEST // dims, 1 + int(np.ceil(np.log2(max(n, 2)) / dims)))
    low = positions.min(axis=1, keepdims=True)
    span = positions.max(axis=1, keepdims=True) - low
    scale = np.divide(2.0**depth, span.max() or 1.0)  # cubes: a flat cloud is not cut across its flat side
    cell = np.minimum((positions - low) * scale, 2**depth - 1).astype(np.int64)
    code = np.zeros(n, np.int64)
    for bit in range(depth - 1, -1, -1):
        for axis in range(dims):
            code = (code << 1) | ((cell[axis] >> bit) & 1)
    order = np.argsort(code, kind="stable")
    code, ordered = code[order], positions[:, order]
    starts = [np.flatnonzero(np.diff(code >> (dims * (depth - g)), prepend=-1)) for g in range(depth + 1)]
    levels = []
    for g, start in enumerate(starts):
        if g < depth:
            child = np.searchsorted(starts[g + 1], start)
            children = np.diff(child, append=starts[g + 1].size)
        else:
            child, children = np.arange(start.size), np.ones(start.size, np.int64)
        box = np.minimum.reduceat(ordered, start, axis=1), np.maximum.reduceat(ordered, start, axis=1)
        levels.append(Level(start, np.diff(start, append=n), *box, child, children))
    return order, levels


def leaves(pre: list[Level], post: list[Level], kernel: AbstractKernel, extent: Float[np.ndarray, " dims"]) -> Leaves:
    """Split pairs of boxes from the roots downward until the kernel is nearly flat between them or they are small."""
    found = []
    a, b = np.zeros(1, np.int64), np.zeros(1, np.int64)
    last = max(len(pre), len(post)) - 1
    for g in range(last + 1):
        A, B = pre[min(g, len(pre) - 1)], post[min(g, len(post) - 1)]
        near, far = _apart(A, B, a, b, extent)
        bound = np.minimum(np.asarray(kernel.bound(near, far), float), 1.0)
        pairs = (A.size[a] * B.size[b]).astype(float)
        waste = (bound - np.asarray(kernel(far), float)) * pairs
        split = (waste > WASTE * 4**extent.size) & (waste > 0.25 * bound * pairs) & (g < last)
        done = ~split & (bound > 0)
        found.append(Leaves(A.start[a[done]], A.size[a[done]], B.start[b[done]], B.size[b[done]], bound[done]))
        a, b = _children(A, B, a[split], b[split], g < len(pre) - 1, g < len(post) - 1)
    return Leaves(*(np.concatenate(x) for x in zip(*found, strict=True)))


def _apart(A: Level, B: Level, a: np.ndarray, b: np.ndarray, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the distance between units of paired boxes, below and above."""
    apart = np.maximum(B.low[:, b] - A.high[:, a], A.low[:, a] - B.high[:, b])
    across = np.maximum(B.high[:, b] - A.low[:, a], A.high[:, a] - B.low[:, b])
    period = extent[:, None]
    open_ = np.full(extent.size, np.inf)
    near = np.minimum(np.maximum(apart, 0.0), period - across)
    return lengths(near, open_), lengths(np.minimum(across, period / 2), open_)


def _children(A: Level, B: Level, a: np.ndarray, b: np.ndarray, down_a: bool, down_b: bool) -> tuple:
    """All pairs of the children of paired boxes; a side at its last level stays as it is."""
    first_a, count_a = (A.child[a], A.children[a]) if down_a else (a, np.ones_like(a))
    first_b, count_b = (B.child[b], B.children[b]) if down_b else (b, np.ones_like(b))
    count = count_a * count_b
    parent = np.repeat(np.arange(a.size), count)
    i = np.arange(parent.size) - np.repeat(np.cumsum(count) - count, count)
    return first_a[parent] + i // count_b[parent], first_b[parent] + i % count_b[parent]
