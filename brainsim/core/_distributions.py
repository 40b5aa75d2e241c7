"""Named distributions for weights, delays and initial values."""

import abc
import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

from brainsim.base import Frozen, Key, Param, check_parameter, float_dtype, is_traced, parameter, vary_with

Shape = tuple[int, ...]

FAR = 40.0
"""Standard deviations beyond which a normal law has no mass in float64."""


class AbstractDistribution(Frozen):
    """A law that values are drawn from; its parameters are fields of shape () or of the shape that is drawn."""

    @abc.abstractmethod
    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        """Independent values of the given shape, differentiable in the parameters."""


def _name(distribution: AbstractDistribution) -> str:
    return type(distribution).__name__


def _require(owner: str, name: str, value: Any, good: Any, expected: str, fix: str) -> None:
    """Raise unless every number of `value` passes `good`; what is traced cannot be looked at and passes."""
    check_parameter(owner, name, value)
    if not is_traced(value) and not bool(np.all(good(np.asarray(value)))):
        raise ValueError(f"{owner}.{name} is {np.asarray(value)}; expected {expected}. {fix}")


def _shaped(owner: str, name: str, x: Param, shape: Shape) -> Float[Array, "..."]:
    """A parameter spread over the shape that is drawn."""
    if x.shape not in ((), shape):
        raise ValueError(
            f"{owner}.{name} has shape {x.shape} but values of shape {shape} are drawn; expected () or {shape}. "
            f"Pass a number, or an array of the shape that is drawn."
        )
    return jnp.broadcast_to(x, shape)


class Normal(AbstractDistribution):
    r"""The normal law, restricted to an interval when bounds are given.

    $p(x) \propto \exp(-(x - \text{mean})^2 / 2\,\text{std}^2)$ for low <= x <= high: the law of drawing again until the
    value lies inside, so with bounds `mean` and `std` are those of the normal *before* truncation.

    **Arguments:** `mean`, `std` >= 0, in the unit of the variable, shape () or the shape drawn; `low` < `high`,
    numbers.
    **Raises** ValueError for a negative std, for NaN, and for an interval that is empty.

    Inverse-CDF sampling (L. Devroye, 1986, Non-Uniform Random Variate Generation, II.2), in the tail where it is exact.

    **Example**

    >>> Normal(0.5, 0.1, low=0.0).sample(jax.random.key(0), (1000,)).shape
    (1000,)
    """

    mean: Param = eqx.field(converter=parameter)
    std: Param = eqx.field(converter=parameter)
    low: float = eqx.field(converter=float, static=True, default=-math.inf)
    high: float = eqx.field(converter=float, static=True, default=math.inf)

    def __check_init__(self) -> None:
        check_parameter("Normal", "mean", self.mean)
        _require("Normal", "std", self.std, lambda s: s >= 0, "std >= 0", "Pass the standard deviation, not its sign.")
        if not self.low < self.high:
            raise ValueError(
                f"Normal(low={self.low}, high={self.high}) leaves no interval; expected low < high. Swap or widen them."
            )
        if (self._bounded and not is_traced(self.mean)) and not is_traced(self.std):
            mean, std = np.asarray(self.mean), np.asarray(self.std)
            # a normal of width zero is its mean; the bounds must then hold it
            if np.any((std == 0) & ((mean < self.low) | (mean > self.high))):
                raise ValueError(
                    f"Normal(mean={mean}, std={std}, low={self.low}, high={self.high}) has no value inside its bounds; "
                    f"expected low <= mean <= high where std is 0. Move the bounds or give a std."
                )

    @property
    def _bounded(self) -> bool:
        return self.low > -math.inf or self.high < math.inf

    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        mean, std = _shaped("Normal", "mean", self.mean, shape), _shaped("Normal", "std", self.std, shape)
        if not self._bounded:
            return mean + std * jax.random.normal(key, shape, mean.dtype)
        low, high = (jnp.asarray(x, mean.dtype) for x in (self.low, self.high))
        return _truncated(key, mean, std, low, high)


