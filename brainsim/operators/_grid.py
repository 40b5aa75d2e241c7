"""Convolution over a grid by FFT, with the boundary as an extension of the grid."""

import enum
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import float_dtype


class Boundary(enum.Enum):
    """What lies beyond a grid: itself again (`PERIODIC`), nothing (`ZERO`), or its mirror image (`REFLECTING`)."""

    PERIODIC = "periodic"
    ZERO = "zero"
    REFLECTING = "reflecting"


MODE = {Boundary.PERIODIC: "wrap", Boundary.ZERO: "constant", Boundary.REFLECTING: "reflect"}
"""How an array is padded to continue it beyond its boundary."""


def extended(boundary: Boundary, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the periodic grid that stands for a grid with this boundary."""
    return shape if boundary is Boundary.PERIODIC else tuple(2 * n for n in shape)


def transform(kernel: Callable[[Any], Any], shape: tuple[int, ...], spacing: float) -> Float[Array, "..."]:
    """The real half transform of `kernel(distance)` times the area of a cell, on a periodic grid of this shape."""
    along = [np.minimum(np.arange(n), n - np.arange(n)) * spacing for n in shape]
    distance = np.sqrt(sum(np.square(x) for x in np.meshgrid(*along, indexing="ij")))
    values = np.asarray(kernel(jnp.asarray(distance, float_dtype())), np.float64)
    if values.shape != shape or not np.all(np.isfinite(values)):
        raise ValueError(
            f"kernel: of distances of shape {shape} it makes {values.shape} with finite values: "
            f"{bool(np.all(np.isfinite(values)))}; expected one finite weight for each."
        )
    return jnp.asarray(np.fft.rfftn(values).real * spacing ** len(shape), float_dtype())  # even: no imaginary part


def convolve(hat: Float[Array, "..."], x: Float[Array, "..."], boundary: Boundary) -> Float[Array, "..."]:
    """The convolution of `x` with the kernel whose transform on the extended grid is `hat`."""
    shape = x.shape
    if boundary is Boundary.ZERO:
        x = jnp.pad(x, [(0, n) for n in shape])
    elif boundary is Boundary.REFLECTING:
        for axis in range(x.ndim):
            x = jnp.concatenate([x, jnp.flip(x, axis)], axis)
    full = x.shape
    x = jnp.fft.rfftn(x)
    y = jnp.fft.irfftn(x * hat.astype(x.dtype), s=full, axes=tuple(range(x.ndim)))
    return y[tuple(slice(0, n) for n in shape)]
