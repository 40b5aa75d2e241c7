"""Gradients along time: the norms are those of the states, clipping holds, and damping tames a recurrent network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import train

STEPS, DT = 120, 0.5
RTOL = 1e-9  # float64: the same derivative, summed in another order


def recurrent(surrogate=None):
    """Twenty cells that excite each other, driven above threshold."""
    cells = bs.Population(
        bs.LIF(), 20, {"exc": bs.ExpCurr(tau=3.0)}, i_e=np.linspace(150.0, 300.0, 20), surrogate=surrogate
    )
    return bs.Network({"P": cells}, {"PP": bs.Projection("P", "P.exc", bs.AllToAll(), weight=20.0)})


def loss_of(net, adjoint, state=None, steps=STEPS):
    state = bs.initial_state(net, dt=DT, key=jax.random.key(1)) if state is None else state
    sol = bs.simulate(net, t0=0.0, t1=steps * DT, dt=DT, state=state, saveat=[bs.Events("P")], adjoint=adjoint)
    return jnp.mean(sol["P.events"][steps // 2 :])


def weight_gradient(net, adjoint):
    def loss(weight):
        return loss_of(eqx.tree_at(lambda n: n.edges["PP"].weight, net, weight), adjoint)

    return jax.jit(jax.grad(loss))(net.edges["PP"].weight)


def test_norms_are_those_of_the_gradient_by_the_state(x64):
    net = recurrent()
    norms = train.gradient_norms(lambda adjoint: loss_of(net, adjoint), net, steps=STEPS, every=10)
    state = bs.initial_state(net, dt=DT, key=jax.random.key(1))
    smooth, rest = eqx.partition([state.nodes["P"].y, state.inbox["P"]], eqx.is_inexact_array)

    def by_state(smooth):
        parts = eqx.combine(smooth, rest)
        at = eqx.tree_at(lambda s: [s.nodes["P"].y, s.inbox["P"]], state, parts)
        return loss_of(net, bs.CheckpointedAdjoint(), at)

    expected = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(jax.grad(by_state)(smooth))))
    np.testing.assert_allclose(norms.norms["P"][0], expected, rtol=RTOL)
    assert norms.steps.tolist() == list(range(0, STEPS, 10))
    assert norms.worst == "P"
    assert norms.__rich__().row_count == 1


def test_a_narrow_surrogate_explodes_and_damping_and_clipping_hold_it():
    narrow, look = recurrent(bs.Triangular(0.3)), {"steps": STEPS, "every": 10}
    damped = recurrent(bs.Damped(bs.Triangular(0.3), 0.02))
    wild, tame = (train.gradient_norms(lambda a, net=net: loss_of(net, a), net, **look) for net in (narrow, damped))
    assert wild.growth("P") > 1.1 > tame.growth("P")  # per step
    assert not np.nanmax(wild.norms["P"]) < 1e4 * np.max(tame.norms["P"])
    clipped = weight_gradient(narrow, train.ClippedAdjoint(10, 1e-2))
    assert np.isfinite(clipped)
    assert clipped != 0


def test_clipping_that_never_cuts_changes_nothing():
    net = recurrent(bs.Triangular(10.0))
    expected = weight_gradient(net, bs.CheckpointedAdjoint())
    # 50 does not divide the run: the rest is a window of its own
    got = weight_gradient(net, train.ClippedAdjoint(every=50, max_norm=1e30))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.max(np.abs(expected)))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="max_norm"):
        train.ClippedAdjoint(10, 0.0)
    with pytest.raises(ValueError, match="every"):
        train.ClippedAdjoint(0, 1.0)
    with pytest.raises(ValueError, match="does not divide 120 steps"):
        train.gradient_norms(lambda a: loss_of(recurrent(), a), recurrent(), steps=STEPS, every=7)
    with pytest.raises(ValueError, match="0 < factor <= 1"):
        bs.Damped(bs.Triangular(), 2.0)
    with pytest.raises(TypeError, match=r"Damped.surrogate is 1.0"):
        bs.Damped(1.0)


@pytest.mark.core
def test_damped_is_a_part_of_the_slope_with_the_same_support():
    x = jnp.linspace(-3.0, 3.0, 13)
    wide, part = bs.Triangular(2.0), bs.Damped(bs.Triangular(2.0), 0.25)
    np.testing.assert_allclose(part.slope(x), 0.25 * wide.slope(x), rtol=1e-6)
    np.testing.assert_array_equal(part.support(x), wide.support(x))
    np.testing.assert_array_equal(part(x), wide(x))
    np.testing.assert_allclose(jax.vjp(part, x)[1](jnp.ones_like(x))[0], part.slope(x), rtol=1e-6)
