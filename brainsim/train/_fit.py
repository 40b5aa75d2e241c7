"""`fit`: the named parameters of a network that make a loss least."""

import contextlib
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..base import Key
from ._fitted import FitError, Fitted
from ._log import Log
from ._methods import CMAES
from ._parameters import Space
from ._problem import FREE, Problem, starting_points
from ._residuals import AbstractResiduals
from ._runs import Populations, Steps
from ._sensitivity import sensitivity


def fit(
    net: Any,
    loss: Callable[..., Any] | AbstractResiduals,
    parameters: Mapping[str, Any],
    *,
    method: optax.GradientTransformation | optx.AbstractGaussNewton | CMAES | None = None,
    steps: int = 300,
    seconds: float | None = None,
    starts: int | Mapping[str, Any] = 1,
    spread: float = 1.0,
    key: Key | None = None,
    batches: Callable[[int], Any] | None = None,
    last: bool = False,
    patience: int | None = None,
    tol: float = 1e-4,
    checkpoint: str | Path | None = None,
    every: int = 50,
    resume: bool = False,
    progress: bool = True,
) -> Fitted:
    """Find the values of the named parameters of `net` for which `loss` is least.

    **Arguments:**

    - `net`: a `Network`, or any PyTree that `loss` understands (a network with the equinox modules around it).
    - `loss`: `loss(net)`, a scalar; or residuals (`LeastSquares`, `MultipleShooting`).
    - `parameters`: name -> bounds, one line each: `(low, high)`, `Log(low, high)`, `Softplus()`, `Identity()`. Names
      are dotted paths, e.g. `"P.unit.tau_m"`, `"EE.weight"`; `bs.train.parameters(net)` lists them.
    - `method`: any optax transformation (default `optax.adam(0.05)`; schedules go into it), which moves the free
      coordinates of the parameters; for residuals also `optimistix.LevenbergMarquardt(rtol, atol)` and its relatives;
      or `CMAES()`, without derivatives. On a busy machine set `OPENBLAS_NUM_THREADS=1` for the former: their many
      small decompositions gain nothing from threads, and threads that wait for each other cost tenfold.
    - `steps`, `seconds`: at most so many; the first step, which compiles, is not counted in `seconds`.
    - `starts`: how many points to start from, all in one batched run: the values in `net`, and others drawn with `key`,
      uniform over the bounds for `spread` = 1, over half the way to them for 0.5. Or the starts themselves: name ->
      array (starts, ...).
    - `batches`: `batches(k)` is what step k passes to the loss after the network, e.g. a mini-batch or a key. A
      function of k, so that a resumed fit sees the same.
    - `last`: return the last point instead of that with the least loss, which with mini-batches is that with the
      easiest batch. For optax.
    - `patience`: stop when no start has become better by a fraction `tol` for so many steps.
    - `checkpoint`: a folder, in which the state is kept every `every` steps; with `resume=True` a fit that was killed
      goes on from there, bit for bit as if nothing had happened.
    - `progress`: show a progress bar with the loss.

    A loss or a gradient that is not finite is reported with parameter and step; the start goes back to its last good
    point and takes half the step.

    **Warns:** UserWarning of the first of the `reports`: of parameters by which the gradient is exactly zero at every
    start, with what to use instead; of parameters that end at a bound; of residuals left far above `sigma`.

    **Returns:** a `Fitted`: parameters, network, history, bounds; it prints as a table and plots itself.

    **Raises:** ValueError or TypeError, before anything is compiled for the fit, on names that do not exist (with near
    ones), bounds that exclude a start, a loss that is not a scalar or not finite at the start, data longer than the
    run; FitError when every start has died.

    !!! Example

            >>> import brainsim as bs, jax, jax.numpy as jnp
            >>> net = bs.Network({"P": bs.Population(bs.LIF(tau_m=20.0, g_l=10.0), 1, i_e=50.0)})
            >>> def loss(net):
            ...     sol = bs.simulate(net, t1=20.0, dt=0.5, key=jax.random.key(0), saveat=[bs.Trace("P.v")])
            ...     return jnp.mean((sol["P.v"][-1] + 58.0) ** 2)
            >>> fitted = bs.train.fit(net, loss, {"P.unit.tau_m": (5.0, 50.0)}, steps=60, progress=False)
            >>> bool(fitted.loss < 1e-2)  # mV^2
            True
    """
    method = optax.adam(0.05) if method is None else method
    space = Space(net, parameters)
    space.check(space.values, "the start")
    first = () if batches is None else (batches(0),)
    problem = Problem(space, loss)
    x, n = starting_points(space, problem, starts, spread, key)
    problem.check(method, first)
    if last and not isinstance(method, optax.GradientTransformation):
        raise TypeError(f"fit: last=True with {type(method).__name__}, which keeps its best point; leave last out.")
    alive = problem.alive(x, n, first)
    run: Any
    if isinstance(method, CMAES):
        run = Populations(method, problem, x, n, key)
    else:
        run = Steps(method, problem, x, n, last)
    log = Log(checkpoint, every, resume, about={"parameters": list(space.places), "starts": n, "of": run.kind})
    done = log.open(run)
    stopped, began = "steps", time.perf_counter() - (log.seconds[-1] if log.seconds else 0.0)
    bar = _bar() if progress else None
    with bar or contextlib.nullcontext():
        task = bar.add_task("fitting", total=steps, completed=done, loss="") if bar else None
        for k in range(done, steps):
            losses, converged, alive = run.step(k, () if batches is None else (batches(k),), alive, log.report)
            log.add(losses, time.perf_counter() - began)
            if bar and task is not None:
                bar.update(task, completed=k + 1, loss=f"loss {np.min(run.best()[1]):.4g}")
            if not np.any(alive):
                raise FitError(f"fit: no start has a finite loss and gradient any more. {log.reports[-1]}")
            if np.all(converged | ~alive):
                stopped = "converged"
            elif patience is not None and _stale(np.asarray(log.history), patience, tol):
                stopped = "patience"
            elif seconds is not None and log.seconds[-1] - log.seconds[0] > seconds:
                stopped = "seconds"
            if stopped != "steps" or (k + 1) % every == 0 or k + 1 == steps:
                log.save(run, k + 1)
            if stopped != "steps":
                break
    return _fitted(space, problem, run, log, stopped, first)