@jax.jit
def _truncated(key: Key, mean: Param, std: Param, low: Array, high: Array) -> Float[Array, "..."]:
    """Normal values inside [low, high] by the inverse of the CDF; `mean` where std is 0."""
    some = jnp.where(std > 0, std, jnp.ones((), std.dtype))
    # an open end is FAR in standard deviations: infinity would make the derivative inf * 0
    a, b = (
        jnp.where(jnp.isfinite(end), (jnp.where(jnp.isfinite(end), end, 0.0) - mean) / some, far)
        for end, far in ((low, -FAR), (high, FAR))
    )
    # the CDF is precise near 0 and not near 1: reflect an interval that lies in the upper tail
    up = a > 0
    a, b = jnp.where(up, -b, a), jnp.where(up, -a, b)
    pa, pb = ndtr(a), ndtr(b)
    half = jnp.finfo(mean.dtype).eps / 2
    u = jax.random.uniform(key, mean.shape, mean.dtype) + half  # inside (0, 1), both ends left out
    z = jnp.clip(ndtri(jnp.minimum(pa + (pb - pa) * u, 1 - half)), a, b)
    x = jnp.clip(mean + some * jnp.where(up, -z, z), low, high)
    return jnp.where(std > 0, x, mean)


class Uniform(AbstractDistribution):
    """The uniform law on [low, high).

    **Arguments:** `low` < `high`, in the unit of the variable, shape () or the shape drawn. **Raises** ValueError for
    an empty interval or NaN.

    **Example**

    >>> Uniform(-60.0, -50.0).sample(jax.random.key(0), (1000,)).shape
    (1000,)
    """

    low: Param = eqx.field(converter=parameter)
    high: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        check_parameter("Uniform", "low", self.low)
        check_parameter("Uniform", "high", self.high)
        if is_traced(self.low) or is_traced(self.high):
            return
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.shape != high.shape and low.ndim and high.ndim:
            raise ValueError(f"Uniform.low has shape {low.shape} and high {high.shape}; expected one shape or numbers.")
        if not np.all(low < high):
            raise ValueError(
                f"Uniform(low={low}, high={high}) is empty; expected low < high. Swap them, or pass a number."
            )

    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        low, high = _shaped("Uniform", "low", self.low, shape), _shaped("Uniform", "high", self.high, shape)
        return low + (high - low) * jax.random.uniform(key, shape, low.dtype)


class LogNormal(AbstractDistribution):
    r"""The law of $\exp(\mu + \sigma z)$, z standard normal; median $e^\mu$, mean $e^{\mu + \sigma^2/2}$.

    **Arguments:** `mu`, `sigma` >= 0: mean and standard deviation of the *logarithm*, shape () or the shape drawn; see
    `LogNormal.from_moments` for those of the variable. **Raises** ValueError for a negative sigma or NaN.

    **Example**

    >>> LogNormal(-0.7, 0.9).sample(jax.random.key(0), (1000,)).shape
    (1000,)
    """

    mu: Param = eqx.field(converter=parameter)
    sigma: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        check_parameter("LogNormal", "mu", self.mu)
        _require("LogNormal", "sigma", self.sigma, lambda s: s >= 0, "sigma >= 0", "Pass the std of the logarithm.")

    @classmethod
    def from_moments(cls, mean: Any, std: Any) -> "LogNormal":
        r"""The log-normal whose own mean (> 0) and standard deviation (>= 0) are given.

        $\sigma^2 = \log(1 + \text{std}^2/\text{mean}^2)$, $\mu = \log \text{mean} - \sigma^2/2$.
        """
        mean, std = parameter(mean), parameter(std)
        fix = "A log-normal variable is positive: use Normal for others."
        _require("LogNormal.from_moments", "mean", mean, lambda m: m > 0, "mean > 0", fix)
        _require("LogNormal.from_moments", "std", std, lambda s: s >= 0, "std >= 0", "Pass the standard deviation.")
        if mean.shape != std.shape:
            mean, std = jnp.broadcast_arrays(mean, std)
        variance = jnp.log1p((std / mean) ** 2)
        return cls(jnp.log(mean) - variance / 2, jnp.sqrt(variance))

    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        mu, sigma = _shaped("LogNormal", "mu", self.mu, shape), _shaped("LogNormal", "sigma", self.sigma, shape)
        return jnp.exp(mu + sigma * jax.random.normal(key, shape, mu.dtype))


