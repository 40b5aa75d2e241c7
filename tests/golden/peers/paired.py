"""Rates in Brian2 of the benchmark networks on graphs and initial states that numpy draws, seed by seed.

The rate varies by 6 % from graph to graph, so rates are compared on the same graph. `draw` is the recipe: a test draws
the same arrays. `python tests/golden/peers/paired.py coba_hh 8` with a Python that has Brian2; prints JSON.
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "experiments" / "benchmarks"))
import networks

N = 4000
WINDOWS_MS = ([500, 1000], [500, 1500], [500, 2500])
MIN_INTERVALS = 5  # a coefficient of variation needs a few


def draw(network, seed, n=N):
    """(pre, post) of all synapses, sorted, and the initial state by name; the order of the draws is part of it."""
    p, rng = networks.NETWORKS[network], np.random.default_rng(seed)
    pre, post = np.divmod(np.flatnonzero(rng.random(n * n) < networks.P_CONNECT), n)
    state = {"v": p.v0_mean + p.v0_std * rng.standard_normal(n)}
    if network == "coba_hh":
        state["ge"] = p.ge0_mean + p.ge0_std * rng.standard_normal(n)
        state["gi"] = p.gi0_mean + p.gi0_std * rng.standard_normal(n)
    return (pre.astype(np.int32), post.astype(np.int32)), state


def cv_isi(t, i):
    """Mean over units of std/mean of their inter-spike intervals (ddof 0), units with at least MIN_INTERVALS."""
    order = np.lexsort((t, i))
    t, i = t[order], i[order]
    trains = np.split(t, np.flatnonzero(np.diff(i)) + 1)
    return float(np.mean([np.std(np.diff(x)) / np.mean(np.diff(x)) for x in trains if len(x) > MIN_INTERVALS]))


def run(network, seed, crossing):
    import _sim_brian2
    import brian2 as b2

    gc.collect()  # frees the names of the run before, so that the compiled code of the first run serves all
    b2.defaultclock.dt = networks.DT_MS * b2.ms
    group, on_exc, on_inh, _ = {"coba_lif": _sim_brian2.lif, "coba_hh": _sim_brian2.hh}[network](b2, N, **crossing)
    (pre, post), state = draw(network, seed)
    for name, value in state.items():
        setattr(group, name, value * (b2.mV if name == "v" else b2.nS))
    split = networks.n_excitatory(N)
    synapses = []
    for name, on_pre, chosen in (("exc", on_exc, pre < split), ("inh", on_inh, pre >= split)):
        synapses.append(b2.Synapses(group, group, on_pre=on_pre, name=name))
        synapses[-1].connect(i=pre[chosen], j=post[chosen])
    spikes = b2.SpikeMonitor(group, name="spikes")
    b2.Network(group, synapses, spikes).run(max(w[1] for w in WINDOWS_MS) * b2.ms)
    t, i = np.asarray(spikes.t / b2.ms), np.asarray(spikes.i)
    rates = [((t >= a - 1e-6) & (t < b - 1e-6)).sum() / N / (b - a) * 1000 for a, b in WINDOWS_MS]
    late = t >= WINDOWS_MS[0][0] - 1e-6
    return rates, cv_isi(t[late], i[late])


def main():
    network, seeds = sys.argv[1], int(sys.argv[2])
    crossing = {"refractory": "v > v_th"} if "--crossing" in sys.argv else {}
    rows = []
    for seed in range(seeds):
        rows.append(run(network, seed, crossing))
        print(seed, rows[-1], file=sys.stderr, flush=True)
    for k, window in enumerate(WINDOWS_MS):
        print(json.dumps({"window_ms": window, "rate_hz_by_seed": [round(r[0][k], 4) for r in rows]}))
    print(json.dumps({"cv_isi_by_seed": [round(r[1], 4) for r in rows]}))


if __name__ == "__main__":
    main()
