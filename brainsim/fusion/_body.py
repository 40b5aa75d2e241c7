"""The body of a scan, written anew: without calls, without what nothing depends on, and so that arrays stay where they
lie."""

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..base import alike
from ..base.jax_internals import ClosedJaxpr, Literal, Var, partial_eval as pe
from ..events._primitives import CONVOLVED, DRAWN, append_p, collect_p, outer_add_p, outer_p, place_p, scatter_p
from ._fused import fused_p
from ._rules import INLINED


class Body(NamedTuple):
    """One step: `jaxpr(constants, carry, rows) -> (carry, rows)`."""

    jaxpr: ClosedJaxpr
    n_consts: int
    n_carry: int

    # by identity: a jaxpr is made once per trace
    def __hash__(self) -> int:
        return hash((id(self.jaxpr), self.n_consts, self.n_carry))

    def __eq__(self, other: Any) -> bool:
        return self is other or (isinstance(other, Body) and self.jaxpr is other.jaxpr and self[1:] == other[1:])


def is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def calls(jaxpr: Any, primitives: Sequence[Any], barriers: bool = False) -> bool:
    """Whether a body has one of these in it, as `written_out` would write it, not counting what loops in it do."""
    inner = [_inner(e, barriers) for e in jaxpr.eqns]
    return any(e.primitive in primitives for e in jaxpr.eqns) or any(
        calls(x.jaxpr, primitives, barriers) for x in inner if x
    )


class Prepared(NamedTuple):
    """The body of a scan without what nothing depends on, and how the scan's operands and results are related to it."""

    body: Body
    places: list[int]  # of its operands among those of the scan
    kept: list[int]  # where a part of the carry is that it leaves alone, among the operands; -1 for the others
    rows: list[int]  # which of its rows is each row of the scan


def prepared(closed: ClosedJaxpr, n_carry: int, n_consts: int = 0) -> Prepared:
    """The body `closed(constants, carry, rows) -> (carry, rows)`; the constants of `closed` itself come first among the
    operands."""
    jaxpr = written_out(closed.jaxpr)
    invars, n_consts = [*jaxpr.constvars, *jaxpr.invars], n_consts + len(jaxpr.constvars)
    carry = range(n_consts, n_consts + n_carry)
    kept = [i if jaxpr.outvars[k] is invars[i] else -1 for k, i in enumerate(carry)]
    still, moving = [i for i in carry if i in kept], [i for i in carry if i not in kept]
    order = [*range(n_consts), *still, *moving, *range(n_consts + n_carry, len(invars))]
    rows = jaxpr.outvars[n_carry:]
    once = [v for k, v in enumerate(rows) if not any(v is u for u in rows[:k])]
    outvars = [*(v for v, i in zip(jaxpr.outvars, kept) if i < 0), *once]
    counts = {e.outvars[_VALUE - e.params["program"].n_rings]: e.outvars[-2] for e in jaxpr.eqns if _spiking(e)}
    eqns = [_forward(eqn, counts) for eqn in jaxpr.eqns]
    info, invars = jaxpr.debug_info.with_unknown_names(), [invars[i] for i in order]
    jaxpr = jaxpr.replace(constvars=[], invars=invars, outvars=outvars, eqns=eqns, debug_info=info)
    first = n_consts + len(still)
    carried = [first <= k < first + len(moving) for k in range(len(order))]
    jaxpr, used = pe.dce_jaxpr(jaxpr, [True] * len(outvars), carried)
    places = [i for i, u in zip(order, used, strict=True) if u]
    body = Body(ClosedJaxpr(jaxpr, []), sum(used[:first]), len(moving))
    return Prepared(body, places, kept, [next(k for k, u in enumerate(once) if u is v) for v in rows])


