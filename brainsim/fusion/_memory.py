"""Programs over arrays in memory, one element at a time: rows looked up, units chosen, tables searched, short loops.

They stand between the kernels of a step, where a value is neither a scalar computed from scalars nor one number per
unit computed from others of the same unit: the row of a table of samples, five units of a recording, a `while_loop`
over the spikes that are due. Indices out of range mean what they mean in JAX.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from ..base.jax_internals import Literal
from ._loop import memory_type, pointer, scalar, target
from ._rules import INLINED, RULES, constant_of, convert, scan_sizes
from ._writer import Unsupported, Value, Writer, base_type

INDEX = np.dtype(np.int64)
UPDATES = ("dynamic_update_slice", "scatter", "scatter-add", "scatter_add")
"""What gives its first operand back, changed in places."""
_SHAPE_ONLY = ("reshape", "squeeze", "expand_dims", "copy", "copy_p", "stop_gradient", "pvary", "pcast")


class Array(NamedTuple):
    """An array in memory; `own`: no later operation reads it, so that it may be changed in place."""

    at: str
    shape: tuple[int, ...]
    dtype: np.dtype
    own: bool = False

    @property
    def size(self) -> int:
        return prod(self.shape)


Index = int | Value


def memory_code(jaxpr: Any, in_place: bool = False) -> tuple[str, int]:
    """The text of a program, a function of an array of pointers, to its operands, its results and room for what lies
    between; and the bytes of that room. `in_place`: its result lies already where its first operand does."""
    m = _Memory()
    n = len(jaxpr.invars)
    args = [m.operand(k, v.aval) for k, v in enumerate(jaxpr.invars)]
    places = {v: pointer(m.w, "cells", n + k) for k, v in enumerate(jaxpr.outvars) if v.aval.shape}
    m.room = pointer(m.w, "cells", n + len(jaxpr.outvars))
    if in_place:
        args = [
            a._replace(own=True) if isinstance(a, Array) and v is jaxpr.invars[0] else a
            for v, a in zip(jaxpr.invars, args, strict=True)
        ]
    outs = m.translate(jaxpr, [], args, places)
    for k, (v, out) in enumerate(zip(jaxpr.outvars, outs, strict=True)):
        if isinstance(out, Value):
            m.store(pointer(m.w, "cells", n + k), out)
        elif not in_place:
            m.copy(places[v], out)
    lines = "\n".join(sorted(m.w.declared)), "\n".join(m.entry), "\n".join(m.w.head)
    return "{}\n\ndefine void @kernel(ptr %cells) {{\n{}\n{}\n  ret void\n}}\n".format(*lines), m.room_bytes


class _Memory:
    """Writes one program."""

    def __init__(self) -> None:
        self.w = Writer(0, target()[1])
        self.entry: list[str] = []  # variables, which LLVM keeps in registers
        self.room, self.room_bytes = "", 0
        self._labels = 0

    def operand(self, k: int, aval: Any) -> Value | Array:
        if aval.shape:
            base_type(aval.dtype)
            return Array(pointer(self.w, "cells", k), aval.shape, np.dtype(aval.dtype))
        return scalar(self.w, "cells", k, aval.dtype)

    # --- memory ---

    def make(self, aval: Any) -> Array:
        """Room for an array."""
        dtype = np.dtype(aval.dtype)
        base_type(dtype)
        at = self.w.write(f"getelementptr i8, ptr {self.room}, i64 {self.room_bytes}", 0)
        self.room_bytes += -(-prod(aval.shape) * dtype.itemsize // 64) * 64
        return Array(at, aval.shape, dtype, own=True)

    def _element(self, x: Array, index: Index) -> str:
        at = index if isinstance(index, int) else index.ref
        return self.w.write(f"getelementptr {memory_type(x.dtype)}, ptr {x.at}, i64 {at}", 0)

    def load(self, x: Array, index: Index) -> Value:
        return self._load(self._element(x, index), x.dtype)

    def _load(self, at: str, dtype: Any) -> Value:
        kind = memory_type(dtype)
        ref = self.w.write(f"load {kind}, ptr {at}", 0)
        ref = self.w.write(f"icmp ne i8 {ref}, 0", 0) if kind == "i8" else ref
        return Value(ref, np.dtype(dtype), 0)

    def store(self, at: str, v: Value) -> None:
        v = self.w.computed(v)
        ref = self.w.write(f"zext i1 {v.ref} to i8", 0) if v.dtype == np.bool_ else v.ref
        self.w.head.append(f"  store {memory_type(v.dtype)} {ref}, ptr {at}")

    def put(self, x: Array, index: Index, v: Value) -> None:
        self.store(self._element(x, index), v)

    def copy(self, at: str, x: Array) -> None:
        """`x` to where `at` points, if it does not lie there."""
        if at != x.at:
            to = Array(at, x.shape, x.dtype)
            self.each(x.size, lambda i: self.put(to, i, self.load(x, i)))

    def variable(self, dtype: Any) -> str:
        at = self.w.name()
        self.entry.append(f"  {at} = alloca {memory_type(dtype)}")
        return at

    # --- indices ---

    def index(self, x: Any) -> Value:
        """`x` as an index."""
        return self.w.constant(x, INDEX) if isinstance(x, int) else convert(self.w, x, INDEX)

    def add(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return a if b == 0 else b if a == 0 else self.w.op("add", self.index(a), self.index(b))

    def mul(self, a: Index, b: int) -> Index:
        if b == 0:
            return 0
        if isinstance(a, int):
            return int.__mul__(a, b)
        return a if b == 1 else self.w.op("mul", a, self.index(b))

    def clamp(self, a: Value, most: int) -> Value:
        a = self.w.extreme(self.index(a), self.index(0), True)
        return self.w.extreme(a, self.index(most), False)

    def place(self, shape: Sequence[int], at: Sequence[Index]) -> Index:
        """The number of an element."""
        total: Index = 0
        for size, k in zip(shape, at, strict=True):
            total = self.add(self.mul(total, size), k if size > 1 else 0)
        return total

    def each(self, n: Index, do: Callable[[Value], None]) -> None:
        """`do(i)` for i below `n`."""
        w, k = self.w, self._label()
        at, end = self.variable(INDEX), self.index(n)
        self.store(at, self.index(0))
        w.head += [f"  br label %head{k}", f"head{k}:"]
        i = self._load(at, INDEX)
        more = w.compare("slt", i, end)
        w.head += [f"  br i1 {more.ref}, label %body{k}, label %end{k}", f"body{k}:"]
        do(i)
        self.store(at, w.op("add", i, self.index(1)))
        w.head += [f"  br label %head{k}", f"end{k}:"]

    def when(self, condition: Value, do: Callable[[], None]) -> None:
        k = self._label()
        self.w.head += [f"  br i1 {condition.ref}, label %body{k}, label %end{k}", f"body{k}:"]
        do()
        self.w.head += [f"  br label %end{k}", f"end{k}:"]

    def _label(self) -> int:
        self._labels += 1
        return self._labels

    def all_of(self, shape: Sequence[int], do: Callable[[Value, list[Index]], None]) -> None:
        """`do(number, index)` for every element of an array of this shape."""

        def one(i: Value) -> None:
            at: list[Index] = []
            rest: Value = i
            left = prod(shape)
            for size in shape:
                left //= max(size, 1)
                if size == 1:
                    at.append(0)
                elif left == 1:
                    at.append(rest)
                else:
                    at.append(self.w.op("udiv", rest, self.index(left)))
                    rest = self.w.op("urem", rest, self.index(left))
            do(i, at)

        self.each(prod(shape), one)

    # --- equations ---

    def translate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], places: dict[Any, str]) -> list[Any]:
        """The outputs of a jaxpr; those in `places` are made there where an equation makes them."""
        known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        uses = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
        uses.update(v for v in jaxpr.outvars if not isinstance(v, Literal))

        def read(v: Any) -> Any:
            if isinstance(v, Literal):
                aval: Any = v.aval
                return self.w.constant(np.asarray(v.val).item(), aval.dtype)
            x = known[v]
            return x._replace(own=x.own and uses[v] == 1) if isinstance(x, Array) else x

        for eqn in jaxpr.eqns:
            name, ins = eqn.primitive.name, [read(v) for v in eqn.invars]
            room: list[Any] = [self._room(v, places) if self._needs_room(name, v) else None for v in eqn.outvars]
            if name in INLINED:
                inner, own = _opened(eqn.params[INLINED[name]], self.w)
                outs = self.translate(inner, own, ins, {})
            elif name in _LOOPS:
                outs = _LOOPS[name](self, eqn, ins, room)
            elif name in _SHAPE_ONLY:
                outs = [self._shaped(ins[0], eqn.outvars[0].aval.shape)]
            elif name in UPDATES:
                outs = [_UPDATES[name](self, eqn, self._mine(ins[0], eqn.outvars[0], places), *ins[1:])]
            elif name in _MOVES:
                _MOVES[name](self, eqn, ins, room)
                outs = room
            elif name not in RULES:
                raise Unsupported(f"the operation '{name}' on arrays")
            elif not eqn.outvars[0].aval.shape:
                outs = [RULES[name](self.w, eqn.params, *map(self.w.computed, ins))]
            else:
                outs = [self._elementwise(eqn, ins, room[0])]
            outs = [
                self.load(x, 0) if isinstance(x, Array) and not v.aval.shape else x
                for v, x in zip(eqn.outvars, outs, strict=True)
            ]
            known.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _needs_room(self, name: str, v: Any) -> bool:
        if name in INLINED or name in UPDATES or name in _SHAPE_ONLY:
            return False
        return bool(v.aval.shape) or name in _MOVES

    def _room(self, v: Any, places: dict[Any, str]) -> Array:
        if v in places:
            return Array(places[v], v.aval.shape, np.dtype(v.aval.dtype), own=True)
        return self.make(v.aval)

    def _mine(self, x: Any, out: Any, places: dict[Any, str]) -> Array:
        """`x` to change: itself, if no later operation reads it, else a copy."""
        if isinstance(x, Value):
            x = self._shaped(x, out.aval.shape)
        if x.own:
            return x
        room = self._room(out, places)
        self.copy(room.at, x)
        return room

    def _shaped(self, x: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(x, Value):
            if not shape:
                return x
            at = self.variable(x.dtype)
            self.store(at, x)
            return Array(at, shape, x.dtype)
        return x._replace(shape=shape)

    def _elementwise(self, eqn: Any, ins: list[Any], room: Array) -> Array:
        values = [self.w.computed(x) if isinstance(x, Value) else x for x in ins]
        apart = any(isinstance(x, Array) and x.shape != room.shape for x in ins)  # some axes have size 1

        def one(i: Value, at: list[Index]) -> None:
            now = [x if isinstance(x, Value) else self.load(x, self.place(x.shape, at) if apart else i) for x in values]
            self.put(room, i, RULES[eqn.primitive.name](self.w, eqn.params, *now))

        self.all_of(room.shape, one) if apart else self.each(room.size, lambda i: one(i, []))
        return room


def _opened(closed: Any, w: Writer) -> tuple[Any, list[Value]]:
    """A jaxpr and its constants."""
    inner, consts = (closed.jaxpr, closed.consts) if hasattr(closed, "consts") else (closed, [])
    return inner, [constant_of(w, c, -1) for c in consts]


# --- what only moves elements: each writes into the room of its output ------------------------------------------------


def _from(source: Callable[[_Memory, Any, list[Index]], list[Index]]) -> Callable:
    """A rule by where an element comes from."""

    def rule(m: _Memory, eqn: Any, ins: list[Any], room: list[Any]) -> None:
        x, out = ins[0], room[0]
        if isinstance(x, Value):
            return m.each(out.size, lambda i: m.put(out, i, x))
        m.all_of(out.shape, lambda i, at: m.put(out, i, m.load(x, m.place(x.shape, source(m, eqn, at)))))

    return rule


def _slice(m, eqn, at):
    p = eqn.params
    strides = p["strides"] or (1,) * len(at)
    return [m.add(m.mul(k, s), low) for k, s, low in zip(at, strides, p["start_indices"], strict=True)]


def _rev(m, eqn, at):
    shape = eqn.outvars[0].aval.shape
    return [
        m.add(m.mul(k, -1), n - 1) if d in eqn.params["dimensions"] else k
        for d, (k, n) in enumerate(zip(at, shape, strict=True))
    ]


def _broadcast(m, eqn, at):
    shape = eqn.invars[0].aval.shape
    return [at[d] if n > 1 else 0 for n, d in zip(shape, eqn.params["broadcast_dimensions"], strict=True)]


def _transpose(m, eqn, at):
    order = eqn.params["permutation"]
    return [at[order.index(d)] for d in range(len(at))]


def _dynamic_slice(m, eqn, ins, room):
    x, starts = ins[0], ins[1:]
    sizes = eqn.params["slice_sizes"]
    first = [m.clamp(s, n - k) if n > k else 0 for s, n, k in zip(starts, x.shape, sizes, strict=True)]
    m.all_of(
        sizes,
        lambda i, at: m.put(
            room[0], i, m.load(x, m.place(x.shape, [m.add(a, b) for a, b in zip(first, at, strict=True)]))
        ),
    )


def _split(m, eqn, ins, room):
    (x,), axis, first = ins, eqn.params["axis"], 0
    for out in room:

        def one(i, at, out=out, first=first):
            m.put(out, i, m.load(x, m.place(x.shape, [m.add(k, first if d == axis else 0) for d, k in enumerate(at)])))

        m.all_of(out.shape, one)
        first += out.shape[axis]


def _concatenate(m, eqn, ins, room):
    (out,), axis, first = room, eqn.params["dimension"], 0
    for x in ins:

        def one(i, at, x=x, first=first):
            to = [m.add(k, first if d == axis else 0) for d, k in enumerate(at)]
            m.put(out, m.place(out.shape, to), m.load(x, i))

        m.all_of(x.shape, one)
        first += x.shape[axis]


def _stack(m, eqn, ins, room):
    (out,), axis = room, eqn.params["axis"]
    for k, x in enumerate(ins):

        def one(i, at, k=k, x=x):
            m.put(out, m.place(out.shape, [*at[:axis], k, *at[axis:]]), m.load(x, i) if isinstance(x, Array) else x)

        m.all_of(out.shape[:axis] + out.shape[axis + 1 :], one)


def _pad(m, eqn, ins, room):
    (x, value), (out,) = ins, room
    config = [tuple(map(int, some)) for some in eqn.params["padding_config"]]
    if any(low < 0 or high < 0 for low, high, _ in config):
        raise Unsupported("a negative padding")
    m.each(out.size, lambda i: m.put(out, i, value))

    def one(i, at):
        to = [m.add(m.mul(k, inside + 1), low) for k, (low, _, inside) in zip(at, config, strict=True)]
        m.put(out, m.place(out.shape, to), m.load(x, i))

    m.all_of(x.shape, one)


def _iota(m, eqn, ins, room):
    (out,), d = room, eqn.params["dimension"]
    m.all_of(out.shape, lambda i, at: m.put(out, i, convert(m.w, m.index(at[d]), out.dtype)))


def _reduction(combine: Callable[[Writer, Value, Value], Value], start: Callable[[np.dtype], Any], wide: bool = False):
    """A sum or the like; of numbers in single precision in double, in the order in which they lie."""

    def rule(m: _Memory, eqn: Any, ins: list[Any], room: list[Any]) -> None:
        (x,), (out,), axes = ins, room, eqn.params["axes"]
        kind = np.dtype(np.float64) if wide and x.dtype == np.float32 else x.dtype
        inner = [x.shape[d] for d in axes]
        at_ = m.variable(kind)

        def one(i, kept):
            m.store(at_, m.w.constant(start(kind), kind))

            def more(_, reduced):
                by = dict(zip(axes, reduced, strict=True))
                rest = iter(kept)
                at = [by[d] if d in by else next(rest) for d in range(len(x.shape))]
                v = convert(m.w, m.load(x, m.place(x.shape, at)), kind)
                m.store(at_, combine(m.w, m._load(at_, kind), v))

            m.all_of(inner, more)
            m.put(out, i, convert(m.w, m._load(at_, kind), x.dtype))

        m.all_of(out.shape, one)

    return rule


def _lowest(kind: np.dtype) -> Any:
    return -np.inf if np.issubdtype(kind, np.floating) else False if kind == np.bool_ else np.iinfo(kind).min


def _highest(kind: np.dtype) -> Any:
    return np.inf if np.issubdtype(kind, np.floating) else True if kind == np.bool_ else np.iinfo(kind).max


def _starts(m: _Memory, d: Any, indices: Array, at: list[Index], of: Sequence[int]) -> dict[int, Value]:
    """By axis of the operand, the index that stands in `indices` for these places of its own leading axes."""
    return {axis: m.index(m.load(indices, m.place(indices.shape, [*at, k]))) for k, axis in enumerate(of)}


def _within(m: _Memory, starts: dict[int, Value], most: dict[int, int]) -> Value:
    w = m.w
    inside = w.constant(True, np.bool_)
    for axis, k in starts.items():
        fits = w.op("and", w.compare("sge", k, m.index(0)), w.compare("sle", k, m.index(most[axis])))
        inside = w.op("and", inside, fits)
    return inside


def _gather(m, eqn, ins, room):
    (x, indices), (out,), p = ins, room, eqn.params
    d, sizes = p["dimension_numbers"], p["slice_sizes"]
    if d.operand_batching_dims:
        raise Unsupported("a gather in batches")
    most = {axis: x.shape[axis] - sizes[axis] for axis in d.start_index_map}
    window = [axis for axis in range(len(x.shape)) if axis not in d.collapsed_slice_dims]
    filled = p["mode"] == lax.GatherScatterMode.FILL_OR_DROP
    value = p["fill_value"]
    if value is None:
        floating = np.issubdtype(x.dtype, np.floating)
        value = np.nan if floating else _highest(x.dtype) if x.dtype.kind in "ub" else _lowest(x.dtype)

    def one(i, at):
        lead = [k for axis, k in enumerate(at) if axis not in d.offset_dims]
        inner = dict(zip(window, [at[axis] for axis in d.offset_dims], strict=True))
        starts = _starts(m, d, indices, lead, d.start_index_map)
        first = {axis: m.clamp(k, most[axis]) for axis, k in starts.items()}
        v = m.load(x, m.place(x.shape, [m.add(first.get(a, 0), inner.get(a, 0)) for a in range(len(x.shape))]))
        m.put(out, i, m.w.select(_within(m, starts, most), v, m.w.constant(value, x.dtype)) if filled else v)

    m.all_of(out.shape, one)


def _scatter(combine: Callable[[Writer, Value, Value], Value]) -> Callable:
    def rule(m: _Memory, eqn: Any, x: Array, indices: Array, updates: Any) -> Array:
        d, p = eqn.params["dimension_numbers"], eqn.params
        if d.operand_batching_dims:
            raise Unsupported("a scatter in batches")
        shape = eqn.invars[2].aval.shape
        window = [axis for axis in range(len(x.shape)) if axis not in d.inserted_window_dims]
        sizes = dict(zip(window, [shape[axis] for axis in d.update_window_dims], strict=True))
        most = {axis: x.shape[axis] - sizes.get(axis, 1) for axis in d.scatter_dims_to_operand_dims}
        clip = p["mode"] == lax.GatherScatterMode.CLIP

        def one(i, at):
            lead = [k for axis, k in enumerate(at) if axis not in d.update_window_dims]
            inner = dict(zip(window, [at[axis] for axis in d.update_window_dims], strict=True))
            starts = _starts(m, d, indices, lead, d.scatter_dims_to_operand_dims)
            if clip:
                starts = {axis: m.clamp(k, most[axis]) for axis, k in starts.items()}

            def change():
                to = m.place(x.shape, [m.add(starts.get(a, 0), inner.get(a, 0)) for a in range(len(x.shape))])
                new = m.load(updates, i) if isinstance(updates, Array) else updates
                m.put(x, to, combine(m.w, m.load(x, to), new))

            m.when(_within(m, starts, most), change)

        m.all_of(shape, one)
        return x

    return rule


def _dynamic_update(m, eqn, x, update, *starts):
    shape = eqn.invars[1].aval.shape
    first = [m.clamp(s, n - k) if n > k else 0 for s, n, k in zip(starts, x.shape, shape, strict=True)]

    def one(i, at):
        to = m.place(x.shape, [m.add(a, b) for a, b in zip(first, at, strict=True)])
        m.put(x, to, m.load(update, i))

    m.all_of(shape, one)
    return x


_MOVES = {
    "slice": _from(_slice),
    "rev": _from(_rev),
    "broadcast_in_dim": _from(_broadcast),
    "transpose": _from(_transpose),
    "dynamic_slice": _dynamic_slice,
    "split": _split,
    "concatenate": _concatenate,
    "stack": _stack,
    "pad": _pad,
    "iota": _iota,
    "gather": _gather,
    "reduce_sum": _reduction(lambda w, a, b: w.add(a, b), lambda kind: 0, wide=True),
    "reduce_prod": _reduction(lambda w, a, b: w.mul(a, b), lambda kind: 1, wide=True),
    "reduce_max": _reduction(lambda w, a, b: w.extreme(a, b, True), _lowest),
    "reduce_min": _reduction(lambda w, a, b: w.extreme(a, b, False), _highest),
    "reduce_and": _reduction(
        lambda w, a, b: w.op("and", a, b), lambda kind: _highest(kind) if kind.kind in "ub" else -1
    ),
    "reduce_or": _reduction(lambda w, a, b: w.op("or", a, b), lambda kind: 0),
}
_add = _scatter(lambda w, old, new: w.add(old, new))
_UPDATES = {
    "dynamic_update_slice": _dynamic_update,
    "scatter": _scatter(lambda w, old, new: new),
    "scatter-add": _add,
    "scatter_add": _add,
}


# --- loops and branches -----------------------------------------------------------------------------------------------


class _Carry:
    """What a loop carries: scalars in variables, arrays where the loop's results are."""

    def __init__(self, m: _Memory, init: list[Any], room: list[Any]) -> None:
        self.m = m
        self.at: list[Any] = []
        for x, r in zip(init, room, strict=True):
            if isinstance(x, Value):
                x = m.w.computed(x)
                self.at.append((m.variable(x.dtype), x.dtype))
                m.store(self.at[-1][0], x)
            else:
                m.copy(r.at, x)
                self.at.append(r)

    def read(self) -> list[Any]:
        return [x if isinstance(x, Array) else self.m._load(*x) for x in self.at]

    def write(self, new: list[Any]) -> None:
        """What the loop goes on with; what lies in the place of another one is put aside first."""
        m, mine = self.m, {x.at for x in self.at if isinstance(x, Array)}
        arrays = [(to, x) for to, x in zip(self.at, new, strict=True) if isinstance(to, Array) and x.at != to.at]
        aside = []
        for to, x in arrays:
            if x.at in mine:
                kept = m.make(x)
                m.copy(kept.at, x)
                x = kept
            aside.append((to, x))
        for to, x in aside:
            m.copy(to.at, x)
        for to, x in zip(self.at, new, strict=True):
            if not isinstance(to, Array):
                m.store(to[0], x)


