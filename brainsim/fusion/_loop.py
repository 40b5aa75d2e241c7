"""Elementwise programs as machine code: one pass over the units, written as explicit vectors and compiled by LLVM.

A jaxpr whose values are scalars or one number per unit becomes a loop that loads `lanes` units, computes, and stores
them: nothing is left to a vectoriser's judgement, and every unit is computed by the same instructions wherever it
stands, so that batched and single runs agree bit for bit. Sums of products are fused multiply-adds where the machine
has them. NaN and infinity behave as IEEE says: no fast-math.
"""

import ctypes
import hashlib
import math
import threading
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..base import DIVERGED
from ..base.jax_internals import ClosedJaxpr, partial_eval as pe
from ._rules import check_shape, constant_of, convert, translate
from ._writer import Unsupported, Value, Writer, base_type


class Loop(NamedTuple):
    """What a kernel computes: `jaxpr` takes `n_scalars` scalars, then vectors of `n` units, and returns vectors.

    The last output is the event value: its non-zero lanes are packed into words and counted. `watched` are the outputs
    looked at for divergence. The last `n_rings` vectors are rows of rings, which are cleared. `silent`: the event
    value itself is not stored. `aside` are outputs of no consequence for the bits of the others: how often a product is
    read decides whether it is rounded.
    """

    jaxpr: ClosedJaxpr
    n_scalars: int
    n: int
    watched: tuple[int, ...]
    n_rings: int = 0
    silent: bool = False
    aside: tuple[int, ...] = ()


@cache
def target() -> tuple[str, bool]:
    """The processor, and whether it has fused multiply-adds."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name = llvm.get_host_cpu_name()
    arm = llvm.get_process_triple().split("-")[0] in ("aarch64", "arm64")
    return name, arm or bool(llvm.get_host_cpu_features().get("fma", False))


def check_llvm() -> None:
    """Raise where LLVM is missing, or too old for the text that `emit` writes."""
    import llvmlite.binding as llvm

    target()
    llvm.parse_assembly(
        "define <4 x i32> @f(<4 x i32> %x) {\n %y = add <4 x i32> %x, splat (i32 1)\n ret <4 x i32> %y\n}"
    )


def lanes_of(dtype: Any) -> int:
    """Units per vector: 64 bytes of floats, split by LLVM where registers are shorter."""
    return 16 if np.dtype(dtype) == np.float32 else 8


def emit(loop: Loop, lanes: int, fma: bool) -> str:
    """The text of the kernel in LLVM's language, its function called `kernel`."""
    block = _Block(loop, Writer(lanes, fma))
    count, bad, full = block.write("")
    last_count, last_bad, tail = block.write("%mask")
    w, vector, real = block.w, block.bad_type, base_type(block.bad_dtype)
    reduce = f"llvm.vector.reduce.fadd.{_mangled(real, lanes)}"
    w.declared.add(f"declare {real} @{reduce}({real}, {vector})")
    wide, steps = f"<{lanes} x i64>", ", ".join(f"i64 {k}" for k in range(lanes))
    return f"""{_lines(sorted(w.declared))}

define void @kernel(ptr %scalars, ptr %in, ptr %out, ptr %words, i64 %begin, i64 %end, ptr %tally) {{
entry:
{_lines(w.head)}
  br label %head
head:
  %i = phi i64 [ %begin, %entry ], [ %i.next, %full ]
  %count = phi i32 [ 0, %entry ], [ %count.next, %full ]
  %bad = phi {vector} [ zeroinitializer, %entry ], [ %bad.next, %full ]
  %i.block = lshr i64 %i, {int(math.log2(lanes))}
  %i.next = add i64 %i, {lanes}
  %fits = icmp sle i64 %i.next, %end
  br i1 %fits, label %full, label %rest
full:
{_lines(full)}
  %count.next = add i32 %count, {count}
  %bad.next = fadd {vector} %bad, {bad}
  br label %head
rest:
  %some = icmp slt i64 %i, %end
  br i1 %some, label %tail, label %done
tail:
  %left = sub i64 %end, %i
  %left.one = insertelement {wide} poison, i64 %left, i64 0
  %left.all = shufflevector {wide} %left.one, {wide} poison, <{lanes} x i32> zeroinitializer
  %mask = icmp slt {wide} <{steps}>, %left.all
{_lines(tail)}
  %count.last = add i32 %count, {last_count}
  %bad.last = fadd {vector} %bad, {last_bad}
  br label %done
done:
  %count.all = phi i32 [ %count, %rest ], [ %count.last, %tail ]
  %bad.all = phi {vector} [ %bad, %rest ], [ %bad.last, %tail ]
  %bad.any = call {real} @{reduce}({real} 0.0, {vector} %bad.all)
  %bad.bit = fcmp une {real} %bad.any, 0.0
  %bad.int = zext i1 %bad.bit to i32
  store i32 %count.all, ptr %tally
  %tally.bad = getelementptr i32, ptr %tally, i64 1
  store i32 %bad.int, ptr %tally.bad
  ret void
}}
"""


