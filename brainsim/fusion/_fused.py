"""One primitive: an elementwise program over the units of a node as one pass in place, with all its derivatives.

The kernel runs where there is one; the meaning, and what other platforms run, is `reference`, the same program in JAX.
Derivatives are in `_tangent`.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base import DIVERGED, alike, evaluated, made_of, warn_of_copies
from ..base.jax_internals import ClosedJaxpr, batching, mlir, partial_eval as pe
from ..events import _ffi, collect
from ..events._primitives import Kernel, to_front
from ._loop import Loop, check_llvm, compile_loop, refusal

fused_p = Kernel("brainsim_fused")
fused_p.multiple_results = True


class Program(NamedTuple):
    """An elementwise program: `jaxpr(scalars, vectors, rows) -> vectors`, the last of them the event values.

    `n_scalars` and `n_rings` say how many operands are of which kind, `alias` which vector each output may overwrite
    (-1: none), `watched` which outputs are looked at for divergence.
    """

    jaxpr: ClosedJaxpr
    n: int
    n_scalars: int
    n_rings: int
    alias: tuple[int, ...]
    watched: tuple[int, ...]

    @property
    def loop(self) -> Loop:
        return Loop(self.jaxpr, self.n_scalars, self.n, self.watched, self.n_rings, aside=self.aside)

    @property
    def aside(self) -> tuple[int, ...]:
        """Truth values in which no state lies, such as the support of events: not computed where nobody reads them."""
        kinds = [a.dtype for a in self.jaxpr.out_avals[:-1]]
        return tuple(k for k, kind in enumerate(kinds) if kind == np.bool_ and self.alias[k] < 0)

    # by identity: a jaxpr is made once per trace
    def __hash__(self) -> int:
        return hash((id(self.jaxpr), self.n, self.n_scalars, self.n_rings, self.alias, self.watched))

    def __eq__(self, other: Any) -> bool:
        return self is other or (isinstance(other, Program) and self.jaxpr is other.jaxpr and self[1:] == other[1:])


def unavailable() -> str:
    """Empty where programs can be fused, else the reason why not. `BRAINSIM_FUSION` is read whenever a run is traced;
    what is compiled stays as it is."""
    wish = os.environ.get("BRAINSIM_FUSION", "auto")
    if wish not in ("auto", "off"):
        raise ValueError(f"BRAINSIM_FUSION is {wish!r}; expected 'auto' (fuse where possible) or 'off' (XLA only).")
    if wish == "off":
        return "BRAINSIM_FUSION=off"
    return _broken()


@cache
def _broken() -> str:
    """Empty where kernels and LLVM can be used in this process, else the reason why not."""
    if not _ffi.loaded():
        return _ffi.status()
    try:
        check_llvm()
    except Exception as e:  # a broken or old LLVM must cost speed, never the run
        return f"llvmlite cannot be used: {e}".splitlines()[0]
    return ""


def why_not(program: Program) -> str:
    """Empty where the program has a kernel, else the reason why it has none."""
    return refusal(program.loop)


def fused(
    program: Program, scalars: Sequence[Any], vectors: Sequence[Any], rings: Sequence[tuple[Any, Any]]
) -> tuple[list[Any], list[Any], Any, Any, Any]:
    """Run `program` on `scalars` (), `vectors` (n,) and the rows `slot` of the `rings` (slot, (D, n)), which are
    cleared.

    **Returns:** the output vectors, the rings, packed words of the events (uint32, bit k of word w: unit 32 w + k), the
    number of events, and whether a watched output has diverged.
    """
    flat = [*scalars, *vectors, *(x for slot, ring in rings for x in (slot, ring))]
    out = fused_p.bind(*flat, program=program, rank=0)
    k = len(program.jaxpr.out_avals)
    return out[:k], out[k : k + len(rings)], *out[k + len(rings) : -1], out[-1] > 0


def split(program: Program, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    end = len(operands) - 2 * program.n_rings
    s = program.n_scalars
    return [*operands[:s]], [*operands[s:end]], [*operands[end::2]], [*operands[end + 1 :: 2]]


def smooth(program: Program, *operands: Any) -> list[Any]:
    """The outputs that may have a derivative: vectors and rings, of one batch element."""
    scalars, vectors, slots, rings = split(program, operands)
    taken = [collect(ring, slot) for slot, ring in zip(slots, rings, strict=True)]
    outs = evaluated(program.jaxpr, *scalars, *vectors, *(row for row, _ in taken))
    return [*outs, *(ring for _, ring in taken)]


def pack(value: Any) -> Any:
    """The non-zero entries of `value` (n,) as bits, uint32 (ceil(n / 32),): bit k of word w is entry 32 w + k."""
    n = value.shape[0]
    bits = jnp.zeros(-(-n // 32) * 32, jnp.uint32).at[:n].set((value != 0).astype(jnp.uint32))
    shifts = jnp.arange(32, dtype=jnp.uint32)[None, :]
    return jnp.sum(bits.reshape(-1, 32) << shifts, axis=1, dtype=jnp.uint32)


def _one(program: Program, *operands: Any) -> list[Any]:
    outs = smooth(program, *operands)
    k = len(program.jaxpr.out_avals)
    value = lax.stop_gradient(outs[k - 1])
    bad = jnp.zeros((), bool)
    for i in program.watched:
        bad = bad | jnp.any(~(jnp.abs(outs[i]) < DIVERGED))
    return [*outs, pack(value), jnp.sum(value != 0, dtype=jnp.int32), bad.astype(jnp.int32)]


def over(fn: Callable, rank: int, operands: Sequence[Any]) -> list[Any]:
    """`fn` of one batch element over `rank` leading axes, each of size 1 or that of the batch."""
    if rank == 0:
        return fn(*operands)
    shared = [x.shape[0] == 1 for x in operands]
    args = [x[0] if s else x for x, s in zip(operands, shared, strict=True)]
    if all(shared):
        return [x[None] for x in over(fn, rank - 1, args)]
    inner = partial(over, fn, rank - 1)
    return jax.vmap(lambda *args: inner(args), in_axes=[None if s else 0 for s in shared])(*args)


def reference(*operands: Any, program: Program, rank: int) -> list[Any]:
    """What `fused_p` computes, in JAX."""
    return over(partial(_one, program), rank, operands)


@fused_p.def_abstract_eval
def _(*operands, program, rank):
    batch = np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands))
    rings = operands[len(operands) - 2 * program.n_rings + 1 :: 2] if program.n_rings else ()
    outs = [made_of(operands, (*batch, *a.shape), a.dtype) for a in program.jaxpr.out_avals]
    outs += [made_of(operands, (*batch, *x.shape[rank:]), x.dtype) for x in rings]
    words = made_of(operands, (*batch, -(-program.n // 32)), np.dtype(np.uint32))
    count = made_of(operands, batch, np.dtype(np.int32))
    return [*outs, words, count, count]


@lru_cache(maxsize=512)
def _without(program: Program, unread: tuple[int, ...]) -> Program:
    keep = [k for k in range(len(program.alias)) if k not in unread]
    jaxpr = program.jaxpr.jaxpr
    jaxpr = jaxpr.replace(outvars=[jaxpr.outvars[k] for k in keep], debug_info=jaxpr.debug_info.with_unknown_names())
    jaxpr, _ = pe.dce_jaxpr(jaxpr, [True] * len(keep), True)
    watched = tuple(keep.index(k) for k in program.watched)
    alias = tuple(program.alias[k] for k in keep)
    return program._replace(jaxpr=program.jaxpr.replace(jaxpr=jaxpr), alias=alias, watched=watched)


def _dce_rule(used, *others):
    *_, eqn = others  # from jax 0.12 on, which inputs live on comes before
    if not any(used):
        return [False] * len(eqn.invars), None
    program = eqn.params["program"]
    unread = tuple(k for k in program.aside if not used[k])
    if unread:
        outvars = [v for k, v in enumerate(eqn.outvars) if k not in unread]
        eqn = eqn.replace(outvars=outvars, params=eqn.params | dict(program=_without(program, unread)))
    return [True] * len(eqn.invars), eqn


pe.dce_rules[fused_p] = _dce_rule


def _batch_rule(operands, dims, *, program, rank):
    first_ring = len(operands) - 2 * program.n_rings
    written = {program.n_scalars + k for k in program.alias if k >= 0}
    written |= set(range(first_ring + 1, len(operands), 2))
    front, _ = to_front(operands, dims, written)
    outs = fused_p.bind(*front, program=program, rank=rank + 1)
    return outs, [0] * len(outs)


batching.primitive_batchers[fused_p] = _batch_rule


@lru_cache(maxsize=256)
def _jitted(**params: Any) -> Callable:
    return jax.jit(partial(fused_p.bind, **params))


fused_p.def_impl(lambda *operands, **params: _jitted(**params)(*operands))
_fallback = mlir.lower_fun(reference, multiple_results=True)


def _lower(ctx, *operands, program, rank):
    if unavailable() or why_not(program):
        return _fallback(ctx, *operands, program=program, rank=rank)
    warn_of_copies(ctx.module_context.axis_context)
    number, address = compile_loop(program.loop)
    _ffi.register_fused(number, address)
    alias = {}
    for k, vector in enumerate(program.alias):
        source = program.n_scalars + vector
        if vector >= 0 and alike(ctx.avals_in[source], ctx.avals_out[k]):
            alias[source] = k
    first_ring, k = len(operands) - 2 * program.n_rings, len(program.alias)
    for r in range(program.n_rings):
        if alike(ctx.avals_in[first_ring + 2 * r + 1], ctx.avals_out[k + r]):
            alias[first_ring + 2 * r + 1] = k + r
    call = jax.ffi.ffi_lowering(_ffi.target("fused"), operand_output_aliases=alias)
    numbers = {"id": number, "n": program.n, "n_scalars": program.n_scalars, "n_rings": program.n_rings, "rank": rank}
    return call(ctx, *operands, **{name: np.int64(x) for name, x in numbers.items()})


mlir.register_lowering(fused_p, _fallback)
mlir.register_lowering(fused_p, _lower, platform="cpu")


def forget() -> None:
    """Free programs cut to what is read, and those compiled for calls outside `jit`."""
    _without.cache_clear()
    _jitted.cache_clear()
