"""Waveforms off the grid of the run, and at a billion steps: closed forms in float64."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core import instant_of_step

K = jax.random.key
EPS = 1e-4  # of an amplitude of 1: a fraction of a Hz has 32 bits, and 10^5 s are 1e-5 of a cycle off


def _values(wave, steps, dt):
    clock = bs.Clock.of("P", jnp.asarray(0, jnp.int32), dt, K(0))
    one = jax.jit(jax.vmap(lambda n: wave.value({}, 1, dataclasses.replace(clock, n=n))[0]))
    return np.asarray(one(jnp.asarray(steps, jnp.int32)), np.float64).reshape(len(steps))


@pytest.mark.core
@pytest.mark.parametrize("dt", [0.1, 0.025, 0.3, 1 / 3, 0.123456789])
def test_the_time_of_a_step_is_exact(dt):
    steps = np.asarray([0, 1, 7, 10**6 + 3, 10**9, 2**31 - 2**22], np.int64)
    t = jax.jit(lambda n: instant_of_step(n, dt, 0.5))(jnp.asarray(steps, jnp.int32))
    off = (np.asarray(t.whole, np.float64) - (steps + 0.5) * dt) + np.asarray(t.part, np.float64)
    np.testing.assert_allclose(off, 0.0, atol=2e-6 * max(dt, 1))


@pytest.mark.parametrize("first", [0, 36_000_000, 10**9])
@pytest.mark.parametrize("dt", [0.1, 0.3])
def test_waveforms_late_in_a_run(first, dt):
    n = first + np.arange(200)
    start = first * dt
    t = (n + 0.5) * dt
    rise = start + 5.03
    table = np.sin(np.arange(400.0))
    waves = {
        "sine": (bs.Sine(1.0, 40.0), np.sin(2 * np.pi * 0.04 * t)),
        "odd sine": (bs.Sine(1.0, 7.3, phase=0.2), np.sin(2 * np.pi * np.mod(7.3e-3 * t, 1.0) + 0.2)),
        "ramp": (bs.Ramp(0.0, 1.0, start + 1.0, start + 11.0), np.clip((t - start - 1.0) / 10, 0, 1)),
        "steps": (bs.StepCurrent([0.0, 1.0], [0.0, rise]), np.clip((n + 1) - rise / dt, 0, 1)),
    }
    if not first:
        k = np.floor(t / 0.7).astype(int)
        linear = table[k] + (t / 0.7 - k) * (table[k + 1] - table[k])
        waves["samples"] = bs.Sampled(table, 0.7, linear=True), linear
    for name, (wave, right) in waves.items():
        np.testing.assert_allclose(_values(wave, n, dt), right, atol=EPS, err_msg=name)


def test_samples_far_into_a_long_table_are_those_of_their_time():
    """The place in the table does not drift: held samples of 0.3 ms at step 3 million."""
    table = (np.arange(1_000_100) % 7).astype(float)
    n = 3_000_000 + np.arange(60)
    np.testing.assert_array_equal(_values(bs.Sampled(table, 0.3), n, 0.1), table[n // 3])


@pytest.mark.core
def test_no_charge_is_lost_off_the_grid():
    """The integral over a run is that of the waveform, wherever its changes lie; on the grid nothing changes."""
    dt, n = 0.1, np.arange(40)
    pulses = {
        "in one step": ([1.0, 0.0], [1.06, 1.14], 0.08),
        "across": ([1.0, 0.0], [1.06, 1.53], 0.47),
        "three changes": ([1.0, 3.0, -2.0, 0.0], [1.01, 1.03, 1.06, 1.07], 0.02 + 0.09 - 0.02),
        "on the grid": ([1.0, 0.0], [1.0, 1.5], 0.5),
    }
    for name, (amplitudes, times, charge) in pulses.items():
        x = _values(bs.StepCurrent(amplitudes, times), n, dt)
        np.testing.assert_allclose(x.sum() * dt, charge, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(np.flatnonzero(x), np.arange(10, 15))
    for samples, step in ((np.asarray([1.0, 5.0, -2.0]), 0.25), (np.arange(1.0, 31.0), 0.03)):
        x = _values(bs.Sampled(samples, step), n, dt)
        np.testing.assert_allclose(x.sum() * dt, samples.sum() * step, atol=1e-5)


def test_what_is_swapped_in_is_what_counts_and_gradients_are_right():
    """New times and frequencies leave no trace of the old ones; the derivative in the frequency is that of the sine."""
    wave = bs.StepCurrent([1.0], [18_000_005.03])
    moved = eqx.tree_at(lambda w: w.times, wave, jnp.asarray([0.5]))
    np.testing.assert_array_equal(_values(moved, np.arange(10), 0.1) > 0, np.arange(10) >= 5)
    clock = bs.Clock.of("P", jnp.asarray(1234, jnp.int32), 0.1, K(0))
    sine = bs.Sine(1.0, 7.3)

    def value(f):
        return eqx.tree_at(lambda w: w.frequency, sine, f).value({}, 1, clock)[0]

    t = 123.45e-3
    np.testing.assert_allclose(jax.grad(value)(7.3), 2 * np.pi * t * np.cos(2 * np.pi * 7.3 * t), rtol=1e-4)
    rows = jax.grad(lambda a: jnp.sum(eqx.tree_at(lambda w: w.amplitudes, moved, a).value({}, 1, clock)[0]))
    np.testing.assert_allclose(rows(jnp.ones(1)), 1.0)


def test_waveforms_are_made_inside_of_transformations():
    """Of constants, which `jit` does not trace, and of traced numbers."""

    def value(t):
        waves = bs.StepCurrent([1.0, 2.0], [0.0, 0.5]) + bs.StepCurrent([4.0], t[None]) + bs.Ramp(0.0, 8.0, 0.0, 1.0)
        waves = waves + bs.Sine(0.0, t) + bs.Sampled([16.0], 5.0)
        clock = bs.Clock.of("P", jnp.asarray(9, jnp.int32), 0.1, K(0))
        return jnp.sum(waves.value(waves.init(1, clock), 1, clock)[0])

    np.testing.assert_allclose(jax.jit(value)(0.25), 2.0 + 4.0 + 8.0 * 0.95 + 16.0, rtol=1e-6)
