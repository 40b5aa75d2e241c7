"""Numbers of events beyond 2^31."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..base import float_dtype, is_traced

_BASE = 2**30


class Count(eqx.Module):
    """The number `high 2^30 + low`, 0 <= low < 2^30: JAX has no integers of 64 bits by default."""

    high: Int[Array, "..."]
    low: Int[Array, "..."]

    @staticmethod
    def zero(shape: tuple[int, ...] = ()) -> "Count":
        """As many zeros."""
        return Count(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))

    def plus(self, n: Int[Array, "..."]) -> "Count":
        """The sum with `n` >= 0."""
        large = n >= _BASE
        total = self.low + jnp.where(large, n - _BASE, n)
        more = total >= _BASE
        high = self.high + large.astype(jnp.int32) + more.astype(jnp.int32)
        return Count(high, jnp.where(more, total - _BASE, total))

    @property
    def real(self) -> Array:
        """The number as a float."""
        dtype = float_dtype()
        return self.high.astype(dtype) * _BASE + self.low.astype(dtype)

    @property
    def whole(self) -> Array | np.ndarray:
        """The number: of 64 bits outside of transformations; inside an int32 that ends at 2^31 - 1."""
        if is_traced(self.high) or is_traced(self.low):
            fits = self.high < 2
            return jnp.where(fits, jnp.where(fits, self.high, 0) * _BASE + self.low, 2**31 - 1)
        return np.asarray(self.high, np.int64) * _BASE + np.asarray(self.low, np.int64)
