"""Whether a step is short enough: every cell alone, at the step and at half of it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..base import as_text
from ..core import Network, Population
from ._saveat import Spikes
from ._simulate import simulate

_ENOUGH = 0.02  # relative error of an interval that is passed without a word


@dataclasses.dataclass(frozen=True)
class StepCheck:
    """Spikes and intervals of every population alone at `dt` and at half of it; prints as a table."""

    dt: float
    rows: list[dict[str, Any]]
    warnings: list[str]

    @property
    def fine(self) -> bool:
        """Whether nothing is warned of."""
        return not self.warnings

    def __rich__(self) -> Any:
        from rich.console import Group  # loaded where something is shown
        from rich.table import Table

        table = Table(title=f"cells alone at dt = {self.dt:g} ms and at half of it")
        for column in self.rows[0] if self.rows else ():
            table.add_column(column, justify="left" if column == "name" else "right")
        for row in self.rows:
            table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
        return Group(table, *(f"[yellow]warning:[/] {w}" for w in self.warnings))

    __str__ = as_text
    __repr__ = __str__


def check_dt(
    net: Network, dt: float = 0.1, *, t1: float = 1000.0, solver: Any = None, inputs: dict[str, Any] | None = None
) -> StepCheck:
    """Run every population of `net` alone, without edges and noise, for `t1` ms at `dt` and at `dt / 2`, and compare.

    What a step cannot resolve (a fast gate, a calcium current, the upstroke of a spike) moves spikes without a flag. A
    method of order p has at `dt` the error of the difference times `2^p / (2^p - 1)`; p = 1 is assumed, that of
    the default where gates and v drive one another.

    **Arguments:** `solver`, `inputs`: as in `simulate`; the cells also have their `i_e`. A cell that needs synapses to
    fire is given a current here, `inputs={"P": 200.0}`.

    **Returns:** a `StepCheck`: by population the number of spikes and the mean interval (ms) at both steps and the
    estimated error of the worst unit (%), with a warning where that is above 2 %, or where some unit spikes in one of
    the runs only; a population that is silent in both is named, as nothing is known of it.
    """
    rows, warned = [], []
    for name, node in net.nodes.items():
        if not isinstance(node, Population) or not node.spiking:
            continue
        quiet = eqx.tree_at(lambda p: p.noise, node, None, is_leaf=lambda x: x is None)
        alone, given = Network({name: quiet}), {k: x for k, x in (inputs or {}).items() if k == name}
        one = solver.get(name) if isinstance(solver, dict) else solver
        counts, intervals = zip(*(_spikes(alone, h, t1, one, given, node.size) for h in (dt, dt / 2)), strict=True)
        coarse, fine = (int(c.sum()) for c in counts)
        known = (counts[0] > 1) & (counts[1] > 1)
        off = 2 * np.abs(intervals[0] / intervals[1] - 1)[known]
        error = float(off.max(initial=0.0))
        means = [float(x[known].mean()) if known.any() else float("nan") for x in intervals]
        rows.append(
            {"name": name, "spikes": coarse, "spikes at dt/2": fine}
            | {"interval (ms)": means[0], "interval at dt/2": means[1], "error (%)": 100 * error}
        )
        unit = type(node.unit).__name__
        lonely = np.flatnonzero((counts[0] == 0) != (counts[1] == 0))
        if not coarse and not fine:
            warned.append(f"{name} ({unit}) is silent alone: give it a current, inputs={{{name!r}: ...}} (pA)")
        elif lonely.size:
            warned.append(f"{name} ({unit}): unit {lonely[0]} spikes at one of the two steps only; take a smaller dt")
        elif error > _ENOUGH:
            warned.append(
                f"{name} ({unit}): intervals at dt = {dt:g} ms are about {100 * error:.2g} % off; for 1 % take dt <= "
                f"{dt * 0.01 / error:.2g} ms, Substep(Propagator(), {int(np.ceil(error / 0.01))}) for this node, "
                "or a solver of higher order"
            )
    return StepCheck(dt, rows, warned)


def _spikes(net: Network, dt: float, t1: float, solver: Any, inputs: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of spikes and mean interval (ms) of every unit."""
    (name,) = net.nodes
    key = jax.random.key(0)  # of initial values: the same in both runs
    sol = simulate(net, t1=t1, dt=dt, solver=solver, key=key, inputs=inputs, saveat=[Spikes(name, max_rate=1e3)])
    t, i = sol.spikes(name)
    counts = np.bincount(i, minlength=n)
    first, last = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(first, i, t)
    np.maximum.at(last, i, t)
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts, (last - first) / (counts - 1)
