"""A line of past values: what a synapse sees late."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..core import ring_slot


class Line(NamedTuple):
    """The values of the last `depth` steps, row `n % depth` that of step n."""

    depth: int

    def init(self, start: Float[Array, " n"]) -> Float[Array, "depth n"]:
        """The line before time 0: nothing but `start` has been."""
        return jnp.broadcast_to(start, (self.depth, *start.shape))

    def put(self, line: Array, x: Array, n: Int[Array, ""]) -> Array:
        """The line with the value of step `n`."""
        return jax.lax.dynamic_update_index_in_dim(line, x, ring_slot(n, self.depth), 0)

    def at(self, line: Array, n: Int[Array, ""], late: Any) -> Array:
        """The value of `late` steps ago."""
        return jax.lax.dynamic_index_in_dim(line, ring_slot(n + self.depth - late, self.depth), 0, keepdims=False)

    def by_age(self, line: Array, n: Int[Array, ""]) -> Array:
        """The values of unit i at age a, at `i * depth + a`."""
        rows = jax.lax.rem(n + self.depth - jnp.arange(self.depth, dtype=n.dtype), jnp.asarray(self.depth, n.dtype))
        return line[rows].T.reshape(-1)
