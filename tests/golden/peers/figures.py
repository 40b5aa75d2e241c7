"""Figures of the benchmark networks in Brian2; run with a Python that has it, from the root of the repository.

`python tests/golden/peers/figures.py first coba_lif` writes ../coba_lif.npz: all spikes of the first 100 ms on the
graph and state of `networks.draw(network, 0)`, 4,000 units.
`... paired coba_hh 6` prints rates and CVs, seed by seed, on the graphs and states of `networks.draw(network, seed)`.
`... rates coba_hh 4000 2500 8 WORKDIR` prints their mean and standard deviation on graphs that Brian2 draws.
"""

import gc
import json
import sys
import zlib
from argparse import Namespace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
N = 4000
FIRST_MS = 100
WINDOWS_MS = ([500, 1000], [500, 1500], [500, 2500])


def simulate(networks, network, seed, t_ms):
    """(times in ms, units, version of Brian2) on a graph that numpy draws; code generated at run time (Cython)."""
    import _sim_brian2
    import brian2 as b2

    gc.collect()  # frees the names of the run before, so that the compiled code of the first run serves all
    b2.defaultclock.dt = networks.DT_MS * b2.ms
    group, on_exc, on_inh, _ = {"coba_lif": _sim_brian2.lif, "coba_hh": _sim_brian2.hh}[network](b2, N)
    (pre, post), state = networks.draw(network, seed, N)
    for name, value in state.items():
        setattr(group, name, value * (b2.mV if name == "v" else b2.nS))
    split = networks.n_excitatory(N)
    synapses = []
    for name, on_pre, chosen in (("exc", on_exc, pre < split), ("inh", on_inh, pre >= split)):
        synapses.append(b2.Synapses(group, group, on_pre=on_pre, name=name))
        synapses[-1].connect(i=pre[chosen], j=post[chosen])
    spikes = b2.SpikeMonitor(group, name="spikes")
    b2.Network(group, synapses, spikes).run(t_ms * b2.ms)
    return np.asarray(spikes.t / b2.ms), np.asarray(spikes.i), b2.__version__


def first(networks, network):
    t, i, version = simulate(networks, network, 0, FIRST_MS)
    (pre, post), _ = networks.draw(network, 0, N)
    np.savez_compressed(
        Path(__file__).parent.parent / f"{network}.npz",
        step=np.rint(t / networks.DT_MS).astype(np.int16),  # Brian2 labels the spike of step n with n*dt
        unit=i.astype(np.int16),
        graph=np.array([pre.size, zlib.crc32(pre.tobytes() + post.tobytes())], np.int64),  # to know the graph again
        brian2=version,
    )


def paired(networks, network, seeds):
    rates, cvs = [], []
    for seed in range(int(seeds)):
        t, i, _ = simulate(networks, network, seed, WINDOWS_MS[-1][1])
        t = t + networks.DT_MS / 2  # the middle of the step
        late = t >= WINDOWS_MS[-1][0]
        rates.append([round(networks.rate(t, N, window), 4) for window in WINDOWS_MS])
        cvs.append(round(networks.cv_isi(t[late], i[late]), 4))
        print(seed, rates[-1], cvs[-1], file=sys.stderr, flush=True)
    for k, window in enumerate(WINDOWS_MS):
        print(json.dumps({"window_ms": window, "rate_hz_by_seed": [r[k] for r in rates]}))
    print(json.dumps({"window_ms": WINDOWS_MS[-1], "cv_isi_by_seed": cvs}))


def rates(networks, network, n, t_ms, seeds, workdir):
    import _sim_brian2

    options = Namespace(network=network, n=int(n), t_ms=int(t_ms), threads=1, precision=None, workdir=workdir)
    about, run = _sim_brian2.prepare(options)
    rows = []
    for seed in range(int(seeds)):
        result = run(seed)
        t, i = run.spikes
        late = t >= networks.WINDOW_START_MS
        rows.append((result.rate_hz, networks.cv_isi(t[late], i[late]), result.rate_whole_hz, result.run_s))
    columns = dict(zip(("rate_hz", "cv_isi_min5", "rate_whole_run_hz", "run_s"), np.array(rows).T, strict=True))
    out = {k: {"mean": round(float(v.mean()), 4), "sd": round(float(v.std(ddof=1)), 4)} for k, v in columns.items()}
    out["rate_hz_per_seed"] = [round(float(x), 4) for x in columns["rate_hz"]]
    print(
        json.dumps({"n_seeds": int(seeds), "window_ms": [networks.WINDOW_START_MS, int(t_ms)], **out, "about": about})
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "experiments" / "benchmarks"))
    import networks as constants

    {"first": first, "paired": paired, "rates": rates}[sys.argv[1]](constants, *sys.argv[2:])
