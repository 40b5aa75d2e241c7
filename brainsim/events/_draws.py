"""Rows of synapses drawn anew from the generator, and the event operators on them, in pure JAX.

As `_pure`: the fallback, the oracle of the kernels (ops/cpu/procedural.cc, ops/cuda/drawn_kernels.h) and the definition
of the derivatives. A row is cut into segments that are drawn independently; a segment is drawn 64 synapses at a time.
The weight of a synapse is w_j = theta_0 + theta_1 x_j with x_j drawn too, so that T(value, theta, c) =
sum value_i w_j c[slot, post_j] is trilinear; `scatter`, `gather` and `outer` are base + dT/dc, dT/dvalue and dT/dtheta.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _random
from ._pure import _active_list, _each
from ._random import DRAWS, FINE, KEYS, LOG_POINT, NORMAL_POINT, ROWS, WEIGHTS, mulhilo

SOME, DISTINCT, REPEATED = range(3)
"""How a row is drawn: each target with probability p; k different targets; k independent targets."""

ONE, UNIFORM, NORMAL = range(3)
"""What x_j is: nothing, uniform on [0, 1), standard normal."""

ROUNDS = 16
"""Rounds of the Feistel network that permutes the targets of a row, each with a key of two words."""

_SPAN = 50.0  # mean number of synapses of a segment: nearly always fewer than the 64 draws of a batch
_LARGEST_SPAN = 2**24  # 64 gaps of so many targets add up in 32 bits
_LANES = 32, 2048  # segments drawn at a time by the pure path, fewest and most

LEAST_P = 2.0**-26
"""Smallest probability but 0: gaps are held in 32 bits."""


@dataclass(frozen=True)
class Plan:
    """All that is fixed about the rows; hashable, a parameter of the primitives.

    A target t in 0..n-1 is post unit `start + step t`. The target that is row i's own unit, which it may not reach, is
    i + twin (none where that is no target, or twin is None).
    """

    n_pre: int
    n: int
    kind: int = SOME
    p: float = 0.0
    k: int = 0
    law: int = ONE
    twin: int | None = None
    start: int = 0
    step: int = 1

    @property
    def span(self) -> int:
        """Targets of a segment (SOME), or synapses (the others)."""
        if self.kind != SOME:
            return DRAWS
        wish = self.n if self.p * self.n <= _SPAN else math.ceil(_SPAN / self.p)
        return max(1, min(wish, self.n, _LARGEST_SPAN))

    @property
    def segments(self) -> int:
        """Segments of a row."""
        return -(-(self.n if self.kind == SOME and self.p > 0 else self.k) // self.span)

    @property
    def scale(self) -> tuple[int, int]:
        """(m, s): the gap before the next synapse is m (-ln U) >> s, geometric with the probability p."""
        if self.kind != SOME or self.p <= 0.0 or self.p >= 1.0:
            return 0, 0
        mean = -1.0 / math.log1p(-self.p)
        shift = min(32, 26 - math.frexp(mean)[1] + 1)  # m is just below 2^32
        return min(round(mean * 2.0 ** (32 - LOG_POINT + shift)), 2**32 - 1), shift

    @property
    def bits(self) -> int:
        """Bits of the permuted domain; a network of fewer mixes too slowly."""
        return max(6, (self.n - 1).bit_length())

    def attributes(self) -> dict[str, int]:
        """The plan in numbers, as the kernels take it."""
        m, s = self.scale
        none = np.iinfo(np.int64).min
        numbers = dict(kind=self.kind, k=self.k, law=self.law, start=self.start, step=self.step, span=self.span)
        return dict(
            numbers,
            n_pre=self.n_pre,
            n=self.n,
            segments=self.segments,
            multiplier=m,
            shift=s,
            bits=self.bits,
            twin=none if self.twin is None else self.twin,
        )

    def tables(self) -> np.ndarray:
        """The tables the draws read, (n, 3) uint32: logarithms, then normal quantiles where the weights need them."""
        logs = _random.log_table()
        return np.concatenate([logs, _random.normal_table()]) if self.law == NORMAL else logs


def _targets(plan: Plan, seed, tables, row, segment, batch, cursor):
    """The targets of a batch of lanes, (lanes, 64) int32, which of them there are, and the cursor after them.

    `row` and `segment` (lanes,) are uint32, `batch` () too; `cursor` (lanes,) is where the segment goes on (SOME).
    """
    n = np.uint32(plan.n)
    words = _random.draws(seed, batch, segment, row, ROWS)  # XLA leaves out what is not used
    own = row.astype(jnp.int32) + np.int32(plan.twin) if plan.twin is not None else jnp.full(row.shape, -1, jnp.int32)
    own = own[:, None]
    if plan.kind == SOME:
        m, s = plan.scale
        at = cursor[:, None] + jnp.arange(DRAWS, dtype=jnp.uint32)[None, :]
        if m and s < 32:  # else every gap is 0
            gap = mulhilo(_random.negative_log(words, tables[: len(_random.log_table())]), np.uint32(m))[0]
            at = at + jnp.cumsum(jnp.minimum(gap >> s, np.uint32(plan.span)), axis=1, dtype=jnp.uint32)
        end = jnp.minimum(n, (segment + np.uint32(1)) * np.uint32(plan.span))[:, None]
        to = at.astype(jnp.int32)
        return to, (at < end) & (to != own), at[:, -1] + np.uint32(1)
    holed = (own >= 0) & (own < plan.n)
    choice = jnp.where(holed, n - np.uint32(1), n)
    j = segment[:, None] * np.uint32(DRAWS) + jnp.arange(DRAWS, dtype=jnp.uint32)[None, :]
    live = j < np.uint32(plan.k)
    if plan.kind == REPEATED:
        high, low = mulhilo(words, choice)  # 64 random bits for each target: no target is favoured
        more = mulhilo(_random.draws(seed, batch, segment, row, FINE), choice)[0]
        at = high + (low + more < low).astype(jnp.uint32)
    else:
        permute = partial(_permute, plan.bits, _random.draws(seed, np.uint32(0), np.uint32(0), row, KEYS))

        # outside of the targets walk on along the cycle: a permutation of the targets is left
        def beyond(at):
            return live & (at >= choice)

        def walk(at):
            return jnp.where(beyond(at), permute(at), at)

        at = lax.while_loop(lambda at: jnp.any(beyond(at)), walk, permute(j))
    to = at.astype(jnp.int32)
    return to + (holed & (to >= own)).astype(jnp.int32), live, cursor


def _permute(bits: int, keys, x):
    """A random permutation of 0..2^bits - 1 for each lane: an unbalanced Feistel network."""
    low_bits, high_bits = bits - bits // 2, bits // 2
    low, high = x & np.uint32(2**low_bits - 1), x >> low_bits
    for i in range(ROUNDS):
        a, b = keys[:, 2 * i, None] | np.uint32(1), keys[:, 2 * i + 1, None]
        if i % 2:
            low = low ^ (_mix(high, a, b) >> (32 - low_bits))
        else:
            high = high ^ (_mix(low, a, b) >> (32 - high_bits))
    return (high << low_bits) | low


def _mix(x, a, b):
    h = (x + b) * a
    return (h ^ (h >> 15)) * np.uint32(0x2C1B3C6D)


def _basis(plan: Plan, seed, tables, row, segment, batch, dtype):
    """x_j of a batch of lanes, (lanes, 64), None where all weights are one."""
    if plan.law == ONE:
        return None
    words = _random.draws(seed, batch, segment, row, WEIGHTS)
    if plan.law == UNIFORM:
        return (words >> 8).astype(dtype) * jnp.asarray(2.0**-24, dtype)
    fixed = _random.fixed_normal(words, tables[len(_random.log_table()) :])
    return fixed.astype(dtype) * jnp.asarray(2.0**-NORMAL_POINT, dtype)


def synapses(plan: Plan, seed, tables, row, segment, turn, cursor, dtype):
    """Batch `turn` of the synapses of some segments, given by `row` and `segment`, uint32 (lanes,).

    Returns post units and which of them there are, (lanes, 64), x_j likewise or None, the cursor of the next batch
    (lanes,), and where there is one (lanes,).
    """
    cursor = jnp.where(turn == 0, segment * np.uint32(plan.span), cursor)
    to, live, cursor = _targets(plan, seed, tables, row, segment, turn, cursor)
    x = _basis(plan, seed, tables, row, segment, turn, dtype)
    stop = jnp.minimum(np.uint32(plan.n), (segment + np.uint32(1)) * np.uint32(plan.span))
    more = cursor < stop if plan.kind == SOME else jnp.zeros(row.shape, bool)
    return plan.start + plan.step * to, live, x, cursor, more


def scatter(base, value, weight, support, words, slot, seed, tables, *, plan: Plan, first: int):
    """base[slot, post_j] += value_i w_j over the rows with value_i != 0."""
    del support, words
    value = value[..., first : first + plan.n_pre]
    out_batch, (depth, n_post) = base.shape[:-2], base.shape[-2:]
    batch = _batch(len(out_batch), base, value, weight, slot, seed, tables)

    def piece(row, post, live, x, value, weight, slot):
        to = jnp.mod(slot, depth) * n_post + post
        w = weight[0] if x is None else weight[0] + weight[1] * x
        return jnp.where(live, to, depth * n_post).reshape(-1), jnp.broadcast_to(value[row] * w, to.shape).reshape(-1)

    out = base.reshape(prod(out_batch), depth * n_post)
    out = _walk(plan, out, batch, out_batch, value != 0, seed, tables, piece, (value, weight, slot))
    return out.reshape(base.shape)


def gather(c, weight, rowmask, slot, seed, tables, *, plan: Plan, first: int, n_value: int):
    """sum_j w_j c[slot, post_j] for the rows in `rowmask` (all of them if it is empty), 0 for the others."""
    n_pre = plan.n_pre
    batch = _batch(c.ndim - 2, c, weight, rowmask, slot, seed, tables)

    def piece(row, post, live, x, c, weight, slot):
        arrived = jnp.where(live, _row(c, slot)[jnp.where(live, post, 0)], 0)
        w = weight[0] if x is None else weight[0] + weight[1] * x
        return row[:, 0], jnp.sum(w * arrived, axis=1)

    every = rowmask.shape[-1] != n_value
    rows = jnp.ones((*rowmask.shape[:-1], n_pre), bool) if every else rowmask[..., first : first + n_pre]
    out = jnp.zeros((prod(batch), n_pre), c.dtype)
    out = _walk(plan, out, batch, batch, rows, seed, tables, piece, (c, weight, slot))
    return jnp.pad(out, ((0, 0), (first, n_value - first - n_pre))).reshape(*batch, n_value)


def outer(value, c, support, words, slot, seed, tables, *, plan: Plan, first: int, n_weight: int, batch):
    """The sums of value_i c[slot, post_j] and of value_i x_j c[slot, post_j], (n_weight,)."""
    del support, words
    value = value[..., first : first + plan.n_pre]
    full = np.broadcast_shapes(batch, _batch(c.ndim - 2, value, c, slot, seed, tables))

    def piece(row, post, live, x, value, c, slot):
        arrived = value[row] * jnp.where(live, _row(c, slot)[jnp.where(live, post, 0)], 0)
        sums = [jnp.sum(arrived)] if x is None else [jnp.sum(arrived), jnp.sum(arrived * x)]
        return jnp.arange(n_weight), jnp.stack(sums)

    out = jnp.zeros((prod(batch), n_weight), c.dtype)
    out = _walk(plan, out, full, batch, value != 0, seed, tables, piece, (value, c, slot))
    return out.reshape(*batch, n_weight)


def _batch(nb: int, *operands) -> tuple[int, ...]:
    return np.broadcast_shapes(*(x.shape[:nb] for x in operands))


def _row(c, slot):
    return lax.dynamic_index_in_dim(c, jnp.mod(slot, c.shape[0]), 0, keepdims=False)


def _walk(plan: Plan, out, batch, out_batch, active, seed, tables, piece: Callable, operands: tuple[Any, ...]):
    """Add the pieces of all segments of the active rows to `out`, a block of segments and 64 draws at a time."""
    items = plan.n_pre * plan.segments
    if items == 0 or out.size == 0 or prod(batch) == 0:
        return out
    nb, segments = len(batch), plan.segments
    lanes = min(items, max(_LANES[0], min(_LANES[1], items // 256)))
    rows = partial(_active_list, n_pre=plan.n_pre, fanout=segments, n_syn=items)
    end, shift = _each(nb, rows)(active, jnp.zeros((*(1,) * nb, 0), jnp.int32))
    total = jnp.max(end[..., -1])
    element = np.arange(prod(out_batch), dtype=np.int32).reshape(out_batch)
    element = jnp.asarray(np.broadcast_to(element, batch).reshape(-1, 1))
    lane = jnp.arange(lanes, dtype=jnp.int32)

    def block(done, turn, cursors):
        def one(end, shift, cursor, seed, tables, *operands):
            place = done + lane
            row = jnp.minimum(jnp.searchsorted(end, place, side="right"), plan.n_pre - 1).astype(jnp.int32)
            mine = lane < end[-1] - done
            segment = jnp.where(mine, place + shift[row] - row * segments, 0).astype(jnp.uint32)
            drawn = synapses(plan, seed, tables, row.astype(jnp.uint32), segment, turn, cursor, out.dtype)
            to, live, x, cursor, more = drawn
            where, what = piece(row[:, None], to, live & mine[:, None], x, *operands)
            return cursor, more & mine, where, what

        return _each(nb, one)(end, shift, cursors, seed, tables, *operands)

    def body(state):
        done, turn, cursors, out = state
        cursors, more, where, what = block(done, turn, cursors)
        where, what = (jnp.broadcast_to(x, (*batch, x.shape[-1])).reshape(-1, x.shape[-1]) for x in (where, what))
        out = out.at[element, where].add(what, mode="drop")
        again = jnp.any(more)
        done = jnp.where(again, done, done + lanes)
        return done, jnp.where(again, turn + np.uint32(1), np.uint32(0)), jnp.broadcast_to(cursors, start.shape), out

    start = jnp.zeros((*batch, lanes), jnp.uint32)
    state = jnp.int32(0), jnp.uint32(0), start, out
    return lax.while_loop(lambda state: (state[0] >= 0) & (state[0] < total), body, state)[3]
