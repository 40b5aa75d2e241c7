"""Bulk noise from the counter-based generator: one word or number for every unit of a population."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt32

from ._primitives import bits_p, normals_p
from ._random import bulk_normals, normal_table


def uniform_bits(seed: UInt32[Array, "2"], n: int) -> UInt32[Array, " n"]:
    """`n` independent random words; word i depends on the seed and on i only, never on `n`, on every backend."""
    return bits_p.bind(lax.stop_gradient(seed), n=n, rank=0)


def normals(seed: UInt32[Array, "2"], n: int, dtype: Any = jnp.float32) -> Float[Array, " n"]:
    """`n` independent standard normal numbers made of `uniform_bits`: multiples of 2^-28 up to 6.34, before rounding.

    The quantile function of the word in fixed point, so that all backends agree bit for bit.
    """
    dtype, seed, table = jnp.dtype(dtype), lax.stop_gradient(seed), jnp.asarray(normal_table())
    if dtype not in (jnp.float32, jnp.float64):
        return bulk_normals(seed, table, n, dtype)
    return normals_p.bind(seed, table, n=n, dtype=dtype, rank=0)
