"""`scan`: `jax.lax.scan`, as one call where its body consists of kernels and of arithmetic on scalars and units.

XLA pays about 0.3 us for every operation of a loop, and that is more than a kernel takes for a thousand units. So the
body is written down as a tape (`_tape`), which a C++ loop plays, step after step. Anything else in the body, and the
whole scan stays with XLA.

What JAX makes of a scan, above all its derivatives, are `jax.lax.scan`s again; those whose bodies call kernels are
played as well, from where they become machine code: the last section. JAX's table of lowerings is changed for that when
the first kernel is traced, and not by an import; a scan without kernels goes to JAX's own rule, as it came.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base import alike, evaluated, made_of, vary_with, warn_of_copies
from ..base.jax_internals import ClosedJaxpr, Primitive, batching, lowering_of, mlir, primitives
from ..events import _ffi
from ..events._primitives import Kernel, outer_p, to_front
from . import _fused, _loop, _past, _rows, _tangent
from ._body import Body, Prepared, adding, calls, invariant_apart, is_key, prepared
from ._fused import over, unavailable
from ._past import past_p
from ._rows import rows_p
from ._rules import scan_sizes
from ._tape import KERNELS, refusal, tape_of

scan_p = Primitive("brainsim_scan")
scan_p.multiple_results = True


_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


@contextmanager
def observed() -> Iterator[list[str]]:
    """Of every `scan` that is traced meanwhile in this context: empty where it is one call, else the reason why not."""
    said: list[str] = []
    token = _said.set(said)
    try:
        yield said
    finally:
        _said.reset(token)


def observing() -> bool:
    """Whether this is within `observed`: what has been traced before must then be traced again."""
    return _said.get() is not None


def _say(reason: str) -> str:
    if (said := _said.get()) is not None:
        said.append(reason)
    return reason


def scan(
    f: Callable, init: Any, xs: Any, length: int, tell: Callable[[bool], None] = lambda played: None
) -> tuple[Any, Any]:
    """`jax.lax.scan(f, init, xs, length)`. `tell` is told whether it is one call: a `vmap` then has every result on its
    first axis, where `lax.scan` has what is stacked on the second."""
    if _say(unavailable()):
        return lax.scan(f, init, xs, length)
    closed, carry, ys = _traced(f, init, xs)
    flat, tree = jax.tree.flatten(init)
    n = len(flat)
    if carry != tree or not all(map(alike, (v.aval for v in closed.jaxpr.outvars[:n]), closed.in_avals[:n])):
        _say("the carry changes its type")
        return lax.scan(f, init, xs, length)  # it says what is wrong, or widens a weak type
    operands = [*closed.consts, *flat, *jax.tree.leaves(xs)]
    step = prepared(closed, n)
    played = not _say(refusal(step.body))
    tell(played)
    if not played:
        call = partial(evaluated, closed)

        def again(carry, x):
            out = call(*carry, *jax.tree.leaves(x))
            return out[:n], out[n:]

        final, rows = lax.scan(again, flat, xs, length)
    else:
        outs = _play(*operands, step=step, length=length, reverse=False)
        final, rows = outs[:n], outs[n:]
    return jax.tree.unflatten(tree, final), jax.tree.unflatten(ys, rows)


def _traced(f: Callable, init: Any, xs: Any) -> tuple[ClosedJaxpr, Any, Any]:
    """The body, and the structures of the carry and the row that it returns."""
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    closed, (carry, ys) = jax.make_jaxpr(f, return_shape=True)(init, rows)
    return closed, jax.tree.structure(carry), jax.tree.structure(ys)


def _play(*operands: Any, step: Prepared, length: int, reverse: bool) -> list[Any]:
    """The final carry and the rows, of the operands of the whole scan."""
    used = [operands[i] for i in step.places]
    used = [jax.random.key_data(x) if is_key(x) else x for x in used]  # kernels know keys as words
    outs = iter(scan_p.bind(*used, body=step.body, length=length, reverse=reverse, rank=0))
    final = [operands[i] if i >= 0 else next(outs) for i in step.kept]
    rows = list(outs)
    return [*final, *(rows[k] for k in step.rows)]


# --- the primitive ----------------------------------------------------------------------------------------------------


def _as(aval: Any, x: Any) -> Any:
    """A constant as the body knows it: a random key comes as its words."""
    return jax.random.wrap_key_data(x) if is_key(aval) else x


def reference(*operands: Any, body: Body, length: int, reverse: bool, rank: int) -> list[Any]:
    """What `scan_p` computes, in JAX."""
    call = partial(evaluated, body.jaxpr)

    def one(*operands):
        consts = [_as(v.aval, x) for v, x in zip(body.jaxpr.jaxpr.invars[: body.n_consts], operands)]
        carry = operands[body.n_consts : body.n_consts + body.n_carry]

        def f(carry, x):
            out = call(*consts, *carry, *x)
            return out[: body.n_carry], out[body.n_carry :]

        rows = [*operands[body.n_consts + body.n_carry :]]
        carry, ys = lax.scan(f, vary_with([*carry], operands), rows, length, reverse)
        return [*carry, *ys]

    return over(one, rank, operands)


@scan_p.def_abstract_eval
def _(*operands, body, length, reverse, rank):
    del reverse
    batch = np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands))
    avals = [v.aval for v in body.jaxpr.jaxpr.outvars]
    outs = [made_of(operands, (*batch, *a.shape), a.dtype) for a in avals[: body.n_carry]]
    return outs + [made_of(operands, (*batch, length, *a.shape), a.dtype) for a in avals[body.n_carry :]]


def _batch_rule(operands, dims, *, body, rank, **params):
    front, _ = to_front(operands, dims, range(body.n_consts, body.n_consts + body.n_carry))
    outs = scan_p.bind(*front, body=body, rank=rank + 1, **params)
    return outs, [0] * len(outs)


batching.primitive_batchers[scan_p] = _batch_rule


@lru_cache(maxsize=256)
def _jitted(**params: Any) -> Callable:
    return jax.jit(partial(scan_p.bind, **params))


scan_p.def_impl(lambda *operands, **params: _jitted(**params)(*operands))
_fallback = mlir.lower_fun(reference, multiple_results=True)


def _lower(ctx, *operands, body, length, reverse, rank):
    if unavailable():
        return _fallback(ctx, *operands, body=body, length=length, reverse=reverse, rank=rank)
    warn_of_copies(ctx.module_context.axis_context)
    tape = tape_of(body)
    in_place = ((body.n_consts + k, k) for k in range(body.n_carry))
    alias = {i: k for i, k in in_place if alike(ctx.avals_in[i], ctx.avals_out[k])}
    call = jax.ffi.ffi_lowering(_ffi.target("scan"), operand_output_aliases=alias)
    code = np.asarray(tape.compiled(), np.int64)
    numbers = {"length": length, "reverse": reverse, "rank": rank, "work": tape.work}
    return call(ctx, *operands, tape=code, **{name: np.int64(x) for name, x in numbers.items()})


mlir.register_lowering(scan_p, _fallback)
mlir.register_lowering(scan_p, _lower, platform="cpu")


def _alone(primitive: Any, reference: Callable, changed: Callable[..., list[int]]) -> None:
    """Lets a program over synapses outside of a played scan be a scan of one step; `changed`: the places of the
    operands that it changes."""
    plain = mlir.lower_fun(reference, multiple_results=True)

    def lower(ctx, *operands, rank, **params):
        avals = [a.update(shape=a.shape[rank:]) for a in ctx.avals_in]
        last = changed(avals, **params)
        order = [*(k for k in range(len(avals)) if k not in last), *last]

        def one(*ordered):
            given = [x for _, x in sorted(zip(order, ordered, strict=True), key=lambda pair: pair[0])]
            return primitive.bind(*given, rank=0, **params)

        if unavailable():
            return plain(ctx, *operands, rank=rank, **params)
        body = Body(jax.make_jaxpr(one)(*(avals[k] for k in order)), len(avals) - len(last), len(last))
        if refusal(body):
            return plain(ctx, *operands, rank=rank, **params)

        def play(*operands):
            batch = np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands))
            ordered = [
                jnp.broadcast_to(operands[k], (*batch, *avals[k].shape)) if k in last else operands[k] for k in order
            ]
            return scan_p.bind(*ordered, body=body, length=1, reverse=False, rank=rank)

        return mlir.lower_fun(play, multiple_results=True)(ctx, *operands)

    mlir.register_lowering(primitive, lower, platform="cpu")


_alone(rows_p, _rows.reference, lambda avals, program: [*range(len(avals) - program.n_written, len(avals))])
_alone(past_p, _past.reference, lambda avals, undo: [4, *range(len(avals) - _past.n_changed(avals), len(avals))])


# --- jax.lax.scan -----------------------------------------------------------------------------------------------------

_rule: Any = lowering_of(primitives.scan_p)


def _lower_lax(ctx, *operands, **params):
    if unavailable() or not (known := _known(**params)):
        return _rule(ctx, *operands, **params)
    jaxpr, (n_consts, n_carry), length, reverse = known
    if calls(jaxpr.jaxpr, KERNELS):
        step, once = prepared(jaxpr, n_carry, n_consts), None
        if refusal(step.body):  # what is the same in every step may be what a tape has no word for
            once, apart = invariant_apart(jaxpr, n_consts)
            step = prepared(apart, n_carry, n_consts + len(once.out_avals))
        if not refusal(step.body):

            def play(*operands):
                values = evaluated(once, *operands[:n_consts]) if once else []
                operands = *operands[:n_consts], *values, *operands[n_consts:]
                return _play(*jaxpr.consts, *operands, step=step, length=length, reverse=reverse)

            return mlir.lower_fun(play, multiple_results=True)(ctx, *operands)
    if calls(jaxpr.jaxpr, [outer_p], barriers=True):
        params["jaxpr"] = jaxpr.replace(jaxpr=adding(jaxpr.jaxpr))
    return _rule(ctx, *operands, **params)


def _known(jaxpr: Any = None, length: Any = None, reverse: Any = None, **others: Any) -> tuple | None:
    """What there is to know of a scan without effects; None where JAX has come to call it otherwise, which costs speed
    only."""
    known = jaxpr, scan_sizes(others), length, reverse
    return None if None in known or jaxpr.effects else known


@cache
def _install() -> None:
    """Let scans be lowered by `_lower_lax`; where JAX's own rule is no longer found, that costs speed only."""
    if _rule is not None and not unavailable():
        mlir.register_lowering(primitives.scan_p, _lower_lax, platform="cpu")


Kernel.when_traced.append(_install)


def forget() -> None:
    """Free tapes, derivatives of programs and machine code; what has been compiled with them cannot run any more."""
    for kept in (tape_of, refusal, _jitted, _tangent.tangent_of, _tangent.transpose_of):
        kept.cache_clear()
    _fused.forget()
    for number in _loop.forget():
        _ffi.register_fused(number, 0)
