"""Which core holds which cell: the limits of a chip, each a rule with an id."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from ._canonical import LoweringError
from ._image import Tables
from ._tables import Synapses
from ._targets import LOIHI1, Target

BLOCK = 64
"""Synapses of a block, which has one header."""
HEADER = 10
"""Bits of a header: 4 of the format, 6 of the number of synapses less one."""
WORD = 64
"""Bits of a word of synaptic memory."""
CELL_BYTES = 16
"""Bytes of a cell where cells and synapses share a memory: its registers, and u and v in 32 bits each."""
MEASURES = ("COMP", "IN", "SYN", "CFG", "VTH", "FMT", "MEM")
"""What is counted of a core, by the end of a rule's id; OUT, too, once all cores are filled."""
WHOLE = ("CORES", "CHIP-COMP", "CHIP-SYN")
"""What is counted of all cores together, and allowed once a chip."""


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Cells on cores: cell k of group `name` is compartment `slot[name][k]` of core `core[name][k]`."""

    target: Target
    core: dict[str, Int[np.ndarray, " n"]]
    slot: dict[str, Int[np.ndarray, " n"]]
    usage: dict[str, Int[np.ndarray, " cores"]]
    """By rule, what every core uses of it."""

    @property
    def n_cores(self) -> int:
        """How many cores are in use."""
        return max((int(c.max(initial=-1)) for c in self.core.values()), default=-1) + 1

    @property
    def chip(self) -> Int[np.ndarray, " cores"]:
        """On which chip every core lies: chips are filled one after the other."""
        return np.arange(self.n_cores) // self.target.cores

    @property
    def n_chips(self) -> int:
        """How many chips are in use."""
        return int(self.chip.max(initial=0)) + 1

    def __str__(self) -> str:
        chips = f" on {self.n_chips} chips" if self.n_chips > 1 else ""
        lines = [f"{self.n_cores} cores of {self.target.name}{chips}"]
        for rule, used in self.usage.items():
            fact = self.target.limits[rule]
            lines.append(f"{rule}: at most {int(used.max(initial=0)):,} of {fact.value:,.0f} {fact.unit}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """All synapses as arrays, in the order of the position of their targets."""

    source: Int[np.ndarray, " n_syn"]
    """Number of the sending unit, over all groups and inputs."""
    target: Int[np.ndarray, " n_syn"]
    """Position of the receiving cell."""
    edge: Int[np.ndarray, " n_syn"]
    place: Int[np.ndarray, " n_syn"]
    """Which synapse of its edge."""
    first: Int[np.ndarray, " positions_plus_1"]
    """Where the synapses of every position begin."""


def merged(s: Synapses) -> Synapses:
    """`s` with synapses of one pair and one delay added up, where the grid holds their sum: the same words arrive."""
    key = np.stack([s.sources, s.targets, s.delay])
    pairs, where = np.unique(key, axis=1, return_inverse=True)
    total = np.zeros(pairs.shape[1], np.int64)
    np.add.at(total, where, s.mantissa)
    if np.any(total < -256) or np.any(total > 256 - s.step) or pairs.shape[1] == s.sources.size:
        return s
    return dataclasses.replace(s, sources=pairs[0], targets=pairs[1], mantissa=total, delay=pairs[2])


def formats(s: Synapses, limit: int) -> tuple[int, int, int]:
    """Bits of weight, delay and compartment index in the words of `s`, of a core of `limit` compartments."""
    return s.bits, int(s.delay.max(initial=0)).bit_length(), max(6, (limit - 1).bit_length())


def legalise(
    tables: Tables, target: Target = LOIHI1, *, chips: int = 1, near: Mapping[str, Any] | None = None
) -> Layout:
    """Fill cores with the cells of `tables`, in an order that keeps cells of equal registers together: first those of
    equal decays or first those of equal threshold, whichever takes fewer cores.

    **Arguments:** `chips`: how many chips there are; `near`: a number for each cell, by group; cells of equal registers
    are taken in the order of these, over all groups.

    A core is closed as soon as the next cell would break one of its rules; where its cells reach too many other cores
    (L1-OUT), all cores are filled half as far. Rules that nothing is known of, such as the thresholds of a core of
    Loihi 2, are not checked. **Raises** `LoweringError` with the rule, the cell, its number and the limit where one
    cell alone is too much, or the chip too small (L1-CORES); ValueError for a target without integer cells.
    """
    if target.dialect is None:
        raise ValueError(f"legalise: {target.name} has no integer cells; expected loihi1 or loihi2.")
    check_chips(chips)
    limits = limits_of(target)
    order, flat, config, threshold, widths, ends, out = min(
        (_filled(tables, limits, target, first, near) for first in ("decays", "threshold")),
        key=lambda found: len(found[5]),
    )
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    core_of = np.repeat(np.arange(len(ends)), np.diff(np.concatenate([[0], ends])))
    for measure, n in zip(WHOLE, (len(ends), len(core_of), flat.source.size), strict=True):
        if measure in limits:
            check_whole(target, rule_of(target, measure), n, chips)
    usage = [_usage(flat, config, threshold, widths, a, b) for a, b in zip(starts, ends, strict=True)]
    by_rule = {rule_of(target, m): np.array([u[m] for u in usage], np.int64) for m in MEASURES if m in limits}
    if "OUT" in limits:
        by_rule[rule_of(target, "OUT")] = out
    slot_of = np.arange(len(core_of)) - starts[core_of] if len(ends) else np.arange(0)
    core, slot = {}, {}
    for name, positions in order.items():
        core[name], slot[name] = core_of[positions], slot_of[positions]
    return Layout(target, core, slot, by_rule)


def check_chips(chips: int) -> None:
    """Raise ValueError unless `chips` is a whole number >= 1."""
    if isinstance(chips, bool) or not isinstance(chips, int) or chips < 1:
        raise ValueError(f"chips={chips!r}; expected a whole number of chips >= 1.")


def check_whole(target: Target, rule: str, n: int, chips: int) -> None:
    """Raise LoweringError where `n` is more than what `chips` chips have of what the rule is about."""
    fact = target.limits[rule]
    if n > fact.value * chips:
        enough = int(-(-n // fact.value))
        where, of = ("chip", "") if chips == 1 else (f"{chips} chips", ", of each of them")
        raise LoweringError(rule, where, f"{n} are needed; the limit is {fact}{of}. Give chips={enough} or more.")


def limits_of(target: Target) -> dict[str, int]:
    """Limits by what is counted."""
    return {rule.partition("-")[2]: int(fact.value) for rule, fact in target.limits.items()}


def rule_of(target: Target, measure: str) -> str:
    """The id of the rule about `measure`."""
    return f"{next(iter(target.limits), target.name.upper()).partition('-')[0]}-{measure}"


def _filled(tables: Tables, limits: dict[str, int], target: Target, first: str, near: Any) -> tuple[Any, ...]:
    """Cores filled in the order of decays or thresholds: the order, its arrays, where cores end, their output axons."""
    order, names = _order(tables, first, near)
    flat = flattened(tables, order)
    config, threshold = _registers(tables, names)
    widths = {k: sum(formats(s, limits["COMP"])) for k, s in enumerate(tables.synapses.values())}
    cap = limits["COMP"]
    while True:
        ends = _fill(flat, config, threshold, widths, limits | {"COMP": cap}, names, target)
        core_of = np.repeat(np.arange(len(ends)), np.diff(np.concatenate([[0], ends])))
        out = _outputs(tables, flat, core_of, order)
        if out.max(initial=0) <= limits.get("OUT", np.inf):
            return order, flat, config, threshold, widths, ends, out
        if cap == 1:
            rule = rule_of(target, "OUT")
            raise LoweringError(rule, "chip", f"{out.max()} output axons; {target.limits[rule]}.")
        cap = max(cap // 2, 1)


def _order(tables: Tables, first: str, near: Any) -> tuple[dict[str, Int[np.ndarray, " n"]], list[tuple[str, int]]]:
    """Position of every cell, by group; and the (group, cell) of every position."""
    cells = [(name, int(k)) for name, c in tables.cells.items() for k in range(c.size)]
    group = np.repeat(np.arange(len(tables.cells)), [c.size for c in tables.cells.values()])
    config, threshold = _registers(tables, cells)
    decays, place = (config[:, 2], config[:, 1], config[:, 0]), np.arange(len(cells))
    if near is not None:
        place = np.concatenate([np.asarray(near[name]) for name in tables.cells])
    keys = (threshold, *decays) if first == "decays" else (*decays, threshold)
    by = np.lexsort((place, *keys, group) if near is None else (place, *keys))
    position = np.empty(len(cells), np.int64)
    position[by] = np.arange(len(cells))
    sizes = np.cumsum([c.size for c in tables.cells.values()])[:-1]
    return dict(zip(tables.cells, np.split(position, sizes), strict=True)), [cells[k] for k in by]


def measured(
    tables: Tables, target: Target, core: Mapping[str, Int[np.ndarray, " n"]], n_cores: int
) -> dict[str, Int[np.ndarray, " cores"]]:
    """What every core uses by rule, with the cells on these cores."""
    cells = [(name, int(k)) for name, c in tables.cells.items() for k in range(c.size)]
    every, limits = np.concatenate([core[name] for name in tables.cells]), limits_of(target)
    by = np.argsort(every, kind="stable")
    position = np.empty(every.size, np.int64)
    position[by] = np.arange(every.size)
    sizes = np.cumsum([c.size for c in tables.cells.values()])[:-1]
    order = dict(zip(tables.cells, np.split(position, sizes), strict=True))
    flat = flattened(tables, order)
    config, threshold = _registers(tables, [cells[k] for k in by])
    widths = {k: sum(formats(s, limits["COMP"])) for k, s in enumerate(tables.synapses.values())}
    ends = np.cumsum(np.bincount(every, minlength=n_cores))
    used = [_usage(flat, config, threshold, widths, a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    found = {rule_of(target, m): np.array([u[m] for u in used], np.int64) for m in MEASURES if m in limits}
    if "OUT" in limits:
        found[rule_of(target, "OUT")] = _outputs(tables, flat, every[by], order, n_cores)
    return found


def units(tables: Tables) -> dict[str, int]:
    """The number of the first unit of every group and input, counted over all of them."""
    sizes = {name: c.size for name, c in tables.cells.items()} | tables.inputs
    ends = np.cumsum([0, *sizes.values()])
    return {name: int(begin) for name, begin in zip(sizes, ends, strict=False)}


def flattened(tables: Tables, order: Mapping[str, Int[np.ndarray, " n"]]) -> Flat:
    """All synapses of `tables`, sorted by the position of their target."""
    begin = units(tables)
    parts = [(begin[s.pre] + s.sources, order[s.post][s.targets]) for s in tables.synapses.values()]
    n = [s.sources.size for s in tables.synapses.values()]
    empty = np.zeros(0, np.int64)
    source = np.concatenate([empty, *(p[0] for p in parts)])
    target = np.concatenate([empty, *(p[1] for p in parts)])
    edge, place = np.repeat(np.arange(len(n)), n), np.concatenate([empty, *(np.arange(k) for k in n)])
    by = np.argsort(target, kind="stable")
    positions = sum(len(x) for x in order.values())
    first = np.searchsorted(target[by], np.arange(positions + 1))
    return Flat(source[by], target[by], edge[by], place[by], first)


def _registers(tables: Tables, names: list[tuple[str, int]]) -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    parts = {k: np.stack([c.decay_u, c.decay_v, c.refractory, c.threshold]) for k, c in tables.cells.items()}
    columns = np.array([parts[name][:, k] for name, k in names], np.int64).reshape(-1, 4)
    return columns[:, :3], columns[:, 3]


def _usage(flat: Flat, config, threshold, widths: Mapping[int, int], a: int, b: int) -> dict[str, int]:
    """What cells at the positions a to b would use of a core, by rule."""
    some = slice(flat.first[a], flat.first[b])
    source, edge = flat.source[some], flat.edge[some]
    runs, n = np.unique(source * len(widths) + edge, return_counts=True)  # lists, each of one source and one edge
    width = np.array([*widths.values()], np.int64)[runs % max(len(widths), 1)]
    whole, rest = n // BLOCK, n % BLOCK
    words = whole * -(-(HEADER + BLOCK * width) // WORD) + np.where(rest > 0, -(-(HEADER + rest * width) // WORD), 0)
    return {
        "COMP": int(b - a),
        "IN": int(np.unique(runs // max(len(widths), 1)).size),
        "SYN": int(words.sum()),
        "MEM": int(8 * words.sum() + CELL_BYTES * (b - a)),
        "CFG": len(np.unique(config[a:b], axis=0)),
        "VTH": int(np.unique(threshold[a:b]).size),
        "FMT": int(np.unique(edge).size),
    }


def _fill(flat, config, threshold, widths, limits, names, target) -> list[int]:
    """Where every core ends: as far as its limits allow, found by halving, as use never falls with more cells."""
    ends, a, n = [], 0, len(names)
    while a < n:
        low, high = a, min(a + limits["COMP"], n)
        middle = high  # most cores are full
        while low < high:
            used = _usage(flat, config, threshold, widths, a, middle)
            if all(used[m] <= limits.get(m, used[m]) for m in MEASURES):
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        if low == a:
            used = _usage(flat, config, threshold, widths, a, a + 1)
            measure = next(m for m in MEASURES if used[m] > limits.get(m, used[m]))
            rule, where = rule_of(target, measure), f"{names[a][0]}[{names[a][1]}]"
            text = f"{used[measure]} for this cell alone; the limit is {target.limits[rule]}."
            raise LoweringError(rule, where, text)
        ends.append(low)
        a = low
    return ends


def _outputs(
    tables: Tables, flat: Flat, core_of: Int[np.ndarray, " n"], order: Any, n_cores: int | None = None
) -> Int[np.ndarray, " cores"]:
    """Output axons of every core: pairs of one of its cells and a core that it reaches."""
    begin = units(tables)
    n_cores = int(core_of.max(initial=-1)) + 1 if n_cores is None else n_cores
    sender = np.full(sum(tables.inputs.values()) + len(core_of), -1)
    for name, positions in order.items():
        sender[begin[name] + np.arange(positions.size)] = core_of[positions]
    pairs = np.unique(flat.source * max(n_cores, 1) + core_of[flat.target]) if flat.source.size else np.zeros(0, int)
    home = sender[pairs // max(n_cores, 1)]
    return np.bincount(home[home >= 0], minlength=n_cores)
