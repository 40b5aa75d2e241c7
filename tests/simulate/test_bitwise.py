"""Chunked equals whole, vmap equals loop: bit for bit, over 2,000 steps with noise, delays and kernels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import balanced, same

pytestmark = [pytest.mark.core, pytest.mark.optimised]
RUN = {"dt": 0.1, "saveat": (bs.Spikes("P"), bs.Trace("P.v", every=10))}


@pytest.fixture(scope="module")
def net():
    return balanced()


@pytest.fixture(scope="module")
def whole(net):
    return bs.simulate(net, t1=200.0, key=jax.random.key(1), **RUN)


def test_rates_are_those_of_a_live_network(whole):
    assert 5 < whole.stats["rate_hz"]["P"] < 100


def test_chunks_equal_the_whole(net, whole):
    state, traces, times, ids = None, [], [], []
    for end in (50.0, 100.0, 150.0, 200.0):
        sol = bs.simulate(net, t1=end, key=jax.random.key(1), state=state, **RUN)
        state = sol.state
        traces.append(sol["P.v"])
        times.append(sol.spikes("P").t)
        ids.append(sol.spikes("P").i)
    assert same(state, whole.state)
    assert same(jnp.concatenate(traces), whole["P.v"])
    assert np.array_equal(np.concatenate(times), whole.spikes("P").t)
    assert np.array_equal(np.concatenate(ids), whole.spikes("P").i)


def test_vmap_over_seeds_equals_the_loop(net):
    keys = jax.random.split(jax.random.key(3), 3)
    run = lambda key: bs.simulate(net, t1=200.0, key=key, **RUN)  # noqa: E731
    batch = jax.vmap(run)(keys)
    for k, key in enumerate(keys):
        one = run(key)
        assert same(jax.tree.map(lambda x, k=k: x[k], batch.state), one.state)
        assert same(batch["P.v"][k], one["P.v"])


@pytest.mark.parametrize(
    "where, values",
    [
        (lambda net: net.nodes["P"].unit.tau_m, [18.0, 20.0, 22.0]),
        (lambda net: net.nodes["P"].unit.v_th, [-51.0, -50.0, -49.0]),
        (lambda net: net.nodes["P"].receptors["exc"].tau, [4.0, 5.0, 6.0]),
        (lambda net: net.nodes["P"].unit.g_l, [9.0, 10.0, 11.0]),
        (lambda net: net.edges["I"].weight, [60.0, 67.0, 70.0]),
    ],
    ids=["tau_m", "v_th", "tau_exc", "g_l", "weight"],
)
def test_vmap_over_a_parameter_equals_the_loop(net, where, values):
    key = jax.random.key(5)
    run = lambda x: bs.simulate(eqx.tree_at(where, net, x), t1=200.0, key=key, **RUN)  # noqa: E731
    values = jnp.asarray(values, where(net).dtype)
    batch = jax.vmap(run)(values)
    for k, x in enumerate(values):
        assert same(batch["P.v"][k], run(x)["P.v"])


def test_a_run_compiles_once_for_all_seeds_and_parameters(net):
    def go(k):
        tau = jnp.asarray(18.0 + k, net.nodes["P"].unit.tau_m.dtype)
        other = eqx.tree_at(lambda m: m.nodes["P"].unit.tau_m, net, tau)
        return bs.simulate(other, t1=3.0, dt=0.1, key=jax.random.key(k))

    first = go(0)
    assert first.compile_s > 0
    assert all(go(k).compile_s < 0.2 * first.compile_s for k in (1, 2, 3))
