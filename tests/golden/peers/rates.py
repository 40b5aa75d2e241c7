"""Rates and CVs of the benchmark networks in Brian2, from the benchmark's own script, over several seeds.

`python tests/golden/peers/rates.py coba_hh 4000 2500 8 WORKDIR` with a Python that has Brian2; prints JSON.
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "experiments" / "benchmarks"))
import _sim_brian2
import networks

MIN_INTERVALS = 5  # a coefficient of variation needs a few


def cv_isi(t, i, n):
    """Mean over units of std/mean of their inter-spike intervals (ddof 0), units with at least MIN_INTERVALS."""
    order = np.lexsort((t, i))
    t, i = t[order], i[order]
    trains = np.split(t, np.flatnonzero(np.diff(i)) + 1)
    cvs = [np.std(np.diff(x)) / np.mean(np.diff(x)) for x in trains if len(x) > MIN_INTERVALS]
    return float(np.mean(cvs)), len(cvs) / n


def main():
    network, n, t_ms, seeds, workdir = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
    options = Namespace(network=network, n=n, t_ms=t_ms, threads=1, precision=None, workdir=workdir)
    about, run = _sim_brian2.prepare(options)
    rows = []
    for seed in range(seeds):
        result = run(seed)
        t, i = run.spikes
        late = t >= networks.WINDOW_START_MS
        cv, share = cv_isi(t[late], i[late], n)
        rows.append((result.rate_hz, cv, share, result.rate_whole_hz, result.run_s))
    names = ("rate_hz", "cv_isi_min5", "share_of_units_with_cv", "rate_whole_run_hz", "run_s")
    columns = dict(zip(names, np.array(rows).T, strict=True))
    out = {k: {"mean": round(float(v.mean()), 4), "sd": round(float(v.std(ddof=1)), 4)} for k, v in columns.items()}
    per_seed = {"rate_hz_per_seed": [round(float(x), 4) for x in columns["rate_hz"]]}
    out = {"n_seeds": seeds, "window_ms": [networks.WINDOW_START_MS, t_ms], **out, **per_seed}
    print(json.dumps({**out, "about": about}))


if __name__ == "__main__":
    main()
