"""A step of a scan as a tape: kernels, and arithmetic between them, in an order they can run in.

Every value of the body gets a cell, which is a pointer. What is changed is changed where it lies: a value of a jaxpr
never changes, so one whose last reader overwrites it gives its memory away; otherwise it is copied.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from ..base import alike
from ..base.jax_internals import ClosedJaxpr, Literal, cond_p
from ..events import _ffi
from ..events._primitives import (
    CONVOLVED,
    DRAWN,
    append_p,
    bits_p,
    collect_p,
    gather_p,
    normals_p,
    place_p,
    scatter_p,
    tally_p,
)
from ..events._targets import count, entries
from ._body import Body, is_key, spikes, written_out
from ._fused import fused_p, why_not
from ._loop import Loop, check_text, compile_loop, compile_text, lanes_of, refusal as loop_refusal, scalar_code
from ._memory import UPDATES, memory_code
from ._past import n_changed, past_p
from ._rows import rows_p
from ._rows_code import text_of
from ._rules import unit_by_unit
from ._writer import Unsupported

KERNELS = (fused_p, scatter_p, gather_p, collect_p, place_p, append_p, tally_p, bits_p, normals_p, rows_p, past_p)
KERNELS += CONVOLVED[:2] + DRAWN[:2]


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


SCALARS, UNITS, SCATTER, APPEND, TALLY, FOLD, BITS, NORMALS, COPY, GATHER, COLLECT, PLACE, ROWS, SKIP, PAST = range(15)
CONVOLVE, CONVOLVE_BACK, DRAW, DRAW_BACK = range(15, 19)
PLAN = ("n_pre", "n", "kind", "k", "law", "twin", "start", "step", "span", "segments", "multiplier", "shift", "bits")
"""Numbers of rows that are drawn, in the order of `Rows` in `ops/include/brainsim/rows.h`."""
_RENAMED = ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "stop_gradient", "random_unwrap")


@lru_cache(maxsize=256)
def tape_of(body: Body) -> Tape:
    """The tape of a body; raises `Unsupported` where there is none."""
    return _Assembler(body).tape()


@lru_cache(maxsize=256)
def refusal(body: Body) -> str:
    """Empty where the body can be played, else the reason why not."""
    try:
        tape_of(body)
    except Unsupported as e:
        return str(e)
    except Exception as e:  # a fault here must cost speed, never the run
        return f"it cannot be written down, {type(e).__name__}: {e}".splitlines()[0]
    return ""


def _bytes(aval: Any) -> int:
    return prod(aval.shape) * (8 if is_key(aval) else np.dtype(aval.dtype).itemsize)


def _same_memory(eqn: Any) -> bool:
    """Whether an equation only gives another shape to what it reads."""
    return eqn.primitive.name in _RENAMED and _bytes(eqn.outvars[0].aval) == _bytes(eqn.invars[0].aval)


def _splat(eqn: Any) -> bool:
    """Whether an equation only repeats a number."""
    return eqn.primitive is lax.broadcast_in_dim_p and eqn.invars[0].aval.shape == () and eqn.outvars[0].aval.ndim == 1


class Item(NamedTuple):
    """What is done at once: arithmetic on scalars (()) or on arrays of a length, one kernel (None), or one program over
    arrays in memory ("memory")."""

    length: tuple[int, ...] | str | None
    eqns: list[Any]


def _length(eqn: Any) -> tuple[int, ...] | str | None:
    """The length of the item that an equation belongs to; "rows" for `collect`."""
    if eqn.primitive is collect_p:
        return "rows"
    if eqn.primitive in (*KERNELS, cond_p) or (
        eqn.primitive.name == "random_fold_in"
        and eqn.outvars[0].aval.shape == ()
        and str(eqn.outvars[0].aval.dtype) == "key<fry>"
    ):
        return None
    avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    if any(map(is_key, avals)):
        raise Unsupported(f"the operation '{eqn.primitive.name}' on keys")
    shapes = {a.shape for a in avals} - {()}
    made = {v.aval.shape for v in eqn.outvars}
    if made != (shapes or {()}) or not unit_by_unit(eqn):
        return "memory"
    (shape,) = made
    return shape if len(shape) < 2 else "memory"


def _schedule(jaxpr: Any) -> list[Item]:
    """The equations in an order they can run in, what can be done at once together."""
    anywhere = [_same_memory(e) or _splat(e) or all(v.aval.size == 0 for v in e.outvars) for e in jaxpr.eqns]
    left = [(e, "any" if free else _length(e)) for e, free in zip(jaxpr.eqns, anywhere, strict=True)]
    items: list[Item] = []
    known = set(jaxpr.invars)

    def waits(eqn):
        """Whether a program over synapses would change what others are still to read."""
        mine = eqn.invars[len(eqn.invars) - len(eqn.outvars) :] if eqn.primitive in (rows_p, past_p) else ()
        return any(e is not eqn and v in e.invars for v in mine if not isinstance(v, Literal) for e, _ in left)

    def take(length, stuck=False):
        """What is ready, and becomes so by that, of one length."""
        nonlocal left
        taken, later = [], []
        for eqn, of in left:
            ready = all(isinstance(v, Literal) or v in known for v in eqn.invars)
            if ready and of in (length, "any") and (stuck or not waits(eqn)):
                known.update(eqn.outvars)
                taken.append(eqn)
            else:
                later.append((eqn, of))
        left = later
        return taken

    stuck = False
    while left:
        before = len(left)
        lengths = sorted({of for _, of in left if isinstance(of, tuple) and of})
        # rows are read before what lies there is changed
        for length in ((), *lengths, "rows", "memory", None):
            if taken := take(length, stuck):
                one_by_one = None if length == "rows" else length
                whole = isinstance(length, tuple)
                items += [Item(length, taken)] if whole else [Item(one_by_one, [eqn]) for eqn in taken]
        stuck = len(left) == before
    return items


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
        self.home: dict[Any, int] = {}  # of a value that is a row out: where that lies
        self.late: list[int] = []  # rows out that are copied when all is done
        self.last: dict[Any, int] = {}  # the item that reads a value last
        self.items = _schedule(self.jaxpr)
        self.splats = {e.outvars[0]: e for e in self.jaxpr.eqns if _splat(e) and not _same_memory(e)}
        self.packed = {e.outvars[-3] for e in self.jaxpr.eqns if e.primitive is fused_p}
        self.silent = spikes(self.jaxpr)  # event values that nobody needs
        self.fixed: set[Any] = set()  # values that are read elsewhere too

    def tape(self) -> Tape:
        if any(is_key(v.aval) for v in (*self.jaxpr.outvars, *self.jaxpr.invars[self.body.n_consts :])):
            raise Unsupported("a random key that changes")
        self._note_all(self.jaxpr.outvars[: self.body.n_carry])
        self._rows_out()
        self._all()
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

    def _note_all(self, outs: Sequence[Any]) -> None:
        """Which item reads each value last; `outs` are read after all of them."""
        for i, item in enumerate(self.items):
            for eqn in item.eqns:
                if _same_memory(eqn):
                    self.root[eqn.outvars[0]] = self._origin(eqn.invars[0])
                self._note(eqn.invars, i)
        self._note(outs, len(self.items))

    def _all(self) -> None:
        """The instructions of all items."""
        kernels = {fused_p: self._units, scatter_p: self._scatter, append_p: self._append, tally_p: self._tally}
        kernels |= {bits_p: self._noise, normals_p: self._noise}
        kernels |= {
            past_p: self._past,
            rows_p: self._rows,
            gather_p: self._gather,
            collect_p: self._collect,
            place_p: self._place,
        }
        kernels |= {CONVOLVED.scatter: self._convolve, CONVOLVED.gather: self._convolve_back}
        kernels |= {DRAWN.scatter: self._draw, DRAWN.gather: self._draw_back, cond_p: self._cond}
        for i, (length, eqns) in enumerate(self.items):
            if isinstance(length, tuple):
                self._arithmetic(length, eqns, i)
                continue
            for eqn in eqns:
                if not (_same_memory(eqn) or eqn.outvars[0] in self.splats) and eqn.outvars[0].aval.size:
                    (self._memory if length else kernels.get(eqn.primitive, self._fold))(eqn, i)

    # --- values and cells ---

    def _origin(self, v: Any) -> Any:
        return v if isinstance(v, Literal) else self.root.get(v, v)

    def _note(self, values: Sequence[Any], i: int) -> None:
        for v in values:
            if not isinstance(v := self._origin(v), Literal):
                self.last[v] = i
                if v in self.splats:
                    self._note(self.splats[v].invars, i)

    def _read(self, v: Any) -> int:
        v = self._origin(v)
        if isinstance(v, Literal):
            aval: Any = v.aval
            data = np.asarray(v.val, aval.dtype).tobytes().ljust(8, b"\0")
            self.literals.append(int.from_bytes(data, "little", signed=True))
            return self.first_literal + len(self.literals) - 1
        if v.aval.size == 0 or v in self.silent:
            return 0
        if v in self.splats and v not in self.cell:  # a kernel wants it as an array
            self._pass(v.aval.shape, [self.splats[v]], [v], len(self.items))
        return self.cell[v]

    def _room(self, size: int) -> int:
        self.scratch.append(size)
        return ~(len(self.scratch) - 1)

    def _new(self, v: Any) -> int:
        self.cell[v] = self.home[v] if v in self.home else self._room(_bytes(v.aval))
        return self.cell[v]

    def _mine(self, v: Any, i: int) -> bool:
        """Whether item i is the last to read `v`, and may write where it lies."""
        v = self._origin(v)
        if isinstance(v, Literal) or self.last[v] != i or not v.aval.size or v in self.silent or v in self.fixed:
            return False
        return self._read(v) < 0 or self.body.n_consts <= self.cell[v] < self.body.n_consts + self.body.n_carry

    def _take(self, v: Any, out: Any, i: int, copy: bool, others: Sequence[Any] = ()) -> int:
        """The cell of `out`, which item i makes of `v` in place: that of `v` where nobody reads it any more and none of
        `others`, which the item reads too, lies there; else a new one, with what is in `v` if `copy`."""
        if self._mine(v, i) and not any(self._origin(x) is self._origin(v) for x in others):
            self.cell[out] = self.cell[self._origin(v)]
            return self.cell[out]
        old = self._read(v)
        new = self._new(out)
        if copy:
            self._write(COPY, [new, old], [_bytes(out.aval)])
        return new

    def _over(self, vectors: list[Any], out: Any, i: int, taken: set[int]) -> int:
        """The cell of `out`, which item i makes unit by unit: that of a vector it reads and nobody else later, if there
        is one which is not `taken`: where the next step looks for it, before any other. A row out is made where it
        goes."""
        at, outvars = self.body.n_consts, self.jaxpr.outvars[: self.body.n_carry]
        wanted = [at + k for k, v in enumerate(outvars) if self._origin(v) is out]
        cells = {self._read(v): v for v in vectors if alike(v.aval, out.aval) and self._mine(v, i)}
        free = [cell for cell in cells if cell not in taken]
        if not free or (out in self.home and not set(wanted).intersection(free)):
            return self._new(out)
        cell = next((c for c in free if c in wanted), free[0])
        taken.add(cell)
        self.cell[out] = cell
        return cell

    def _write(self, operation: int, cells: list[int], numbers: list[int], kernel: Callable | None = None) -> None:
        if kernel is not None:
            self.kernels[len(self.instructions)] = kernel
        self.instructions.append((operation, cells, numbers))

    # --- instructions ---

    def _arithmetic(self, length: tuple[int, ...], eqns: list[Any], i: int) -> None:
        """A program of its own: of scalars, or one pass over arrays of a length."""
        made: set[Any] = set()
        own: list[Any] = []
        for e in eqns:
            if e.outvars[0].aval.size == 0 or e.outvars[0] in self.splats:
                continue
            if _same_memory(e):  # of what is made here it is a step of the program, of all else a name
                of = self._origin(e.invars[0])
                if isinstance(of, Literal) or of not in made or e.outvars[0].aval.shape not in ((), length):
                    continue
                e = e.replace(invars=[of])
            for v in e.invars:  # a repeated number is as good as the number
                if not isinstance(v, Literal) and v in self.splats and v not in made:
                    own.append(self.splats[v])
                    made.add(v)
            own.append(e)
            made.update(e.outvars)
        outs = [v for e in own for v in e.outvars if v not in self.root and v not in self.splats]
        outs = [v for v in outs if self.last.get(v, i) > i]
        if outs:
            self._pass(length, own, outs, i)

    def _pass(self, length: tuple[int, ...], eqns: list[Any], outs: list[Any], i: int) -> None:
        """The program of these equations."""
        made = {v for e in eqns for v in e.outvars}
        ins = dict.fromkeys(v for e in eqns for v in e.invars if not isinstance(v, Literal) and v not in made)
        ins = sorted(ins, key=lambda v: v.aval.shape)  # scalars first
        info = self.jaxpr.debug_info.with_unknown_names()
        jaxpr = self.jaxpr.replace(constvars=[], invars=ins, outvars=outs, eqns=eqns, debug_info=info)
        if not length:
            text = scalar_code(jaxpr)
            check_text(text)
            self._write(SCALARS, [*map(self._read, ins), *map(self._new, outs)], [], partial(compile_text, text))
            return
        n_scalars = sum(v.aval.shape == () for v in ins)
        loop = Loop(ClosedJaxpr(jaxpr, []), n_scalars, length[0], ())
        if reason := loop_refusal(loop):
            raise Unsupported(reason)
        reads, taken = [*map(self._read, ins)], set()
        writes = [self._over(ins[n_scalars:], out, i, taken) for out in outs]
        numbers = [length[0], n_scalars, len(ins) - n_scalars, len(outs), 0]
        ends = [self._room(4 * -(-length[0] // 32)), self._room(4), self._room(4)]
        self.work += length[0]
        self._write(UNITS, [*reads, *writes, *ends], numbers, partial(compile_loop, loop))

    def _memory(self, eqn: Any, i: int) -> None:
        """A program of one equation over arrays in memory."""
        ins = [*dict.fromkeys(v for v in eqn.invars if not isinstance(v, Literal))]
        jaxpr = self.jaxpr.replace(
            constvars=[],
            invars=ins,
            outvars=eqn.outvars,
            eqns=[eqn],
            debug_info=self.jaxpr.debug_info.with_unknown_names(),
        )
        changed = eqn.primitive.name in UPDATES and eqn.invars[0] in ins
        text, size = memory_code(jaxpr, changed)
        check_text(text)
        if changed:
            first = self._take(eqn.invars[0], eqn.outvars[0], i, True, eqn.invars[1:])
            reads, writes = [first if v is eqn.invars[0] else self._read(v) for v in ins], [first]
        else:
            reads, writes = [*map(self._read, ins)], [*map(self._new, eqn.outvars)]
        self.work += max(v.aval.size for v in eqn.outvars)
        self._write(SCALARS, [*reads, *writes, self._room(max(size, 1))], [], partial(compile_text, text))

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
        taken: set[int] = set()
        for k, out in enumerate(eqn.outvars[:n_out]):
            a = program.alias[k]
            outs.append(self._over([vectors[a]] if a >= 0 else vectors, out, i, taken))
        rings = eqn.outvars[n_out + silent : n_out + silent + n_rings]
        for k, (slot, ring, out) in enumerate(zip(slots, pairs[1::2], rings, strict=True)):
            others = [*vectors, *(x for j, x in enumerate(pairs[1::2]) if j != k)]
            ends += [slot, self._take(ring, out, i, True, others)]
            numbers += [out.aval.shape[0], _bytes(out.aval) // out.aval.shape[0]]
        ends += [self._new(v) for v in eqn.outvars[-3:]]
        self.work += program.n
        loop = program.loop._replace(silent=silent)
        self._write(UNITS, [*ins, *outs, *ends], numbers, partial(compile_loop, loop))

    def _scatter(self, eqn: Any, i: int) -> None:
        base, value, weight, _, words, slot, delay, indptr, indices = eqn.invars
        self._check(base, "arrivals")
        if base.aval.size == 0:
            raise Unsupported("no post units")
        has = [self._words(words), delay.aval.size > 0, value not in self.silent]
        rest = [*map(self._read, (value, weight, words, slot, delay, indptr, indices))]
        cells = [self._take(base, eqn.outvars[0], i, True, eqn.invars[1:]), *rest]
        self._write(SCATTER, cells, self._synapses(eqn, base, weight, indices, has, value.aval.size))

    def _rows(self, eqn: Any, i: int) -> None:
        program: Any = eqn.params["program"]
        value, words, live, indptr, other, order, *rest = eqn.invars
        if eqn.params["rank"]:
            raise Unsupported("a batch of synapses")
        if other.aval.dtype != np.int32 or value.aval.size < program.first + indptr.aval.size - 1:
            raise Unsupported("rows that are not those of the events")
        text = text_of(program, order.aval.size > 0)
        check_text(text)
        used, rest = ([rest[0]], rest[1:]) if program.n_log else ([], rest)
        near, synapses = rest[: len(rest) - program.n_written], rest[len(rest) - program.n_written :]
        reads = [*map(self._read, (value, words, live, indptr, other, order, *used, *near))]
        twice = [[*near, *synapses[:k], *synapses[k + 1 :]] for k in range(program.n_written)]
        new = [self._take(v, out, i, True, x) for v, out, x in zip(synapses, eqn.outvars, twice)]
        n, size = synapses[0].aval.size, np.dtype(synapses[0].aval.dtype).itemsize
        sums = program.n_far_sums + program.n_row_sums
        counts = [program.n_scalars, program.n_row, program.n_far, program.n_log, program.n_syn, sums]
        room = near[-1].aval.size if program.n_log else 0
        lanes, units = lanes_of(synapses[0].aval.dtype), value.aval.size
        ends = [other.aval.size, int(order.aval.size > 0), lanes, room, program.first, units]
        self.work += n // 100  # as if one row in a hundred had events
        numbers = [size, indptr.aval.size - 1, self._words(words), *counts, *ends]
        self._write(ROWS, [*reads, *new], numbers, partial(compile_text, text))

    def _past(self, eqn: Any, i: int) -> None:
        value, words, indptr, order, used, *rest = eqn.invars
        n = n_changed(eqn.invars)
        read, changed = rest[:n], rest[n:]
        if eqn.params["rank"] or value.aval.size < indptr.aval.size - 1:
            raise Unsupported("a batch of synapses, or rows that are not those of the events")
        undo = eqn.params["undo"]
        reads = [*map(self._read, (value, words, indptr, order, *read))]
        twice = [[*read, *changed[:k], *changed[k + 1 :]] for k in range(n)]
        new = [self._take(used, eqn.outvars[0], i, True, [])]
        new += [self._take(v, out, i, True, x) for v, out, x in zip(changed, eqn.outvars[1:], twice)]
        size, room = np.dtype(read[0].aval.dtype).itemsize, (read if undo else changed)[0].aval.size
        numbers = [size, indptr.aval.size - 1, self._words(words), n, int(order.aval.size > 0), int(undo), room]
        self._write(PAST, [*reads, *new], numbers)

    def _words(self, words: Any) -> int:
        """0: none; 1: made by units in this step, whose kernel says when they are new; 2: others."""
        return 0 if words.aval.size == 0 else 1 if words in self.packed else 2

    def _gather(self, eqn: Any, i: int) -> None:
        c, weight, mask, slot, delay, indptr, indices = eqn.invars
        self._check(c, "cotangents")
        has, rest = [mask.aval.size > 0, delay.aval.size > 0, True], (c, weight, mask, slot, delay, indptr, indices)
        cells = [self._new(eqn.outvars[0]), *map(self._read, rest)]
        self._write(GATHER, cells, self._synapses(eqn, c, weight, indices, has, eqn.outvars[0].aval.size))

    def _convolve(self, eqn: Any, i: int) -> None:
        base, value, weight, _, words, slot = eqn.invars
        self._check(base, "arrivals")
        rest = [*map(self._read, (value, weight, words, slot))]
        cells = [self._take(base, eqn.outvars[0], i, True, eqn.invars[1:]), *rest]
        has = [self._words(words), value not in self.silent, value.aval.size]
        self._write(CONVOLVE, cells, self._window(eqn, base, weight, has))

    def _convolve_back(self, eqn: Any, i: int) -> None:
        c, weight, mask, _ = eqn.invars
        self._check(c, "cotangents")
        cells = [self._new(eqn.outvars[0]), *map(self._read, eqn.invars)]
        has = [mask.aval.size > 0, True, eqn.outvars[0].aval.size]
        self._write(CONVOLVE_BACK, cells, self._window(eqn, c, weight, has))

    def _window(self, eqn: Any, ring: Any, weight: Any, has: list[int]) -> list[int]:
        """The numbers of a kernel of a convolution."""
        window, single = eqn.params["window"], weight.aval.size == 1 != prod(eqn.params["window"].weight_shape)
        self.work += window.n_syn // 16
        size, depth = ring.aval.dtype.itemsize, ring.aval.shape[0]
        return [size, eqn.params["first"], int(single), depth, *map(int, has), *window.numbers]

    def _draw(self, eqn: Any, i: int) -> None:
        base, value, weight, _, *rest = eqn.invars
        self._check(base, "arrivals")
        cells = [self._take(base, eqn.outvars[0], i, True, eqn.invars[1:]), *map(self._read, (value, weight, *rest))]
        has = [self._words(rest[0]), value not in self.silent, value.aval.size]
        self._write(DRAW, cells, self._drawn(eqn, base, has))

    def _draw_back(self, eqn: Any, i: int) -> None:
        c, _, mask, *_ = eqn.invars
        self._check(c, "cotangents")
        cells = [self._new(eqn.outvars[0]), *map(self._read, eqn.invars)]
        self._write(DRAW_BACK, cells, self._drawn(eqn, c, [mask.aval.size > 0, True, eqn.outvars[0].aval.size]))

    def _drawn(self, eqn: Any, ring: Any, has: list[int]) -> list[int]:
        """The numbers of a kernel on rows that are drawn."""
        plan, of = eqn.params["plan"], eqn.params["plan"].attributes()
        self.work += round(plan.n_pre * plan.n * plan.p if plan.p else plan.n_pre * plan.k) // 16
        return [ring.aval.dtype.itemsize, *ring.aval.shape, *map(int, has), eqn.params["first"], *map(of.get, PLAN)]

    def _check(self, ring: Any, what: str) -> None:
        if ring.aval.ndim != 2:
            raise Unsupported(f"a batch of {what}")
        if ring.aval.dtype not in (np.float32, np.float64):
            raise Unsupported(f"{what} of type {ring.aval.dtype}")

    def _synapses(self, eqn: Any, ring: Any, weight: Any, indices: Any, has: list[int], units: int) -> list[int]:
        """The numbers of a kernel over synapses."""
        p, (depth, n_post) = eqn.params, ring.aval.shape
        n_syn = count(indices.aval, p["n_pre"], n_post)
        self.work += n_syn // 100  # as if one row in a hundred had events
        stored = [indices.aval.dtype.itemsize * entries(indices.aval.dtype), indices.aval.dtype == np.int8]
        rows = [p["n_pre"], p["fanout"], p["first"], int(p["sorted_rows"]), int(weight.aval.size == 1)]
        return [ring.aval.dtype.itemsize, *rows, depth, n_post, n_syn, *map(int, has), units, *map(int, stored)]

    def _cond(self, eqn: Any, i: int) -> None:
        """A branch of two: the other one is skipped. What a branch hands through stays where it lies."""
        branches = eqn.params["branches"]
        if len(branches) != 2 or any(b.consts or b.jaxpr.constvars for b in branches):
            raise Unsupported("a choice among more than two branches, or one with constants")
        which, *operands = eqn.invars
        which = self._read(which)
        jaxprs = [written_out(b.jaxpr) for b in branches]
        cells = [self._read(v) for v in operands]
        outs, taken = [], set()
        for k, out in enumerate(eqn.outvars):
            through = [j.invars.index(j.outvars[k]) if j.outvars[k] in j.invars else -1 for j in jaxprs]
            own = [j for j in through if j >= 0 and self._mine(operands[j], i) and cells[j] not in taken]
            if own and out not in self.home and cells[own[0]] not in [c for n, c in enumerate(cells) if n != own[0]]:
                self.cell[out] = cells[own[0]]
                taken.add(cells[own[0]])
            elif out.aval.size:
                self._new(out)
            outs.append(self.cell.get(out, 0))
        for choice, jaxpr in enumerate(jaxprs):
            at = len(self.instructions)
            self._write(SKIP, [which], [0, choice])
            inner = _Assembler(Body(ClosedJaxpr(jaxpr, []), len(jaxpr.invars), 0))
            inner.within(self, cells)
            made = [inner._read(v) for v in jaxpr.outvars]
            self._moves([(to, c, _bytes(v.aval)) for to, c, v in zip(outs, made, eqn.outvars, strict=True)])
            self.work = inner.work
            self.instructions[at] = SKIP, [which], [len(self.instructions) - at - 1, choice]

    def within(self, outer: "_Assembler", cells: list[int]) -> None:
        """The instructions of a branch, among those of `outer`; what it is given lies in `cells` and stays."""
        self.literals, self.scratch, self.first_literal = outer.literals, outer.scratch, outer.first_literal
        self.instructions, self.kernels, self.work = outer.instructions, outer.kernels, outer.work
        self.cell = dict(zip(self.jaxpr.invars, cells, strict=True))
        self.fixed = set(self.jaxpr.invars)
        self._note_all(self.jaxpr.outvars)
        self._all()

    def _collect(self, eqn: Any, i: int) -> None:
        (ring, slot), (row, left) = eqn.invars, eqn.outvars
        self._check(ring, "arrivals")
        if left in self.last:  # a node without a kernel of its own: its arithmetic would round otherwise than XLA's
            raise Unsupported("a row of arrivals is cleared")
        cells = [self._read(ring), self._new(row), self._read(slot)]
        self._write(COLLECT, cells, [ring.aval.dtype.itemsize, ring.aval.shape[0], _bytes(row.aval)])

    def _place(self, eqn: Any, i: int) -> None:
        (ring, row, slot), (out,) = eqn.invars, eqn.outvars
        self._check(ring, "cotangents")
        depth, rest = ring.aval.shape[0], [self._read(row), self._read(slot)]
        cells = [self._take(ring, out, i, depth > 1, [row]), *rest]
        self._write(PLACE, cells, [ring.aval.dtype.itemsize, depth, _bytes(row.aval)])

    def _append(self, eqn: Any, i: int) -> None:
        buffer, count, value, words = eqn.invars
        if buffer.aval.ndim != 1:
            raise Unsupported("a batch of lists")
        kind = np.dtype(value.aval.dtype)
        if kind not in (np.float32, np.float64):
            raise Unsupported(f"events of type {kind}")
        rest = [self._read(value), self._read(words)]
        lists = [self._take(v, out, i, True) for v, out in zip((buffer, count), eqn.outvars, strict=True)]
        many = eqn.params["many"] and value not in self.silent
        numbers = [kind.itemsize, buffer.aval.size, value.aval.size, self._words(words), int(many)]
        self._write(APPEND, [*lists, *rest], numbers)

    def _tally(self, eqn: Any, i: int) -> None:
        kind = np.dtype(eqn.invars[0].aval.dtype)
        if eqn.params["rank"] or kind not in (np.float32, np.float64):
            raise Unsupported(f"a batch, or events of type {kind}")
        cells = [*map(self._read, eqn.invars), *map(self._new, eqn.outvars)]
        self._write(TALLY, cells, [kind.itemsize, int(eqn.params["many"]), *(v.aval.size for v in eqn.invars)])

    def _out(self, k: int) -> int:
        """The cell of row out k."""
        return sum(self.counts[:3]) + k

    def _rows_out(self) -> None:
        """Rows out that are operands are copied before anything changes; others are made where they go, or copied
        last."""
        operands = set(self.jaxpr.invars)
        for k, v in enumerate(self.jaxpr.outvars[self.body.n_carry :]):
            v = self._origin(v)
            if not isinstance(v, Literal) and v in operands:
                self._write(COPY, [self._out(k), self._read(v)], [_bytes(v.aval)])
                continue
            self.late.append(k)
            if not isinstance(v, Literal):
                self.home.setdefault(v, self._out(k))
                self._note([v], len(self.items))

    def _finish(self) -> None:
        """Rows out, and the carry to where the next step looks for it."""
        n_consts, n_carry, *_ = self.counts
        outvars = self.jaxpr.outvars
        for k in self.late:
            v = outvars[n_carry + k]
            if self._read(v) != self._out(k):
                self._write(COPY, [self._out(k), self._read(v)], [_bytes(v.aval)])
        self._moves([(n_consts + k, self._read(v), _bytes(v.aval)) for k, v in enumerate(outvars[:n_carry])])

    def _moves(self, moves: list[tuple[int, int, int]]) -> None:
        """Copies (to, from, bytes) as if they were all done at once."""
        moves = [(to, at, size) for to, at, size in moves if to != at and size]
        written = {to for to, *_ in moves}
        for j, (to, at, size) in enumerate(moves):
            if at in written:  # by an earlier or later copy: aside first
                aside = self._room(size)
                self._write(COPY, [aside, at], [size])
                moves[j] = to, aside, size
        for to, at, size in moves:
            self._write(COPY, [to, at], [size])
