"""Derivatives of a fused program, fused too: its tangent and its cotangent are elementwise programs as well.

What they keep of a step are the operands of the program, not what lies between. Where a scalar operand is
differentiated (its cotangent is a sum over units) or there is no kernel, JAX differentiates `smooth`.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import evaluated, made_of
from ..base.jax_internals import ClosedJaxpr, Primitive, ad, batching, mlir, partial_eval as pe
from ..events import collect
from ..events._primitives import to_front
from ._fused import Program, fused_p, over, smooth, split, unavailable, why_not

tangent_p = Primitive("brainsim_fused_tangent")
tangent_p.multiple_results = True


class Linear(NamedTuple):
    """A program that is linear in its last operands; `used`: which of those it could have it needs, `n_given`: how many
    of these come before the linear ones."""

    program: Program
    used: tuple[int, ...]
    n_given: int


def _pruned(closed: ClosedJaxpr, n: int, n_scalars: int, n_given: int) -> Linear:
    jaxpr, used = pe.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    alias = (-1,) * len(closed.jaxpr.outvars)
    program = Program(closed.replace(jaxpr=jaxpr), n, sum(used[:n_scalars]), 0, alias, ())
    return Linear(program, tuple(i for i, u in enumerate(used) if u), sum(used[:n_given]))


@lru_cache(maxsize=512)
def tangent_of(program: Program, places: tuple[int, ...]) -> Linear:
    """The tangents of the floating outputs, linear in those of the operands at `places`."""
    avals, n_given = program.jaxpr.in_avals, len(program.jaxpr.in_avals)
    outs = [i for i, a in enumerate(program.jaxpr.out_avals) if jnp.issubdtype(a.dtype, jnp.floating)]

    def tangent(*flat):
        given, dots = list(flat[:n_given]), flat[n_given:]

        def part(*xs):
            for i, x in zip(places, xs, strict=True):
                given[i] = x
            values = evaluated(program.jaxpr, *given)
            return [values[i] for i in outs]

        return jax.jvp(part, [given[i] for i in places], list(dots))[1]

    closed = jax.make_jaxpr(tangent)(*avals, *(avals[i] for i in places))
    return _pruned(closed, program.n, program.n_scalars, n_given)


@lru_cache(maxsize=512)
def transpose_of(linear: Linear, live: tuple[int, ...]) -> Linear:
    """The cotangents of the linear operands, from those of the outputs in `live`."""
    jaxpr, n_given = linear.program.jaxpr, linear.n_given
    given, dots = jaxpr.in_avals[:n_given], jaxpr.in_avals[n_given:]

    def transposed(*flat):
        def forward(*dots):
            values = evaluated(jaxpr, *flat[:n_given], *dots)
            return [values[i] for i in live]

        return jax.linear_transpose(forward, *dots)(list(flat[n_given:]))

    closed = jax.make_jaxpr(transposed)(*given, *(jaxpr.out_avals[i] for i in live))
    return _pruned(closed, linear.program.n, linear.program.n_scalars, n_given)


def _run(*operands: Any, linear: Linear, rank: int) -> list[Any]:
    return fused_p.bind(*operands, program=linear.program, rank=rank)[: len(linear.program.alias)]


@tangent_p.def_abstract_eval
def _(*operands, linear, rank):
    batch = np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands))
    return [made_of(operands, (*batch, *a.shape), a.dtype) for a in linear.program.jaxpr.out_avals]


def _transpose(cts, *operands, linear, rank):
    n, live = linear.n_given, tuple(i for i, ct in enumerate(cts) if type(ct) is not ad.Zero)
    if not live:
        return [None] * len(operands)
    back = transpose_of(linear, live)
    given = [*operands[:n], *(cts[i] for i in live)]
    outs = _run(*(given[i] for i in back.used), linear=back, rank=rank)
    shapes = [(x.aval if ad.is_undefined_primal(x) else x).shape for x in operands]
    batch = np.broadcast_shapes(*(shape[:rank] for shape in shapes))
    result: list[Any] = [None] * len(operands)
    for k, ct in enumerate(outs, start=n):
        if ad.is_undefined_primal(operands[k]):
            # one for every batch element, as some may need no operand that is batched; then summed where one was shared
            ct = jnp.broadcast_to(ct, (*batch, *ct.shape[rank:]))
            shared = tuple(a for a in range(rank) if shapes[k][a] == 1 != batch[a])
            result[k] = jnp.sum(ct, axis=shared, keepdims=True) if shared else ct
    return result


def _tangent_jvp(primals, tangents, *, linear, rank):
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad.Zero]

    def part(*xs):
        operands = list(primals)
        for i, x in zip(moving, xs, strict=True):
            operands[i] = x
        return _run(*operands, linear=linear, rank=rank)

    return jax.jvp(part, [primals[i] for i in moving], [tangents[i] for i in moving])


def _tangent_batch(operands, dims, *, linear, rank):
    front, _ = to_front(operands, dims)
    outs = tangent_p.bind(*front, linear=linear, rank=rank + 1)
    return outs, [0] * len(outs)


@lru_cache(maxsize=256)
def _jitted(**params: Any) -> Any:
    return jax.jit(partial(_run, **params))


tangent_p.def_impl(lambda *operands, **params: _jitted(**params)(*operands))
ad.primitive_jvps[tangent_p] = _tangent_jvp
ad.primitive_transposes[tangent_p] = _transpose
batching.primitive_batchers[tangent_p] = _tangent_batch
mlir.register_lowering(tangent_p, mlir.lower_fun(_run, multiple_results=True))


# --- the derivative of a step -----------------------------------------------------------------------------------------


def _jvp(primals, tangents, *, program, rank):
    outs = fused_p.bind(*primals, program=program, rank=rank)
    moving = tuple(i for i, t in enumerate(tangents) if type(t) is not ad.Zero)
    dots = [tangents[i] for i in moving]
    if moving and moving[0] >= program.n_scalars and not unavailable() and not why_not(program):
        changes = over(partial(_fused_change, program, moving), rank, [*primals, *dots])
    else:
        changes = over(partial(_change, program, moving), rank, [*primals, *dots])
    floating = [i for i, x in enumerate(outs[:-3]) if jnp.issubdtype(x.dtype, jnp.floating)]
    douts: list[Any] = [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in outs]
    for i, change in zip(floating, changes, strict=True):
        douts[i] = change
    return outs, douts


def _change(program: Program, moving: tuple[int, ...], *operands: Any) -> list[Any]:
    """The tangents of the floating outputs of one batch element, by JAX; `operands` end with the tangents of those
    that move."""
    primals, dots = list(operands[: -len(moving)]), operands[-len(moving) :]

    def part(*xs):
        for i, x in zip(moving, xs, strict=True):
            primals[i] = x
        return [x for x in smooth(program, *primals) if jnp.issubdtype(x.dtype, jnp.floating)]

    return jax.jvp(part, [primals[i] for i in moving], list(dots))[1]


def _fused_change(program: Program, moving: tuple[int, ...], *operands: Any) -> list[Any]:
    """The same by a fused program, where vectors and rings move."""
    primals, dots = operands[: -len(moving)], dict(zip(moving, operands[-len(moving) :], strict=True))
    scalars, vectors, slots, rings = split(program, primals)
    first_ring = program.n_scalars + len(vectors)
    taken = {r: collect(dots[i], slots[r]) for r in range(len(rings)) if (i := first_ring + 2 * r + 1) in dots}
    moved = [dots[i] for i in moving if i < first_ring] + [row for row, _ in taken.values()]
    places = [i for i in moving if i < first_ring] + [first_ring + r for r in taken]
    linear = tangent_of(program, tuple(places))
    rows = [collect(ring, slot)[0] for slot, ring in zip(slots, rings, strict=True)]
    given: Sequence[Any] = [*scalars, *vectors, *rows, *moved]
    changes = tangent_p.bind(*(given[i] for i in linear.used), linear=linear, rank=0)
    return [*changes, *(taken[r][1] if r in taken else jnp.zeros_like(x) for r, x in enumerate(rings))]


ad.primitive_jvps[fused_p] = _jvp
