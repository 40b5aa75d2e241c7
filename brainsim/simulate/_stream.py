"""Long runs: a host loop over one compiled chunk, with recordings, checkpoints and progress."""

import abc
import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Literal

import diffrax
import jax
import numpy as np

from ..base import Key
from ..core import AbstractInput, Network, State, fitted
from ..solvers import every
from ._checks import checked_inputs, checked_recordings, checked_solvers, checked_steps, positive, strong
from ._describe import describe
from ._inputs import begun, warn_of_the_past, with_input_states
from ._observation import with_recording_states
from ._simulate import continued
from ._solution import Solution

Resume = Literal[False, True, "stored", "given"]


class AbstractSink(abc.ABC):
    """Where the chunks of a `stream` go, such as `bs.Directory`."""

    @abc.abstractmethod
    def open(self, net: Network, state: State, *, resume: Resume, about: dict[str, Any]) -> tuple[int, Network, State]:
        """Prepare for writing; the number of chunks already done with the network and state to go on from. `about` is
        what the run was called with: two runs with the same network, state and `about` are the same run."""

    @abc.abstractmethod
    def write(self, k: int, solution: Solution, net: Network) -> None:
        """Keep the recordings of chunk `k` and a checkpoint after it. All or nothing."""

    def close(self) -> None:  # noqa: B027  (a sink may have nothing to close)
        """Called when the run has ended, in whatever way."""


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
    resume: Resume = False,
    progress: bool = True,
) -> State:
    """Run `net` to `t1` in chunks of `chunk` ms, each written to `sink` before the next: constant memory.

    The result equals that of `simulate` in one piece, bit for bit; so does a run that was killed at any moment and
    started again with `resume=True` and the same arguments.

    **Arguments:** as in `simulate`, and

    - `chunk`: length of a chunk (ms), a multiple of `dt` and of the steps of the recordings.
    - `sink`: e.g. `bs.Directory("results/run1")`.
    - `between`: `between(k, net, state) -> net`, called before chunk k >= 1: parameter changes, stopping (raise).
    - `resume`: go on after the last complete chunk in `sink`, with the same arguments, or a larger `t1`; True compares
      parameters and initial state too. If they differ, "stored" goes on with the parameters of the stored run, and
      "given" with those of `net` from here on.
    - `progress`: show a progress bar with the simulated time and the firing rates of the last chunk.

    **Returns:** the final state.

    **Raises:** what `simulate` and the sink raise; complete chunks stay readable.
    """
    resume = resume if isinstance(resume, str) else bool(resume)
    if resume not in (False, True, "stored", "given"):
        raise ValueError(f"stream: resume is {resume!r}; expected False, True, 'stored' or 'given'.")
    net = strong(net)
    dt, chunk = positive("dt", dt), positive("chunk", chunk)
    per_chunk = checked_steps(0.0, chunk, dt, None)
    warn_of_the_past("stream", net, inputs or {}, state)
    solvers = checked_solvers(net, solver)
    state = begun("stream", net, state, key, dt)
    state = fitted(net, state, {name: every(one) for name, one in solvers.items()})
    start = int(state.n)
    n_steps = checked_steps(None, t1, dt, state)
    inputs = checked_inputs(net, inputs or {}, n_steps=n_steps)
    _check_recordings(net, saveat, n_steps, per_chunk)
    state = with_recording_states(net.known(dt), with_input_states(net, state, inputs), saveat)
    rows = {name: x for name, x in inputs.items() if _by_step(x)}
    about = {
        "dt": dt,
        "chunk": chunk,
        "t0": start * dt,
        "t1": float(t1),
        "key": np.asarray(jax.random.key_data(state.key)).tolist(),
        "solver": describe(solvers),
        "saveat": _described(saveat),
        "inputs": describe({name: "one row per step" if name in rows else x for name, x in inputs.items()}),
        "rows": {what: text for name, x in rows.items() for what, text in _pieces(name, x, per_chunk).items()},
    }
    total = -(-n_steps // per_chunk)
    bar = _bar() if progress else None
    with contextlib.closing(sink), contextlib.ExitStack() as stack:
        done, net, state = sink.open(net, state, resume=resume, about=about)
        if bar:
            stack.enter_context(bar)
        before: Any = min(done * per_chunk, n_steps) * dt
        task = bar.add_task("simulating", total=n_steps * dt, completed=before, rates="") if bar else None
        for k in range(done, total):
            if k and between is not None:
                net = _strong(between(k, net, state), net)
            first, last = k * per_chunk, min((k + 1) * per_chunk, n_steps)
            given = {name: x[first:last] if name in rows else x for name, x in inputs.items()}
            until = (start + last) * dt
            sol = continued(net, t1=until, dt=dt, solver=solver, state=state, inputs=given, saveat=saveat)
            sink.write(k, sol, net)
            state = sol.state
            if bar and task is not None:
                rates = "  ".join(f"{name} {float(rate):.1f} Hz" for name, rate in sol.rates.items())
                bar.update(task, completed=last * dt, rates=rates)
    return state


def _check_recordings(net: Network, saveat: Sequence[Any], n_steps: int, per_chunk: int) -> None:
    """Raise for what does not fit a whole chunk or the last one, before the first is run."""
    if n_steps >= per_chunk:
        checked_recordings(net, saveat, per_chunk)
    last = n_steps % per_chunk
    if last:
        try:
            checked_recordings(net, saveat, last)
        except ValueError as e:
            raise ValueError(f"stream: the last chunk has {last} steps. {e}") from None


def _by_step(x: Any) -> bool:
    return not isinstance(x, AbstractInput) and x.ndim == 2


def _pieces(name: str, x: Any, per_chunk: int) -> dict[str, str]:
    """The rows of every chunk, described."""
    x = np.asarray(x)
    cuts = range(0, len(x), per_chunk)
    pieces = {f"{name!r}, steps {k} to {min(k + per_chunk, len(x))}": x[k : k + per_chunk] for k in cuts}
    return describe(pieces)


def _described(saveat: Sequence[Any]) -> dict[str, str]:
    """What is recorded. The room for spikes is left out: it may be raised after it did not suffice."""
    described = describe({r.key: r for r in saveat})
    return {path: entry for path, entry in described.items() if not path.endswith(".max_rate")}


def _strong(net: Network, before: Network) -> Network:
    return net if net is before else strong(net)


def _bar() -> Any:
    """A progress bar of rich, which is loaded where something is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} ms")
    # in a notebook rich needs ipywidgets; without them, plain text
    console = Console(stderr=True, force_jupyter=None if importlib.util.find_spec("ipywidgets") else False)
    return Progress(*shown, TimeRemainingColumn(), TextColumn("{task.fields[rates]}"), console=console)
