"""The words of an image: registers and synaptic memory of every core, to the bit, and back."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt64

from ._dialects import DIALECTS
from ._image import Image, Tables
from ._legalise import BLOCK, CELL_BYTES, HEADER, WORD, Layout, flattened, formats, limits_of, rule_of, units
from ._tables import Cells, Synapses, bias_registers
from ._targets import TARGETS

REGISTERS = (
    ("decay_u", 12),
    ("decay_v", 12),
    ("threshold", 17),
    ("refractory", 6),
    ("bias_mantissa", 13),
    ("bias_exponent", 3),
)
"""Fields of the word of a cell from bit 0 up; refractory less one, the mantissa in two's complement."""


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """The memory of a chip.

    A cell is one word of 64 bits, its fields in the order of `REGISTERS`. Synapses lie in lists, one for every input
    axon of a core, of blocks of up to 64: bits 0 to 3 of a block are its format, 4 to 9 the number of synapses less
    one, then for every synapse weight, delay and compartment, each of the width that the format gives; a block is
    filled up to whole words, its bits run from the lowest of the first word on. A weight is mantissa / step in two's
    complement where the format holds both signs, else its magnitude. Formats are numbered by edge.
    """

    cells: UInt64[np.ndarray, " n_cells"]
    """By core, then by compartment."""
    cell_core: Int[np.ndarray, " n_cells"]
    cell_group: Int[np.ndarray, " n_cells"]
    cell_unit: Int[np.ndarray, " n_cells"]
    words: UInt64[np.ndarray, " n_words"]
    """Synaptic memory, core after core, axon after axon."""
    axon_core: Int[np.ndarray, " n_axons"]
    axon_source: Int[np.ndarray, " n_axons"]
    """Number of the sending unit, groups first, then inputs, in the order of `about`."""
    axon_first: Int[np.ndarray, " n_axons_plus_1"]
    """Where the words of every axon begin."""
    about: dict[str, Any]
    """target, dialect; groups, inputs with their sizes; of every edge name, ends, exponent, bits, mixed and widths."""


def pack(image: Image, layout: Layout) -> Packed:
    """The memory of `image` under `layout`; ValueError for what has no field: more than 16 edges, limits of v."""
    tables, limit = image.tables, limits_of(layout.target)["COMP"]
    if len(tables.synapses) > 16:
        raise ValueError(f"pack: {len(tables.synapses)} edges; expected at most 16, as a format has 4 bits.")
    default = Cells(1, threshold=1)
    for name, c in tables.cells.items():
        if np.any(c.v_min != default.v_min) or np.any(c.v_max != default.v_max) or np.any(c.decay_v > 4095):
            raise ValueError(f"pack: cells {name!r} have limits of v, or a decay_v of 4096, and a word has no field.")
    cells, (core, group, unit) = _cell_words(tables, layout)
    edges = {}
    for name, s in tables.synapses.items():
        widths = formats(s, limit)
        edges[name] = dict(pre=s.pre, post=s.post, exponent=s.exponent, bits=s.bits, mixed=s.mixed, widths=widths)
        edges[name]["sign"] = -1 if not s.mixed and np.any(s.mantissa < 0) else 1
    sizes = {name: c.size for name, c in tables.cells.items()}
    target, dialect = layout.target.name, tables.dialect.name
    about = dict(target=target, dialect=dialect, cells=sizes, inputs=dict(tables.inputs), edges=edges)
    words, axon_core, axon_source, axon_first = _synapse_words(tables, layout, edges)
    return Packed(cells, core, group, unit, words, axon_core, axon_source, axon_first, about)


def _cell_words(tables: Tables, layout: Layout) -> tuple[UInt64[np.ndarray, " n"], tuple[Any, Any, Any]]:
    words, cores, slots, groups, members = [], [], [], [], []
    for number, (name, c) in enumerate(tables.cells.items()):
        mantissa, exponent = bias_registers(c.bias)
        fields = dict(decay_u=c.decay_u, decay_v=c.decay_v, threshold=c.threshold, refractory=c.refractory - 1)
        fields |= dict(bias_mantissa=mantissa, bias_exponent=exponent)
        word, bit = np.zeros(c.size, np.uint64), 0
        for field, width in REGISTERS:
            word |= (fields[field].astype(np.uint64) & np.uint64(2**width - 1)) << np.uint64(bit)
            bit += width
        words.append(word)
        cores.append(layout.core[name])
        slots.append(layout.slot[name])
        groups.append(np.full(c.size, number))
        members.append(np.arange(c.size))
    core, slot, group, member = (np.concatenate(x) for x in (cores, slots, groups, members))
    by = np.lexsort((slot, core))
    return np.concatenate(words)[by], (core[by], group[by], member[by])


