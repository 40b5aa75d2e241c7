"""What astrocytes have in common."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..base import float_dtype, is_traced


def start(n: int, **values: float) -> tuple[dict[str, Array], dict[str, Array]]:
    """Initial `(y, z)`: every unit at these values."""
    return {name: jnp.full(n, value, float_dtype()) for name, value in values.items()}, {}


def positive(unit: Any, *names: str) -> None:
    """Raise unless these parameters of `unit` are above 0."""
    for name in names:
        x = getattr(unit, name)
        if not is_traced(x) and not np.all(np.asarray(x) > 0):
            raise ValueError(
                f"{type(unit).__name__}.{name} is {np.asarray(x)}; expected {name} > 0. Mend the value given."
            )


def slow_current(ca: Array, threshold: Any, scale: Any) -> Array:
    """`scale ln(1000 (ca - threshold))` where the argument is above 1, else 0: pA, ca in uM."""
    above = 1e3 * (ca - threshold)
    on = above > 1.0
    return jnp.where(on, scale * jnp.log(jnp.where(on, above, jnp.ones_like(above))), jnp.zeros_like(above))
