"""What ExponentialEuler promises beyond its order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.solvers import phi1

from .units import Linear, final, network


@pytest.mark.core
def test_exact_on_linear_decay():
    rate = jnp.asarray([0.1, 1.0, 10.0])
    y = final(network(Linear(rate, 2.0), 3), bs.ExponentialEuler(), 3, 3.0)
    exact = 2.0 / rate + (1 - 2.0 / rate) * jnp.exp(-3.0 * rate)
    np.testing.assert_allclose(y["v"], exact, rtol=1e-6)


def test_stable_for_stiff_decay():
    y = final(network(Linear(1e6, 2e6), 2), bs.ExponentialEuler(), 10, 10.0)
    np.testing.assert_allclose(y["v"], np.full(2, 2.0), rtol=1e-6)


POINTS = [0.0, 1e-12, -1e-7, 1e-5, -1e-4, 1e-3, 0.0049, 0.0051, -0.01, 0.099, 0.101, -0.5, 2.0, -30.0]


def check_phi1(rtol):
    x = np.asarray(POINTS)
    with np.errstate(invalid="ignore", divide="ignore"):
        direct = np.expm1(x) / x
        slope = (np.exp(x) * (x - 1) + 1) / x**2
    series = np.abs(x) < 0.02
    value = np.where(series, 1 + x / 2 + x**2 / 6 + x**3 / 24 + x**4 / 120 + x**5 / 720, direct)
    slope = np.where(series, 0.5 + x / 3 + x**2 / 8 + x**3 / 30 + x**4 / 144 + x**5 / 840, slope)
    given = jnp.asarray(x, jnp.zeros(()).dtype)
    np.testing.assert_allclose(phi1(given), value, rtol=rtol)
    np.testing.assert_allclose(jax.vmap(jax.grad(phi1))(given), slope, rtol=100 * rtol)


def test_phi1():
    check_phi1(1e-6)


def test_phi1_in_double_precision(x64):
    check_phi1(1e-13)


def test_exact_in_law_with_additive_noise():
    """A step as long as the time constant: the variance is still sigma^2 tau / 2 (forward Euler doubles it)."""
    n = 4000
    y = final(network(Linear(), n, noise=bs.WhiteNoise({"v": 0.5})), bs.ExponentialEuler(), 10, 10.0)
    np.testing.assert_allclose(np.var(y["v"]), 0.5**2 / 2, rtol=4 * np.sqrt(2 / n))  # four standard errors
    np.testing.assert_allclose(y["w"], np.full(n, np.exp(-10.0)), rtol=1e-5)  # not noisy
