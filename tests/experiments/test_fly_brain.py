"""The published equations of the fly's brain against Brian2, and what its quirks do."""

from pathlib import Path

import jax
import numpy as np
import pytest

import brainsim as bs
from experiments.classics.fly_brain.model import fly_brain
from experiments.classics.fly_brain.run import RATE, SEED, reached
from experiments.classics.fly_brain.screen import screen
from experiments.classics.fly_brain.synthetic import synthetic

GOLDEN = Path(__file__).parents[1] / "golden" / "fly_brain.npz"


def spikes(z, **quirks):
    """(step, unit) of every spike, steps as Brian2 counts them."""
    brain = bs.Connectome(
        {"id": np.arange(int(z["n"]))},
        {
            "pre_row": z["pre"],
            "post_row": z["post"],
            "count": np.abs(z["weight"].astype(int)),
            "sign": np.sign(z["weight"]),
        },
    )
    stimulus = bs.Replay((z["steps"].astype(int) + 1) * 0.1, z["ids"].astype(int))
    net = fly_brain(brain, stimulus, z["stimulated"].astype(int), **quirks)
    recording = bs.Spikes("brain", max_rate=500.0)
    rules = dict(dt=0.1, solver=bs.ExponentialEuler(), key=jax.random.key(0), saveat=[recording])
    t, i = bs.simulate(net, t1=float(z["t1"]), **rules).spikes("brain")
    return np.stack([np.round(np.asarray(t) / 0.1).astype(int) - 1, np.asarray(i)], axis=1)


def test_spike_for_spike_with_brian2():
    with np.load(GOLDEN) as z:
        want = np.stack([z["spike_steps"], z["spike_ids"]], axis=1).astype(int)
        with jax.enable_x64(True):
            got = spikes(z)
        assert np.array_equal(got[np.lexsort(got.T[::-1])], want[np.lexsort(want.T[::-1])])
        single = spikes(z)
        # float32: spikes move where a threshold is passed by less than rounding
        assert len({*map(tuple, single.tolist())} & {*map(tuple, want.tolist())}) > 0.9 * len(want)
        assert len(spikes(z, clear=False)) != len(want)
        assert len(spikes(z, freeze=False)) != len(want)


def test_a_synthetic_wiring_has_the_statistics_of_the_fly():
    brain = synthetic(5000)
    assert brain.pre.size + brain.dropped["duplicates"] == round(15_091_983 * 5000 / 138_639)
    degree = np.bincount(brain.pre, minlength=5000)
    assert 1.0 < degree.std() / degree.mean() < 1.7
    assert abs((brain.neurons["transmitter"] == "gaba").mean() - 0.35) < 0.03
    # pairs drawn twice, more of them in a small brain, are summed
    assert brain.count.sum() / brain.pre.size == pytest.approx(54_492_922 / 15_091_983, rel=0.1)


def test_a_screen_is_the_runs_with_a_neuron_silenced_each():
    brain, stimulated, t1 = synthetic(300), np.arange(10), 50.0
    table = screen(brain, stimulated, np.array([-1, 0, 4]), t1)
    assert table.dims == ("silenced", "neuron")
    rules = dict(dt=0.1, solver=bs.ExponentialEuler(), key=jax.random.key(SEED), saveat=[bs.Events("brain", every=500)])
    for cells in ([], [4]):
        net = fly_brain(brain, bs.Poisson(RATE), stimulated, silenced=cells)
        want = bs.simulate(net, t1=t1, **rules)["brain.events"][0] * (1e3 / t1)
        assert np.array_equal(table.sel(silenced=cells[0] if cells else -1), want)
    assert want.sum() > 0
    assert not np.array_equal(table.sel(silenced=-1), table.sel(silenced=0))


def test_blocks_that_a_spike_reaches():
    pairs = {"pre_row": np.array([0, 0, 9]), "post_row": np.array([1, 20, 70]), "count": np.ones(3, int)}
    pairs["sign"] = np.ones(3, int)
    brain = bs.Connectome({"id": np.arange(128)}, pairs)
    assert reached(brain, np.array([0, 0])) == {"1": 3 / 128, "4": 2 / 32, "16": 2 / 8, "64": 1 / 2}
