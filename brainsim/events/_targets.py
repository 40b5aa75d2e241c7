"""Targets in as few bytes as they need: rows of synapses are read from memory at random, and are most of it.

Post units are numbered in 16 bits where there are at most 2^16 of them (uint16), in 24 bits up to 2^24 (uint8, three to
a target, the lowest first, and one more behind all, as the kernels read four at a time), else in 32 (int32).

In ascending order, the targets of a row are a stretch for each block of post units. Kernels that go through the units
block by block copy such stretches instead of reading targets (`ops/include/brainsim/filed.h`), where rows are neither
too short for that nor too long. Of such a graph the three-byte numbers (then int8) are followed by how long the
stretches are, a byte each, row by row; 255 comes first where one is too long for that.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._pages import empty

_UNCOUNTED = 255  # first of the lengths of a row of which one does not fit a byte


def block_bits(n_post: int) -> int:
    """Log2 of the post units of a block, as the kernels have it."""
    return next(bits for bits in range(13, 17) if n_post >> bits <= 16 or bits == 16)


def n_blocks(n_post: int) -> int:
    """Blocks of the post units."""
    return -(-n_post >> block_bits(n_post))


def stretched(n_pre: int, n_post: int, n_syn: float) -> bool:
    """Whether the lengths of stretches are worth storing, for rows in ascending order."""
    return 1 << 16 < n_post <= 1 << 24 and 2 * n_blocks(n_post) * n_pre < n_syn <= 255 * n_pre


def entries(dtype: Any) -> int:
    """Entries of this type to a target."""
    return 3 if dtype in (np.uint8, np.int8) else 1


def count(stored: Any, n_pre: int, n_post: int) -> int:
    """Number of targets."""
    lengths = n_pre * n_blocks(n_post) if stored.dtype == np.int8 else 0
    return (stored.shape[-1] - lengths) // entries(stored.dtype)


class Rows:
    """Rows of targets 0 <= post < `n_post`, in order, as they are stored; about `expected` are made room for, so that
    they are never in memory twice."""

    def __init__(self, n_pre: int, n_post: int, expected: int, ascending: bool):
        self._n_pre, self._n_post, self._size = n_pre, n_post, 0
        dtype = np.dtype(np.uint16 if n_post <= 1 << 16 else np.uint8 if n_post <= 1 << 24 else np.int32)
        # that they are of use is known only in the end: from somewhat fewer, or more, on
        self.counts = ascending and any(stretched(n_pre, n_post, share * expected) for share in (0.8, 1.0, 1.2))
        self._lengths = np.zeros(n_pre * n_blocks(n_post) if self.counts else 0, np.uint8)
        self._stored = empty(entries(dtype) * expected + self._lengths.size + 1, dtype)

    def add(self, pre: np.ndarray | None, post: np.ndarray) -> None:
        """More synapses, of rows not before those that are in; without `pre` unless it `counts`."""
        if self.counts and pre is not None:
            blocks = n_blocks(self._n_post)
            found = np.bincount((pre - pre[0]) * blocks + (post >> block_bits(self._n_post)))
            of = self._lengths[pre[0] * blocks :][: found.size]
            of[:] = np.minimum(of + found, _UNCOUNTED)
        if entries(self._stored.dtype) == 3:
            post = post.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)
        size = self._size + post.size
        if size + self._lengths.size >= self._stored.size:
            small, self._stored = self._stored, empty(2 * size + self._lengths.size + 1, self._stored.dtype)
            self._stored[: self._size] = small[: self._size]
        self._stored[self._size : size] = post
        self._size = size

    def finish(self) -> Array:
        """All of them."""
        stored, end = self._stored, self._size
        if entries(stored.dtype) == 3:
            counts = self.counts and stretched(self._n_pre, self._n_post, end // 3)
            if counts:
                lengths = self._lengths.reshape(self._n_pre, -1)
                lengths[np.max(lengths, axis=1) == _UNCOUNTED, 0] = _UNCOUNTED
                end += lengths.size
                stored[self._size : end] = self._lengths
            stored[end] = 0
            end += 1
            stored = stored.view(np.int8 if counts else np.uint8)
        return jax.device_put(stored[:end], may_alias=True)  # nobody else has it


def wide(stored: Array, n_syn: int) -> Array:
    """The targets as int32, (n_syn,), behind any axes of a batch."""
    if entries(stored.dtype) == 1:
        return stored.astype(jnp.int32)
    return _joined(*(stored[..., k : 3 * n_syn : 3] for k in range(3)))


def target(stored: Array, j: Array) -> Array:
    """Targets number `j` as int32."""
    if entries(stored.dtype) == 1:
        return stored[j].astype(jnp.int32)
    return _joined(*(stored[3 * j + k] for k in range(3)))


def _joined(low: Array, middle: Array, high: Array) -> Array:
    low, middle, high = (x.astype(jnp.int32) & 0xFF for x in (low, middle, high))
    return low | middle << 8 | high << 16
