"""What Propagator promises: closed forms of linear cells, order 2 where a synapse meets a conductance, derivatives."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import brainsim as bs
from brainsim.solvers._phi import phis
from brainsim.solvers._propagator import Field, layout_of

from .units import Silent, final, network

WEIGHT, TAU_M, G_L, E_L, TAU = 87.8, 10.0, 25.0, -65.0, 0.5
C_M = TAU_M * G_L


def currents():
    return {
        "exp": bs.ExpCurr(TAU),
        "equal": bs.ExpCurr(TAU_M),
        "dual": bs.DualExpCurr(TAU, 2.0),
        "alpha": bs.AlphaCurr(TAU),
        "alpha_equal": bs.AlphaCurr(TAU_M),
    }


def conductances():
    return {
        "exp": (bs.ExpCond(TAU), 3.0),
        "large": (bs.ExpCond(TAU), 100.0),
        "dual": (bs.DualExpCond(TAU, 2.0), 3.0),
        "alpha": (bs.AlphaCond(TAU), 3.0),
        "nmda": (bs.NMDA(), 3.0),
    }


def cell(**kw):
    return bs.LIF(**dict(tau_m=TAU_M, e_l=E_L, v_th=1e3, v_reset=-70.0, g_l=G_L) | kw)


def psps(receptors, weights, dt, solver, t1=20.0):
    """`v - e_l` of one cell for every receptor, at the ends of steps after the arrival of one event."""
    nodes = {name: bs.Population(cell(), 1, {"r": r}, init={"v": E_L}) for name, r in receptors.items()}
    edges = {f"to_{k}": bs.Projection("S", f"{k}.r", bs.OneToOne(), weight=w) for k, w in weights.items()}
    net = bs.Network({"S": bs.Source(bs.Replay([dt], [0]), 1), **nodes}, edges)
    saveat = [bs.Trace(f"{k}.v") for k in receptors]
    sol = bs.simulate(net, t1=t1, dt=dt, solver=solver, key=jax.random.key(0), saveat=saveat)
    return {k: np.asarray(sol[f"{k}.v"], float)[1:, 0] - E_L for k in receptors}


def exponential(t, tau):
    """The potential that `exp(-t / tau)` drives, with tau apart from `TAU_M` or equal to it."""
    if tau == TAU_M:
        return t * np.exp(-t / TAU_M) / C_M
    return TAU_M * tau / (TAU_M - tau) * (np.exp(-t / TAU_M) - np.exp(-t / tau)) / C_M


def alpha(t, tau):
    if tau == TAU_M:
        return np.e / tau * t**2 / 2 * np.exp(-t / tau) / C_M
    a = 1 / TAU_M - 1 / tau
    return np.e / tau * np.exp(-t / TAU_M) * (1 - np.exp(a * t) * (1 - a * t)) / a**2 / C_M


def closed(t):
    peak = TAU * 2.0 / (2.0 - TAU) * np.log(2.0 / TAU)
    f = 1 / (np.exp(-peak / 2.0) - np.exp(-peak / TAU))
    return {
        "exp": exponential(t, TAU),
        "equal": exponential(t, TAU_M),
        "dual": f * (exponential(t, 2.0) - exponential(t, TAU)),
        "alpha": alpha(t, TAU),
        "alpha_equal": alpha(t, TAU_M),
    }


def check_currents(dt, rtol, atol=0.0):
    t = dt * np.arange(1, round(20.0 / dt))
    exact = closed(t)
    for name, v in psps(currents(), dict.fromkeys(currents(), WEIGHT), dt, bs.Propagator()).items():
        np.testing.assert_allclose(v, WEIGHT * exact[name], rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("dt", [0.1, 1.0])
def test_currents_into_a_linear_cell_are_exact(dt, x64):
    check_currents(dt, 1e-9)  # v is near -65 mV, and late potentials are 1e-3 of that: 1e-16 times 1e5


def test_currents_into_a_linear_cell_are_exact_in_single_precision():
    # a last bit of -65 mV is 8e-6 mV, and a potential has 200 steps to gather them
    check_currents(0.1, 1e-5, atol=2e-4 if jnp.zeros(()).dtype == jnp.float32 else 0.0)


def test_conductances_are_of_order_two(x64):
    receptors, weights = ({k: x[i] for k, x in conductances().items()} for i in (0, 1))
    fine = psps(receptors, weights, 0.0125, diffrax.Tsit5(), t1=8.0)
    found = {dt: psps(receptors, weights, dt, bs.Propagator(), t1=8.0) for dt in (0.1, 0.05)}
    for name in receptors:
        errors = []
        for dt, v in found.items():
            every = round(dt / 0.0125)
            # the arrival is at dt: from there on the same times
            reference = fine[name][every - 1 :: every][: len(v[name])]
            errors.append(np.max(np.abs(v[name][: len(reference)] - reference)) / np.max(np.abs(fine[name])))
        assert errors[0] < 2e-4, name
        assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.02), name


class Bursting(Silent):
    """A linear adaptation current: v and w on a cycle, w is clamped nowhere."""

    def init(self, n, clock):
        return {"v": jnp.ones(n), "w": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": 0.3 * inp - 0.1 * y["v"] - 0.5 * y["w"], "w": 0.4 * y["v"] - 0.02 * y["w"]}


class Stepwise(Silent):
    """Its field has a constant derivative and is not linear."""

    def init(self, n, clock):
        return {"v": jnp.ones(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": jnp.where(y["v"] > 0.5, -1.0, 1.0) - 0.1 * y["v"]}


def test_two_variables_on_a_cycle_are_exact(x64):
    y = final(network(Bursting(), 3, i_e=2.0), bs.Propagator(), 10, 20.0)
    a = np.asarray([[-0.1, -0.5, 0.6], [0.4, -0.02, 0.0], [0.0, 0.0, 0.0]])
    exact = scipy.linalg.expm(20.0 * a) @ [1.0, 0.0, 1.0]
    np.testing.assert_allclose([y["v"][0], y["w"][0]], exact[:2], atol=1e-13)


def layout(unit, receptors=None):
    node = network(unit, 2, receptors=receptors).nodes["P"]
    y, z = node.init(bs.core.Clock.of("P", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0)))
    names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree_util.tree_leaves_with_path(y)]
    found = layout_of(Field(node, z, jnp.zeros(())), y)
    return {names[k] for k in found.linear}, [names[k] for k in found.others], found


def test_what_is_linear_is_found_from_the_equations():
    linear, others, found = layout(bs.LIF(), {"e": bs.AlphaCurr()})
    assert (linear, others) == ({"unit.v", "ports.e.x", "ports.e.i"}, [])
    assert set(found.rates) == found.alike  # one matrix for all units
    _, _, found = layout(bs.LIF(tau_m=[10.0, 20.0]), {"e": bs.ExpCurr()})
    assert len(set(found.rates) - found.alike) == 2  # the potential's row
    linear, others, _ = layout(bs.LIF(), {"e": bs.AlphaCond(), "i": bs.ExpCurr()})
    assert (linear, others) == ({"ports.e.x", "ports.e.g", "ports.i.i"}, ["unit.v"])
    linear, others, _ = layout(bs.AdEx(), {"i": bs.ExpCurr()})
    assert (linear, others) == ({"ports.i.i"}, ["unit.w", "unit.v"])
    assert layout(Bursting())[0] == {"unit.v", "unit.w"}
    assert layout(Stepwise())[1] == ["unit.v"]


@pytest.mark.parametrize("size", [1e-9, 0.3, 3.0, 40.0, 1e5])
def test_functions_of_matrices(size, x64):
    """Against their definitions, or an exponential where those cancel; rates that are equal, near and far apart."""
    rates = -size * np.asarray([1.0, 1.0, 1.0 + 1e-9, 0.1])
    z = np.diag(rates) + size * np.asarray([[0, 3, 0, 1], [0, 0, 2, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    if size < 10:
        block = np.zeros((12, 12))
        block[:4, :4], block[:4, 4:8], block[4:8, 8:] = z, np.eye(4), np.eye(4)
        exact = np.split(scipy.linalg.expm(block)[:4, 4:], 2, axis=1)
    else:  # where nothing cancels
        first = np.linalg.solve(z, scipy.linalg.expm(z) - np.eye(4))
        exact = [first, np.linalg.solve(z, first - np.eye(4))]
    found = phis({(i, j): jnp.asarray(z[i, j]) for i, j in zip(*np.nonzero(z), strict=True)})
    for m, reference in zip(found, exact, strict=True):
        dense = np.zeros((4, 4))
        for ij, x in m.items():
            dense[ij] = x
        np.testing.assert_allclose(dense, reference, rtol=1e-12, atol=1e-13 * np.abs(reference).max())


TAUS = np.linspace(8.0, 14.0, 40)


def spiking(size):
    edges = {"e": bs.Projection("S", "P.r", bs.OneToOne(), weight=30.0)}
    nodes = {"S": bs.Source(bs.Regular(0.7, phase=jnp.linspace(0.1, 0.6, size)), size)}
    return nodes, edges


def driven(tau_m, tau, solver, dt=0.1, t1=20.0, i_e=360.0, **kw):
    nodes, edges = spiking(len(TAUS))
    unit = bs.LIF(tau_m=tau_m, e_l=E_L, v_th=-50.0, v_reset=-65.0, t_ref=2.0, g_l=G_L)
    p = bs.Population(unit, len(TAUS), {"r": bs.ExpCurr(tau)}, i_e=i_e)
    net = bs.Network({**nodes, "P": p}, edges)
    return net, bs.simulate(net, t1=t1, dt=dt, solver=solver, key=jax.random.key(0), **kw)


def test_spikes_and_refractory_periods_are_those_of_a_solver_of_high_order(x64):
    saveat = [bs.Spikes("P"), bs.Trace("P.v")]
    sols = [driven(TAUS, 0.5, s, t1=40.0, i_e=600.0, saveat=saveat)[1] for s in (bs.Propagator(), diffrax.Tsit5())]
    (t, ids), other = sols[0].spikes("P"), sols[1].spikes("P")
    assert len(t) > 40
    np.testing.assert_array_equal(t, other[0])
    np.testing.assert_array_equal(ids, other[1])
    np.testing.assert_allclose(sols[0]["P.v"], sols[1]["P.v"], rtol=1e-8)


def test_it_is_fused_and_played():
    net, _ = driven(TAUS, 0.5, bs.Propagator(), t1=0.2)
    assert bs.summary(net, dt=0.1, solver=bs.Propagator()).steps == "one call"


def test_derivatives_are_those_of_the_flow(x64):
    """By the time constants, without spikes: the same as through a solver of high order, and finite differences."""

    def loss(x, solver):
        _, sol = driven(x["tau_m"], x["tau"], solver, t1=4.0, i_e=100.0, saveat=[bs.Trace("P.v")])
        return jnp.mean(sol["P.v"] ** 2)

    x = {"tau_m": TAUS, "tau": jnp.asarray(0.5)}
    exact, fine = (jax.grad(loss)(x, s) for s in (bs.Propagator(), diffrax.Dopri8()))
    np.testing.assert_allclose(exact["tau_m"], fine["tau_m"], rtol=1e-6)
    np.testing.assert_allclose(exact["tau"], fine["tau"], rtol=1e-6)
    _, forward = jax.jvp(lambda tau: loss(x | {"tau": tau}, bs.Propagator()), (x["tau"],), (jnp.ones(()),))
    np.testing.assert_allclose(forward, exact["tau"], rtol=1e-10)


def test_a_run_in_pieces_steps_and_a_batch_have_the_bits_of_one_run():
    net, whole = driven(TAUS, 0.5, bs.Propagator(), t1=10.0)
    kw = dict(dt=0.1, solver=bs.Propagator())
    first = bs.simulate(net, t1=6.0, key=jax.random.key(0), **kw).state
    last = bs.simulate(net, t1=9.9, state=first, **kw).state
    last, _ = bs.step(net, last, solver=bs.Propagator())
    v = whole.state.nodes["P"].y["unit"]["v"]
    np.testing.assert_array_equal(last.nodes["P"].y["unit"]["v"], v)
    taus = jnp.asarray([0.5, 0.7])
    batch = jax.vmap(lambda tau: driven(TAUS, tau, bs.Propagator(), t1=10.0)[1].state.nodes["P"].y["unit"]["v"])(taus)
    np.testing.assert_array_equal(batch[0], v)


def test_substeps_of_a_linear_cell_change_nothing(x64):
    y, other = (
        final(network(Bursting(), 3, i_e=2.0), s, 5, 10.0) for s in (bs.Propagator(), bs.Substep(bs.Propagator(), 4))
    )
    np.testing.assert_allclose(y["v"], other["v"], rtol=1e-12)
