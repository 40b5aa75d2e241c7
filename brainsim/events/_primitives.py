"""Three primitives, each the transpose of the others; `collect` and `place`, each that of the other; and `append`,
`room`, `tally`, `bits` and `normals`.

Only this file and its neighbours in `fusion` speak to JAX's internals.

The three exist for stored synapses (`_pure`), for drawn ones (`_draws`) and for convolutions, whose weights places
share (`_pure`), under the same rules.

`scatter`, `gather` and `outer` are the three derivatives of one trilinear form (see `_pure`), so their rules close:
grad, jvp, vmap, checkpoint and scan compose in any order and to any depth. Every operand carries the same number of
leading batch axes, each of size 1 or that of the batch: `vmap` adds an axis and never copies an operand, whatever
it maps over. What a size of 1 means for a result: the batch adds up there (`scatter.base`, `outer`'s `batch`), so
the cotangent of a shared operand is one call and never a batch of partial ones. `vmap` gives every element a result.

`first` is the unit of the topology's row 0 in arrays over units. `words`, bit k of word w for value[32 w + k] != 0,
spare the kernels the search for values; where the values are others than the caller's, they are empty.
"""

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import made_of
from ..base.jax_internals import Primitive, ShapedArray, ad, batching, mlir
from . import _draws, _ffi, _pure


class Kernel(Primitive):
    """A primitive of this package: `when_traced` is called whenever one becomes part of a program."""

    when_traced: ClassVar[list[Callable[[], None]]] = []

    def bind(self, *args: Any, **params: Any) -> Any:
        for call in self.when_traced:
            call()
        return super().bind(*args, **params)


class Family(NamedTuple):
    """The three derivatives of one trilinear form."""

    scatter: Primitive
    gather: Primitive
    outer: Primitive


STORED = Family(*(Kernel(f"brainsim_{name}") for name in Family._fields))
DRAWN = Family(*(Kernel(f"brainsim_drawn_{name}") for name in Family._fields))
CONVOLVED = Family(*(Kernel(f"brainsim_convolved_{name}") for name in Family._fields))
scatter_p, gather_p, outer_p = STORED
outer_add_p = Kernel("brainsim_outer_add")  # `outer`, added to its first operand where that lies; see `fusion._scan`
collect_p = Kernel("brainsim_collect")
collect_p.multiple_results = True
place_p = Kernel("brainsim_place")
append_p = Kernel("brainsim_append")
append_p.multiple_results = True
room_p = Kernel("brainsim_room")
tally_p = Kernel("brainsim_tally")
tally_p.multiple_results = True
bits_p = Kernel("brainsim_bits")
normals_p = Kernel("brainsim_normals")


def _batch(nb: int, *operands: Any) -> tuple[int, ...]:
    """The batch shape of operands with `nb` leading batch axes."""
    return tuple(np.broadcast_shapes(*(x.shape[:nb] for x in operands)))


def _to_batch(x: Any, batch: Sequence[int]) -> Any:
    """Bring the leading axes of a cotangent to `batch`: sum where the operand was shared, repeat where `x` is."""
    shared = tuple(i for i, n in enumerate(batch) if n == 1 and x.shape[i] != 1)
    x = jnp.sum(x, axis=shared, keepdims=True) if shared else x
    shape = (*batch, *x.shape[len(batch) :])
    return x if x.shape == shape else jnp.broadcast_to(x, shape)


def _rows(mask: Any, value: Any) -> Any:
    """`value` in the rows of `mask`, 0 elsewhere; an empty mask means every row."""
    if mask.shape[-1] != value.shape[-1]:
        return value
    batch = np.broadcast_shapes(mask.shape, value.shape)
    return jnp.where(jnp.broadcast_to(mask, batch), jnp.broadcast_to(value, batch), jnp.zeros((), value.dtype))


def _support(support: Any, value: Any) -> Any:
    """Rows whose value has a derivative: support | (value != 0); an empty support means every row and stays so."""
    return support if support.shape[-1] != value.shape[-1] else jnp.logical_or(support, value != 0)


