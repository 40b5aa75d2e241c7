"""Every unit, receptor, kind of delay and explicit solver, by every leaf: gradients equal finite differences.

On smooth stretches: graded events, below threshold. What a threshold does through the times of spikes is smooth too,
without a time step: `tests/simulate/test_events.py`.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.solvers import SOLVERS

RTOL = 1e-5  # central differences with a relative step of 1e-5: error of truncation 1e-10
NOISE = 3e-10  # of the loss, of order 1: rounding 1e-16, accumulated over the steps, by the step of the difference
STEPS, DT = 24, 0.05
QUICK = {"xla_backend_optimization_level": 0}  # most of the time of these tests is compilation
KEY = jax.random.key(0)


def population(unit, receptor, current, scale):
    """Two units, not alike, with what a source of weight `scale` sends."""
    return bs.Population(unit, 2, {"s": receptor}, i_e=[current, 1.1 * current], surrogate=bs.Triangular(1e-3)), scale


UNITS = {
    "LIF": population(bs.LIF(), bs.ExpCurr(), 50.0, 100.0),
    "QIF": population(bs.QIF(), bs.ExpCurr(), 20.0, 100.0),
    "ExponentialIF": population(bs.ExponentialIF(), bs.ExpCurr(), 20.0, 50.0),
    "AdEx": population(bs.AdEx(), bs.ExpCurr(), 100.0, 500.0),
    "Izhikevich": population(bs.Izhikevich(), bs.ExpCurr(), 1.0, 3.0),
    "AdaptiveLIF": population(bs.AdaptiveLIF(), bs.ExpCurr(), 0.2, 0.5),
    "CubaLIF": population(bs.CubaLIF(), bs.Delta(variable="i"), 0.2, 0.3),
    "LeakyIntegrator": population(bs.LeakyIntegrator(), bs.ExpCurr(), 0.2, 1.0),
    "HodgkinHuxley": population(bs.HodgkinHuxley(), bs.ExpCurr(), 1.0, 2.0),
    "TraubMiles": population(bs.TraubMiles(), bs.ExpCurr(), 10.0, 100.0),
    "WangBuzsaki": population(bs.WangBuzsaki(), bs.ExpCurr(), 0.1, 0.3),
    "MorrisLecar": population(bs.MorrisLecar.type_1(), bs.ExpCurr(), 10.0, 20.0),
    "VoltageClamp": population(bs.VoltageClamp(bs.HodgkinHuxley(), -40.0), bs.ExpCurr(), 0.0, 1.0),
}
RECEPTORS = {
    "Delta": population(bs.LIF(), bs.Delta(), 50.0, 0.3),
    "ExpCurr": population(bs.LIF(), bs.ExpCurr(), 50.0, 100.0),
    "DualExpCurr": population(bs.LIF(), bs.DualExpCurr(), 50.0, 100.0),
    "ExpCond": population(bs.LIF(), bs.ExpCond(), 50.0, 2.0),
    "DualExpCond": population(bs.LIF(), bs.DualExpCond(), 50.0, 2.0),
    "AlphaCurr": population(bs.LIF(), bs.AlphaCurr(), 50.0, 100.0),
    "AlphaCond": population(bs.LIF(), bs.AlphaCond(), 50.0, 2.0),
    "NMDA": population(bs.LIF(), bs.NMDA(), 50.0, 5.0),
}
EXPLICIT = {k.__name__: k for k, rule in SOLVERS.items() if not rule.implicit}
DELAYS = {
    "one": 0.1,
    "synapse": [[0.0, 0.05], [0.1, 0.15], [0.2, 0.25]],
    "pre": [0.0, 0.1, 0.2],
    "instant": bs.INSTANT,
    "linear": bs.LinearDelay([[0.01, 0.07], [0.11, 0.16], [0.21, 0.23]]),
    "gaussian": bs.GaussianDelay([[0.01, 0.07], [0.11, 0.16], [0.21, 0.23]], 0.06),
    "released": 0.05,
}


def double(tree):
    """Parameters made in single precision, when this file was read, in double."""
    return jax.tree.map(lambda x: jnp.asarray(x, float) if eqx.is_inexact_array(x) else x, tree)


def fan(populations, delays=None):
    """A source to every population, over an edge of its own: `to_NAME`."""
    weight = np.asarray([[1.0, 0.5], [0.7, 1.3], [0.2, 0.9]])
    edges = {}
    for name, (_, scale) in populations.items():
        delay = 0.1 if delays is None else double(delays[name])
        kw = {"max_delay": 0.3} if isinstance(delay, bs.AbstractDelay) else {}
        if name == "released":
            kw["short_term"] = bs.TsodyksMarkram(U=0.3, tau_facil=20.0, tau_rec=5.0)
        edges[f"to_{name}"] = bs.Projection("S", name, bs.AllToAll(), weight=scale * weight, delay=delay, **kw)
    return bs.Network({"S": bs.Source(bs.External(), 3)} | {k: double(p) for k, (p, _) in populations.items()}, edges)


def check(net, names, solver=None):
    """Gradients of the potentials of the populations by every leaf of network, initial state and inputs; the leaves
    that have no effect."""
    state = bs.initial_state(net, dt=DT, key=KEY)
    rows = 0.5 + 0.4 * jnp.sin(jnp.arange(STEPS * 3.0)).reshape(STEPS, 3)
    floating, rest = eqx.partition(net, eqx.is_inexact_array)
    y = {name: state.nodes[name].y for name in names}
    moved = jax.tree.map(lambda x: x + 0.01 * jnp.arange(2.0), y)

    def run(x):
        floating, y, rows = x
        begun = eqx.tree_at(lambda s: [s.nodes[name].y for name in names], state, [y[name] for name in names])
        sol = bs.simulate(
            eqx.combine(floating, rest),
            t0=0.0,
            t1=STEPS * DT,
            dt=DT,
            state=begun,
            solver=solver,
            inputs={"S": rows},
            saveat=[bs.Trace(f"{name}.v") for name in names],
            adjoint=bs.DirectAdjoint(),
        )
        events = sum(sol.n_events.get(name, 0) for name in names)
        return sum(jnp.mean(jnp.sin(0.1 * sol[f"{name}.v"])) for name in names), events

    x = (floating, moved, rows)
    both = jax.jit(jax.value_and_grad(run, has_aux=True), compiler_options=QUICK)
    (_, events), gradient = both(x)
    assert int(events) == 0
    rng, flat = np.random.default_rng(0), jax.tree_util.tree_flatten_with_path(x)
    idle = []
    for i, ((path, leaf), slope) in enumerate(zip(flat[0], jax.tree.leaves(gradient), strict=True)):
        scale = np.maximum(np.abs(np.asarray(leaf)), 1e-2)
        way = rng.uniform(0.5, 1.0, leaf.shape) * scale  # all entries of a leaf at once

        def value(sign, i=i, way=way):
            leaves = [a + sign * 1e-5 * way if i == j else a for j, (_, a) in enumerate(flat[0])]
            return float(both(jax.tree.unflatten(flat[1], leaves))[0][0])

        wanted = (value(1) - value(-1)) / 2e-5
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(float(np.sum(slope * way)), wanted, rtol=RTOL, atol=NOISE, err_msg=where)
        if not np.any(slope):
            idle.append(where)
    return idle


def inert(idle):
    """Leaves without effect that should have one: all but thresholds, resets and the like, which act at spikes."""
    at_spikes = (
        "v_th",
        "v_reset",
        "t_ref",
        "v_peak",
        "surrogate",
        ".a",
        ".b",
        ".c",
        ".d",
        "beta",
        "tau_a",
        "delay",
        "['a']",
    )
    return [where for where in idle if not any(word in where for word in at_spikes)]


@pytest.mark.parametrize("name", UNITS)
def test_every_unit(x64, name):
    idle = inert(check(fan({name: UNITS[name]}), [name]))
    assert not idle or name == "VoltageClamp"


@pytest.mark.parametrize("name", RECEPTORS)
def test_every_receptor(x64, name):
    assert not inert(check(fan({name: RECEPTORS[name]}), [name]))


@pytest.mark.parametrize("name", DELAYS)
def test_every_delay_and_short_term_plasticity(x64, name):
    assert not inert(check(fan({name: population(bs.LIF(), bs.ExpCond(), 50.0, 0.5)}, DELAYS), [name]))


def test_gap_junctions(x64):
    net = fan({"P": population(bs.LIF(), bs.ExpCond(), 50.0, 2.0)})
    gap, _ = population(bs.LIF(), bs.GapPort(), 50.0, 0.0)  # made here, in double precision
    coupling = bs.GapJunctions("P", "gap", bs.AllToAll(), weight=[[1.0, 3.0], [2.0, 4.0]], delay=0.1)
    net = bs.Network(net.nodes | {"gap": gap}, net.edges | {"to_gap": coupling})
    idle = inert(check(net, ["P", "gap"]))
    assert not [where for where in idle if "['gap']['ports']" not in where]  # what arrives replaces what was there


LONG = {"Dopri8"}  # to compile
SOLVED = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in EXPLICIT]


@pytest.mark.parametrize("name", SOLVED)
def test_every_explicit_solver(x64, name):
    net = fan({"P": population(bs.MorrisLecar.type_1(), bs.ExpCond(), 10.0, 0.2)})
    assert not inert(check(net, ["P"], EXPLICIT[name]()))


def test_nothing_is_left_out():
    def public(base):
        kinds = {k: getattr(bs, k) for k in dir(bs) if not k.startswith("Abstract")}
        return {k for k, x in kinds.items() if isinstance(x, type) and issubclass(x, base)}

    # those of continuous values and of plasticity have protocols of their own
    others = {
        k for k in public(bs.AbstractUnit) if getattr(bs, k).__module__.startswith(("brainsim.masses", "brainsim.glia"))
    }
    assert set(UNITS) == public(bs.AbstractUnit) - others - {"Homeostatic"}
    assert set(RECEPTORS) | {"GapPort", "CouplingPort", "PairPort", "HeldCurr"} == public(bs.AbstractReceptor)
    kinds = {type(d) for d in DELAYS.values() if isinstance(d, bs.AbstractDelay)}
    assert {k.__name__ for k in kinds} == public(bs.AbstractDelay)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [diffrax.Tsit5, diffrax.Kvaerno3])
@pytest.mark.parametrize("name", UNITS)
def test_every_unit_under_an_explicit_and_an_implicit_solver(x64, name, kind):
    idle = inert(check(fan({name: UNITS[name]}), [name], {name: kind()}))
    assert not idle or name == "VoltageClamp"
