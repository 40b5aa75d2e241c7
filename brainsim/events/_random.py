"""The counter-based generator, bit for bit that of ops/include/brainsim/random.h.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, doi:10.1145/2063384.2063405): a word is a function of a key (the
seed) and a counter, so nothing is stored, nothing is in order, and whoever knows the counter draws the same number. All
that is made of the words (gaps, normal numbers) is integer arithmetic too, so every backend draws the same.
"""

import math
from functools import cache
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

from ..base import Key

DRAWS = 64
"""Words of a batch: sixteen calls of four words, call l giving the words l, l + 16, l + 32, l + 48."""

BULK, ROWS, WEIGHTS, KEYS, FINE = range(5)
"""Which stream of a seed: the fourth word of the counter."""

LOG_POINT, NORMAL_POINT = 27, 28
"""Bits after the point of logarithms and normal numbers."""

_LOG_BITS, _NORMAL_BITS = 8, 5  # pieces in an octave of the two tables
_LN2 = round(math.log(2.0) * 2**LOG_POINT)


def mulhilo(x: Any, y: Any) -> tuple[Array, Array]:
    """High and low word of the product of two uint32, without 64-bit integers."""
    x_low, x_high, y_low, y_high = x & 0xFFFF, x >> 16, y & 0xFFFF, y >> 16
    cross = x_high * y_low
    middle = ((x_low * y_low) >> 16) + (cross & 0xFFFF) + x_low * y_high
    return x_high * y_high + (cross >> 16) + (middle >> 16), x * y


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Array, Array, Array, Array]:
    """Four random words for a counter of four words and a key of two, all uint32 arrays that broadcast."""
    shape = jnp.broadcast_shapes(*(jnp.shape(x) for x in (*counter, *key)))
    state = tuple(jnp.broadcast_to(jnp.asarray(x, jnp.uint32), shape) for x in counter)

    def turn(i, state):
        x0, x1, x2, x3 = state
        i = i.astype(jnp.uint32)
        high0, low0 = mulhilo(np.uint32(0xD2511F53), x0)
        high1, low1 = mulhilo(np.uint32(0xCD9E8D57), x2)
        k0, k1 = key[0] + i * np.uint32(0x9E3779B9), key[1] + i * np.uint32(0xBB67AE85)
        return high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0

    return lax.fori_loop(0, 10, turn, state)  # unrolled, XLA computes everything again for each of the four words


def draws(seed: UInt32[Array, "2"], batch: Any, segment: Any, row: Any, purpose: int) -> UInt32[Array, "lanes 64"]:
    """The words of a batch for every lane; `batch`, `segment` and `row` are uint32 (lanes,) or ()."""
    lanes = jnp.broadcast_shapes(*(jnp.shape(x) for x in (batch, segment, row)))[0]
    each = DRAWS // 4
    # one axis, which XLA turns into vectors; two short ones it does not
    batch, segment, row = (jnp.repeat(jnp.broadcast_to(x, (lanes,)), each) for x in (batch, segment, row))
    call = batch * np.uint32(each) + jnp.tile(jnp.arange(each, dtype=jnp.uint32), lanes)
    words = philox((call, segment, row, np.uint32(purpose)), (seed[0], seed[1]))
    return jnp.stack([w.reshape(lanes, each) for w in words], axis=1).reshape(lanes, DRAWS)


def _piece(words: Array, bits: int) -> tuple[Array, Array, Array]:
    """Octave of the odd number v = 2 (w mod 2^31) + 1, its piece of the octave, and the place within, of 2^32."""
    v = (words << 1) | np.uint32(1)
    zeros = lax.clz(v)
    m = v << zeros
    return np.uint32(31) - zeros, (m >> (31 - bits)) & np.uint32(2**bits - 1), m << (bits + 1)


def _curve(table: Array, piece: Array, f: Array) -> Array:
    """A decreasing convex function on a piece of an octave: c0 - f (c1 - f c2)."""
    c0, c1, c2 = (table[:, i][piece] for i in range(3))
    return c0 - mulhilo(f, c1 - mulhilo(f, c2)[0])[0]


def negative_log(words: UInt32[Array, "*n"], table: UInt32[Array, "256 3"]) -> UInt32[Array, "*n"]:
    """-ln U with 27 bits after the point, U = (2 (w mod 2^31) + 1) / 2^32; within 2^-23."""
    octave, piece, f = _piece(words, _LOG_BITS)
    return (np.uint32(31) - octave) * np.uint32(_LN2) + _curve(table, piece.astype(jnp.int32), f)


def fixed_normal(words: UInt32[Array, "*n"], table: UInt32[Array, "1024 3"]) -> Array:
    """Standard normal numbers, int32 with 28 bits after the point: the quantile at U / 2, signed; within 1e-6."""
    octave, piece, f = _piece(words, _NORMAL_BITS)
    z = _curve(table, ((octave << _NORMAL_BITS) + piece).astype(jnp.int32), f).astype(jnp.int32)
    return jnp.where(words >> 31 != 0, -z, z)


def _quadratics(function: Any, edges: np.ndarray, point: int) -> np.ndarray:
    """Pieces of a decreasing convex function through both ends and the middle, as three fixed-point numbers each."""
    low, high = edges[:-1], edges[1:]
    y0, y1, y2 = (np.array([function(x) for x in xs]) for xs in (low, (low + high) / 2, high))
    c = np.stack([y0, 3 * y0 - 4 * y1 + y2, 2 * (y0 - 2 * y1 + y2)], axis=1)
    return np.round(c * 2.0**point).astype(np.uint32)


@cache
def log_table() -> np.ndarray:
    """-ln x on [1/2, 1), (256, 3) uint32."""
    return _quadratics(lambda x: -math.log(x), np.linspace(0.5, 1.0, 2**_LOG_BITS + 1), LOG_POINT)


@cache
def normal_table() -> np.ndarray:
    """-quantile(x) of the standard normal law on the octaves of [2^-33, 1/2), (32 * 32, 3) uint32."""
    unit, pieces = NormalDist(), np.linspace(1.0, 2.0, 2**_NORMAL_BITS + 1)
    # + 0.0: the quantile of 1/2 is -0
    octaves = [_quadratics(lambda x: 0.0 - unit.inv_cdf(x), pieces * 2.0 ** (o - 33), NORMAL_POINT) for o in range(32)]
    return np.concatenate(octaves)


def seed_of(key: Key) -> UInt32[Array, "2"]:
    """The seed that a JAX key stands for."""
    data = jax.random.key_data(key)
    return data if data.shape[-1:] == (2,) else jax.random.bits(key, (2,), jnp.uint32)


def bulk_bits(seed: UInt32[Array, "2"], n: int) -> UInt32[Array, " n"]:
    """`n` independent random words; word i depends on the seed and on i only."""
    batch = jnp.arange(-(-n // DRAWS), dtype=jnp.uint32)
    return draws(seed, batch, np.uint32(0), np.uint32(0), BULK).reshape(-1)[:n]


def bulk_normals(seed: UInt32[Array, "2"], table: Array, n: int, dtype: Any) -> Float[Array, " n"]:
    """`n` independent standard normal numbers made of `bulk_bits`."""
    return fixed_normal(bulk_bits(seed, n), table).astype(dtype) * jnp.asarray(2.0**-NORMAL_POINT, dtype)
