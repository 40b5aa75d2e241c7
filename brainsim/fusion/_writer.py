"""Instructions of LLVM, one for all lanes of a vector or for a scalar: what the rules of a program are written in."""

import ctypes
from typing import Any, NamedTuple

import numpy as np


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
UNSIGNED = ("uint32", "uint64", "bool")


def base_type(dtype: Any) -> str:
    """The LLVM type of one number."""
    try:
        return _LLVM_TYPES[np.dtype(dtype).name]
    except (KeyError, TypeError):
        raise Unsupported(f"values of type {dtype}") from None


def _in_process(name: str) -> bool:
    """Whether machine code finds a function: calling one that is not there aborts the process."""
    return hasattr(ctypes.CDLL(None), name)


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
        self._count = 0  # of the names given
        self._splats: dict[tuple[str, np.dtype], Value] = {}  # an integer of either sign has one name

    def name(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def write(self, text: str, lanes: int) -> str:
        ref = self.name()
        (self.body if lanes else self.head).append(f"  {ref} = {text}")
        return ref

    def constant(self, x: Any, dtype: Any, lanes: int = 0) -> Value:
        """The number `x` as a value."""
        dtype, base = np.dtype(dtype), base_type(dtype)
        x = dtype.type(x)
        if np.issubdtype(dtype, np.floating):
            bits = np.float64(x).view(np.uint64)  # LLVM writes floats as the bits of the double of the same value
            text = f"0x{int(bits):016X}"
        elif dtype == np.bool_:
            text = "true" if x else "false"
        else:
            text = str(int(x))
        return Value(f"splat ({base} {text})" if lanes else text, dtype, lanes, constant=x)

    def vector(self, v: Value) -> Value:
        """`v` in every lane."""
        v = self.computed(v)
        if v.lanes:
            return v
        if v.constant is not None:
            return self.constant(v.constant, v.dtype, self.lanes)
        if (v.ref, v.dtype) not in self._splats:
            kind = f"<{self.lanes} x {base_type(v.dtype)}>"
            one, all_ = self.name(), self.name()
            self.head.append(f"  {one} = insertelement {kind} poison, {v.type} {v.ref}, i64 0")
            zero = f"<{self.lanes} x i32> zeroinitializer"
            self.head.append(f"  {all_} = shufflevector {kind} {one}, {kind} poison, {zero}")
            self._splats[v.ref, v.dtype] = Value(all_, v.dtype, self.lanes)
        return self._splats[v.ref, v.dtype]

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

    def library(self, name: str, *args: Value) -> Value:
        """A function of the C library, lane by lane."""
        args = tuple(self.level(*args))
        kind, lanes = args[0].dtype, args[0].lanes
        name, base = name + ("f" if kind == np.float32 else ""), base_type(kind)
        if not _in_process(name):
            raise Unsupported(f"the function '{name}', which is not in this process")
        self.declared.add(f"declare {base} @{name}({', '.join(base for _ in args)}) nonlazybind")  # by a table
        if not lanes:
            text = f"call {base} @{name}({', '.join(f'{base} {a.ref}' for a in args)})"
            return Value(self.write(text, 0), kind, 0)
        out = "poison"
        for k in range(lanes):
            one = [self.write(f"extractelement {a.type} {a.ref}, i64 {k}", lanes) for a in args]
            y = self.write(f"call {base} @{name}({', '.join(f'{base} {x}' for x in one)})", lanes)
            out = self.write(f"insertelement {args[0].type} {out}, {base} {y}, i64 {k}", lanes)
        return Value(out, kind, lanes)

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
            unsigned = np.dtype(a.dtype).name in UNSIGNED
            return self.call(("u" if unsigned else "s") + ("max" if greater else "min"), a, b)
        if a.constant is not None and not np.isnan(a.constant):
            a, b = b, a
        pick = self.select(self.compare("ugt" if greater else "ult", a, b), a, b)
        # unordered is true for NaN: `a` is kept if it is one, but also if `b` is
        if b.constant is not None and not np.isnan(b.constant):
            return pick
        return self.select(self.compare("uno", b, b), b, pick)

    def bits(self, x: Value) -> Value:
        """The bits of a float as an integer."""
        return self.cast("bitcast", x, np.int32 if x.dtype == np.float32 else np.int64)

    def from_bits(self, x: Value) -> Value:
        return self.cast("bitcast", x, np.float32 if x.dtype == np.int32 else np.float64)
