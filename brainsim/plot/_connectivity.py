"""Who is connected to whom."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import WiredGapJunctions, WiredProjection, drawn_weight
from ..events import CSR, Dense, DrawnRows
from ._axes import axes, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXELS = 400
"""Rows and columns of the picture at most: beyond, each pixel is a block of pairs."""


def _synapses(edge: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int, int]:
    """pre, post, weight (None: one for all) of every synapse, and the numbers of units."""
    route = getattr(edge, "route", None)
    if route is None or getattr(edge, "connect", None) is None:
        raise TypeError(f"expected an edge of a network, such as net.edges['E']; got {type(edge).__name__}.")
    edge = edge.by_synapse("edge")
    graph = edge.connect
    if isinstance(graph, DrawnRows):
        graph, drawn = graph.to_csr(drawn_weight(edge.weight))
        weight = np.asarray(drawn if edge.connect.law != "one" else edge.weight)
    else:
        weight = np.asarray(edge.weight)
    if isinstance(graph, Dense):
        pre, post = (x.ravel() for x in np.indices((graph.n_pre, graph.n_post)))
        return pre, post, weight.ravel(), graph.n_pre, graph.n_post
    post = np.asarray(graph.indices).ravel()
    if isinstance(graph, CSR):
        pre = np.repeat(np.arange(graph.n_pre), np.diff(np.asarray(graph.indptr)))
    else:
        pre = np.repeat(np.arange(graph.n_pre), graph.indices.shape[1])
    # Post indices are counted in the whole population; an edge to a view of it shows that view.
    start, stop, step = route.units_post
    return (
        pre,
        (post - start) // step,
        weight.ravel() if weight.ndim else None,
        graph.n_pre,
        len(range(start, stop, step)),
    )


def connectivity(edge: WiredProjection | WiredGapJunctions, *, ax: "Axes | None" = None, **style: Any) -> "Axes":
    """The matrix of an edge, pre units down and post units to the right.

    Small graphs show the weight of every pair (summed over multapses), in the unit of the weight. Beyond 400 units each
    pixel is a block of pairs and shows the number of synapses per pair.

    **Arguments:** `edge`: e.g. `net.edges["E"]`; `style`: passed to `Axes.imshow`.
    """
    ax = axes(ax)
    pre, post, weight, n_pre, n_post = _synapses(edge)
    exact = n_pre <= PIXELS and n_post <= PIXELS
    bins = [np.linspace(0, n, min(n, PIXELS) + 1) for n in (n_pre, n_post)]
    amount = np.broadcast_to(edge.weight, pre.shape) if weight is None else weight
    image = np.histogram2d(pre + 0.5, post + 0.5, bins=bins, weights=amount if exact else None)[0]
    if not exact:
        image /= np.outer(np.diff(bins[0]), np.diff(bins[1]))
    top = float(np.abs(image).max(initial=0.0)) or 1.0
    signed = bool((image < 0).any())
    look = {"cmap": "RdBu_r" if signed else "Greys", "vmin": -top if signed else 0.0, "vmax": top}
    style = {"interpolation": "nearest", "aspect": "auto", "extent": (0, n_post, n_pre, 0)} | look | style
    shown = ax.imshow(image, **style)
    ax.figure.colorbar(shown, ax=ax, label="weight" if exact else "synapses per pair")
    ax.set(xlabel="post unit", ylabel="pre unit")
    return ax


def degrees(edge: WiredProjection | WiredGapJunctions, *, ax: "Axes | None" = None, **style: Any) -> "Axes":
    """How many synapses a unit sends (out-degree, per pre unit) and receives (in-degree, per post unit), as histograms.

    **Arguments:** `edge`: e.g. `net.edges["E"]`; `style`: passed to `Axes.stairs`.
    """
    ax = axes(ax)
    pre, post, _, n_pre, n_post = _synapses(edge)
    for k, (label, ids, n) in enumerate((("out-degree", pre, n_pre), ("in-degree", post, n_post))):
        count = np.bincount(ids, minlength=n)
        low, high = int(count.min(initial=0) if not n else count.min()), int(count.max(initial=0))
        width = max(1, (high - low + 1) // 40)
        bins = np.arange(low, high + 1 + width, width) - 0.5
        name = f"{label}, mean {count.mean():.4g}" if n else label
        ax.stairs(np.histogram(count, bins)[0], bins, **({"color": colour(k), "label": name, "linewidth": 1.2} | style))
    ax.set(xlabel="synapses per unit", ylabel="units")
    ax.legend(frameon=False)
    return ax
