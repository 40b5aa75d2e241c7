"""`linear`: a linear function that says what its transpose is, under `vmap` too."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..base import shapes_of
from ..base.jax_internals import Primitive, ad, batching, mlir

linear_p = Primitive("brainsim_linear")
linear_p.multiple_results = True

Linear = Callable[[list[Any], list[Any]], list[Any]]


def linear(forward: Linear, backward: Linear, known: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """`forward(known, values)`, linear in `values`; `backward(known, bars)` are the cotangents of the values."""
    return linear_p.bind(*known, *values, forward=forward, backward=backward, n=len(known))


def _run(*operands: Any, forward: Linear, backward: Linear, n: int) -> list[Any]:
    del backward
    return [*forward([*operands[:n]], [*operands[n:]])]


@linear_p.def_abstract_eval
def _(*avals, forward, backward, n):
    outs = jax.make_jaxpr(partial(_run, forward=forward, backward=backward, n=n))(*map(shapes_of, avals)).out_avals
    return outs


def _jvp(primals, tangents, **params):
    return jax.jvp(partial(_run, **params), primals, [*map(ad.instantiate_zeros, tangents)])


def _transpose(bars, *operands, forward, backward, n):
    del forward
    return [None] * n + [*backward([*operands[:n]], [*map(ad.instantiate_zeros, bars)])]


def _batch(operands, dims, *, forward, backward, n):
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    moved = [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(operands[n:], dims[n:], strict=True)
    ]
    axes = [*dims[:n]]
    out = linear_p.bind(
        *operands[:n],
        *moved,
        forward=jax.vmap(forward, in_axes=(axes, 0)),
        backward=jax.vmap(backward, in_axes=(axes, 0)),
        n=n,
    )
    return out, [0] * len(out)


linear_p.def_impl(_run)
ad.primitive_jvps[linear_p] = _jvp
ad.primitive_transposes[linear_p] = _transpose
batching.primitive_batchers[linear_p] = _batch
mlir.register_lowering(linear_p, mlir.lower_fun(_run, multiple_results=True))
