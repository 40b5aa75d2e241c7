"""`Deposit`: what an edge sends, on its way into the ring of a port."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..events import AbstractMap, Convolution, deposit, deposit_all, propagate
from ._state import ring_slot
from ._wiring import Part


class Deposit(eqx.Module):
    """Arrivals on their way: to be added to the ring of `node.port`, `steps` steps from now.

    Either events over a topology, or (topology None) a row `value`; `part` are the units of the port that a row or the
    columns of a `Dense` belong to.
    """

    node: str = eqx.field(static=True)
    port: str = eqx.field(static=True)
    value: Float[Array, "*steps n"]
    steps: Int[Array, "..."]
    topology: Any = None
    weight: Any = None
    support: Array | None = None
    words: Array | None = None
    first: int = eqx.field(static=True, default=0)  # the unit of `value` that is row 0 of the topology
    part: Part | None = eqx.field(static=True, default=None)

    def add_to(
        self, ring: Float[Array, "depth width"], n: Int[Array, ""], every: int = 1
    ) -> Float[Array, "depth width"]:
        """`ring` with this deposit added; `n` is the present step, and the node runs once in `every` steps."""
        each = self.steps if self.steps.ndim else None
        if each is not None and every > 1:
            raise ValueError(
                f"an edge to {self.node}.{self.port} has a delay for every synapse, but the node runs once in {every} "
                "steps (Every); expected one delay. Give the edge a number, or the node another solver."
            )
        slot = ring_slot(n if self.steps.ndim else n + self.steps, ring.shape[0], every)
        rows: dict[str, Any] = dict(support=self.support, words=self.words, first=self.first)
        if self._sparse(ring.shape[1]):
            return deposit(ring, self.topology, self.weight, self.value, **rows, slot=slot, delay=each)
        value = self.value
        if self.topology is not None:
            # without the support: a dense backward pass gains nothing by it, and would keep it for every step
            value = propagate(self.topology, self.weight, value, first=self.first)
        row = jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)
        row = row.at[slice(*self.part)].add(value) if self.part else row + value
        return jax.lax.dynamic_update_index_in_dim(ring, row, slot, 0)

    def _sparse(self, width: int) -> bool:
        """Whether events are sent right into the rings of `width` units: not over a matrix, and not over a convolution
        to some of the units."""
        if isinstance(self.topology, Convolution):
            return self.topology.n_post == width
        return self.topology is not None and not isinstance(self.topology, AbstractMap)

    def add_all(self, rows: Float[Array, "after width"]) -> Float[Array, "after width"]:
        """`rows` with the deposits of consecutive steps added, one to each row of `value`; row t is what arrives at
        step t of them, none of which is late for the last row."""
        n = jnp.arange(self.value.shape[0], dtype=jnp.int32)
        if not self._sparse(rows.shape[1]):
            assert isinstance(self.topology, AbstractMap)
            value = self.value[:, self.first : self.first + self.topology.n_pre]
            sent = self.topology.apply(self.weight, value)
            old = jax.lax.dynamic_slice_in_dim(rows, self.steps, n.size)
            new = old.at[:, slice(*self.part)].add(sent) if self.part else old + sent
            return jax.lax.dynamic_update_slice_in_dim(rows, new, self.steps, 0)
        each = self.steps if self.steps.ndim else None
        slots = n if self.steps.ndim else n + self.steps
        part: dict[str, Any] = dict(words=self.words, first=self.first)
        return deposit_all(rows, self.topology, self.weight, self.value, **part, slots=slots, delay=each)