def invariant_apart(closed: ClosedJaxpr, n_consts: int) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The body of a scan as two: what depends on its constants alone, `(constants) -> values`, and the rest, with those
    values behind its constants."""
    jaxpr = written_out(closed.jaxpr)
    consts, others = jaxpr.invars[:n_consts], jaxpr.invars[n_consts:]
    fixed, first, rest = {*jaxpr.constvars, *consts}, [], []
    for eqn in jaxpr.eqns:
        if not eqn.effects and all(hasattr(v, "val") or v in fixed for v in eqn.invars):
            first.append(eqn)
            fixed |= {*eqn.outvars}
        else:
            rest.append(eqn)
    read = {v for eqn in rest for v in eqn.invars if not hasattr(v, "val")}
    read |= {v for v in jaxpr.outvars if not hasattr(v, "val")}
    values = [v for eqn in first for v in eqn.outvars if v in read]
    info = jaxpr.debug_info.with_unknown_names()
    before = jaxpr.replace(invars=consts, outvars=values, eqns=first, debug_info=info)
    after = jaxpr.replace(invars=[*consts, *values, *others], eqns=rest, debug_info=info)
    return ClosedJaxpr(before, closed.consts), ClosedJaxpr(after, closed.consts)


def _inner(eqn: Any, barriers: bool) -> ClosedJaxpr | None:
    """What an equation calls, where that can be written in its place."""
    if barriers and eqn.params.get("prevent_cse"):
        return None
    inner = eqn.params.get(INLINED.get(eqn.primitive.name, ""))
    inner = ClosedJaxpr(inner, []) if inner is not None and not hasattr(inner, "consts") else inner
    return inner if inner is not None and not inner.consts and not inner.jaxpr.constvars else None


def written_out(jaxpr: Any, barriers: bool = False) -> Any:
    """The same without calls, few numbers computed twice, and no row of a ring moved in vain; `barriers`: calls that
    keep XLA from computing things only once are left."""
    eqns: list[Any] = []
    done: dict[Any, list[Any]] = {}
    taken: dict[Any, tuple[Any, Any, Any]] = {}  # by the ring that `collect` leaves: the ring, the row, the slot

    def write(eqn: Any, ins: list[Any]) -> list[Any]:
        """The outputs of an equation, written if need be."""
        shape = eqn.outvars[0].aval.shape if eqn.outvars else ()
        if eqn.primitive is lax.broadcast_in_dim_p and ins[0].aval.shape == () and len(shape) > 1 == prod(shape[:-1]):
            # a repeated number in a row of its own: repeated over units first
            flat, params = shape[-1:], eqn.params | dict(shape=shape[-1:])
            repeated = eqn.replace(outvars=[Var(eqn.outvars[0].aval.update(shape=flat))], params=params)
            return write(_reshaped(eqn, shape), write(repeated, ins))
        if eqn.primitive.name.startswith("reduce_") and eqn.params.get("axes") == ():
            return ins[:1]  # over no axes
        one = eqn.primitive in (collect_p, place_p) and ins[0].aval.ndim == 2 and ins[0].aval.shape[0] == 1
        if eqn.primitive is place_p and not isinstance(ins[0], Literal):
            ring, row, slot = taken.get(ins[0], (None,) * 3)
            if row is ins[1] and _same(slot, ins[2]):
                return [ring]
            if one:
                return write(_reshaped(eqn, (1, *ins[1].aval.shape)), ins[1:2])
        key: Any = (eqn.primitive, *map(_name, ins), *map(str, eqn.params.values()))
        key = key if eqn.primitive in _ONCE else object()
        if key not in done:  # a jaxpr may be called twice: its variables are new each time
            done[key] = [Var(v.aval) for v in eqn.outvars]
            eqns.append(eqn.replace(invars=ins, outvars=done[key]))
            if eqn.primitive is collect_p:
                row, left = done[key]
                row = write(_reshaped(eqn, row.aval.shape), ins[:1])[0] if one else row
                done[key], taken[left] = [row, left], (ins[0], row, ins[1])
        return done[key]

    def write_all(jaxpr: Any, known: dict[Any, Any]) -> list[Any]:
        def read(v: Any) -> Any:
            return v if isinstance(v, Literal) else known.get(v, v)

        for eqn in jaxpr.eqns:
            ins = [read(v) for v in eqn.invars]
            if eqn.primitive.name in ("pvary", "pcast"):
                known.update(zip(eqn.outvars, ins))
                continue
            inner = _inner(eqn, barriers)
            outs = write_all(inner.jaxpr, dict(zip(inner.jaxpr.invars, ins))) if inner else write(eqn, ins)
            known.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    outvars = write_all(jaxpr, {})
    return jaxpr.replace(eqns=eqns, outvars=outvars, debug_info=jaxpr.debug_info.with_unknown_names())


_ONCE = (collect_p, lax.rem_p, lax.add_p, lax.sub_p, lax.select_n_p, lax.lt_p, lax.convert_element_type_p)
"""What is not done twice: rows taken, and what computes which."""


def _name(v: Any) -> Any:
    """The same for the same value."""
    return (str(v.aval), np.asarray(v.val).tobytes()) if isinstance(v, Literal) else v


def _same(a: Any, b: Any) -> bool:
    return _name(a) == _name(b)


def _reshaped(eqn: Any, shape: tuple[int, ...]) -> Any:
    """An equation like `eqn` that only gives this shape to what it reads."""
    params = dict(new_sizes=shape, dimensions=None, sharding=None)
    out = Var(eqn.outvars[0].aval.update(shape=shape))
    return eqn.replace(primitive=lax.reshape_p, params=params, outvars=[out])


SCATTERS = (scatter_p, CONVOLVED.scatter, DRAWN.scatter)
_VALUE = -4  # place of the event value among the outputs of a fused program without rings


def _forward(eqn: Any, counts: dict[Any, Any]) -> Any:
    """The equation without the support of events, which only a derivative reads, so that what computes it is left out;
    and for the sum of spikes, of which `counts` has the number, that number."""
    if eqn.primitive in SCATTERS:
        base, value, weight, _, *rest = eqn.invars
        return eqn.replace(invars=[base, value, weight, value, *rest])
    if eqn.primitive is lax.reduce_sum_p and not isinstance(eqn.invars[0], Literal) and eqn.invars[0] in counts:
        params = dict(new_dtype=eqn.outvars[0].aval.dtype, weak_type=False, sharding=None)
        count = counts[eqn.invars[0]]
        return eqn.replace(primitive=lax.convert_element_type_p, invars=[count], params=params)
    return eqn


def spikes(jaxpr: Any) -> set[Any]:
    """The event values of units that are 0 or 1 and read by those only who have them as packed words."""
    values = {e.outvars[_VALUE - e.params["program"].n_rings]: e.outvars[-3] for e in jaxpr.eqns if _spiking(e)}
    for eqn in jaxpr.eqns:
        at = (1, 3, 4) if eqn.primitive in SCATTERS else (2, -1, 3) if eqn.primitive is append_p else None
        for i, v in enumerate(eqn.invars):
            if not isinstance(v, Literal) and v in values and not (at and i in at and eqn.invars[at[2]] is values[v]):
                del values[v]
    return set(values) - {v for v in jaxpr.outvars if not isinstance(v, Literal)}


def _spiking(eqn: Any) -> bool:
    if eqn.primitive is not fused_p or eqn.params["rank"]:
        return False
    inner = eqn.params["program"].jaxpr.jaxpr
    return _is_truth(inner, inner.outvars[-1])


def _is_truth(jaxpr: Any, value: Any) -> bool:
    """Whether a value of a program is a truth value, 0 or 1, converted."""
    made = next((e for e in jaxpr.eqns if value in e.outvars), None)
    if made is None:
        return False
    if made.primitive.name in INLINED:
        inner = made.params[INLINED[made.primitive.name]]
        inner = getattr(inner, "jaxpr", inner)
        return _is_truth(inner, inner.outvars[made.outvars.index(value)])
    return made.primitive.name == "convert_element_type" and made.invars[0].aval.dtype == np.bool_


def adding(jaxpr: Any) -> Any:
    """The same, with cotangents of weights added up where they lie: as two steps, an array of the size of the synapses
    is cleared, filled and added to another one, however few events there were."""
    jaxpr = written_out(jaxpr, barriers=True)
    made = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    reads = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
    reads.update(v for v in jaxpr.outvars if not isinstance(v, Literal))

    def source(v: Any) -> Any:
        """The `outer` that makes `v`, of which nobody else knows."""
        eqn = made.get(v) if not isinstance(v, Literal) and reads[v] == 1 else None
        if eqn is not None and eqn.primitive is lax.reshape_p:
            return source(eqn.invars[0])
        return eqn if eqn is not None and eqn.primitive is outer_p else None

    def added(eqn: Any) -> list[Any]:
        for onto, x in (eqn.invars, eqn.invars[::-1]) if eqn.primitive.name in ("add", "add_any") else ():
            outer = source(x)
            if outer is not None and alike(onto.aval, x.aval) and x.aval.shape == (outer.params["n_weight"],) != (1,):
                return [eqn.replace(primitive=outer_add_p, invars=[onto, *outer.invars], params=outer.params)]
        return [eqn]

    jaxpr = jaxpr.replace(eqns=[new for eqn in jaxpr.eqns for new in added(eqn)])
    return pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), True)[0]
