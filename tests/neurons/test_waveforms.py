"""Waveforms and the voltage clamp against what they say of themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.neurons import Sum

DT = 0.1
MID = (np.arange(1000) + 0.5) * DT


@pytest.fixture(scope="module")
def values():
    """Each waveform over 1,000 steps onto two sources that emit what they are given."""
    inputs = {
        "step": bs.StepCurrent([[1.0, 2.0], [-3.0, 4.0]], [0.3, 70.0]),
        "ramp": bs.Ramp(1.0, [3.0, -3.0], 20.0, 60.0),
        "sine": bs.Sine(2.0, [50.0, 10.0], phase=0.5, offset=1.0),
        "held": bs.Sampled([1.0, -2.0, 5.0], 20.0),
        "linear": bs.Sampled([[1.0, 0.0], [-2.0, 1.0], [5.0, 0.0]], 20.0, linear=True),
        "sum": bs.Sine(2.0, 50.0) + bs.StepCurrent([1.0], [50.0]) + Sum(bs.Ramp(0.0, 1.0, 0.0, 100.0)),
        "noises": bs.OUCurrent(0.0, 1.0, 5.0) + bs.OUCurrent(0.0, 1.0, 5.0),
    }
    net = bs.Network({k: bs.Source(bs.External(), 2) for k in inputs})
    sol = bs.simulate(net, t1=100.0, dt=DT, key=jax.random.key(0), inputs=inputs, saveat=[bs.Events(k) for k in inputs])
    return {k: np.asarray(sol[f"{k}.events"]) for k in inputs}


def _both(a, b):
    return np.stack(np.broadcast_arrays(a, b), -1)


def test_steps_begin_in_the_step_of_their_time(values):
    first, second = (MID > 0.3) & (MID < 70), MID > 70
    np.testing.assert_array_equal(values["step"], _both(first * 1.0 - second * 3.0, first * 2.0 + second * 4.0))
    assert values["step"][2, 0] == 0.0
    assert values["step"][3, 0] == 1.0


def test_ramp_sine_and_samples(values):
    done = np.clip((MID - 20) / 40, 0, 1)
    np.testing.assert_allclose(values["ramp"], _both(1 + 2 * done, 1 - 4 * done), atol=1e-5)
    wave = [1 + 2 * np.sin(2 * np.pi * f * 1e-3 * MID + 0.5) for f in (50.0, 10.0)]
    np.testing.assert_allclose(values["sine"], _both(*wave), atol=1e-4)
    held = np.select([MID < 20, MID < 40, MID < 60], [1.0, -2.0, 5.0], 0.0)
    np.testing.assert_array_equal(values["held"], _both(held, held))
    lines = [np.where(MID < 40, np.interp(MID, [0, 20, 40], y), 0.0) for y in ([1.0, -2.0, 5.0], [0.0, 1.0, 0.0])]
    np.testing.assert_allclose(values["linear"], _both(*lines), atol=2e-5)


def test_sum_adds_up(values):
    wanted = 2 * np.sin(2 * np.pi * 0.05 * MID) + (MID > 50) + MID / 100
    np.testing.assert_allclose(values["sum"], _both(wanted, wanted), atol=1e-4)
    # two noises draw independently: their sum is not twice one of them
    assert abs(values["noises"].std() / np.sqrt(2) - 1) < 0.4


@pytest.mark.parametrize("dt", [0.5, 20.0])
def test_ou_is_exact_at_every_step(dt):
    """Mean, variance and autocorrelation exp(-dt / tau) within 5 standard errors, from the first step on."""
    net = bs.Network({"X": bs.Source(bs.External(), 4000)})
    x = bs.simulate(
        net,
        t1=40 * dt,
        dt=dt,
        key=jax.random.key(3),
        inputs={"X": bs.OUCurrent(3.0, 2.0, 10.0)},
        saveat=[bs.Events("X")],
    )
    x = np.asarray(x["X.events"], np.float64)
    error = 1 / np.sqrt(4000)
    for row in (0, 1, 20, 39):
        assert abs(x[row].mean() - 3.0) < 5 * 2.0 * error
        assert abs(x[row].var() - 4.0) < 5 * 4.0 * np.sqrt(2) * error
    for lag in (1, 5):
        wanted = np.exp(-lag * dt / 10.0)
        assert abs(np.corrcoef(x[10], x[10 + lag])[0, 1] - wanted) < 5 * error
    assert abs(np.corrcoef(x[30, :2000], x[30, 2000:])[0, 1]) < 5 / np.sqrt(2000)


def test_gradients_reach_the_amplitudes():
    """d(sum of the current) / d(amplitude): the number of steps it lasts; for the mean of OU, every step."""
    net = bs.Network({"X": bs.Source(bs.External(), 1)})

    def total(wave):
        sol = bs.simulate(net, t1=10.0, dt=DT, key=jax.random.key(0), inputs={"X": wave}, saveat=[bs.Events("X")])
        return jnp.sum(sol["X.events"])

    wave = bs.StepCurrent([1.0, 2.0], [1.0, 4.0]) + bs.OUCurrent(1.0, 0.5, 5.0)
    grad = eqx.filter_grad(total)(wave)
    np.testing.assert_allclose(grad.parts[0].amplitudes, [30.0, 60.0])
    np.testing.assert_allclose(grad.parts[1].mean, 100.0, rtol=1e-4)
    assert np.isfinite(grad.parts[1].tau)


BAD = [
    (lambda: bs.StepCurrent([1.0, 2.0], [1.0]), ValueError, r"\(2,\).*\(1,\)"),
    (lambda: bs.StepCurrent([1.0, 2.0], [2.0, 1.0]), ValueError, "increasing"),
    (lambda: bs.StepCurrent([np.nan], [1.0]), ValueError, "amplitudes contains NaN"),
    (lambda: bs.Ramp(0.0, 1.0, 5.0, 5.0), ValueError, "t_start < t_stop"),
    (lambda: bs.Sine(1.0, -1.0), ValueError, "frequency >= 0"),
    (lambda: bs.OUCurrent(0.0, -1.0, 5.0), ValueError, "sigma >= 0"),
    (lambda: bs.OUCurrent(0.0, 1.0, 0.0), ValueError, "tau > 0"),
    (lambda: bs.Sampled([1.0], 0.0), ValueError, "dt > 0"),
    (lambda: bs.Sampled(1.0, 1.0), ValueError, r"shape \(\)"),
    (lambda: Sum(1.0), TypeError, "expected waveforms"),
    (lambda: Sum(), ValueError, "at least one"),
    (lambda: bs.VoltageClamp(bs.LIF, -60.0), TypeError, "an instance, not a class"),
    (lambda: bs.VoltageClamp(bs.LIF(), np.nan), ValueError, "v_command contains NaN"),
    (
        lambda: bs.Network({"P": bs.Population(bs.VoltageClamp(bs.LIF(), bs.Sine([1.0, 2.0], 5.0)), 3)}),
        ValueError,
        "'P'.*amplitude",
    ),
]


@pytest.mark.parametrize("make, error, message", BAD)
def test_bad_waveforms_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("wave", [bs.StepCurrent, bs.Sampled, bs.Ramp, bs.OUCurrent])
def test_waveforms_fit_their_node(wave):
    given = {
        bs.StepCurrent: lambda: bs.StepCurrent(np.ones((2, 3)), [0.0, 1.0]),
        bs.Sampled: lambda: bs.Sampled(np.ones((5, 3)), 1.0),
        bs.Ramp: lambda: bs.Ramp(np.zeros(3), 1.0, 0.0, 1.0),
        bs.OUCurrent: lambda: bs.OUCurrent(np.zeros(3), 1.0, 1.0),
    }[wave]()
    net = bs.Network({"X": bs.Source(bs.External(), 2)})
    with pytest.raises(ValueError, match=r"input of 'X'.*3"):
        bs.simulate(net, t1=1.0, dt=DT, key=jax.random.key(0), inputs={"X": given})


def test_clamp_current_is_the_ionic_current():
    """LIF: g_l (v - e_l); with a synapse less its current; Hodgkin-Huxley: g_k n_inf^4 (v - e_k) + ... once the gates
    have settled.
    """
    v = np.array([-80.0, -30.0])
    alpha_n, beta_n = 0.01 * (v + 55) / (1 - np.exp(-(v + 55) / 10)), 0.125 * np.exp(-(v + 65) / 80)
    alpha_m, beta_m = 0.1 * (v + 40) / (1 - np.exp(-(v + 40) / 10)), 4 * np.exp(-(v + 65) / 18)
    alpha_h, beta_h = 0.07 * np.exp(-(v + 65) / 20), 1 / (1 + np.exp(-(v + 35) / 10))
    n, m, h = alpha_n / (alpha_n + beta_n), alpha_m / (alpha_m + beta_m), alpha_h / (alpha_h + beta_h)
    ionic = 120 * m**3 * h * (v - 50) + 36 * n**4 * (v + 77) + 0.3 * (v + 54.387)
    net = bs.Network(
        {
            "S": bs.Source(bs.Replay([5.0], [0]), 1),
            "lif": bs.Population(bs.VoltageClamp(bs.LIF(), v), 2, {"in": bs.ExpCond(tau=5.0, e_rev=0.0)}, i_e=7.0),
            "hh": bs.Population(bs.VoltageClamp(bs.HodgkinHuxley(), v), 2),
            "adex": bs.Population(bs.VoltageClamp(bs.AdEx(b=0.0), bs.StepCurrent([-70.6, -60.0], [0.0, 10.0])), 1),
            "cuba": bs.Population(bs.VoltageClamp(bs.CubaLIF(), 0.5), 1),
        },
        {"in": bs.Projection("S", "lif", bs.AllToAll(), weight=3.0)},
    )
    record = [bs.Trace(f"{k}.{x}") for k in ("lif", "hh", "adex", "cuba") for x in ("i_clamp", "v")]
    sol = bs.simulate(net, t1=60.0, dt=DT, key=jax.random.key(0), saveat=record)
    t = sol.times("lif.v")[:, None]
    g = np.where(t > 5.05, 3.0 * np.exp(-(t - 5.0) / 5.0), 0.0)
    np.testing.assert_allclose(sol["lif.i_clamp"], 10.0 * (v + 60.0) - 7.0 - g * (0.0 - v), rtol=1e-4, atol=2e-3)
    np.testing.assert_array_equal(sol["lif.v"], np.broadcast_to(v, (600, 2)).astype(sol["lif.v"].dtype))
    np.testing.assert_allclose(sol["hh.i_clamp"][-1], ionic, rtol=1e-3)
    # the potential at the end of a step is that of the next: the step to -60 shows from the sample at 10 ms on
    at = sol.times("adex.v")
    np.testing.assert_allclose(sol["adex.v"][:, 0], np.where(at < 9.95, -70.6, -60.0), rtol=1e-6)
    held = np.maximum(at - 10.0, 0.0)
    w = 4.0 * 10.6 * (1 - np.exp(-held / 144.0))
    after = 30.0 * 10.6 - 60.0 * np.exp((-60.0 + 50.4) / 2.0) + w
    np.testing.assert_allclose(np.asarray(sol["adex.i_clamp"])[at > 10.05, 0], after[at > 10.05], rtol=1e-4)
    np.testing.assert_array_equal(sol["cuba.i_clamp"], np.zeros((600, 1)))
