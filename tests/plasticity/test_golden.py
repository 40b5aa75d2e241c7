"""Weights after two seconds of spikes with delays and ties, against NEST 3.10 and Brian2 2.9, weight for weight."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import DT, run, told

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/stdp.json").read_text())
NEST, BRIAN = GOLDEN["NEST_3.10.0_weight_delivered_at_the_last_pre_spike"], GOLDEN["Brian2_2.9.0"]
PRE = [[s - 1 for s in steps] for steps in GOLDEN["pre_steps"]]
POST = [[s - 1 for s in steps] for steps in GOLDEN["post_steps"]]
DELAY, W0 = np.asarray(GOLDEN["delay_steps"]), np.asarray(GOLDEN["w0"])
PHANTOM = ("stdp_nn_symm_synapse", "stdp_nn_restr_synapse")  # NEST pairs them with a pre spike at time 0


def rules():
    pair, t, v = (GOLDEN["parameters"][k] for k in ("pair", "triplet", "vogels"))
    own = dict(tau_plus=pair["tau_plus"], tau_minus=pair["tau_minus"], w_max=pair["Wmax"])
    own |= dict(a_plus=pair["lambda"] * pair["Wmax"], a_minus=pair["alpha"] * pair["lambda"] * pair["Wmax"])
    triplet = dict(a2_plus=t["Aplus"], a3_plus=t["Aplus_triplet"], a2_minus=t["Aminus"], a3_minus=t["Aminus_triplet"])
    taus = dict(tau_plus=t["tau_plus"], tau_x=t["tau_plus_triplet"], tau_minus=t["tau_minus"])
    return {
        "additive": bs.PairSTDP(**own),
        "multiplicative": bs.PairSTDP(**own, bound=bs.Multiplicative()),
        "guetig": bs.PairSTDP(**own, bound=bs.PowerLaw(0.4, 0.4)),
        "triplet": bs.TripletSTDP(**triplet, **taus, tau_y=t["tau_minus_triplet"], w_max=t["Wmax"]),
        "vogels": bs.VogelsSprekeler(v["tau"], v["eta"], v["alpha"] / (2e-3 * v["tau"]), w_max=v["Wmax"]),
        "stdp_nn_symm_synapse": bs.PairSTDP(**own, nearest=True),
        "stdp_nn_pre_centered_synapse": bs.PreCenteredSTDP(**own),
        "stdp_nn_restr_synapse": bs.ReducedSTDP(**own),
    }


def edge(rule, where=None, **kw):
    i, j = np.nonzero(np.ones_like(W0) if where is None else where)
    delay = DELAY[i, j] * DT
    return bs.PlasticProjection("A", "B.syn", bs.FromCOO(i, j), weight=W0[i, j], delay=delay, rule=rule, **kw)


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.slow)], ids=["x64", "float32"])
def weights(request):
    """Weights in every step by edge, and the largest difference allowed."""
    with jax.enable_x64(request.param):
        given = rules()
        edges = {name: edge(rule) for name, rule in given.items()}
        brian = dict(deliver="before", first="pre")
        edges["dendritic"] = edge(given["additive"], **brian)
        for d in np.unique(DELAY):
            edges[f"axonal{d}"] = edge(given["additive"], d == DELAY, axonal=float(d * DT), **brian)
        net = told(PRE, POST, edges)
        state = bs.initial_state(net, dt=DT, key=jax.random.key(0))
        for name in PHANTOM:
            state.edges[name]["x"] = jnp.ones_like(state.edges[name]["x"])
        state.edges[PHANTOM[1]]["k"] = jnp.ones_like(state.edges[PHANTOM[1]]["k"])
        sol = run(net, 20000, [bs.Trace(f"{name}.w") for name in edges], state=dataclasses.replace(state))
        return {name: np.asarray(sol[f"{name}.w"]) for name in edges}, 1e-12 if request.param else 1e-5


@pytest.mark.parametrize("name", NEST)
def test_nest(weights, name):
    w, tolerance = weights[0][name], weights[1]
    i = np.nonzero(np.ones_like(W0))[0]
    delivered = [w[PRE[unit][-1], k] for k, unit in enumerate(i)]
    np.testing.assert_allclose(delivered, np.ravel(NEST[name]), atol=tolerance, rtol=0)


def test_brian2_dendritic_delays(weights):
    expected = np.ravel(BRIAN["documented_dendritic"])
    np.testing.assert_allclose(weights[0]["dendritic"][-1], expected, atol=weights[1], rtol=0)


def test_brian2_axonal_delays(weights):
    expected = np.asarray(BRIAN["documented_axonal"])
    for d in np.unique(DELAY):
        np.testing.assert_allclose(weights[0][f"axonal{d}"][-1], expected[d == DELAY], atol=weights[1], rtol=0)