def _no_words(nb: int) -> Any:
    """No packed words, with `nb` batch axes."""
    return jnp.zeros((*(1,) * nb, 0), jnp.uint32)


def _unpacked(words: Any) -> Any:
    """The empty words of other values."""
    return _no_words(words.ndim - 1)


# --- shapes -----------------------------------------------------------------------------------------------------------


def _scatter_shape(base, value, weight, support, words, *topology, **params):
    del params
    batch = _batch(base.ndim - 2, base, value, weight, support, words, *topology)
    odd = any(n not in (1, full) for n, full in zip(base.shape[:-2], batch, strict=True))
    if odd or value.dtype != base.dtype or weight.dtype != base.dtype:
        raise TypeError(f"scatter: base {base}, value {value} and weight {weight} do not agree.")
    return made_of([base, value, weight, support, words, *topology], base.shape, base.dtype)


def _gather_shape(c, weight, rowmask, *topology, n_value, **params):
    del params
    batch = _batch(c.ndim - 2, c, weight, rowmask, *topology)
    if weight.dtype != c.dtype:
        raise TypeError(f"gather: c {c} and weight {weight} do not agree.")
    return made_of([c, weight, rowmask, *topology], (*batch, n_value), c.dtype)


def _outer_shape(value, c, support, words, *topology, n_weight, batch, **params):
    del params
    if value.dtype != c.dtype:
        raise TypeError(f"outer: value {value} and c {c} do not agree.")
    return made_of([value, c, support, words, *topology], (*batch, n_weight), c.dtype)


@collect_p.def_abstract_eval
def _(inbox, slot):
    both = [inbox, slot]
    return made_of(both, (*inbox.shape[:-2], inbox.shape[-1]), inbox.dtype), made_of(both, inbox.shape, inbox.dtype)


@place_p.def_abstract_eval
def _(inbox, row, slot):
    return made_of([inbox, row, slot], inbox.shape, inbox.dtype)


@append_p.def_abstract_eval
def _(buffer, count, value, words, *, many):
    del many
    of = [buffer, count, value, words]
    return made_of(of, buffer.shape, buffer.dtype), made_of(of, count.shape, count.dtype)


@room_p.def_abstract_eval
def _(*, n):
    return ShapedArray((n,), np.dtype(np.int32))


@tally_p.def_abstract_eval
def _(value, *others, rank, many):
    del many
    return (made_of([value, *others], value.shape[:rank], np.dtype(np.int32)),) * 2


@bits_p.def_abstract_eval
def _(seed, *, n, rank):
    return made_of([seed], (*seed.shape[:rank], n), np.dtype(np.uint32))


@normals_p.def_abstract_eval
def _(seed, table, *, n, dtype, rank):
    return made_of([seed, table], (*seed.shape[:rank], n), dtype)


# --- forward derivatives ----------------------------------------------------------------------------------------------


def _is_zero(x: Any) -> bool:
    return type(x) is ad.Zero


def _scatter_jvp(family, primals, tangents, **params):
    _, value, weight, support, words, *topology = primals
    dbase, dvalue, dweight = tangents[:3]
    out = family.scatter.bind(*primals, **params)
    dout = ad.instantiate_zeros(dbase)
    if not _is_zero(dvalue):
        rows = _support(support, value)
        dout = family.scatter.bind(dout, _rows(rows, dvalue), weight, rows, _unpacked(words), *topology, **params)
    if not _is_zero(dweight):
        dout = family.scatter.bind(dout, value, dweight, support, words, *topology, **params)
    return out, dout


def _gather_jvp(family, primals, tangents, **params):
    c, weight, *rest = primals
    dc, dweight = tangents[:2]
    out = family.gather.bind(*primals, **params)
    terms = []
    if not _is_zero(dc):
        terms.append(family.gather.bind(dc, weight, *rest, **params))
    if not _is_zero(dweight):
        terms.append(family.gather.bind(c, dweight, *rest, **params))
    return out, sum(terms[1:], start=terms[0])


