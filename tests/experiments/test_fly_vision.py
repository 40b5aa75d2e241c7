"""The optic lobe with parameters by type: its recursion, its gradient, the stimuli, the shuffled wiring."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from experiments.fly_vision import stimuli
from experiments.fly_vision.model import DT, FILTERS, Lobe
from experiments.fly_vision.task import columns, shuffled

FRAMES = 12


@pytest.fixture(scope="module")
def brain():
    return bs.connectome.read_optic_lobe(FILTERS, extent=1)


def loss(values, lobe, frames):
    changed = eqx.tree_at(lambda x: (x.strength, x.v_rest, x.tau), lobe, values)
    return jnp.sum(changed.run(frames, np.asarray(lobe.outputs)) ** 2)


@pytest.mark.usefixtures("x64")
def test_a_frame_is_the_published_euler_step_and_its_gradient_is_that_of_differences(brain):
    rng = np.random.default_rng(0)
    lobe = Lobe(brain, jax.random.key(0))
    frames = jnp.asarray(rng.uniform(0.0, 1.0, (FRAMES, lobe.net.sizes["light"])))
    values = lobe.strength, lobe.v_rest, lobe.tau
    got, slopes = jax.jit(jax.value_and_grad(loss))(values, lobe, frames)
    forward = jax.jit(loss)
    for k, size in enumerate((1.0, 0.1, 10.0)):
        ahead = [size * rng.normal(size=x.shape) if j == k else jnp.zeros_like(x) for j, x in enumerate(values)]
        near = [forward(tuple(x + e * d for x, d in zip(values, ahead)), lobe, frames) for e in (1e-5, -1e-5)]
        differences = float(near[0] - near[1]) / 2e-5
        assert abs(differences) > 1e-6
        assert float(jnp.vdot(slopes[k], ahead[k])) == pytest.approx(differences, rel=1e-4)
    v, sent, before, seen = np.zeros(len(brain)), np.zeros(len(brain)), np.zeros(frames.shape[1]), 0.0
    strength, rest, tau = (np.asarray(x) for x in values)
    weight, of = np.asarray(lobe.share) * strength[lobe.pair_of], np.asarray(lobe.type_of)
    for light in np.asarray(frames):
        arrived = np.bincount(brain.post, weight * sent[brain.pre], len(brain))
        arrived[brain.cells(role="input")] += np.tile(before, 8)  # an edge takes a frame
        v = v + DT / tau[of] * (rest[of] - v + arrived)
        sent, before = np.maximum(v, 0.0), light
        seen += np.sum(v[list(lobe.outputs)] ** 2)
    assert float(got) == pytest.approx(seen, rel=1e-5)  # counts are float32


def test_shuffled_wiring_keeps_types_synapses_and_the_edges_that_a_cell_sends(brain):
    other = shuffled(brain, 0)
    of = brain.groups("type")[1]

    def by_pair(x):
        return np.bincount(of[x.pre] * 65 + of[x.post], x.count * x.sign, 65 * 65)

    np.testing.assert_allclose(by_pair(brain), by_pair(other), rtol=1e-5)
    for end in ("pre", "post"):
        sent = [np.bincount(getattr(x, end), x.count, len(brain)) for x in (brain, other)]
        assert (end == "pre") == np.allclose(*sent)
    assert set(zip(brain.pre.tolist(), brain.post.tolist())) != set(zip(other.pre.tolist(), other.post.tolist()))


def test_edges_and_textures_move_as_they_should(brain):
    place = columns(bs.connectome.read_optic_lobe(FILTERS, extent=3))
    angle, speed = 0.7, 10.0
    light = np.asarray(stimuli.edge(angle, speed, 1.0, place, 60))[stimuli.BEFORE :]
    ahead = np.asarray(place) @ [np.cos(angle), np.sin(angle)]
    crossed = np.argmax(light > 0.75, axis=0)
    np.testing.assert_allclose(crossed - 30, ahead / (speed * DT * 1e-3), atol=1.0)
    frames, velocity = stimuli.texture(jax.random.key(3), place, 20)
    back = place - (velocity * DT * 1e-3)[None]  # where what is here now was a frame ago
    moved, _ = stimuli.texture(jax.random.key(3), back, 20)
    assert np.ptp(frames[-1]) > 0.1
    np.testing.assert_allclose(frames[stimuli.BEFORE + 1 :], moved[stimuli.BEFORE : -1], atol=1e-4)
