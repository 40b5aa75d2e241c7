"""The event operators in pure JAX: the fallback, the oracle of the kernels and the definition of the derivatives.

With rows i (pre units), their synapses j, s_j = (slot + delay_j) mod D and the trilinear form
    T(value, weight, c) = sum_i sum_{j in row i} value_i weight_j c[s_j, post_j],
`scatter` is base + dT/dc, `gather` is dT/dvalue and `outer` is dT/dweight. All three walk the synapses of the active
rows only, in blocks of a fixed size, so that the cost follows activity and nothing can overflow.

Operands carry the same number of leading batch axes, each of size 1 or the size of the batch; where a result has size 1
the batch adds up. `indices` are stored as `_targets` has it. Row i of the topology is unit `first + i` of arrays over
units. Packed words repeat what `value` says and are not read here.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base import DIVERGED
from ._random import bulk_bits, bulk_normals
from ._targets import count, target

_BLOCK = 1024  # lanes of a block: enough to amortise an iteration, few enough not to waste lanes on a handful of spikes
_MOST_BLOCKS = 256  # blocks of a fully active graph; beyond, blocks grow, which accelerators need


def scatter(
    base,
    value,
    weight,
    support,
    words,
    slot,
    delay,
    indptr,
    indices,
    *,
    n_pre: int,
    fanout: int,
    first: int,
    sorted_rows: bool,
):
    """base[s_j, post_j] += value_i weight_j over the rows with value_i != 0."""
    del support, words  # the one is of interest to the derivative only, the other to the kernel
    value = value[..., first : first + n_pre]
    out_batch, (depth, n_post) = base.shape[:-2], base.shape[-2:]
    batch = _batch(len(out_batch), base, value, weight, slot, delay, indptr, indices)

    def piece(row, j, live, value, weight, slot, delay, indices):
        to, live = _target(j, live, slot, delay, indices, depth, n_post)
        return jnp.where(live, to, depth * n_post), value[row] * _weight(weight, j)

    out = base.reshape(prod(out_batch), depth * n_post)
    walk = partial(_accumulate, n_pre=n_pre, n_post=n_post, fanout=fanout)
    out = walk(out, batch, out_batch, value != 0, indptr, piece, (value, weight, slot, delay, indices))
    return out.reshape(base.shape)


def gather(
    c,
    weight,
    rowmask,
    slot,
    delay,
    indptr,
    indices,
    *,
    n_pre: int,
    fanout: int,
    first: int,
    sorted_rows: bool,
    n_value: int,
):
    """sum_j weight_j c[s_j, post_j] for the rows in `rowmask` (all of them if it is empty), 0 for the others."""
    depth, n_post = c.shape[-2:]
    batch = _batch(c.ndim - 2, c, weight, rowmask, slot, delay, indptr, indices)

    def piece(row, j, live, c, weight, slot, delay, indices):
        at, live = _target(j, live, slot, delay, indices, depth, n_post)
        return jnp.where(live, row, n_pre), _weight(weight, j) * c.reshape(-1)[at]

    every = rowmask.shape[-1] != n_value
    rows = jnp.ones((*rowmask.shape[:-1], n_pre), bool) if every else rowmask[..., first : first + n_pre]
    out = jnp.zeros((prod(batch), n_pre), c.dtype)
    walk = partial(_accumulate, n_pre=n_pre, n_post=n_post, fanout=fanout)
    out = walk(out, batch, batch, rows, indptr, piece, (c, weight, slot, delay, indices))
    return jnp.pad(out, ((0, 0), (first, n_value - first - n_pre))).reshape(*batch, n_value)


def outer(
    value,
    c,
    support,
    words,
    slot,
    delay,
    indptr,
    indices,
    *,
    n_pre: int,
    fanout: int,
    first: int,
    sorted_rows: bool,
    n_weight: int,
    batch,
):
    """value_i c[s_j, post_j] for every synapse of the rows with value_i != 0, summed to `n_weight` (one or n_syn).

    `batch` is the batch shape of the result.
    """
    del support, words
    value = value[..., first : first + n_pre]
    depth, n_post = c.shape[-2:]
    full = np.broadcast_shapes(batch, _batch(c.ndim - 2, value, c, slot, delay, indptr, indices))

    def piece(row, j, live, value, c, slot, delay, indices):
        at, live = _target(j, live, slot, delay, indices, depth, n_post)
        to = j if n_weight != 1 else jnp.zeros_like(j)
        return jnp.where(live, to, n_weight), value[row] * c.reshape(-1)[at]

    out = jnp.zeros((prod(batch), n_weight), c.dtype)
    walk = partial(_accumulate, n_pre=n_pre, n_post=n_post, fanout=fanout)
    out = walk(out, full, batch, value != 0, indptr, piece, (value, c, slot, delay, indices))
    return out.reshape(*batch, n_weight)


def outer_add(base, *operands, **params):
    """`base` and the sum of `outer` over a batch that shares it."""
    return base + outer(*operands, **params).reshape(base.shape)


def convolved_scatter(base, value, weight, support, words, slot, *, window, first: int):
    """`scatter` over a convolution, `window`."""
    del support, words
    out_batch, (depth, n_post) = base.shape[:-2], base.shape[-2:]
    batch = _batch(len(out_batch), base, value, weight, slot)

    def one(value, weight, slot):
        row = window.apply(_shared(window, weight), value[first : first + window.n_pre])
        return row, jnp.mod(slot, depth)

    row, at = _each(len(batch), one)(value, weight, slot)
    row, at = jnp.broadcast_to(row, (*batch, n_post)).reshape(-1, n_post), jnp.broadcast_to(at, batch).reshape(-1)
    element = np.arange(prod(out_batch), dtype=np.int32).reshape(out_batch)
    element = jnp.asarray(np.broadcast_to(element, batch).reshape(-1))
    out = base.reshape(prod(out_batch), depth, n_post).at[element, at].add(row)
    return out.reshape(base.shape)


def convolved_gather(c, weight, rowmask, slot, *, window, first: int, n_value: int):
    """`gather` over a convolution: the transpose of what it does to a value."""
    depth, n_pre = c.shape[-2], window.n_pre
    batch = _batch(c.ndim - 2, c, weight, rowmask, slot)
    like = jax.ShapeDtypeStruct((n_pre,), c.dtype)

    def one(c, weight, mask, slot):
        row = lax.dynamic_index_in_dim(c, jnp.mod(slot, depth), 0, keepdims=False)
        (out,) = jax.linear_transpose(partial(window.apply, _shared(window, weight)), like)(row)
        out = out if mask.shape[0] != n_value else jnp.where(mask[first : first + n_pre], out, 0)
        return jnp.pad(out, (first, n_value - first - n_pre))

    return jnp.broadcast_to(_each(len(batch), one)(c, weight, rowmask, slot), (*batch, n_value))


def convolved_outer(value, c, support, words, slot, *, window, first: int, n_weight: int, batch):
    """`outer` over a convolution: the transpose of what it does to a weight."""
    del support, words
    depth = c.shape[-2]
    full = np.broadcast_shapes(batch, _batch(c.ndim - 2, value, c, slot))
    like = jax.ShapeDtypeStruct((n_weight,), c.dtype)

    def one(value, c, slot):
        row = lax.dynamic_index_in_dim(c, jnp.mod(slot, depth), 0, keepdims=False)
        value = value[first : first + window.n_pre]
        return jax.linear_transpose(lambda weight: window.apply(_shared(window, weight), value), like)(row)[0]

    out = jnp.broadcast_to(_each(len(full), one)(value, c, slot), (*full, n_weight))
    summed = tuple(a for a, n in enumerate(batch) if n == 1 and full[a] != 1)
    return jnp.sum(out, axis=summed, keepdims=True) if summed else out


def _shared(window, weight):
    """The weight of a convolution: the one of all, or those of its taps."""
    return weight[0] if weight.shape[0] == 1 else weight.reshape(window.weight_shape)


def collect(inbox, slot):
    """Row `slot` of the ring, and the ring with that row cleared."""

    def one(inbox, slot):
        at = jnp.mod(slot, inbox.shape[0])
        row = lax.dynamic_index_in_dim(inbox, at, 0, keepdims=False)
        return row, lax.dynamic_update_index_in_dim(inbox, jnp.zeros_like(row), at, 0)

    return _each(slot.ndim, one)(inbox, slot)


def place(inbox, row, slot):
    """The ring with row `slot` replaced: the transpose of `collect`."""

    def one(inbox, row, slot):
        return lax.dynamic_update_index_in_dim(inbox, row, jnp.mod(slot, inbox.shape[0]), 0)

    return _each(slot.ndim, one)(inbox, row, slot)


def room(*, n: int):
    """A list of `n` zeros."""
    return jnp.zeros(n, jnp.int32)


def multiplicity(value):
    """How many events a value stands for: k for a whole number k from 2 to 2^24, 1 for all others but 0."""
    many = (value > 1) & (value <= 2**24) & (value == jnp.floor(value))
    return jnp.where(many, jnp.where(many, value, 1).astype(jnp.int32), (value != 0).astype(jnp.int32))


def append(buffer, count, value, words, *, many: bool = False):
    """Write the indices of the non-zero entries of `value` at buffer[count:], or, with `many`, as often as
    `multiplicity` says; what does not fit is counted only."""
    del words

    def one(buffer, count, value):
        times = multiplicity(value) if many else (value != 0).astype(jnp.int32)
        end = jnp.cumsum(times, dtype=jnp.int32)  # of the events of every entry, among those of this step
        room = jnp.int32(2**31 - 1) - count
        entry = jnp.arange(value.shape[0], dtype=jnp.int32)

        def write(carry):
            k, buffer = carry
            place = end - times + k
            at = jnp.where((k < times) & (place < room) & (count >= 0), count + place, buffer.shape[0])
            return k + 1, buffer.at[at].set(entry, mode="drop")

        carry = write((jnp.int32(0), buffer))
        if many:
            carry = lax.while_loop(lambda carry: carry[0] < jnp.max(times, initial=0), write, carry)
        return carry[1], count + jnp.minimum(jnp.sum(times, dtype=jnp.int32), room)

    return _each(count.ndim, one)(buffer, count, value)


def tally(value, *others, rank: int, many: bool):
    """How many entries of `value` are not zero, or, with `many`, the sum of their multiplicities; and 1 if anything in
    `others` is NaN or `DIVERGED` and beyond, else 0."""

    def of(x, what, combine):
        return combine(what(x), axis=tuple(range(rank, x.ndim)))

    bad = [of(x, lambda x: ~(jnp.abs(x) < DIVERGED), jnp.any) for x in others]
    bad = sum((x.astype(jnp.int32) for x in bad), start=jnp.zeros(value.shape[:rank], jnp.int32))
    times = multiplicity if many else lambda x: (x != 0).astype(jnp.int32)
    return of(value, times, jnp.sum).astype(jnp.int32), jnp.minimum(bad, 1)


def bits(seed, *, n: int, rank: int):
    """`n` random words of every seed."""
    return _each(rank, partial(bulk_bits, n=n))(seed)


def normals(seed, table, *, n: int, dtype, rank: int):
    """`n` standard normal numbers of every seed."""
    return _each(rank, lambda seed: bulk_normals(seed, table, n, dtype))(seed)


def _batch(nb: int, *operands) -> tuple[int, ...]:
    return np.broadcast_shapes(*(x.shape[:nb] for x in operands))


def _weight(weight, j):
    """The weight of synapse `j`: the one of all, or its own."""
    return weight if weight.shape[0] == 1 else weight[j]


def _target(j, live, slot, delay, indices, depth: int, n_post: int):
    """The place s_j * n_post + post_j of synapse `j`, and whether it is one."""
    post = target(indices, j)
    live = live & (post >= 0) & (post < n_post)
    late = slot + delay[j] if delay.shape[0] else slot
    return jnp.where(live, jnp.mod(late, depth) * n_post + post, 0), live


def _each(nb: int, fn: Callable) -> Callable:
    """`fn` of one batch element, run over `nb` leading axes; an operand of size 1 there is shared, not copied."""
    if nb == 0:
        return fn

    def run(*args):
        axes = tuple(None if a.shape[0] == 1 else 0 for a in args)
        args = tuple(a[0] if axis is None else a for a, axis in zip(args, axes, strict=True))
        inner = _each(nb - 1, fn)
        if all(axis is None for axis in axes):
            return jax.tree.map(lambda x: x[None], inner(*args))
        return jax.vmap(inner, in_axes=axes)(*args)

    return run


def _active_list(active, indptr, *, n_pre: int, fanout: int, n_syn: int):
    """End of every row in the list of active synapses, and what to add to a place in that list to get the synapse."""
    if fanout >= 0:
        start = jnp.arange(n_pre, dtype=jnp.int32) * fanout
        length = jnp.full((n_pre,), fanout, jnp.int32)
    else:
        bound = jnp.clip(indptr, 0, n_syn)  # a traced indptr has not been checked
        start, length = bound[:-1], jnp.maximum(bound[1:] - bound[:-1], 0)
    length = jnp.where(active, length, 0)
    end = jnp.cumsum(length, dtype=jnp.int32)
    return end, start - (end - length)


def _accumulate(
    out, batch, out_batch, active, indptr, piece, operands: tuple[Any, ...], *, n_pre: int, n_post: int, fanout: int
):
    """Add the pieces of all active synapses to `out` (elements of `out_batch`, size), block by block."""
    indices = operands[-1]
    n_syn = count(indices, n_pre, n_post)
    if n_pre == 0 or n_syn == 0 or out.size == 0 or prod(batch) == 0:
        return out
    nb = len(batch)
    lanes = min(n_syn, max(_BLOCK, -(-n_syn // _MOST_BLOCKS)))
    rows = partial(_active_list, n_pre=n_pre, fanout=fanout, n_syn=n_syn)
    end, shift = _each(nb, rows)(active, indptr)
    total = jnp.max(end[..., -1])
    element = np.arange(prod(out_batch), dtype=np.int32).reshape(out_batch)
    element = jnp.asarray(np.broadcast_to(element, batch).reshape(-1, 1))
    lane = jnp.arange(lanes, dtype=jnp.int32)

    def block(done):
        def one(end, shift, *operands):
            place = done + lane
            row = jnp.minimum(jnp.searchsorted(end, place, side="right"), n_pre - 1)
            j = jnp.clip(place + shift[row], 0, n_syn - 1)
            return piece(row, j, lane < end[-1] - done, *operands)

        to, what = _each(nb, one)(end, shift, *operands)
        what = jnp.broadcast_to(what, to.shape)
        return (jnp.broadcast_to(x, (*batch, lanes)).reshape(-1, lanes) for x in (to, what))

    def body(state):
        done, out = state
        to, what = block(done)
        return done + lanes, out.at[element, to].add(what, mode="drop")

    # `total - done` cannot overflow where `done + lanes` could: a graph has fewer than 2**31 synapses
    return lax.while_loop(lambda state: (state[0] >= 0) & (state[0] < total), body, (jnp.int32(0), out))[1]
