"""Integer arithmetic of chips in floating point: exact values, and derivatives that look through the rounding.

Integers are carried as floats, float32 by default, which holds every integer up to 2^24 in magnitude. No intermediate
below leaves that range, so nothing is rounded and neither a fused multiply-add nor another order changes a bit.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LIMIT = 2.0**24
"""Largest magnitude up to which float32 holds every integer."""
DECAY_ONE = 4096.0
"""A decay factor of one: chips multiply by 12-bit fractions."""


def trunc(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x` without its fraction: rounded toward zero."""
    return jnp.where(x < 0, jnp.ceil(x), jnp.floor(x))


@jax.custom_jvp
def decay(x: Float[Array, "..."], keep: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""What is left of `x` after a step, $\mathrm{sign}(x) \lfloor |x|\,keep / 4096 \rfloor$, for integers |x| < 2^24
    and 0 <= keep <= 4096.

    The product has up to 36 bits, so x is split at bit 12: with x = 4096 h + l, sign(l) = sign(x), the result is
    `h keep + trunc(l keep / 4096)`, and |h keep| and |l keep| stay below 2^24. Derivative: that of `x keep / 4096`.
    """
    high = trunc(x * (1.0 / DECAY_ONE))
    low = x - high * DECAY_ONE
    return high * keep + trunc(low * keep * (1.0 / DECAY_ONE))


@decay.defjvp
def _(primals, tangents):
    (x, keep), (dx, dkeep) = primals, tangents
    return decay(x, keep), (dx * keep + dkeep * x) * (1.0 / DECAY_ONE)


def _straight(f):
    """`f` with the derivative of the identity in its first argument."""
    g = jax.custom_jvp(f, nondiff_argnums=tuple(range(1, f.__code__.co_argcount)))
    g.defjvp(lambda *args: (f(args[-2][0], *args[:-2]), args[-1][0]))
    g.__doc__ = f.__doc__
    return g


@_straight
def wrap_turns(x: Float[Array, "..."], bits: int) -> Float[Array, "..."]:
    """`x` as a two's complement number of `bits` bits after any number of turns.

    Exact for |x| + 2^(bits - 1) < 2^24, and where x is a multiple of 64 for 64 times as much. Derivative: that of the
    identity.
    """
    half, turn = 2.0 ** (bits - 1), 2.0**bits
    return x - turn * jnp.floor((x + half) * (1.0 / turn))


@_straight
def shift_down(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The integer at or below `x`: what an arithmetic shift to the right leaves. Derivative: that of the identity."""
    return jnp.floor(x)


@_straight
def nearest(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The integer nearest to `x`, halves to the even one. Derivative: that of the identity."""
    return jnp.round(x)
