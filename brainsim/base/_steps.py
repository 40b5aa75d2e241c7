"""Durations in steps: one rounding rule, one warning."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._checks import is_traced


def to_steps(duration: Any, dt: Any) -> Any:
    """`duration` (ms) in whole steps of `dt`, to the nearest, halves upward: int32, shaped like `duration`.

    NumPy in, NumPy out; JAX arrays and traced values give JAX arrays.
    """
    if isinstance(duration, np.ndarray):  # an operation of JAX costs 100 times as much
        kind = duration.dtype.type
        with np.errstate(invalid="ignore"):  # NaN is flagged by the run
            return np.floor(duration / kind(dt) + kind(0.5)).astype(np.int32)
    return jnp.floor(duration / dt + 0.5).astype(jnp.int32)


def warn_off_grid(where: str, what: str, duration: Any, dt: float) -> None:
    """Warn where `dt` does not divide `duration`, called `what`; of a traced one nothing is known."""
    if is_traced(duration) or not np.size(duration):
        return
    duration = np.asarray(duration)
    given, whole = duration.astype(np.float64).ravel(), to_steps(duration, dt).ravel()
    off = np.abs(given / dt - whole)
    worst = int(np.argmax(off))
    if off[worst] > 1e-3 + 1e-6 * whole[worst]:  # float32 keeps 7 digits of a duration
        warnings.warn(
            f"{where}: {what} of {given[worst]:g} ms is not a whole number of steps of dt = {dt:g} ms; it is rounded "
            f"to {whole[worst] * dt:g} ms. Give one that dt divides, or a smaller dt.",
            stacklevel=3,
        )