def _outer_jvp(family, primals, tangents, **params):
    value, c, support, words, *topology = primals
    dvalue, dc = tangents[:2]
    out = family.outer.bind(*primals, **params)
    terms = []
    if not _is_zero(dvalue):
        rows = _support(support, value)
        terms.append(family.outer.bind(_rows(rows, dvalue), c, rows, _unpacked(words), *topology, **params))
    if not _is_zero(dc):
        terms.append(family.outer.bind(value, dc, support, words, *topology, **params))
    return out, sum(terms[1:], start=terms[0])


def _collect_jvp(primals, tangents):
    inbox, slot = primals
    return collect_p.bind(inbox, slot), collect_p.bind(tangents[0], slot)


def _place_jvp(primals, tangents):
    *_, slot = primals
    return place_p.bind(*primals), place_p.bind(*map(ad.instantiate_zeros, tangents[:2]), slot)


def _append_jvp(primals, tangents, **params):
    raise TypeError("compact spike recording is not differentiable; record Events(...) instead")


ad.primitive_jvps[collect_p] = _collect_jvp
ad.primitive_jvps[place_p] = _place_jvp
ad.primitive_jvps[append_p] = _append_jvp


# --- transposes -------------------------------------------------------------------------------------------------------


def _transpose(rule: Callable) -> Callable:
    """A transpose rule that is not asked when the cotangent is zero."""

    def checked(ct, *operands, **params):
        return [None] * len(operands) if _is_zero(ct) else rule(ct, *operands, **params)

    return checked


def _scatter_transpose(family, ct, base, value, weight, support, words, *topology, **params):
    out: list[Any] = [None] * (5 + len(topology))
    if ad.is_undefined_primal(base):
        out[0] = ct
    if ad.is_undefined_primal(value):
        *batch, n_value = value.aval.shape
        out[1] = _to_batch(family.gather.bind(ct, weight, support, *topology, n_value=n_value, **params), batch)
    if ad.is_undefined_primal(weight):
        *batch, n_weight = weight.aval.shape
        params |= dict(n_weight=n_weight, batch=tuple(batch))
        out[2] = family.outer.bind(value, ct, support, words, *topology, **params)
    return out


def _gather_transpose(family, ct, c, weight, rowmask, *topology, n_value, **params):
    del n_value
    out: list[Any] = [None] * (3 + len(topology))
    value, words = _rows(rowmask, ct), _no_words(ct.ndim - 1)
    if ad.is_undefined_primal(c):
        base = jnp.zeros(c.aval.shape, ct.dtype)
        out[0] = family.scatter.bind(base, value, weight, rowmask, words, *topology, **params)
    if ad.is_undefined_primal(weight):
        *batch, n_weight = weight.aval.shape
        params |= dict(n_weight=n_weight, batch=tuple(batch))
        out[1] = family.outer.bind(value, c, rowmask, words, *topology, **params)
    return out


def _outer_transpose(family, ct, value, c, support, words, *topology, n_weight, batch, **params):
    del n_weight, batch
    out: list[Any] = [None] * (4 + len(topology))
    if ad.is_undefined_primal(value):
        *batch, n_value = value.aval.shape
        out[0] = _to_batch(family.gather.bind(c, ct, support, *topology, n_value=n_value, **params), batch)
    if ad.is_undefined_primal(c):
        base = jnp.zeros(c.aval.shape, ct.dtype)
        out[1] = family.scatter.bind(base, value, ct, support, words, *topology, **params)
    return out


def _collect_transpose(cts, inbox, slot):
    if all(_is_zero(ct) for ct in cts) or not ad.is_undefined_primal(inbox):
        return [None, None]
    row, ring = (ad.instantiate_zeros(ct) for ct in cts)
    return [place_p.bind(ring, row, slot), None]


