"""The published equations of the fly's brain against Brian2, and what its quirks do."""

from pathlib import Path

import jax
import numpy as np
import pytest

import brainsim as bs
from experiments.classics.fly_brain.model import fly_brain
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
