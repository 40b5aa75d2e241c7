"""How fast the gates of a unit are: what a step has to resolve."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import float_dtype
from ..core import Clock, Population

GATE = 0.3
"""Steps times rate of a gate from which published cells have intervals that are 0.5 to 5 % off, by their solver."""


def gate_rates(node: Population, dt: float) -> dict[str, Float[Array, ""]]:
    """By variable of the unit, but v: its own largest rate (1/ms) at potentials from -90 to 40 mV. Empty where there is
    nothing to tell."""
    if not node.structure.independent or "v" not in node.variables or not node.size:
        return {}
    unit, row = node.unit, jnp.zeros(node.size, float_dtype())
    y, z = unit.init(node.size, Clock.of("", jnp.asarray(0, jnp.int32), dt, jax.random.key(0)))

    def rates(v):
        def field(k, x):
            return unit.vector_field({**y, "v": row + v, k: x}, z, row)[k]

        own = {k: jax.jvp(partial(field, k), (x,), (jnp.ones_like(x),))[1] for k, x in y.items() if k != "v"}
        return {k: jnp.max(jnp.abs(a)) for k, a in own.items()}

    return {k: jnp.max(a) for k, a in jax.vmap(rates)(jnp.arange(-90.0, 41.0, 10.0, dtype=row.dtype)).items()}