def _place_transpose(ct, inbox, row, slot):
    cts = collect_p.bind(ct, slot) if not _is_zero(ct) else (None, None)
    return [x if ad.is_undefined_primal(of) else None for x, of in zip(reversed(cts), (inbox, row))] + [None]


ad.primitive_transposes[collect_p] = _collect_transpose
ad.primitive_transposes[place_p] = _place_transpose


# --- batching ---------------------------------------------------------------------------------------------------------


def to_front(operands: Sequence[Any], dims: Sequence[Any], written: Collection[int] = ()) -> tuple[list[Any], int]:
    """Every operand with the new batch axis in front, and that axis's size. Shared ones get an axis of size 1; those
    that are `written` to are copied, one for every element."""
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    front = [jnp.expand_dims(x, 0) if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, dims, strict=True)]
    front = [_fill(x, size) if i in written else x for i, x in enumerate(front)]
    return front, size


def _fill(x: Any, size: int) -> Any:
    """Copy a shared operand over the new batch axis: what is written to must exist for every element."""
    return jnp.broadcast_to(x, (size, *x.shape[1:])) if x.shape[0] != size else x


def _scatter_batch(family, operands, dims, **params):
    (base, *rest), size = to_front(operands, dims)
    return family.scatter.bind(_fill(base, size), *rest, **params), 0


def _gather_batch(family, operands, dims, **params):
    return family.gather.bind(*to_front(operands, dims)[0], **params), 0


def _outer_batch(family, operands, dims, *, batch, **params):
    operands, size = to_front(operands, dims)
    return family.outer.bind(*operands, batch=(size, *batch), **params), 0


def _collect_batch(operands, dims):
    (inbox, slot), size = to_front(operands, dims)
    return collect_p.bind(_fill(inbox, size), slot), (0, 0)


def _place_batch(operands, dims):
    (inbox, row, slot), size = to_front(operands, dims)
    return place_p.bind(_fill(inbox, size), _fill(row, size), slot), 0


def _append_batch(operands, dims, *, many):
    (buffer, count, *rest), size = to_front(operands, dims)
    return append_p.bind(_fill(buffer, size), _fill(count, size), *rest, many=many), (0, 0)


def _tally_batch(operands, dims, *, rank, many):
    front, size = to_front(operands, dims)
    return tally_p.bind(*(_fill(x, size) for x in front), rank=rank + 1, many=many), (0, 0)


def _noise_batch(primitive, operands, dims, *, rank, **params):
    """Of the seed: the table is the same for all."""
    (seed, *table), (dim, *others) = operands, dims
    if dim is None or any(d is not None for d in others):
        raise NotImplementedError(f"{primitive}: only the seed can be mapped over")
    return primitive.bind(jnp.moveaxis(seed, dim, 0), *table, rank=rank + 1, **params), 0


batching.primitive_batchers[bits_p] = partial(_noise_batch, bits_p)
batching.primitive_batchers[normals_p] = partial(_noise_batch, normals_p)
batching.primitive_batchers[collect_p] = _collect_batch
batching.primitive_batchers[place_p] = _place_batch
batching.primitive_batchers[tally_p] = _tally_batch
batching.primitive_batchers[append_p] = _append_batch


for _family in (STORED, DRAWN, CONVOLVED):
    for _primitive, _shape, _jvp, _back, _many in (
        (_family.scatter, _scatter_shape, _scatter_jvp, _scatter_transpose, _scatter_batch),
        (_family.gather, _gather_shape, _gather_jvp, _gather_transpose, _gather_batch),
        (_family.outer, _outer_shape, _outer_jvp, _outer_transpose, _outer_batch),
    ):
        _primitive.def_abstract_eval(_shape)
        ad.primitive_jvps[_primitive] = partial(_jvp, _family)
        ad.primitive_transposes[_primitive] = _transpose(partial(_back, _family))
        batching.primitive_batchers[_primitive] = partial(_many, _family)


# --- lowering ---------------------------------------------------------------------------------------------------------


