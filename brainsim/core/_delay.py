"""Delays that can be learnt: an event spread over a few steps, whose weights have a derivative in the delay."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..base import Frozen, check_parameter, is_traced, parameter
from ._distributions import AbstractDistribution


def _value(x: Any) -> Any:
    return x if isinstance(x, AbstractDistribution) else parameter(x)


class AbstractDelay(Frozen):
    """A delay `d` (ms) whose events arrive in parts, over a fixed number of steps."""

    d: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def parts(
        self, x: Float[Array, "..."], dt: float, line: int
    ) -> list[tuple[Float[Array, "..."], Int[Array, "..."]]]:
        """`(share, steps)` of every part of a delay of `x` steps, 0 <= x <= line; the shares sum to 1, and the steps
        are 0 to `line`."""

    def hardened(self, dt: float) -> Float[Array, "..."]:
        """`d` rounded to whole steps of `dt` (ms), halves upward: the delay of a plain `Projection`."""
        return jnp.maximum(jnp.floor(self.d / dt + 0.5), 0.0) * dt


class LinearDelay(AbstractDelay):
    r"""A delay between two steps: with $d / dt = m + f$, $0 \le f < 1$, the share $1 - f$ arrives after m steps and $f$
    after m + 1 (each plus the one step that every event takes).

    Exact in the mean arrival time. The derivative in `d` is that of the two weights: right where what is received is a
    smooth function of time, as after a receptor with a time constant. A d below 0 or above `max_delay` counts as at the
    border, with the derivative there.

    **Arguments:** `d`: ms; number, distribution, or array per synapse or per pre unit, trainable. The projection needs
    a `max_delay`. `bs.hardened(net, dt)` makes a plain delay of it.

    Example: `bs.Projection("A", "B.exc", rule, weight=1.0, delay=bs.LinearDelay(bs.Uniform(0.0, 5.0)), max_delay=10.0)`

    Source: the linear interpolation of Shrestha & Orchard 2018 (SLAYER) and of DCLS (Khalfaoui-Hassani et al. 2023).
    """

    d: Any = eqx.field(converter=_value)

    def parts(self, x, dt, line):
        m = jnp.clip(jnp.floor(x), 0.0, max(line - 1, 0))  # at the end of the line f = 1
        f = x - m
        k = m.astype(jnp.int32)
        return [(1.0 - f, k), (f, jnp.minimum(k + 1, line))]


class GaussianDelay(AbstractDelay):
    r"""A delay spread over the steps within `reach` of it, with shares $\propto \exp(-(k\,dt - d)^2 / 2 \sigma^2)$.

    A wide sigma lets the gradient see far, a narrow one is close to the plain delay: training starts wide and shrinks
    sigma, a leaf like any other. The window of steps moves with d and stops at the ends of the line, 0 and `max_delay`.

    **Arguments:** `d`: as in `LinearDelay`; `sigma`: ms, one number > 0; `reach`: half width of the window (ms), fixed
    at construction, 3 sigma by default. A reach of half of `max_delay` or more is a window of the whole line.

    Source: Hammouamri, Khalfaoui-Hassani & Masquelier 2024, doi:10.48550/arXiv.2306.17670.
    """

    d: Any = eqx.field(converter=_value)
    sigma: Any = eqx.field(converter=parameter)
    reach: float = eqx.field(static=True)

    def __init__(self, d: Any, sigma: Any, reach: float | None = None):
        self.d, self.sigma = _value(d), parameter(sigma)
        check_parameter("GaussianDelay", "sigma", self.sigma)
        if jnp.ndim(self.sigma) or not (is_traced(self.sigma) or float(self.sigma) > 0):
            raise ValueError(f"GaussianDelay.sigma is {sigma!r}; expected one number > 0 (ms).")
        if reach is None and is_traced(self.sigma):
            raise ValueError("GaussianDelay: sigma is traced; give reach (ms), the fixed half width of the window.")
        self.reach = 3.0 * float(self.sigma) if reach is None else float(reach)
        if not self.reach > 0:
            raise ValueError(f"GaussianDelay.reach is {reach!r}; expected a half width > 0 (ms).")

    def parts(self, x, dt, line):
        wide = min(2 * math.ceil(self.reach / dt - 1e-3), line)
        first = jnp.clip(jnp.floor(x + 0.5) - wide // 2, 0.0, line - wide)
        steps = [first + o for o in range(wide + 1)]
        shares = jax.nn.softmax(jnp.stack([-0.5 * ((k - x) * dt / self.sigma) ** 2 for k in steps]), axis=0)
        return [(share, k.astype(jnp.int32)) for share, k in zip(shares, steps, strict=True)]


def spread(
    delay: AbstractDelay, weight: Array, dt: float, max_delay: float, line: int
) -> tuple[tuple[Array, Array], ...]:
    """`(weight, k)` of every part of events over `delay`, k in steps as in `delay_steps`."""
    x = delay.d / dt
    x = x + jax.lax.stop_gradient(jnp.clip(x, 0.0, max_delay / dt) - x)
    return tuple((weight * share, 1 + k) for share, k in delay.parts(x, dt, line))


def by_step(parts: tuple[tuple[Array, Array], ...], line: int) -> tuple[tuple[Array, Array], ...]:
    """Parts of a matrix of synapses, `k` one for each, as a matrix for every step of the line: the kernel of a
    convolution over time."""
    weight, k = (jnp.stack(x) for x in zip(*parts, strict=True))
    pre, post = (jnp.arange(n)[s] for n, s in zip(weight.shape[1:], ((..., None), (None, ...)), strict=True))
    kernel = jnp.zeros((1 + line, *weight.shape[1:]), weight.dtype).at[k - 1, pre, post].add(weight)
    return tuple((rows, jnp.asarray(1 + n, jnp.int32)) for n, rows in enumerate(kernel))
