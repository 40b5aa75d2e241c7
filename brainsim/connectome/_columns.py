"""The optic lobe from filters: what each pair of cell types has of synapses, by the distance between columns."""

import gzip
import json
import os
from typing import Any

import numpy as np

from ._connectome import Connectome


def read_optic_lobe(path: str | os.PathLike, *, extent: int = 15, fill: float = 1.0, **rules: Any) -> Connectome:
    """The fly's optic lobe as columns (Lappalainen et al. 2024, doi:10.1038/s41586-024-07939-3) from the published
    filters, `fib25-fib19_v2.2.json` of flyvis, or the same gzipped.

    Columns form a hexagonal lattice of radius `extent`: 15, as published, gives 721 columns, 45,669 cells and 1,513,231
    edges. Each pair of cell types has the same number of synapses in all columns for each offset (du, dv); what would
    leave the lattice is left out.

    **Arguments:** `extent`: columns from the middle to the border; `fill`: synapses at offsets within the convex hull
    of those that were seen, 0 for none.

    Counts are averages over columns, not whole numbers. The sign is that of the pair of types. Further columns of the
    table: `u`, `v`, the lattice; `x`, `y`, the same in the plane as published, with neighbours at distance 1; `role`,
    "input", "output" or "".

    **Raises:** ValueError for an extent below 1, and for files of another form.
    """
    if extent < 1:
        raise ValueError(f"read_optic_lobe: extent is {extent}; expected 1 or more columns.")
    name = os.fspath(path)
    with gzip.open(name, "rt") if name.endswith(".gz") else open(name) as file:
        spec = json.load(file)
    missing = [key for key in ("nodes", "edges", "input_units", "output_units") if key not in spec]
    if missing:
        raise ValueError(f"{name} has no {missing[0]!r}; expected the filters of flyvis, fib25-fib19_v2.2.json.")
    cells, first = [], 0
    units: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for node in spec["nodes"]:
        kind, strides = node["pattern"]
        if kind != "stride":
            raise ValueError(f"{name}: cells {node['name']!r} have the pattern {kind!r}; expected 'stride'.")
        u, v, at = _lattice(extent, strides)
        units[node["name"]] = u, v, np.where(at >= 0, at + first, -1)
        cells.append((np.full(u.size, node["name"]), u, v))
        first += u.size
    types, u, v = (np.concatenate(part) for part in zip(*cells))
    role = np.where(np.isin(types, spec["input_units"]), "input", "")
    role = np.where(np.isin(types, spec["output_units"]), "output", role)
    place = {"x": np.sqrt(0.75) * v, "y": -(u + 0.5 * v), "z": np.zeros(u.size)}
    neurons = {"id": np.arange(u.size), "type": types, "u": u, "v": v, **place, "role": role}
    pairs = [_pair(units[e["src"]], units[e["tar"]], e, extent, fill) for e in spec["edges"]]
    edges = {key: np.concatenate([pair[key] for pair in pairs]) for key in pairs[0]}
    return Connectome(neurons, edges, **rules)


def _lattice(extent: int, strides: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u and v of a type's cells, and the number of the cell at [u + extent, v + extent], -1 for none."""
    u, v = np.mgrid[-extent : extent + 1, -extent : extent + 1]
    there = (np.abs(u + v) <= extent) & (u % strides[0] == 0) & (v % strides[1] == 0)
    at = np.where(there, np.cumsum(there).reshape(there.shape) - 1, -1)
    return u[there], v[there], at


def _pair(pre: tuple, post: tuple, edge: dict, extent: int, fill: float) -> dict[str, np.ndarray]:
    """The edges of a pair of cell types."""
    offsets = np.array([offset for offset, _ in edge["offsets"]], int).reshape(-1, 2)
    count = np.array([n for _, n in edge["offsets"]], np.float32)
    if fill > 0:
        gaps = _gaps(offsets)
        offsets = np.concatenate([offsets, gaps])
        count = np.concatenate([count, np.full(len(gaps), fill, np.float32)])
    u, v, rows = pre
    u_post, v_post = u + offsets[:, :1] + extent, v + offsets[:, 1:] + extent
    inside = (u_post >= 0) & (u_post <= 2 * extent) & (v_post >= 0) & (v_post <= 2 * extent)
    target = np.where(inside, post[2][u_post.clip(0, 2 * extent), v_post.clip(0, 2 * extent)], -1)
    k, source = np.nonzero(target >= 0)
    rows = rows[u + extent, v + extent]
    sign = np.full(k.size, edge["alpha"], np.int8)
    return {"pre_row": rows[source], "post_row": target[k, source], "count": count[k], "sign": sign}


def _gaps(offsets: np.ndarray) -> np.ndarray:
    """Offsets within the convex hull of these that are not among them; as published, without its edge of least v."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(offsets).equations
    except (QhullError, ValueError):  # fewer than three, or on one line
        return np.zeros((0, 2), int)
    (u0, v0), (u1, v1) = offsets.min(0), offsets.max(0)
    grid = np.mgrid[u0 : u1 + 1, v0 + 1 : v1 + 1].reshape(2, -1).T
    inside = (grid @ hull[:, :2].T + hull[:, 2] < 1e-9).all(1)
    known = (grid[:, None] == offsets).all(2).any(1)
    return grid[inside & ~known]
