"""`scan`: `jax.lax.scan`, as one call where its body consists of kernels and of arithmetic on scalars.

XLA pays about 0.3 us for every operation of a loop, and that is more than a kernel takes for a thousand units. So the
body is written down as a tape: which kernel runs on which arrays, in which order, and what is computed from scalars
between them, as machine code. A C++ loop plays it, step after step, each array changed where it lies (the values of a
jaxpr never change, so one whose last reader overwrites it gives its memory away; otherwise it is copied). Anything
else in the body, and the whole scan stays with XLA.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir, partial_eval as pe

from ..events import _ffi
from ..events._primitives import append_p, bits_p, normals_p, scatter_p, tally_p
from ._fused import fused_p, over, unavailable, why_not
from ._loop import Loop, compile_loop, compile_text, refusal as loop_refusal, scalar_code
from ._rules import INLINED
from ._writer import Unsupported

scan_p = Primitive("brainsim_scan")
scan_p.multiple_results = True


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


def scan(
    f: Callable, init: Any, xs: Any, length: int, tell: Callable[[bool], None] = lambda played: None
) -> tuple[Any, Any]:
    """`jax.lax.scan(f, init, xs, length)`. `tell` is told whether it is one call: a `vmap` then has every result on its
    first axis, where `lax.scan` has what is stacked on the second."""
    if unavailable():
        return lax.scan(f, init, xs, length)
    closed, carry, ys = _traced(f, init, xs)
    flat, tree = jax.tree.flatten(init)
    n = len(flat)
    if carry != tree or [v.aval for v in closed.jaxpr.outvars[:n]] != closed.in_avals[:n]:
        return lax.scan(f, init, xs, length)  # it says what is wrong, or widens a weak type
    body, kept, operands = _body(closed, flat, jax.tree.leaves(xs))
    played = not refusal(body)
    tell(played)
    if not played:
        call = jaxpr_as_fun(closed)

        def again(carry, x):
            out = call(*carry, *jax.tree.leaves(x))
            return out[:n], out[n:]

        final, rows = lax.scan(again, flat, xs, length)
    else:
        operands = [jax.random.key_data(x) if _is_key(x) else x for x in operands]  # kernels know keys as words
        outs = iter(scan_p.bind(*operands, body=body, length=length, rank=0))
        final = [x if k else next(outs) for x, k in zip(flat, kept, strict=True)]
        rows = list(outs)
    return jax.tree.unflatten(tree, final), jax.tree.unflatten(ys, rows)


def why_no_scan(f: Callable, init: Any, xs: Any) -> str:
    """Empty where `scan` of these (arrays or their shapes) is one call, else the reason why not."""
    if unavailable():
        return unavailable()
    return refusal(_body(_traced(f, init, xs)[0], jax.tree.leaves(init), jax.tree.leaves(xs))[0])


def _traced(f: Callable, init: Any, xs: Any) -> tuple[ClosedJaxpr, Any, Any]:
    """The body, and the structures of the carry and the row that it returns."""
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    closed, (carry, ys) = jax.make_jaxpr(f, return_shape=True)(init, rows)
    return closed, jax.tree.structure(carry), jax.tree.structure(ys)


def _body(closed: ClosedJaxpr, carry: list[Any], xs: list[Any]) -> tuple[Body, list[bool], list[Any]]:
    """The body without what nothing depends on, which parts of the carry it leaves alone, and the operands."""
    jaxpr, n = closed.jaxpr, len(carry)
    kept = [jaxpr.outvars[k] is jaxpr.invars[k] for k in range(n)]
    still, moving = [k for k in range(n) if kept[k]], [k for k in range(n) if not kept[k]]
    invars = [*jaxpr.constvars, *(jaxpr.invars[k] for k in (*still, *moving)), *jaxpr.invars[n:]]
    outvars = [*(jaxpr.outvars[k] for k in moving), *jaxpr.outvars[n:]]
    operands = [*closed.consts, *(carry[k] for k in (*still, *moving)), *xs]
    first = len(closed.consts) + len(still)
    info = jaxpr.debug_info.with_unknown_names()
    counts = {e.outvars[_VALUE - e.params["program"].n_rings]: e.outvars[-2] for e in jaxpr.eqns if _spiking(e)}
    eqns = [_forward(eqn, counts) for eqn in jaxpr.eqns]
    jaxpr = jaxpr.replace(constvars=[], invars=invars, outvars=outvars, eqns=eqns, debug_info=info)
    carried = [first <= i < first + len(moving) for i in range(len(invars))]
    jaxpr, used = pe.dce_jaxpr(jaxpr, [True] * len(outvars), carried)
    operands = [x for x, u in zip(operands, used, strict=True) if u]
    return Body(ClosedJaxpr(jaxpr, []), sum(used[:first]), len(moving)), kept, operands


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


_VALUE = -4  # place of the event value among the outputs of a fused program without rings


def _forward(eqn: Any, counts: dict[Any, Any]) -> Any:
    """The equation without the support of events, which only a derivative reads, so that what computes it is left out;
    and for the sum of spikes, of which `counts` has the number, that number."""
    if eqn.primitive is scatter_p:
        base, value, weight, _, *rest = eqn.invars
        return eqn.replace(invars=[base, value, weight, value, *rest])
    if eqn.primitive is lax.reduce_sum_p and not isinstance(eqn.invars[0], Literal) and eqn.invars[0] in counts:
        params = dict(new_dtype=eqn.outvars[0].aval.dtype, weak_type=False, sharding=None)
        count = counts[eqn.invars[0]]
        return eqn.replace(primitive=lax.convert_element_type_p, invars=[count], params=params)
    return eqn


# --- the tape ---------------------------------------------------------------------------------------------------------


class Tape(NamedTuple):
    """What `ops/cpu/scan.cc` plays, less the numbers of the compiled kernels: those of instruction i come from
    `kernels[i]`, which compiles one."""

    head: list[int]
    instructions: list[tuple[int, list[int], list[int]]]  # operation, cells, numbers
    kernels: dict[int, Callable[[], tuple[int, int]]]
    work: int  # units and synapses of a step, about

    def compiled(self) -> list[int]:
        """The whole tape; its kernels are compiled and made known."""
        code = list(self.head)
        for i, (operation, cells, numbers) in enumerate(self.instructions):
            if i in self.kernels:
                number, address = self.kernels[i]()
                _ffi.register_fused(number, address)
                numbers = [number, *numbers]
            code += [operation, len(cells), len(numbers), *cells, *numbers]
        return code


SCALARS, UNITS, SCATTER, APPEND, TALLY, FOLD, BITS, NORMALS, COPY = range(9)
_RENAMED = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "stop_gradient", "random_unwrap")


@lru_cache(maxsize=256)
def refusal(body: Body) -> str:
    """Empty where the body can be played, else the reason why not."""
    try:
        _Assembler(body).tape()
    except Unsupported as e:
        return str(e)
    return ""


def _bytes(aval: Any) -> int:
    return prod(aval.shape) * (8 if _is_key(aval) else np.dtype(aval.dtype).itemsize)


def _same_memory(eqn: Any) -> bool:
    """Whether an equation only gives another shape to what it reads."""
    return eqn.primitive.name in _RENAMED and _bytes(eqn.outvars[0].aval) == _bytes(eqn.invars[0].aval)


class Item(NamedTuple):
    """What is done at once: one kernel (`length` None), or arithmetic on scalars (()) or on arrays of a length."""

    length: tuple[int, ...] | None
    eqns: list[Any]


def _length(eqn: Any) -> tuple[int, ...] | None:
    """The length of the item that an equation belongs to."""
    if eqn.primitive in (fused_p, scatter_p, append_p, tally_p, bits_p, normals_p) or (
        eqn.primitive.name == "random_fold_in" and str(eqn.outvars[0].aval) == "key<fry>[]"
    ):
        return None
    avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    shapes = {a.shape for a in avals} - {()}
    if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes) or any(map(_is_key, avals)):
        raise Unsupported(f"the operation '{eqn.primitive.name}' on arrays")
    return shapes.pop() if shapes else ()


def _schedule(jaxpr: Any) -> list[Item]:
    """The equations in an order they can run in, what can be done at once together."""
    anywhere = [_same_memory(e) or all(v.aval.size == 0 for v in e.outvars) for e in jaxpr.eqns]
    left = [(e, "any" if free else _length(e)) for e, free in zip(jaxpr.eqns, anywhere, strict=True)]
    items: list[Item] = []
    known = set(jaxpr.invars)

    def take(length):
        """What is ready, and becomes so by that, of one length."""
        nonlocal left
        taken, later = [], []
        for eqn, of in left:
            ready = all(isinstance(v, Literal) or v in known for v in eqn.invars)
            if ready and of in (length, "any"):
                known.update(eqn.outvars)
                taken.append(eqn)
            else:
                later.append((eqn, of))
        left = later
        return taken

    while left:
        lengths = sorted({of for _, of in left if isinstance(of, tuple) and of})
        for length in ((), *lengths, None):
            if taken := take(length):
                items += [Item(None, [eqn]) for eqn in taken] if length is None else [Item(length, taken)]
    return items


def _spikes(jaxpr: Any) -> set[Any]:
    """The event values of units that are 0 or 1 and read by those only who have them as packed words."""
    values = {e.outvars[_VALUE - e.params["program"].n_rings]: e.outvars[-3] for e in jaxpr.eqns if _spiking(e)}
    for eqn in jaxpr.eqns:
        at = {scatter_p: (1, 3, 4), append_p: (2, -1, 3)}.get(eqn.primitive)
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


class _Assembler:
    """Gives every value of a body a cell, and writes the instructions."""

    def __init__(self, body: Body) -> None:
        self.body, self.jaxpr = body, body.jaxpr.jaxpr
        n_xs = len(self.jaxpr.invars) - body.n_consts - body.n_carry
        n_ys = len(self.jaxpr.outvars) - body.n_carry
        self.counts = [body.n_consts, body.n_carry, n_xs, n_ys]
        self.first_literal = sum(self.counts)
        self.literals: list[int] = []
        self.scratch: list[int] = []  # bytes; cell ~k while the number of literals is not known
        self.cell: dict[Any, int] = {v: i for i, v in enumerate(self.jaxpr.invars)}
        self.instructions: list[tuple[int, list[int], list[int]]] = []
        self.kernels: dict[int, Callable] = {}
        self.work = 0
        self.root: dict[Any, Any] = {}  # of a value that is another one in another shape
        self.last: dict[Any, int] = {}  # the item that reads a value last
        self.items = _schedule(self.jaxpr)
        self.silent = _spikes(self.jaxpr)  # event values that nobody needs

    def tape(self) -> Tape:
        if any(_is_key(v.aval) for v in (*self.jaxpr.outvars, *self.jaxpr.invars[self.body.n_consts :])):
            raise Unsupported("a random key that changes")
        for i, item in enumerate(self.items):
            for eqn in item.eqns:
                if _same_memory(eqn):
                    self.root[eqn.outvars[0]] = self._origin(eqn.invars[0])
                self._note(eqn.invars, i)
        self._note(self.jaxpr.outvars, len(self.items))
        kernels = {fused_p: self._units, scatter_p: self._scatter, append_p: self._append, tally_p: self._tally}
        kernels |= {bits_p: self._noise, normals_p: self._noise}
        for i, (length, eqns) in enumerate(self.items):
            if length is None:
                for eqn in eqns:
                    if not _same_memory(eqn) and eqn.outvars[0].aval.size:
                        kernels.get(eqn.primitive, self._fold)(eqn, i)
            else:
                self._arithmetic(length, eqns, i)
        self._finish()
        places, end = [], 0
        for size in self.scratch:
            places.append(end)
            end += -(-size // 64) * 64
        first = self.first_literal + len(self.literals)
        code = [
            (operation, [first + ~c if c < 0 else c for c in cells], numbers)
            for operation, cells, numbers in self.instructions
        ]
        head = [*self.counts, len(self.literals), len(places), end, *self.literals, *places]
        return Tape(head, code, self.kernels, self.work)

    # --- values and cells ---

    def _origin(self, v: Any) -> Any:
        return v if isinstance(v, Literal) else self.root.get(v, v)

    def _note(self, values: Sequence[Any], i: int) -> None:
        for v in values:
            if not isinstance(v := self._origin(v), Literal):
                self.last[v] = i

    def _read(self, v: Any) -> int:
        v = self._origin(v)
        if isinstance(v, Literal):
            aval: Any = v.aval
            data = np.asarray(v.val, aval.dtype).tobytes().ljust(8, b"\0")
            self.literals.append(int.from_bytes(data, "little", signed=True))
            return self.first_literal + len(self.literals) - 1
        if v.aval.size == 0 or v in self.silent:
            return 0
        return self.cell[v]

    def _room(self, size: int) -> int:
        self.scratch.append(size)
        return ~(len(self.scratch) - 1)

    def _new(self, v: Any) -> int:
        self.cell[v] = self._room(_bytes(v.aval))
        return self.cell[v]

    def _mine(self, v: Any, i: int) -> bool:
        """Whether item i is the last to read `v`, and may write where it lies."""
        v = self._origin(v)
        if isinstance(v, Literal) or self.last[v] != i or not v.aval.size or v in self.silent:
            return False
        return self.cell[v] < 0 or self.body.n_consts <= self.cell[v] < self.body.n_consts + self.body.n_carry

    def _take(self, v: Any, out: Any, i: int, copy: bool) -> int:
        """The cell of `out`, which item i makes of `v` in place: that of `v` where nobody reads it any more, else a new
        one, with what is in `v` if `copy`."""
        if self._mine(v, i):
            self.cell[out] = self.cell[self._origin(v)]
            return self.cell[out]
        old = self._read(v)
        new = self._new(out)
        if copy:
            self._write(COPY, [new, old], [_bytes(out.aval)])
        return new

    def _write(self, operation: int, cells: list[int], numbers: list[int], kernel: Callable | None = None) -> None:
        if kernel is not None:
            self.kernels[len(self.instructions)] = kernel
        self.instructions.append((operation, cells, numbers))

    # --- instructions ---

    def _arithmetic(self, length: tuple[int, ...], eqns: list[Any], i: int) -> None:
        """A program of its own: of scalars, or one pass over arrays of a length."""
        made: set[Any] = set()
        own, ins = [], []
        for e in eqns:
            if e.outvars[0].aval.size == 0:
                continue
            if _same_memory(e):  # of what is made here it is a step of the program, of all else a name
                of = self._origin(e.invars[0])
                if isinstance(of, Literal) or of not in made or e.outvars[0].aval.shape not in ((), length):
                    continue
            own.append(e)
            for v in e.invars:
                if not isinstance(v, Literal) and v not in made and v not in ins:
                    ins.append(v)
            made.update(e.outvars)
        outs = [v for e in own for v in e.outvars if v not in self.root and self.last.get(v, i) > i]
        if not outs:
            return
        ins.sort(key=lambda v: v.aval.shape)  # scalars first
        info = self.jaxpr.debug_info.with_unknown_names()
        jaxpr = self.jaxpr.replace(constvars=[], invars=ins, outvars=outs, eqns=own, debug_info=info)
        if not length:
            text = scalar_code(jaxpr)
            self._write(SCALARS, [*map(self._read, ins), *map(self._new, outs)], [], partial(compile_text, text))
            return
        n_scalars = sum(v.aval.shape == () for v in ins)
        loop = Loop(ClosedJaxpr(jaxpr, []), n_scalars, length[0], ())
        if reason := loop_refusal(loop):
            raise Unsupported(reason)
        reads, writes, free = [*map(self._read, ins)], [], ins[n_scalars:]
        for out in outs:
            old = next((v for v in free if v.aval == out.aval and self._mine(v, i)), None)
            free = [v for v in free if v is not old]
            writes.append(self._new(out) if old is None else self._take(old, out, i, False))
        numbers = [length[0], n_scalars, len(ins) - n_scalars, len(outs), 0]
        ends = [self._room(4 * -(-length[0] // 32)), self._room(4), self._room(4)]
        self.work += length[0]
        self._write(UNITS, [*reads, *writes, *ends], numbers, partial(compile_loop, loop))

    def _fold(self, eqn: Any, i: int) -> None:
        self._write(FOLD, [self._new(eqn.outvars[0]), *map(self._read, eqn.invars)], [8])

    def _noise(self, eqn: Any, i: int) -> None:
        if eqn.params["rank"]:
            raise Unsupported("a batch of noise")
        (out,), drawn = eqn.outvars, BITS if eqn.primitive is bits_p else NORMALS
        numbers = [np.dtype(out.aval.dtype).itemsize, out.aval.size]
        self.work += out.aval.size
        self._write(drawn, [self._new(out), *map(self._read, eqn.invars)], numbers)

    def _units(self, eqn: Any, i: int) -> None:
        program, rank = eqn.params["program"], eqn.params["rank"]
        if rank or (reason := why_not(program)):
            raise Unsupported(reason if not rank else "a batch of units")
        n_rings, n_scalars = program.n_rings, program.n_scalars
        n_vectors = len(eqn.invars) - n_scalars - 2 * n_rings
        n_out = len(program.alias)
        vectors = eqn.invars[n_scalars : n_scalars + n_vectors]
        pairs = eqn.invars[n_scalars + n_vectors :]
        ins = [*map(self._read, eqn.invars[: n_scalars + n_vectors])]
        slots = [*map(self._read, pairs[::2])]
        silent = eqn.outvars[n_out - 1] in self.silent
        n_out -= silent
        outs, ends, numbers = [], [], [program.n, n_scalars, n_vectors, n_out, n_rings]
        for k, out in enumerate(eqn.outvars[:n_out]):
            a = program.alias[k]
            fits = a >= 0 and vectors[a].aval == out.aval
            outs.append(self._take(vectors[a], out, i, False) if fits else self._new(out))
        rings = eqn.outvars[n_out + silent : n_out + silent + n_rings]
        for slot, ring, out in zip(slots, pairs[1::2], rings, strict=True):
            ends += [slot, self._take(ring, out, i, True)]
            numbers += [out.aval.shape[0], _bytes(out.aval) // out.aval.shape[0]]
        ends += [self._new(v) for v in eqn.outvars[-3:]]
        self.work += program.n
        loop = program.loop._replace(silent=silent)
        self._write(UNITS, [*ins, *outs, *ends], numbers, partial(compile_loop, loop))

    def _scatter(self, eqn: Any, i: int) -> None:
        base, value, weight, _, words, slot, delay, indptr, indices = eqn.invars
        if base.aval.ndim != 2:
            raise Unsupported("a batch of arrivals")
        kind, p = np.dtype(base.aval.dtype), eqn.params
        if kind not in (np.float32, np.float64):
            raise Unsupported(f"arrivals of type {kind}")
        depth, n_post = base.aval.shape
        rows = [p["n_pre"], p["fanout"], p["first"], int(p["sorted_rows"]), int(weight.aval.size == 1)]
        given = [words.aval.size > 0, delay.aval.size > 0, value not in self.silent]
        numbers = [kind.itemsize, *rows, depth, n_post, indices.aval.size, *map(int, given), value.aval.size]
        if base.aval.size == 0:
            raise Unsupported("no post units")
        rest = [*map(self._read, (value, weight, words, slot, delay, indptr, indices))]
        self._write(SCATTER, [self._take(base, eqn.outvars[0], i, True), *rest], numbers)

    def _append(self, eqn: Any, i: int) -> None:
        buffer, count, value, words = eqn.invars
        if buffer.aval.ndim != 1:
            raise Unsupported("a batch of lists")
        kind = np.dtype(value.aval.dtype)
        if kind not in (np.float32, np.float64):
            raise Unsupported(f"events of type {kind}")
        rest = [self._read(value), self._read(words)]
        lists = [self._take(v, out, i, True) for v, out in zip((buffer, count), eqn.outvars, strict=True)]
        numbers = [kind.itemsize, buffer.aval.size, value.aval.size, int(words.aval.size > 0)]
        self._write(APPEND, [*lists, *rest], numbers)

    def _tally(self, eqn: Any, i: int) -> None:
        kind = np.dtype(eqn.invars[0].aval.dtype)
        if eqn.params["rank"] or kind not in (np.float32, np.float64):
            raise Unsupported(f"a batch, or events of type {kind}")
        cells = [*map(self._read, eqn.invars), *map(self._new, eqn.outvars)]
        self._write(TALLY, cells, [kind.itemsize, *(v.aval.size for v in eqn.invars)])

    def _finish(self) -> None:
        """Rows out, and the carry to where the next step looks for it."""
        n_consts, n_carry, n_xs, _ = self.counts
        outvars = self.jaxpr.outvars
        for k, v in enumerate(outvars[n_carry:]):
            self._write(COPY, [n_consts + n_carry + n_xs + k, self._read(v)], [_bytes(v.aval)])
        moves = [(n_consts + k, self._read(v), _bytes(v.aval)) for k, v in enumerate(outvars[:n_carry])]
        moves = [(to, at, size) for to, at, size in moves if to != at and size]
        written = {to for to, *_ in moves}
        for j, (to, at, size) in enumerate(moves):
            if at in written:  # by an earlier or later copy: aside first
                aside = self._room(size)
                self._write(COPY, [aside, at], [size])
                moves[j] = to, aside, size
        for to, at, size in moves:
            self._write(COPY, [to, at], [size])


# --- the primitive ----------------------------------------------------------------------------------------------------


def _as(aval: Any, x: Any) -> Any:
    """A constant as the body knows it: a random key comes as its words."""
    return jax.random.wrap_key_data(x) if _is_key(aval) else x


def reference(*operands: Any, body: Body, length: int, rank: int) -> list[Any]:
    """What `scan_p` computes, in JAX."""
    call = jaxpr_as_fun(body.jaxpr)

    def one(*operands):
        consts = [_as(v.aval, x) for v, x in zip(body.jaxpr.jaxpr.invars[: body.n_consts], operands)]
        carry = operands[body.n_consts : body.n_consts + body.n_carry]

        def f(carry, x):
            out = call(*consts, *carry, *x)
            return out[: body.n_carry], out[body.n_carry :]

        carry, ys = lax.scan(f, [*carry], [*operands[body.n_consts + body.n_carry :]], length)
        return [*carry, *ys]

    return over(one, rank, operands)


@scan_p.def_abstract_eval
def _(*operands, body, length, rank):
    batch = np.broadcast_shapes((1,) * rank, *(x.shape[:rank] for x in operands))
    avals = [v.aval for v in body.jaxpr.jaxpr.outvars]
    outs = [ShapedArray((*batch, *a.shape), a.dtype) for a in avals[: body.n_carry]]
    return outs + [ShapedArray((*batch, length, *a.shape), a.dtype) for a in avals[body.n_carry :]]


def _batch_rule(operands, dims, *, body, length, rank):
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not batching.not_mapped)
    front = []
    for i, (x, d) in enumerate(zip(operands, dims, strict=True)):
        if d is not batching.not_mapped:
            front.append(jnp.moveaxis(x, d, 0))
        elif body.n_consts <= i < body.n_consts + body.n_carry:  # what is written to must exist for every element
            front.append(jnp.broadcast_to(x, (size, *x.shape)))
        else:
            front.append(jnp.expand_dims(x, 0))
    outs = scan_p.bind(*front, body=body, length=length, rank=rank + 1)
    return outs, [0] * len(outs)


batching.primitive_batchers[scan_p] = _batch_rule


@lru_cache(maxsize=256)
def _jitted(**params: Any) -> Callable:
    return jax.jit(partial(scan_p.bind, **params))


scan_p.def_impl(lambda *operands, **params: _jitted(**params)(*operands))
_fallback = mlir.lower_fun(reference, multiple_results=True)


def _lower(ctx, *operands, body, length, rank):
    if unavailable():
        return _fallback(ctx, *operands, body=body, length=length, rank=rank)
    tape = _Assembler(body).tape()
    in_place = ((body.n_consts + k, k) for k in range(body.n_carry))
    alias = {i: k for i, k in in_place if ctx.avals_in[i] == ctx.avals_out[k]}
    call = jax.ffi.ffi_lowering(_ffi.target("scan"), operand_output_aliases=alias)
    code = np.asarray(tape.compiled(), np.int64)
    numbers = {"length": length, "rank": rank, "work": tape.work}
    return call(ctx, *operands, tape=code, **{name: np.int64(x) for name, x in numbers.items()})


mlir.register_lowering(scan_p, _fallback)
mlir.register_lowering(scan_p, _lower, platform="cpu")
