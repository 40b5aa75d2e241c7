"""A step that moves spikes without a flag is found by name, and what `summary` says of gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs


def linoid(x):
    small = jnp.abs(x) < 1e-4
    return jnp.where(small, 1.0 - 0.5 * x, x / jnp.expm1(jnp.where(small, 1.0, x)))


class Calcium(bs.AbstractUnit):
    """Fast sodium, calcium and a calcium-activated potassium current; LSODA has 15 spikes in 1,000 ms at 10 pA."""

    def init(self, n, clock):
        o = jnp.ones(n)
        y = {"v": -67.0 * o, "m": 0.01 * o, "h": 0.99 * o, "n": 0.01 * o, "s": 0.0 * o, "ca": 0.0 * o}
        return y, {"above": jnp.zeros(n, bool)}

    def vector_field(self, y, z, inp):
        v, m, h, n, s, ca = (y[k] for k in ("v", "m", "h", "n", "s", "ca"))
        m_up, m_down = 1.28 * linoid(-(v + 54.0) / 4.0), 1.4 * linoid((v + 27.0) / 5.0)
        h_up, h_down = 0.128 * jnp.exp(-(v + 50.0) / 18.0), 4.0 / (1.0 + jnp.exp(-(v + 27.0) / 5.0))
        n_up, n_down = 0.16 * linoid(-(v + 52.0) / 5.0), 0.5 * jnp.exp(-(v + 57.0) / 40.0)
        i_ca = s * s * (v - 120.0)
        ionic = 100.0 * m**3 * h * (v - 50.0) + 80.0 * n**4 * (v + 100.0) + 0.1 * (v + 67.0)
        return {
            "v": inp - ionic - i_ca - 5.0 * ca / (ca + 30.0) * (v + 100.0),
            "m": m_up * (1.0 - m) - m_down * m,
            "h": h_up * (1.0 - h) - h_down * h,
            "n": n_up * (1.0 - n) - n_down * n,
            "s": 1.0 / (1.0 + jnp.exp(-(v + 25.0) / 2.5)) - s,
            "ca": -0.13 * i_ca - ca / 80.0,
        }

    def guard(self, y, z):
        return jnp.where(z["above"], -1e3, y["v"])

    def reset(self, y, z, s, inp, clock):
        return y, {"above": y["v"] > 0.0}


@pytest.fixture(scope="module")
def net():
    nodes = {
        "Ca": bs.Population(Calcium(), 1, i_e=10.0),
        "LIF": bs.Population(bs.LIF(), 2, {"e": bs.ExpCond()}, noise=bs.WhiteNoise({"v": 1.0})),
    }
    return bs.Network(nodes, {"E": bs.Projection("LIF", "LIF.e", bs.AllToAll(), weight=1.0)})


def test_a_cell_that_the_step_does_not_resolve_is_named_with_a_step_that_does(net):
    found = bs.check_dt(net, 0.1, inputs={"LIF": [0.0, 200.0]})
    calcium, lif = found.rows
    assert calcium["spikes"] == 14  # at dt = 0.1, where 15 are right
    assert calcium["error (%)"] > 5
    assert lif["error (%)"] < 0.5
    assert len(found.warnings) == 1
    assert "Ca (Calcium): intervals at dt = 0.1 ms are about" in found.warnings[0]
    assert "Substep" in str(found)
    assert not found.fine


def test_a_silent_cell_is_not_taken_for_a_good_one(net):
    found = bs.check_dt(bs.Network({"LIF": net.nodes["LIF"]}), t1=20.0)
    assert found.warnings == ["LIF (LIF) is silent alone: give it a current, inputs={'LIF': ...} (pA)"]


def test_the_summary_warns_of_gates_of_every_unit():
    cells = {"HH": bs.HodgkinHuxley(), "WB": bs.WangBuzsaki(), "TM": bs.TraubMiles(), "Own": Calcium()}
    slow = {"LIF": bs.LIF(), "AdEx": bs.AdEx(), "Izh": bs.Izhikevich(), "ML": bs.MorrisLecar.type_1()}
    net = bs.Network({k: bs.Population(u, 2) for k, u in {**cells, **slow}.items()})
    found = {w.split("does not resolve ")[1].split(".")[0] for w in bs.summary(net, dt=0.1).warnings}
    assert found == set(cells)
    assert not bs.summary(bs.Network({k: bs.Population(u, 2) for k, u in slow.items()}), dt=0.1).warnings


@pytest.mark.core
def test_a_cut_off_far_above_threshold_makes_no_spike_late():
    """`v_peak = 20` mV, the paper's, is reached 3 us after `v_t + 8 delta_t`; the exponential is bounded from there."""
    dt, t1 = 0.01, 40.0
    nodes = {
        "far": bs.Population(bs.AdEx(v_peak=20.0), 1, i_e=1500.0),
        "eif": bs.Population(bs.ExponentialIF(v_peak=30.0), 1, i_e=400.0),
    }
    sol = bs.simulate(bs.Network(nodes), t1=t1, dt=dt, key=jax.random.key(0), saveat=[bs.Spikes(k) for k in nodes])
    fine = 2e-4  # the same equations by Euler's method without a bound

    def first(field, v, w, peak):
        for k in range(round(t1 / fine)):
            if v > peak:
                return k * fine
            dv, dw = field(v, w)
            v, w = v + fine * dv, w + fine * dw
        return np.inf

    def adex(v, w):
        rise = 60.0 * np.exp(min((v + 50.4) / 2.0, 50.0))
        return (30.0 * (-70.6 - v) + rise - w + 1500.0) / 281.0, (4.0 * (v + 70.6) - w) / 144.0

    def eif(v, w):
        return (-65.0 - v + 3.48 * np.exp(min((v + 59.9) / 3.48, 50.0)) + 40.0) / 10.0, 0.0

    for name, expected in (("far", first(adex, -70.6, 0.0, 20.0)), ("eif", first(eif, -65.0, 0.0, 30.0))):
        # a step of 0.01 ms, and its error of order one
        assert float(sol.spikes(name).t[0]) == pytest.approx(expected, abs=0.03), name


