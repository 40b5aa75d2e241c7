"""Losses: pure functions of recordings, shape (steps, ...), and what was wanted; all in ms, mV and Hz.

Spikes are the 0/1 values that `Events` records, so that a loss of them differentiates through the surrogate.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import float_dtype


def difference(x: Float[Array, "steps ..."], data: Any) -> Float[Array, "steps ..."]:
    """`x - data` of a recording and what was measured, in the same shape: residuals.

    **Raises:** ValueError where the shapes differ, e.g. data longer than the run.
    """
    data = jnp.asarray(data, x.dtype)
    if data.shape != x.shape:
        wrong = f"the data have shape {data.shape} and the recording {x.shape}"
        if data.ndim and x.ndim and data.shape[0] > x.shape[0]:
            raise ValueError(f"{wrong}: data longer than the run. Raise t1, or cut the data to {x.shape[0]} samples.")
        raise ValueError(f"{wrong}; expected the same. Record the same units and steps, e.g. x[:, 0] for one unit.")
    return x - data


def voltage(v: Float[Array, "steps ..."], data: Any) -> Float[Array, ""]:
    """Mean squared difference of two traces (mV^2)."""
    return jnp.mean(difference(v, data) ** 2)


def _filtered_difference(s: Array, target: Array, keep: Array) -> Array:
    def step(d, x):
        d = d * keep + x
        return d, d

    return jax.lax.scan(step, jnp.zeros_like(s[0]), s - target)[1]


def van_rossum(
    s: Float[Array, "steps *n"], target: Float[Array, "steps *n"], *, tau: float, dt: float
) -> Float[Array, ""]:
    """Mean over units of `D^2 = 1/tau int (f - g)^2 dt` with `f` the spikes filtered by `exp(-t / tau)`, t > 0.

    The integral is exact, to infinity: 1/2 for one spike against none, `1 - exp(-delta / tau)` for two spikes `delta`
    apart. Source: van Rossum 2001, doi:10.1162/089976601300014321.
    """
    if s.shape != jnp.shape(target):
        raise ValueError(f"van_rossum: spikes of shape {s.shape}, target {jnp.shape(target)}; expected the same shape.")
    keep = jnp.exp(jnp.asarray(-dt / tau, s.dtype))
    d2 = _filtered_difference(s, jnp.asarray(target, s.dtype), keep) ** 2
    # between spikes d decays: d^2 tau / 2 (1 - keep^2) in a step, and after the last one what is left of it
    return jnp.mean(0.5 * (jnp.sum(d2, 0) * (1.0 - keep**2) + d2[-1] * keep**2))


def victor_purpura(t: Any, target: Any, *, cost: float) -> float:
    """The least cost of turning one spike train into the other: 1 for a spike added or removed, `cost` (1/ms) times the
    shift for one moved.

    For evaluation: times (ms) are numbers, and it has no derivative. Source: Victor & Purpura 1996,
    doi:10.1152/jn.1996.76.2.1310.
    """
    a, b = np.sort(np.asarray(t, float)), np.sort(np.asarray(target, float))
    row = np.arange(b.size + 1, dtype=float)
    for k, x in enumerate(a):
        new = np.empty_like(row)
        new[0] = k + 1.0
        moved = row[:-1] + cost * np.abs(x - b)
        for j in range(b.size):
            new[j + 1] = min(row[j + 1] + 1.0, new[j] + 1.0, moved[j])
        row = new
    return float(row[-1])


def coincidence(t: Any, target: Any, *, window: float, duration: float) -> float:
    """Coincidence factor Gamma of two spike trains: 1 for the same, 0 for what a Poisson train of the same rate has.

    `Gamma = (N_coinc - 2 nu window N_target) / ((N + N_target) / 2) / (1 - 2 nu window)`, `nu = N / duration`, with a
    spike of `target` coincident where one of `t`, not yet used, is within `window`. For evaluation; times in ms.
    Source: Jolivet et al. 2008, doi:10.1016/j.jneumeth.2007.11.006, eq. 1; not normalised by reliability.
    """
    a, b = np.sort(np.asarray(t, float)), np.sort(np.asarray(target, float))
    if a.size + b.size == 0:
        return 1.0
    found, k = 0, 0
    for x in b:
        while k < a.size and a[k] < x - window:
            k += 1
        if k < a.size and a[k] <= x + window:
            found, k = found + 1, k + 1
    chance = 2.0 * window * a.size / duration
    return float((found - chance * b.size) / (0.5 * (a.size + b.size)) / (1.0 - chance))


def spike_count(s: Float[Array, "steps *n"], target: Any) -> Float[Array, ""]:
    """Mean squared difference of the number of spikes of every unit from `target`, shape () or (n,)."""
    return jnp.mean((jnp.sum(s, 0) - jnp.asarray(target, s.dtype)) ** 2)


def rates(s: Float[Array, "steps *n"], *, dt: float) -> Float[Array, "*n"]:
    """Mean firing rate of every unit (Hz)."""
    return jnp.mean(s, 0) * (1e3 / dt)


def rate(s: Float[Array, "steps *n"], target: Any, *, dt: float) -> Float[Array, ""]:
    """Mean squared difference of the rate of every unit from `target` (Hz^2), shape () or (n,)."""
    return jnp.mean((rates(s, dt=dt) - jnp.asarray(target, s.dtype)) ** 2)


def latencies(s: Float[Array, "steps *n"], *, dt: float) -> Float[Array, "*n"]:
    """Time of the first spike of every unit (ms, the end of its step); one step after the last for none.

    `dt (1 + sum_k prod_(j <= k) (1 - s_j))`: a spike ends the product.
    """
    return dt * (1.0 + jnp.sum(jnp.cumprod(1.0 - s, 0), 0))


def first_spike_latency(s: Float[Array, "steps *n"], target: Any, *, dt: float) -> Float[Array, ""]:
    """Mean squared difference of the time of the first spike from `target` (ms^2), shape () or (n,)."""
    return jnp.mean((latencies(s, dt=dt) - jnp.asarray(target, s.dtype)) ** 2)


def isi_statistics(s: Float[Array, "steps *n"], *, dt: float) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Mean (ms) and coefficient of variation of the intervals between the spikes of every unit; 0 and 0 without any.

    The age `a` grows by dt in a step and ends at a spike: intervals are the ages at the spikes after the first.
    """

    def step(carry, x):
        age, seen = carry
        age = age + dt
        counted = x * seen
        return (age * (1.0 - x), seen + x - seen * x), (counted, counted * age, counted * age**2)

    zero = jnp.zeros_like(s[0])
    sums = jax.lax.scan(step, (zero, zero), s)[1]
    n, first, second = (jnp.sum(x, 0) for x in sums)
    some = jnp.maximum(n, 1.0)
    mean = first / some
    variance = jnp.maximum(second / some - mean**2, 0.0)
    spread = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    return mean, spread / jnp.where(mean > 0, mean, 1.0)


