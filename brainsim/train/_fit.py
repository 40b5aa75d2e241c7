"""`fit`: the named parameters of a network that make a loss least."""

import contextlib
import importlib.util
import io
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
from jax.flatten_util import ravel_pytree
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..base import Key, float_dtype, unknown
from ..io import write_whole
from ..simulate import from_arrays, to_arrays
from ._fitted import FitError, Fitted
from ._methods import CMAES, SHORTEST, Descent, GaussNewtonLike, Strategies
from ._parameters import Space
from ._residuals import AbstractResiduals
from ._sensitivity import sensitivity

FREE = "(free)"
"""The name under which what is fitted beside the parameters goes; no path has brackets."""


def fit(
    net: Any,
    loss: Callable[..., Any] | AbstractResiduals,
    parameters: Mapping[str, Any],
    *,
    method: optax.GradientTransformation | optx.AbstractGaussNewton | CMAES | None = None,
    steps: int = 300,
    starts: int | Mapping[str, Any] = 1,
    spread: float = 1.0,
    key: Key | None = None,
    batches: Callable[[int], Any] | None = None,
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
      or `CMAES()`, without derivatives.
    - `steps`: at most so many.
    - `starts`: how many points to start from, all in one batched run: the values in `net`, and others drawn with `key`,
      uniform over the bounds for `spread` = 1, over half the way to them for 0.5. Or the starts themselves: name ->
      array (starts, ...).
    - `batches`: `batches(k)` is what step k passes to the loss after the network, e.g. a mini-batch or a key. A function
      of k, so that a resumed fit sees the same.
    - `patience`: stop when no start has become better by a fraction `tol` for so many steps.
    - `checkpoint`: a folder, in which the state is kept every `every` steps; with `resume=True` a fit that was killed
      goes on from there, bit for bit as if nothing had happened.
    - `progress`: show a progress bar with the loss.

    A loss or a gradient that is not finite is reported with parameter and step; the start goes back to its last good
    point and takes half the step.

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
        >>> bool(fitted.loss < 1e-3)
        True
    """
    method = optax.adam(0.05) if method is None else method
    space = Space(net, parameters)
    space.check(space.values, "the start")
    first = () if batches is None else (batches(0),)
    problem = _Problem(space, loss)
    problem.check(method, first)
    x, n = _starts(space, problem, starts, spread, key)
    alive = problem.alive(x, n, first)
    run: Any
    if isinstance(method, CMAES):
        run = _Populations(method, problem, x, n, key)
    else:
        run = _Steps(method, problem, x, n)
    log = _Log(checkpoint, every, resume, about={"parameters": list(space.places), "starts": n, "of": run.kind})
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
            if stopped != "steps" or (k + 1) % every == 0 or k + 1 == steps:
                log.save(run, k + 1)
            if stopped != "steps":
                break
    return _fitted(space, problem, run, log, stopped, first)


class _Problem:
    """The loss as a function of free coordinates: a scalar, and residuals where there are any."""

    def __init__(self, space: Space, loss: Any) -> None:
        if not callable(loss):
            raise TypeError(f"fit: loss is {loss!r}; expected a function of the network, or residuals.")
        self.space, self.loss = space, loss
        self.given_by_residuals = isinstance(loss, AbstractResiduals)

    def start(self, values: Mapping[str, Any]) -> dict[str, Any]:
        x: dict[str, Any] = dict(self.space.free(values))
        free = self.loss.free() if self.given_by_residuals else ()
        return x | {FREE: free} if jax.tree.leaves(free) else x

    def residuals(self, x: dict[str, Any], *batch: Any) -> Any:
        free = x.get(FREE, ())
        return self.loss(self.space.model(self.space.bound(x)), free, *batch)

    def value(self, x: dict[str, Any], *batch: Any) -> Any:
        if self.given_by_residuals:
            return jnp.mean(self.residuals(x, *batch) ** 2)
        return self.loss(self.space.model(self.space.bound(x)), *batch)

    def check(self, method: Any, batch: tuple) -> None:
        """Raise on a method that does not fit and on a loss that is not a real scalar; nothing is compiled."""
        known = optax.GradientTransformation | optx.AbstractGaussNewton | CMAES
        if not isinstance(method, known):
            raise TypeError(
                f"fit: method is {method!r}; expected an optax transformation such as optax.adam(0.05), "
                "optimistix.LevenbergMarquardt(rtol=1e-4, atol=1e-4), or CMAES()."
            )
        if isinstance(method, optx.AbstractGaussNewton) and not self.given_by_residuals:
            raise TypeError(
                f"fit: {type(method).__name__} needs residuals, and loss is {self.loss!r}. Return them from a function "
                "and pass bs.train.LeastSquares(function)."
            )
        if not self.given_by_residuals:
            out = jax.eval_shape(self.value, self.start(self.space.values), *batch)
            shapes = [getattr(leaf, "shape", None) for leaf in jax.tree.leaves(out)]
            if not isinstance(out, jax.ShapeDtypeStruct) or out.shape != ():
                raise ValueError(
                    f"fit: the loss returns {'an array of shape ' + str(shapes[0]) if len(shapes) == 1 else out}; "
                    "expected one number. Take jnp.mean(x**2), or pass bs.train.LeastSquares for residuals."
                )
            if not jnp.issubdtype(out.dtype, jnp.floating):
                raise TypeError(f"fit: the loss returns {out.dtype}; expected a real number with a derivative.")
        else:
            jax.eval_shape(self.residuals, self.start(self.space.values), *batch)

    def alive(self, x: dict[str, Any], n: int, batch: tuple) -> np.ndarray:
        """Which starts have a finite loss; raise where none has. Compiles the loss alone, not its derivative."""
        losses = np.asarray(jax.jit(_batched(lambda x: self.value(x, *batch), n))(x))
        if not np.any(np.isfinite(losses)):
            raise ValueError(
                f"fit: the loss is {losses[0]} at the start. Look at loss(net) itself, or start elsewhere."
            )
        if not np.all(np.isfinite(losses)):
            dead = np.flatnonzero(~np.isfinite(losses))
            warnings.warn(f"fit: the loss is not finite at the starts {dead.tolist()}; left out.", stacklevel=3)
        return np.isfinite(losses)


def _batched(function: Callable, n: int) -> Callable:
    """`function` of one start over a leading axis of `n`; a single one is not batched, and costs no more."""
    if n > 1:
        return jax.vmap(function)
    return lambda *args: jax.tree.map(lambda x: x[None], function(*(jax.tree.map(lambda x: x[0], a) for a in args)))


def _starts(space: Space, problem: _Problem, starts: Any, spread: float, key: Key | None) -> tuple[dict[str, Any], int]:
    """Free coordinates of the starts, with a leading axis, and how many there are."""
    if isinstance(starts, Mapping):
        for name in starts:
            if name not in space.places:
                raise ValueError(f"fit: starts of {unknown('parameter', name, space.places)}")
        given = {name: jnp.asarray(v, float_dtype()) for name, v in starts.items()}
        counts = {v.shape[0] if v.ndim else 0 for v in given.values()}
        if len(counts) != 1 or counts == {0}:
            raise ValueError("fit: starts have different lengths; expected name -> array (starts, ...), all as long.")
        n = counts.pop()
        whole = {name: jnp.broadcast_to(p, (n, *p.shape)) for name, p in space.values.items()}
        for name, v in given.items():
            if v.shape != whole[name].shape:
                raise ValueError(f"fit: starts of {name!r} have shape {v.shape}; expected {whole[name].shape}.")
        values = whole | given
    else:
        n = int(starts)
        if n < 1:
            raise ValueError(f"fit: starts is {starts!r}; expected a whole number >= 1, or name -> array.")
        if n > 1 and key is None:
            raise ValueError("fit: give key=jax.random.key(seed), with which the other starts are drawn.")
        if not 0 <= spread <= 1:
            raise ValueError(f"fit: spread is {spread}; expected a part between 0 and 1 of the way to the bounds.")
        drawn = [space.values]
        for k in range(1, n):
            assert key is not None
            drawn.append(space.draw(jax.random.fold_in(key, k), spread))
        values = {name: jnp.stack([d[name] for d in drawn]) for name in space.places}
    space.check(values, "a start")
    each = [problem.start({name: p[k] for name, p in values.items()}) for k in range(n)]
    return jax.tree.map(lambda *x: jnp.stack(x), *each), n


class _Steps:
    """All starts through one compiled step."""

    def __init__(self, method: Any, problem: _Problem, x: dict[str, Any], n: int) -> None:
        self.problem, self.kind = problem, type(method).__name__
        one = jax.tree.map(lambda a: a[0], x)
        if isinstance(method, optx.AbstractGaussNewton):
            how: Any = GaussNewtonLike(method, problem.residuals, one)
        else:
            how = Descent(method, problem.value)
        self.state = _batched(how.init, n)(x)

        def step(state, batch):
            return _batched(lambda state: how.step(state, batch), n)(state)

        self._step = jax.jit(step)

    def step(self, k: int, batch: tuple, alive: np.ndarray, report: Callable[[str], None]):
        """The losses, which starts have converged, and which are alive after step k."""
        self.state, new = self._step(self.state, batch)
        losses, fine = np.asarray(new.loss), np.asarray(new.fine)
        for s in np.flatnonzero(~fine & alive):
            report(_fault(k, int(s), new, losses[s], self.problem.space))
        return losses, np.asarray(new.converged), alive & (np.asarray(self.state.scale) > SHORTEST)

    def best(self) -> tuple[Any, np.ndarray]:
        """The best point of every start and its loss."""
        return self.state.best.x, np.asarray(self.state.best.loss)

    def kept(self) -> dict[str, np.ndarray]:
        return {f"state{name}": x for name, x in to_arrays(self.state).items()}

    def restore(self, arrays: dict[str, np.ndarray], what: str) -> None:
        state = {name.removeprefix("state"): x for name, x in arrays.items() if name.startswith("state")}
        self.state = from_arrays(self.state, state, what)


def _fault(k: int, s: int, new: Any, loss: float, space: Space) -> str:
    """What was not finite at step k of start s, and where."""
    x = jax.tree.map(lambda a: a[s], new.x)
    wrong = [name for name, bad in new.faults.items() if bool(np.asarray(bad)[s]) and name != FREE]
    values = space.bound(x)
    at = ", ".join(f"{name} = {np.mean(np.asarray(values[name])):.5g}" for name in (wrong or values))
    what = f"the loss is {loss}" if not np.isfinite(loss) else f"the gradient of {', '.join(wrong)} is not finite"
    return f"step {k}, start {s}: {what} at {at}; back to the last good point, half the step"


class _Populations:
    """CMA-ES: one population per start, evaluated in one batch."""

    kind = "CMAES"

    def __init__(self, method: CMAES, problem: _Problem, x: dict[str, Any], n: int, key: Key | None) -> None:
        seed = 0 if key is None else int(np.asarray(jax.random.key_data(key)).ravel()[-1])
        self.all, self.n = Strategies(method, x, seed, n), n
        self.told: list[np.ndarray] = []
        self.flat = np.stack([np.asarray(ravel_pytree(jax.tree.map(lambda a, k=k: a[k], x))[0]) for k in range(n)])
        self.least = np.full(n, np.inf)
        size = n * self.all.size

        def values(flat, batch):
            return _batched(lambda x: problem.value(x, *batch), size)(self.all.unravel(flat))

        self._values = jax.jit(values)

    def step(self, k: int, batch: tuple, alive: np.ndarray, report: Callable[[str], None]):
        points = self.all.ask()
        losses = np.asarray(self._values(jnp.asarray(points, float_dtype()), batch), float)
        if not np.all(np.isfinite(losses)):
            report(f"step {k}: the loss is not finite at {np.sum(~np.isfinite(losses))} of {losses.size} points")
        self._tell(points, losses)
        least = np.min(np.where(np.isfinite(losses), losses, np.inf).reshape(self.n, -1), 1)
        return least, np.asarray([bool(es.stop()) for es in self.all.all]), alive

    def _tell(self, points: np.ndarray, losses: np.ndarray) -> None:
        self.told.append(losses)
        self.all.tell(losses)
        own = np.where(np.isfinite(losses), losses, np.inf).reshape(self.n, -1)
        for s, k in enumerate(np.argmin(own, 1)):
            if own[s, k] < self.least[s]:
                self.least[s], self.flat[s] = own[s, k], points.reshape(self.n, own.shape[1], -1)[s, k]

    def best(self) -> tuple[Any, np.ndarray]:
        return self.all.unravel(jnp.asarray(self.flat, float_dtype())), self.least

    def kept(self) -> dict[str, np.ndarray]:
        return {"told": np.stack(self.told)} if self.told else {}

    def restore(self, arrays: dict[str, np.ndarray], what: str) -> None:
        for losses in arrays.get("told", ()):
            self._tell(self.all.ask(), losses)


class _Log:
    """History and reports, kept on disk with the state of the method."""

    def __init__(self, path: Any, every: int, resume: bool, about: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        if every < 1:
            raise ValueError(f"fit: every is {every}; expected a number of steps >= 1.")
        if resume and path is None:
            raise ValueError("fit: resume=True needs checkpoint=, the folder of the fit to go on with.")
        self.resume, self.about = resume, about
        self.history: list[np.ndarray] = []
        self.seconds: list[float] = []
        self.reports: list[str] = []

    def open(self, run: Any) -> int:
        """The number of steps already done, with `run` as it was after them."""
        if self.path is None:
            return 0
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "fit.npz"
        if not file.exists():
            return 0
        if not self.resume:
            raise FileExistsError(
                f"{self.path} already holds a fit. Pass resume=True to go on with it, or choose another folder."
            )
        with np.load(file) as z:
            arrays = {name: z[name] for name in z.files}
        about = json.loads(arrays.pop("about").tobytes())
        for name, value in self.about.items():
            if about[name] != value:
                raise ValueError(
                    f"{self.path} holds a fit with {name} = {about[name]}, not {value}. Resume with the same arguments."
                )
        self.history, self.seconds = list(arrays.pop("history")), arrays.pop("seconds").tolist()
        self.reports = about["reports"]
        run.restore(arrays, str(file))
        return len(self.history)

    def add(self, losses: np.ndarray, seconds: float) -> None:
        self.history.append(losses)
        self.seconds.append(seconds)

    def report(self, message: str) -> None:
        self.reports.append(message)
        warnings.warn(f"fit: {message}", stacklevel=4)

    def save(self, run: Any, done: int) -> None:
        if self.path is None:
            return
        about = self.about | {"reports": self.reports, "steps": done}
        arrays = run.kept() | {"history": np.stack(self.history), "seconds": np.asarray(self.seconds)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays, about=np.frombuffer(json.dumps(about).encode(), np.uint8))
        write_whole(self.path / "fit.npz", buffer.getvalue())


def _stale(history: np.ndarray, patience: int, tol: float) -> bool:
    """Whether the last `patience` steps have made no start better by the fraction `tol`."""
    if len(history) <= patience:
        return False
    least = np.minimum.accumulate(np.where(np.isfinite(history), history, np.inf), 0)
    before, now = least[-1 - patience], least[-1]
    return bool(np.all(~(now < before - tol * np.abs(before))))


def _fitted(space: Space, problem: _Problem, run: Any, log: _Log, stopped: str, batch: tuple) -> Fitted:
    x, losses = run.best()
    start = int(np.argmin(losses))
    ends = {name: np.asarray(p) for name, p in jax.vmap(space.bound)(x).items()}
    best = {name: jnp.asarray(p[start]) for name, p in ends.items()}
    free = jax.tree.map(lambda a: a[start], x.get(FREE, ()))
    known = sensitivity(space, problem.loss, best, free, *batch) if problem.given_by_residuals else None
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


def _bar() -> Progress:
    shown = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    # in a notebook rich needs ipywidgets; without them, plain text
    console = Console(stderr=True, force_jupyter=None if importlib.util.find_spec("ipywidgets") else False)
    return Progress(*shown, TimeRemainingColumn(), TextColumn("{task.fields[loss]}"), console=console)
