"""What a run did: raster, traces and population rates."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import unknown
from ..core import Units
from ..simulate import Solution
from ._axes import LEGEND_ABOVE, axes, colour, span, window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def raster(
    sol: Solution,
    node: str | Sequence[str],
    *,
    units: Any = None,
    groups: Mapping[str, slice] | None = None,
    t: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
    **style: Any,
) -> "Axes":
    """A dot for every spike of `node`: time (ms) against the unit's number.

    **Arguments:**

    - `sol`: a solution that recorded `Spikes(node)`.
    - `node`: a population, or several, e.g. `["E", "I"]`, drawn from the bottom up, each in its colour.
    - `units`: which units: numbers, a slice, a mask or text such as `":10"`; None: all that were recorded. Units given
      by number or mask are drawn on rows 0, 1, ...
    - `groups`: label -> slice of unit numbers of a single node, each drawn in its colour, e.g.
      `{"exc": slice(3200), "inh": slice(3200, None)}`.
    - `t`: (start, stop) in ms; None: the whole run.
    - `style`: passed to `Axes.plot`, e.g. `markersize=2`.

    **Returns** the axes; one line object per population or group holds the points drawn.
    """
    ax = axes(ax)
    low, high = window(t, *span(sol))
    dots: dict[str, Any] = {"marker": ".", "markersize": 2.0, "markeredgewidth": 0.0, "linestyle": "none"}
    bottom, first = 0, len(ax.lines)
    for name, each in _labelled("raster", node, groups).items():
        train, recorded, size = sol.spikes(name), sol.units_of(f"{name}.spikes"), _size(sol, f"{name}.spikes")
        chosen = Units.of("raster: units", units)
        by_number = chosen is not None and chosen.span is None
        shown = recorded if chosen is None else np.asarray(chosen.within("raster: units", name, size), int)
        missing = np.setdiff1d(shown, recorded)
        if missing.size:
            raise ValueError(f"raster: unit {missing[0]} of {name!r} was not recorded. Ask for it in Spikes.")
        row = np.full(size, -1)
        row[shown] = bottom + (np.arange(shown.size) if by_number else shown)
        inside = (train.t >= low) & (train.t <= high) & (row[train.i] >= 0)
        times, ids = train.t[inside], train.i[inside]
        for label, part in each.items():
            here = _member(f"raster: groups[{label!r}]", part, name, size)[ids]
            own: dict[str, Any] = {"color": colour(len(ax.lines)), "label": label, "rasterized": True}
            ax.plot(times[here], row[ids[here]], **(own | dots | style))
        if row.max(initial=-1) >= 0:
            ax.set_ylim(ax.get_ylim()[0] if bottom else row[shown].min() - 0.5, row.max() + 0.5)
        bottom += shown.size if by_number else size
    ax.set(xlim=(low, high), xlabel="time (ms)", ylabel="unit")
    if len(ax.lines) - first > 1:
        ax.legend(markerscale=10 / ax.lines[first].get_markersize(), **LEGEND_ABOVE)
    return ax


def _size(sol: Solution, key: str) -> int:
    """How many units the node of a recording has."""
    return sol.sizes[sol.origins[key].node]


def _member(where: str, part: Any, name: str, size: int) -> np.ndarray:
    """A mask of the units of `part`."""
    member, chosen = np.zeros(size, bool), Units.of(where, part)
    member[slice(None) if chosen is None else list(chosen.within(where, name, size))] = True
    return member


def _labelled(what: str, node: str | Sequence[str], groups: Mapping[str, slice] | None) -> dict[str, Mapping[str, Any]]:
    """For every node to draw, its parts by label."""
    if isinstance(node, str):
        return {node: groups or {node: slice(None)}}
    if groups is not None:
        raise ValueError(f"{what}: groups are parts of one population; got the populations {list(node)}. Name one.")
    return {name: {name: slice(None)} for name in node}


def traces(
    sol: Solution,
    key: str,
    *,
    columns: Any = None,
    t: tuple[float, float] | None = None,
    offset: float = 0.0,
    threshold: float | None = None,
    ylabel: str | None = None,
    ax: "Axes | None" = None,
    **style: Any,
) -> "Axes":
    """A recorded variable against time (ms), one line for each recorded unit.

    **Arguments:**

    - `key`: the recording, e.g. `"P.v"` of `Trace("P.v", units=(0, 1))`.
    - `columns`: which of the recorded units, counted within the recording and given as `units` of `raster`; None: all.
    - `t`: (start, stop) in ms; None: the whole run.
    - `offset`: vertical distance between successive lines, in the variable's unit.
    - `threshold`: draws a dotted line there (for each trace, if they are offset).
    - `style`: passed to `Axes.plot`.
    """
    ax = axes(ax)
    values = np.asarray(sol[key])
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ValueError(
            f"traces: {key!r} has shape {values.shape}; expected (n_samples, n). Take one run of the batch first."
        )
    chosen = Units.of("traces: columns", columns)
    shown = values if chosen is None else values[:, list(chosen.within("traces: columns", key, values.shape[1]))]
    times = sol.times(key)
    low, high = window(t, *span(sol))
    inside = (times >= low) & (times <= high)
    for k in range(shown.shape[1]):
        style_k = {"color": colour(k), "linewidth": 0.9} | style
        ax.plot(times[inside], shown[inside, k] + k * offset, **style_k)
        if threshold is not None and (offset or k == 0):
            ax.axhline(threshold + k * offset, color="0.6", linewidth=0.7, linestyle=":")
    variable = key.rpartition(".")[2]
    ax.set(
        xlim=(low, high),
        xlabel="time (ms)",
        ylabel=ylabel or ("membrane potential (mV)" if variable == "v" else variable),
    )
    return ax


def _binned(sol: Solution, node: str, part: slice, bin_ms: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins (ms) and the mean rate per unit in each (Hz)."""
    start, stop = span(sol)
    per = max(1, round(bin_ms / sol.dt))
    listed, counted = f"{node}.spikes", f"{node}.rate"
    if listed not in sol.recordings and counted in sol.recordings:
        per = max(1, round(per / sol.every[counted])) * sol.every[counted]
    n = sol.n_steps // per
    if n < 1:
        raise ValueError(f"rates: bin_ms = {bin_ms:g} is longer than the run, {stop - start:g} ms. Take shorter bins.")
    edges = start + np.arange(n + 1) * per * sol.dt
    seconds = per * sol.dt * 1e-3
    if listed in sol.recordings:
        train = sol.spikes(node)
        member = _member("rates: groups", part, node, _size(sol, listed))
        size = np.count_nonzero(member[sol.units_of(listed)])
        # A spike time is the end of its step: step k ends at (k + 1) dt and belongs to bin k // per.
        step = np.rint((train.t - start) / sol.dt).astype(int) - 1
        use = member[train.i] & (step < n * per)
        count = np.bincount(step[use] // per, minlength=n)
        return edges, count / (max(size, 1) * seconds)
    if counted not in sol.recordings or part != slice(None):
        known = [k.rpartition(".")[0] for k in sol.recordings if sol.origins[k].kind in ("Spikes", "Rate")]
        raise ValueError(
            f"rates: {unknown('recording of spikes', node, known)} Record Spikes({node!r}), or Rate({node!r}) for "
            "whole populations."
        )
    together = per // sol.every[counted]
    return edges, np.asarray(sol[counted])[: n * together].reshape(n, together).mean(1)


def rates(
    sol: Solution,
    node: str | Sequence[str],
    *,
    groups: Mapping[str, slice] | None = None,
    bin_ms: float = 5.0,
    t: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
    **style: Any,
) -> "Axes":
    """Population rate (Hz per unit) against time (ms), in bins of `bin_ms` (rounded to whole steps, or to
    windows of the `Rate`).

    **Arguments:** `sol`: a solution that recorded `Spikes(node)` or `Rate(node)`; `node`: a population, or several,
    each in its colour; `groups`: label -> slice of unit numbers of a single node; `t`: (start, stop) in ms; `style`:
    passed to `Axes.stairs`.
    """
    ax = axes(ax)
    low, high = window(t, *span(sol))
    before = len(ax.patches)
    for name, each in _labelled("rates", node, groups).items():
        for label, part in each.items():
            edges, rate = _binned(sol, name, part, bin_ms)
            first, last = max(np.searchsorted(edges, low, "right") - 1, 0), np.searchsorted(edges, high)
            own = {"color": colour(len(ax.patches)), "label": label, "linewidth": 1.0, "baseline": None}
            ax.stairs(rate[first:last], edges[first : last + 1], **(own | style))
    ax.set(xlim=(low, high), xlabel="time (ms)", ylabel="rate (Hz)")
    ax.set_ylim(bottom=0.0)
    if len(ax.patches) - before > 1:
        ax.legend(**LEGEND_ABOVE)
    return ax
