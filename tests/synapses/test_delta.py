"""When a jump is tested: `Delta()` at the end of the step that it begins, `Delta(at="end")` at once, as in NEST."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

DT = 0.1


def chain(at, delay=DT, n=2, weight=30.0, **how):
    """A unit that is made to fire at 1 ms, and one after another, each by one event of the one before it."""
    nodes = {"S": bs.Source(bs.Replay([1.0], [0]), 1)}
    nodes["P"] = bs.Population(bs.LIF(t_ref=2.0, tau_m=10.0, **how), n, {"d": bs.Delta(at=at)})
    edges = {
        "first": bs.Projection("S", "P[:1].d", bs.OneToOne(), weight=weight, delay=delay),
        "next": bs.Projection("P", "P.d", bs.FromCOO(np.arange(n - 1), np.arange(1, n)), weight=weight, delay=delay),
    }
    return bs.Network(nodes, edges, key=jax.random.key(0))


@pytest.mark.core
@pytest.mark.parametrize("delay", [0.1, 1.5])
def test_a_jump_is_tested_when_it_arrives(delay):
    found = {}
    for at in ("start", "end"):
        t, i = bs.simulate(chain(at, delay, 4), t1=12.0, dt=DT, key=jax.random.key(0), saveat=[bs.Spikes("P")]).spikes(
            "P"
        )
        found[at] = t
        np.testing.assert_array_equal(i, np.arange(4))
    np.testing.assert_allclose(found["end"], 1.0 + delay * np.arange(1, 5), atol=1e-4)
    np.testing.assert_allclose(found["start"], 1.0 + (delay + DT) * np.arange(1, 5), atol=1e-4)


def test_a_jump_does_not_decay_before_its_test():
    """A jump of just the distance to the threshold, which a step of decay would take below it."""
    spikes = {
        at: bs.simulate(chain(at, weight=10.01), t1=3.0, dt=DT, key=jax.random.key(0), saveat=[bs.Spikes("P")])
        for at in ("start", "end")
    }
    cell = bs.LIF()
    assert float(cell.v_th - cell.e_l) == 10.0
    assert [len(sol.spikes("P")[0]) for sol in spikes.values()] == [0, 2]


def test_what_arrives_in_the_refractory_period_is_lost():
    nodes = {"S": bs.Source(bs.Replay([1.0, 2.0, 3.5], [0, 0, 0]), 1)}
    nodes["P"] = bs.Population(bs.LIF(t_ref=2.0), 1, {"d": bs.Delta(at="end")})
    net = bs.Network(nodes, {"first": bs.Projection("S", "P.d", bs.OneToOne(), weight=20.0, delay=DT)})
    t, _ = bs.simulate(net, t1=5.0, dt=DT, key=jax.random.key(0), saveat=[bs.Spikes("P")]).spikes("P")
    np.testing.assert_allclose(t, [1.1, 3.6], atol=1e-4)


@pytest.mark.core
def test_gradients_are_those_of_differences(x64):
    net = chain("end", 0.5, weight=5.0)

    def last(w):
        net_w = bs.train.with_parameters(net, {"first.weight": jnp.asarray(w)})
        return bs.simulate(net_w, t1=4.0, dt=DT, key=jax.random.key(0), saveat=[bs.Trace("P.v")])["P.v"][-1, 0]

    slope = (last(5.0 + 1e-4) - last(5.0 - 1e-4)) / 2e-4
    assert float(slope) > 0.5
    np.testing.assert_allclose(jax.grad(last)(5.0), slope, rtol=1e-6)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"Delta.at is 'stop'; expected 'start' or 'end'"):
        bs.Delta(at="stop")
    with pytest.raises(ValueError, match=r"port P.d adds what arrives at the end of a step"):
        chain("end", bs.INSTANT)
    with pytest.raises(ValueError, match=r"delay is 0 ms at dt = 0.1 ms; expected at least dt"):
        bs.simulate(chain("end", 0.0), t1=1.0, dt=DT, key=jax.random.key(0))
