"""A unit that keeps its rate: its target under any drive, and the unit inside unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs


def spikes(unit, drive, t1, **kw):
    net = bs.Network({"P": bs.Population(unit, len(drive), i_e=drive, **kw)})
    return bs.simulate(net, t1=t1, dt=0.1, key=jax.random.key(0), saveat=[bs.Events("P", every=10000)]), net


def test_every_unit_comes_to_its_rate_whatever_its_drive():
    drive, target = np.linspace(250.0, 400.0, 32), np.linspace(5.0, 20.0, 32)
    sol, net = spikes(bs.Homeostatic(bs.LIF(), rate=target, eta=0.2), drive, 20000.0)
    last = np.asarray(sol["P.events"])[10:].sum(0) / 10.0  # Hz, over 10 s
    np.testing.assert_allclose(last, target, rtol=0.03, atol=0.1)
    assert "fused" in str(bs.summary(net, dt=0.1).nodes)


def test_without_a_step_it_is_the_unit_itself():
    drive = np.linspace(200.0, 400.0, 8)
    plain = spikes(bs.AdEx(), drive * 3, 1000.0)[0]["P.events"]
    wrapped = spikes(bs.Homeostatic(bs.AdEx(), rate=10.0, eta=0.0), drive * 3, 1000.0)[0]["P.events"]
    np.testing.assert_array_equal(plain, wrapped)


def test_gradients_reach_the_target_and_the_unit():
    def count(rate, tau):
        unit = bs.Homeostatic(bs.LIF(tau_m=tau), rate=rate, eta=0.2)
        return spikes(unit, jnp.full(4, 300.0), 1000.0, detach_reset=True)[0]["P.events"].sum()

    assert np.all(np.isfinite(jax.grad(count, (0, 1))(10.0, 20.0)))


def test_bad_input():
    with pytest.raises(ValueError, match=r"Homeostatic.rate is -1.0; expected rate >= 0"):
        bs.Homeostatic(bs.LIF(), rate=-1.0)
    with pytest.raises(TypeError, match="expected a unit such as"):
        bs.Homeostatic(bs.LIF)
    nested = bs.Homeostatic(bs.Homeostatic(bs.LIF()))
    with pytest.raises((ValueError, TypeError), match="theta"):
        bs.Network({"P": bs.Population(nested, 2)})
