"""The four regimes of Brunel 2000: rates and CVs beside NEST's, rasters as in the paper's figure 8.

`python -m experiments.classics.brunel2000 [--quick] [--seeds N] [--out PATH]`
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs

from ..._provenance import commit
from ...benchmarks.networks import cv_isi
from .._nest import compared
from .model import N_E, N_I, REGIMES, brunel

HERE = Path(__file__).parent
DT = 0.1  # ms
FIGURES = ("rate_e", "rate_i", "cv")


def regime(
    name: str, seed: int, start: float, stop: float, at: str = "end"
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Rates (Hz) and CV between start and stop (ms), seconds to build and to run; times and units of the spikes."""
    _, g, eta = REGIMES[name]
    began = time.perf_counter()
    net = brunel(g, eta, seed, at)
    built = time.perf_counter()
    recording = bs.Spikes("P", max_rate=500.0)
    sol = bs.simulate(net, t1=stop, dt=DT, key=jax.random.key(seed), saveat=[recording])
    t, i = map(np.asarray, sol.spikes("P"))
    times = {"build_s": built - began, "compile_and_run_s": time.perf_counter() - built}
    t, i = t[t > start], i[t > start]
    window = (stop - start) * 1e-3
    rates = {"rate_e": np.sum(i < N_E) / N_E / window, "rate_i": np.sum(i >= N_E) / N_I / window}
    figures = {**rates, "cv": cv_isi(t, i, 4, ddof=1)}
    return {k: round(float(v), 4) for k, v in (figures | times).items()}, (t, i)


def figure(rasters: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Of every regime 50 units and the rate of all in bins of 0.5 ms, the last 200 ms."""
    import matplotlib.pyplot as plt

    shape = dict(figsize=(13, 3.4), sharex="col", height_ratios=(2, 1), layout="constrained")
    fig, axes = plt.subplots(2, len(rasters), **shape)
    for (top, bottom), (name, (t, i)) in zip(axes.T, rasters.items()):
        title, g, eta = REGIMES[name]
        end = np.ceil(t.max())
        edges = np.arange(end - 200, end + 0.5, 0.5)
        few = (i < 50) & (t > end - 200)
        top.plot(t[few], i[few], "k.", ms=1.5)
        top.set(title=f"{name}: g = {g:g}, eta = {eta:g}\n{title}", yticks=[])
        bottom.step(edges[:-1], np.histogram(t, edges)[0] / (N_E + N_I) / 0.5e-3, color="k", lw=0.7)
        bottom.set(xlabel="t (ms)")
    axes[0, 0].set_ylabel("units")
    axes[1, 0].set_ylabel("rate (Hz)")
    fig.savefig(path, dpi=80)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, 0.4 s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    args = parser.parse_args()
    nest = json.loads((HERE / "nest.json").read_text())["regimes"]
    results: dict = {"experiment": "brunel2000", "quick": args.quick, "commit": commit(), "dt_ms": DT, "regimes": {}}
    table = Table("regime", "", "brainsim", "NEST", "distance", "allowed", title="Brunel 2000")
    rasters = {}
    for name in REGIMES:
        start, stop = (100.0, 500.0) if args.quick else (nest[name]["start"], nest[name]["stop"])
        seeds = []
        for seed in range(1 if args.quick else args.seeds):
            found, rasters[name] = regime(name, seed, start, stop)
            seeds.append(found)
        means = {k: compared([x[k] for x in seeds], nest[name][k]) for k in FIGURES}
        results["regimes"][name] = {"seeds": seeds, **means}
        for k, x in means.items():
            table.add_row(name, k, *(f"{v:.4g}" for v in x.values()))
    Console().print(table)
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
        if not args.quick:
            figure(rasters, out.with_name("figure.png"))
