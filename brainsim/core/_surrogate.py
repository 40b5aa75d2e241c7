"""Surrogate derivatives of the spike: the Heaviside step forward, a bump backward.

`x` is the unit's guard (mV for most units): positive means a spike. `width` is in the same unit. A surrogate with
compact support has an event-sparse backward pass; the others have a dense one.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..base import Frozen, Param, check_parameter, is_traced, parameter


@jax.custom_jvp
def _heaviside(x: Float[Array, " n"], slope: Float[Array, " n"]) -> Float[Array, " n"]:
    return (x > 0).astype(x.dtype)


@_heaviside.defjvp
def _heaviside_jvp(primals, tangents):
    x, slope = primals
    return _heaviside(x, slope), slope * tangents[0]


class AbstractSurrogate(Frozen):
    """A spike function `H(x)` whose derivative is replaced by `slope(x)`."""

    width: eqx.AbstractVar[Param]

    @abc.abstractmethod
    def slope(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The derivative used backward."""

    @abc.abstractmethod
    def support(self, x: Float[Array, " n"]) -> Bool[Array, " n"] | None:
        """Where `slope` is non-zero; None means everywhere, and a dense backward pass."""

    def __check_init__(self) -> None:
        owner = type(self).__name__
        check_parameter(owner, "width", self.width)
        if not is_traced(self.width) and not bool(np.all(np.asarray(self.width) > 0)):
            raise ValueError(
                f"{owner}.width is {np.asarray(self.width)}; expected width > 0, in the unit of the guard (mV)."
            )

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """1 where `x > 0`, else 0; differentiates to `slope(x)`."""
        return _heaviside(x, jax.lax.stop_gradient(self.slope(x)))


def _width(default: float):
    return eqx.field(converter=parameter, default=default)


class Triangular(AbstractSurrogate):
    """`max(0, 1 - |x| / width) / width`. Support `|x| < width`: sparse backward. Source: Esser et al. 2016; Bellec et
    al. 2018."""

    width: Param = _width(1.0)

    def slope(self, x):
        return jnp.maximum(0.0, 1.0 - jnp.abs(x) / self.width) / self.width

    def support(self, x):
        return jnp.abs(x) < self.width


class Rectangular(AbstractSurrogate):
    """`1 / (2 width)` where `|x| < width`: sparse backward. Source: STBP, Wu et al. 2018, eq. 24."""

    width: Param = _width(0.5)

    def slope(self, x):
        return jnp.where(jnp.abs(x) < self.width, 0.5 / self.width, jnp.zeros_like(x))

    def support(self, x):
        return jnp.abs(x) < self.width


class HalfDrop(AbstractSurrogate):
    """`max(0, 1 - |x| / w) / w` with `w = (drop + x) / 2`, half of what a reset from x takes: sparse backward.

    The default of units that flow linearly. A step with slope h multiplies the gradient by `1 - h (drop + x)` through
    the reset: this is the steepest triangle for which that stays between -1 and 1 at every x. Support
    `-drop / 3 < x < drop`.

    **Arguments:** `drop`: by how much the reset lowers the guard of a unit at threshold, `v_th - v_reset`.
    """

    drop: Param = eqx.field(converter=parameter)

    @property
    def width(self) -> Param:
        """The width at threshold, half the drop."""
        return 0.5 * self.drop

    def slope(self, x):
        inside = self.support(x)
        w = 0.5 * jnp.where(inside, self.drop + x, jnp.broadcast_to(self.drop, x.shape))
        return jnp.where(inside, (1.0 - jnp.abs(x) / w) / w, jnp.zeros_like(x))

    def support(self, x):
        return (3.0 * x > -self.drop) & (x < self.drop)


class PiecewiseExponential(AbstractSurrogate):
    """`exp(-|x| / width) / (2 width)`: dense backward. Source: Shrestha & Orchard 2018 (SLAYER)."""

    width: Param = _width(1.0)

    def slope(self, x):
        return jnp.exp(-jnp.abs(x) / self.width) * (0.5 / self.width)

    def support(self, x):
        return None


class SuperSpike(AbstractSurrogate):
    """`1 / (width (1 + |x| / width)^2)`, the fast sigmoid: dense backward. Source: Zenke & Ganguli 2018, eq. 9.

    The one here whose integral is 2, not 1: its value at 0 is `1 / width`, as in the paper up to that factor.
    """

    width: Param = _width(1.0)

    def slope(self, x):
        return 1.0 / (self.width * (1.0 + jnp.abs(x) / self.width) ** 2)

    def support(self, x):
        return None


class ArcTan(AbstractSurrogate):
    """`1 / (pi width (1 + (x / width)^2))`: dense backward. Source: Fang et al. 2021 (PLIF)."""

    width: Param = _width(1.0)

    def slope(self, x):
        return 1.0 / (math.pi * self.width * (1.0 + (x / self.width) ** 2))

    def support(self, x):
        return None


class Sigmoid(AbstractSurrogate):
    """`sigma'(x / width) / width` of the logistic function: dense backward. Source: Zenke & Vogels 2021."""

    width: Param = _width(0.25)

    def slope(self, x):
        # sigma(-x) and not 1 - sigma(x), which is 0 far above threshold
        return jax.nn.sigmoid(x / self.width) * jax.nn.sigmoid(-x / self.width) / self.width

    def support(self, x):
        return None


class Gaussian(AbstractSurrogate):
    """`exp(-x^2 / (2 width^2)) / sqrt(2 pi width^2)`: dense backward. Source: Yin, Corradi & Bohte 2021."""

    width: Param = _width(0.5)

    def slope(self, x):
        return jnp.exp(-0.5 * (x / self.width) ** 2) / (math.sqrt(2 * math.pi) * self.width)

    def support(self, x):
        return None


class Damped(AbstractSurrogate):
    """`factor` times the slope of another surrogate: gradients over paths of many spikes fade instead of exploding.

    The first spike of a path is damped too, so all gradients through spikes are smaller by `factor`: raise the learning
    rate. Source: Bellec et al. 2018 (arXiv:1803.09574), with 0.3.

    **Arguments:** `surrogate`: what is damped; `factor`: between 0 and 1.
    """

    surrogate: AbstractSurrogate
    factor: Param = eqx.field(converter=parameter, default=0.3)

    def __check_init__(self) -> None:
        if not isinstance(self.surrogate, AbstractSurrogate):
            raise TypeError(
                f"Damped.surrogate is {self.surrogate!r}; expected one such as bs.Triangular(). Pass an instance."
            )
        check_parameter("Damped", "factor", self.factor)
        if not is_traced(self.factor) and not bool(np.all((np.asarray(self.factor) > 0) & (self.factor <= 1))):
            raise ValueError(f"Damped.factor is {np.asarray(self.factor)}; expected 0 < factor <= 1.")

    @property
    def width(self) -> Param:
        """The width of what is damped."""
        return self.surrogate.width

    def slope(self, x):
        return self.factor * self.surrogate.slope(x)

    def support(self, x):
        return self.surrogate.support(x)
