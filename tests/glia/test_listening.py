"""What astrocytes and modulators do to others, against closed forms and against equations integrated by SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import brainsim as bs

simulate = partial(bs.simulate, key=jax.random.key(0))


def test_transmitter_is_released_once_a_crossing():
    with jax.enable_x64(True):
        glia = bs.Exocytosis(bs.LiRinzel(), ca_th=0.2)
        nodes = {"A": bs.Source(bs.Replay([100.0, 200.0, 300.0], [0, 0, 0]), 1)}
        nodes["G"] = bs.Population(glia, 1, {"glu": bs.Delta("ip3")})
        net = bs.Network(nodes, {"AG": bs.Projection("A", "G.glu", bs.OneToOne(), weight=0.3)})
        saveat = [bs.Trace("G.ca"), bs.Trace("G.glio"), bs.Trace("G.store"), bs.Events("G")]
        sol = simulate(net, t1=8000.0, dt=1.0, saveat=saveat)
    ca, glio, store = (np.asarray(sol[f"G.{k}"])[:, 0] for k in ("ca", "glio", "store"))
    risen = np.flatnonzero((ca[1:] > 0.2) & (ca[:-1] <= 0.2)) + 1
    assert risen.size >= 1
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(sol["G.events"])[:, 0]), risen)
    k = risen[0]
    np.testing.assert_allclose([glio[k], store[k]], [130.0 * 0.6, 0.4], rtol=1e-9)
    np.testing.assert_allclose(glio[k + 20], glio[k] * np.exp(-0.06 * 20), rtol=1e-3)
    np.testing.assert_allclose(store[k + 20], 1 - 0.6 * np.exp(-0.6e-3 * 20), rtol=1e-6)


def pulses(release, **given):
    """The current that three events make, with a node `D` of constant concentration 0.5."""
    held = bs.Population(bs.Neuromodulator(v_max=1e-12), 1, {"in": bs.Delta("c")}, init={"c": 0.5})
    nodes = {"A": bs.Source(bs.Replay([10.0, 20.0, 60.0], [0, 0, 0]), 1), "D": held}
    nodes["N"] = bs.Population(bs.LeakyIntegrator(), 1, {"syn": bs.HeldCurr()})
    edge = bs.Projection("A", "N.syn", bs.OneToOne(), weight=1.0, short_term=release(**given))
    net = bs.Network(nodes, {"S": edge})
    sol = simulate(net, t1=80.0, dt=0.1, saveat=[bs.Current("N.syn"), bs.Trace("S.gamma")][: 1 + ("alpha" in given)])
    current = np.asarray(sol["N.syn.current"])[:, 0]
    return current[current != 0], sol


def test_release_is_that_of_the_bound_receptors():
    with jax.enable_x64(True):
        released, sol = pulses(bs.GliaModulated, by="D.c", alpha=0.1, bind=0.05, unbind=0.02)
    u, x, at, expected = 0.0, 1.0, 0.0, []
    for t in (10.0, 20.0, 60.0):
        u, x = u * np.exp(-(t - at) * 3.33e-3), 1 - (1 - x) * np.exp(-(t - at) / 500.0)
        gamma = 0.025 / 0.045 * (1 - np.exp(-0.045 * t))
        u += ((1 - gamma) * 0.6 + 0.1 * gamma) * (1 - u)
        expected.append(u * x)
        x, at = x - u * x, t
    np.testing.assert_allclose(released, expected, rtol=2e-3)  # an event of time t is that of the step before t
    np.testing.assert_allclose(np.asarray(sol["S.gamma"])[-1], 0.025 / 0.045 * (1 - np.exp(-0.045 * 80)), rtol=1e-9)


def test_gain_follows_the_modulator():
    released, _ = pulses(bs.ModulatedGain, by="D.c", slope=-0.5, half=0.5)
    np.testing.assert_allclose(released, 0.75, rtol=1e-5)
    with pytest.raises(ValueError, match="'D' has"):
        pulses(bs.ModulatedGain, by="D.dopamine")


def test_uptake_is_that_of_michaelis_and_menten():
    with jax.enable_x64(True):
        node = bs.Population(bs.Neuromodulator(), 1, {"in": bs.Delta("c")})
        drive = bs.Source(bs.Replay([50.0], [0]), 1)
        net = bs.Network({"A": drive, "D": node}, {"AD": bs.Projection("A", "D.in", bs.OneToOne(), weight=1.0)})
        c = np.asarray(simulate(net, t1=500.0, dt=0.5, saveat=[bs.Trace("D.c")])["D.c"])[:, 0]
    k = np.flatnonzero(c > 0)[0]
    t = 0.5 * np.arange(c.size - k)
    exact = solve_ivp(lambda t, c: -4.1e-3 * c / (0.21 + c), (0, t[-1]), [c[k]], t_eval=t, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(c[k:], exact.y[0], atol=1e-6)


def test_ip3_flows_through_open_junctions_only():
    def run(start, dt=1.0, t1=200.0):
        glia = bs.Population(bs.LiRinzel(tau_ip3=1e12), 3, {"gap": bs.Delta("ip3")}, init={"ip3": np.array(start)})
        edge = bs.IP3Coupling("G", "G.gap", bs.FromCOO([0, 1, 1, 2], [1, 0, 2, 1]))
        net = bs.Network({"G": glia}, {"J": edge})
        return np.asarray(simulate(net, t1=t1, dt=dt, saveat=[bs.Trace("G.ip3")])["G.ip3"])

    def field(t, i):
        flux = lambda d: 1e-3 * (1 + np.tanh((abs(d) - 0.3) / 0.05)) * np.sign(d)  # noqa: E731
        a, b = flux(i[1] - i[0]), flux(i[2] - i[1])
        return [a, b - a, -b]

    with jax.enable_x64(True):
        found = run([1.0, 0.2, 0.2])
        still = run([0.3, 0.2, 0.25])
    exact = solve_ivp(field, (0, 200), [1.0, 0.2, 0.2], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[-1], exact.y[:, -1], atol=3e-3)  # one step late, one by one: first order
    np.testing.assert_allclose(found.sum(1), 1.4, rtol=1e-9)
    np.testing.assert_allclose(still[-1], [0.3, 0.2, 0.25], atol=1e-3)


def test_global_astrocyte_is_the_recursion_of_nalsm():
    steps, rng = 300, np.random.default_rng(0)
    liquid, given = (np.sort(rng.choice(steps, 60, replace=False)) for _ in range(2))
    w, tau = 0.015, 100.0
    with jax.enable_x64(True):
        nodes = {k: bs.Source(bs.Replay(x + 1.0, np.zeros(60, int)), 1) for k, x in (("L", liquid), ("I", given))}
        nodes["G"] = bs.Population(bs.GlobalAstrocyte(), 1, {"in": bs.Delta("a")})
        edges = {k: bs.Projection(k, "G.in", bs.AllToAll(), weight=sign * w / tau) for k, sign in (("L", 1), ("I", -1))}
        edges = {f"{k}G": edge for k, edge in edges.items()}
        sol = simulate(bs.Network(nodes, edges), t1=float(steps), dt=1.0, saveat=[bs.Trace("G.a")])
    a, expected = 0.15, []
    for n in range(steps):  # events of step n - 1 arrive before the decay of step n
        events = float(n - 1 in liquid) - float(n - 1 in given)
        a = a + w / tau * events
        a = a + (0.15 - a) / tau
        expected.append(a)
    np.testing.assert_allclose(np.asarray(sol["G.a"])[:, 0], expected, atol=1e-12)


def test_calcium_scales_the_input_of_an_amsu():
    def rate(**given):
        nodes = {"A": bs.Source(bs.Regular(50.0), 1)}
        nodes["N"] = bs.Population(bs.AMSU(tau_c=100.0, **given), 1, {"glu": bs.Delta("glu")}, i_e=1.05)
        edge = bs.Projection("A", "N.glu", bs.OneToOne(), weight=1.0)
        return float(simulate(bs.Network(nodes, {"AN": edge}), t1=1000.0, dt=0.5, saveat=[]).rates["N"])

    assert rate(gain=1.0) > 1.3 * rate(gain=0.0) > 0


@pytest.mark.parametrize("wrong", [{"ca_th": 0.0}, {"unit": 3}])
def test_bad_input(wrong):
    with pytest.raises((TypeError, ValueError), match="Exocytosis"):
        bs.Exocytosis(**({"unit": bs.LiRinzel()} | wrong))


def test_a_gradient_goes_through_release_and_uptake():
    def total(v_max):
        node = bs.Population(bs.Neuromodulator(v_max=v_max), 1, {"in": bs.Delta("c")}, init={"c": 0.5})
        nodes = {"A": bs.Source(bs.Replay([10.0, 20.0], [0, 0]), 1), "D": node}
        nodes["N"] = bs.Population(bs.LeakyIntegrator(), 1, {"syn": bs.ExpCurr(tau=5.0)})
        edge = bs.Projection("A", "N.syn", bs.OneToOne(), weight=1.0, short_term=bs.ModulatedGain("D.c"))
        sol = simulate(bs.Network(nodes, {"S": edge}), t1=30.0, dt=0.1, saveat=[bs.Trace("N.syn.i")])
        return jnp.sum(sol["N.syn.i"])

    with jax.enable_x64(True):
        h = 1e-6
        by = (total(jnp.asarray(4e-3 + h)) - total(jnp.asarray(4e-3 - h))) / (2 * h)
        np.testing.assert_allclose(jax.grad(total)(jnp.asarray(4e-3)), by, rtol=1e-6)