def _lines(lines: Any) -> str:
    return "\n".join(lines)


def _mangled(base: str, lanes: int) -> str:
    """How the names of LLVM's intrinsics spell a vector."""
    return f"v{lanes}{ {'float': 'f32', 'double': 'f64'}.get(base, base) }"


def memory_type(dtype: Any) -> str:
    """The type of one number in memory: a bool is a byte there."""
    base = base_type(dtype)
    return "i8" if base == "i1" else base


def pointer(w: Writer, array: str, k: int) -> str:
    """Entry `k` of an array of pointers."""
    at = w.write(f"getelementptr ptr, ptr %{array}, i64 {k}", 0)
    return w.write(f"load ptr, ptr {at}", 0)


def scalar(w: Writer, array: str, k: int, dtype: Any) -> Value:
    """What entry `k` of an array of pointers points to."""
    kind = memory_type(dtype)
    ref = w.write(f"load {kind}, ptr {pointer(w, array, k)}", 0)
    ref = w.write(f"icmp ne i8 {ref}, 0", 0) if kind == "i8" else ref
    return Value(ref, np.dtype(dtype), 0)


class _Block:
    """The instructions for one vector of units: load, compute, store, pack the events, look for NaN."""

    def __init__(self, loop: Loop, w: Writer) -> None:
        self.loop, self.w, self.jaxpr = loop, w, loop.jaxpr.jaxpr
        ins, outs = loop.jaxpr.in_avals, loop.jaxpr.out_avals
        for aval in ins[: loop.n_scalars]:
            check_shape(aval, (), "an operand")
        for aval in (*ins[loop.n_scalars :], *outs):
            check_shape(aval, (loop.n,), "a state or operand")
        self.vectors = ins[loop.n_scalars :]
        self.scalars = [scalar(w, "scalars", k, aval.dtype) for k, aval in enumerate(ins[: loop.n_scalars])]
        self.consts = [constant_of(w, c, loop.n) for c in loop.jaxpr.consts]
        self.sources = [pointer(w, "in", k) for k in range(len(self.vectors))]
        self.sinks = [pointer(w, "out", k) for k in range(len(outs) - loop.silent)]
        self.mask_type = f"<{w.lanes} x i1>"
        self.bad_dtype = np.result_type(np.float32, *(outs[k].dtype for k in loop.watched))
        self.bad_type = f"<{w.lanes} x {base_type(self.bad_dtype)}>"

    def write(self, mask: str) -> tuple[str, str, list[str]]:
        """The number of events, NaN in the lanes that have diverged, and the lines; `mask` names the lanes in use, ""
        for all."""
        w = self.w
        w.body = []
        used = Value(mask, np.dtype(bool), w.lanes)
        loaded = [self._load(at, a.dtype, mask) for at, a in zip(self.sources, self.vectors, strict=True)]
        outs = [w.vector(v) for v in self._values([*self.scalars, *loaded])]
        for k in range(len(self.vectors) - self.loop.n_rings, len(self.vectors)):
            self._store(self.sources[k], w.constant(0, self.vectors[k].dtype, w.lanes), mask)
        for at, out in zip(self.sinks, outs):
            self._store(at, out, mask)
        hit = convert(w, outs[-1], np.dtype(bool))
        hit = w.op("and", hit, used) if mask else hit
        kind = f"i{w.lanes}"
        word = w.write(f"bitcast {self.mask_type} {hit.ref} to {kind}", w.lanes)
        at = w.write(f"getelementptr {kind}, ptr %words, i64 %i.block", w.lanes)
        w.body.append(f"  store {kind} {word}, ptr {at}, align 1")
        w.declared.add(f"declare {kind} @llvm.ctpop.{kind}({kind})")
        count = w.write(f"call {kind} @llvm.ctpop.{kind}({kind} {word})", w.lanes)
        count = w.write(f"zext {kind} {count} to i32", w.lanes)
        # what is at least DIVERGED becomes infinite; x 0 is 0 but for NaN and infinity, and a sum keeps both
        bad = w.constant(0, self.bad_dtype, w.lanes)
        scale = 2.0 ** (np.finfo(self.bad_dtype).maxexp - np.log2(DIVERGED))
        for k in self.loop.watched:
            bad = w.fused(convert(w, outs[k], self.bad_dtype), w.like(scale, bad), bad)
        bad = w.mul(bad, w.like(0, bad))
        bad = w.select(used, bad, w.like(0, bad)) if mask else bad
        return count, bad.ref, w.body

    def _values(self, args: list[Value]) -> list[Value]:
        """The outputs, those `aside` each by itself."""
        n, aside = len(self.jaxpr.outvars), self.loop.aside
        values: dict[int, Value] = {}
        for group in ([k for k in range(n) if k not in aside], *([k] for k in aside)):
            jaxpr, _ = pe.dce_jaxpr(self.jaxpr, [k in group for k in range(n)], True)
            values.update(zip(group, translate(self.w, jaxpr, self.consts, args, self.loop.n), strict=True))
        return [values[k] for k in range(n)]

    def _load(self, pointer: str, dtype: Any, mask: str) -> Value:
        w, kind, align = self.w, memory_type(dtype), np.dtype(dtype).itemsize
        at, vector = w.write(f"getelementptr {kind}, ptr {pointer}, i64 %i", w.lanes), f"<{w.lanes} x {kind}>"
        if mask:
            name = f"@llvm.masked.load.{_mangled(kind, w.lanes)}.p0"
            w.declared.add(f"declare {vector} {name}(ptr, i32, {self.mask_type}, {vector})")
            args = f"ptr {at}, i32 {align}, {self.mask_type} {mask}, {vector} zeroinitializer"
            ref = w.write(f"call {vector} {name}({args})", w.lanes)
        else:
            ref = w.write(f"load {vector}, ptr {at}, align {align}", w.lanes)
        ref = w.write(f"icmp ne {vector} {ref}, zeroinitializer", w.lanes) if kind == "i8" else ref
        return Value(ref, np.dtype(dtype), w.lanes)

    def _store(self, pointer: str, value: Value, mask: str) -> None:
        w, kind, align = self.w, memory_type(value.dtype), value.dtype.itemsize
        at, vector = w.write(f"getelementptr {kind}, ptr {pointer}, i64 %i", w.lanes), f"<{w.lanes} x {kind}>"
        ref = w.write(f"zext {value.type} {value.ref} to {vector}", w.lanes) if kind == "i8" else value.ref
        if mask:
            name = f"@llvm.masked.store.{_mangled(kind, w.lanes)}.p0"
            w.declared.add(f"declare void {name}({vector}, ptr, i32, {self.mask_type})")
            args = f"{vector} {ref}, ptr {at}, i32 {align}, {self.mask_type} {mask}"
            w.body.append(f"  call void {name}({args})")
        else:
            w.body.append(f"  store {vector} {ref}, ptr {at}, align {align}")