def isi(s: Float[Array, "steps *n"], mean: Any, cv: Any, *, dt: float) -> Float[Array, ""]:
    """Squared relative error of the mean interval (ms) plus squared error of its coefficient of variation."""
    m, c = isi_statistics(s, dt=dt)
    mean, cv = jnp.asarray(mean, s.dtype), jnp.asarray(cv, s.dtype)
    return jnp.mean((m / mean - 1.0) ** 2 + (c - cv) ** 2)


def power_spectrum(x: Float[Array, "steps *n"], *, dt: float) -> tuple[Float[Array, " f"], Float[Array, "f *n"]]:
    """Frequencies (Hz) and one-sided power density (unit^2 / Hz) of x less its mean: its sum times the width of a bin
    is the variance (Parseval)."""
    n = x.shape[0]
    z = jnp.fft.rfft(x - jnp.mean(x, 0, keepdims=True), axis=0)
    twice = np.full(n // 2 + 1, 2.0)
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    weight = jnp.asarray(twice * dt * 1e-3 / n, x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.asarray(np.fft.rfftfreq(n, dt * 1e-3), x.dtype), weight * jnp.abs(z) ** 2


def spectrum(x: Float[Array, "steps *n"], target: Any, *, dt: float, floor: float = 1e-12) -> Float[Array, ""]:
    """Mean squared difference of the logarithms of the power density of x and `target`, as `power_spectrum` gives it.

    The frequency 0 is left out; `floor` is added to both.
    """
    power = power_spectrum(x, dt=dt)[1]
    target = jnp.asarray(target, x.dtype)
    if target.shape != power.shape:
        raise ValueError(f"spectrum: target of shape {target.shape}; expected {power.shape}, as power_spectrum gives.")
    return jnp.mean((jnp.log(power[1:] + floor) - jnp.log(target[1:] + floor)) ** 2)


def cross_entropy(scores: Float[Array, "... classes"], label: Int[Array, "..."]) -> Float[Array, ""]:
    """Mean of `-log softmax(scores)[label]`.

    Scores are what a class is read from: `rates(s)`, `jnp.mean(v, 0)` or `jnp.max(v, 0)` of the membranes of one
    readout unit per class.
    """
    chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), jnp.asarray(label)[..., None], -1)
    return -jnp.mean(chosen)


def rate_band(s: Float[Array, "steps *n"], low: float, high: float, *, dt: float) -> Float[Array, ""]:
    """Mean over units of the squared distance of the rate from the band [low, high] (Hz^2): a regulariser."""
    r = rates(s, dt=dt)
    return jnp.mean(jnp.maximum(low - r, 0.0) ** 2 + jnp.maximum(r - high, 0.0) ** 2)


def l1(*xs: Array) -> Float[Array, ""]:
    """Sum of the absolute values of arrays: a regulariser."""
    return sum((jnp.sum(jnp.abs(x)) for x in xs), start=jnp.zeros((), float_dtype()))


def l2(*xs: Array) -> Float[Array, ""]:
    """Sum of the squares of arrays: a regulariser."""
    return sum((jnp.sum(x**2) for x in xs), start=jnp.zeros((), float_dtype()))
