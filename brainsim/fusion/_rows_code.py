"""The machine code of a `rows` program: the entries of one row, a vector of synapses at a time.

The synapses of a row of pre units lie side by side and are loaded as vectors. Those of a column lie anywhere: they are
loaded and stored one by one, at places that are read as numbers, which is faster than gathers and scatters of vectors,
and asked for `_AHEAD` entries before they are needed: the column is bound by memory. So are the values at the far end.
In the last vector the lanes that are not in use have a spare place. What is added up at the far end is added one by
one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base.jax_internals import ClosedJaxpr, jaxpr_as_fun
from ._loop import _lines, _mangled, lanes_of, pointer, scalar, target
from ._rows import RowProgram
from ._rules import constant_of, translate
from ._writer import Unsupported, Value, Writer, base_type

_AHEAD = 64


def text_of(program: RowProgram, column: bool) -> str:
    """The kernel `(scalars, near, far, synapses: arrays of pointers, other, order: int32, row, begin, end, last)`;
    `synapses` are logs, read from `begin` on, the values changed, the sums at the far end and those of rows; `last` is
    the number of entries less one vector."""
    dtype = np.dtype(program.jaxpr.out_avals[0].dtype)
    if any(a.dtype != dtype for a in (*program.jaxpr.in_avals, *program.jaxpr.out_avals)):
        raise Unsupported("synapses of several types")
    if dtype not in (np.float32, np.float64):
        raise Unsupported(f"synapses of type {dtype}")
    code = _Code(program, column, dtype)
    full, tail = code.block(""), code.block("%mask")
    n = code.lanes
    wide, steps = f"<{n} x i64>", ", ".join(f"i64 {k}" for k in range(n))
    arguments = "ptr %scalars, ptr %near, ptr %far, ptr %synapses, ptr %other, ptr %order"
    return f"""{_lines(sorted(code.w.declared))}

