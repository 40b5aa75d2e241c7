"""Astrocytes against NEST's trajectory, an accurate solver, and the current that they send."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import brainsim as bs

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/astrocyte.json").read_text())
TIMES = np.asarray(GOLDEN["t_ms"])
SPIKES = np.asarray(GOLDEN["spikes"]["times_ms"]) + GOLDEN["spikes"]["delay_ms"]


def nest(dt):
    """The run of the golden file: IP3, calcium, h and the current at its times."""
    glia = bs.Population(bs.LiRinzel(), 1, {"glu": bs.Delta("ip3")})
    cell = bs.Population(bs.LeakyIntegrator(), 1, {"sic": bs.HeldCurr()})
    sic = GOLDEN["sic_connection"]
    edges = {
        "AG": bs.Projection("A", "G.glu", bs.OneToOne(), weight=0.1),
        "GN": bs.Projection("G", "N.sic", bs.OneToOne(), weight=sic["weight"], delay=sic["delay_ms"]),
    }
    net = bs.Network({"A": bs.Source(bs.Replay(SPIKES, [0] * len(SPIKES)), 1), "G": glia, "N": cell}, edges)
    names = [f"G.{k}" for k in ("ip3", "ca", "h")]
    n = round(TIMES[-1] / dt) + 1
    saveat = [*map(bs.Trace, names), bs.Current("N.sic")]
    sol = bs.simulate(net, t1=n * dt, dt=dt, key=jax.random.key(0), saveat=saveat)
    # NEST's current at t is that of the step which begins there
    at = np.round(TIMES / dt).astype(int) - 1
    return [np.asarray(sol[name])[at, 0] for name in names] + [np.asarray(sol["N.sic.current"])[at + 1, 0]]


def test_li_rinzel_is_that_of_nest():
    with jax.enable_x64(True):
        *states, current = nest(0.1)
    for name, x in zip(("IP3", "Ca", "h"), states):
        np.testing.assert_allclose(x, GOLDEN[name], atol=1e-8)
    np.testing.assert_allclose(current, GOLDEN["I_SIC_pA"], atol=1e-6)


def test_li_rinzel_in_float32_at_1_ms():
    for name, x in zip(("IP3", "Ca", "h"), nest(1.0)):
        np.testing.assert_allclose(x, GOLDEN[name], atol=1e-4)


UNITS = {
    "li_rinzel": (bs.LiRinzel, dict(ip3=0.6, ca=0.3, h=0.7)),
    "gchi": (bs.GChI, dict(glu=2.0, ca=0.1, h=0.8, ip3=0.3)),
}


@pytest.mark.parametrize("kind", UNITS)
def test_ten_seconds_against_an_accurate_solver(kind):
    with jax.enable_x64(True):
        unit, begin = UNITS[kind][0](), UNITS[kind][1]
        net = bs.Network({"G": bs.Population(unit, 1, init=begin)})
        saveat = [bs.Trace(f"G.{k}", every=10000) for k in begin]
        sol = bs.simulate(net, t1=10000.0, dt=1.0, key=jax.random.key(0), saveat=saveat)

        def field(t, x):
            y = {k: jnp.asarray([v]) for k, v in zip(begin, x)}
            d = unit.vector_field(y, {}, jnp.zeros(1))
            return [float(d[k][0]) for k in begin]

        exact = solve_ivp(field, (0, 10000.0), [*begin.values()], method="LSODA", rtol=1e-9, atol=1e-11).y[:, -1]
        np.testing.assert_allclose([float(sol[f"G.{k}"][0, 0]) for k in begin], exact, atol=1e-6)


def test_glutamate_moves_gchi_and_gradients_are_finite():
    def calcium(glu):
        net = bs.Network({"G": bs.Population(bs.GChI(), 2, init={"glu": glu})})
        return bs.simulate(net, t1=3000.0, dt=5.0, key=jax.random.key(0), saveat=[bs.Trace("G.ca")])["G.ca"].max()

    values, slopes = jax.vmap(jax.value_and_grad(calcium))(jnp.asarray([0.0, 5.0, 50.0]))
    assert np.all(np.diff(values) > 0)
    assert np.all(np.isfinite(slopes))


def test_bad_input():
    with pytest.raises(ValueError, match=r"LiRinzel.tau_ip3 is 0.0"):
        bs.LiRinzel(tau_ip3=0.0)
    with pytest.raises(ValueError, match=r"GChI.k_er is -1.0"):
        bs.GChI(k_er=-1.0)
