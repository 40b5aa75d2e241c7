"""A page to look at: positions of neurons coloured by their activity over time, in one file that needs no network."""

import base64
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ._connectome import Connectome


def write_page(
    brain: Connectome,
    path: str | os.PathLike,
    times: Any,
    ids: Any,
    *,
    t1: float | None = None,
    frame: float = 1.0,
    positions: Any = None,
    title: str = "Activity",
) -> Path:
    """Write one HTML file that plays spikes on the positions of the neurons, with a slider and a search by type.

    **Arguments:**

    - `times`, `ids`: spikes, as `sol.spikes("brain")` gives them (ms; rows).
    - `t1`: end (ms); None for the last spike. `frame`: ms of a picture.
    - `positions`: (n, 2) or (n, 3), of which the first two are drawn; None for those of the table. Where a table has
      none, neurons lie on a disc, class by class.
    - `title`: heading of the page.

    **Returns** the path. **Raises:** ValueError for spikes of neurons that do not exist or positions of another number.

    !!! Example
        `bs.connectome.write_page(brain, "activity.html", *sol.spikes("brain"))`
    """
    times, ids, n = np.asarray(times, float), np.asarray(ids), len(brain)
    if times.shape != ids.shape or times.ndim != 1 or (ids.size and not 0 <= ids.min() <= ids.max() < n):
        raise ValueError(f"write_page: times {times.shape} and ids {ids.shape}; expected two lists, ids below {n}.")
    xy = np.asarray(brain.positions if positions is None else positions, float)[:, :2]
    if xy.shape != (n, 2):
        raise ValueError(f"write_page: positions of shape {xy.shape}; expected ({n}, 2) or ({n}, 3).")
    if not np.isfinite(xy).any():
        xy = _disc(brain)
    low, span = np.nanmin(xy, axis=0), np.nanmax(np.nanmax(xy, axis=0) - np.nanmin(xy, axis=0)) or 1.0
    scaled = np.where(np.isfinite(xy), (xy - low) / span, 0.0)
    names, kind = np.unique(brain.neurons["type"].to_numpy(str), return_inverse=True)
    frames = int(np.ceil((times.max(initial=0.0) if t1 is None else t1) / frame)) or 1
    shown = times <= frames * frame
    order = np.argsort(times[shown], kind="stable")
    when = np.clip(np.ceil(times[shown][order] / frame) - 1, 0, frames - 1)
    data = {"title": title, "n": n, "frames": frames, "frame": frame, "types": names.tolist()}
    data |= {"extent": (np.nanmax(xy, axis=0) - low).tolist(), "span": float(span)}
    data |= {"xy": _packed(scaled * 65535, "<u2"), "kind": _packed(kind, "<u4")}
    data |= {"when": _packed(when, "<u4"), "who": _packed(ids[shown][order], "<u4")}
    text = files("brainsim.connectome").joinpath("page.html").read_text()
    # "<" of a name must not end the script
    Path(path).write_text(text.replace("/*DATA*/null", json.dumps(data).replace("<", "\\u003c")))
    return Path(path)


def _packed(x: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(np.round(x).astype(dtype)).tobytes()).decode()


def _disc(brain: Connectome) -> np.ndarray:
    """Places on a disc (a sunflower's), in the order of the classes from the middle outward."""
    order = np.argsort(brain.neurons["class"].to_numpy(str), kind="stable")
    rank = np.empty(len(brain))
    rank[order] = np.arange(len(brain))
    angle = np.pi * (3.0 - np.sqrt(5.0)) * rank
    return np.sqrt(rank + 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
