"""How the run is differentiated: which intermediate states are kept and which are computed again."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ._segment import Step, segment

Segment = Callable[[Any, Any, int], tuple[Any, Any]]
"""`segment(carry, xs, length) -> (carry, ys)`: `length` steps, differentiable, as one `jax.lax.scan`."""

Thin = Callable[[Any, Any, Any, int], tuple[Any, Any]]
"""`thin(kept, ys, first, length) -> (kept, ys)` after the `length` steps from step `first` on: moves what is thinned
out of their rows `ys` into `kept`, which no segment sees, and returns the rows that are stacked."""


class AbstractAdjoint(eqx.Module):
    """Runs `length` steps, in as many segments as it likes; differs in what the backward pass keeps, and in what it
    leaves out."""

    @abc.abstractmethod
    def scan(self, segment: Segment, carry: Any, kept: Any, xs: Any, length: int, thin: Thin) -> tuple[Any, Any, Any]:
        """`(carry, kept, ys)`, with `kept` and the stacked `ys` by `thin` after every segment."""

    def stretch(self, step: Step, params: Any, carry: Any, xs: Any, length: int) -> tuple[Any, Any]:
        """A segment: `length` times `step`, with its derivative; the exact one here."""
        return segment(step, params, carry, xs, length)


class DirectAdjoint(AbstractAdjoint):
    """Keeps the intermediate values of every step: memory grows with the number of steps. Fastest for short runs.

    All of them: of synapses that learn too, in every step. The others undo what these have learnt step by step.
    """

    def scan(self, segment, carry, kept, xs, length, thin):
        return in_one(segment, carry, kept, xs, length, thin)

    def stretch(self, step, params, carry, xs, length):
        return segment(step, params, carry, xs, length, undo=False)


class CheckpointedAdjoint(AbstractAdjoint):
    """Keeps the state at the borders of `segments` segments and computes each segment again in the backward pass.

    With `segments=None`, about the square root of the number of steps: memory O(sqrt(T)) for at most one more forward
    pass. Source: Griewank & Walther 2000, one level.
    """

    segments: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.segments is not None and (not isinstance(self.segments, int) or self.segments < 1):
            raise ValueError(
                f"CheckpointedAdjoint.segments is {self.segments!r}; expected a whole number >= 1 or None."
            )

    def scan(self, segment, carry, kept, xs, length, thin):
        return in_segments(segment, carry, kept, xs, length, thin, segment_length(length, self.segments))


class TruncatedAdjoint(AbstractAdjoint):
    """Truncated backpropagation through time: the state at the borders of windows of `steps` steps is a constant.

    No gradient reaches further back than its own window. Every window is computed again in the backward pass.
    Source: Williams & Peng 1990, doi:10.1162/neco.1990.2.4.490.
    """

    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"TruncatedAdjoint.steps is {self.steps!r}; expected a whole number >= 1.")

    def scan(self, segment, carry, kept, xs, length, thin):
        def constant(carry, k):
            """The state of window k > 0; the first begins with the initial state."""

            def one(x):
                return jnp.where(k == 0, x, jax.lax.stop_gradient(x)) if eqx.is_inexact_array(x) else x

            return jax.tree.map(one, carry)

        return in_segments(segment, carry, kept, xs, length, thin, self.steps, constant)


def in_one(
    segment: Segment, carry: Any, kept: Any, xs: Any, length: int, thin: Thin, first: Any = 0
) -> tuple[Any, Any, Any]:
    """One segment from step `first` on."""
    carry, ys = segment(carry, xs, length)
    return carry, *thin(kept, ys, jnp.asarray(first, jnp.int32), length)


def in_segments(
    segment: Segment,
    carry: Any,
    kept: Any,
    xs: Any,
    length: int,
    thin: Thin,
    per: int,
    before: Callable[[Any, Any], Any] = lambda carry, k: carry,
) -> tuple[Any, Any, Any]:
    """Checkpointed segments of `per` steps, and one of those that remain; `before(carry, k)` begins the k-th."""
    per = min(per, length)
    whole = (length // per) * per
    again = jax.checkpoint(lambda carry, xs, per: segment(carry, xs, per), prevent_cse=False, static_argnums=2)

    def outer(carry_kept, k_xs):
        (carry, kept), (k, xs) = carry_kept, k_xs
        carry, kept, ys = in_one(again, before(carry, k), kept, xs, per, thin, k * per)
        return (carry, kept), ys

    head = jax.tree.map(lambda x: x[:whole].reshape(whole // per, per, *x.shape[1:]), xs)
    (carry, kept), ys = jax.lax.scan(outer, (carry, kept), (jnp.arange(whole // per, dtype=jnp.int32), head))
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if whole < length:
        rest, k = jax.tree.map(lambda x: x[whole:], xs), jnp.asarray(whole // per, jnp.int32)
        carry, kept, rest = in_one(segment, before(carry, k), kept, rest, length - whole, thin, whole)
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, rest)
    return carry, kept, ys


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
