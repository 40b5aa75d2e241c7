"""Readers of published connectomes, and of tables with columns of any name."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from ._connectome import Connectome
from ._tables import batches, frame, whole

Path: TypeAlias = str | os.PathLike


def read_tables(
    neurons: Path,
    edges: Path,
    *,
    neuron_columns: Mapping[str, str] = {},
    edge_columns: Mapping[str, str] = {},
    **rules: Any,
) -> Connectome:
    """A connectome of two tables (CSV, Parquet or Feather).

    **Arguments:** `neurons`, `edges`: files; `neuron_columns`, `edge_columns`: their columns by the names that
    `Connectome` has for them, `{"id": "root_id", "type": "cell_type"}` and `{"pre": "source", "post": "target",
    "count": "weight"}`; those called alike need no entry. `rules`: as `Connectome` takes them.
    """
    named = {"id": "id", **neuron_columns}
    table = frame(neurons, list(named.values())).rename(columns={theirs: ours for ours, theirs in named.items()})
    columns = {"pre": "pre", "post": "post", **edge_columns}
    return Connectome(table, _renamed(edges, columns), **rules)


def read_shiu(neurons: Path, edges: Path, *, annotations: Path | None = None, **rules: Any) -> Connectome:
    """The FlyWire tables of Shiu et al. 2024 (doi:10.1038/s41586-024-07763-9), v630 or v783.

    **Arguments:** `neurons`: the completeness table (`Completeness_783.csv`), ids in its first column; `edges`: the
    connectivity (`Connectivity_783.parquet`), whose `Excitatory x Connectivity` is the signed count; `annotations`: a
    table with `root_id` and, as FlyWire annotations have them, `cell_type`, `super_class`, `side`, `top_nt`.
    **Raises:** ValueError where the two tables are not of one version.
    """
    table = frame(neurons)
    ids = whole(os.fspath(neurons), table.columns[0], table.iloc[:, 0].to_numpy())
    own: Any = {"id": ids}
    if annotations is not None:
        names = {"cell_type": "type", "super_class": "class", "top_nt": "transmitter"}
        own = _joined(ids, frame(annotations, ["root_id"]).rename(columns=names), "root_id")
    return Connectome(own, _shiu_edges(edges, ids), **rules)


def _shiu_edges(path: Path, ids: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Edges by the rows that the table gives, after a look at whether the first of them have the ids they should."""
    ends = {"pre": ("Presynaptic_Index", "Presynaptic_ID"), "post": ("Postsynaptic_Index", "Postsynaptic_ID")}
    for batch in batches(path, [name for pair in ends.values() for name in pair]):
        for row, name in ends.values():
            rows, given = batch[row], whole(os.fspath(path), name, batch[name])
            inside = (rows >= 0) & (rows < ids.size)
            bad = np.flatnonzero(~inside | (ids[np.where(inside, rows, 0)] != given))
            if bad.size:
                raise ValueError(
                    f"{path}, row {bad[0]}: {row} {rows[bad[0]]} is {name} {given[bad[0]]}, and the table of neurons "
                    f"({ids.size} rows) has another there. Give the completeness table of the same version."
                )
        break
    signed, first = "Excitatory x Connectivity", 0
    for batch in batches(path, [signed, *(row for row, _ in ends.values())]):
        out: dict[str, np.ndarray] = {f"{end}_row": batch[row].astype(np.int32) for end, (row, _) in ends.items()}
        for rows in out.values():
            if rows.size and (rows.min() < 0 or rows.max() >= ids.size):
                k = int(np.flatnonzero((rows < 0) | (rows >= ids.size))[0])
                raise ValueError(f"{path}, row {first + k}: index {rows[k]} is beyond the {ids.size} neurons.")
        weight = batch[signed].astype(np.int32)
        first += weight.size
        yield {**out, "count": np.abs(weight), "sign": np.sign(weight).astype(np.int8)}


def read_codex(
    neurons: Path,
    connections: Path,
    *,
    classification: Path | None = None,
    cell_types: Path | None = None,
    coordinates: Path | None = None,
    **rules: Any,
) -> Connectome:
    """The FlyWire tables of Codex (codex.flywire.ai, Download).

    **Arguments:** `neurons`: `neurons.csv.gz` (`root_id`, `nt_type`); `connections`: `connections.csv.gz`
    (`pre_root_id`, `post_root_id`, `syn_count`), one row for each neuropil of a pair, which are summed; optionally
    `classification.csv.gz` (`super_class`, `side`), `consolidated_cell_types.csv.gz` (`primary_type`) and
    `coordinates.csv.gz` (`position`, the first of each neuron).
    """
    table = frame(neurons, ["root_id"])
    ids = whole(os.fspath(neurons), "root_id", table["root_id"].to_numpy())
    table = table.rename(columns={"nt_type": "transmitter"})
    for path, names in (
        (classification, {"super_class": "class", "class": "sub_system"}),
        (cell_types, {"primary_type": "type"}),
        (coordinates, {}),
    ):
        if path is not None:
            table = _joined(ids, frame(path, ["root_id"]).rename(columns=names), "root_id", table)
    if "position" in table:
        xyz = table["position"].astype(object).map(_triple)
        for k, axis in enumerate("xyz"):
            table[axis] = xyz.map(lambda p, k=k: p[k])
        table = table.drop(columns="position")
    table["id"] = ids
    columns = {"pre": "pre_root_id", "post": "post_root_id", "count": "syn_count"}
    return Connectome(table.drop(columns="root_id", errors="ignore"), _renamed(connections, columns), **rules)


