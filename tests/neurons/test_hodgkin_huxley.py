"""Conductance-based units against independent integrations of equations written here anew, and against published
figures.
"""

import diffrax
import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import brainsim as bs
from brainsim.solvers import ExponentialEuler

EVERY, SAMPLES = 1.0, 40


def _gates(y, rates):
    return [a * (1 - x) - b * x for x, (a, b) in zip(y, rates, strict=True)]


def _hh_rates(v):
    return (
        (0.1 * (v + 40) / (1 - np.exp(-(v + 40) / 10)), 4 * np.exp(-(v + 65) / 18)),
        (0.07 * np.exp(-(v + 65) / 20), 1 / (1 + np.exp(-(v + 35) / 10))),
        (0.01 * (v + 55) / (1 - np.exp(-(v + 55) / 10)), 0.125 * np.exp(-(v + 65) / 80)),
    )


def _hh(t, y, i=10.0):
    v, m, h, n = y
    dv = 120 * m**3 * h * (50 - v) + 36 * n**4 * (-77 - v) + 0.3 * (-54.387 - v) + i
    return [dv, *_gates((m, h, n), _hh_rates(v))]


def _tm_rates(v):
    u = v + 63
    return (
        (0.32 * (13 - u) / (np.exp((13 - u) / 4) - 1), 0.28 * (u - 40) / (np.exp((u - 40) / 5) - 1)),
        (0.128 * np.exp((17 - u) / 18), 4 / (1 + np.exp((40 - u) / 5))),
        (0.032 * (15 - u) / (np.exp((15 - u) / 5) - 1), 0.5 * np.exp((10 - u) / 40)),
    )


def _tm(t, y, i=500.0):
    v, m, h, n = y
    dv = (20000 * m**3 * h * (50 - v) + 6000 * n**4 * (-90 - v) + 10 * (-60 - v) + i) / 200
    return [dv, *_gates((m, h, n), _tm_rates(v))]


def _wb_rates(v):
    return (
        (0.1 * (v + 35) / (1 - np.exp(-(v + 35) / 10)), 4 * np.exp(-(v + 60) / 18)),
        (0.07 * np.exp(-(v + 58) / 20), 1 / (1 + np.exp(-(v + 28) / 10))),
        (0.01 * (v + 34) / (1 - np.exp(-(v + 34) / 10)), 0.125 * np.exp(-(v + 44) / 80)),
    )


def _wb(t, y, i=1.0):
    v, h, n = y
    (am, bm), *others = _wb_rates(v)
    dv = 35 * (am / (am + bm)) ** 3 * h * (55 - v) + 9 * n**4 * (-90 - v) + 0.1 * (-65 - v) + i
    return [dv, *(5 * x for x in _gates((h, n), others))]


def _ml(t, y, i=100.0):
    v, w = y
    m = 0.5 * (1 + np.tanh((v + 1.2) / 18))
    dv = (4.4 * m * (120 - v) + 8 * w * (-84 - v) + 2 * (-60 - v) + i) / 20
    return [dv, 0.04 * np.cosh((v - 2) / 60) * (0.5 * (1 + np.tanh((v - 2) / 30)) - w)]


def _steady(v, rates):
    return [v, *(a / (a + b) for a, b in rates)]


ORACLES = {  # field, start, our unit and current
    "hh": (_hh, _steady(-65.0, _hh_rates(-65.0)), bs.HodgkinHuxley, 10.0),
    "tm": (_tm, _steady(-60.0, _tm_rates(-60.0)), bs.TraubMiles, 500.0),
    "wb": (_wb, _steady(-65.0, _wb_rates(-65.0)[1:]), bs.WangBuzsaki, 1.0),
    "ml": (_ml, [-60.0, 0.5 * (1 + np.tanh(-62 / 30))], bs.MorrisLecar, 100.0),
}
ALL = pytest.mark.parametrize("name", sorted(ORACLES))


def _solve(name, t1, at=None):
    field, start, _, _ = ORACLES[name]
    return solve_ivp(field, (0.0, t1), start, rtol=1e-10, atol=1e-10, t_eval=at, method="DOP853")


