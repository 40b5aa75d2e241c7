"""A loss and named parameters as a function of free coordinates, checked before anything is compiled."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx

from ..base import Key, float_dtype, unknown
from ._methods import CMAES
from ._parameters import Space
from ._residuals import AbstractResiduals

FREE = "(free)"
"""The name under which what is fitted beside the parameters goes; no path has brackets."""


class Problem:
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

    def linearised(self, x: dict[str, Any], *batch: Any) -> tuple[Any, dict[str, Any]]:
        """Residuals, and their Jacobian by the names of x."""
        named = {name: x[name] for name in self.space.places}
        model = lambda named: self.space.model(self.space.bound(named))  # noqa: E731
        r, (by_named, by_free) = self.loss.linearised(model, named, x.get(FREE, ()), *batch)
        return r, by_named | ({FREE: by_free} if FREE in x else {})

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
        losses = np.asarray(jax.jit(lambda x, batch: batched(lambda x: self.value(x, *batch), n)(x))(x, batch))
        if not np.any(np.isfinite(losses)):
            raise ValueError(
                f"fit: the loss is {losses[0]} at the start. Look at loss(net) itself, or start elsewhere."
            )
        if not np.all(np.isfinite(losses)):
            dead = np.flatnonzero(~np.isfinite(losses))
            warnings.warn(f"fit: the loss is not finite at the starts {dead.tolist()}; left out.", stacklevel=3)
        return np.isfinite(losses)


def batched(function: Callable, n: int) -> Callable:
    """`function` of one start over a leading axis of `n`; a single one is not batched, and costs no more."""
    if n > 1:
        return jax.vmap(function)
    return lambda *args: jax.tree.map(lambda x: x[None], function(*(jax.tree.map(lambda x: x[0], a) for a in args)))


def starting_points(
    space: Space, problem: Problem, starts: Any, spread: float, key: Key | None
) -> tuple[dict[str, Any], int]:
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
