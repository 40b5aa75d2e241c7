"""Elementwise programs as machine code: one pass over the units, written as explicit vectors and compiled by LLVM.

A jaxpr whose values are scalars or one number per unit becomes a loop that loads `lanes` units, computes, and stores
them: nothing is left to a vectoriser's judgement, and every unit is computed by the same instructions wherever it
stands, so that batched and single runs agree bit for bit. Sums of products are fused multiply-adds where the machine
has them. NaN and infinity behave as IEEE says: no fast-math.
"""

import ctypes
import hashlib
import math
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ._vector_math import MATH


class Unsupported(Exception):
    """Why a program cannot be fused."""


_LLVM_TYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "i32",
    "uint32": "i32",
    "int64": "i64",
    "uint64": "i64",
    "bool": "i1",
}
_IN_MEMORY = {"i1": "i8"}
_UNSIGNED = ("uint32", "uint64", "bool")


def base_type(dtype: Any) -> str:
    """The LLVM type of one number."""
    try:
        return _LLVM_TYPES[np.dtype(dtype).name]
    except (KeyError, TypeError):
        raise Unsupported(f"values of type {dtype}") from None


class Value(NamedTuple):
    """A value of the program: `ref` is its LLVM name or constant, `lanes` 0 for a scalar.

    `factors` is set for a product that is used once and not computed yet: a sum may absorb it.
    """

    ref: str
    dtype: np.dtype
    lanes: int
    constant: Any = None
    factors: "tuple[Value, Value] | None" = None

    @property
    def type(self) -> str:
        base = base_type(self.dtype)
        return f"<{self.lanes} x {base}>" if self.lanes else base

    @property
    def floating(self) -> bool:
        return np.issubdtype(self.dtype, np.floating)


