"""What the masses have in common: initial values, checks of ranges, the transfer functions."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import check_parameter, float_dtype, is_traced


def start(n: int, **values: float) -> tuple[dict[str, Float[Array, " n"]], dict]:
    """`(y, z)` of `n` units that begin at these values and have nothing that jumps."""
    return {name: jnp.full(n, value, float_dtype()) for name, value in values.items()}, {}


def positive(unit: Any, *names: str) -> None:
    """Raise unless the named parameters of `unit` are finite and > 0."""
    owner = type(unit).__name__
    for name in names:
        x = getattr(unit, name)
        check_parameter(owner, name, x)
        if not is_traced(x) and not bool(np.all(np.asarray(x) > 0)):
            raise ValueError(f"{owner}.{name} is {np.asarray(x)}; expected {name} > 0. Mend the value given.")


def logistic(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """`1 / (1 + exp(-x))`, written so that neither tail overflows nor loses its derivative."""
    return 0.5 * (1.0 + jnp.tanh(0.5 * x))


def rectified(x: Float[Array, " n"], d: Any) -> Float[Array, " n"]:
    """`x / (1 - exp(-d x))`, the rate (Hz) of Abbott & Chance 2005, which is `1 / d + x / 2` where x is near 0.

    Both branches are finite everywhere, so that no derivative is NaN.
    """
    z = d * x
    near = jnp.abs(z) < 1e-3
    far = jnp.where(near, jnp.ones_like(z), z)
    series = (1.0 + z * (0.5 + z * (1.0 / 12.0))) / d
    return jnp.where(near, series, -far / (d * jnp.expm1(-jnp.maximum(far, -80.0))))
