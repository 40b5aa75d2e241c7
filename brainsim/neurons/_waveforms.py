"""Waveforms over time, for `simulate(inputs={...})`, for rates of sources and for clamped potentials.

Their unit is that of what they feed: pA for populations, Hz for a Poisson source, mV for a voltage clamp. A waveform is
constant within a step: steps and held samples have there their mean over the step, so that no charge is lost where dt
does not divide their times; all others the value of the middle of the step. Times are those of the state, so that a run
from a state at 100 ms begins with what the waveform is at 100 ms; they are exact however late in a run.
"""

import dataclasses
import math
import zlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import Param, check_parameter, float_dtype, is_traced, parameter
from ..core import AbstractInput, Clock, Exact, Instant, earlier, instant_of_step
from ..events import normals, seed_of
from ._shared import not_negative, positive


class AbstractWaveform(AbstractInput):
    """An `AbstractInput` of this package; waveforms add up with `+`."""

    def __add__(self, other: AbstractInput) -> "Sum":
        return Sum(self, other) if isinstance(other, AbstractInput) else NotImplemented


_AT_ONCE = 16
"""Changes of a waveform in one step that count."""

_ROUNDING = 1e-3
"""Steps by which a time may miss the grid of the run and still lie on it."""


def _on_grid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A part of a step, 0 to 1, at its ends where it is close to them."""
    x = jnp.where(x < _ROUNDING, jnp.zeros_like(x), x)
    return jnp.where(x > 1 - _ROUNDING, jnp.ones_like(x), x)


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
    exact: Exact

    def __init__(self, amplitudes: Any, times: Any) -> None:
        self.amplitudes, self.times, self.exact = parameter(amplitudes), parameter(times), Exact.of(times)

    def __check_init__(self) -> None:
        check_parameter("StepCurrent", "amplitudes", self.amplitudes)
        check_parameter("StepCurrent", "times", self.times)
        a, t = jnp.shape(self.amplitudes), jnp.shape(self.times)
        if len(t) != 1 or t[0] == 0 or len(a) not in (1, 2) or a[0] != t[0]:
            raise ValueError(
                f"StepCurrent: amplitudes of shape {a} and times of shape {t}; expected (k,) or (k, n), and (k,)."
            )
        if not is_traced(self.times) and np.any(np.diff(self.exact.numbers(self.times)) <= 0):
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
        times, begin = jax.lax.stop_gradient(self.times), clock.instant()
        count, end = (earlier(times, self.exact, clock.instant(late)) for late in (_ROUNDING, 1.0 - _ROUNDING))

        def amplitude(k):
            row = self.amplitudes[jnp.maximum(k - 1, 0)]
            return jnp.where(k > 0, row, jnp.zeros_like(row))

        def late(k):  # the part of this step before change k
            return jnp.clip(self.exact.at(k).instant(times[k]).since(begin) / clock.dt, 0.0, 1.0)

        def mean(row):
            for j in range(min(times.shape[0], _AT_ONCE)):
                k = jnp.minimum(count + j, times.shape[0] - 1)
                missed = (amplitude(count + j + 1) - amplitude(count + j)) * late(k)
                row = row - jnp.where(count + j < end, missed, jnp.zeros_like(missed))
            return row

        # most steps have no change in them
        return jax.lax.cond(end > count, mean, lambda row: row, amplitude(end)), z


class Ramp(AbstractWaveform):
    """A ramp: `start` until `t_start`, then linear up to `stop` at `t_stop`, then `stop`.

    **Arguments:** `start`, `stop`: shape () or (n,); `t_start` < `t_stop` (ms), shape () or (n,).
    """

    start: Param = eqx.field(converter=parameter)
    stop: Param = eqx.field(converter=parameter)
    t_start: Param = eqx.field(converter=parameter)
    t_stop: Param = eqx.field(converter=parameter)
    exact: tuple[Exact, Exact]

    def __init__(self, start: Any, stop: Any, t_start: Any, t_stop: Any) -> None:
        self.start, self.stop = parameter(start), parameter(stop)
        self.t_start, self.t_stop = parameter(t_start), parameter(t_stop)
        self.exact = Exact.of(t_start), Exact.of(t_stop)

    def __check_init__(self) -> None:
        for name in ("start", "stop", "t_start", "t_stop"):
            check_parameter("Ramp", name, getattr(self, name))
        begin, end = self.exact
        traced = is_traced(self.t_start) or is_traced(self.t_stop)
        if not traced and not np.all(end.numbers(self.t_stop) > begin.numbers(self.t_start)):
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
        begin, end = self.exact[0].instant(self.t_start), self.exact[1].instant(self.t_stop)
        done = jnp.clip(clock.instant(0.5).since(begin) / end.since(begin), 0.0, 1.0)
        return self.start + (self.stop - self.start) * done, z


class Sine(AbstractWaveform):
    """`offset + amplitude sin(2 pi frequency t + phase)`.

    **Arguments:** each of shape () or (n,); `frequency` in Hz, `phase` in radians.
    """

    amplitude: Param = eqx.field(converter=parameter)
    frequency: Param = eqx.field(converter=parameter)
    phase: Param = eqx.field(converter=parameter)
    offset: Param = eqx.field(converter=parameter)
    exact: Exact

    def __init__(self, amplitude: Any, frequency: Any, phase: Any = 0.0, offset: Any = 0.0) -> None:
        self.amplitude, self.frequency = parameter(amplitude), parameter(frequency)
        self.phase, self.offset, self.exact = parameter(phase), parameter(offset), Exact.of(frequency)

    def __check_init__(self) -> None:
        for name in ("amplitude", "phase", "offset"):
            check_parameter("Sine", name, getattr(self, name))
        not_negative(self, "frequency")

    def check(self, name, n):
        _fits(self, name, n, "amplitude", "frequency", "phase", "offset")

    def init(self, n, clock):
        return {}

    def value(self, z, n, clock):
        now, f = clock.instant(0.5), jax.lax.stop_gradient(self.frequency)
        cycles = _cycles(now, f, self.exact.rest(f))
        # the derivative in the frequency is t
        cycles = cycles + (now.whole.astype(f.dtype) + now.part) * (1e-3 * (self.frequency - f))
        return self.offset + self.amplitude * jnp.sin(2 * math.pi * cycles + self.phase), z


def _cycles(t: Instant, f: Float[Array, "..."], rest: Float[Array, "..."]) -> Float[Array, "..."]:
    """The fraction of a cycle of frequency `f + rest` (Hz) at `t`: with t = s + m / 1000 + part and f = h + g, h whole,
    that of s g + m h / 1000 + m g / 1000 + part f / 1000."""
    thousand = jnp.asarray(1000, jnp.int32)
    s, m = jax.lax.div(t.whole, thousand), jax.lax.rem(t.whole, thousand)
    h = jnp.floor(f)
    # a fraction of 2^32 parts: products wrap around at whole cycles
    g = ((f - h) * 2.0**32).astype(jnp.uint32) + jnp.round(rest * 2.0**32).astype(jnp.int32).astype(jnp.uint32)
    slow = (s.astype(jnp.uint32) * g).astype(f.dtype) * 2.0**-32
    fast = jax.lax.rem(m * jax.lax.rem(h.astype(jnp.int32), thousand), thousand).astype(f.dtype) * 1e-3
    cycles = slow + fast + m.astype(f.dtype) * 1e-3 * (f - h) + t.part * (f * 1e-3)
    return cycles - jnp.floor(cycles)


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
    linear: bool = eqx.field(static=True)
    given: float | None = eqx.field(static=True)  # dt without the rounding of float32

    def __init__(self, values: Any, dt: Any, linear: bool = False) -> None:
        self.values, self.dt, self.linear = parameter(values), parameter(dt), linear
        self.given = float(dt) if isinstance(dt, int | float | np.number) else None

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

    def _place(self, clock: Clock, late: float) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """The sample `late` steps after the start of the step, and how much of it is over."""
        now = clock.instant(late)
        x = (now.whole.astype(self.dt.dtype) + now.part) / self.dt
        k = jnp.floor(x)
        part, k = x - k, k.astype(jnp.int32)
        if self.given is not None and clock.step is not None:
            exact = instant_of_step(clock.n, clock.step / self.given, late)
            more, same = jnp.floor(exact.part), self.dt == jnp.asarray(self.given, self.dt.dtype)
            k = jnp.where(same, exact.whole + more.astype(jnp.int32), k)
            part = jnp.where(same, exact.part - more, part)
        return k, part

    def value(self, z, n, clock):
        last = self.values.shape[0] - 1

        def sample(k):
            row = self.values[jnp.clip(k, 0, last)]
            return jnp.where(k >= last if self.linear else k > last, jnp.zeros_like(row), row)

        if self.linear:
            k, part = self._place(clock, 0.5)
            row, following = sample(k), self.values[jnp.clip(k + 1, 0, last)]
            return jnp.where(k >= last, row, row + part * (following - row)), z
        # held: the mean over the step; an end that lies on the grid belongs to the sample before
        (first, over), (end, part) = self._place(clock, 0.0), self._place(clock, 1.0)
        first, over = jnp.where(over > 1 - _ROUNDING, first + 1, first), _on_grid(over)
        over = jnp.where(over == 1, jnp.zeros_like(over), over)
        end, part = jnp.where(part < _ROUNDING, end - 1, end), jnp.where(part < _ROUNDING, jnp.ones_like(part), part)

        def mean(row):
            total, weights = jnp.zeros_like(row), jnp.zeros_like(over)
            for j in range(_AT_ONCE):
                k = first + j
                weight = jnp.where(k < end, jnp.ones_like(part), part) - (over if j == 0 else jnp.zeros_like(over))
                weight = jnp.where(k <= end, weight, jnp.zeros_like(weight))
                total, weights = total + weight * sample(k), weights + weight
            return total / weights

        return jax.lax.cond(end > first, mean, lambda row: row, sample(first)), z


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
        return dataclasses.replace(clock, run_key=jax.random.fold_in(clock.key, k), name="")
