"""The page of a sweep: every result over the axes, and along each of them."""

import datetime
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ._facts import facts, installed
from ._report import Act, Figure, Table, write
from ._style import tidy

if TYPE_CHECKING:
    from ..sweep import Sweep

_MAPS = 6
"""Pairs of axes that are drawn, at most."""


def write_sweep(path: Path, name: str, sweep: "Sweep") -> None:
    """Write the page of `sweep`, called `name`: of every result with one number a member, slices over pairs of axes and
    marginals along all of them. Members that are not finished, or flagged, are left out."""
    good = sweep.finished & (sweep.flag == 0)
    drawn = {k: np.where(good, sweep[k].astype(float), np.nan) for k in sweep.results if sweep[k].shape == good.shape}
    acts = [_overview(sweep, good), *(_act(sweep, k, x) for k, x in drawn.items())]
    now = datetime.datetime.now().astimezone()
    made = f"Made on {now:%Y-%m-%d %H:%M %Z} by brainsim {installed('brainsim')}."
    axes = " x ".join(f"{n} {axis}" for axis, n in sweep.space.dims.items())
    summary = f"`{name}`: {int(sweep.finished.sum())} of {len(sweep.space)} members ({axes}) are finished."
    write(path, acts, Table(("what", "which"), list(facts()), prose=True), title=name, summary=summary, made=made)


def _overview(sweep: "Sweep", good: np.ndarray) -> Act:
    rows = []
    for name, x in sweep.space.members.items():
        span = f"{np.min(x):.4g} to {np.max(x):.4g}" if np.issubdtype(x.dtype, np.number) else ""
        rows.append((name, sweep.space.dims.get(name, len(x)), span, sweep.space.units.get(name, "")))
    results = [(k, str(sweep[k].shape[good.ndim :] or "one number")) for k in sweep.results]
    tables = (
        Table(("parameter", "values", "range", "unit"), rows, prose=True),
        Table(("result", "shape"), results, prose=True),
    )
    merits = {
        "finished": f"{int(sweep.finished.sum())} of {len(sweep.space)}",
        "flagged": str(int(np.count_nonzero(sweep.flag[sweep.finished]))),
    }
    text = ("A result with one number for each member has a section below; arrays are in the store, for `dataset()`.",)
    return Act("The study", text, merits, (), tables, {}, 0.0)


def _act(sweep: "Sweep", name: str, x: np.ndarray) -> Act:
    found = x[np.isfinite(x)]
    if not found.size:
        return Act(name, ("No member is finished and free of flags.",), {}, (), (), {}, 0.0)
    merits = {label: f"{f(found):.4g}" for label, f in (("least", np.min), ("median", np.median), ("largest", np.max))}
    figures, axes = [_marginals(sweep, name, x)], [a for a in sweep.space.dims if a in sweep.space.coordinates]
    figures += [_slice(sweep, name, x, *pair) for pair in itertools.islice(itertools.combinations(axes, 2), _MAPS)]
    return Act(name, (f"`{name}` of {found.size} members.",), merits, tuple(figures), (), {}, 0.0)


def _label(sweep: "Sweep", name: str) -> str:
    unit = sweep.space.units.get(name, "")
    return f"{name} ({unit})" if unit else name


def _marginals(sweep: "Sweep", name: str, x: np.ndarray) -> Figure:
    from matplotlib.figure import Figure as Canvas

    parameters = [k for k, m in sweep.space.members.items() if m.ndim == 1 and np.issubdtype(m.dtype, np.number)]
    canvas = Canvas(figsize=(2.6 * max(len(parameters), 1), 2.4), layout="constrained")
    for ax, parameter in zip(np.atleast_1d(canvas.subplots(1, max(len(parameters), 1), sharey=True)), parameters):
        along = list(sweep.space.dims).index(parameter) if parameter in sweep.space.coordinates else None
        if along is None:
            ax.plot(sweep.space.members[parameter], x.ravel(), ".", markersize=3)
        else:
            rows = np.moveaxis(x, along, 0).reshape(x.shape[along], -1)
            seen = np.isfinite(rows).any(1)
            at, rows = np.asarray(sweep.space.coordinates[parameter])[seen], rows[seen]
            low, middle, high = np.nanquantile(rows, (0.25, 0.5, 0.75), axis=1)
            ax.fill_between(at, low, high, alpha=0.2, linewidth=0)
            ax.plot(at, middle)
        ax.set_xlabel(_label(sweep, parameter))
    canvas.axes[0].set_ylabel(name)
    tidy(canvas)
    return Figure.of(canvas, f"{name}: median and quartiles of the members at each value, or every member.", _marginals)


def _slice(sweep: "Sweep", name: str, x: np.ndarray, first: str, second: str) -> Figure:
    from matplotlib.figure import Figure as Canvas

    dims = list(sweep.space.dims)
    rows = np.moveaxis(x, (dims.index(first), dims.index(second)), (0, 1))
    rows = rows.reshape(*rows.shape[:2], -1)
    counts = np.isfinite(rows).sum(-1)
    mean = np.where(counts > 0, np.nansum(rows, -1) / np.maximum(counts, 1), np.nan)
    canvas = Canvas(figsize=(4.2, 3.2), layout="constrained")
    ax = canvas.subplots()
    a, b = (np.asarray(sweep.space.coordinates[k]) for k in (first, second))
    canvas.colorbar(ax.pcolormesh(a, b, mean.T, shading="nearest", rasterized=True), ax=ax, label=name)
    ax.set(xlabel=_label(sweep, first), ylabel=_label(sweep, second))
    tidy(canvas)
    return Figure.of(canvas, f"{name} over {first} and {second}: mean along the other axes.", _slice)