def _register(
    primitive: Primitive,
    name: str,
    pure: Callable,
    unused: int | None = None,
    attributes: Callable[..., dict[str, Any]] = dict,
    alias: dict[int, int] | None = None,
) -> None:
    """Lower to the kernel `name` on a platform that has it, to `pure` elsewhere.

    `unused` is the operand the kernel does not need, `attributes` what it is told of the parameters, `alias` its
    in-place operands.
    """
    primitive.def_impl(lambda *operands, **params: _jitted(primitive, **params)(*operands))
    fallback = mlir.lower_fun(pure, multiple_results=primitive.multiple_results)
    kernel = jax.ffi.ffi_lowering(_ffi.target(name), operand_output_aliases=alias)

    def lower(ctx, *operands, platform, **params):
        floats = [a.dtype for a in ctx.avals_in if jnp.issubdtype(a.dtype, jnp.floating)]
        if not _ffi.loaded(platform) or any(t not in (np.float32, np.float64) for t in floats):
            return fallback(ctx, *operands, **params)
        keep = [i for i in range(len(operands)) if i != unused]
        ctx = ctx.replace(avals_in=[ctx.avals_in[i] for i in keep])
        numbers = {k: np.int64(v) for k, v in attributes(**params).items()}
        return kernel(ctx, *(operands[i] for i in keep), **numbers)

    mlir.register_lowering(primitive, fallback)
    for platform in ("cpu", "cuda") if name in _ffi.CUDA_TARGETS else ("cpu",):
        mlir.register_lowering(primitive, partial(lower, platform=platform), platform=platform)


@lru_cache(maxsize=256)
def _jitted(primitive: Primitive, **params: Any) -> Callable:
    """The compiled primitive, for calls outside `jit`."""
    return jax.jit(partial(primitive.bind, **params))


def _stored(*, n_pre, fanout, first, **others):
    return dict(n_pre=n_pre, fanout=fanout, first=first)


def _stored_sorted(*, sorted_rows, **others):
    return dict(_stored(**others), sorted_rows=sorted_rows)


def _drawn(*, plan, first, **others):
    return dict(plan.attributes(), first=first)


def _convolved(*, window, first, **others):
    return dict(window=window.numbers, first=first)


_register(scatter_p, "scatter", _pure.scatter, 3, _stored_sorted, {0: 0})
_register(gather_p, "gather", _pure.gather, None, _stored)
_register(outer_p, "outer", _pure.outer, 2, _stored)
outer_add_p.def_abstract_eval(lambda base, *operands, **params: made_of([base, *operands], base.shape, base.dtype))
_register(outer_add_p, "outer_add", _pure.outer_add, 3, _stored, {0: 0})
_register(DRAWN.scatter, "drawn_scatter", _draws.scatter, 3, _drawn, {0: 0})
_register(DRAWN.gather, "drawn_gather", _draws.gather, None, _drawn)
_register(DRAWN.outer, "drawn_outer", _draws.outer, 2, _drawn)
_register(CONVOLVED.scatter, "convolved_scatter", _pure.convolved_scatter, 3, _convolved, {0: 0})
_register(CONVOLVED.gather, "convolved_gather", _pure.convolved_gather, None, _convolved)
_register(CONVOLVED.outer, "convolved_outer", _pure.convolved_outer, 2, _convolved)
_register(collect_p, "collect", _pure.collect, alias={0: 1})
place_p.def_impl(lambda *operands: _jitted(place_p)(*operands))
mlir.register_lowering(place_p, mlir.lower_fun(_pure.place, multiple_results=False))
_register(append_p, "append", _pure.append, attributes=lambda many: {"many": many}, alias={0: 0, 1: 1})
_register(room_p, "room", _pure.room, attributes=lambda n: {})
_register(tally_p, "tally", _pure.tally, attributes=lambda rank, many: {"many": many})
_register(bits_p, "bits", _pure.bits, attributes=lambda n, rank: {})
_register(normals_p, "normals", _pure.normals, attributes=lambda n, dtype, rank: {})
