"""Losses: closed forms, and derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainsim import train

DT, TAU = 0.1, 10.0
FD_RTOL = 1e-6  # central differences in float64 with a step of 1e-5: second order


def spikes(*steps, n=400):
    return jnp.zeros(n).at[jnp.asarray(steps, jnp.int32)].set(1.0)


@pytest.mark.core
def test_van_rossum_is_half_for_a_spike_and_tells_the_shift_of_two():
    one = train.van_rossum(spikes(30), spikes(), tau=TAU, dt=DT)
    assert one == pytest.approx(0.5, rel=1e-5)
    for shift in (1, 10, 300):
        two = train.van_rossum(spikes(50), spikes(50 + shift), tau=TAU, dt=DT)
        assert two == pytest.approx(1.0 - np.exp(-shift * DT / TAU), rel=1e-4)  # float32 sums of 400 terms


def test_victor_purpura():
    assert train.victor_purpura([], [1.0, 2.0], cost=0.5) == 2.0
    assert train.victor_purpura([10.0], [11.0], cost=0.5) == 0.5
    assert train.victor_purpura([10.0], [20.0], cost=0.5) == 2.0  # removed and added
    assert train.victor_purpura([1.0, 10.0, 20.0], [20.5, 10.5], cost=1.0) == 2.0  # one removed, two moved
    a, b = np.random.default_rng(0).uniform(0, 100, (2, 20))
    assert train.victor_purpura(a, b, cost=0.3) == pytest.approx(train.victor_purpura(b, a, cost=0.3))
    assert train.victor_purpura(a, b, cost=1e9) == 40.0


def test_coincidence_is_one_for_the_same_and_none_for_chance():
    rng = np.random.default_rng(0)
    a, b = (np.cumsum(rng.exponential(50.0, 4000)) for _ in range(2))
    duration = max(a[-1], b[-1])
    assert train.coincidence(a, a, window=2.0, duration=duration) == pytest.approx(1.0)
    assert train.coincidence(a, a + 1.9, window=2.0, duration=duration) > 0.9
    assert abs(train.coincidence(a, b, window=2.0, duration=duration)) < 0.05  # 3 standard errors of 4,000 spikes
    assert train.coincidence([], [1.0], window=2.0, duration=10.0) == 0.0
    one = train.coincidence([10.0, 50.0], [11.0], window=2.0, duration=100.0)  # chance 0.08
    assert one == pytest.approx((1.0 - 0.08) / 1.5 / 0.92)


@pytest.mark.core
def test_counts_rates_latencies():
    s = jnp.stack([spikes(9, 100), spikes()], 1)
    assert train.spike_count(s, jnp.asarray([1.0, 0.0])) == pytest.approx(0.5)
    np.testing.assert_allclose(train.rates(s, dt=DT), [50.0, 0.0], rtol=1e-6)
    assert train.rate(s, 25.0, dt=DT) == pytest.approx(625.0, rel=1e-5)
    np.testing.assert_allclose(train.latencies(s, dt=DT), [1.0, 40.1], rtol=1e-5)
    assert train.first_spike_latency(s[:, 0], 3.0, dt=DT) == pytest.approx(4.0, rel=1e-4)
    assert train.rate_band(s, 10.0, 30.0, dt=DT) == pytest.approx((400.0 + 100.0) / 2, rel=1e-5)


@pytest.mark.core
def test_interval_statistics():
    s = jnp.stack([spikes(10, 30, 70), spikes(10, 30, 50), spikes(3), spikes()], 1)  # intervals 2 and 4 ms; 2 and 2
    mean, cv = train.isi_statistics(s, dt=DT)
    np.testing.assert_allclose(mean, [3.0, 2.0, 0.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(cv, [1.0 / 3.0, 0.0, 0.0, 0.0], atol=1e-3)  # a root of a difference of float32 numbers
    assert train.isi(s[:, 0], 3.0, 1.0 / 3.0, dt=DT) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.core
def test_power_of_a_sine_is_at_its_frequency_and_sums_to_the_variance():
    t = np.arange(1000) * 1e-3  # s
    x = jnp.asarray(3.0 + 2.0 * np.sin(2 * np.pi * 40.0 * t))
    f, power = train.power_spectrum(x, dt=1.0)
    assert f[jnp.argmax(power)] == pytest.approx(40.0)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1001, 2)))
    for y in (x, noise):
        f, power = train.power_spectrum(y, dt=1.0)
        np.testing.assert_allclose(jnp.sum(power, 0) * (f[1] - f[0]), jnp.var(y, axis=0), rtol=1e-4)
    assert train.spectrum(x, train.power_spectrum(x, dt=1.0)[1], dt=1.0) == 0.0


def test_cross_entropy_and_norms():
    scores = jnp.log(jnp.asarray([[0.2, 0.8], [0.5, 0.5]]))
    assert train.cross_entropy(scores, jnp.asarray([1, 0])) == pytest.approx(-np.log([0.8, 0.5]).mean(), rel=1e-6)
    assert train.l1(jnp.asarray([1.0, -2.0]), jnp.asarray(-3.0)) == 6.0
    assert train.l2(jnp.asarray([1.0, -2.0]), jnp.asarray(-3.0)) == 14.0
    assert train.voltage(jnp.zeros(4), np.full(4, 2.0)) == 4.0


def test_data_longer_than_the_run():
    with pytest.raises(ValueError, match="data longer than the run"):
        train.voltage(jnp.zeros(10), np.zeros(12))
    with pytest.raises(ValueError, match="expected the same"):
        train.voltage(jnp.zeros((10, 1)), np.zeros(10))
    with pytest.raises(ValueError, match="same shape"):
        train.van_rossum(jnp.zeros(10), jnp.zeros(12), tau=TAU, dt=DT)


LOSSES = {
    "voltage": lambda s: train.voltage(s, np.linspace(0, 1, 40).reshape(20, 2)),
    "van_rossum": lambda s: train.van_rossum(s, np.eye(20, 2), tau=0.5, dt=DT),
    "spike_count": lambda s: train.spike_count(s, 3.0),
    "first_spike_latency": lambda s: train.first_spike_latency(s, 1.0, dt=DT),
    "isi": lambda s: train.isi(s, 2.0, 0.5, dt=DT),
    "rate": lambda s: train.rate(s, 3.0, dt=DT),
    "spectrum": lambda s: train.spectrum(s, np.ones((11, 2)), dt=DT),
    "cross_entropy": lambda s: train.cross_entropy(jnp.mean(s, 0), jnp.asarray(1)),
    "rate_band": lambda s: train.rate_band(s, 0.0, 20.0, dt=DT),
    "l1": train.l1,
    "l2": train.l2,
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_finite_differences(name, x64):
    """At graded values between 0 and 1, where every loss is smooth; what a surrogate passes on is this derivative."""
    rng = np.random.default_rng(1)
    s, direction = jnp.asarray(rng.uniform(0.05, 0.6, (20, 2))), jnp.asarray(rng.normal(size=(20, 2)))
    loss, eps = LOSSES[name], 1e-5
    expected = (loss(s + eps * direction) - loss(s - eps * direction)) / (2 * eps)
    np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(s), direction), expected, rtol=FD_RTOL)


def test_gradient_is_finite_for_silent_and_regular_trains():
    s = jnp.stack([spikes(), spikes(10, 30, 50)], 1)
    for name in ("isi", "first_spike_latency"):
        loss = {"isi": lambda s: train.isi(s, 2.0, 0.5, dt=DT), "first_spike_latency": LOSSES["first_spike_latency"]}
        assert np.all(np.isfinite(jax.grad(loss[name])(s))), name
