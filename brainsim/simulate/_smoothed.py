"""A rate, or any recording, smoothed over time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_REACH = 4.0  # standard deviations: beyond lies 6e-5 of the mass


def smoothed(x: Float[Array, "steps *shape"], *, dt: float, width: float) -> Float[Array, "steps *shape"]:
    """`x` smoothed over its first axis, time, with a Gaussian of standard deviation `width`.

    $$y_k = \\frac{\\sum_j G(t_k - t_j)\\, x_j}{\\sum_j G(t_k - t_j)}, \\qquad G(t) = e^{-t^2 / 2 \\sigma^2}$$

    with sums over the samples there are, so that a constant stays what it is up to both ends. Differentiable.

    **Arguments:** `x`: samples, (n,) or (n, ...); `dt`: their distance (ms); `width`: sigma (ms).

    **Raises:** ValueError unless `dt` and `width` are numbers > 0.

    !!! Example
        `bs.smoothed(sol["P.rate"], dt=sol.dt, width=5.0)`
    """
    for name, value in (("dt", dt), ("width", width)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"smoothed: {name} is {value}; expected a number > 0 (ms).")
    x = jnp.asarray(x)
    n = x.shape[0]
    reach = min(math.ceil(_REACH * width / dt), n - 1)
    g = jnp.asarray(np.exp(-0.5 * (np.arange(-reach, reach + 1) * dt / width) ** 2), x.dtype)

    def over_time(x):
        return jnp.convolve(x, g, mode="full", precision=jax.lax.Precision.HIGHEST)[reach : reach + n]

    mass = over_time(jnp.ones(n, x.dtype))
    columns = jax.vmap(over_time, 1, 1)(x.reshape(n, math.prod(x.shape[1:])))
    return (columns / mass[:, None]).reshape(x.shape)