def read_malecns(annotations: Path, weights: Path, *, transmitters: Path | None = None, **rules: Any) -> Connectome:
    """The Feather tables of the male CNS (Berg et al. 2025; male-cns.janelia.org, CC BY 4.0).

    Bodies with a `superclass` are the neurons; edges of all others, fragments and glia, are left out and counted.

    **Arguments:** `annotations`: `body-annotations-male-cns-*.feather` (`bodyId`, `type`, `superclass`, `somaSide`);
    `weights`: `connectome-weights-male-cns-*.feather` (`body_pre`, `body_post`, `weight`); `transmitters`:
    `body-neurotransmitters-male-cns-*.feather` (`body`, `consensus_nt`).
    """
    table = frame(annotations, ["bodyId", "superclass"])
    table = table[table["superclass"].notna()].reset_index(drop=True)
    table = table.rename(columns={"class": "sub_system", "superclass": "class", "somaSide": "side"})
    ids = whole(os.fspath(annotations), "bodyId", table["bodyId"].to_numpy())
    if transmitters is not None:
        nt = frame(transmitters, ["body", "consensus_nt"])[["body", "consensus_nt"]]
        table = _joined(ids, nt.rename(columns={"consensus_nt": "transmitter"}), "body", table)
    table["id"] = ids
    columns = {"pre": "body_pre", "post": "body_post", "count": "weight"}
    rules = {"unknown_neurons": "drop", **rules}
    return Connectome(table.drop(columns=["bodyId", "body"], errors="ignore"), _renamed(weights, columns), **rules)


def read_larva(path: Path, *, mask: str = "brain_and_inputs", **rules: Any) -> Connectome:
    """The larva's brain (Winding et al. 2023, doi:10.1126/science.add9330) from an `.npz` with `ids`, `pre`, `post`,
    `count`, `simple_group`, `merge_class`, `hemisphere` and masks.

    The release has neither transmitters nor signs: all edges are of sign `unknown_sign` (default 1), an assumption of
    the simulation.

    **Arguments:** `mask`: which neurons: `"brain_and_inputs"` (3,016), `"selected_lcc"` (2,952, connected) or `"all"`.
    """
    with np.load(path) as z:
        _keys(path, z, ["ids", "pre", "post", "count"])
        names = {"merge_class": "type", "simple_group": "class", "hemisphere": "side"}
        more = [k for k in z.files if z[k].shape == z["ids"].shape and k not in ("pre", "post", "count", "ids")]
        neurons = {"id": z["ids"], **{names.get(k, k): z[k] for k in more}}
        edges = {"pre_row": z["pre"], "post_row": z["post"], "count": z["count"]}
    if mask != "all" and mask not in neurons:
        known = [k for k, v in neurons.items() if v.dtype == bool]
        raise ValueError(f"read_larva: there is no mask {mask!r}; there are {['all', *known]}.")
    whole_brain = Connectome(neurons, edges, **rules)
    return whole_brain if mask == "all" else whole_brain.subset(neurons[mask])


WORM_SIGNS: Mapping[str, int] = {"gaba": -1, "acetylcholine": 1, "glutamate": 1}
"""Sign of a synapse by transmitter in C. elegans, the common first assumption; receptors decide it in fact."""


def read_celegans(neurons: Path, edges: Path, *, kind: str = "chemical", **rules: Any) -> Connectome:
    """C. elegans (Cook et al. 2019, doi:10.1038/s41586-019-1352-7) from a table of neurons (`name`, `type`,
    `neurotransmitter`, `soma_x_um` ...) and one of edges by name (`pre`, `post`, `weight`, `type`).

    Ids are the rows, names stand in `name`; edges of muscles and other cells are left out and counted.

    **Arguments:** `kind`: `"chemical"` or `"electrical"` (listed in both directions).
    """
    import pandas as pd

    table = frame(neurons, ["name", "type"])
    names = pd.Index(table["name"])
    table = table.rename(columns={"type": "class", "neurotransmitter": "transmitter"})
    table = table.rename(columns={f"soma_{axis}_um": axis for axis in "xyz"})
    last = table["name"].str[-1]
    table["type"], table["side"] = table["name"], last.where(last.isin(["L", "R"]), "")
    table["id"] = np.arange(len(table))
    rows = frame(edges, ["pre", "post", "weight", "type"])
    rows = rows[rows["type"] == kind]
    if rows.empty:
        raise ValueError(f"read_celegans: no edge of kind {kind!r}; expected 'chemical' or 'electrical'.")
    ends = {f"{end}_row": names.get_indexer(rows[end]) for end in ("pre", "post")}
    rules = {"signs": WORM_SIGNS, "unknown_neurons": "drop", **rules}
    return Connectome(table, {**ends, "count": rows["weight"].to_numpy()}, **rules)


def _renamed(path: Path, columns: Mapping[str, str]) -> Iterator[dict[str, np.ndarray]]:
    for batch in batches(path, list(columns.values())):
        yield {ours: batch[theirs] for ours, theirs in columns.items()}


def _joined(ids: np.ndarray, more: Any, key: str, to: Any = None) -> Any:
    """The rows of `more` for these ids, beside the table `to`; its columns take the place of those called alike."""
    import pandas as pd

    to = pd.DataFrame({"id": ids}) if to is None else to
    more = more.dropna(subset=[key])
    more = more.assign(**{key: whole("annotations", key, more[key].to_numpy())}).drop_duplicates(key).set_index(key)
    own = more.reindex(ids).reset_index(drop=True)
    return pd.concat([to.drop(columns=[c for c in own if c in to]), own], axis=1)


def _triple(text: Any) -> tuple[float, ...]:
    """`"[1 2 3]"` as numbers."""
    parts = str(text).strip("[]() ").replace(",", " ").split()
    return (float(parts[0]), float(parts[1]), float(parts[2])) if len(parts) == 3 else (np.nan,) * 3


def _keys(path: Path, z: Any, wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in z.files]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}; it has {sorted(z.files)}.")