def test_published_patterns_of_izhikevich_have_a_rate_of_recovery_below_zero():
    unit = bs.Izhikevich(a=-0.02, b=-1.0, c=-60.0, d=8.0)  # inhibition-induced spiking
    net = bs.Network({"P": bs.Population(unit, 1, init={"v": -63.8, "u": 63.8})})
    step = bs.StepCurrent([80.0, 75.0, 80.0], [0.0, 50.0, 250.0])
    sol = bs.simulate(net, t1=300.0, dt=0.1, key=jax.random.key(0), inputs={"P": step}, saveat=[bs.Spikes("P")])
    t = np.asarray(sol.spikes("P").t)
    assert t.size >= 3
    assert np.all((t > 50.0) & (t < 260.0))


@pytest.mark.core
def test_a_network_is_built_inside_jit():
    def last(tau):
        nodes = {
            "S": bs.Source(bs.Regular(5.0), 2),
            "P": bs.Population(bs.LIF(tau_m=tau), 2, {"e": bs.ExpCond()}),
        }
        edges = {
            "line": bs.Projection("S", "P.e", bs.OneToOne(), weight=1.0, delay=1.0, max_delay=3.0),
            "plain": bs.Projection("S", "P.e", bs.AllToAll(), weight=1.0, delay=0.5),
        }
        return bs.simulate(bs.Network(nodes, edges), t1=12.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Trace("P.v")])[
            "P.v"
        ][-1, 0]

    value, slope = jax.jit(jax.value_and_grad(last))(jnp.asarray(20.0))
    assert float(value) == pytest.approx(float(last(jnp.asarray(20.0))), rel=1e-6)
    assert float(slope) != 0
