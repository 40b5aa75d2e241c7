"""`past`: keeps the values of the synapses that a row program is about to change, or brings them back.

For each entry k of each row i with `value[i] != 0`, the c-th of these, with o = `order[k]` (k where that is empty),

    log[used + c] <- synapses[o], used <- used + n            (to keep)
    synapses[o] <- log[used - n + c], used <- used - n        (to undo)

with n the number of these entries. Where the log has no room for all of them nothing is moved, and `used` says so.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base.jax_internals import ShapedArray, batching, mlir
from ..events._primitives import Kernel, to_front
from ._fused import over
from ._rows import Rows

past_p = Kernel("brainsim_past")
past_p.multiple_results = True

_BLOCK = 1024


def keep(
    events: Sequence[Any], graph: Rows, used: Any, synapses: Sequence[Any], log: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """`(used, log)` with what the synapses of rows with events are; `events`: values, and packed words."""
    used, *log = past_p.bind(*events, graph.indptr, graph.order, used, *synapses, *log, undo=False, rank=0)
    return used, log


def undo(
    events: Sequence[Any], graph: Rows, used: Any, log: Sequence[Any], synapses: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """`(used, synapses)` as they were before `keep`."""
    used, *synapses = past_p.bind(*events, graph.indptr, graph.order, used, *log, *synapses, undo=True, rank=0)
    return used, synapses


def _one(*operands: Any, undo: bool) -> list[Any]:
    value, _, indptr, order, used, *rest = operands
    read, changed = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    n_rows = indptr.shape[0] - 1
    if n_rows == 0 or 0 in (*read[0].shape, *changed[0].shape):
        return [used, *changed]
    length = jnp.where(value[:n_rows] != 0, jnp.diff(indptr), 0)
    end = jnp.cumsum(length, dtype=jnp.int32)
    total, room = end[-1], (read if undo else changed)[0].shape[0]
    first = used - total if undo else used
    fits = (first >= 0) & (first + total <= room)
    lane = jnp.arange(_BLOCK, dtype=jnp.int32)

    def body(carry):
        done, changed = carry
        place = done + lane
        live = place < total
        i = jnp.minimum(jnp.searchsorted(end, place, side="right"), n_rows - 1).astype(jnp.int32)
        k = jnp.where(live, indptr[i] + place - (end[i] - length[i]), 0)
        o = order[k] if order.shape[0] else k
        source, to = (first + place, o) if undo else (o, first + place)
        to = jnp.where(live, to, changed[0].shape[0])  # dropped
        return done + _BLOCK, [x.at[to].set(y[source], mode="drop") for x, y in zip(changed, read)]

    begin = jnp.where(fits, jnp.int32(0), total)
    changed = lax.while_loop(lambda carry: (carry[0] >= 0) & (carry[0] < total), body, (begin, changed))[1]
    return [first if undo else first + total, *changed]


def reference(*operands: Any, undo: bool, rank: int) -> list[Any]:
    """What `past_p` computes, in JAX."""
    return over(partial(_one, undo=undo), rank, operands)


def n_changed(operands: Sequence[Any]) -> int:
    """How many of the last operands of `past_p` are changed, beside `used`."""
    return (len(operands) - 5) // 2


@past_p.def_abstract_eval
def _(*operands, undo, rank):
    del undo
    batch = tuple(np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands)))
    changed = (operands[4], *operands[len(operands) - n_changed(operands) :])
    return [ShapedArray((*batch, *x.shape[rank:]), x.dtype) for x in changed]


def _batch_rule(operands, dims, *, undo, rank):
    n = len(operands)
    front, _ = to_front(operands, dims, (4, *range(n - n_changed(operands), n)))
    out = past_p.bind(*front, undo=undo, rank=rank + 1)
    return out, [0] * len(out)


@lru_cache(maxsize=256)
def _jitted(**params: Any) -> Callable:
    return jax.jit(partial(past_p.bind, **params))


batching.primitive_batchers[past_p] = _batch_rule
past_p.def_impl(lambda *operands, **params: _jitted(**params)(*operands))
mlir.register_lowering(past_p, mlir.lower_fun(reference, multiple_results=True))
