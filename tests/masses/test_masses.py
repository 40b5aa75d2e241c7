"""Masses against reference trajectories, and what every one of them promises."""

import json
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import brainsim as bs
from tests.nets import same

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "fields.json").read_text())
"""Trajectories of scipy's DOP853 and LSODA at tolerances of 1e-12, which agree to 2e-10."""
RTOL = 1e-6  # of the largest value of a variable: what the references are good for, with a wide margin
ENTRIES = {  # unit, and its names for parameters of the entry
    "jansen_rit": (bs.JansenRit, {}),
    "jansen_rit_v0_5.52": (bs.JansenRit, {}),
    "wong_wang_reduced_S0_0.001": (bs.ReducedWongWang, {}),
    "wong_wang_reduced_S0_0.5": (bs.ReducedWongWang, {}),
    "wong_wang_reduced_tvb": (bs.ReducedWongWang, {}),
    "wong_wang_exc_inh": (bs.ExcInhWongWang, {}),
    "montbrio_pazo_roxin": (bs.MontbrioPazoRoxin, {"Delta": "delta"}),
    "wilson_cowan": (bs.WilsonCowan, {}),
    "stuart_landau": (bs.StuartLandau, {}),
    "epileptor": (bs.Epileptor, {}),
    "epileptor_seizure": (bs.Epileptor, {}),
}
RUNS = [  # dt, entries, substeps: one program each
    (1.0, [name for name in ENTRIES if "reduced" in name], {}),
    (0.1, ["jansen_rit", "jansen_rit_v0_5.52", "wong_wang_exc_inh", "wilson_cowan", "stuart_landau", "epileptor"], {}),
    # the seizure crosses the kinks of its equations, where every solver is of order 1
    (0.005, ["montbrio_pazo_roxin", "epileptor_seizure"], {"epileptor_seizure": 5}),
]
MASSES = sorted({unit.__name__ for unit, _ in ENTRIES.values()} | {"Kuramoto", "FitzHughNagumo"})
N = 40  # enough for the fused pass


def _of_entry(entry):
    golden, (kind, names) = GOLDEN[entry], ENTRIES[entry]
    given = {names.get(k, k): v for k, v in golden["parameters"].items()}
    current = given.pop("I", 0.0)
    if kind is bs.WilsonCowan:
        given["tau_e"] = given["tau_i"] = given.pop("tau")
    start = dict(zip(golden["variables"], golden["y0"], strict=True))
    return bs.Population(kind(**given), 1, i_e=current, init=start)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dt, entries, substeps", RUNS, ids=["slow", "middle", "fast"])
def test_golden_trajectories(dt, entries, substeps):
    names = {entry: f"M{k}" for k, entry in enumerate(entries)}
    net = bs.Network({names[entry]: _of_entry(entry) for entry in entries})
    solver = {names[e]: bs.Substep(diffrax.Tsit5(), substeps[e]) if e in substeps else diffrax.Tsit5() for e in entries}
    traces = [bs.Trace(f"{names[entry]}.{v}") for entry in entries for v in GOLDEN[entry]["variables"]]
    t1 = max(GOLDEN[entry]["t"][-1] for entry in entries)
    sol = bs.simulate(net, t1=t1, dt=dt, solver=solver, key=jax.random.key(0), saveat=traces)
    for entry in entries:
        at = [round(t / dt) - 1 for t in GOLDEN[entry]["t"][1:]]
        for variable, row in zip(GOLDEN[entry]["variables"], GOLDEN[entry]["y"], strict=True):
            got, expected = sol[f"{names[entry]}.{variable}"][at, 0], np.asarray(row[1:])
            atol = RTOL * np.max(np.abs(expected))
            np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=f"{entry}.{variable}")


