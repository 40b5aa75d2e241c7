"""The phase plane of a two-variable unit."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import float_dtype, unknown
from ..core import AbstractUnit, Clock
from ..simulate import Solution
from ._axes import axes, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def phase_plane(
    unit: AbstractUnit,
    x: str,
    y: str,
    *,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    inp: float = 0.0,
    fixed: dict[str, float] | None = None,
    sol: Solution | None = None,
    node: str | None = None,
    column: int = 0,
    points: int = 200,
    ax: "Axes | None" = None,
) -> "Axes":
    """Nullclines (dx/dt = 0, dy/dt = 0) and flow of `unit` in the plane of its variables `x` and `y`.

    **Arguments:**

    - `unit`: parameters of shape (), e.g. `bs.AdEx()`; `x`, `y`: names of two of its flowing variables.
    - `xlim`, `ylim`: ranges, in the variables' units; `inp`: the input current (pA).
    - `fixed`: values of further variables; those not named keep their initial value.
    - `sol`, `node`, `column`: a solution that recorded `Trace(f"{node}.{x}")` and `Trace(f"{node}.{y}")`; its
      trajectory of the `column`-th recorded unit is drawn on top.
    - `points`: the field is computed on points x points.
    """
    ax = axes(ax)
    xs, ys = np.linspace(*xlim, points), np.linspace(*ylim, points)
    dx, dy = _field(unit, x, y, xs, ys, inp, fixed or {})
    coarse = slice(None, None, max(1, points // 40))
    ax.streamplot(
        xs[coarse], ys[coarse], dx[coarse, coarse], dy[coarse, coarse],
        color="0.78", density=1.1, linewidth=0.6, arrowsize=0.7,
    )  # fmt: skip
    for k, (name, field) in enumerate(((x, dx), (y, dy))):
        if np.nanmin(field) < 0 < np.nanmax(field):
            ax.contour(xs, ys, field, levels=[0.0], colors=[colour(k)], linewidths=1.4)
        ax.plot([], [], color=colour(k), label=f"d{name}/dt = 0")
    if sol is not None:
        where = [f"{node}.{name}" for name in (x, y)]
        path = [np.asarray(sol[key]).reshape(sol.n_steps // sol.every[key], -1)[:, column] for key in where]
        ax.plot(*path, color="black", linewidth=0.9, label="trajectory")
    ax.set(xlim=xlim, ylim=ylim, xlabel=x, ylabel=y)
    ax.legend(frameon=False, loc="best")
    return ax


def _field(
    unit: AbstractUnit, x: str, y: str, xs: Any, ys: Any, inp: float, fixed: dict
) -> tuple[np.ndarray, np.ndarray]:
    """dx/dt and dy/dt on the grid, each of shape (len(ys), len(xs))."""
    gx, gy = np.meshgrid(xs, ys)
    n = gx.size
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(unit)} - {()}
    if shapes:
        raise ValueError(
            f"phase_plane: {type(unit).__name__} has parameters of shapes {sorted(shapes)}; expected one unit, shape "
            "()."
        )
    state, z = unit.init(n, Clock.of("unit", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0)))
    for name in (x, y, *fixed):
        if name not in state:
            raise ValueError(f"phase_plane: {unknown(f'variable of {type(unit).__name__}', name, state)}")
    place = {name: np.full(n, value) for name, value in fixed.items()} | {x: gx.ravel(), y: gy.ravel()}
    state = state | {name: jnp.asarray(value, float_dtype()) for name, value in place.items()}
    field = unit.vector_field(state, z, jnp.full(n, inp, float_dtype()))
    return tuple(np.broadcast_to(np.asarray(field[name]), (n,)).reshape(gx.shape) for name in (x, y))  # pyright: ignore
