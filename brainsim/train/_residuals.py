"""Fits by least squares: what knows its residuals knows its Jacobian, and so how well the data fix the parameters."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
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