_compiled: dict[int, tuple[Any, int]] = {}  # id -> (engine, address); engines own the code and must live
_lock = threading.Lock()


def scalar_code(jaxpr: Any) -> str:
    """The text of a program of scalars: a function of an array of pointers, to its operands and then to its results."""
    w = Writer(0, target()[1])
    args = [scalar(w, "cells", k, v.aval.dtype) for k, v in enumerate(jaxpr.invars)]
    outs = [w.computed(v) for v in translate(w, jaxpr, [], args, -1)]
    for k, v in enumerate(outs, len(args)):
        ref = w.write(f"zext i1 {v.ref} to i8", 0) if v.dtype == np.bool_ else v.ref
        w.head.append(f"  store {memory_type(v.dtype)} {ref}, ptr {pointer(w, 'cells', k)}")
    return f"""{_lines(sorted(w.declared))}

define void @kernel(ptr %cells) {{
{_lines(w.head)}
  ret void
}}
"""


def compile_loop(loop: Loop) -> tuple[int, int]:
    """`(id, address)` of the kernel."""
    return compile_text(emit(loop, lanes_of(loop.jaxpr.out_avals[-1].dtype), target()[1]))


def compile_text(text: str) -> tuple[int, int]:
    """`(id, address)` of the kernel; the id is a hash of its text and the processor, the same in every process."""
    cpu, _ = target()
    number = int.from_bytes(hashlib.sha256(f"{cpu}\n{text}".encode()).digest()[:8], "little") >> 1
    with _lock:
        if number not in _compiled:
            _compiled[number] = _machine_code(text)
    return number, _compiled[number][1]


