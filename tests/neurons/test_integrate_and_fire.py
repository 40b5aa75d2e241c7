"""Integrate-and-fire units against closed forms, quadrature and independent integration."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import brainsim as bs

DT = 0.05
LIF_I, QIF_I, EIF_I = [99.0, 101.0, 150.0, 400.0], [36.0, 39.0, 60.0, 200.0], [15.5, 17.0, 40.0, 150.0]
ADEX = {
    # regular spiking of Brette & Gerstner 2005; tonic and bursting of Naud et al. 2008, table 1 (c_m, g_l, ... in pF,
    # nS, mV)
    "c_m": [281.0, 200.0, 200.0],
    "g_l": [30.0, 10.0, 10.0],
    "e_l": [-70.6, -70.0, -58.0],
    "v_t": [-50.4, -50.0, -50.0],
    "tau_w": [144.0, 30.0, 120.0],
    "a": [4.0, 2.0, 2.0],
    "b": [80.5, 0.0, 100.0],
    "v_reset": [-70.6, -58.0, -46.0],
}
ADEX_I = [1000.0, 500.0, 210.0]
IZHIKEVICH = {"a": [0.02, 0.1, 0.02], "c": [-65.0, -65.0, -50.0], "d": [8.0, 2.0, 2.0]}  # regular, fast, chattering


@pytest.fixture(scope="module")
def times():
    """Spike times by population and unit, all from one run of 600 ms."""
    net = bs.Network(
        {
            "lif": bs.Population(bs.LIF(t_ref=2.0), 4, i_e=LIF_I),
            "qif": bs.Population(bs.QIF(), 4, i_e=QIF_I),
            "eif": bs.Population(bs.ExponentialIF(), 4, i_e=EIF_I),
            "adex": bs.Population(bs.AdEx(**ADEX), 3, i_e=ADEX_I),
            "izhikevich": bs.Population(bs.Izhikevich(**IZHIKEVICH), 3, i_e=10.0, init={"v": -70.0, "u": -14.0}),
            "alif": bs.Population(bs.AdaptiveLIF(), 1, i_e=3.0),
            "subtract": bs.Population(bs.AdaptiveLIF(reset_by_subtraction=True), 1, i_e=3.0),
        }
    )
    names = list(net.nodes)
    # Tsit5 leaves nothing but the grid of spike times; where a test is about ExponentialEuler it says so
    solver = {k: diffrax.Tsit5() if k in ("qif", "eif", "adex", "izhikevich") else None for k in names}
    record = [bs.Spikes(k, max_rate=1000.0) for k in names]
    record += [bs.Trace(f"{k}.{x}") for k in ("alif", "subtract") for x in ("v", "a")]
    sol = bs.simulate(net, t1=600.0, dt=DT, solver=solver, key=jax.random.key(0), saveat=record)
    trains = {k: sol.spikes(k) for k in names}
    by_unit = {k: [s.t[s.i == j] for j in range(net.nodes[k].size)] for k, s in trains.items()}
    return by_unit | {"sol": sol}


def test_lif_rate_is_the_closed_form(times):
    """Period = t_ref + tau log((RI + e_l - v_reset) / (RI + e_l - v_th)), each part rounded as stated: exact."""
    for i, t in zip(LIF_I, times["lif"], strict=True):
        if i < 100.0:
            assert t.size == 0
            continue
        rise = int(np.ceil(20.0 * np.log((i / 10) / (i / 10 - 10)) / DT - 1e-6))
        assert abs(t[0] / DT - rise) < 1 + 1e-6  # float32 may meet the threshold a step early or late
        np.testing.assert_allclose(np.diff(t) / DT, rise + 40, atol=1 + 1e-6)


def test_qif_rate_is_the_closed_form(times):
    """Between v_reset and v_peak: tau (e_c - e_l) / w * (atan(up) - atan(down)); none below the rheobase of 37.5 pA."""
    assert times["qif"][0].size == 0
    for i, t in zip(QIF_I[1:], times["qif"][1:], strict=True):
        w = np.sqrt((i / 10) * 15.0 - 15.0**2 / 4)
        period = 10.0 * 15.0 / w * (np.arctan((0 + 57.5) / w) - np.arctan((-70 + 57.5) / w))
        isi = np.diff(t)
        assert np.all((isi > period - 1e-3) & (isi < period + DT + 0.01 * period / 10)), (i, period, isi[:3])


def test_eif_rate_is_the_quadrature(times):
    """Rheobase g_l (v_t - e_l - delta_t) = 16.2 pA; above it the period is the integral of dv / f(v)."""
    assert times["eif"][0].size == 0
    for i, t in zip(EIF_I[1:], times["eif"][1:], strict=True):

        def f(v, i=i):
            return (-65.0 - v + 3.48 * np.exp((v + 59.9) / 3.48) + i / 10) / 10

        period = quad(lambda v, f=f: 1 / f(v), -68.0, -42.5, points=[-59.9], limit=200)[0] + 1.7
        isi = np.diff(t)
        assert isi.size
        rounding = 1e-3 * period  # float32 near the rheobase, where a step of v is a hundred roundings
        assert np.all((isi > period - rounding) & (isi < period + DT + rounding)), (i, period, isi[:3])


def _oracle(field, reset, peak, y0, t1):
    """Spike times of a planar unit by an adaptive method with root finding, on equations written here anew."""

    def crossed(t, y):
        return y[0] - peak

    crossed.terminal, crossed.direction = True, 1
    t, y, out = 0.0, y0, []
    while t < t1:
        s = solve_ivp(field, (t, t1), y, events=crossed, rtol=1e-8, atol=1e-8)
        if s.status != 1:
            break
        t, y = s.t[-1], reset(s.y[:, -1])
        out.append(t)
    return np.asarray(out)


def _agree(got, wanted, n):
    """A spike is seen at the end of its step, where the next starts: the k-th may be some k steps late, not earlier."""
    late = got[:n] - wanted[:n]
    assert late.size == n
    assert np.all(late > -DT)
    assert np.all(late < 2.5 * DT * np.arange(1, n + 1)), late


@pytest.mark.parametrize("k", range(3))
def test_adex_spikes_when_an_independent_integration_does(times, k):
    p = {name: values[k] for name, values in ADEX.items()}

    def field(t, y):
        v, w = y
        rise = p["g_l"] * 2.0 * np.exp((v - p["v_t"]) / 2.0)
        return [
            (-p["g_l"] * (v - p["e_l"]) + rise - w + ADEX_I[k]) / p["c_m"],
            (p["a"] * (v - p["e_l"]) - w) / p["tau_w"],
        ]

    wanted = _oracle(field, lambda y: [p["v_reset"], y[1] + p["b"]], -40.4, [p["e_l"], 0.0], 150.0)
    _agree(times["adex"][k], wanted, min(5, wanted.size))


def test_adex_regimes(times):
    """Naud et al. 2008: adaptation slows, without b firing is tonic, a high reset bursts."""
    adapting, tonic, bursting = (np.diff(t) for t in times["adex"])
    assert np.all(np.diff(adapting[:6]) > -DT)
    assert adapting[-1] > 1.5 * adapting[0]
    assert np.ptp(tonic[-20:]) <= 1.5 * DT
    late = bursting[2:]
    assert late.max() > 5 * late.min()
    short = late < late.max() / 3
    assert short.sum() > 2
    assert (~short).sum() >= 2


@pytest.mark.parametrize("k", range(3))
def test_izhikevich_spikes_when_an_independent_integration_does(times, k):
    a, c, d = (IZHIKEVICH[x][k] for x in "acd")

    def field(t, y):
        return [0.04 * y[0] ** 2 + 5 * y[0] + 140 - y[1] + 10.0, a * (0.2 * y[0] - y[1])]

    wanted = _oracle(field, lambda y: [c, y[1] + d], 30.0, [-70.0, -14.0], 200.0)
    _agree(times["izhikevich"][k], wanted, min(4, wanted.size))


def test_izhikevich_regimes(times):
    """Fig. 2 of the article: regular spiking slows down, fast spiking does not, chattering bursts."""
    regular, fast, chattering = (np.diff(t) for t in times["izhikevich"])
    assert regular[-1] > regular[0]
    assert np.mean(fast[-5:]) < 0.5 * np.mean(regular[-5:])
    assert chattering.max() > 5 * chattering.min()


@pytest.mark.parametrize("name", ["alif", "subtract"])
def test_adaptive_threshold_is_the_closed_form(times, name):
    """a(t) = beta sum_k exp(-(t - t_k) / tau_a), exactly; the intervals grow."""
    sol, t = times["sol"], times[name][0]
    at = sol.times(f"{name}.a")
    wanted = sum(0.1 * np.exp(-np.maximum(at - tk, 0) / 200.0) * (at > tk - DT / 2) for tk in t)
    np.testing.assert_allclose(sol[f"{name}.a"][:, 0], wanted, atol=2e-4)
    isi = np.diff(t)
    assert isi[-1] > 1.3 * isi[0]


def test_subtraction_keeps_what_is_above_threshold(times):
    """With reset by subtraction v goes from above threshold to v - (v_th + a); with a reset to value, to v_reset."""
    sol = times["sol"]
    for name, subtract in (("alif", False), ("subtract", True)):
        k = np.round(times[name][0] / DT).astype(int)[1:] - 1
        v, a = np.asarray(sol[f"{name}.v"])[:, 0], np.asarray(sol[f"{name}.a"])[:, 0]
        decay = np.exp(-DT / 20.0)
        before = 3.0 + (v[k - 1] - 3.0) * decay
        threshold = 1.0 + a[k - 1] * np.exp(-DT / 200.0)
        assert np.all(before > threshold - 1e-5)
        np.testing.assert_allclose(v[k], before - threshold if subtract else 0.0, atol=2e-5)


def test_refractory_unit_ignores_what_arrives():
    """A jump of v during the refractory period neither spikes nor stays (NEST's convention)."""
    net = bs.Network(
        {
            "S": bs.Source(bs.Replay([1.0, 2.0, 4.0], [0, 0, 0]), 1),
            "P": bs.Population(bs.LIF(t_ref=2.0), 1, {"in": bs.Delta()}),
        },
        {"SP": bs.Projection("S", "P", bs.OneToOne(), weight=11.0)},
    )
    sol = bs.simulate(net, t1=6.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Spikes("P"), bs.Trace("P.v")])
    np.testing.assert_allclose(sol.spikes("P").t, [1.1, 4.1], atol=1e-5)
    np.testing.assert_allclose(sol["P.v"], jnp.full((60, 1), -60.0), atol=1e-4)
