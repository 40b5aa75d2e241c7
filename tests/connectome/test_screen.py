"""Runs that share one wiring, each with neurons of its own silenced."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

N, T1 = 120, 60.0


@pytest.fixture(scope="module")
def brain():
    rng = np.random.default_rng(0)
    pairs = {
        "pre_row": rng.integers(0, N, 2400),
        "post_row": rng.integers(0, N, 2400),
        "count": rng.integers(1, 6, 2400),
    }
    pairs["sign"] = np.where(rng.random(N) < 0.3, -1, 1)[pairs["pre_row"]]
    return bs.Connectome({"id": np.arange(N)}, pairs)


def network(brain, **more):
    drive = np.where(np.arange(N) < 20, 1.6, 0.2)
    unit = bs.CubaLIF(tau_syn=2.0, tau_m=10.0, t_ref=1.0)
    population = bs.Population(unit, N, {"g": bs.Delta("i")}, i_e=drive)
    wiring = bs.Projection("brain", "brain.g", brain.connect, weight=0.3 * brain.weight, delay=1.8, **more)
    return bs.Network({"brain": population}, {"wiring": wiring})


def counts(net):
    rules = dict(dt=0.1, solver=bs.ExponentialEuler(), key=jax.random.key(0), saveat=[bs.Events("brain")])
    return bs.simulate(net, t1=T1, **rules)["brain.events"].sum(axis=0)


def test_a_gain_of_0_is_a_neuron_without_synapses(brain):
    chosen = [[], [3], [5, 11, 12], list(range(20))]
    gains = np.ones((len(chosen), N), np.float32)
    for row, cells in zip(gains, chosen, strict=True):
        row[cells] = 0.0
    net = network(brain, short_term=bs.Gain(np.ones(N)))
    put = lambda g: eqx.tree_at(lambda n: n.edges["wiring"].short_term.gain, net, g)  # noqa: E731
    together = jax.vmap(lambda g: counts(put(g)))(jnp.asarray(gains))
    apart = np.stack([counts(network(brain.silenced(cells))) for cells in chosen])
    assert np.array_equal(together, apart)
    assert len({tuple(row) for row in apart.tolist()}) == len(chosen)


def test_a_gain_has_a_derivative(brain):
    net = network(brain, short_term=bs.Gain(np.ones(N)))

    def spikes(g):
        return counts(eqx.tree_at(lambda n: n.edges["wiring"].short_term.gain, net, g))[20:].sum()

    slope = jax.grad(spikes)(jnp.ones(N))
    assert np.all(np.isfinite(slope))
    signs = np.zeros(N)
    np.add.at(signs, brain.pre, brain.weight)
    assert np.corrcoef(slope[:20], signs[:20])[0, 1] > 0.8  # more of what excites, more spikes


@pytest.mark.parametrize("bad", [np.ones(N + 1), np.full(N, np.nan)])
def test_bad_gains_are_refused(brain, bad):
    with pytest.raises(ValueError, match="Gain"):
        network(brain, short_term=bs.Gain(bad))
