"""Targets in as few bytes as they need: rows of synapses are read from memory at random, and are most of it.

Post units are numbered in 16 bits where there are at most 2^16 of them (uint16), in 24 bits up to 2^24 (uint8, three to
a target, the lowest first, and one more behind the last, as the kernels read four at a time), else in 32 (int32).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array


def stored_type(n_post: int) -> np.dtype:
    """The type of the entries in which targets among `n_post` units are stored."""
    return np.dtype(np.uint16 if n_post <= 1 << 16 else np.uint8 if n_post <= 1 << 24 else np.int32)


def entries(dtype: Any) -> int:
    """Entries of this type to a target."""
    return 3 if dtype == np.uint8 else 1


def stored_size(dtype: Any, n_syn: int) -> int:
    """Entries of this type to `n_syn` targets."""
    return entries(dtype) * n_syn + (dtype == np.uint8)


def count(stored: Any) -> int:
    """Number of targets."""
    return stored.shape[-1] // entries(stored.dtype)


def narrow(indices: np.ndarray, n_post: int) -> np.ndarray:
    """Targets 0 <= indices < n_post, one axis, as they are stored."""
    dtype = stored_type(n_post)
    if entries(dtype) == 1:
        return indices.astype(dtype, copy=False)
    stored = np.zeros(stored_size(dtype, indices.size), dtype)
    stored[:-1].reshape(-1, 3)[:] = indices.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    return stored


def wide(stored: Array) -> Array:
    """The targets as int32, (n_syn,), behind any axes of a batch."""
    if stored.dtype != np.uint8:
        return stored.astype(jnp.int32)
    return _joined(*(stored[..., k:-1:3] for k in range(3)))


def target(stored: Array, j: Array) -> Array:
    """Targets number `j` as int32."""
    if stored.dtype != np.uint8:
        return stored[j].astype(jnp.int32)
    return _joined(*(stored[3 * j + k] for k in range(3)))


def _joined(low: Array, middle: Array, high: Array) -> Array:
    low, middle, high = (x.astype(jnp.int32) for x in (low, middle, high))
    return low | middle << 8 | high << 16
