"""Bounds of a parameter: a bijection from the whole real line, in which an optimiser may walk freely."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Key, Param, check_parameter, parameter


class AbstractTransform(eqx.Module):
    """A bijection `p = forward(x)` from the real line to the values that a parameter may have."""

    @abc.abstractmethod
    def forward(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The parameter of the free coordinate `x`."""

    @abc.abstractmethod
    def inverse(self, p: Float[Array, "..."]) -> Float[Array, "..."]:
        """The free coordinate of the parameter `p`."""

    @abc.abstractmethod
    def allows(self, p: np.ndarray) -> np.ndarray:
        """Where `p` is a value it may have."""

    @abc.abstractmethod
    def draw(self, key: Key, p: Float[Array, "..."], spread: float) -> Float[Array, "..."]:
        """A start near `p`: anywhere within the bounds for `spread` = 1, `p` itself for 0."""


def _between(key: Key, low: Any, x: Array, high: Any, spread: float) -> Array:
    u = jax.random.uniform(key, x.shape, x.dtype)
    return x + spread * jnp.where(u < 0.5, (2.0 * u - 1.0) * (x - low), (2.0 * u - 1.0) * (high - x))


def _squeezed(low: Array, high: Array, x: Array) -> Array:
    return low + (high - low) * jax.nn.sigmoid(x)


def _stretched(low: Array, high: Array, p: Array) -> Array:
    part = (p - low) / (high - low)
    return jnp.log(part) - jnp.log1p(-part)


def _bounds(owner: Any) -> None:
    name = type(owner).__name__
    check_parameter(name, "low", owner.low)
    check_parameter(name, "high", owner.high)
    low, high = np.asarray(owner.low), np.asarray(owner.high)
    if not bool(np.all(low < high)):
        raise ValueError(f"{name}: low = {low}, high = {high}; expected low < high. Swap them.")


class Bounded(AbstractTransform):
    """`p = low + (high - low) / (1 + exp(-x))`: between two bounds. A pair `(low, high)` given to `fit` means this."""

    low: Param = eqx.field(converter=parameter)
    high: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        _bounds(self)

    def forward(self, x):
        return _squeezed(self.low, self.high, x)

    def inverse(self, p):
        return _stretched(self.low, self.high, p)

    def allows(self, p):
        return (np.asarray(self.low) < p) & (p < np.asarray(self.high))

    def draw(self, key, p, spread):
        return _between(key, self.low, p, self.high, spread)


class Log(AbstractTransform):
    """The logarithm of p between the logarithms of two bounds > 0: for what spans orders of magnitude."""

    low: Param = eqx.field(converter=parameter)
    high: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        _bounds(self)
        if not bool(np.all(np.asarray(self.low) > 0)):
            raise ValueError(f"Log.low is {np.asarray(self.low)}; expected low > 0. Use Bounded for other ranges.")

    def forward(self, x):
        return jnp.exp(_squeezed(jnp.log(self.low), jnp.log(self.high), x))

    def inverse(self, p):
        return _stretched(jnp.log(self.low), jnp.log(self.high), jnp.log(p))

    def allows(self, p):
        return (np.asarray(self.low) < p) & (p < np.asarray(self.high))

    def draw(self, key, p, spread):
        return jnp.exp(_between(key, jnp.log(self.low), jnp.log(p), jnp.log(self.high), spread))


class Softplus(AbstractTransform):
    """`p = low + log(1 + exp(x))`: above one bound, and linear far above it."""

    low: Param = eqx.field(converter=parameter, default=0.0)

    def __check_init__(self) -> None:
        check_parameter("Softplus", "low", self.low)

    def forward(self, x):
        return self.low + jax.nn.softplus(x)

    def inverse(self, p):
        return jnp.log(jnp.expm1(p - self.low))

    def allows(self, p):
        return p > np.asarray(self.low)

    def draw(self, key, p, spread):
        return self.low + (p - self.low) * jnp.exp(spread * jax.random.normal(key, p.shape, p.dtype))


class Identity(AbstractTransform):
    """`p = x`: no bounds."""

    def forward(self, x):
        return x

    def inverse(self, p):
        return p

    def allows(self, p):
        return np.isfinite(p)

    def draw(self, key, p, spread):
        # without bounds there is no scale but that of the value itself
        return p + spread * jnp.maximum(jnp.abs(p), 1e-3) * jax.random.normal(key, p.shape, p.dtype)
