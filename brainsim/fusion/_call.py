"""`call`: a function as one operation, which keeps the derivative it says it has.

Where JAX splits a scan into what is known and what is linear, it writes out the `custom_jvp` functions in its body and
forgets their derivatives, which second derivatives take. A primitive stays as it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.dtypes import float0

from ..base import evaluated
from ..base.jax_internals import ClosedJaxpr, Primitive, ad, batching, mlir, partial_eval as pe
from ._body import written_out

call_p = Primitive("brainsim_call")
call_p.multiple_results = True


def call(f: Callable, *args: Any) -> Any:
    """`f(*args)` of arrays."""
    closed, out = jax.make_jaxpr(f, return_shape=True)(*args)
    inner = closed.jaxpr
    invars, info = [*inner.constvars, *inner.invars], inner.debug_info.with_unknown_names()
    jaxpr = ClosedJaxpr(inner.replace(constvars=[], invars=invars, debug_info=info), [])
    return jax.tree.unflatten(jax.tree.structure(out), call_p.bind(*closed.consts, *args, jaxpr=jaxpr))


def _reference(*operands: Any, jaxpr: ClosedJaxpr) -> list[Any]:
    return evaluated(jaxpr, *operands)


@call_p.def_abstract_eval
def _(*operands, jaxpr):
    return jaxpr.out_avals


def _jvp(primals, tangents, *, jaxpr):
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad.Zero]

    def part(*xs):
        operands = list(primals)
        for i, x in zip(moving, xs, strict=True):
            operands[i] = x
        return _reference(*operands, jaxpr=jaxpr)

    outs, changes = jax.jvp(part, [primals[i] for i in moving], [tangents[i] for i in moving])
    still = [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in outs]
    return outs, [z if np.result_type(t) == float0 else t for z, t in zip(still, changes, strict=True)]


def _batch(operands, dims, *, jaxpr):
    """A batch of those results only that are computed from one: that of `custom_jvp` has no others."""
    n, inner = len(jaxpr.out_avals), written_out(jaxpr.jaxpr)
    used = [pe.dce_jaxpr(inner, [j == k for j in range(n)])[1] for k in range(n)]
    outs = [0 if any(u and d is not None for u, d in zip(by, dims, strict=True)) else None for by in used]
    return jax.vmap(partial(evaluated, jaxpr), in_axes=tuple(dims), out_axes=outs)(*operands), outs


call_p.def_impl(_reference)
ad.primitive_jvps[call_p] = _jvp
batching.primitive_batchers[call_p] = _batch
mlir.register_lowering(call_p, mlir.lower_fun(_reference, multiple_results=True))
