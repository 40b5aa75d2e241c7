"""How well data fix the parameters: the bound of Cramer and Rao at the optimum."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from ._parameters import Space
from ._residuals import AbstractResiduals


class Sensitivity:
    """What the data say of every parameter: `covariance` (the inverse Fisher information), `sd`, `relative`.

    `labels`: a name per number; `values`: the numbers; `sd`: the least standard deviation that any unbiased estimate
    can have; `relative`: `sd / |value|`; `correlation`: of the errors. Infinite where the data say nothing.
    """

    def __init__(self, labels: list[str], values: np.ndarray, covariance: np.ndarray) -> None:
        self.labels, self.values, self.covariance = labels, values, covariance

    @property
    def sd(self) -> np.ndarray:
        """Bound of the standard deviation, in the unit of the parameter."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def relative(self) -> np.ndarray:
        """Bound of the standard deviation over the size of the parameter."""
        with np.errstate(divide="ignore"):
            return self.sd / np.abs(self.values)

    @property
    def correlation(self) -> np.ndarray:
        """Correlations of the errors."""
        with np.errstate(invalid="ignore"):
            return self.covariance / np.outer(self.sd, self.sd)

    def __rich__(self) -> Table:
        table = Table("parameter", "value", "bound (sd)", "bound (%)", "tied to")
        for k, label in enumerate(self.labels):
            others = np.nan_to_num(np.abs(self.correlation[k]))
            others[k] = 0.0
            m = int(np.argmax(others))
            tied = f"{self.labels[m]} ({self.correlation[k, m]:+.2f})" if others[m] > 0.5 else ""
            bound = f"{self.sd[k]:.2g}", f"{100 * self.relative[k]:.2g}"
            table.add_row(label, f"{self.values[k]:.5g}", *bound, tied)
        return table


def fisher_covariance(jacobian: np.ndarray, wanted: int, variance: float) -> np.ndarray:
    """The covariance of the first `wanted` unknowns, `variance (J^T J)^-1`, the others estimated with them.

    Infinite for unknowns in a direction that no residual sees.
    """
    scale = np.linalg.norm(jacobian, axis=0)
    seen = scale > 0
    covariance = np.full((wanted, wanted), np.inf)
    _, s, vt = np.linalg.svd(jacobian[:, seen] / scale[seen], full_matrices=False)
    if s.size and jacobian.shape[0] >= seen.sum():
        floor = s[0] * max(jacobian.shape) * np.finfo(jacobian.dtype).eps
        with np.errstate(divide="ignore"):
            half = vt.T / np.where(s > floor, s, 0.0) if np.all(s > floor) else None
        if half is not None:
            half = half / scale[seen][:, None]
            inner = np.flatnonzero(seen[:wanted])
            covariance[np.ix_(inner, inner)] = variance * (half @ half.T)[: inner.size, : inner.size]
    return covariance


def cramer_rao(model: Any, loss: AbstractResiduals, parameters: Mapping[str, Any], free: Any = None) -> Sensitivity:
    """The bound of Cramer and Rao for the named parameters at their values in `model`: `sigma^2 (J^T J)^-1`.

    With noise of standard deviation sigma on the data no unbiased estimate is better. It needs no data to be fitted:
    ask it of a model before the experiment. Under constraints and far from linearity it is an approximation.

    **Arguments:** `loss`: residuals, as for `fit`; without `sigma`, the noise is taken from the size of the residuals.
    `parameters`: as for `fit`. `free`: further unknowns, at `loss.free()` where not given.

    **Raises:** TypeError where `loss` is not given by residuals.
    """
    if not isinstance(loss, AbstractResiduals):
        raise TypeError(f"cramer_rao: loss is {loss!r}; expected residuals such as bs.train.LeastSquares(...).")
    space = Space(model, parameters)
    return sensitivity(space, loss, space.values, loss.free() if free is None else free)


def sensitivity(space: Space, loss: AbstractResiduals, values: Mapping[str, Any], free: Any, *batch) -> Sensitivity:
    """As `cramer_rao`, of parameters with `values`."""
    start, unravel = jax.flatten_util.ravel_pytree(({name: values[name] for name in space.places}, free))
    n = sum(int(np.size(p)) for p in space.values.values())

    def residuals(x):
        named, free = unravel(x)
        return loss(space.model(named), free, *batch)

    r, jacobian = jax.jit(lambda x: (residuals(x), jax.jacfwd(residuals)(x)))(start)
    r, jacobian = np.asarray(r, np.float64), np.asarray(jacobian, np.float64)
    # ravel_pytree sorts a dict by its keys, and a table should keep the order in which the user named them
    where = {name: i for name, i in unravel(jnp.arange(start.size).astype(start.dtype))[0].items()}
    order = np.concatenate([np.ravel(np.asarray(where[name])).astype(int) for name in space.places])
    rest = np.setdiff1d(np.arange(start.size), order)
    degrees = max(r.size - start.size, 1)
    variance = 1.0 if loss.sigma is not None else float(r @ r) / degrees
    covariance = fisher_covariance(jacobian[:, np.concatenate([order, rest])], n, variance)
    return Sensitivity(space.labels, np.asarray(start, np.float64)[order], covariance)