def _synapse_words(tables: Tables, layout: Layout, edges: dict[str, Any]) -> tuple[Any, ...]:
    core = np.concatenate([layout.core[name] for name in tables.cells])
    slot = np.concatenate([layout.slot[name] for name in tables.cells])
    begin = units(tables)
    flat = flattened(tables, {name: begin[name] + np.arange(c.size) for name, c in tables.cells.items()})
    every = list(tables.synapses.values())
    starts = np.cumsum([0, *(s.sources.size for s in every)])[:-1]
    which = starts[flat.edge] + flat.place if every else flat.place
    empty = np.zeros(0, np.int64)
    stored = [s.mantissa // s.step * e["sign"] for s, e in zip(every, edges.values(), strict=True)]
    weight, delay = np.concatenate([empty, *stored])[which], np.concatenate([empty, *(s.delay for s in every)])[which]
    on, compartment = core[flat.target], slot[flat.target]
    by = np.lexsort((delay, compartment, flat.edge, flat.source, on))
    on, source, edge, compartment = on[by], flat.source[by], flat.edge[by], compartment[by]
    weight, delay = weight[by], delay[by]
    new = np.ones(on.size, bool)
    new[1:] = (on[1:] != on[:-1]) | (source[1:] != source[:-1]) | (edge[1:] != edge[:-1])
    run = np.flatnonzero(new)
    within = np.arange(on.size) - np.repeat(run, np.diff(np.append(run, on.size)))
    head = new | (within % BLOCK == 0)
    first, block = np.flatnonzero(head), np.cumsum(head) - 1
    counts = np.diff(np.append(first, on.size))
    widths = np.array([e["widths"] for e in edges.values()], np.int64).reshape(-1, 3)
    bits = HEADER + counts * widths.sum(1)[edge[first]]
    sizes = -(-bits // WORD)
    offset = np.concatenate([[0], np.cumsum(sizes)])
    words = np.zeros(int(offset[-1]), np.uint64)
    _put(words, offset[:-1] * WORD, edge[first] | (counts - 1) << 4, HEADER)
    at = offset[block] * WORD + HEADER + (within % BLOCK) * widths.sum(1)[edge]
    for field, column in ((weight, 0), (delay, 1), (compartment, 2)):
        for e in range(len(every)):
            some, width = edge == e, int(widths[e, column])
            _put(words, at[some], field[some], width)
        at = at + widths[edge, column]
    axon = np.ones(first.size, bool)
    axon[1:] = (on[first[1:]] != on[first[:-1]]) | (source[first[1:]] != source[first[:-1]])
    begins = np.flatnonzero(axon)
    return words, on[first[begins]], source[first[begins]], np.append(offset[:-1][begins], offset[-1])


def _put(words: np.ndarray, at: np.ndarray, value: np.ndarray, width: int) -> None:
    """Write the lowest `width` bits of `value` from bit `at` of `words` on."""
    value = value.astype(np.uint64) & np.uint64(2**width - 1)
    word, bit = at // WORD, (at % WORD).astype(np.uint64)
    np.bitwise_or.at(words, word, value << bit)
    over = at % WORD + width > WORD
    np.bitwise_or.at(words, word[over] + 1, value[over] >> (np.uint64(WORD) - bit[over]))


def _get(words: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """The `width` bits from bit `at` of `words` on."""
    if not width:
        return np.zeros(at.size, np.int64)
    word, bit = at // WORD, (at % WORD).astype(np.uint64)
    value, over = words[word] >> bit, at % WORD + width > WORD
    value[over] |= words[word[over] + 1] << (np.uint64(WORD) - bit[over])
    return (value & np.uint64(2**width - 1)).astype(np.int64)


def used(packed: Packed) -> dict[str, Int[np.ndarray, " cores"]]:
    """By rule, what every core uses of it, counted in the words and lists of `packed` alone."""
    n_cores = int(packed.cell_core.max(initial=-1)) + 1
    groups = sum(packed.about["cells"].values())

    def kinds(of: Any, core: Any) -> Int[np.ndarray, " cores"]:
        pairs = np.unique(np.stack([core.astype(np.uint64), of.astype(np.uint64)]), axis=1)
        return np.bincount(pairs[0].astype(np.int64), minlength=n_cores)

    refractory, first = (packed.cells >> np.uint64(41)) & np.uint64(63), packed.cells & np.uint64(2**24 - 1)
    sizes = np.diff(packed.axon_first)
    formats_of = [(int(c), e) for c, e, _, _ in _blocks(packed)]
    cores, format_ids = np.array(formats_of, np.int64).reshape(-1, 2).T
    home = np.full(groups, -1)
    begin = dict(zip((*packed.about["cells"], *packed.about["inputs"]), _begins(packed.about), strict=True))
    for number, name in enumerate(packed.about["cells"]):
        some = packed.cell_group == number
        home[begin[name] + packed.cell_unit[some]] = packed.cell_core[some]
    inside = packed.axon_source[packed.axon_source < groups]
    cells = np.bincount(packed.cell_core, minlength=n_cores)
    words = np.bincount(packed.axon_core, weights=sizes, minlength=n_cores).astype(np.int64)
    found = {
        "COMP": cells,
        "IN": np.bincount(packed.axon_core, minlength=n_cores),
        "SYN": words,
        "MEM": 8 * words + CELL_BYTES * cells,
        "CFG": kinds(first | refractory << np.uint64(24), packed.cell_core),
        "VTH": kinds((packed.cells >> np.uint64(24)) & np.uint64(2**17 - 1), packed.cell_core),
        "FMT": kinds(format_ids, cores),
        "OUT": np.bincount(home[inside], minlength=n_cores),
    }
    target = TARGETS[packed.about["target"]]
    return {rule_of(target, m): n for m, n in found.items() if m in limits_of(target)}


def _blocks(packed: Packed) -> Iterator[tuple[int, int, int, int]]:
    """Core, format, number of synapses and first word of every block, and so the end of every list."""
    widths = [sum(e["widths"]) for e in packed.about["edges"].values()]
    for core, word, last in zip(packed.axon_core, packed.axon_first, packed.axon_first[1:], strict=False):
        word = int(word)
        while word < last:
            header = int(packed.words[word]) & 1023
            e, n = header & 15, (header >> 4) + 1
            yield int(core), e, n, word
            word += -(-(HEADER + n * widths[e]) // WORD)


def decode(packed: Packed) -> Image:
    """The image that `packed` is the memory of: the same cells, and the same synapses in the order of the lists."""
    about = packed.about
    groups, cells = list(about["cells"]), {}
    for number, (name, size) in enumerate(about["cells"].items()):
        some = packed.cell_group == number
        word = np.empty(size, np.uint64)
        word[packed.cell_unit[some]] = packed.cells[some]
        fields, bit = {}, 0
        for field, width in REGISTERS:
            fields[field] = ((word >> np.uint64(bit)) & np.uint64(2**width - 1)).astype(np.int64)
            bit += width
        mantissa = fields["bias_mantissa"] - (fields["bias_mantissa"] >= 4096) * 8192
        registers = {k: fields[k] for k in ("threshold", "decay_u", "decay_v")}
        bias = mantissa << fields["bias_exponent"]
        cells[name] = Cells(size, **registers, bias=bias, refractory=fields["refractory"] + 1)
    found = [[] for _ in about["edges"]]
    edges = list(about["edges"].values())
    starts = np.searchsorted(packed.cell_core, np.arange(int(packed.cell_core.max(initial=-1)) + 1))
    begin = {name: int(b) for name, b in zip((*groups, *about["inputs"]), _begins(about), strict=True)}
    for core, e, n, word in _blocks(packed):
        source = packed.axon_source[np.searchsorted(packed.axon_first, word, side="right") - 1]
        widths = edges[e]["widths"]
        at = word * WORD + HEADER + np.arange(n) * sum(widths)
        weight = _get(packed.words, at, widths[0])
        delay = _get(packed.words, at + widths[0], widths[1])
        slot = _get(packed.words, at + widths[0] + widths[1], widths[2])
        unit = packed.cell_unit[starts[core] + slot]
        found[e].append(np.stack([np.full(n, source - begin[edges[e]["pre"]]), unit, weight, delay]))
    synapses = {}
    for (name, e), parts in zip(about["edges"].items(), found, strict=True):
        source, target, weight, delay = np.concatenate([np.zeros((4, 0), np.int64), *parts], axis=1)
        how: dict[str, Any] = dict(exponent=int(e["exponent"]), bits=int(e["bits"]), mixed=bool(e["mixed"]))
        step = 2 ** (8 - how["bits"] + how["mixed"])
        if how["mixed"]:
            weight = weight - (weight >= 2 ** (e["widths"][0] - 1)) * 2 ** e["widths"][0]
        synapses[name] = Synapses(e["pre"], e["post"], source, target, weight * step * e["sign"], delay=delay, **how)
    return Image.of(DIALECTS[about["dialect"]], cells, synapses, dict(about["inputs"]))


def _begins(about: dict[str, Any]) -> np.ndarray:
    return np.cumsum([0, *about["cells"].values(), *about["inputs"].values()])[:-1]


def write(path: str | Path, packed: Packed) -> None:
    """Write `packed` as one HDF5 file: a data set for each of its arrays, `about` as JSON in the attribute `about`.

    Needs h5py: `pip install 'brainsim[chips]'`.
    """
    import json

    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["format"] = "brainsim chip image 1"
        file.attrs["about"] = json.dumps(packed.about)
        for name, x in vars(packed).items():
            if name != "about":
                file.create_dataset(name, data=x)


def read(path: str | Path) -> Packed:
    """The memory that `write` wrote; ValueError for another file."""
    import json

    import h5py

    with h5py.File(path, "r") as file:
        if file.attrs.get("format") != "brainsim chip image 1":
            raise ValueError(f"{path} is no image of a chip; expected a file of brainsim.lower.write.")
        arrays = {str(name): np.asarray(file[name]) for name in file}
        about: Any = file.attrs["about"]
        return Packed(**arrays, about=json.loads(about))