@pytest.mark.usefixtures("x64")
def test_fitzhugh_nagumo_against_scipy():
    def field(t, y):
        v, w = y
        return [v - v**3 / 3 - w + 0.5, (v + 0.7 - 0.8 * w) / 12.5]

    expected = solve_ivp(field, (0, 50), [-1.0, -0.5], method="DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    net = bs.Network({"M": bs.Population(bs.FitzHughNagumo(), 1)})
    sol = bs.simulate(net, t1=50.0, dt=0.1, solver=diffrax.Tsit5(), key=jax.random.key(0))
    y = sol.state.nodes["M"].y["unit"]
    np.testing.assert_allclose([y["v"][0], y["w"][0]], expected, rtol=RTOL)


@pytest.mark.core
def test_pieces_have_the_bits_of_the_whole():
    nodes, variables = {}, {}
    for name in MASSES:
        unit = getattr(bs, name)()
        first = bs.Population(unit, 1).variables[0]
        nodes[name] = bs.Population(unit, N, noise=bs.WhiteNoise({first: 0.01}))
        variables[name] = f"{name}.{first}"
    net, run = bs.Network(nodes), {"dt": 0.1, "saveat": [bs.Trace(x) for x in variables.values()]}
    whole = bs.simulate(net, t1=20.0, key=jax.random.key(1), **run)
    half = bs.simulate(net, t1=10.0, key=jax.random.key(1), **run)
    rest = bs.simulate(net, t1=20.0, state=half.state, **run)
    assert same(whole.state, rest.state)
    for x in variables.values():
        assert np.array_equal(whole[x], np.concatenate([half[x], rest[x]]))
        assert np.all(np.isfinite(whole[x]))
        assert np.std(whole[x][-1]) > 0  # the noise of every unit is its own


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_against_differences_and_vmap_against_a_loop():
    net = bs.Network({name: bs.Population(getattr(bs, name)(), 1) for name in MASSES})  # one program for all
    first = {name: f"{name}.{net.nodes[name].variables[0]}" for name in MASSES}

    def total(scales):
        """The masses do not see each other: every scale has a derivative of its own."""
        nodes = {k: jax.tree.map(lambda x, k=k: x * scales[k], net.nodes[k]) for k in MASSES}
        saveat = [bs.Trace(variable, every=10) for variable in first.values()]
        sol = bs.simulate(bs.Network(nodes), t1=3.0, dt=0.1, key=jax.random.key(0), saveat=saveat)
        means = {name: jnp.mean(sol[variable]) for name, variable in first.items()}
        return sum(means.values()), means

    scales = dict.fromkeys(MASSES, jnp.asarray([1.0 - 1e-5, 1.0, 1.0 + 1e-5]))
    (_, values), slopes = jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))(scales)
    _, alone = jax.jit(total)({k: x[0] for k, x in scales.items()})
    for name in MASSES:
        difference = (values[name][2] - values[name][0]) / 2e-5  # its error is of the order 1e-10
        np.testing.assert_allclose(slopes[name][1], difference, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(values[name][0], alone[name], rtol=1e-12, err_msg=name)


def test_parameters_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"JansenRit\.a is -0\.1"):
        bs.JansenRit(a=-0.1)
    with pytest.raises(ValueError, match=r"MontbrioPazoRoxin\.tau is 0"):
        bs.MontbrioPazoRoxin(tau=0.0)


@pytest.mark.usefixtures("x64")
def test_the_rate_of_wong_wang_is_smooth_where_it_is_zero_over_zero():
    from brainsim.masses._shared import rectified

    x = jnp.asarray([-1e5, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1e5])
    value, slope = jax.vmap(jax.value_and_grad(lambda x: rectified(x, 0.154)))(x)
    np.testing.assert_allclose(value[3], 1 / 0.154, rtol=1e-12)
    np.testing.assert_allclose(slope[3], 0.5, rtol=1e-12)
    np.testing.assert_allclose(value[1:6], [x / -np.expm1(-0.154 * x) if x else 1 / 0.154 for x in x[1:6]], rtol=1e-9)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(slope))