def _stale(history: np.ndarray, patience: int, tol: float) -> bool:
    """Whether the last `patience` steps have made no start better by the fraction `tol`."""
    if len(history) <= patience:
        return False
    least = np.minimum.accumulate(np.where(np.isfinite(history), history, np.inf), 0)
    before, now = least[-1 - patience], least[-1]
    return bool(np.all(~(now < before - tol * np.abs(before))))


def _fitted(space: Space, problem: Problem, run: Any, log: Log, stopped: str, batch: tuple) -> Fitted:
    x, losses = run.best()
    start = int(np.argmin(losses))
    ends = {name: np.asarray(p) for name, p in jax.vmap(space.bound)(x).items()}
    best = {name: jnp.asarray(p[start]) for name, p in ends.items()}
    free = jax.tree.map(lambda a: a[start], x.get(FREE, ()))
    loss: Any = problem.loss
    for text in _doubts(space, best, float(losses[start]), loss):
        log.report(text)
    known = sensitivity(space, loss, best, free, *batch) if problem.given_by_residuals else None
    return Fitted(
        space.model(best),
        {name: np.asarray(p) for name, p in best.items()},
        float(losses[start]),
        start=start,
        ends=ends,
        losses=losses,
        history=np.stack(log.history),
        seconds=np.asarray(log.seconds),
        sensitivity=known,
        free=free,
        reports=log.reports,
        stopped=stopped,
    )


_AT_BOUND = 1e-2
"""Part of the way between two bounds within which a value is at one of them."""

_ABOVE_NOISE = 4.0
"""Mean squared residual, in units of the noise, above which a fit explains the data badly: twice the noise."""


def _doubts(space: Space, best: dict[str, Any], loss: float, of: Any) -> list[str]:
    """What speaks against the end of a fit."""
    found = []
    for name, at in space.at_bounds(best, _AT_BOUND).items():
        found.append(f"{name} ends at its bound {at:.5g}: the best value may lie beyond. Widen the bounds")
    sigma = getattr(of, "sigma", None)
    if sigma is not None and loss > _ABOVE_NOISE:
        text = f"the residuals are {loss**0.5:.3g} times the noise sigma = {sigma:g} at the end"
        more = ", or with more segments" if hasattr(of, "segments") else ""
        found.append(f"{text}: not the optimum, or the model is wrong. Try several starts{more}")
    return found


def _bar() -> Progress:
    shown = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    # in a notebook rich needs ipywidgets; without them, plain text
    console = Console(stderr=True, force_jupyter=None if importlib.util.find_spec("ipywidgets") else False)
    return Progress(*shown, TimeRemainingColumn(), TextColumn("{task.fields[loss]}"), console=console)
