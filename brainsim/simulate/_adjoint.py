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
"""`segment(carry, xs, length) -> (carry, ys)`: `length` blocks of steps, differentiable, as one `jax.lax.scan`."""


class AbstractAdjoint(eqx.Module):
    """Runs `length` blocks of steps, in as many segments as it likes; differs in what the backward pass keeps, and in
    what it leaves out."""

    @abc.abstractmethod
    def scan(self, segment: Segment, carry: Any, xs: Any, length: int, report: Callable, block: int) -> tuple[Any, Any]:
        """`(carry, ys)`; between segments, `carry = report(carry, number of blocks done)`, each of `block` steps."""

    def stretch(self, step: Step, params: Any, carry: Any, xs: Any, length: int, block: int) -> tuple[Any, Any]:
        """A segment: `length` times `block` times `step`, with its derivative; the exact one here."""
        return segment(step, params, carry, xs, length, block)


class DirectAdjoint(AbstractAdjoint):
    """Keeps the intermediate values of every step: memory grows with the number of steps. Fastest for short runs."""

    def scan(self, segment, carry, xs, length, report, block):
        return segment(carry, xs, length)


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

    def scan(self, segment, carry, xs, length, report, block):
        return in_segments(segment, carry, xs, length, report, segment_length(length, self.segments))


class TruncatedAdjoint(AbstractAdjoint):
    """Truncated backpropagation through time: the state at the borders of windows of `steps` steps is a constant.

    No gradient reaches further back than its own window. Every window is computed again in the backward pass.
    Source: Williams & Peng 1990, doi:10.1162/neco.1990.2.4.490.

    **Arguments:** `steps`: where all recordings skip steps, a multiple of what their `every` have in common.
    """

    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"TruncatedAdjoint.steps is {self.steps!r}; expected a whole number >= 1.")

    def scan(self, segment, carry, xs, length, report, block):
        if self.steps % block:
            raise ValueError(
                f"TruncatedAdjoint.steps is {self.steps}, but recordings are taken every {block} steps; expected a "
                f"multiple of {block}. Change steps, or `every` of a recording."
            )

        def constant(carry, k):
            """The state of window k > 0; the first begins with the initial state."""

            def one(x):
                return jnp.where(k == 0, x, jax.lax.stop_gradient(x)) if eqx.is_inexact_array(x) else x

            return jax.tree.map(one, carry)

        return in_segments(segment, carry, xs, length, report, self.steps // block, constant)


def in_segments(
    segment: Segment,
    carry: Any,
    xs: Any,
    length: int,
    report: Callable,
    per: int,
    before: Callable[[Any, Any], Any] = lambda carry, k: carry,
) -> tuple[Any, Any]:
    """Checkpointed segments of `per` blocks, and one of those that remain; `before(carry, k)` begins the k-th."""
    per = min(per, length)
    whole = (length // per) * per
    kept = jax.checkpoint(lambda carry, xs: segment(carry, xs, per), prevent_cse=False)

    def outer(carry, k_xs):
        k, xs = k_xs
        carry, ys = kept(before(carry, k), xs)
        return report(carry, (k + 1) * per), ys

    head = jax.tree.map(lambda x: x[:whole].reshape(whole // per, per, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(outer, carry, (jnp.arange(whole // per), head))
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if whole < length:
        rest = jax.tree.map(lambda x: x[whole:], xs)
        carry, rest = segment(before(carry, jnp.asarray(whole // per)), rest, length - whole)
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
