"""Waveforms over time, for `simulate(inputs={...})`, for rates of sources and for clamped potentials.

Their unit is that of what they feed: pA for populations, Hz for a Poisson source, mV for a voltage clamp. A waveform is
constant within a step and has there the value of the middle of the step. Its times are those of the state, so that a
run from a state at 100 ms begins with what the waveform is at 100 ms.
"""

import math
import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Param, check_parameter, float_dtype, is_traced, parameter
from ..core import AbstractInput, Clock
from ..events import normals, seed_of
from ._shared import not_negative, positive


class AbstractWaveform(AbstractInput):
    """An `AbstractInput` of this package; waveforms add up with `+`."""

    def __add__(self, other: AbstractInput) -> "Sum":
        return Sum(self, other) if isinstance(other, AbstractInput) else NotImplemented


def _middle(clock: Clock) -> Float[Array, ""]:
    """The time of the middle of the step (ms): jumps at whole steps are met whatever the rounding of n * dt."""
    return (clock.n.astype(clock.dt.dtype) + 0.5) * clock.dt


def _fits(waveform: Any, name: str, n: int, *fields: str) -> None:
    for field in fields:
        shape = jnp.shape(getattr(waveform, field))
        if shape not in ((), (n,)):
            owner = f"{type(waveform).__name__}.{field}"
            raise ValueError(
                f"input of {name!r}: {owner} has shape {shape}; expected () or ({n},), one value per unit."
            )


def _table(waveform: Any, name: str, n: int, field: str) -> None:
    shape = jnp.shape(getattr(waveform, field))
    if len(shape) == 2 and shape[1] != n:
        owner = f"{type(waveform).__name__}.{field}"
        raise ValueError(f"input of {name!r}: {owner} has shape {shape}; expected ({shape[0]},) or ({shape[0]}, {n}).")


class StepCurrent(AbstractWaveform):
    """Steps: `amplitudes[k]` from `times[k]` until the next; 0 before the first.

    **Arguments:** `amplitudes`: (k,) or (k, n) for n units; `times`: (k,), increasing (ms).
    """

    amplitudes: Param = eqx.field(converter=parameter)
    times: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        check_parameter("StepCurrent", "amplitudes", self.amplitudes)
        check_parameter("StepCurrent", "times", self.times)
        a, t = jnp.shape(self.amplitudes), jnp.shape(self.times)
        if len(t) != 1 or t[0] == 0 or len(a) not in (1, 2) or a[0] != t[0]:
            raise ValueError(
                f"StepCurrent: amplitudes of shape {a} and times of shape {t}; expected (k,) or (k, n), and (k,)."
            )
        if not is_traced(self.times) and np.any(np.asarray(self.times[1:] <= self.times[:-1])):
            raise ValueError(f"StepCurrent.times is {np.asarray(self.times)}; expected increasing times. Sort them.")

    @property
    def silent_from(self):
        if is_traced(self.amplitudes) or is_traced(self.times) or np.any(np.asarray(self.amplitudes)[-1]):
            return None
        return float(np.asarray(self.times)[-1])

    def check(self, name, n):
        _table(self, name, n, "amplitudes")

    def init(self, n, clock):
        return {}

    def value(self, z, n, clock):
        k = jnp.searchsorted(jax.lax.stop_gradient(self.times), _middle(clock), side="right")
        row = self.amplitudes[jnp.maximum(k - 1, 0)]
        return jnp.where(k > 0, row, jnp.zeros_like(row)), z


class Ramp(AbstractWaveform):
    """A ramp: `start` until `t_start`, then linear up to `stop` at `t_stop`, then `stop`.

    **Arguments:** `start`, `stop`: shape () or (n,); `t_start` < `t_stop` (ms), shape () or (n,).
    """

    start: Param = eqx.field(converter=parameter)
    stop: Param = eqx.field(converter=parameter)
    t_start: Param = eqx.field(converter=parameter)
    t_stop: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        for name in ("start", "stop", "t_start", "t_stop"):
            check_parameter("Ramp", name, getattr(self, name))
        if not (is_traced(self.t_start) or is_traced(self.t_stop)) and not bool(
            np.all(np.asarray(self.t_stop - self.t_start) > 0)
        ):
            raise ValueError(
                f"Ramp: t_start = {self.t_start}, t_stop = {self.t_stop}; expected t_start < t_stop. Swap them."
            )

    @property
    def silent_from(self):
        if is_traced(self.stop) or is_traced(self.t_stop) or np.any(np.asarray(self.stop)):
            return None
        return float(np.max(np.asarray(self.t_stop), initial=0.0))

    def check(self, name, n):
        _fits(self, name, n, "start", "stop", "t_start", "t_stop")

    def init(self, n, clock):
        return {}

    def value(self, z, n, clock):
        done = jnp.clip((_middle(clock) - self.t_start) / (self.t_stop - self.t_start), 0.0, 1.0)
        return self.start + (self.stop - self.start) * done, z


