"""Initial values of units and receptors: numbers, arrays, distributions, each keyed by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

N = 4000
RECEPTORS = {"exc": bs.ExpCond(), "nmda": bs.NMDA()}


def start(init, *, seed=0, name="P", n=N):
    net = bs.Network({name: bs.Population(bs.LIF(), n, RECEPTORS, init=init)})
    return bs.initial_state(net, dt=0.1, key=jax.random.key(seed)).nodes[name]


def test_a_distribution():
    state = start({"v": bs.Normal(-55.0, 5.0), "exc.g": bs.Uniform(1.0, 3.0)})
    v, g = state.y["unit"]["v"], state.y["ports"]["exc"]["g"]
    assert v.shape == g.shape == (N,)
    # four standard errors of the mean and of the standard deviation
    assert float(jnp.mean(v)) == pytest.approx(-55.0, abs=4 * 5 / N**0.5)
    assert float(jnp.std(v)) == pytest.approx(5.0, abs=4 * 5 / (2 * N) ** 0.5)
    assert float(jnp.mean(g)) == pytest.approx(2.0, abs=4 * 2 / (12 * N) ** 0.5)
    assert float(jnp.min(g)) >= 1.0
    assert float(jnp.max(g)) < 3.0
    assert abs(np.corrcoef(np.asarray(v), np.asarray(g))[0, 1]) < 4 / N**0.5


def test_numbers_arrays_and_what_is_left_out():
    state = start({"v": jnp.arange(3.0), "exc.g": 2.0, "refractory": [0, 5, 1]}, n=3)
    np.testing.assert_array_equal(state.y["unit"]["v"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(state.y["ports"]["exc"]["g"], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(state.y["ports"]["nmda"]["rise"], [0.0, 0.0, 0.0])
    assert state.z["refractory"].dtype == jnp.int32
    np.testing.assert_array_equal(state.z["refractory"], [0, 5, 1])


def test_draws_depend_on_the_key_and_the_names_and_on_nothing_else():
    law = bs.Normal(-55.0, 5.0)
    v = start({"v": law}).y["unit"]["v"]
    more = start({"nmda.rise": law, "v": law, "exc.g": law})
    np.testing.assert_array_equal(more.y["unit"]["v"], v)
    assert not np.array_equal(more.y["ports"]["exc"]["g"], v)
    assert not np.array_equal(start({"v": law}, seed=1).y["unit"]["v"], v)
    assert not np.array_equal(start({"v": law}, name="Q").y["unit"]["v"], v)
