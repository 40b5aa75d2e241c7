"""What a refractory period keeps still: v after a reset by subtraction, under noise and under arrivals that jump v."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

TIMES, WEIGHT, T_REF, DT = [1.0, 2.0, 3.0, 6.0], 1.7, 3.0, 0.1
"""The first arrival is a spike at 1.0 or 1.1 ms; those at 2 and 3 ms come in its refractory period, that at 6 after."""


def network(unit, noise=None):
    nodes = {
        "S": bs.Source(bs.Replay(TIMES, [0] * len(TIMES)), 1),
        "P": bs.Population(unit, 1, {"d": bs.Delta()}, noise=noise, init={"v": 0.0}),
    }
    return bs.Network(nodes, {"SP": bs.Projection("S", "P", bs.OneToOne(), weight=WEIGHT)})


def cells():
    """Almost without a leak, so that only arrivals, resets and noise move v."""
    yield bs.CubaLIF(tau_m=1e7, t_ref=T_REF, reset_by_subtraction=True)
    yield bs.AdaptiveLIF(tau_m=1e7, t_ref=T_REF, beta=0.0, reset_by_subtraction=True)


@pytest.mark.core
@pytest.mark.parametrize("unit", list(cells()), ids=lambda u: type(u).__name__)
def test_v_stays_where_the_reset_by_subtraction_left_it(unit):
    noise = bs.WhiteNoise({"v": 1e-3})  # small beside the distance to threshold
    sol = bs.simulate(
        network(unit, noise), t1=8.0, dt=DT, key=jax.random.key(0), saveat=[bs.Trace("P.v"), bs.Spikes("P")]
    )
    v = np.asarray(sol["P.v"])[:, 0]
    first, second = (round(t / DT) - 1 for t in np.asarray(sol.spikes("P").t))  # the steps that end with a spike
    assert (first, second) == (10, 60)
    still = slice(first, first + round(T_REF / DT) + 1)
    np.testing.assert_array_equal(v[still], v[first])
    assert v[first] == pytest.approx(WEIGHT - 1.0, abs=0.02)  # 60 steps of noise have a deviation of 0.003
    assert v[second] == pytest.approx(2 * (WEIGHT - 1.0), abs=0.02)
    assert np.std(np.diff(v[still.stop : second])) > 0  # the noise is back after it


@pytest.mark.core
def test_the_run_from_event_to_event_loses_the_same_arrivals():
    sol = bs.simulate_events(network(next(cells())), t1=8.0, key=jax.random.key(0), max_events=40, max_spikes=8)
    assert int(sol.counts["P"][0]) == 2
    np.testing.assert_allclose(np.asarray(sol["P"][0, :2]), [1.0, 6.0], atol=1e-5)
    assert float(sol.y["P"]["unit"]["v"][0]) == pytest.approx(2 * (WEIGHT - 1.0), abs=1e-5)


def test_the_derivative_of_an_arrival_that_is_lost_is_zero():
    def last(weight):
        net = network(next(cells()))
        net = net.nodes["P"].arrive(
            {"unit": {"v": jnp.zeros(1), "i": jnp.zeros(1)}, "ports": {"d": {}}},
            {"refractory": jnp.ones(1, jnp.int32)},
            {"d": weight},
        )
        return net[0]["unit"]["v"][0]

    value, slope = jax.value_and_grad(last)(jnp.ones(1))
    assert (float(value), float(slope[0])) == (0.0, 0.0)
