"""Axes to draw in."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f5a8c", "#c8502d", "#3f7f52", "#8a5aa8", "#b08a1e", "#4a4a4a")
"""Blue, red, green, violet, ochre, grey: told apart by the colour-blind in this order."""

LEGEND_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 4, "frameon": False, "borderaxespad": 0.2}
"""Where a legend hides nothing: above the axes, at the left."""


def axes(ax: "Axes | None") -> "Axes":
    """`ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as e:
        raise ImportError("brainsim.plot needs matplotlib: pip install 'brainsim[plot]'.") from e
    return pyplot.subplots(layout="constrained")[1]


def colour(k: int) -> str:
    """The k-th colour of the house."""
    return COLOURS[k % len(COLOURS)]


def window(t: tuple[float, float] | None, first: float, last: float) -> tuple[float, float]:
    """The part of [first, last] (ms) to show; ValueError for an empty one."""
    low, high = (first, last) if t is None else (float(t[0]), float(t[1]))
    if not low < high:
        raise ValueError(f"t = {t!r} is empty; expected (start, stop) in ms with start < stop.")
    return low, high


def span(sol: Any) -> tuple[float, float]:
    """Start and end of a run (ms)."""
    start = sol.first_step * sol.dt
    return start, start + sol.n_steps * sol.dt