def _while(m: _Memory, eqn: Any, ins: list[Any], room: list[Any]) -> list[Any]:
    p, w, k = eqn.params, m.w, m._label()
    n_cond, n_body = p["cond_nconsts"], p["body_nconsts"]
    cond, cond_own = _opened(p["cond_jaxpr"], w)
    body, body_own = _opened(p["body_jaxpr"], w)
    kept = [x._replace(own=False) if isinstance(x, Array) else x for x in ins[: n_cond + n_body]]
    carry = _Carry(m, ins[n_cond + n_body :], room)
    w.head += [f"  br label %head{k}", f"head{k}:"]
    (more,) = m.translate(cond, cond_own, [*kept[:n_cond], *_shared(carry.read())], {})
    if isinstance(more, Array):
        raise Unsupported("a loop with several conditions")
    more = w.computed(more)
    w.head += [f"  br i1 {more.ref}, label %body{k}, label %end{k}", f"body{k}:"]
    carry.write(m.translate(body, body_own, [*kept[n_cond:], *carry.read()], {}))
    w.head += [f"  br label %head{k}", f"end{k}:"]
    return carry.read()


def _shared(values: list[Any]) -> list[Any]:
    return [x._replace(own=False) if isinstance(x, Array) else x for x in values]


def _scan(m: _Memory, eqn: Any, ins: list[Any], room: list[Any]) -> list[Any]:
    p, sizes = eqn.params, scan_sizes(eqn.params)
    if sizes is None:
        raise Unsupported("a loop of unknown form")
    n_consts, n_carry = sizes
    length, body = p["length"], p["jaxpr"]
    inner, own = _opened(body, m.w)
    consts, xs = _shared(ins[:n_consts]), ins[n_consts + n_carry :]
    carry = _Carry(m, ins[n_consts : n_consts + n_carry], room[:n_carry])

    def row(x: Array, i: Value, shape: tuple[int, ...]) -> Array:
        return Array(m._element(x, m.mul(i, prod(shape))), shape, x.dtype)

    def one(i: Value) -> None:
        if p["reverse"]:
            i = m.w.op("sub", m.index(length - 1), i)
        taken = [row(x, i, x.shape[1:]) for x in xs]
        taken = [x if x.shape else m.load(x, 0) for x in taken]
        outs = m.translate(inner, own, [*consts, *carry.read(), *taken], {})
        for y, out in zip(room[n_carry:], outs[n_carry:], strict=True):
            to = row(y, i, y.shape[1:])
            m.copy(to.at, out) if isinstance(out, Array) else m.put(to, 0, out)
        carry.write(outs[:n_carry])

    m.each(length, one)
    return [*carry.read(), *room[n_carry:]]


def _cond(m: _Memory, eqn: Any, ins: list[Any], room: list[Any]) -> list[Any]:
    branches = eqn.params["branches"]
    which = m.clamp(ins[0], len(branches) - 1)
    outs = [r if r is not None else m.variable(v.aval.dtype) for r, v in zip(room, eqn.outvars, strict=True)]
    for k, branch in enumerate(branches):
        inner, own = _opened(branch, m.w)

        def run(inner=inner, own=own):
            for to, x in zip(outs, m.translate(inner, own, _shared(ins[1:]), {}), strict=True):
                if isinstance(to, Array):
                    m.copy(to.at, x)
                else:
                    m.store(to, x)

        m.when(m.w.compare("eq", which, m.index(k)), run)
    kinds = [v.aval.dtype for v in eqn.outvars]
    return [to if isinstance(to, Array) else m._load(to, kind) for to, kind in zip(outs, kinds, strict=True)]


_LOOPS = {"while": _while, "scan": _scan, "cond": _cond}
