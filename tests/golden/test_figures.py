"""COBA-LIF on graphs of its own: mean rate and CV over seeds beside Brian2 (scales 1 and 4, and with a delay)."""

import json
import math
from pathlib import Path

import diffrax
import jax
import numpy as np
import pytest

import brainsim as bs
from experiments.benchmarks import networks

GOLDEN = json.loads((Path(__file__).parent / "cobalif.json").read_text())["brian2_own_graphs"]
SEEDS = 5
SLACK = 0.02  # of the golden mean: Brian2 clamps one step less in the refractory period


def run(scale, delay, seed):
    """Rate (Hz) and CV in the golden window, in float32 with forward Euler."""
    p, n = networks.CobaLif(), 4000 * scale
    receptors = {"exc": bs.ExpCond(tau=p.tau_e, e_rev=p.e_e), "inh": bs.ExpCond(tau=p.tau_i, e_rev=p.e_i)}
    cells = bs.Population(
        bs.LIF(t_ref=p.t_ref), n, receptors, i_e=p.drive * p.g_l, init={"v": bs.Normal(p.v0_mean, p.v0_std)}
    )
    split, rule = networks.n_excitatory(n), bs.FixedProbability(networks.p_connect(n))
    edges = {
        "E": bs.Projection(f"P[:{split}]", "P.exc", rule, weight=p.w_e * p.g_l / scale, delay=delay),
        "I": bs.Projection(f"P[{split}:]", "P.inh", rule, weight=p.w_i * p.g_l / scale, delay=delay),
    }
    net = bs.Network({"P": cells}, edges, key=jax.random.key(seed))
    sol = bs.simulate(
        net, t1=2000.0, dt=0.1, solver=diffrax.Euler(), key=jax.random.key(100 + seed), saveat=[bs.Spikes("P")]
    )
    t, i = sol.spikes("P")
    t = t - 0.05
    late = t >= 500.0
    return networks.rate(t, n, (500.0, 2000.0)), networks.cv_isi(t[late], i[late])


def tolerance(golden, own, n_golden):
    """3 standard errors of the difference, and 2 % of the golden mean."""
    spread = (golden[1] or np.std(own, ddof=1)) ** 2 / n_golden + np.var(own, ddof=1) / SEEDS
    return 3 * math.sqrt(spread) + SLACK * golden[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "scale, delay, golden", [(1, 0.0, "s1"), (4, 0.0, "s4"), (1, 1.5, "s1_delay_1.5ms")], ids=["s1", "s4", "delay"]
)
def test_rates_and_cvs_are_brian2s(scale, delay, golden):
    rates, cvs = np.transpose([run(scale, delay, seed) for seed in range(SEEDS)])
    golden = GOLDEN[golden]
    print(f"rate {rates.mean():.3f} +- {rates.std(ddof=1):.3f} Hz, CV {cvs.mean():.3f}, Brian2 {golden}")
    assert abs(rates.mean() - golden["rate_hz"][0]) <= tolerance(golden["rate_hz"], rates, golden["n_seeds"])
    assert abs(cvs.mean() - golden["cv_isi"][0]) <= tolerance(golden["cv_isi"], cvs, golden["n_seeds"])