class Sine(AbstractWaveform):
    """`offset + amplitude sin(2 pi frequency t + phase)`.

    **Arguments:** each of shape () or (n,); `frequency` in Hz, `phase` in radians.
    """

    amplitude: Param = eqx.field(converter=parameter)
    frequency: Param = eqx.field(converter=parameter)
    phase: Param = eqx.field(converter=parameter, default=0.0)
    offset: Param = eqx.field(converter=parameter, default=0.0)

    def __check_init__(self) -> None:
        for name in ("amplitude", "phase", "offset"):
            check_parameter("Sine", name, getattr(self, name))
        not_negative(self, "frequency")

    def check(self, name, n):
        _fits(self, name, n, "amplitude", "frequency", "phase", "offset")

    def init(self, n, clock):
        return {}

    def value(self, z, n, clock):
        cycles = _middle(clock) * (self.frequency * 1e-3)
        return self.offset + self.amplitude * jnp.sin(2 * math.pi * (cycles - jnp.floor(cycles)) + self.phase), z


class OUCurrent(AbstractWaveform):
    """Ornstein-Uhlenbeck noise: `dx = (mean - x) dt / tau + sigma sqrt(2 / tau) dW`, drawn anew for every unit.

    The discretisation is exact for every dt; the start is drawn from the stationary law, normal with `mean` and
    standard deviation `sigma`; the autocorrelation is `sigma^2 exp(-|t| / tau)`. Source: Uhlenbeck & Ornstein 1930;
    Gillespie 1996.

    **Arguments:** `mean`, `sigma` >= 0, `tau` > 0 (ms): shape () or (n,).
    """

    mean: Param = eqx.field(converter=parameter)
    sigma: Param = eqx.field(converter=parameter)
    tau: Param = eqx.field(converter=parameter)

    def __check_init__(self) -> None:
        check_parameter("OUCurrent", "mean", self.mean)
        not_negative(self, "sigma")
        positive(self, "tau")

    def check(self, name, n):
        _fits(self, name, n, "mean", "sigma", "tau")

    def init(self, n, clock):
        return {"x": self.mean + self.sigma * self._normal(n, clock, b"OU start")}

    def value(self, z, n, clock):
        x, keep = z["x"], jnp.exp(-clock.dt / self.tau)
        spread = self.sigma * jnp.sqrt(-jnp.expm1(-2.0 * clock.dt / self.tau))
        return x, {"x": self.mean + (x - self.mean) * keep + spread * self._normal(n, clock, b"OU")}

    @staticmethod
    def _normal(n, clock, label):
        # the node draws from the same key: a label keeps the two apart
        return normals(seed_of(jax.random.fold_in(clock.key, zlib.crc32(label))), n, float_dtype())


class Sampled(AbstractWaveform):
    """Samples `values[k]` at times `k dt` (ms): held until the next or, with `linear`, joined by lines. 0 after the
    last.

    The last sample is held for one `dt`; with `linear` the line ends at the last sample.

    **Arguments:** `values`: (T,) or (T, n); `dt`: ms between samples, any, whatever the step of the run.
    """

    values: Param = eqx.field(converter=parameter)
    dt: Param = eqx.field(converter=parameter)
    linear: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        check_parameter("Sampled", "values", self.values)
        positive(self, "dt")
        if jnp.ndim(self.dt):
            raise ValueError(f"Sampled.dt has shape {jnp.shape(self.dt)}; expected one number (ms).")
        shape = jnp.shape(self.values)
        if len(shape) not in (1, 2) or shape[0] == 0:
            raise ValueError(f"Sampled.values has shape {shape}; expected (T,) or (T, n) with T >= 1.")

    @property
    def silent_from(self):
        return None if is_traced(self.dt) else (self.values.shape[0] - self.linear) * float(self.dt)

    def check(self, name, n):
        _table(self, name, n, "values")

    def init(self, n, clock):
        return {}

    def value(self, z, n, clock):
        last = self.values.shape[0] - 1
        x = _middle(clock) / self.dt
        k = jnp.floor(x).astype(jnp.int32)
        row = self.values[jnp.clip(k, 0, last)]
        if self.linear:
            part = x - k.astype(x.dtype)
            row = row + part * (self.values[jnp.clip(k + 1, 0, last)] - row)
        beyond = k >= last if self.linear else k > last
        return jnp.where(beyond, jnp.zeros_like(row), row), z


class Sum(AbstractWaveform):
    """The sum of waveforms, also written `a + b`; those that draw, draw independently."""

    parts: tuple[AbstractInput, ...]

    def __init__(self, *parts: AbstractInput) -> None:
        flat: list[AbstractInput] = []
        for part in parts:
            if not isinstance(part, AbstractInput):
                raise TypeError(
                    f"Sum of {part!r}; expected waveforms such as StepCurrent. A constant is StepCurrent([x], [0])."
                )
            flat.extend(part.parts if isinstance(part, Sum) else [part])
        if not flat:
            raise ValueError("Sum of no waveforms; expected at least one.")
        self.parts = tuple(flat)

    def check(self, name, n):
        for part in self.parts:
            part.check(name, n)

    def init(self, n, clock):
        return tuple(part.init(n, self._clock(k, clock)) for k, part in enumerate(self.parts))

    def value(self, z, n, clock):
        total, states = jnp.zeros(n, float_dtype()), []
        for k, (part, state) in enumerate(zip(self.parts, z, strict=True)):
            x, state = part.value(state, n, self._clock(k, clock))
            total = total + x
            states.append(state)
        return total, tuple(states)

    @staticmethod
    def _clock(k, clock):
        return Clock(clock.n, clock.dt, jax.random.fold_in(clock.key, k))
