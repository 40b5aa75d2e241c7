"""How the run is differentiated: which intermediate states are kept and which are computed again."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

Segment = Callable[[Any, Any, int], tuple[Any, Any]]
"""`segment(carry, xs, length) -> (carry, ys)`: `length` steps, differentiable, as one `jax.lax.scan`."""


class AbstractAdjoint(eqx.Module):
    """Runs `length` steps, in as many segments as it likes; differs in what the backward pass keeps."""

    @abc.abstractmethod
    def scan(self, segment: Segment, carry: Any, xs: Any, length: int, report: Callable) -> tuple[Any, Any]:
        """`(carry, ys)`; between segments, `carry = report(carry, number of steps done)`."""


class DirectAdjoint(AbstractAdjoint):
    """Keeps the intermediate values of every step: memory grows with the number of steps. Fastest for short runs."""

    def scan(self, segment, carry, xs, length, report):
        return segment(carry, xs, length)


class CheckpointedAdjoint(AbstractAdjoint):
    """Keeps the state at the borders of `segments` segments and computes each segment again in the backward pass.

    With `segments=None`, about the square root of the number of steps: memory O(sqrt(T)) for at most one more forward
    pass.
    Source: Griewank & Walther 2000, one level.
    """

    segments: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.segments is not None and (not isinstance(self.segments, int) or self.segments < 1):
            raise ValueError(
                f"CheckpointedAdjoint.segments is {self.segments!r}; expected a whole number >= 1 or None."
            )

    def scan(self, segment, carry, xs, length, report):
        per = segment_length(length, self.segments)
        whole = (length // per) * per
        kept = jax.checkpoint(lambda carry, xs: segment(carry, xs, per), prevent_cse=False)

        def outer(carry, k_xs):
            k, xs = k_xs
            carry, ys = kept(carry, xs)
            return report(carry, (k + 1) * per), ys

        head = jax.tree.map(lambda x: x[:whole].reshape(whole // per, per, *x.shape[1:]), xs)
        carry, ys = jax.lax.scan(outer, carry, (jnp.arange(whole // per), head))
        ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
        if whole < length:
            carry, rest = segment(carry, jax.tree.map(lambda x: x[whole:], xs), length - whole)
            ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, rest)
        return carry, ys


def segment_length(length: int, segments: int | None) -> int:
    """Steps per segment: a divisor of `length` near its square root where there is one, else the square root itself."""
    if length < 2:
        return max(length, 1)
    if segments is not None:
        return max(1, length // min(segments, length))
    root = math.isqrt(length)
    for offset in range(root):
        for per in (root + offset, root - offset):
            if 0.25 * root <= per <= 4 * root and length % per == 0:
                return per
    return root
