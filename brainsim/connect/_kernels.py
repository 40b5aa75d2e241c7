"""Connection probability as a function of distance."""

import abc
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ._rule import positive, probability

Reals = Float[np.ndarray, "..."]


class AbstractKernel(eqx.Module):
    """The probability that two units at a given distance are connected, in NumPy, elementwise.

    A kernel of your own needs both methods; `DistanceDependent` checks every probability it uses against the bound.
    """

    @abc.abstractmethod
    def __call__(self, distance: Reals) -> Reals:
        """The probability, in [0, 1], at each distance >= 0 (unit of the positions)."""

    @abc.abstractmethod
    def bound(self, near: Reals, far: Reals) -> Reals:
        """At least the probability at any distance in [near, far]; for one that falls with distance `self(near)`."""


class GaussianKernel(AbstractKernel):
    r"""$p(d) = p_\text{max} \exp(-d^2 / 2\sigma^2)$.

    **Arguments:** `sigma` > 0, unit of the positions; `p_max` in [0, 1].
    """

    sigma: float
    p_max: float = 1.0

    def __init__(self, sigma: Any, p_max: Any = 1.0):
        self.sigma = positive(sigma, "GaussianKernel", "sigma")
        self.p_max = probability(p_max, "GaussianKernel", "p_max")

    def __call__(self, distance: Reals) -> Reals:
        return self.p_max * np.exp(-0.5 * (distance / self.sigma) ** 2)

    def bound(self, near: Reals, far: Reals) -> Reals:
        return self(near)


class ExponentialKernel(AbstractKernel):
    r"""$p(d) = p_\text{max} e^{-d/\text{scale}}$.

    **Arguments:** `scale` > 0, unit of the positions; `p_max` in [0, 1].
    """

    scale: float
    p_max: float = 1.0

    def __init__(self, scale: Any, p_max: Any = 1.0):
        self.scale = positive(scale, "ExponentialKernel", "scale")
        self.p_max = probability(p_max, "ExponentialKernel", "p_max")

    def __call__(self, distance: Reals) -> Reals:
        return self.p_max * np.exp(-distance / self.scale)

    def bound(self, near: Reals, far: Reals) -> Reals:
        return self(near)


class DiscKernel(AbstractKernel):
    """p(d) = `p` up to and including `radius`, 0 beyond.

    **Arguments:** `radius` > 0, unit of the positions; `p` in [0, 1].
    """

    radius: float
    p: float = 1.0

    def __init__(self, radius: Any, p: Any = 1.0):
        self.radius = positive(radius, "DiscKernel", "radius")
        self.p = probability(p, "DiscKernel", "p")

    def __call__(self, distance: Reals) -> Reals:
        return np.where(distance <= self.radius, self.p, 0.0)

    def bound(self, near: Reals, far: Reals) -> Reals:
        return self(near)


class DifferenceOfGaussiansKernel(AbstractKernel):
    r"""$p(d) = \max(0,\ p_c e^{-d^2/2\sigma_c^2} - p_s e^{-d^2/2\sigma_s^2})$: a centre less a surround, or a ring.

    **Arguments:** `sigma_centre`, `sigma_surround` > 0, unit of the positions; `p_centre`, `p_surround` in [0, 1].
    """

    sigma_centre: float
    sigma_surround: float
    p_centre: float = 1.0
    p_surround: float = 0.5

    def __init__(self, sigma_centre: Any, sigma_surround: Any, p_centre: Any = 1.0, p_surround: Any = 0.5):
        self.sigma_centre = positive(sigma_centre, "DifferenceOfGaussiansKernel", "sigma_centre")
        self.sigma_surround = positive(sigma_surround, "DifferenceOfGaussiansKernel", "sigma_surround")
        self.p_centre = probability(p_centre, "DifferenceOfGaussiansKernel", "p_centre")
        self.p_surround = probability(p_surround, "DifferenceOfGaussiansKernel", "p_surround")

    def __call__(self, distance: Reals) -> Reals:
        return self.bound(distance, distance)

    def bound(self, near: Reals, far: Reals) -> Reals:
        # each term falls with distance: the centre is largest near, the surround smallest far
        centre = self.p_centre * np.exp(-0.5 * (near / self.sigma_centre) ** 2)
        surround = self.p_surround * np.exp(-0.5 * (far / self.sigma_surround) ** 2)
        return np.maximum(centre - surround, 0.0)
