"""Fewer samples without aliases."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import float_dtype


def low_pass(factor: int, half_width: int) -> np.ndarray:
    """The `2 half_width factor + 1` taps of a windowed sinc (Hamming); those at both ends are 0."""
    from scipy.signal import firwin

    return np.asarray(firwin(2 * half_width * int(factor) + 1, 1.0 / factor))


def downsample(x: Float[Array, "steps ..."], factor: int, *, half_width: int = 10) -> Float[Array, "fewer ..."]:
    """Every `factor`-th sample of `x` along its first axis, after a low-pass filter below the new Nyquist frequency.

    A windowed sinc (Hamming) of `2 half_width factor + 1` taps without delay in phase, whose -6 dB point is the new
    Nyquist frequency; the ends are continued by their values. Linear, so differentiable at the cost of itself.

    **Arguments:** `x`: (steps, ...); `factor`: whole number >= 1; `half_width`: of the filter, in new samples.

    **Returns:** the filtered samples 0, factor, 2 factor, ...: (ceil(steps / factor), ...).

    **Raises:** ValueError on a factor below 1. Source: `scipy.signal.firwin`.
    """
    if isinstance(factor, bool) or not isinstance(factor, int | np.integer) or factor < 1:
        raise ValueError(f"downsample: factor is {factor!r}; expected a whole number >= 1.")
    x = jnp.asarray(x)
    if factor == 1:
        return x
    reach = half_width * int(factor)
    taps = jnp.asarray(low_pass(factor, half_width), x.dtype if x.dtype.kind == "f" else float_dtype())
    flat = jnp.pad(x.reshape(x.shape[0], -1), ((reach, reach), (0, 0)), mode="edge")
    rows = jnp.arange(0, x.shape[0], factor)[:, None] + jnp.arange(2 * reach + 1)[None, :]
    return jnp.einsum("tkn,k->tn", flat[rows], taps).reshape(rows.shape[0], *x.shape[1:])
