"""CubaLIF and the leaky integrator against their closed forms."""

import diffrax
import jax
import numpy as np
import pytest

import brainsim as bs
from brainsim.solvers import ExponentialEuler


def _net(**unit):
    return bs.Network(
        {
            "S": bs.Source(bs.Replay([0.5], [0]), 1),
            "P": bs.Population(bs.CubaLIF(**unit), 1, {"in": bs.Delta(variable="i")}),
            "R": bs.Population(bs.LeakyIntegrator(e_l=0.5), 1, {"in": bs.Delta()}),
        },
        {
            "SP": bs.Projection("S", "P", bs.OneToOne(), weight=0.8),
            "SR": bs.Projection("S", "R", bs.OneToOne(), weight=0.8),
        },
    )


def _response(t, tau_s=5.0, tau_m=20.0, r=2.0, w=0.8):
    """v after a jump of i by w at t = 0."""
    return np.where(t > 0, r * w * tau_s / (tau_s - tau_m) * (np.exp(-t / tau_s) - np.exp(-t / tau_m)), 0.0)


@pytest.fixture(scope="module")
def response():
    """Traces for an event emitted at 0.5 ms, which with delay 0 acts from then on."""

    def run(solver, dt):
        record = [bs.Trace("P.v"), bs.Trace("P.i"), bs.Trace("R.v")]
        return bs.simulate(_net(r=2.0), t1=20.0, dt=dt, solver=solver, key=jax.random.key(0), saveat=record)

    return run


def test_an_event_gives_the_double_exponential(response):
    sol = response(diffrax.Tsit5(), 0.5)
    t = sol.times("P.v") - 0.5
    np.testing.assert_allclose(sol["P.v"][:, 0], _response(t), atol=2e-6)
    np.testing.assert_allclose(sol["P.i"][:, 0], np.where(t > 0, 0.8 * np.exp(-t / 5.0), 0.0), atol=1e-6)


def test_exponential_euler_is_of_order_one(response):
    errors = []
    for dt in (0.5, 0.25):
        sol = response(ExponentialEuler(), dt)
        errors.append(np.abs(np.asarray(sol["P.v"])[:, 0] - _response(sol.times("P.v") - 0.5)).max())
        t = sol.times("R.v") - 0.5
        # one equation alone is exact
        np.testing.assert_allclose(sol["R.v"][:, 0], 0.5 + np.where(t > 0, 0.8 * np.exp(-t / 20.0), 0.0), atol=1e-6)
    assert 1.8 < errors[0] / errors[1] < 2.2


def test_reset_steady_current_and_readout():
    """i settles at w_in I; v resets to v_reset, or by v_th - v_reset; the readout settles at e_l + r I and never
    spikes.
    """
    net = bs.Network(
        {
            "zero": bs.Population(bs.CubaLIF(w_in=3.0, v_reset=-0.5), 1, i_e=1.0),
            "minus": bs.Population(bs.CubaLIF(w_in=3.0, v_reset=-0.5, reset_by_subtraction=True), 1, i_e=1.0),
            "rest": bs.Population(bs.CubaLIF(w_in=3.0, t_ref=4.0), 1, i_e=1.0),
            "read": bs.Population(bs.LeakyIntegrator(e_l=0.5, r=4.0), 1, i_e=2.0),
        }
    )
    record = (
        [bs.Trace(f"{k}.v") for k in net.nodes]
        + [bs.Spikes(k) for k in net.nodes if net.nodes[k].spiking]
        + [bs.Trace("zero.i")]
    )
    sol = bs.simulate(net, t1=200.0, dt=0.1, key=jax.random.key(0), saveat=record)
    np.testing.assert_allclose(sol["zero.i"][-1], 3.0, rtol=1e-5)
    assert "read" not in sol.stats["n_events"]
    np.testing.assert_allclose(sol["read.v"][-1], 0.5 + 4.0 * 2.0 * (1 - np.exp(-10.0)), rtol=1e-5)
    for name in ("zero", "minus"):
        v = np.asarray(sol[f"{name}.v"])[:, 0]
        k = np.round(sol.spikes(name).t / 0.1).astype(int)[-1] - 1
        before = 3.0 + (v[k - 1] - 3.0) * np.exp(-0.1 / 20)
        assert before > 1.0
        np.testing.assert_allclose(v[k], -0.5 if name == "zero" else before - 1.5, atol=1e-5)
    # from v_reset = 0 to v_th = 1 with r i = 3 in steps of 0.1 ms, and 40 steps at rest
    np.testing.assert_allclose(
        np.diff(sol.spikes("rest").t)[-3:], 0.1 * np.ceil(20 * np.log(3 / 2) / 0.1) + 4.0, atol=1e-4
    )