define void @kernel({arguments}, i64 %row, i64 %begin, i64 %end, i64 %last) {{
entry:
  %spare = alloca {code.real}, align {code.size}
{_lines(code.w.head)}
  br label %head
head:
  %i = phi i64 [ %begin, %entry ], [ %i.next, %full ]
  %i.next = add i64 %i, {n}
  %fits = icmp sle i64 %i.next, %end
  br i1 %fits, label %full, label %rest
full:
{_lines(full)}
  br label %head
rest:
  %some = icmp slt i64 %i, %end
  br i1 %some, label %tail, label %done
tail:
  %left = sub i64 %end, %i
  %left.one = insertelement {wide} poison, i64 %left, i64 0
  %left.all = shufflevector {wide} %left.one, {wide} poison, <{n} x i32> zeroinitializer
  %mask = icmp slt {wide} <{steps}>, %left.all
{_lines(tail)}
  br label %done
done:
  ret void
}}
"""


class _Code:
    """Writes the lines of one vector of synapses."""

    def __init__(self, program: RowProgram, column: bool, dtype: np.dtype) -> None:
        self.program, self.column, self.dtype, self.lanes = program, column, dtype, lanes_of(dtype)
        p = program
        self.w = w = Writer(self.lanes, target()[1])
        self.real, self.size = base_type(dtype), dtype.itemsize
        self.vector, self.mask_type = f"<{self.lanes} x {self.real}>", f"<{self.lanes} x i1>"
        one, many = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct((self.lanes,), dtype)
        n_numbers, n_vectors = p.n_scalars + p.n_row, p.n_far + p.n_log + p.n_syn
        run = jax.vmap(jaxpr_as_fun(p.jaxpr), in_axes=[None] * n_numbers + [0] * n_vectors, axis_size=self.lanes)
        self.jaxpr: ClosedJaxpr = jax.make_jaxpr(lambda *x: [jnp.asarray(y, dtype) for y in run(*x)])(
            *[one] * n_numbers, *[many] * n_vectors
        )
        self.numbers = [scalar(w, "scalars", k, dtype) for k in range(p.n_scalars)]
        for k in range(p.n_row):
            at = w.write(f"getelementptr {self.real}, ptr {pointer(w, 'near', k)}, i64 %row", 0)
            self.numbers.append(Value(w.write(f"load {self.real}, ptr {at}", 0), dtype, 0))
        self.consts = [constant_of(w, c, self.lanes) for c in self.jaxpr.consts]
        self.far = [pointer(w, "far", k) for k in range(p.n_far)]
        self.synapses = [pointer(w, "synapses", k) for k in range(p.n_log + p.n_syn)]
        self.sums = [pointer(w, "synapses", p.n_log + k) for k in range(p.n_syn, p.n_written)]

    def block(self, mask: str) -> list[str]:
        """The lines; `mask` names the lanes in use, "" for all."""
        w, n = self.w, self.lanes
        w.body = []
        used = [w.write(f"extractelement {self.mask_type} {mask}, i64 {q}", n) for q in range(n)] if mask else []
        other = self._places("%other", used)
        far = [self._value(self._picked(self._at(x, other))) for x in self.far]
        n_log, n_syn, n_far = self.program.n_log, self.program.n_syn, self.program.n_far_sums
        logs, synapses = self.synapses[:n_log], self.synapses[n_log:]
        before = [self._load(x, mask) for x in logs]
        if self.column:
            places = self._places("%order", used)
            if not mask:
                self._ask()
            spots = [self._apart(self._at(x, places), used) for x in synapses]
            old = [self._picked(at) for at in spots]
        else:
            spots, old = [], [self._load(x, mask) for x in synapses]
        args: list[Any] = [*self.numbers, *far, *map(self._value, (*before, *old))]
        new = [w.vector(v) for v in translate(w, self.jaxpr.jaxpr, self.consts, args, n)]
        for k, (x, value) in enumerate(zip(synapses, new[:n_syn], strict=True)):
            self._placed(spots[k], value.ref) if self.column else self._store(x, value.ref, mask)
        for k, (x, value) in enumerate(zip(self.sums, new[n_syn:], strict=True)):
            ref = self._masked(value.ref, mask)
            self._added(self._at(x, other), ref) if k < n_far else self._summed(x, ref)
        return w.body

    def _value(self, ref: str) -> Value:
        return Value(ref, self.dtype, self.lanes)

    def _load(self, base: str, mask: str) -> str:
        w = self.w
        at = w.write(f"getelementptr {self.real}, ptr {base}, i64 %i", self.lanes)
        if not mask:
            return w.write(f"load {self.vector}, ptr {at}, align {self.size}", self.lanes)
        name = f"@llvm.masked.load.{_mangled(self.real, self.lanes)}.p0"
        w.declared.add(f"declare {self.vector} {name}(ptr, i32, {self.mask_type}, {self.vector})")
        args = f"ptr {at}, i32 {self.size}, {self.mask_type} {mask}, {self.vector} zeroinitializer"
        return w.write(f"call {self.vector} {name}({args})", self.lanes)

    def _store(self, base: str, ref: str, mask: str) -> None:
        w = self.w
        at = w.write(f"getelementptr {self.real}, ptr {base}, i64 %i", self.lanes)
        if not mask:
            w.body.append(f"  store {self.vector} {ref}, ptr {at}, align {self.size}")
            return
        name = f"@llvm.masked.store.{_mangled(self.real, self.lanes)}.p0"
        w.declared.add(f"declare void {name}({self.vector}, ptr, i32, {self.mask_type})")
        w.body.append(f"  call void {name}({self.vector} {ref}, ptr {at}, i32 {self.size}, {self.mask_type} {mask})")

    def _places(self, base: str, used: list[str], begin: str = "%i") -> list[str]:
        """The places that are written in `base`, as numbers: of lanes that are not `used` that of the first one."""
        w, n, out = self.w, self.lanes, []
        for q in range(n):
            k = w.write(f"add i64 {begin}, {q}", n) if q else begin
            if used and q:
                k = w.write(f"select i1 {used[q]}, i64 {k}, i64 {begin}", n)
            at = w.write(f"getelementptr i32, ptr {base}, i64 {k}", n)
            place = w.write(f"load i32, ptr {at}, align 4", n)
            out.append(w.write(f"sext i32 {place} to i64", n))
        return out

    def _at(self, base: str, places: list[str]) -> list[str]:
        return [self.w.write(f"getelementptr {self.real}, ptr {base}, i64 {k}", self.lanes) for k in places]

    def _apart(self, at: list[str], used: list[str]) -> list[str]:
        """Where each lane is; those that are not `used` have a place of their own."""
        if not used:
            return at
        chosen = [f"select i1 {live}, ptr {one}, ptr %spare" for live, one in zip(used, at, strict=True)]
        return [self.w.write(text, self.lanes) for text in chosen]

    def _picked(self, at: list[str]) -> str:
        w, out = self.w, "poison"
        for q, one in enumerate(at):
            x = w.write(f"load {self.real}, ptr {one}, align {self.size}", self.lanes)
            out = w.write(f"insertelement {self.vector} {out}, {self.real} {x}, i64 {q}", self.lanes)
        return out

    def _placed(self, at: list[str], ref: str) -> None:
        w = self.w
        for q, one in enumerate(at):
            x = w.write(f"extractelement {self.vector} {ref}, i64 {q}", self.lanes)
            w.body.append(f"  store {self.real} {x}, ptr {one}, align {self.size}")

    def _masked(self, ref: str, mask: str) -> str:
        """0 in the lanes that are not in use."""
        chosen = f"select {self.mask_type} {mask}, {self.vector} {ref}, {self.vector} zeroinitializer"
        return self.w.write(chosen, self.lanes) if mask else ref

    def _added(self, at: list[str], ref: str) -> None:
        """Adds to the sums at the far end; two entries of a row may have the same."""
        w = self.w
        for q, one in enumerate(at):
            x = w.write(f"extractelement {self.vector} {ref}, i64 {q}", self.lanes)
            old = w.write(f"load {self.real}, ptr {one}, align {self.size}", self.lanes)
            new = w.write(f"fadd {self.real} {old}, {x}", self.lanes)
            w.body.append(f"  store {self.real} {new}, ptr {one}, align {self.size}")

    def _summed(self, base: str, ref: str) -> None:
        """Adds to the sum of the row."""
        w = self.w
        name = f"@llvm.vector.reduce.fadd.{_mangled(self.real, self.lanes)}"
        w.declared.add(f"declare {self.real} {name}({self.real}, {self.vector})")
        total = w.write(f"call reassoc {self.real} {name}({self.real} 0.0, {self.vector} {ref})", self.lanes)
        at = w.write(f"getelementptr {self.real}, ptr {base}, i64 %row", self.lanes)
        old = w.write(f"load {self.real}, ptr {at}, align {self.size}", self.lanes)
        new = w.write(f"fadd {self.real} {old}, {total}", self.lanes)
        w.body.append(f"  store {self.real} {new}, ptr {at}, align {self.size}")

    def _ask(self) -> None:
        """Ask for the synapses of some entries later, of this column or the next."""
        w = self.w
        w.declared.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        ahead = w.write(f"add i64 %i, {_AHEAD}", self.lanes)
        within = w.write(f"icmp slt i64 {ahead}, %last", self.lanes)
        ahead = w.write(f"select i1 {within}, i64 {ahead}, i64 %last", self.lanes)
        places = self._places("%order", [], ahead)
        for base in self.synapses[self.program.n_log :]:
            for one in self._at(base, places):
                w.body.append(f"  call void @llvm.prefetch.p0(ptr {one}, i32 1, i32 3, i32 1)")
