"""A scan over synapses that learn, whose backward pass undoes their changes step by step.

Transposing a scan keeps what a step has read, and that is every weight where weights are carried. But a row program
changes few synapses in a step. So the forward pass of the derivative keeps the old values of those in a log, beside
what is not a synapse of each step; the backward pass goes from the last step to the first and takes the cotangents
through one step at a time: the transpose of a row program reads the old values in the log, and where weights are wanted
otherwise, by what they deliver, they are brought back to what they were. Nothing of the size of the synapses is made in
a step; what lies there, and its cotangent, are changed in place.

The log has room for `log_room` entries. Where a run has more events than that, its gradient is NaN.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base import evaluated
from ..base.jax_internals import ClosedJaxpr, Literal, SymbolicZero, partial_eval as pe, zero_from_primal
from ._linear import linear
from ._past import keep, undo
from ._rows import N_GIVEN, RowProgram, Rows, pulled, rows_p
from ._scan import scan

_STEPS_AN_EVENT, _LEAST = 16, 4


def log_room(n_syn: int, length: int) -> int:
    """Entries of a log for one pass over `n_syn` synapses in each of `length` steps: for one event of every unit in 16
    steps, and four in a short segment."""
    return n_syn * min(length, max(_LEAST, -(-length // _STEPS_AN_EVENT)))


class _Pass(NamedTuple):
    """A row program of a step: where it stands, and the carried synapses that it changes."""

    eqn: Any
    leaves: tuple[int, ...]


class _Step(NamedTuple):
    """`jaxpr(*consts, *carry, *row) -> (*carry, *out)`, and which of the carry its row programs change."""

    jaxpr: ClosedJaxpr
    n_consts: int
    n_carry: int
    passes: tuple[_Pass, ...]

    # by identity: a jaxpr is made once per trace
    def __hash__(self) -> int:
        return hash((id(self.jaxpr), self.n_consts, self.n_carry))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Step) and self.jaxpr is other.jaxpr

    @property
    def undone(self) -> list[int]:
        """The leaves of the carry that are brought back."""
        return sorted({k for one in self.passes for k in one.leaves})

    @property
    def kinds(self) -> list[tuple[int, ...]]:
        """The leaves of each log: a program that changes several keeps all of them side by side."""
        return list(dict.fromkeys(one.leaves for one in self.passes))

    def bounds(self) -> tuple[int, int]:
        """Where the carry begins and ends among the operands."""
        return self.n_consts, self.n_consts + self.n_carry


def _passes(jaxpr: Any, n_consts: int, n_carry: int) -> tuple[_Pass, ...]:
    """The row programs by which a leaf of the carry becomes its next value, with nothing else reading in between."""
    of = {v: k for k, v in enumerate(jaxpr.invars[n_consts : n_consts + n_carry])}
    carry, found, fixed = {*of}, [], {*jaxpr.invars[:n_consts]}
    reads = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
    reads.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
    for eqn in jaxpr.eqns:
        if eqn.primitive is rows_p and all(v in fixed or v.aval.size == 0 for v in (eqn.invars[3], eqn.invars[5])):
            changed = eqn.invars[len(eqn.invars) - len(eqn.outvars) :]
            known = [v for v in changed if not isinstance(v, Literal) and (v in carry or reads[v] == 1)]
            leaves = tuple(of.get(v, -1) if v in known else -1 for v in changed)
            found.append(_Pass(eqn, leaves))
            of |= {out: k for out, k in zip(eqn.outvars, leaves, strict=True) if k >= 0}
    ends = {k for k in range(n_carry) if not isinstance(v := jaxpr.outvars[k], Literal) and of.get(v) == k}
    read = {k for one in found if -1 in one.leaves for k in one.leaves}  # by sums, between two changes
    whole = {k for one in found for k in one.leaves if {*one.leaves} <= ends} - read
    return tuple(one for one in found if {*one.leaves} <= whole)


def undoing_scan(f: Callable, params: Any, carry: Any, xs: Any, length: int) -> tuple[Any, Any]:
    """`jax.lax.scan(lambda c, x: f(params, c, x), carry, xs, length)`, all of them trees with arrays."""
    arrays, static = eqx.partition((params, carry, xs), eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    sizes = [len(jax.tree.leaves(part)) for part in arrays]
    outs: list[Any] = []

    def flat(*given):
        params, carry, x = eqx.combine(jax.tree.unflatten(tree, given), static)
        out = f(params, carry, x)
        dynamic, rest = eqx.partition(out, eqx.is_array)
        outs[:] = [jax.tree.structure(dynamic), rest]
        return jax.tree.leaves(dynamic)

    rows = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in leaves[sizes[0] + sizes[1] :]]
    closed = jax.make_jaxpr(flat)(*leaves[: sizes[0] + sizes[1]], *rows)
    inner = closed.jaxpr
    inner = inner.replace(
        constvars=[], invars=[*inner.constvars, *inner.invars], debug_info=inner.debug_info.with_unknown_names()
    )
    n_consts = len(closed.consts) + sizes[0]
    step = _Step(ClosedJaxpr(inner, []), n_consts, sizes[1], _passes(inner, n_consts, sizes[1]))
    found = _run(step, length, [*closed.consts, *leaves])
    return eqx.combine(jax.tree.unflatten(outs[0], found), outs[1])


def _scanned(step: _Step, length: int, operands: Sequence[Any]) -> list[Any]:
    """The plain scan."""
    n, m = step.n_consts, step.n_consts + step.n_carry
    consts = operands[:n]

    def body(carry, x):
        out = evaluated(step.jaxpr, *consts, *carry, *x)
        return out[: step.n_carry], out[step.n_carry :]

    carry, ys = lax.scan(body, [*operands[n:m]], [*operands[m:]], length)
    return [*carry, *ys]


def _run(step: _Step, length: int, operands: list[Any]) -> list[Any]:
    if not step.passes:
        return _scanned(step, length, operands)

    @jax.custom_jvp
    def run(*operands):
        return _scanned(step, length, operands)

    def rule(operands, tangents):
        live = [k for k, t in enumerate(tangents) if type(t) is not SymbolicZero and eqx.is_inexact_array(operands[k])]
        outs, kept = _logged(step, length, operands, _plan(step, tuple(live)).wanted)
        floats = [k for k, x in enumerate(outs) if eqx.is_inexact_array(x)]

        given, tree = jax.tree.flatten((list(operands), outs, kept))

        def forward(given, dots):
            operands, *_ = jax.tree.unflatten(tree, given)

            def part(moved):
                full = [*operands]
                for k, x in zip(live, moved, strict=True):
                    full[k] = x
                out = _scanned(step, length, full)
                return [out[k] for k in floats]

            return jax.jvp(part, ([operands[k] for k in live],), (dots,))[1]

        def backward(given, bars):
            return _backward(step, length, tuple(live), tuple(floats), jax.tree.unflatten(tree, given), bars)

        dots = linear(forward, backward, given, [tangents[k] for k in live])
        changes = [zero_from_primal(x, symbolic_zeros=True) for x in outs]
        for k, x in zip(floats, dots, strict=True):
            changes[k] = x
        return outs, changes

    run.defjvp(rule, symbolic_zeros=True)
    return run(*operands)


# --- forward ----------------------------------------------------------------------------------------------------------


def _graph(eqn: Any, read: Callable) -> Rows:
    """The rows of a program, by `read` of the constants of a step."""
    indptr, _, order = eqn.invars[3:N_GIVEN]
    return Rows(read(indptr), None, read(order) if order.aval.size else jnp.zeros(0, jnp.int32))


def _evaluated(jaxpr: Any, operands: Sequence[Any], instead: Callable[[Any, list[Any]], list[Any] | None]) -> list[Any]:
    """The results of a jaxpr; those of an equation are `instead(equation, operands)` where that is not None."""
    known = dict(zip(jaxpr.invars, operands, strict=True))

    def read(v):
        return v.val if isinstance(v, Literal) else known[v]

    for eqn in jaxpr.eqns:
        ins = [*map(read, eqn.invars)]
        out = instead(eqn, ins)
        if out is None:
            with eqn.ctx.manager:
                out = eqn.primitive.bind(*ins, **eqn.primitive.get_bind_params(eqn.params))
        known.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return [*map(read, jaxpr.outvars)]


def _logged(step: _Step, length: int, operands: Sequence[Any], wanted: Sequence[int]) -> tuple[list[Any], Any]:
    """The results of the scan; and `(used, logs, rows)`: of every kind of program how much of its log is used, the
    logs, and of every step the carry it began with (less what is brought back) and the events of each program."""
    n, m = step.n_consts, step.n_consts + step.n_carry
    consts, carry = [*operands[:n]], [*operands[n:m]]
    at = {id(one.eqn): one for one in step.passes}
    per = {kind: sum(one.leaves == kind for one in step.passes) for kind in step.kinds}
    rooms = {kind: per[kind] * log_room(carry[kind[0]].shape[0], length) for kind in step.kinds}
    logs = [[jnp.zeros(rooms[kind], carry[k].dtype) for k in kind] for kind in step.kinds]

    def body(state, x):
        carry, used, logs = state
        used, logs, events = [*used], [*logs], []

        def logging(eqn, ins):
            if (one := at.get(id(eqn))) is not None:
                kind, graph = step.kinds.index(one.leaves), Rows(*ins[3:N_GIVEN])
                events.append(_happened(eqn, ins))
                happened, changed = (events[-1], jnp.zeros(0, jnp.uint32)), ins[-len(eqn.outvars) :]
                used[kind], logs[kind] = keep(happened, graph, used[kind], changed, logs[kind])

        out = _evaluated(step.jaxpr.jaxpr, [*consts, *carry, *x], logging)
        saved = [carry[k] for k in wanted]
        return (out[: step.n_carry], used, logs), (out[step.n_carry :], saved, events)

    begin = carry, [jnp.int32(0) for _ in logs], logs
    (carry, used, logs), (ys, *rows) = scan(body, begin, [*operands[m:]], length)
    return [*carry, *ys], (used, logs, rows)


def _happened(eqn: Any, ins: Sequence[Any]) -> Any:
    """The events of the rows of a program, none where it does not run."""
    (value, _, live, indptr, *_), first = ins, eqn.params["program"].first
    value = value[first : first + indptr.shape[0] - 1]
    return jnp.where(live != 0, value, jnp.zeros_like(value))


# --- backward ---------------------------------------------------------------------------------------------------------


def _given(program: RowProgram) -> Callable:
    """`rows_p` whose result is known: of its operands (without synapses), the synapses, what they become, how much of
    the log is used by then, and the log."""
    n, n_units = program.n_syn, program.n_scalars + program.n_row + program.n_far

    @jax.custom_vjp
    def run(operands, synapses, after, used, log):
        return after

    def forward(operands, synapses, after, used, log):
        return after, (operands, used, log)

    def backward(kept, bars):
        operands, used, log = kept
        found = pulled(program, operands, used, log, bars)
        events = jax.tree.map(lambda x: _zero(x), operands[:N_GIVEN])
        rest = jax.tree.map(_zero, (bars, used, log))
        return ([*events, *found[:n_units]], [*found[n_units : n_units + n]], *rest)

    run.defvjp(forward, backward)
    return run


def _zero(x: Any) -> Any:
    return jnp.zeros_like(x) if eqx.is_inexact_array(x) else np.zeros(x.shape, jax.dtypes.float0)


class _Known(NamedTuple):
    """What a backward step knows of the synapses: what each leaf becomes, and of each pass how much of which log."""

    after: dict[int, Any]
    used: list[Any]
    logs: list[Any]


def _pull(step: _Step, live: Sequence[int], operands: Sequence[Any], known: _Known, bars: Sequence[Any]) -> list[Any]:
    """The cotangents of the operands of one step that are `live`, of those of its floating results."""
    floats = [k for k, v in enumerate(step.jaxpr.out_avals) if jnp.issubdtype(v.dtype, jnp.inexact)]
    at = {id(one.eqn): k for k, one in enumerate(step.passes)}

    def instead(eqn, ins):
        if (k := at.get(id(eqn))) is None:
            return None
        program, n = eqn.params["program"], len(eqn.outvars)
        after = [known.after[leaf] for leaf in step.passes[k].leaves]
        return _given(program)([*ins[:-n]], [*ins[-n:]], after, known.used[k], known.logs[k])

    def part(*moved):
        full = [*operands]
        for k, x in zip(live, moved, strict=True):
            full[k] = x
        out = _evaluated(step.jaxpr.jaxpr, full, instead)
        return [out[k] for k in floats]

    return [*jax.vjp(part, *(operands[k] for k in live))[1]([*bars])]


def _floating(step: _Step) -> tuple[list[int], list[Any]]:
    """The operands of a step that may move, and the shapes of its floating results."""
    ins = [k for k, v in enumerate(step.jaxpr.in_avals) if jnp.issubdtype(v.dtype, jnp.inexact)]
    return ins, [v for v in step.jaxpr.out_avals if jnp.issubdtype(v.dtype, jnp.inexact)]


def _needed(step: _Step, moving: Sequence[int]) -> tuple[list[int], bool, bool]:
    """The leaves of the carry whose old values a backward step reads, less synapses and what stays; and whether it
    reads what synapses were before it, and after."""
    (begin, end), avals = step.bounds(), step.jaxpr.in_avals
    after = {k: avals[begin + k] for k in step.undone}
    given = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in avals]
    number = jax.ShapeDtypeStruct((), jnp.int32)
    logs = [[jax.ShapeDtypeStruct((1,), avals[begin + k].dtype) for k in one.leaves] for one in step.passes]
    after = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in after.items()}
    known = _Known(after, [number for _ in step.passes], logs)
    bars = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in _floating(step)[1]]
    jaxpr = jax.make_jaxpr(lambda *x: _pull(step, moving, *x))(given, known, bars).jaxpr
    used = pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1]
    inner = step.jaxpr.jaxpr
    stays = {k for k in range(end - begin) if inner.invars[begin + k] is inner.outvars[k]}
    wanted = [k for k in range(end - begin) if used[begin + k] and k not in {*step.undone, *stays}]
    old = any(used[begin + k] for k in step.undone)
    return wanted, old, any(used[len(avals) : len(avals) + len(after)])


def _used(step: _Step) -> list[bool]:
    """Which operands a step depends on."""
    return pe.dce_jaxpr(step.jaxpr.jaxpr, [True] * len(step.jaxpr.jaxpr.outvars))[1]


class _Back(NamedTuple):
    """The plan of a backward pass: which operands of a step move, and what it reads."""

    moving: list[int]
    wanted: list[int]
    reads_old: bool
    reads_new: bool


@lru_cache(maxsize=64)
def _plan(step: _Step, live: tuple[int, ...]) -> _Back:
    (begin, end), depends = step.bounds(), _used(step)
    moving = [k for k in _floating(step)[0] if depends[k] and (begin <= k < end or k in live)]
    return _Back(moving, *_needed(step, moving))


def _backward(step: _Step, length: int, live: tuple[int, ...], floats: tuple[int, ...], given: Any, bars: Any) -> Any:
    operands, outs, (used, logs, (saved, events)) = given
    (n, m), (moving, wanted, reads_old, reads_new) = step.bounds(), _plan(step, live)
    consts, first, undone = operands[:n], operands[n:m], step.undone
    const = dict(zip(step.jaxpr.jaxpr.invars[:n], consts, strict=True))
    graphs = [_graph(one.eqn, const.__getitem__) for one in step.passes]
    kinds = [step.kinds.index(one.leaves) for one in step.passes]
    carried, bar = [k for k in moving if n <= k < m], dict(zip(floats, bars, strict=True))
    ends = {k: bar.get(k - n, jnp.zeros_like(first[k - n])) for k in carried}
    sums = {k: jnp.zeros_like(operands[k]) for k in moving if k < n}
    in_carry = [k for k in floats if k < step.n_carry]

    def undone_by(events, used, values):
        """Before the passes with these events."""
        used, values = [*used], dict(values)
        for one, kind, graph, value in reversed([*zip(step.passes, kinds, graphs, events, strict=True)]):
            happened = value, jnp.zeros(0, jnp.uint32)
            used[kind], old = undo(happened, graph, used[kind], logs[kind], [values[k] for k in one.leaves])
            values |= dict(zip(one.leaves, old, strict=True))
        return used, values

    def body(state, row):
        used, values, later, bars, sums = state
        xs, saved, events, ys = row
        values = dict(zip(undone, values, strict=True))
        if reads_new or reads_old:  # of the step after this one, so what is changed here is not read
            used, values = undone_by(later, used, values)
        places, left = [], [*used]
        for kind, graph, value in reversed([*zip(kinds, graphs, events, strict=True)]):
            places.insert(0, left[kind])
            left[kind] = left[kind] - _entries(value, graph)
        after, later = values, events
        if reads_old:
            used, values = undone_by(events, used, values)
            later = jax.tree.map(jnp.zeros_like, events)
        elif not reads_new:
            used = left
        carry = [*first]
        for k, x in (*zip(wanted, saved, strict=True), *values.items()):
            carry[k] = x
        own = [bars.get(k + n, jnp.zeros_like(outs[k])) for k in in_carry]
        known = _Known(after, places, [logs[kind] for kind in kinds])
        pulled = _pull(step, moving, [*consts, *carry, *xs], known, [*own, *ys])
        found = dict(zip(moving, pulled, strict=True))
        sums = {k: x + found[k] for k, x in sums.items()}
        bars = {k: found[k] for k in carried}
        return (used, [values[k] for k in undone], later, bars, sums), [found[k] for k in moving if k >= m]

    begin = used, [outs[k] for k in undone], [jnp.zeros_like(x[0]) for x in events], ends, sums
    rows = [*operands[m:]], saved, events, [bar[k] for k in floats if k >= step.n_carry]
    (_, _, _, ends, sums), out = lax.scan(body, begin, rows, length, reverse=True)
    found = ends | sums | dict(zip([k for k in moving if k >= m], out, strict=True))
    full = jnp.asarray(False)
    for size, log in zip(used, logs, strict=True):
        full = full | (size > log[0].shape[0])
    lost = lambda x: jnp.where(full, jnp.full_like(x, jnp.nan), x)  # noqa: E731
    return [lost(found[k]) if k in found else jnp.zeros_like(operands[k]) for k in live]


def _entries(value: Any, graph: Rows) -> Any:
    """How many entries the rows with events have."""
    length = jnp.diff(graph.indptr)
    return jnp.sum(jnp.where(value[: length.shape[0]] != 0, length, 0), dtype=jnp.int32)