class Writer:
    """Writes instructions: those of scalars once, before the loop (`head`), those of vectors into `body`."""

    def __init__(self, lanes: int, fma: bool) -> None:
        self.lanes, self.fma = lanes, fma
        self.head: list[str] = []
        self.body: list[str] = []
        self.declared: set[str] = set()
        self._count = 0
        self._splats: dict[str, Value] = {}

    def name(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def write(self, text: str, lanes: int) -> str:
        ref = self.name()
        (self.body if lanes else self.head).append(f"  {ref} = {text}")
        return ref

    def constant(self, x: Any, dtype: Any, lanes: int = 0) -> Value:
        """The number `x` as a value."""
        dtype = np.dtype(dtype)
        x = dtype.type(x)
        if np.issubdtype(dtype, np.floating):
            bits = np.float64(x).view(np.uint64)  # LLVM writes floats as the bits of the double of the same value
            text = f"0x{int(bits):016X}"
        elif dtype == np.bool_:
            text = "true" if x else "false"
        else:
            text = str(int(x))
        base = base_type(dtype)
        return Value(f"splat ({base} {text})" if lanes else text, dtype, lanes, constant=x)

    def vector(self, v: Value) -> Value:
        """`v` in every lane."""
        v = self.computed(v)
        if v.lanes:
            return v
        if v.constant is not None:
            return self.constant(v.constant, v.dtype, self.lanes)
        if v.ref not in self._splats:
            kind = f"<{self.lanes} x {base_type(v.dtype)}>"
            one, all_ = self.name(), self.name()
            self.head.append(f"  {one} = insertelement {kind} poison, {v.type} {v.ref}, i64 0")
            zero = f"<{self.lanes} x i32> zeroinitializer"
            self.head.append(f"  {all_} = shufflevector {kind} {one}, {kind} poison, {zero}")
            self._splats[v.ref] = Value(all_, v.dtype, self.lanes)
        return self._splats[v.ref]

    def level(self, *values: Value) -> list[Value]:
        """The values computed, as vectors if any of them is one."""
        if any(v.lanes for v in values):
            return [self.vector(v) for v in values]
        return [self.computed(v) for v in values]

    def computed(self, v: Value) -> Value:
        """`v`, computed now if it is a waiting product."""
        if v.factors is None:
            return v
        a, b = self.level(*v.factors)
        return self.op("fmul", a, b)

    def op(self, name: str, *args: Value, dtype: Any = None) -> Value:
        """An instruction of LLVM on values of one type."""
        args = tuple(self.level(*args))
        rest = ", ".join(a.ref for a in args)
        ref = self.write(f"{name} {args[0].type} {rest}", args[0].lanes)
        return Value(ref, np.dtype(dtype or args[0].dtype), args[0].lanes)

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        """`fcmp` or `icmp`, by type."""
        return self.op(f"{'fcmp' if a.floating else 'icmp'} {predicate}", a, b, dtype=bool)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        condition, yes, no = self.level(condition, yes, no)
        text = f"select {condition.type} {condition.ref}, {yes.type} {yes.ref}, {no.type} {no.ref}"
        return Value(self.write(text, yes.lanes), yes.dtype, yes.lanes)

    def cast(self, name: str, x: Value, dtype: Any) -> Value:
        """A conversion instruction."""
        x = self.computed(x)
        to = Value("", np.dtype(dtype), x.lanes)
        return to._replace(ref=self.write(f"{name} {x.type} {x.ref} to {to.type}", x.lanes))

    def call(self, intrinsic: str, *args: Value, suffix: str = "", dtype: Any = None) -> Value:
        """An intrinsic of LLVM, named without its type."""
        args = tuple(self.level(*args))
        out = Value("", np.dtype(dtype or args[0].dtype), args[0].lanes)
        kinds = {"float": "f32", "double": "f64"}

        def mangled(v):
            base = base_type(v.dtype)
            base = kinds.get(base, base)
            return f"v{v.lanes}{base}" if v.lanes else base

        name = f"@llvm.{intrinsic}.{suffix or mangled(args[0])}"
        if dtype is not None:
            name = f"@llvm.{intrinsic}.{mangled(out)}.{mangled(args[0])}"
        self.declared.add(f"declare {out.type} {name}({', '.join(a.type for a in args)})")
        text = f"call {out.type} {name}({', '.join(f'{a.type} {a.ref}' for a in args)})"
        return out._replace(ref=self.write(text, out.lanes))

    # --- arithmetic that the rules below and `_vector_math` are written in ---

    def like(self, x: Any, v: Value) -> Value:
        """The number `x` in the type of `v`."""
        return self.constant(x, v.dtype)

    def add(self, a: Value, b: Value) -> Value:
        if not a.floating:
            return self.op("add", a, b)
        if a.factors is None and b.factors is not None:
            a, b = b, a
        return self.fused(*a.factors, b) if a.factors is not None else self.op("fadd", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        if not a.floating:
            return self.op("sub", a, b)
        if b.factors is not None:
            return self.fused(self.neg(b.factors[0]), b.factors[1], a)
        return self.fused(*a.factors, self.neg(b)) if a.factors is not None else self.op("fsub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.op("fmul" if a.floating else "mul", a, b)

    def div(self, a: Value, b: Value) -> Value:
        return self.op("fdiv", a, b)

    def neg(self, a: Value) -> Value:
        if a.constant is not None:
            return self.constant(-a.constant, a.dtype, a.lanes)
        return self.op("fneg", a) if a.floating else self.op("sub", self.like(0, a), a)

    def fused(self, a: Value, b: Value, c: Value) -> Value:
        """`a b + c` with one rounding where the machine can."""
        if self.fma:
            return self.call("fma", a, b, c)
        return self.op("fadd", self.op("fmul", a, b), c)

    def polynomial(self, x: Value, coefficients: Any) -> Value:
        """`c[0] + c[1] x + ...`."""
        *rest, last = coefficients
        total = self.like(last, x)
        for c in reversed(rest):
            total = self.fused(total, x, self.like(c, x))
        return total

    def extreme(self, a: Value, b: Value, greater: bool) -> Value:
        """The larger (smaller) of two, NaN if either is."""
        if not a.floating:
            unsigned = np.dtype(a.dtype).name in _UNSIGNED
            return self.call(("u" if unsigned else "s") + ("max" if greater else "min"), a, b)
        if a.constant is not None:
            a, b = b, a
        pick = self.select(self.compare("ugt" if greater else "ult", a, b), a, b)
        # unordered is true for NaN: `a` is kept if it is one, but also if `b` is
        return pick if b.constant is not None else self.select(self.compare("uno", b, b), b, pick)

    def bits(self, x: Value) -> Value:
        """The bits of a float as an integer."""
        return self.cast("bitcast", x, np.int32 if x.dtype == np.float32 else np.int64)

    def from_bits(self, x: Value) -> Value:
        return self.cast("bitcast", x, np.float32 if x.dtype == np.int32 else np.float64)


# --- the rules: one function (writer, equation's params, *values) -> value per primitive of JAX -----------------------


def _binary(name: str):
    return lambda w, p, a, b: getattr(w, name)(a, b)


def _comparison(ordered: str, integer: str):
    def rule(w, p, a, b):
        if a.floating:
            return w.compare(ordered, a, b)
        unsigned = np.dtype(a.dtype).name in _UNSIGNED
        return w.compare(("u" if unsigned else "s") + integer if integer in ("lt", "le", "gt", "ge") else integer, a, b)

    return rule


def _logical(name: str):
    return lambda w, p, a, b: w.op(name, a, b)


def _not(w, p, a):
    return w.op("xor", a, w.constant(True if a.dtype == np.bool_ else -1, a.dtype))


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
        return w.call("fptoui.sat" if to.name in _UNSIGNED else "fptosi.sat", x, dtype=to)
    unsigned = x.dtype.name in _UNSIGNED
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
    out = w.select(w.compare("ogt" if x.floating else "sgt", x, zero), one, zero)
    out = w.select(w.compare("olt" if x.floating else "slt", x, zero), w.neg(one), out)
    return w.select(w.compare("uno", x, x), x, out) if x.floating else out


def _abs(w, p, x):
    return w.call("fabs", x) if x.floating else w.extreme(x, w.neg(x), True)


def _round(w, p, x):
    even = int(p["rounding_method"]) == 1
    return w.call("roundeven" if even else "round", x)


def _is_finite(w, p, x):
    return w.compare("olt", w.call("fabs", x), w.like(np.inf, x))


def _clamp(w, p, low, x, high):
    return w.extreme(w.extreme(x, low, True), high, False)


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
    "select_n": _select_n,
    "convert_element_type": _convert,
    "integer_pow": _integer_pow,
    "square": lambda w, p, x: w.mul(x, x),
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
    "copy_p": _same,
    "stop_gradient": _same,
    "optimization_barrier": _same,
} | {name: _function(name) for name in MATH}


def _div(w, p, a, b):
    if not a.floating:
        raise Unsupported("a division of integers")
    if a.lanes and not b.lanes:  # one division for all units
        return w.mul(a, w.div(w.like(1, b), b))
    return w.div(a, b)


RULES["div"] = _div

_INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
_INLINED |= {"custom_vjp_call": "call_jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
_UNROLLED = 16  # turns of a loop that are written out: those of a few substeps
_SHAPE_ONLY = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims")


def _check_shape(aval: Any, n: int, what: str) -> None:
    if aval.shape not in ((), (n,)):
        raise Unsupported(f"{what} of shape {aval.shape}, not one number or one per unit")


def translate(w: Writer, jaxpr: Any, consts: list[Value], args: list[Value], n: int) -> list[Value]:
    """The outputs of `jaxpr`; equation by equation, calls inlined."""
    env: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    uses = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
    uses.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
    uses.update(v for v in jaxpr.outvars if not isinstance(v, Literal))  # never deferred across a call

    def read(v):
        return w.constant(np.asarray(v.val).item(), v.aval.dtype) if isinstance(v, Literal) else env[v]

    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        values = [read(v) for v in eqn.invars]
        for v in eqn.outvars:
            _check_shape(v.aval, n, f"{name} gives a value")
        if name in _INLINED:
            inner = eqn.params[_INLINED[name]]
            inner, consts_ = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, [])
            folded = [_constant(w, c, n) for c in consts_]
            outs = translate(w, inner, folded, [w.computed(v) for v in values], n)
        elif name == "scan":
            p, consts_ = eqn.params, [w.computed(v) for v in values[: eqn.params["num_consts"]]]
            outs = [w.computed(v) for v in values[len(consts_) :]]
            if len(outs) != p["num_carry"] or len(eqn.outvars) != len(outs) or p["length"] > _UNROLLED:
                raise Unsupported(f"a loop of {p['length']} turns")
            for _ in range(p["length"]):
                inner = [_constant(w, c, n) for c in p["jaxpr"].consts]
                outs = translate(w, p["jaxpr"].jaxpr, inner, [*consts_, *outs], n)
        elif name in _SHAPE_ONLY:
            outs = [w.vector(values[0]) if eqn.outvars[0].aval.shape else values[0]]
        elif name == "mul" and values[0].floating and uses[eqn.outvars[0]] == 1:
            lanes = max(v.lanes for v in values)
            factors = tuple(w.computed(v) for v in values)
            outs = [Value("", values[0].dtype, lanes, factors=factors)]
        elif name in RULES:
            if name not in ("add", "sub", "add_any"):
                values = [w.computed(v) for v in values]
            outs = [RULES[name](w, eqn.params, *values)]
        else:
            raise Unsupported(f"the operation '{name}'")
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _constant(w: Writer, c: Any, n: int) -> Value:
    if np.shape(c) != ():
        raise Unsupported("an array constant in the equations; make it a parameter")
    return w.constant(np.asarray(c).item(), np.asarray(c).dtype)


# --- the loop ---------------------------------------------------------------------------------------------------------


class Loop(NamedTuple):
    """What a kernel computes: `jaxpr` takes `n_scalars` scalars, then vectors of `n` units, and returns vectors.

    The last output is the event value: its non-zero lanes are packed into words and counted. `watched` are the outputs
    looked at for NaN and infinity.
    """

    jaxpr: ClosedJaxpr
    n_scalars: int
    n: int
    watched: tuple[int, ...]


@cache
def target() -> tuple[Any, str, bool]:
    """LLVM's machine for this processor, the name and features as text, and whether it has fused multiply-adds."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    cpu, flat = llvm.get_host_cpu_name(), features.flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=flat, opt=3, codemodel="small", jit=True
    )
    fma = features.get("fma", False) or machine.triple.split("-")[0] in ("aarch64", "arm64")
    return machine, cpu, bool(fma)


def lanes_of(dtype: Any) -> int:
    """Units per vector: 64 bytes of floats, split by LLVM where registers are shorter."""
    return 16 if np.dtype(dtype) == np.float32 else 8


def emit(loop: Loop, lanes: int, fma: bool) -> str:
    """The text of the kernel in LLVM's language, its function called `kernel`."""
    jaxpr, n = loop.jaxpr.jaxpr, loop.n
    avals = [v.aval for v in jaxpr.invars]
    for aval in [*avals, *(v.aval for v in jaxpr.outvars)]:
        _check_shape(aval, n, "a value")
    w = Writer(lanes, fma)
    scalars, vectors = avals[: loop.n_scalars], avals[loop.n_scalars :]

    def memory(aval):
        base = base_type(aval.dtype)
        return _IN_MEMORY.get(base, base)

    def pointer(array, k):
        ref = w.name()
        w.head.append(f"  {ref}.at = getelementptr ptr, ptr %{array}, i64 {k}")
        w.head.append(f"  {ref} = load ptr, ptr {ref}.at")
        return ref

    given = []
    for k, aval in enumerate(scalars):
        at, kind = pointer("scalars", k), memory(aval)
        ref = w.write(f"load {kind}, ptr {at}", 0)
        if kind == "i8":
            ref = w.write(f"icmp ne i8 {ref}, 0", 0)
        given.append(Value(ref, np.dtype(aval.dtype), 0))
    consts = [_constant(w, c, n) for c in loop.jaxpr.consts]
    sources = [pointer("in", k) for k in range(len(vectors))]
    sinks = [pointer("out", k) for k in range(len(jaxpr.outvars))]
    real_dtype = jaxpr.outvars[loop.watched[0]].aval.dtype if loop.watched else np.dtype(np.float32)
    real = base_type(real_dtype)
    mask_type, bad_type = f"<{lanes} x i1>", f"<{lanes} x {real}>"

    def masked(kind, store):
        mangled = f"v{lanes}{ {'float': 'f32', 'double': 'f64'}.get(kind, kind) }.p0"
        vector = f"<{lanes} x {kind}>"
        if store:
            w.declared.add(f"declare void @llvm.masked.store.{mangled}({vector}, ptr, i32, {mask_type})")
        else:
            w.declared.add(f"declare {vector} @llvm.masked.load.{mangled}(ptr, i32, {mask_type}, {vector})")
        return mangled, vector

    def block(mask: str) -> tuple[str, str]:
        """One vector of units; returns the number of events, and NaN in the lanes that are not finite."""
        loaded = []
        for source, aval in zip(sources, vectors, strict=True):
            kind = memory(aval)
            at = w.write(f"getelementptr {kind}, ptr {source}, i64 %{{i}}", lanes)
            mangled, vector = masked(kind, False)
            align = np.dtype(aval.dtype).itemsize
            if mask:
                text = f"call {vector} @llvm.masked.load.{mangled}(ptr {at}, i32 {align}, {mask_type} {mask}, "
                ref = w.write(text + f"{vector} zeroinitializer)", lanes)
            else:
                ref = w.write(f"load {vector}, ptr {at}, align {align}", lanes)
            if kind == "i8":
                ref = w.write(f"icmp ne {vector} {ref}, zeroinitializer", lanes)
            loaded.append(Value(ref, np.dtype(aval.dtype), lanes))
        outs = [w.vector(v) for v in translate(w, jaxpr, consts, [*given, *loaded], n)]
        for sink, out in zip(sinks, outs, strict=True):
            kind = _IN_MEMORY.get(base_type(out.dtype), base_type(out.dtype))
            at = w.write(f"getelementptr {kind}, ptr {sink}, i64 %{{i}}", lanes)
            mangled, vector = masked(kind, True)
            ref = w.write(f"zext {out.type} {out.ref} to {vector}", lanes) if kind == "i8" else out.ref
            align = np.dtype(out.dtype).itemsize
            if mask:
                args = f"{vector} {ref}, ptr {at}, i32 {align}, {mask_type} {mask}"
                w.body.append(f"  call void @llvm.masked.store.{mangled}({args})")
            else:
                w.body.append(f"  store {vector} {ref}, ptr {at}, align {align}")
        hit = convert(w, outs[-1], np.dtype(bool))
        if mask:
            hit = w.op("and", hit, Value(mask, np.dtype(bool), lanes))
        word = w.write(f"bitcast {mask_type} {hit.ref} to i{lanes}", lanes)
        at = w.write(f"getelementptr i{lanes}, ptr %words, i64 %{{block}}", lanes)
        w.body.append(f"  store i{lanes} {word}, ptr {at}, align 1")
        w.declared.add(f"declare i{lanes} @llvm.ctpop.i{lanes}(i{lanes})")
        count = w.write(f"call i{lanes} @llvm.ctpop.i{lanes}(i{lanes} {word})", lanes)
        count = w.write(f"zext i{lanes} {count} to i32", lanes)
        # x 0 is 0 but for NaN and infinity, and a sum keeps a NaN
        bad = w.constant(0, real_dtype, lanes)
        for k in loop.watched:
            bad = w.fused(outs[k], w.like(0, bad), bad)
        if mask:
            bad = w.select(Value(mask, np.dtype(bool), lanes), bad, w.like(0, bad))
        return count, bad.ref

    def placed(lines, i):
        return [line.replace("%{i}", i).replace("%{block}", f"{i}.block") for line in lines]

    shift = int(math.log2(lanes))
    text = [
        "define void @kernel(ptr %scalars, ptr %in, ptr %out, ptr %words, i64 %begin, i64 %end, ptr %tally) {",
        "entry:",
    ]
    w.body = []
    count, bad = block("")
    full = placed(w.body, "%i")
    w.body = []
    step = ", ".join(f"i64 {k}" for k in range(lanes))
    w.body.append("  %left = sub i64 %end, %i")
    w.body.append(f"  %left.one = insertelement <{lanes} x i64> poison, i64 %left, i64 0")
    zero = f"<{lanes} x i32> zeroinitializer"
    kind = f"<{lanes} x i64>"
    w.body.append(f"  %left.all = shufflevector {kind} %left.one, {kind} poison, {zero}")
    w.body.append(f"  %mask = icmp slt {kind} <{step}>, %left.all")
    last_count, last_bad = block("%mask")
    tail = placed(w.body, "%i")
    reduce = f"llvm.vector.reduce.fadd.v{lanes}{'f32' if real == 'float' else 'f64'}"
    w.declared.add(f"declare {real} @{reduce}({real}, {bad_type})")
    text += w.head
    text += [
        "  br label %head",
        "head:",
        "  %i = phi i64 [ %begin, %entry ], [ %i.next, %full ]",
        "  %count = phi i32 [ 0, %entry ], [ %count.next, %full ]",
        f"  %bad = phi {bad_type} [ zeroinitializer, %entry ], [ %bad.next, %full ]",
        f"  %i.block = lshr i64 %i, {shift}",
        f"  %i.next = add i64 %i, {lanes}",
        "  %fits = icmp sle i64 %i.next, %end",
        "  br i1 %fits, label %full, label %rest",
        "full:",
        *full,
        f"  %count.next = add i32 %count, {count}",
        f"  %bad.next = fadd {bad_type} %bad, {bad}",
        "  br label %head",
        "rest:",
        "  %some = icmp slt i64 %i, %end",
        "  br i1 %some, label %tail, label %done",
        "tail:",
        *tail,
        f"  %count.last = add i32 %count, {last_count}",
        f"  %bad.last = fadd {bad_type} %bad, {last_bad}",
        "  br label %done",
        "done:",
        "  %count.all = phi i32 [ %count, %rest ], [ %count.last, %tail ]",
        f"  %bad.all = phi {bad_type} [ %bad, %rest ], [ %bad.last, %tail ]",
        f"  %bad.any = call {real} @{reduce}({real} 0.0, {bad_type} %bad.all)",
        f"  %bad.bit = fcmp une {real} %bad.any, 0.0",
        "  %bad.int = zext i1 %bad.bit to i32",
        "  store i32 %count.all, ptr %tally",
        "  %tally.bad = getelementptr i32, ptr %tally, i64 1",
        "  store i32 %bad.int, ptr %tally.bad",
        "  ret void",
        "}",
    ]
    return "\n".join([*sorted(w.declared), "", *text])


_compiled: dict[int, tuple[Any, int]] = {}  # id -> (engine, address); engines own the code and must live


def compile_loop(loop: Loop) -> tuple[int, int]:
    """`(id, address)` of the kernel; the id is a hash of its text and the processor, the same in every process."""
    import llvmlite.binding as llvm

    machine, cpu, fma = target()
    text = emit(loop, lanes_of(loop.jaxpr.jaxpr.outvars[-1].aval.dtype), fma)
    number = int.from_bytes(hashlib.sha256(f"{cpu}\n{text}".encode()).digest()[:8], "little") >> 1
    if number not in _compiled:
        module = llvm.parse_assembly(text.replace("@kernel(", '@"kernel"('))
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        _compiled[number] = engine, engine.get_function_address("kernel")
    return number, _compiled[number][1]


KERNEL_TYPE = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 4, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
"""scalars, in, out: arrays of pointers; words; begin (a multiple of 64), end; tally: two int32."""

assert jax  # the jaxprs are JAX's