@pytest.fixture(scope="module")
def traces(follow):
    """v by solver and step, in float64 whatever the mode of the suite: equations are compared, not rounding."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        nodes = {k: bs.Population(unit(), 1, i_e=i) for k, (_, _, unit, i) in ORACLES.items()}
        runs = {("ee", dt): follow(nodes, ExponentialEuler(), dt, EVERY, SAMPLES) for dt in (0.0025, 0.00125)}
        runs["tsit5", 0.01] = follow(nodes, diffrax.Tsit5(), 0.01, EVERY, SAMPLES)
        got = {key: {k: np.asarray(y["v"])[:, 0] for k, y in run.items()} for key, run in runs.items()}
    finally:
        jax.config.update("jax_enable_x64", before)
    wanted = {k: _solve(k, SAMPLES * EVERY, EVERY * np.arange(1, SAMPLES + 1)).y[0] for k in ORACLES}
    return got, wanted


@ALL
def test_trace_is_that_of_an_independent_integration(traces, name):
    got, wanted = traces
    assert np.ptp(wanted[name]) > 30.0  # it fires
    np.testing.assert_allclose(got["tsit5", 0.01][name], wanted[name], atol=2e-4)


@ALL
def test_exponential_euler_converges_with_order_one(traces, name):
    got, wanted = traces
    coarse, fine = (np.abs(got["ee", dt][name] - wanted[name]).max() for dt in (0.0025, 0.00125))
    assert fine < coarse
    assert 1.7 < coarse / fine < 2.4


@pytest.fixture(scope="module")
def spikes():
    """Spike times at several currents, from one run of 500 ms."""
    given = {
        "hh": (bs.HodgkinHuxley(), [0.0, 2.0, 10.0]),
        "warm": (bs.HodgkinHuxley(celsius=18.5), [20.0]),
        "tm": (bs.TraubMiles(), [0.0, 500.0]),
        "wb": (bs.WangBuzsaki(), [0.1, 1.0, 2.0]),
        "ml": (bs.MorrisLecar(), [60.0, 100.0]),
        "ml1": (bs.MorrisLecar.type_1(), [38.0, 42.0, 60.0]),
    }
    net = bs.Network({k: bs.Population(unit, len(i), i_e=i) for k, (unit, i) in given.items()})
    record = [bs.Spikes(k, max_rate=1000.0) for k in given] + [bs.Trace("hh.v")]
    # WangBuzsaki says why not ExponentialEuler
    sol = bs.simulate(net, t1=500.0, dt=0.02, solver=diffrax.Heun(), key=jax.random.key(0), saveat=record)
    trains = {k: sol.spikes(k) for k in given}
    return {k: [s.t[s.i == j] for j in range(net.nodes[k].size)] for k, s in trains.items()} | {"sol": sol}


def test_hodgkin_huxley_rests_and_fires(spikes):
    """Rest at -65 mV; silent at 2 uA/cm2 but for a first spike; about 68 Hz at 10 uA/cm2, faster when warm."""
    np.testing.assert_allclose(spikes["sol"]["hh.v"][-1, 0], -65.0, atol=0.05)
    silent, weak, strong = spikes["hh"]
    assert silent.size == 0
    assert weak.size <= 1
    assert 66.0 < 1e3 / np.mean(np.diff(strong[2:])) < 70.5
    assert 1e3 / np.mean(np.diff(spikes["warm"][0][2:])) > 100.0


@pytest.mark.parametrize("name, unit, v_th", [("hh", 2, 0.0), ("tm", 1, -20.0), ("wb", 1, 0.0), ("ml", 1, 0.0)])
def test_one_spike_for_each_upward_crossing(spikes, name, unit, v_th):
    sol = _solve(name, 200.0, np.arange(0, 200.0, 0.02))
    v = sol.y[0]
    wanted = sol.t[1:][(v[1:] > v_th) & (v[:-1] <= v_th)]
    got = spikes[name][unit]
    got = got[got < wanted[-1] + 1.0]
    assert got.size == wanted.size
    # both are on a grid of 0.02 ms; beyond that the phase drifts slowly
    np.testing.assert_allclose(got, wanted, atol=0.05, rtol=3e-3)


def test_wang_buzsaki_starts_at_zero_rate(spikes):
    """Fig. 1 of the article: silent below about 0.16 uA/cm2, and the rate rises steeply above."""
    below, one, two = spikes["wb"]
    assert below.size == 0
    assert 55.0 < 1e3 / np.mean(np.diff(one[2:])) < 75.0
    assert 1e3 / np.mean(np.diff(two[2:])) > 1.5 * 1e3 / np.mean(np.diff(one[2:]))


def test_morris_lecar_types(spikes):
    """Type II fires at a finite rate above the Hopf bifurcation near 94; type I slowly just above 40, faster above."""
    still, firing = spikes["ml"]
    assert still.size <= 1
    assert firing.size > 3
    none, slow, fast = spikes["ml1"]
    assert none.size == 0
    assert slow.size >= 2
    assert np.mean(np.diff(slow)) > 1.5 * np.mean(np.diff(fast))


def test_traub_miles_counts_like_brian2():
    """Held above threshold it spikes every t_ref, not every step: at steps k, k + 30, k + 60 for 3 ms of 0.1 ms."""
    unit = bs.TraubMiles(g_na=0.0, g_k=0.0)  # passive, driven to +40 mV
    net = bs.Network({"P": bs.Population(unit, 1, i_e=1000.0, init={"v": 40.0})})
    sol = bs.simulate(net, t1=10.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Spikes("P", max_rate=1e4)])
    np.testing.assert_allclose(sol.spikes("P").t, [0.1, 3.1, 6.1, 9.1], atol=1e-5)
