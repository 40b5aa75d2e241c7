"""Sources whose numbers are changed by transformations: swapped trains, rates that cannot be met."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

K = jax.random.key
LATE = 10**9  # steps


def _process(net, **fields):
    places, values = list(fields), list(fields.values())
    return eqx.tree_at(lambda n: [getattr(n.nodes["S"].process, f) for f in places], net, values)


def test_swapped_trains_are_sorted_and_new_ones_may_be_traced():
    net = bs.Network({"S": bs.Source(bs.Replay([1.0, 2.0, 3.0], [0, 1, 0]), 2)})
    trains = jnp.asarray([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0], [4.0, 6.0, 5.0]])

    def steps(net):
        return bs.simulate(net, t1=7.0, dt=0.1, key=K(0), saveat=[bs.Events("S")])["S.events"]

    swapped = jax.vmap(lambda t: steps(_process(net, times=t)))(trains)
    traced = jax.vmap(lambda t: steps(bs.Network({"S": bs.Source(bs.Replay(t, jnp.asarray([0, 1, 0])), 2)})))(trains)
    want = np.zeros((3, 70, 2))
    for row, train in zip(want, np.asarray(trains), strict=True):
        row[np.round(train * 10).astype(int) - 1, [0, 1, 0]] = 1
    np.testing.assert_array_equal(swapped, want)
    np.testing.assert_array_equal(traced, want)


@pytest.mark.core
@pytest.mark.parametrize(
    "fields", [{"ids": jnp.asarray([0, 7])}, {"ids": jnp.asarray([0, -1])}, {"times": jnp.asarray([1.0, jnp.nan])}]
)
def test_a_swapped_train_that_cannot_be_is_flagged(fields):
    net = bs.Network({"S": bs.Source(bs.Replay([1.0, 2.0], [0, 1]), 2)})
    fields = {k: v.astype(jnp.int32) if k == "ids" else v.astype(jnp.result_type(float)) for k, v in fields.items()}
    with pytest.raises(bs.SimulationError, match=r"'S'.* (times or units|process.times is not finite)"):
        bs.simulate(_process(net, **fields), t1=0.2, dt=0.1, key=K(0))


def test_a_replay_at_zero_and_late_is_exact():
    """What is nearer to 0 comes in the first step; at step 10^9 every step has its own spike."""
    net = bs.Network({"S": bs.Source(bs.Replay([0.0, 0.04, 0.06], [0, 1, 1]), 2)})
    sol = bs.simulate(net, t1=0.3, dt=0.1, key=K(0), saveat=[bs.Events("S")])
    np.testing.assert_array_equal(sol["S.events"], [[1, 2], [0, 0], [0, 0]])
    times = (LATE + 1 + np.asarray([0, 1, 2, 5, 5])) * 0.1
    net = bs.Network({"S": bs.Source(bs.Replay(times, [0, 1, 0, 0, 1]), 2)})
    state = eqx.tree_at(lambda s: s.n, bs.initial_state(net, dt=0.1, key=K(0)), jnp.asarray(LATE, jnp.int32))
    end = (LATE + 7) * 0.1
    sol = bs.simulate(net, t1=end, dt=0.1, state=state, saveat=[bs.Events("S"), bs.Spikes("S")])
    want = [[1, 0], [0, 1], [1, 0], [0, 0], [0, 0], [1, 1], [0, 0]]
    np.testing.assert_array_equal(sol["S.events"], want)
    np.testing.assert_allclose(sol.spikes("S").t, times, rtol=0, atol=1e-6)


@pytest.mark.core
def test_a_rate_that_cannot_be_met_is_flagged_by_name():
    """NaN, and more than one event a step; at one event a step there is one in every."""
    net = bs.Network({"S": bs.Source(bs.Poisson(1e4), 40)})
    assert int(bs.simulate(net, t1=1.0, dt=0.1, key=K(0)).n_events["S"]) == 400
    for rate, code, says in (
        (jnp.nan, 4, "rate is not finite at step 0 "),
        (2e4, 7, "cannot emit at step 0 .*PoissonInput"),
    ):
        changed = _process(net, rate=jnp.asarray(rate, jnp.result_type(float)))
        with pytest.raises(bs.SimulationError, match=f"'S'.*{says}"):
            bs.simulate(changed, t1=1.0, dt=0.1, key=K(0))
        flags = jax.jit(lambda n: bs.simulate(n, t1=1.0, dt=0.1, key=K(0)).flags)(changed)
        assert int(flags["S"][0]) == code
    wave = bs.Network({"S": bs.Source(bs.Poisson(bs.StepCurrent([9e3, 2e4], [0.0, 0.5])), 40)})
    with pytest.raises(bs.SimulationError, match=r"Source 'S' cannot emit at step 5 "):
        bs.simulate(wave, t1=1.0, dt=0.1, key=K(0))


@pytest.mark.parametrize("n, rate", [(100, 100.0), (10_000, 1000.0)])
def test_one_rate_of_nan_among_many_leaves_the_others_alone(n, rate):
    nodes = {"P": bs.Population(bs.LeakyIntegrator(tau_m=1e9), 50, {"e": bs.Delta()})}
    net = bs.Network(nodes, {"X": bs.PoissonInput("P.e", n, np.full(50, rate), 1e-3)})
    run = jax.jit(lambda r: bs.simulate(eqx.tree_at(lambda m: m.edges["X"].rate, net, r), t1=10.0, dt=0.1, key=K(0)))
    rates = jnp.full(50, rate)
    good, bad = run(rates), run(rates.at[0].set(jnp.nan))
    v, w = (np.asarray(sol.state.nodes["P"].y["unit"]["v"]) for sol in (good, bad))
    np.testing.assert_array_equal(v[1:], w[1:])
    assert int(bad.flags["P"][0]) == 1
    assert int(bad.flags["X"][0]) == 4
