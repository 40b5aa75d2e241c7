"""What a fit returns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ._sensitivity import Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class FitError(RuntimeError):
    """No start of a fit ever gave a finite loss and gradient."""


class Fitted:
    """The best parameters of a fit, and how it got there.

    - `parameters`: the best values by name; `net`: the model with them; `loss`: theirs.
    - `start`: number of the start they came from; `ends`: name -> the best values of every start, (starts, ...);
      `losses`: (starts,), the loss of each.
    - `history`: (steps, starts), the loss at every step where it was looked at; `seconds`: (steps,), since the first.
    - `sensitivity`: bounds and covariance at the optimum (`Sensitivity`), where the loss is given by residuals; else
      None.
    - `free`: the further unknowns at the optimum, such as the borders of multiple shooting.
    - `reports`: what went wrong on the way; `stopped`: why it ended ("steps", "seconds", "patience" or
      "converged").
    """

    def __init__(
        self,
        net: Any,
        parameters: dict[str, np.ndarray],
        loss: float,
        *,
        start: int,
        ends: dict[str, np.ndarray],
        losses: np.ndarray,
        history: np.ndarray,
        seconds: np.ndarray,
        sensitivity: Sensitivity | None,
        free: Any,
        reports: list[str],
        stopped: str,
    ) -> None:
        self.net, self.parameters, self.loss, self.start = net, parameters, loss, start
        self.ends, self.losses, self.history, self.seconds = ends, losses, history, seconds
        self.sensitivity, self.free, self.reports, self.stopped = sensitivity, free, reports, stopped

    @property
    def covariance(self) -> np.ndarray | None:
        """Covariance of the errors of the parameters, in the order of `sensitivity.labels`."""
        return None if self.sensitivity is None else self.sensitivity.covariance

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {_short(p)}" for name, p in self.parameters.items())
        return f"Fitted(loss={self.loss:.5g}, {{{shown}}}, {len(self.history)} steps, stopped: {self.stopped})"

    def __rich__(self) -> Table:
        if self.sensitivity is not None:
            table = self.sensitivity.__rich__()
        else:
            table = Table("parameter", "value")
            for name, p in self.parameters.items():
                table.add_row(name, _short(p))
        table.title = f"loss {self.loss:.5g} after {len(self.history)} steps ({self.stopped})"
        return table

    def show(self) -> None:
        """Print the table of the parameters and their bounds."""
        Console().print(self)

    def plot(self, truth: Mapping[str, float] | None = None, ax: "Axes | None" = None) -> "Axes":
        """The loss of every start against the step, the best one in colour; matplotlib.

        **Arguments:** `truth`: known values by name, whose relative errors go into the title; `ax`: None for a new
        figure.
        """
        from ..plot._axes import COLOURS, axes

        ax = axes(ax)
        steps = np.arange(1, len(self.history) + 1)
        for k in range(self.history.shape[1]):
            if k != self.start:
                ax.plot(steps, self.history[:, k], color="0.8", linewidth=0.8)
        ax.plot(steps, self.history[:, self.start], color=COLOURS[0], label=f"start {self.start}")
        ax.set(xlabel="step", ylabel="loss", yscale="log" if np.nanmin(self.history) > 0 else "linear")
        if truth:
            errors = (f"{k} {100 * abs(float(self.parameters[k]) / v - 1):.2g} %" for k, v in truth.items())
            ax.set_title("error: " + ", ".join(errors), fontsize="small")
        return ax


def _short(p: Any) -> str:
    p = np.asarray(p)
    return f"{p:.5g}" if p.ndim == 0 else f"array of shape {p.shape}, mean {p.mean():.5g}"
