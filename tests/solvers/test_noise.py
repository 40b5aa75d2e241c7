"""Noise: the sense of every solver, its strong order, stationary laws, and where the numbers come from."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core import Clock, name_hash
from brainsim.solvers import SOLVERS, Substep, increments

from .units import Geometric, Linear, LotkaVolterra, final, network

NOISY = {k: r for k, r in SOLVERS.items() if r.sense}
N = 4000
RATE, SIGMA = -0.1, 0.5  # v' = 0.1 v + 0.5 v dW
FOUR = 4  # standard errors

noisy = pytest.mark.parametrize("kind", NOISY, ids=lambda k: k.__name__)


def brownian(state, n_steps, like):
    """W(t1) of every unit, from the increments that the run drew."""
    total = jnp.zeros_like(like["v"])
    y = {"unit": like, "ports": {}}
    which = {"unit": {"v": like["v"], "w": None}, "ports": {}}
    for n in range(n_steps):
        clock = Clock.of("P", jnp.asarray(n, jnp.int32), state.dt, state.key)
        key = jax.random.fold_in(clock.key, name_hash("flow"))
        total = total + increments(y, which, clock.dt, key)["unit"]["v"]
    return total


@functools.cache
def walk(kind, n_steps):
    """Final `v` of geometric Brownian motions and the exact Ito and Stratonovich solutions on the same paths."""
    net = network(Linear(RATE), N, noise=Geometric(jnp.asarray(SIGMA)))
    sol = bs.simulate(net, t1=1.0, dt=1 / n_steps, solver=kind(), key=jax.random.key(1))
    y = sol.state.nodes["P"].y["unit"]
    w = brownian(sol.state, n_steps, y)
    exact = {"Ito": jnp.exp(-RATE - SIGMA**2 / 2 + SIGMA * w), "Stratonovich": jnp.exp(-RATE + SIGMA * w)}
    return y["v"], exact


@noisy
def test_mean_tells_ito_from_stratonovich(kind):
    v, _ = walk(kind, 64)
    growth = {"Ito": -RATE, "Stratonovich": -RATE + SIGMA**2 / 2}[NOISY[kind].sense]
    error = float(jnp.std(v)) / np.sqrt(N)
    # the two means are 0.15 apart, 16 standard errors; 0.005 is the error of a step of 1/64 in the drift
    np.testing.assert_allclose(jnp.mean(v), np.exp(growth), atol=FOUR * error + 0.005)


@noisy
def test_strong_order(kind):
    """The distance to the exact solution on the same path, over a factor of four in the step."""
    rule = NOISY[kind]
    distances = []
    for n in (16, 64):
        v, exact = walk(kind, n)
        distances.append(np.sqrt(np.mean((v - exact[rule.sense]) ** 2)))
    assert np.log2(distances[0] / distances[1]) / 2 == pytest.approx(rule.strong_order, abs=0.25)


@noisy
def test_stationary_variance_with_additive_noise(kind):
    dt = 0.05
    y = final(network(Linear(), N, noise=bs.WhiteNoise({"v": 0.5})), kind(), 120, 6.0)
    # dt / 2 is what forward Euler adds to the variance, more than any other
    np.testing.assert_allclose(np.var(y["v"]), 0.5**2 / 2, rtol=FOUR * np.sqrt(2 / N) + dt / 2)
    assert abs(np.mean(y["v"])) < FOUR * 0.5 / np.sqrt(2 * N) + np.exp(-6.0)


def test_ito_milstein_is_that_of_diffrax(x64):
    """On one flat state of two units, the only kind that diffrax's takes, it gives the same numbers for one step."""
    noise, unit = Geometric(jnp.asarray(SIGMA)), LotkaVolterra(jnp.asarray([0.5, 1.5]))
    net = network(unit, 2, noise=noise)
    sol = bs.simulate(net, t1=0.1, dt=0.1, solver=diffrax.ItoMilstein(), key=jax.random.key(3))
    y0 = {"v": jnp.full(2, 1.5), "w": jnp.full(2, 0.7)}
    w = brownian(sol.state, 1, y0)

    def drift(t, y, args):
        f = unit.vector_field({"v": y[:2], "w": y[2:]}, {}, jnp.zeros(2))
        return jnp.concatenate([f["v"], f["w"]])

    def diffusion(t, y, args):
        return jnp.diag(jnp.concatenate([SIGMA * y[:2], jnp.zeros(2)]))

    path = diffrax.ControlTerm(diffusion, lambda t0, t1: jnp.concatenate([w, jnp.zeros(2)]))
    terms, t0, t1 = diffrax.MultiTerm(diffrax.ODETerm(drift), path), jnp.asarray(0.0), jnp.asarray(0.1)
    flat = jnp.concatenate([y0["v"], y0["w"]])
    expected = diffrax.ItoMilstein().step(terms, t0, t1, flat, None, None, made_jump=True)[0]
    y = sol.state.nodes["P"].y["unit"]
    np.testing.assert_allclose(jnp.concatenate([y["v"], y["w"]]), expected, rtol=1e-13)


@pytest.mark.optimised
def test_same_key_same_noise_and_independent_units():
    net = network(Linear(), N, noise=bs.WhiteNoise({"v": 0.5}))
    first, again, other = (final(net, bs.ExponentialEuler(), 10, 1.0, seed=s)["v"] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    bound = FOUR / np.sqrt(N / 2)
    assert abs(np.corrcoef(first, other)[0, 1]) < bound
    assert abs(np.corrcoef(first[: N // 2], first[N // 2 :])[0, 1]) < bound


@pytest.mark.optimised
def test_variables_have_their_own_noise():
    """The noise of a variable is independent of the others', and the same whether or not there are others."""
    alone = final(network(Linear(), N, noise=bs.WhiteNoise({"v": 0.5})), diffrax.Euler(), 4, 1.0)
    both = final(network(Linear(), N, noise=bs.WhiteNoise({"v": 0.5, "w": 0.5})), diffrax.Euler(), 4, 1.0)
    np.testing.assert_array_equal(alone["v"], both["v"])
    assert abs(np.corrcoef(both["v"], both["w"])[0, 1]) < FOUR / np.sqrt(N)


def test_substeps_draw_independent_noise():
    """Without drift m substeps have the variance of the step; one increment used m times would give m times that."""
    net = network(Linear(0.0), N, noise=bs.WhiteNoise({"v": 1.0}))
    v = final(net, Substep(diffrax.Euler(), 8), 2, 1.0)["v"]
    np.testing.assert_allclose(np.var(v), 1.0, rtol=FOUR * np.sqrt(2 / N))


def test_noise_per_unit_and_its_derivative(x64):
    sigma = jnp.asarray([0.0, 0.1, 0.2])

    def mean(sigma):
        net = network(Linear(), 3, noise=bs.WhiteNoise({"v": sigma}))
        return jnp.sum(final(net, bs.ExponentialEuler(), 5, 1.0)["v"])

    h = 1e-6
    expected = [(mean(sigma.at[k].add(h)) - mean(sigma.at[k].add(-h))) / (2 * h) for k in range(3)]
    np.testing.assert_allclose(jax.grad(mean)(sigma), expected, rtol=1e-6)
