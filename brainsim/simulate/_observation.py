"""Recordings with a state of their own, which follow every step and keep few samples."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..base import float_dtype
from ..core import AbstractGraph, Emitted, Network, Parts, State, View
from ._saveat import AbstractRecording


class AbstractObservation(AbstractRecording):
    """A recording that follows what `sample` sees of every step, and makes one sample of its own of `every` steps.

    Its state is part of `State`, so that a run that goes on from a state, and a `stream`, go on with it.
    """

    @abc.abstractmethod
    def begin(self, sample: Any, net: AbstractGraph, dt: float) -> Any:
        """Its state before the first of the steps of `dt` ms, of whose samples one has the shapes of `sample`."""

    @abc.abstractmethod
    def follow(
        self, state: Any, rows: Any, first: Int[Array, ""], net: AbstractGraph, dt: float
    ) -> tuple[Any, Float[Array, "slots ..."]]:
        """Its state after the steps from number `first` of the run on, which have the samples `rows`; and
        `slots(length, every)` samples of its own, the j-th that of number `first // every + j`. What is there before
        its last step has come is not read."""


def slots(length: int, every: int) -> int:
    """How many windows of `every` steps `length` steps touch at most."""
    return (length + every - 2) // every + 1


def ends(first: Int[Array, ""], length: int, every: int) -> Int[Array, " slots"]:
    """The row, among those of the steps from `first` on, at which each window ends; the last row where it does not."""
    return jnp.minimum(every * (jnp.arange(slots(length, every), dtype=jnp.int32) + 1) - 1 - first % every, length - 1)


def means(
    part: Array, rows: Float[Array, "length ..."], first: Int[Array, ""], every: int
) -> tuple[Array, Float[Array, "slots ..."], Bool[Array, " slots"]]:
    """Of windows of `every` steps: what is left in the last one, the means, and which of them are complete. `part` is
    what was left before. One row after the other is added, so that a sum is the same however a run is divided."""
    length, n = rows.shape[0], slots(rows.shape[0], every)
    at = first % every
    window = (at + jnp.arange(length, dtype=jnp.int32)) // every
    sums = jnp.zeros((n, *rows.shape[1:]), rows.dtype).at[0].set(part)
    sums = sums.at[window].add(rows, indices_are_sorted=True, mode="promise_in_bounds")
    complete = (at + length) // every
    left = jnp.where(complete < n, sums[jnp.minimum(complete, n - 1)], 0.0)
    return left, sums * (1.0 / every), jnp.arange(n, dtype=jnp.int32) < complete


def placed(windows: Array, found: Array, first: Int[Array, ""], length: int, every: int) -> Array:
    """`windows` with the samples `found` that `length` steps from `first` on complete."""
    number = first // every + jnp.arange(found.shape[0], dtype=jnp.int32)
    at = jnp.where((number + 1) * every <= first + length, number, windows.shape[0] + number)
    # unique: the derivative of a general scatter would keep a mask of all windows
    return windows.at[at].set(found, unique_indices=True, mode="drop")


def views_like(net: AbstractGraph, state: State) -> Parts[View]:
    """Views like those of a step."""
    views = {}
    for name, node in state.nodes.items():
        value = jnp.zeros(net.nodes[name].size, float_dtype())
        views[name] = View(node.y, node.z, Emitted(value), jnp.zeros((), value.dtype))
    return Parts(views, net.parts)


def with_recording_states(net: Network, state: State, recordings: Sequence[Any]) -> State:
    """`state` with a state for every observation: the one it has, or an initial one where there is none like it."""
    followed = [r for r in recordings if isinstance(r, AbstractObservation)]
    if not followed:
        return state

    def begun():
        ready = net.at(state.dt).ready()
        views, nodes, edges = views_like(ready, state), Parts(ready.nodes, ready.parts), Parts(state.edges, ready.parts)
        return {r.key: r.sample(views, nodes, edges) for r in followed}

    shapes = jax.eval_shape(begun)
    new = {r.key: r.begin(shapes[r.key], net, state.dt) for r in followed}
    shape = lambda tree: jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)  # noqa: E731
    known = {k: x for k, x in state.recordings.items() if k not in new or shape(x) == shape(new[k])}
    return dataclasses.replace(state, recordings=new | known)
