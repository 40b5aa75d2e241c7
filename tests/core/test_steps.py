"""Durations in steps: delays and refractory periods under one rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.base import to_steps

DT = 0.25  # a binary fraction: quotients are exact


@pytest.mark.core
def test_halves_are_rounded_upward_by_numpy_and_jax_alike():
    durations = np.asarray([0.0, 0.125, 0.375, 0.625, 0.6, 2.125])
    want = [0, 1, 2, 3, 2, 9]
    np.testing.assert_array_equal(to_steps(durations, DT), want)
    np.testing.assert_array_equal(jax.jit(to_steps)(jnp.asarray(durations), jnp.asarray(DT)), want)


def test_a_refractory_period_of_two_and_a_half_steps_lasts_three_and_warns():
    """A cell that is always above threshold spikes every 1 + t_ref / dt steps, halves upward."""
    cell = bs.LIF(t_ref=jnp.asarray([0.0, 0.125, 0.625, 1.0]), v_th=-59.0, tau_m=1.0)
    net = bs.Network({"P": bs.Population(cell, 4, i_e=1e4)})
    with pytest.warns(UserWarning, match=r"Population 'P': a t_ref of 0.\d+ ms .* dt = 0.25 ms; .* rounded to 0."):
        sol = bs.simulate(net, t1=60 * DT, dt=DT, key=jax.random.key(0), saveat=[bs.Events("P")])
    periods = [np.unique(np.diff(np.flatnonzero(x))) for x in np.asarray(sol["P.events"]).T]
    np.testing.assert_array_equal(periods, [[1], [2], [4], [5]])
    assert any("a t_ref of" in w for w in bs.summary(net, dt=DT).warnings)


def test_a_refractory_period_that_dt_divides_does_not_warn(recwarn):
    net = bs.Network({"P": bs.Population(bs.LIF(t_ref=2.0), 1), "Q": bs.Population(bs.WangBuzsaki(), 1)})
    bs.simulate(net, t1=0.1, dt=0.1, key=jax.random.key(0))
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []
