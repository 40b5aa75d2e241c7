"""From a jaxpr to instructions: one rule per primitive of JAX, calls and short loops written out."""

from collections import Counter
from typing import Any

import numpy as np

from ..base.jax_internals import Literal
from ._vector_math import MATH
from ._writer import UNSIGNED, Unsupported, Value, Writer, base_type

# Each rule is a function (writer, parameters of the equation, *values) -> value.


def _binary(name: str):
    return lambda w, p, a, b: getattr(w, name)(a, b)


def _comparison(ordered: str, integer: str):
    def rule(w, p, a, b):
        if a.floating:
            return w.compare(ordered, a, b)
        unsigned = np.dtype(a.dtype).name in UNSIGNED
        return w.compare(("u" if unsigned else "s") + integer if integer in ("lt", "le", "gt", "ge") else integer, a, b)

    return rule


def _logical(name: str):
    return lambda w, p, a, b: w.op(name, a, b)


def _not(w, p, a):
    ones = True if a.dtype == np.bool_ else np.iinfo(a.dtype).max if a.dtype.name in UNSIGNED else -1
    return w.op("xor", a, w.constant(ones, a.dtype))


def _select_n(w, p, which, *cases):
    if which.dtype != np.bool_ or len(cases) != 2:
        raise Unsupported("a choice among more than two cases")
    return w.select(which, cases[1], cases[0])


def _convert(w, p, x):
    to = np.dtype(p["new_dtype"])
    return convert(w, x, to)


def convert(w: Writer, x: Value, to: np.dtype) -> Value:
    """`x` as the type `to`, with JAX's meaning."""
    if to == x.dtype:
        return x
    if x.constant is not None and not x.lanes:
        return w.constant(x.constant, to)
    x = w.computed(x)
    base_type(to)
    floating = np.issubdtype(to, np.floating)
    if to == np.bool_:
        return w.compare("une" if x.floating else "ne", x, w.like(0, x))
    if x.floating and floating:
        return w.cast("fpext" if to.itemsize > x.dtype.itemsize else "fptrunc", x, to)
    if x.floating:
        return w.call("fptoui.sat" if to.name in UNSIGNED else "fptosi.sat", x, dtype=to)
    unsigned = x.dtype.name in UNSIGNED
    if x.dtype == np.bool_ and floating:  # one masked move, where a conversion takes three instructions
        return w.select(x, w.constant(1, to), w.constant(0, to))
    if floating:
        return w.cast("uitofp" if unsigned else "sitofp", x, to)
    if x.dtype != np.bool_ and to.itemsize == x.dtype.itemsize:
        return x._replace(dtype=to)
    if x.dtype != np.bool_ and to.itemsize < x.dtype.itemsize:
        return w.cast("trunc", x, to)
    return w.cast("zext" if unsigned else "sext", x, to)


def _integer_pow(w, p, x):
    y = p["y"]
    if y == 0:
        return w.like(1, x)
    power, n, out = w.computed(x), abs(y), None
    while n:
        if n & 1:
            out = power if out is None else w.mul(out, power)
        n >>= 1
        power = w.mul(power, power) if n else power
    return w.div(w.like(1, x), out) if y < 0 else out


def _sign(w, p, x):
    one, zero = w.like(1, x), w.like(0, x)
    if x.dtype.name in UNSIGNED:
        return w.select(w.compare("ne", x, zero), one, zero)
    other = x if x.floating else zero  # 0 keeps its sign, NaN stays
    out = w.select(w.compare("olt" if x.floating else "slt", x, zero), w.neg(one), other)
    return w.select(w.compare("ogt" if x.floating else "sgt", x, zero), one, out)


def _abs(w, p, x):
    return w.call("fabs", x) if x.floating else w.extreme(x, w.neg(x), True)


def _round(w, p, x):
    even = int(p["rounding_method"]) == 1
    return w.call("roundeven" if even else "round", x)


def _is_finite(w, p, x):
    return w.compare("olt", w.call("fabs", x), w.like(np.inf, x))


def _clamp(w, p, low, x, high):
    return w.extreme(w.extreme(x, low, True), high, False)


