"""Two units in a chain: the spike steps of Brian2 and NEST, step for step (delays, labels, refractory period)."""

import json
from pathlib import Path

import diffrax
import jax
import numpy as np
import pytest

import brainsim as bs

GOLDEN = json.loads((Path(__file__).parent / "chain.json").read_text())
DT = 0.1  # ms
G_L = 10.0  # nS


def receptor_and_weight(case):
    """The receptor, and the weight in its unit: nS, pA or mV."""
    kind, weight = case["receptor"], case["weight"]
    if kind == "exp_cond":
        return bs.ExpCond(tau=5.0, e_rev=0.0), weight * G_L
    if kind == "exp_current":
        return bs.ExpCurr(tau=5.0), weight * G_L
    return bs.Delta(), weight


def chain(case):
    """Spike steps of both units."""
    unit = bs.LIF(tau_m=20.0, e_l=-60.0, v_reset=-60.0, v_th=-50.0, t_ref=case["clamped_steps"] * DT, g_l=G_L)
    receptor, weight = receptor_and_weight(case)
    net = bs.Network(
        nodes={"P": bs.Population(unit, 2, {"in": receptor}, i_e=G_L * np.array([20.0, case["drive_post_mV"]]))},
        edges={"chain": bs.Projection("P[:1]", "P[1:].in", bs.OneToOne(), weight=weight, delay=case["delay_ms"])},
        key=jax.random.key(0),
    )
    recording = bs.Spikes("P", max_rate=1000.0)
    sol = bs.simulate(net, t1=200.0, dt=DT, solver=diffrax.Euler(), saveat=[recording], key=jax.random.key(0))
    t, i = sol.spikes("P")
    steps = np.rint(t / DT).astype(int) - 1  # a spike's time is the end of its step
    return {"pre_steps": steps[i == 0].tolist(), "post_steps": steps[i == 1].tolist()}


@pytest.mark.core
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_spike_steps_are_those_of_brian2_and_nest(case):
    own = chain(case)
    assert own == case["brian2"]
    if case.get("nest", {}).get("same_as_euler"):
        nest = case["nest"]
        assert own["pre_steps"] == nest["pre_steps"]
        assert own["post_steps"] == [step + nest["shift_post"] for step in nest["post_steps"]]


def test_enough_cases_speak_for_nest():
    same = [case for case in GOLDEN["cases"] if case.get("nest", {}).get("same_as_euler")]
    assert {case["receptor"] for case in same} == {"exp_cond", "exp_current", "delta"}
    assert {case["delay_ms"] for case in same} == {0.1, 1.5}
