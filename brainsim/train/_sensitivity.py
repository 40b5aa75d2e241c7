"""How well data fix the parameters: the bound of Cramer and Rao at the optimum."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from ..base import as_text
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

    __str__ = as_text
    __repr__ = as_text


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
        if np.all(s > floor):
            half = vt.T / s / scale[seen][:, None]
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
    named = {name: jnp.asarray(values[name]) for name in space.places}
    r, jacobian = jax.jit(lambda named, free: loss.linearised(space.model, named, free, *batch))(named, free)
    by_named, by_free = jax.tree.map(lambda j: np.asarray(j, np.float64).reshape(r.size, -1), jacobian)
    r = np.asarray(r, np.float64)
    own = [by_named[name] for name in space.places]  # in the order in which the user named them
    jacobian = np.concatenate([*own, *jax.tree.leaves(by_free)], 1)
    wanted = sum(j.shape[1] for j in own)
    degrees = max(r.size - jacobian.shape[1], 1)
    variance = 1.0 if loss.sigma is not None else float(r @ r) / degrees
    covariance = fisher_covariance(jacobian, wanted, variance)
    at = np.concatenate([np.ravel(np.asarray(named[name], np.float64)) for name in space.places])
    return Sensitivity(space.labels, at, covariance)