class Exponential(AbstractDistribution):
    r"""The exponential law $p(x) = e^{-x/\text{scale}}/\text{scale}$, x >= 0, of mean and standard deviation `scale`.

    **Arguments:** `scale` > 0, in the unit of the variable, shape () or the shape drawn. **Raises** ValueError else.

    **Example**

    >>> Exponential(2.0).sample(jax.random.key(0), (1000,)).shape
    (1000,)
    """

    scale: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        fix = "Pass the mean (one over the rate)."
        _require("Exponential", "scale", self.scale, lambda s: s > 0, "scale > 0", fix)

    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        scale = _shaped("Exponential", "scale", self.scale, shape)
        return scale * jax.random.exponential(key, shape, scale.dtype)


@jax.custom_jvp
@jax.jit
def _standard_gamma(key: Key, a: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gamma values of shape parameter `a` and scale 1 (G. Marsaglia and W. W. Tsang, 2000, doi:10.1145/358407.358414).

    All elements draw together until each has accepted (95 % and more a round): many times faster than one key and one
    loop for each element.
    """
    small = a < 1
    d = jnp.where(small, a + 1, a) - 1 / 3
    c = 1 / jnp.sqrt(9 * d)
    key, key_u = jax.random.split(key)

    def attempt(carry: Any) -> Any:
        key, x, done = carry
        key, key_z, key_u = jax.random.split(key, 3)
        z = jax.random.normal(key_z, a.shape, a.dtype)
        u = jax.random.uniform(key_u, a.shape, a.dtype)
        # behind a barrier no product is contracted with a sum: the same bits in whatever program
        z, u = jax.lax.optimization_barrier((z, u))
        v = (1 + jax.lax.optimization_barrier(c * z)) ** 3
        log_v = jnp.log(jnp.where(v > 0, v, jnp.ones((), a.dtype)))
        half, value, log = jax.lax.optimization_barrier((0.5 * z**2, d * v, d * log_v))
        # 1 - u lies in (0, 1], where the logarithm is finite
        good = (v > 0) & (jnp.log1p(-u) < half + d - value + log)
        return key, jnp.where(good & ~done, value, x), done | good

    start = vary_with((key, jnp.zeros_like(a), jnp.zeros(a.shape, bool)), a)
    _, x, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), attempt, start)
    power = jnp.log1p(-jax.random.uniform(key_u, a.shape, a.dtype)) / jnp.where(small, a, jnp.ones((), a.dtype))
    return jnp.where(small, x * jnp.exp(power), x)


@_standard_gamma.defjvp
def _standard_gamma_jvp(primals: Any, tangents: Any) -> Any:
    """The implicit derivative dx/da = -(dF/da)/(dF/dx) of a sample at a fixed quantile."""
    key, a = primals
    x = _standard_gamma(key, a)
    return x, jax.lax.random_gamma_grad(a, x) * tangents[1]  # pyright: ignore[reportCallIssue]


class Gamma(AbstractDistribution):
    r"""The gamma law $p(x) \propto x^{\text{shape}-1} e^{-x/\text{scale}}$; mean shape*scale, variance shape*scale^2.

    **Arguments:** `shape` > 0 (no unit), `scale` > 0 in the unit of the variable; shape () or the shape drawn.
    **Raises** ValueError else.

    **Example**

    >>> Gamma(4.0, 0.5).sample(jax.random.key(0), (1000,)).shape
    (1000,)
    """

    shape: Param = eqx.field(converter=parameter)
    scale: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        _require("Gamma", "shape", self.shape, lambda s: s > 0, "shape > 0", "shape is (mean/std)^2.")
        _require("Gamma", "scale", self.scale, lambda s: s > 0, "scale > 0", "scale is std^2/mean.")

    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        a, scale = _shaped("Gamma", "shape", self.shape, shape), _shaped("Gamma", "scale", self.scale, shape)
        return scale * _standard_gamma(key, a)


@eqx.filter_jit
def _drawn(law: AbstractDistribution, key: Key, shape: Shape) -> Float[Array, "..."]:
    """Values of `law`, the same bits outside of transformations and inside of all of them.

    Compiled as one function of parameters that the compiler cannot fold: with constants it would compute other bits
    than with numbers, and one by one other bits than where it contracts a product and a sum.
    """
    numbers, rest = eqx.partition(law, eqx.is_array)
    return eqx.combine(jax.lax.optimization_barrier(numbers), rest).sample(key, shape)


PIECE = 2**16
"""Values of one call of `drawn_in_pieces`."""


class _Bounded(AbstractDistribution):
    """A normal law whose bounds are numbers of a run and not of the program: one program for all bounds."""

    normal: Normal
    low: Array
    high: Array

    def sample(self, key: Key, shape: Shape) -> Float[Array, "..."]:
        mean, std = (jnp.broadcast_to(x, shape) for x in (self.normal.mean, self.normal.std))
        return _truncated(key, mean, std, self.low, self.high)


def drawn_in_pieces(law: AbstractDistribution, key: Key, shape: Shape) -> Float[Array, "..."]:
    """Values of `law`, in pieces of one length whatever the shape: one program for all projections of a network.

    Piece k is drawn with `fold_in(key, k)`. Laws with a parameter for each value are drawn as they are.
    """
    if any(jnp.ndim(x) for x in jax.tree.leaves(law)):
        return _drawn(law, key, shape)
    if isinstance(law, Normal) and law._bounded:
        low, high = (jnp.asarray(x, law.mean.dtype) for x in (law.low, law.high))
        law = _Bounded(Normal(law.mean, law.std), low, high)
    n = math.prod(shape)
    pieces = (_drawn(law, _folded(key, np.int32(k)), (PIECE,)) for k in range(-(-n // PIECE)))
    first = next(pieces, None)
    if first is None:
        return jnp.zeros(shape, float_dtype())
    if is_traced(first):
        return jnp.concatenate([first, *pieces])[:n].reshape(shape)
    values = np.empty(n, first.dtype)  # filled piece by piece: no more memory than the values take
    for k, piece in enumerate(itertools.chain([first], pieces)):
        values[k * PIECE : (k + 1) * PIECE] = np.asarray(piece)[: n - k * PIECE]
    return jnp.asarray(values.reshape(shape))


_folded = jax.jit(jax.random.fold_in)


def draw(x: Any, key: Key | None, shape: Shape, *, owner: str = "draw", name: str = "value") -> Float[Array, "..."]:
    """The values that a number, an array or a distribution stands for.

    **Arguments:** `x`: a number (gives shape ()), an array of shape () or `shape`, or a distribution (gives `shape`);
    `key`: used by a distribution only; `owner`, `name`: whom an error speaks of.
    **Returns** a floating array of shape () or `shape`. **Raises** ValueError or TypeError for anything else.
    """
    if isinstance(x, AbstractDistribution):
        if key is None:
            raise ValueError(
                f"{owner}.{name} is the distribution {x}, which needs a key; expected key=jax.random.key(...)."
            )
        return _drawn(x, key, tuple(shape))
    value = parameter(x)
    check_parameter(owner, name, value)
    value = jnp.asarray(value, float_dtype())
    if value.shape not in ((), tuple(shape)):
        raise ValueError(
            f"{owner}.{name} has shape {value.shape}; expected a number, an array of shape {tuple(shape)} or a "
            f"distribution. Give one value for each element, or one number for all."
        )
    return value
