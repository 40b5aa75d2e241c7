"""Fits by least squares: what knows its residuals knows its Jacobian, and so how well the data fix the parameters."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

Model = Any


class AbstractResiduals(eqx.Module):
    """A loss `mean(r^2)` given by its residuals r.

    `sigma`: standard deviation of the noise in the data, if known; residuals are then in units of it, a perfect fit
    has a loss near 1, and bounds are absolute. None: it is estimated from what is left over.
    """

    sigma: eqx.AbstractVar[float | None]

    @abc.abstractmethod
    def free(self) -> Any:
        """Unknowns beside the named parameters, at their start: a PyTree of arrays, of order 1 in size."""

    @abc.abstractmethod
    def residuals(self, model: Model, free: Any, *batch: Any) -> Any:
        """The residuals, an array or a PyTree of arrays."""

    def __call__(self, model: Model, free: Any, *batch: Any) -> Array:
        """The residuals as one vector, in units of `sigma`."""
        leaves = jax.tree.leaves(self.residuals(model, free, *batch))
        r = jnp.concatenate([jnp.ravel(x) for x in leaves])
        return r if self.sigma is None else r * (1.0 / self.sigma)

    def linearised(self, model: Callable[[Any], Model], named: Any, free: Any, *batch: Any) -> tuple[Array, Any]:
        """The residuals at `(named, free)` and their Jacobian, a PyTree like `(named, free)` with an axis of residuals
        before the others; `model(named)` is the model. By forward mode, a column per unknown."""
        flat, unravel = ravel_pytree((named, free))

        def residuals(flat):
            named, free = unravel(flat)
            return self(model(named), free, *batch)

        r, tangent = jax.linearize(residuals, flat)
        jacobian = jax.vmap(tangent, out_axes=1)(jnp.eye(flat.size, dtype=flat.dtype))
        return r, jax.vmap(unravel)(jacobian)


class LeastSquares(AbstractResiduals):
    """Residuals by a function of the model.

    **Arguments:** `function`: `function(model)` (and what `batches` gives) to an array or a PyTree of arrays, such as
    `difference(sol["P.v"], data)`; `sigma`: standard deviation of the noise in the data, or None.
    """

    function: Callable[..., Any]
    sigma: float | None = None

    def __check_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"LeastSquares.function is {self.function!r}; expected a function of the network.")
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"LeastSquares.sigma is {self.sigma}; expected > 0, or None where it is unknown.")

    def free(self):
        return ()

    def residuals(self, model, free, *batch):
        return self.function(model, *batch)
