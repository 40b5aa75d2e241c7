"""Every spike of NEST's iaf_psc_exp and iaf_psc_delta, at its step, on NEST's own network (`peers/nest_spikes.py`)."""

from pathlib import Path

import jax
import numpy as np
import pytest

import brainsim as bs

HERE = Path(__file__).parent
DT = 0.1  # ms
PORTS = {  # made in a test: their parameters have its precision
    "iaf_psc_exp": lambda: {"exc": bs.ExpCurr(tau=0.5), "inh": bs.ExpCurr(tau=1.0)},
    "iaf_psc_delta": lambda: {"exc": bs.Delta(at="end"), "inh": bs.Delta(at="end")},
}


def spikes(model, z):
    """(step, unit) of every spike of the network in z."""
    n, exc = int(z["n"]), z["weight"] > 0
    unit = bs.LIF(tau_m=10.0, e_l=-65.0, v_th=-50.0, v_reset=-65.0, t_ref=2.0, g_l=25.0)
    drive = bs.Source(bs.Replay(z["drive_steps"] * DT, z["drive_ids"].astype(int)), n)
    nodes = {"P": bs.Population(unit, n, PORTS[model](), init={"v": -65.0}), "drive": drive}
    edges = {"ext": bs.Projection("drive", "P.exc", bs.OneToOne(), weight=float(z["drive_weight"]), delay=1.5)}
    for port, chosen in (("exc", exc), ("inh", ~exc)):
        rule = bs.FromCOO(z["pre"][chosen].astype(int), z["post"][chosen].astype(int))
        edges[port] = bs.Projection("P", f"P.{port}", rule, weight=z["weight"][chosen], delay=z["delay"][chosen] * DT)
    recording = bs.Spikes("P", max_rate=500.0)
    net = bs.Network(nodes, edges)
    t, i = bs.simulate(net, t1=1000.0, dt=DT, key=jax.random.key(0), saveat=[recording]).spikes("P")
    return set(zip(np.round(np.asarray(t) / DT).astype(int).tolist(), np.asarray(i).tolist()))


def nest_spikes(z):
    return set(zip(z["spike_steps"].tolist(), z["spike_ids"].tolist()))


@pytest.mark.parametrize("model", PORTS)
def test_spike_for_spike_with_nest(model, x64):
    with np.load(HERE / f"nest_{model}.npz") as z:
        want = nest_spikes(z)
        assert len(want) == len(z["spike_ids"]) > 1000
        assert spikes(model, z) == want
