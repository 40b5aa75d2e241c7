"""Long runs: a host loop over one compiled chunk, with recordings, checkpoints and progress."""

import abc
import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import jax
import numpy as np

from ..base import Key
from ..core import AbstractInput, Network, State, fitted
from ._checks import checked_inputs, checked_steps, positive
from ._inputs import begun, warn_of_the_past, with_input_states
from ._simulate import continued
from ._solution import Solution


class AbstractSink(abc.ABC):
    """Where the chunks of a `stream` go, such as `bs.Directory`."""

    @abc.abstractmethod
    def open(self, net: Network, state: State, *, resume: bool, about: dict[str, Any]) -> tuple[int, Network, State]:
        """Prepare for writing; the number of chunks already done with the network and state to go on from."""

    @abc.abstractmethod
    def write(self, k: int, solution: Solution, net: Network) -> None:
        """Keep the recordings of chunk `k` and a checkpoint after it. All or nothing."""


Between = Callable[[int, Network, State], Network]
"""`between(k, net, state)` after chunk k - 1: the network for chunk k."""


def stream(
    net: Network,
    *,
    t1: float,
    chunk: float,
    sink: AbstractSink,
    dt: float = 0.1,
    solver: diffrax.AbstractSolver | dict[str, diffrax.AbstractSolver] | None = None,
    key: Key | None = None,
    state: State | None = None,
    inputs: dict[str, Any] | None = None,
    saveat: Sequence[Any] = (),
    between: Between | None = None,
    resume: bool = False,
    progress: bool = True,
) -> State:
    """Run `net` to `t1` in chunks of `chunk` ms, each written to `sink` before the next: constant memory.

    The result equals that of `simulate` in one piece, bit for bit; so does a run that was killed at any moment and
    started again with `resume=True` and the same arguments.

    **Arguments:** as in `simulate`, and

    - `chunk`: length of a chunk (ms), a multiple of `dt` and of the steps of the recordings.
    - `sink`: e.g. `bs.Directory("results/run1")`.
    - `between`: `between(k, net, state) -> net`, called before chunk k >= 1: parameter changes, stopping (raise).
    - `resume`: go on after the last complete chunk in `sink`.
    - `progress`: show a progress bar with the simulated time and the firing rates of the last chunk.

    **Returns:** the final state.

    **Raises:** what `simulate` and the sink raise; complete chunks stay readable.
    """
    dt, chunk = positive("dt", dt), positive("chunk", chunk)
    per_chunk = checked_steps(0.0, chunk, dt, None)
    warn_of_the_past("stream", net, inputs or {}, state)
    state = fitted(net, begun("stream", net, state, key, dt))
    start = int(state.n)
    n_steps = checked_steps(None, t1, dt, state)
    inputs = checked_inputs(net, inputs or {}, n_steps=n_steps)
    state = with_input_states(net, state, inputs)
    about = {
        "dt": dt,
        "chunk": chunk,
        "t0": start * dt,
        "t1": float(t1),
        "key": np.asarray(jax.random.key_data(state.key)).tolist(),
    }
    done, net, state = sink.open(net, state, resume=resume, about=about)
    total = -(-n_steps // per_chunk)
    bar = _bar() if progress else None
    with bar or contextlib.nullcontext():
        before: Any = min(done * per_chunk, n_steps) * dt
        task = bar.add_task("simulating", total=n_steps * dt, completed=before, rates="") if bar else None
        for k in range(done, total):
            if k and between is not None:
                net = between(k, net, state)
            first, last = k * per_chunk, min((k + 1) * per_chunk, n_steps)
            rows = {name: _rows(x, first, last) for name, x in inputs.items()}
            until = (start + last) * dt
            sol = continued(net, t1=until, dt=dt, solver=solver, state=state, inputs=rows, saveat=saveat)
            sink.write(k, sol, net)
            state = sol.state
            if bar and task is not None:
                rates = "  ".join(f"{name} {float(rate):.1f} Hz" for name, rate in sol.rates.items())
                bar.update(task, completed=last * dt, rates=rates)
    return state


def _rows(x: Any, first: int, last: int) -> Any:
    return x if isinstance(x, AbstractInput) or x.ndim < 2 else x[first:last]


def _bar() -> Any:
    """A progress bar of rich, which is loaded where something is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} ms")
    # in a notebook rich needs ipywidgets; without them, plain text
    console = Console(stderr=True, force_jupyter=None if importlib.util.find_spec("ipywidgets") else False)
    return Progress(*shown, TimeRemainingColumn(), TextColumn("{task.fields[rates]}"), console=console)
