"""COBA-LIF and COBA-HH on the graph and initial state of a Brian2 run: the same spikes, and the same rates."""

import json
import zlib
from pathlib import Path

import diffrax
import jax
import numpy as np
import pytest

import brainsim as bs
from experiments.benchmarks import networks

HERE = Path(__file__).parent
N, SPLIT = 4000, 3200
# Rounding to float32 moves a spike in 10,000 by a step, on which the networks, being chaotic, build.
SAME_IN_FLOAT32 = 0.99


def network(name, seed):
    """The network of `networks.draw(name, seed)` and its solver, with the clamped steps that Brian2 has."""
    p = networks.NETWORKS[name]
    (pre, post), state = networks.draw(name, seed, N)
    receptors = {"exc": bs.ExpCond(tau=p.tau_e, e_rev=p.e_e), "inh": bs.ExpCond(tau=p.tau_i, e_rev=p.e_i)}
    if name == "coba_lif":  # Brian2 clamps one step less than t_ref / dt
        unit, i_e, scale, solver = bs.LIF(t_ref=p.t_ref - networks.DT_MS), p.drive * p.g_l, p.g_l, diffrax.Euler()
        init = {"v": state["v"]}
    else:
        unit, i_e, scale, solver = bs.TraubMiles(), 0.0, 1.0, bs.ExponentialEuler()
        init = {"v": state["v"], "exc.g": state["ge"], "inh.g": state["gi"], "m": 0.0, "n": 0.0, "h": 0.0}
    exc = pre < SPLIT
    edges = {
        "exc": bs.Projection(f"P[:{SPLIT}]", "P.exc", bs.FromCOO(pre[exc], post[exc]), weight=p.w_e * scale),
        "inh": bs.Projection(f"P[{SPLIT}:]", "P.inh", bs.FromCOO(pre[~exc] - SPLIT, post[~exc]), weight=p.w_i * scale),
    }
    net = bs.Network({"P": bs.Population(unit, N, receptors, i_e=i_e, init=init)}, edges, key=jax.random.key(0))
    return net, solver


def simulate(name, seed, t1):
    """Times (ms, the middle of the step) and units of all spikes."""
    net, solver = network(name, seed)
    recording = bs.Spikes("P", max_rate=400.0)
    sol = bs.simulate(net, t1=t1, dt=networks.DT_MS, solver=solver, saveat=[recording], key=jax.random.key(0))
    t, i = sol.spikes("P")
    return t - networks.DT_MS / 2, i


def golden_spikes(name, t1):
    golden = np.load(HERE / f"{name}.npz")
    (pre, post), _ = networks.draw(name, 0, N)
    drawn = [pre.size, zlib.crc32(pre.tobytes() + post.tobytes())]
    assert drawn == golden["graph"].tolist(), "numpy draws another graph than the one these spikes were recorded on"
    return {(s, i) for s, i in zip(golden["step"].tolist(), golden["unit"].tolist()) if s < round(t1 / networks.DT_MS)}


def own_spikes(name, t1):
    t, i = simulate(name, 0, t1)
    return set(zip(np.floor(t / networks.DT_MS).astype(int).tolist(), i.tolist()))


@pytest.mark.parametrize("name", ["coba_lif", "coba_hh"])
def test_every_spike_is_brian2s(name, x64):
    """All 10,000 (LIF) and 13,000 (HH) spikes of 4,000 units in 100 ms, unit by unit and step by step."""
    assert own_spikes(name, 100.0) == golden_spikes(name, 100.0)


@pytest.mark.parametrize("name", ["coba_lif", "coba_hh"])
def test_spikes_are_brian2s_in_float32(name):
    own, golden = own_spikes(name, 50.0), golden_spikes(name, 50.0)
    assert len(own & golden) >= SAME_IN_FLOAT32 * len(own | golden)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coba_lif", "coba_hh"])
def test_rates_are_brian2s(name):
    """Mean over graphs, each compared with Brian2 on the same graph: within 5 %; CVs within 5 %."""
    golden = json.loads((HERE / f"{name.replace('_', '')}.json").read_text())["brian2_same_graphs"]
    runs = [simulate(name, seed, 2500.0) for seed in range(len(golden["rate_hz_by_seed"]))]
    rates = [networks.rate(t, N, golden["window_ms"]) for t, _ in runs]
    assert np.mean(rates) == pytest.approx(np.mean(golden["rate_hz_by_seed"]), rel=0.05)
    late = [(t[t >= golden["window_ms"][0]], i[t >= golden["window_ms"][0]]) for t, i in runs]
    assert np.mean([networks.cv_isi(*x) for x in late]) == pytest.approx(np.mean(golden["cv_isi_by_seed"]), rel=0.05)