def _div(w, p, a, b):
    if not a.floating:
        return _divided(w, "div", a, b)
    if a.lanes and not b.lanes:  # one division for all units
        return w.mul(a, w.div(w.like(1, b), b))
    return w.div(a, b)


def _rem(w, p, a, b):
    return w.library("fmod", a, b) if a.floating else _divided(w, "rem", a, b)


def _divided(w, name, a, b):
    """A quotient or remainder of integers; by 0 it is all ones or `a`, and the least number over -1 is itself."""
    signed = a.dtype.name not in UNSIGNED
    name, one, zero = ("s" if signed else "u") + name, w.like(1, a), w.like(0, a)
    if b.constant is not None and b.constant > 0:
        return w.op(name, a, b)
    nothing, away = w.compare("eq", b, zero), w.compare("eq", b, zero)
    if signed:
        least = w.compare("eq", a, w.like(np.iinfo(a.dtype).min, a))
        away = w.op("or", away, w.op("and", least, w.compare("eq", b, w.like(-1, b))))
    out = w.op(name, a, w.select(away, one, b))
    if name.endswith("div"):
        return w.select(nothing, w.like(-1 if signed else np.iinfo(a.dtype).max, a), out)
    return w.select(nothing, a, out)


def _shift(name: str):
    def rule(w, p, a, b):
        bits = 8 * a.dtype.itemsize
        inside = w.compare("ult", b, w.like(bits, b))
        most = w.like(bits - 1, b)
        out = w.op(name, a, w.select(inside, b, most))
        return out if name == "ashr" else w.select(inside, out, w.like(0, a))

    return rule


def _in_order(predicate: str):
    """The order of all numbers: -NaN, -infinity, ..., -0, 0, ..., infinity, NaN."""

    def rule(w, p, a, b):
        def rank(x):
            bits = w.bits(x)
            flipped = w.op("lshr", w.op("ashr", bits, w.like(8 * x.dtype.itemsize - 1, bits)), w.like(1, bits))
            return w.op("xor", bits, flipped)

        return w.compare(predicate, rank(a), rank(b))

    return rule


def _library(name: str):
    return lambda w, p, *args: w.library(name, *map(w.computed, args))


def _pow(w, p, x, y):
    return MATH["pow"](w, x, convert(w, y, x.dtype))


def _log2(w, p, x):
    return _div(w, p, MATH["log"](w, w.computed(x)), w.like(np.log(2), x))


def _same(w, p, x):
    return x


def _function(name: str):
    def rule(w, p, *args):
        args = [w.computed(a) for a in args]
        return MATH[name](w, *args)

    return rule


RULES = {
    "add": _binary("add"),
    "add_any": _binary("add"),
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "div": _div,
    "rem": _rem,
    "max": lambda w, p, a, b: w.extreme(a, b, True),
    "min": lambda w, p, a, b: w.extreme(a, b, False),
    "neg": lambda w, p, a: w.neg(w.computed(a)),
    "eq": _comparison("oeq", "eq"),
    "ne": _comparison("une", "ne"),
    "lt": _comparison("olt", "lt"),
    "le": _comparison("ole", "le"),
    "gt": _comparison("ogt", "gt"),
    "ge": _comparison("oge", "ge"),
    "and": _logical("and"),
    "or": _logical("or"),
    "xor": _logical("xor"),
    "not": _not,
    "shift_left": _shift("shl"),
    "shift_right_logical": _shift("lshr"),
    "shift_right_arithmetic": _shift("ashr"),
    "population_count": lambda w, p, a: w.call("ctpop", a),
    "lt_to": _in_order("slt"),
    "le_to": _in_order("sle"),
    "select_n": _select_n,
    "convert_element_type": _convert,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "log2": _log2,
    "square": lambda w, p, x: w.mul(x, x),
    "one_minus_square": lambda w, p, x: w.mul(w.add(w.like(1, x), x), w.sub(w.like(1, x), x)),
    "sign": _sign,
    "abs": _abs,
    "round": _round,
    "floor": lambda w, p, x: w.call("floor", x),
    "ceil": lambda w, p, x: w.call("ceil", x),
    "sqrt": lambda w, p, x: w.call("sqrt", x),
    "rsqrt": lambda w, p, x: w.div(w.like(1, x), w.call("sqrt", x)),
    "is_finite": _is_finite,
    "clamp": _clamp,
    "copy": _same,
    "pvary": _same,
    "pcast": _same,
    "stop_gradient": _same,
    "optimization_barrier": _same,
} | {name: _function(name) for name in MATH if name != "pow"}
RULES |= {
    name: _library(name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "erf", "erfc", "cbrt")
}
RULES |= {name: _library(name) for name in ("asinh", "acosh", "atanh")}


INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
INLINED |= {"custom_vjp_call": "call_jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
UNROLLED = 16  # turns of a loop that are written out: those of a few substeps
_SHAPE_ONLY = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims")


def unit_by_unit(eqn: Any) -> bool:
    """Whether an equation on values of one shape is one that `translate` may know."""
    short = eqn.primitive.name == "scan" and eqn.params.get("length", UNROLLED + 1) <= UNROLLED
    return short or eqn.primitive.name in RULES or eqn.primitive.name in (*_SHAPE_ONLY, *INLINED)


def check_shape(aval: Any, shape: tuple[int, ...], what: str) -> None:
    """Refuse a value of another shape."""
    if aval.shape != shape:
        raise Unsupported(f"{what} of shape {aval.shape}, not {shape}")


def translate(w: Writer, jaxpr: Any, consts: list[Value], args: list[Value], n: int) -> list[Value]:
    """The outputs of `jaxpr`; equation by equation, calls inlined."""
    env: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    uses = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
    uses.update({v: 2 for v in jaxpr.outvars if not isinstance(v, Literal)})  # an output is never deferred

    def read(v: Any) -> Value:
        if not isinstance(v, Literal):
            return env[v]
        aval: Any = v.aval
        return w.constant(np.asarray(v.val).item(), aval.dtype)

    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        values = [read(v) for v in eqn.invars]
        for v in eqn.outvars:
            if v.aval.shape not in ((), (n,)):
                raise Unsupported(f"{name} gives a value of shape {v.aval.shape}, not one number or one per unit")
        if name in INLINED:
            inner = eqn.params[INLINED[name]]
            inner, consts_ = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, [])
            folded = [constant_of(w, c, n) for c in consts_]
            outs = translate(w, inner, folded, [w.computed(v) for v in values], n)
        elif name == "scan":
            p, sizes = eqn.params, scan_sizes(eqn.params)
            if sizes is None:
                raise Unsupported("a loop of unknown form")
            n_consts, n_carry = sizes
            consts_, outs = [[w.computed(v) for v in some] for some in (values[:n_consts], values[n_consts:])]
            if len(outs) != n_carry or len(eqn.outvars) != n_carry or p["length"] > UNROLLED:
                raise Unsupported(f"a loop of {p['length']} turns")
            for _ in range(p["length"]):
                inner = [constant_of(w, c, n) for c in p["jaxpr"].consts]
                outs = translate(w, p["jaxpr"].jaxpr, inner, [*consts_, *outs], n)
        elif name in _SHAPE_ONLY:
            outs = [w.vector(values[0]) if eqn.outvars[0].aval.shape else values[0]]
        elif name == "mul" and values[0].floating and uses[eqn.outvars[0]] == 1:
            lanes = max(v.lanes for v in values)
            a, b = (w.computed(v) for v in values)
            outs = [Value("", a.dtype, lanes, factors=(a, b))]
        elif name in RULES:
            if name not in ("add", "sub", "add_any"):
                values = [w.computed(v) for v in values]
            outs = [RULES[name](w, eqn.params, *values)]
        else:
            raise Unsupported(f"the operation '{name}'")
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def scan_sizes(params: dict[str, Any]) -> tuple[int, int] | None:
    """How many constants a `lax.scan` of these parameters takes, and what it carries; None if they do not say so."""
    if "ft_in" in params:  # from jax 0.11 on
        consts, carry, _ = params["ft_in"].unpack()
        return len(consts), len(carry)
    return (params["num_consts"], params["num_carry"]) if "num_carry" in params else None


def constant_of(w: Writer, c: Any, n: int) -> Value:
    if np.shape(c) != ():
        raise Unsupported("an array constant in the equations; make it a parameter")
    return w.constant(np.asarray(c).item(), np.asarray(c).dtype)
