"""From batches of edges to one sorted list: the sign rule, unknown neurons, self-loops, duplicates."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from ._tables import whole

SIGNS: Mapping[str, int] = {
    "acetylcholine": 1,
    "ach": 1,
    "dopamine": 1,
    "da": 1,
    "serotonin": 1,
    "ser": 1,
    "octopamine": 1,
    "oct": 1,
    "gaba": -1,
    "glutamate": -1,
    "glut": -1,
    "histamine": -1,
}
"""Sign of a synapse by transmitter in the fly (Shiu et al. 2024; histamine after Hardie 1989)."""

Duplicates = Literal["sum", "keep", "raise"]
Choice = Literal["keep", "drop", "raise"]


class Edges(NamedTuple):
    """Edges sorted by (pre, post): rows of neurons, synapse counts and signs, each (n_edges,)."""

    pre: np.ndarray
    post: np.ndarray
    count: np.ndarray
    sign: np.ndarray

    def take(self, chosen: np.ndarray) -> "Edges":
        """The chosen edges."""
        return Edges(*(x[chosen] for x in self))


def signs_of(transmitters: Any, signs: Mapping[str, int], unknown: int | str) -> np.ndarray:
    """Sign of every neuron, int8, by its transmitter; `unknown` for all others, 2 for those that are to be dropped."""
    by_name, other = {name.lower(): sign for name, sign in signs.items()}, 2 if unknown == "drop" else unknown
    names = {name: name.lower() for name in transmitters.unique()}
    bad = [name for name, lower in names.items() if lower not in by_name]
    if bad and unknown == "raise":
        row = int(np.flatnonzero(transmitters == bad[0])[0])
        raise ValueError(
            f"Connectome: the neuron in row {row} has the transmitter {bad[0]!r}, which has no sign; known are "
            f"{sorted(by_name)}. Give unknown_sign=1, -1 or 'drop', or signs={{{bad[0]!r}: ...}}."
        )
    return transmitters.map({name: by_name.get(lower, other) for name, lower in names.items()}).to_numpy(np.int8)


def gather(
    batches: Iterable[Mapping[str, Any]],
    ids: Any,
    neuron_sign: np.ndarray,
    *,
    unknown_neurons: Choice,
    self_loops: Choice,
    duplicates: Duplicates,
) -> tuple[Edges, dict[str, int]]:
    """All edges, sorted, and how many were left out or merged, by cause."""
    causes = ("unknown neurons", "unknown transmitter", "no synapses", "self-loops", "duplicates")
    dropped: dict[str, int] = dict.fromkeys(causes, 0)
    pairs, counts, first = [], [], 0
    for batch in batches:
        part = _batch(batch, ids, neuron_sign, first, unknown_neurons, dropped)
        first += len(np.asarray(batch["pre_row"] if "pre_row" in batch else batch["pre"]))
        loops = part.pre == part.post
        if self_loops != "keep" and loops.any():
            if self_loops == "raise":
                k = int(np.flatnonzero(loops)[0])
                raise ValueError(
                    f"Connectome: neuron {ids[part.pre[k]]} connects to itself. Give self_loops='keep' or 'drop'."
                )
            dropped["self-loops"] += int(loops.sum())
            part = part.take(~loops)
        pairs.append(part.pre.astype(np.int64) * len(ids) + part.post)
        counts.append(part.count * part.sign.astype(part.count.dtype))
        del part, batch, loops
    pair = np.concatenate(pairs) if pairs else np.zeros(0, np.int64)
    del pairs
    signed = np.concatenate(counts) if counts else np.zeros(0, np.int32)
    del counts
    pair, signed, dropped["duplicates"] = _sorted(pair, signed, ids, duplicates)
    n = len(ids)
    pre = np.repeat(np.arange(n, dtype=np.int32), np.diff(np.searchsorted(pair, np.arange(n + 1, dtype=np.int64) * n)))
    pair -= np.multiply(pre, n, dtype=np.int64)
    edges = Edges(pre, pair.astype(np.int32), np.abs(signed), np.sign(signed).astype(np.int8))
    return edges, {cause: n for cause, n in dropped.items() if n}


def _batch(
    batch: Mapping[str, Any], ids: Any, neuron_sign: np.ndarray, first: int, unknown: Choice, dropped: dict[str, int]
) -> Edges:
    ends = []
    for end in ("pre", "post"):
        if f"{end}_row" in batch:
            ends.append(np.asarray(batch[f"{end}_row"]).astype(np.int32))
            continue
        given = whole("Connectome.edges", end, batch[end])
        rows = ids.get_indexer(given)
        if unknown == "raise" and (rows < 0).any():
            k = int(np.flatnonzero(rows < 0)[0])
            raise ValueError(
                f"Connectome.edges, row {first + k}: {end} {given[k]} is not among the {len(ids)} neurons. The tables "
                "may be of two versions; or give unknown_neurons='drop'."
            )
        ends.append(rows.astype(np.int32))
    pre, post = ends
    count = np.asarray(batch["count"]) if "count" in batch else np.ones(pre.size, np.int32)
    if not (np.issubdtype(count.dtype, np.number) and np.all(np.isfinite(count)) and not np.any(count < 0)):
        raise ValueError("Connectome.edges: counts must be finite numbers >= 0; give the sign as 'sign'.")
    count = count.astype(np.int32 if np.issubdtype(count.dtype, np.integer) else np.float32)
    known = (pre >= 0) & (post >= 0)
    sign = np.asarray(batch["sign"]).astype(np.int8) if "sign" in batch else neuron_sign[np.where(known, pre, 0)]
    for cause, bad in (
        ("unknown neurons", ~known),
        ("unknown transmitter", known & (sign == 2)),
        ("no synapses", known & (count == 0)),
    ):
        dropped[cause] += int(bad.sum())
    edges, good = Edges(pre, post, count, sign), known & (sign != 2) & (count != 0)
    return edges if good.all() else edges.take(good)


def _sorted(
    pair: np.ndarray, signed: np.ndarray, ids: Any, duplicates: Duplicates
) -> tuple[np.ndarray, np.ndarray, int]:
    """Pairs `pre * n + post` in order, their signed counts, and how many were merged into others."""
    n = len(ids)
    bits = 62 - (n * n).bit_length()
    half = 1 << (bits - 1)
    if np.issubdtype(signed.dtype, np.integer) and np.abs(signed).max(initial=0) < half:
        # pair and count in one number: sorting is twice as fast as sorting out the order and applying it
        pair <<= bits
        pair += signed
        pair += half
        pair.sort()
        np.subtract(pair & ((1 << bits) - 1), half, out=signed, casting="unsafe")
        pair >>= bits
    else:
        order = np.argsort(pair, kind="stable")
        pair, signed = pair[order], signed[order]
    new = np.concatenate([[True], pair[1:] != pair[:-1]]) if pair.size else np.zeros(0, bool)
    merged = 0 if duplicates == "keep" else int(pair.size - new.sum())
    if merged and duplicates == "raise":
        pre, post = divmod(int(pair[np.flatnonzero(~new)[0]]), n)
        raise ValueError(
            f"Connectome: {ids[pre]} -> {ids[post]} is listed more than once. Give duplicates='sum' or 'keep'."
        )
    if merged:
        signed = np.add.reduceat(signed, np.flatnonzero(new))
        pair = pair[new]
    return pair, signed, merged
