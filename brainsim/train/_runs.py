"""All starts of a fit, step by step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree

from ..base import Key, float_dtype
from ..simulate import from_arrays, to_arrays
from ._methods import CMAES, SHORTEST, Descent, GaussNewtonLike, Strategies
from ._parameters import Space
from ._problem import FREE, Problem, batched


class Steps:
    """All starts through one compiled step."""

    def __init__(self, method: Any, problem: Problem, x: dict[str, Any], n: int, last: bool = False) -> None:
        self.problem, self.kind, self.last = problem, type(method).__name__, last
        one = jax.tree.map(lambda a: a[0], x)
        if isinstance(method, optx.AbstractGaussNewton):
            how: Any = GaussNewtonLike(method, problem.linearised, one)
        else:
            how = Descent(method, problem.value)
        self.state, self.losses = batched(how.init, n)(x), np.full(n, np.inf)

        def step(state, batch):
            return batched(lambda state: how.step(state, batch), n)(state)

        self._step = jax.jit(step)

    def step(self, k: int, batch: tuple, alive: np.ndarray, report: Callable[[str], None]):
        """The losses, which starts have converged, and which are alive after step k."""
        self.state, new = self._step(self.state, batch)
        losses, fine = np.asarray(new.loss), np.asarray(new.fine)
        self.losses = np.where(fine, losses, self.losses)
        if k == 0 and np.any(alive):
            still = [name for name, zero in new.still.items() if name != FREE and np.all(np.asarray(zero)[alive])]
            if still:
                report(_no_gradient(still))
        for s in np.flatnonzero(~fine & alive):
            report(_fault(k, int(s), new, losses[s], self.problem.space))
        return losses, np.asarray(new.converged), alive & (np.asarray(self.state.scale) > SHORTEST)

    def best(self) -> tuple[Any, np.ndarray]:
        """The best point of every start and its loss, or the last one that was finite."""
        if self.last:
            return self.state.x, self.losses
        return self.state.best.x, np.asarray(self.state.best.loss)

    def kept(self) -> dict[str, np.ndarray]:
        return {f"state{name}": x for name, x in to_arrays(self.state).items()} | {"losses": self.losses}

    def restore(self, arrays: dict[str, np.ndarray], what: str) -> None:
        self.losses = arrays.get("losses", self.losses)
        state = {name.removeprefix("state"): x for name, x in arrays.items() if name.startswith("state")}
        self.state = from_arrays(self.state, state, what)


def _no_gradient(names: list[str]) -> str:
    return (
        f"the gradient of the loss by {', '.join(names)} is exactly zero at every start, so that a fit by gradients "
        "leaves the values as they are. Whole steps and random draws have no derivative: of a plain delay (use "
        "delay=bs.LinearDelay(...) or bs.GaussianDelay(...)), a refractory period, the rate of a Poisson source, "
        "counts such as sol.rates and Spikes (record bs.Rate or bs.Events). Or use method=bs.train.CMAES()"
    )


def _fault(k: int, s: int, new: Any, loss: float, space: Space) -> str:
    """What was not finite at step k of start s, and where."""
    x = jax.tree.map(lambda a: a[s], new.x)
    wrong = [name for name, bad in new.faults.items() if bool(np.asarray(bad)[s]) and name != FREE]
    values = space.bound(x)
    at = ", ".join(f"{name} = {np.mean(np.asarray(values[name])):.5g}" for name in (wrong or values))
    what = f"the loss is {loss}" if not np.isfinite(loss) else f"the gradient of {', '.join(wrong)} is not finite"
    why = (
        ". Through many spikes that is a surrogate too narrow for the reset, or recurrent growth: gradient_norms shows"
    )
    why = why if np.isfinite(loss) else ""
    return f"step {k}, start {s}: {what} at {at}; back to the last good point, half the step{why}"


class Populations:
    """CMA-ES: one population per start, evaluated in one batch."""

    kind = "CMAES"

    def __init__(self, method: CMAES, problem: Problem, x: dict[str, Any], n: int, key: Key | None) -> None:
        seed = 0 if key is None else int(np.asarray(jax.random.key_data(key)).ravel()[-1])
        self.all, self.n = Strategies(method, x, seed, n), n
        self.told: list[np.ndarray] = []
        self.flat = np.stack([np.asarray(ravel_pytree(jax.tree.map(lambda a, k=k: a[k], x))[0]) for k in range(n)])
        self.least = np.full(n, np.inf)
        size = n * self.all.size

        def values(flat, batch):
            return batched(lambda x: problem.value(x, *batch), size)(self.all.unravel(flat))

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
