"""How `fit` moves: down a gradient (optax), by residuals (optimistix), or without derivatives (CMA-ES).

Each is a pair of pure functions of one start, `init(x) -> state` and `step(state, batch) -> (state, Report)`, with the
best point so far in the state; CMA-ES, which lives in a library of its own, is a loop on the host over populations.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

SHORTEST = 2.0**-30
"""A step halved so often without a finite loss leads nowhere."""


class Best(NamedTuple):
    """The best point met so far and its loss."""

    x: Any
    loss: Float[Array, ""]


class Report(NamedTuple):
    """What a step did: the loss where it looked, whether all was finite there, the names at fault, those by which the
    derivative is zero, where that was."""

    loss: Float[Array, ""]
    fine: Bool[Array, ""]
    faults: dict[str, Bool[Array, ""]]
    still: dict[str, Bool[Array, ""]]
    x: Any
    converged: Bool[Array, ""]


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b) if eqx.is_array(a) else a, new, old)


def _finite(x: Any) -> Bool[Array, ""]:
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(x)]))


def _zero(x: Any) -> Bool[Array, ""]:
    return jnp.all(jnp.asarray([jnp.all(leaf == 0) for leaf in jax.tree.leaves(x)]))


def _better(best: Best, x: Any, loss: Array) -> Best:
    return _where(loss < best.loss, Best(x, loss), best)


class Moving(NamedTuple):
    """`x`: the last point at which loss and gradient were finite; `move`: where to go from it, `scale` times."""

    x: Any
    move: Any
    inner: Any
    scale: Float[Array, ""]
    best: Best


class Descent:
    """Gradient steps of an optax transformation; a step that meets NaN is taken back and halved."""

    def __init__(self, transformation: optax.GradientTransformation, value: Callable[..., Array]) -> None:
        self.tx = optax.with_extra_args_support(transformation)
        self.value = value

    def init(self, x: Any) -> Moving:
        zero = jax.tree.map(jnp.zeros_like, x)
        one = jnp.ones(())
        return Moving(x, zero, self.tx.init(x), one, Best(x, jnp.full_like(one, jnp.inf)))

    def step(self, state: Moving, batch: tuple) -> tuple[Moving, Report]:
        x = jax.tree.map(lambda x, m: x + state.scale * m, state.x, state.move)
        loss, gradient = jax.value_and_grad(self.value)(x, *batch)
        faults = {name: ~_finite(g) for name, g in gradient.items()}
        still = {name: _zero(g) for name, g in gradient.items()}
        fine = jnp.isfinite(loss) & _finite(gradient)
        extra = {"value": loss, "grad": gradient, "value_fn": lambda x: self.value(x, *batch)}
        with jax.numpy_dtype_promotion("standard"):  # optax mixes types
            move, inner = self.tx.update(gradient, state.inner, x, **extra)
        following = Moving(x, move, inner, jnp.minimum(2.0 * state.scale, 1.0), _better(state.best, x, loss))
        again = state._replace(scale=0.5 * state.scale)
        return _where(fine, following, again), Report(loss, fine, faults, still, x, jnp.asarray(False))


class Trusted(NamedTuple):
    """`x`: the point accepted last, with its residuals and Jacobian reduced to a triangle; `trial`: the next to try."""

    x: Array
    trial: Array
    residual: Array
    jacobian: Array
    search: Any
    first: Bool[Array, ""]
    scale: Float[Array, ""]
    best: Best


class GaussNewtonLike:
    """Steps of an optimistix least-squares solver (Levenberg-Marquardt, Gauss-Newton, dogleg).

    The QR decomposition of `[J r]` gives a triangle with the same products, so that what is kept from step to step has
    the size of the parameters and not of the data.
    """

    def __init__(self, solver: optx.AbstractGaussNewton, linearised: Callable[..., Any], x: Any) -> None:
        self.solver, self.linearised = solver, linearised
        self.unravel = ravel_pytree(x)[1]

    def _evaluate(self, x: Array, batch: tuple) -> tuple[Array, Array, Array]:
        r, by_name = self.linearised(self.unravel(x), *batch)
        jacobian = jax.vmap(lambda row: ravel_pytree(row)[0])(by_name)
        finite = jnp.all(jnp.isfinite(jacobian), 0) & jnp.all(jnp.isfinite(r))
        both = jnp.where(jnp.all(finite), jnp.concatenate([jacobian, r[:, None]], 1), 0.0)
        both = both * (1.0 / math.sqrt(r.size))  # as the loss is a mean: damping then means the same for any data
        triangle = jnp.linalg.qr(both, mode="r")
        if triangle.shape[0] < x.size + 1:  # fewer residuals than unknowns
            triangle = jnp.pad(triangle, ((0, x.size + 1 - triangle.shape[0]), (0, 0)))
        return jnp.mean(r**2), triangle, finite

    def init(self, x: Any) -> Trusted:
        flat, _ = ravel_pytree(x)
        n = flat.size
        triangle = jnp.zeros((n + 1, n + 1), flat.dtype)
        info = self._info(triangle[:, -1], triangle[:, :-1])
        true, inf = jnp.asarray(True), jnp.full((), jnp.inf, flat.dtype)
        search = self.solver.search.init(flat, jax.eval_shape(lambda: info))
        best = Best(x, inf)
        return Trusted(flat, flat, triangle[:, -1], triangle[:, :-1], search, true, jnp.ones_like(inf), best)

    @staticmethod
    def _info(residual: Array, jacobian: Array) -> Any:
        return optx.FunctionInfo.ResidualJac(residual, lx.MatrixLinearOperator(jacobian))

    def step(self, state: Trusted, batch: tuple) -> tuple[Trusted, Report]:
        loss, triangle, finite = self._evaluate(state.trial, batch)
        fine = jnp.all(finite) & jnp.isfinite(loss)
        # a point at which nothing is finite is as bad as can be
        residual, jacobian = jnp.where(fine, triangle[:, -1], 1e15), triangle[:, :-1]
        old, new = self._info(state.residual, state.jacobian), self._info(residual, jacobian)
        with jax.numpy_dtype_promotion("standard"):  # as above
            size, accept, _, search = self.solver.search.step(state.first, state.x, state.trial, old, new, state.search)
            accept = accept & fine
            x = jnp.where(accept, state.trial, state.x)
            residual, jacobian = _where(accept, (residual, jacobian), (state.residual, state.jacobian))
            info, descent = self._info(residual, jacobian), self.solver.descent
            move, _ = descent.step(size, descent.query(x, info, descent.init(x, jax.eval_shape(lambda: info))))
        scale = jnp.where(fine, jnp.minimum(2.0 * state.scale, 1.0), 0.5 * state.scale)
        trial = x + scale * move
        small = self.solver.atol + self.solver.rtol * jnp.abs(x)
        # before the first residuals there is nothing to have converged
        converged = jnp.all(jnp.abs(trial - x) < small) & fine
        best = _better(state.best, self.unravel(state.trial), jnp.where(fine, loss, jnp.inf))
        following = Trusted(x, trial, residual, jacobian, search, state.first & ~accept, scale, best)
        faults = self.unravel(jnp.where(finite, 0.0, 1.0).astype(x.dtype))
        faults = {
            name: jnp.any(jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(f)]) > 0)
            for name, f in faults.items()
            if jax.tree.leaves(f)
        }
        columns = self.unravel(jnp.max(jnp.abs(triangle[:, :-1]), 0))
        still = {name: _zero(columns[name]) & fine for name in faults}
        return following, Report(loss, fine, faults, still, self.unravel(state.trial), converged)


class CMAES(eqx.Module):
    """Covariance matrix adaptation (Hansen 2016, arXiv:1604.00772), without derivatives, by the library `cma`.

    One step of `fit` is one generation of each start. Comes with `pip install 'brainsim[fit]'`.

    **Arguments:** `sigma`: spread of the first generation in free coordinates; `population`: points per generation,
    None for `4 + 3 log(n)`.
    """

    sigma: float = eqx.field(static=True, default=0.5)
    population: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"CMAES.sigma is {self.sigma}; expected > 0, in free coordinates.")
        if self.population is not None and self.population < 4:
            raise ValueError(f"CMAES.population is {self.population}; expected at least 4 points, or None.")


class Strategies:
    """One CMA-ES per start. Its state is a function of the losses it was told: telling them again restores it."""

    def __init__(self, method: CMAES, x: Any, seed: int, starts: int) -> None:
        if importlib.util.find_spec("cma") is None:
            raise ImportError("fit: CMAES needs the library cma: pip install 'brainsim[fit]'.")
        import cma

        flat = [np.asarray(ravel_pytree(jax.tree.map(lambda a, k=k: a[k], x))[0], float) for k in range(starts)]
        self.unravel = jax.vmap(ravel_pytree(jax.tree.map(lambda a: a[0], x))[1])
        self.size = method.population or 4 + int(3 * np.log(flat[0].size))
        self.all = []
        for k, one in enumerate(flat):
            rng = np.random.default_rng([seed, k])
            options = {"popsize": self.size, "verbose": -9, "randn": lambda *s, rng=rng: rng.standard_normal(s)}
            # its own seeding touches numpy's global state: nan leaves that alone
            self.all.append(cma.CMAEvolutionStrategy(one, method.sigma, options | {"seed": np.nan, "maxiter": np.inf}))

    def ask(self) -> np.ndarray:
        """The points to evaluate, (starts * size, n)."""
        self.asked = [es.ask() for es in self.all]
        return np.concatenate([np.stack(points) for points in self.asked])

    def tell(self, losses: np.ndarray) -> None:
        """Go on with the losses of the points asked for; one that is not finite counts as the worst."""
        for es, points, own in zip(self.all, self.asked, losses.reshape(len(self.all), self.size), strict=True):
            bad = ~np.isfinite(own)
            worst = np.max(own[~bad], initial=0.0) if not bad.all() else 0.0
            es.tell(points, list(np.where(bad, worst + 1.0 + abs(worst), own).astype(float)))
