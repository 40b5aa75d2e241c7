"""Points in time that stay exact however long a run: whole milliseconds as integers, the rest as a fraction."""

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import float_dtype, is_traced, parameter

_FAR = 2.0**30  # ms: twelve days


class Instant(NamedTuple):
    """`whole + part` ms; `part` is about 0 to 1."""

    whole: Int[Array, "..."]
    part: Float[Array, "..."]

    def since(self, other: "Instant") -> Float[Array, "..."]:
        """The time from `other` to this one (ms)."""
        return (self.whole - other.whole).astype(self.part.dtype) + (self.part - other.part)


@lru_cache(maxsize=64)
def _ratio(dt: float) -> tuple[int, int, float]:
    """`dt = p / q + rest`, with p q below 2^31 so that integers hold `n p / q`."""
    near = Fraction(dt).limit_denominator(max(int((2.0**30 / max(dt, 1e-6)) ** 0.5), 1))
    rest = float(Fraction(dt) - near)
    return near.numerator, near.denominator, rest if abs(rest) > 1e-12 * dt else 0.0


def instant_of_step(n: Int[Array, ""], dt: float, late: float) -> Instant:
    """The time `(n + late) dt` for a number of steps n >= 0; exact in integers for a `dt` that is a ratio of small
    integers, as decimal steps are."""
    p, q, rest = _ratio(dt)
    p, q = (jnp.asarray(x, n.dtype) for x in (p, q))
    below = jax.lax.rem(n, q) * p  # n = a q + b: n p / q = a p + b p / q
    whole = jax.lax.div(n, q) * p + jax.lax.div(below, q)
    kind = float_dtype()
    part = jax.lax.rem(below, q).astype(kind) / q.astype(kind) + late * dt
    return Instant(whole, part + n.astype(kind) * rest if rest else part)


class Exact(eqx.Module):
    """What float32 leaves out of the numbers of a parameter: `x + low` where the parameter x is still `high`.

    A parameter that was changed since, by `eqx.tree_at` or in training, is what it says.
    """

    high: Float[Array, "..."]
    low: Float[Array, "..."]

    @staticmethod
    def of(given: Any) -> "Exact":
        """For a parameter with the numbers `given`, which `parameter` has converted or will convert."""
        high = parameter(given)
        if is_traced(high) or isinstance(given, jax.Array) or not isinstance(high, jax.Array):
            return Exact(high, jnp.zeros_like(high) if isinstance(high, jax.Array) else high)
        low = np.asarray(given, np.float64) - np.asarray(high, np.float64)
        return Exact(high, jnp.asarray(np.where(np.isfinite(low), low, 0.0), high.dtype))

    def rest(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """What to add to the parameter `x`."""
        if jnp.shape(x) != jnp.shape(self.high):
            return jnp.zeros_like(x)
        return jax.lax.stop_gradient(jnp.where(x == self.high, self.low, jnp.zeros_like(self.low)))

    def numbers(self, x: Any) -> np.ndarray:
        """The parameter `x`, which is not traced, in float64."""
        whole = np.asarray(x, np.float64)
        if np.shape(x) != jnp.shape(self.high) or is_traced(self.high) or is_traced(self.low):
            return whole
        return whole + np.where(whole == np.asarray(self.high, np.float64), np.asarray(self.low, np.float64), 0.0)

    def instant(self, x: Float[Array, "..."]) -> Instant:
        """The parameter `x` (ms) as an instant; its part has the derivative of `x`."""
        near = jnp.clip(x, -_FAR, _FAR)
        whole = jax.lax.stop_gradient(jnp.floor(near))
        return Instant(whole.astype(jnp.int32), (near - whole) + self.rest(x))

    def at(self, k: Int[Array, ""]) -> "Exact":
        """Entry `k`."""
        return Exact(self.high[k], self.low[k])


def earlier(times: Float[Array, " k"], exact: Exact, t: Instant) -> Int[Array, ""]:
    """How many of the ascending `times` are before `t`: a binary search."""
    n = times.shape[0]
    same = jnp.shape(exact.high) == jnp.shape(times)

    def halve(_, bounds):
        low, high = bounds
        mid = (low + high) // 2
        one = exact.at(mid) if same else Exact(times[mid], jnp.zeros_like(times[mid]))
        before = one.instant(times[mid]).since(t) < 0
        return jnp.where(before & (low < high), mid + 1, low), jnp.where(before | (low >= high), high, mid)

    start = jnp.zeros((), jnp.int32), jnp.asarray(n, jnp.int32)
    return jax.lax.fori_loop(0, n.bit_length(), halve, start)[0] if n else start[0]
