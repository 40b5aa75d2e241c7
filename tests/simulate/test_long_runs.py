"""Numbers beyond 32 bits: events, steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.simulate._count import Count


@pytest.mark.core
def test_counts_go_beyond_32_bits():
    """Exact outside of transformations; inside the rate is right and the number ends where int32 does."""
    steps = [2**30 - 1, 1, 7, 2**30, 2**30 - 8, 123]

    def add(count):
        for n in steps:
            count = count.plus(jnp.asarray(n, jnp.int32))
        return count, count.whole, count.real

    count, inside, real = jax.jit(add)(Count.zero())
    assert int(count.whole) == sum(steps) > 2**31
    assert int(inside) == 2**31 - 1
    np.testing.assert_allclose(real, sum(steps), rtol=1e-6)


def test_events_of_a_long_run_are_all_counted():
    """Sources that emit 2^24 a step reach 2^31 in two steps; merged sources too."""
    nodes = {f"S{k}": bs.Source(bs.External(), 70 + k) for k in range(2)}
    inputs = {name: jnp.full((4, node.size), 2.0**24) for name, node in nodes.items()}
    net = bs.Network(nodes)
    for one in (net, bs.pack(net)):
        sol = bs.simulate(one, t1=0.4, dt=0.1, key=jax.random.key(0), inputs=inputs)
        for name, node in nodes.items():
            assert int(sol.n_events[name]) == 4 * node.size * 2**24 > 2**31
            np.testing.assert_allclose(sol.rates[name], 2.0**24 / 0.1e-3, rtol=1e-6)


def test_a_run_beyond_the_last_step_is_refused():
    net = bs.Network({"P": bs.Population(bs.LIF(), 1)})
    state = bs.initial_state(net, dt=0.01, key=jax.random.key(0))
    state = eqx.tree_at(lambda s: s.n, state, jnp.asarray(2**31 - 2**24 - 10, jnp.int32))
    start = int(state.n) * 0.01
    sol = bs.simulate(net, t1=start + 0.1, dt=0.01, state=state)
    assert int(sol.state.n) == 2**31 - 2**24
    with pytest.raises(ValueError, match="which steps of 32 bits can count"):
        bs.simulate(net, t1=start + 0.2, dt=0.01, state=state)
    with pytest.raises(ValueError, match="expected at most"):
        bs.simulate(net, t1=3e7, dt=0.01, key=jax.random.key(0))