@lru_cache(maxsize=256)
def refusal(loop: Loop) -> str:
    """Empty where the kernel can be built, else the reason. A fault of this translation must cost speed, never the
    run."""
    try:
        check_text(emit(loop, lanes_of(loop.jaxpr.out_avals[-1].dtype), target()[1]))
    except Unsupported as e:
        return str(e)
    except Exception as e:
        return f"its kernel cannot be built, {type(e).__name__}: {e}".splitlines()[0]
    return ""


def check_text(text: str) -> None:
    """Raise where LLVM does not understand it."""
    import llvmlite.binding as llvm

    llvm.parse_assembly(text).verify()


_BY_TABLE = """
!llvm.module.flags = !{!0}
!0 = !{i32 7, !"RtLibUseGOT", i32 1}
"""
"""Functions of the C library that LLVM puts in, `memset` for a loop, are called by a table of addresses: what a direct
call to far away needs is no part of the block of memory, and writing it aborts the process."""


@cache
def _machine() -> Any:
    """What writes machine code for this processor."""
    import llvmlite.binding as llvm

    target()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    # constants are addressed relative to the code (`pic`; whole addresses in 32 bits end where memory is higher up), so
    # both must lie in one block of memory: `use_lmm`
    how: dict[str, Any] = dict(cpu=cpu, features=features, opt=3, codemodel="small", reloc="pic", jit=True)
    return llvm.Target.from_default_triple().create_target_machine(**how)


def _machine_code(text: str) -> tuple[Any, int]:
    """The engine that owns the compiled kernel, and nothing else, and its address."""
    import llvmlite.binding as llvm

    machine = _machine()
    module, nothing = llvm.parse_assembly(text + _BY_TABLE), llvm.parse_assembly("")
    for one in (module, nothing):
        one.triple, one.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    own = llvm.Target.from_default_triple().create_target_machine(codemodel="small", reloc="pic", jit=True)
    engine = llvm.create_mcjit_compiler(nothing, own, use_lmm=True)
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine.emit_object(module)))
    module.close()  # an engine that compiles keeps a megabyte of what it has compiled from
    engine.finalize_object()
    return engine, engine.get_function_address("kernel")


def forget() -> list[int]:
    """Free all machine code; its numbers, which nothing may call any more."""
    with _lock:
        numbers = list(_compiled)
        _compiled.clear()
    refusal.cache_clear()
    return numbers


KERNEL_TYPE = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 4, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
"""scalars, in, out: arrays of pointers; words; begin (a multiple of 64), end; tally: two int32."""
