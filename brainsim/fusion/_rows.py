"""`rows`: a program over the synapses of the rows that have events, which changes their values in place.

For every synapse k of a row i with `value[first + i] != 0`, with o = `order[k]` and j = `other[k]`, unless `live` is 0,

    synapses[o] <- program(scalars, row[i], far[j], log[p], synapses[o]),

and what else the program yields is added to `far_sums[j]` and `row_sums[i]`: so the transpose of such a program is one.
It reads from a log what synapses were before (`_past`): p is the place of the entry there, if the log is used up to
`used`.

Rows are the pre units of a graph, with every synapse its own place (`order` empty), or its post units, with `order` the
places of their synapses. A synapse is in one row only, so the order of the rows has no effect. Cost follows the
synapses of the rows with events.

Operands carry leading batch axes, each of size 1 or that of the batch. The events are constants of the derivative. The
tangent (`tangent_p`) is that of the same program over all synapses, masked; its transpose is a program over the
synapses of rows with events again.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base.jax_internals import ClosedJaxpr, ShapedArray, ad, batching, jaxpr_as_fun, mlir, partial_eval as pe
from ..events._primitives import Kernel, to_front
from ._fused import over

rows_p = Kernel("brainsim_rows")
rows_p.multiple_results = True

_BLOCK = 1024  # synapses done at once
_MOST_BLOCKS = 256  # of a step in which all rows have events; beyond, blocks grow

N_GIVEN = 6
"""Operands that say where a program runs: `value`, `words`, `live`, `indptr`, `other`, `order`."""


class RowProgram(NamedTuple):
    """`jaxpr(*scalars, *row, *far, *log, *synapses) -> (*synapses, *far_sums, *row_sums)` of one synapse: every number
    has shape ()."""

    jaxpr: ClosedJaxpr
    n_scalars: int
    n_row: int
    n_far: int
    n_log: int = 0
    n_far_sums: int = 0
    n_row_sums: int = 0
    first: int = 0  # the place of row 0 among the events

    # by identity: a jaxpr is made once per trace
    def __hash__(self) -> int:
        return hash((id(self.jaxpr), *self[1:]))

    def __eq__(self, other: Any) -> bool:
        return self is other or (isinstance(other, RowProgram) and self.jaxpr is other.jaxpr and self[1:] == other[1:])

    @property
    def n_syn(self) -> int:
        """How many values of a synapse change."""
        return self.n_written - self.n_far_sums - self.n_row_sums

    @property
    def n_given(self) -> int:
        """How many operands come before the values that it is given: events, graph, and how much of a log is used."""
        return N_GIVEN + (self.n_log > 0)

    @property
    def n_written(self) -> int:
        """How many of its last operands are changed."""
        return len(self.jaxpr.out_avals)


class Rows(NamedTuple):
    """A graph by rows: the entries of row i are `indptr[i]` to `indptr[i + 1]`; `other` is the unit at the far end of
    an entry, `order` the synapse that it is (empty: the entry itself)."""

    indptr: Any
    other: Any
    order: Any


def rows(
    f: Callable,
    events: tuple[Any, Any, Any],
    graph: Rows,
    scalars: Sequence[Any],
    row: Sequence[Any],
    far: Sequence[Any],
    synapses: Sequence[Any],
    sums: Sequence[Any] = (),
    first: int = 0,
) -> list[Any]:
    """`synapses` (n_syn,) after `f(scalars, row, far, synapses) -> synapses`, lists of numbers, of every synapse of a
    row with events: `events` are their values (n_rows,), packed words or None, and an integer, 0 where they are all
    ignored; row 0 is `first` among them. With `sums` (n_rows,) f returns as many numbers more, which are added to them
    by row."""
    kinds = [jax.ShapeDtypeStruct((), x.dtype) for x in (*scalars, *row, *far, *synapses)]
    ends = np.cumsum([len(scalars), len(row), len(far)])

    def flat(*numbers):
        cut = [0, *ends, len(numbers)]
        return f(*([*numbers[a:b]] for a, b in pairwise(cut)))

    closed = jax.make_jaxpr(flat)(*kinds)
    keep = [False] * int(ends[-1]) + [True] * len(synapses)
    jaxpr, used = pe.dce_jaxpr(closed.jaxpr, [True] * (len(synapses) + len(sums)), keep)
    read = [[x for x, u in zip(xs, used[b - len(xs) : b]) if u] for xs, b in zip((scalars, row, far), ends)]
    program = RowProgram(ClosedJaxpr(jaxpr, closed.consts), *map(len, read), n_row_sums=len(sums), first=first)
    value, words, live = events
    words = jnp.zeros(0, jnp.uint32) if words is None else words
    operands = [x for xs in read for x in xs]
    live = jnp.asarray(live, jnp.int32)
    return rows_p.bind(value, words, live, *graph, *operands, *synapses, *sums, program=program, rank=0)


def _parts(program: RowProgram, operands: Sequence[Any]) -> tuple[list[Any], ...]:
    """Scalars, values of rows, at the far end, of synapses read and changed, sums at the far end and of rows."""
    p = program
    sizes = (p.n_scalars, p.n_row, p.n_far, p.n_log, p.n_syn, p.n_far_sums, p.n_row_sums)
    ends = np.cumsum([0, *sizes])
    return tuple([*operands[a:b]] for a, b in pairwise(ends))


def reference(*operands: Any, program: RowProgram, rank: int) -> list[Any]:
    """What `rows_p` computes, in JAX, by blocks of the synapses of rows with events, of all elements of the batch."""
    batch = tuple(np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands)))
    if rank != 1:  # one axis for all; what differs along some of them is repeated along all
        full = [_one_axis(x, batch, rank) for x in operands]
        out = reference(*full, program=program, rank=1)
        return [x.reshape(*batch, *x.shape[1:]) for x in out]
    value, _, live, indptr, other, order, *rest = operands
    used, rest = (rest[0], rest[1:]) if program.n_log else (None, rest)
    scalars, row, far, log, synapses, far_sums, row_sums = _parts(program, rest)
    n_b, n_rows, n = batch[0], indptr.shape[-1] - 1, synapses[0].shape[-1]
    if n == 0 or n_rows == 0 or n_b == 0:
        return [*synapses, *far_sums, *row_sums]
    happened = (value[:, program.first : program.first + n_rows] != 0) & (live != 0)[:, None]
    active = jnp.broadcast_to(happened, (n_b, n_rows))
    start = jnp.broadcast_to(indptr[:, :-1], (n_b, n_rows)).reshape(-1)
    length = jnp.where(active, jnp.broadcast_to(jnp.diff(indptr, axis=1), active.shape), 0).reshape(-1)
    end = jnp.cumsum(length, dtype=jnp.int32)
    lanes = min(n, max(_BLOCK, -(-n // _MOST_BLOCKS)))
    lane = jnp.arange(lanes, dtype=jnp.int32)
    call = jaxpr_as_fun(program.jaxpr)

    def at(x, b, k):
        return x[jnp.zeros_like(b) if x.shape[0] == 1 else b, k]

    def body(state):
        done, (synapses, far_sums, row_sums) = state
        place = done + lane
        live = lane < end[-1] - done
        r = jnp.minimum(jnp.searchsorted(end, place, side="right"), n_b * n_rows - 1).astype(jnp.int32)
        b, i = r // n_rows, r % n_rows
        k = jnp.where(live, start[r] + place - (end[r] - length[r]), 0)
        o = at(order, b, k) if order.shape[-1] else k
        j = at(other, b, k).astype(jnp.int32)
        ins = [x[jnp.zeros_like(b) if x.shape[0] == 1 else b] for x in scalars]
        ins += [at(x, b, i) for x in row] + [at(x, b, j) for x in far]
        if used is not None:
            before = jnp.where(b > 0, end[jnp.maximum(b * n_rows - 1, 0)], 0)
            p = at(used[:, None], b, 0) - (end[(b + 1) * n_rows - 1] - before) + place - before
            live = live & (p >= 0) & (p < log[0].shape[-1])
            ins += [at(x, b, jnp.maximum(p, 0)) for x in log]
        new = jax.vmap(call)(*ins, *(x[b, o] for x in synapses))
        b = jnp.where(live, b, n_b)  # dropped
        kept = [x.at[b, o].set(y, mode="drop") for x, y in zip(synapses, new)]
        more = [x.at[b, j].add(y, mode="drop") for x, y in zip(far_sums, new[len(kept) :])]
        sums = [x.at[b, i].add(y, mode="drop") for x, y in zip(row_sums, new[len(kept) + len(more) :])]
        return done + lanes, (kept, more, sums)

    full = [[jnp.broadcast_to(x, (n_b, x.shape[1])) for x in xs] for xs in (synapses, far_sums, row_sums)]
    state = (jnp.int32(0), tuple(full))
    changed = lax.while_loop(lambda state: (state[0] >= 0) & (state[0] < end[-1]), body, state)[1]
    return [x for xs in changed for x in xs]


def _one_axis(x: Any, batch: tuple[int, ...], rank: int) -> Any:
    if all(size == 1 for size in x.shape[:rank]):
        return x.reshape(1, *x.shape[rank:])
    return jnp.broadcast_to(x, (*batch, *x.shape[rank:])).reshape(prod(batch), *x.shape[rank:])


def masked(program: RowProgram, *operands: Any) -> list[Any]:
    """What a program without a log or sums at the far end computes, over all synapses: the definition of its
    derivative."""
    value, _, live, indptr, other, order, *rest = operands
    scalars, row, far, _, synapses, _, sums = _parts(program, rest)
    n_rows, n = indptr.shape[0] - 1, synapses[0].shape[0]
    if n == 0 or n_rows == 0:
        return [*synapses, *sums]
    i = jnp.repeat(jnp.arange(n_rows, dtype=jnp.int32), jnp.diff(indptr), total_repeat_length=n)
    j = other.astype(jnp.int32)
    if order.shape[0]:  # by synapse, so that nothing is written out of order
        i, j = (jnp.zeros(n, jnp.int32).at[order].set(x, unique_indices=True) for x in (i, j))
    call = jaxpr_as_fun(program.jaxpr)
    axes = [None] * len(scalars) + [0] * (len(row) + len(far) + len(synapses))
    new = jax.vmap(call, in_axes=axes)(*scalars, *(x[i] for x in row), *(x[j] for x in far), *synapses)
    # silent synapses are left out twice: the derivative of an unused value may not be finite
    live = (value[program.first + i] != 0) & (live != 0)
    added = [x.at[i].add(jnp.where(live, y, jnp.zeros_like(y))) for x, y in zip(sums, new[len(synapses) :])]
    return [*(jnp.where(live, y, x) for x, y in zip(synapses, new)), *added]


@rows_p.def_abstract_eval
def _(*operands, program, rank):
    batch = tuple(np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands)))
    return [ShapedArray((*batch, *x.shape[rank:]), x.dtype) for x in operands[len(operands) - program.n_written :]]


def _batch_rule(operands, dims, *, program, rank):
    n = len(operands)
    front, _ = to_front(operands, dims, range(n - program.n_written, n))
    out = rows_p.bind(*front, program=program, rank=rank + 1)
    return out, [0] * len(out)


# --- the derivative ---------------------------------------------------------------------------------------------------


def _jvp(primals, tangents, *, program, rank):
    if program.n_log or program.n_far_sums:
        raise NotImplementedError(
            "The second derivative of plasticity is not defined where the first undoes the run step by step; pass "
            "adjoint=bs.DirectAdjoint() to the run."
        )
    out = rows_p.bind(*primals, program=program, rank=rank)
    moving = [k for k, t in enumerate(tangents) if k >= N_GIVEN and type(t) is not ad.Zero]

    def f(*moved):
        full = list(primals)
        for k, x in zip(moving, moved):
            full[k] = x
        return over(partial(masked, program), rank, full)

    return out, jax.jvp(f, [primals[k] for k in moving], [tangents[k] for k in moving])[1]


@lru_cache(maxsize=256)
def transpose_of(program: RowProgram) -> RowProgram:
    """The program that takes the cotangents of the synapses to those before it, in place, and adds up those of what it
    was given: by unit at the far end; by row those of values of rows and of scalars."""
    p = program
    n, n_near, n_units = len(p.jaxpr.in_avals), p.n_scalars + p.n_row, p.n_scalars + p.n_row + p.n_far

    def f(*flat):
        found = jax.vjp(jaxpr_as_fun(p.jaxpr), *flat[:n])[1]([*flat[n:]])
        return [*found[n_units:], *found[n_near:n_units], *found[:n_near]]

    closed = jax.make_jaxpr(f)(*p.jaxpr.in_avals, *p.jaxpr.out_avals)
    return RowProgram(closed, p.n_scalars, p.n_row, p.n_far, p.n_syn, p.n_far, n_near, p.first)


def pulled(
    program: RowProgram, operands: Sequence[Any], used: Any, log: Sequence[Any], bars: Sequence[Any]
) -> list[Any]:
    """The cotangents of scalars, values of rows, values at the far end and synapses, from those of the synapses after
    `rows_p` of `operands`, which are all but the synapses: these were, where they changed, what is in the log."""
    given = [*operands[:N_GIVEN]]
    scalars, row, far, *_ = _parts(program, operands[N_GIVEN:])
    kind, n_rows = bars[0].dtype, given[3].shape[0] - 1
    sums = [jnp.zeros_like(x) for x in far] + [jnp.zeros(n_rows, kind) for _ in (*scalars, *row)]
    units = [*scalars, *row, *far]
    out = rows_p.bind(*given, used, *units, *log, *bars, *sums, program=transpose_of(program), rank=0)
    synapses, far_bars, sums = out[: len(bars)], out[len(bars) : len(bars) + len(far)], out[len(bars) + len(far) :]
    row_bars = [jnp.pad(x, (0, of.shape[0] - n_rows)) for x, of in zip(sums[len(scalars) :], row, strict=True)]
    return [*(jnp.sum(x) for x in sums[: len(scalars)]), *row_bars, *far_bars, *synapses]


@lru_cache(maxsize=256)
def _jitted(**params: Any) -> Callable:
    return jax.jit(partial(rows_p.bind, **params))


ad.primitive_jvps[rows_p] = _jvp
batching.primitive_batchers[rows_p] = _batch_rule
rows_p.def_impl(lambda *operands, **params: _jitted(**params)(*operands))
mlir.register_lowering(rows_p, mlir.lower_fun(reference, multiple_results=True))
