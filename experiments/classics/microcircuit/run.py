"""The cortical microcircuit of Potjans and Diesmann 2014: rates and CVs of its eight populations beside NEST's.

`python -m experiments.classics.microcircuit [--quick] [--scale F] [--seeds N] [--out PATH]`
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
from .model import POPULATIONS, microcircuit

HERE = Path(__file__).parent
DT, START = 0.1, 500.0  # ms
Trains = dict[str, tuple[np.ndarray, np.ndarray]]


def run(scale: float, seed: int, stop: float) -> tuple[dict, Trains]:
    """Rates (Hz) and CVs from START to stop (ms) and seconds to build and to run; the spikes."""
    began = time.perf_counter()
    net = microcircuit(scale, seed)
    built = time.perf_counter()
    recordings = [bs.Spikes(p, max_rate=50.0) for p in POPULATIONS]
    sol = jax.block_until_ready(bs.simulate(net, t1=stop, dt=DT, key=jax.random.key(seed), saveat=recordings))
    times = {"build_s": built - began, "run_s": time.perf_counter() - built}
    trains = {p: tuple(np.asarray(x) for x in sol.spikes(p)) for p in POPULATIONS}
    trains = {p: (t[t > START], i[t > START]) for p, (t, i) in trains.items()}
    rates = [t.size / net.nodes[p].size / (stop - START) * 1e3 for p, (t, _) in trains.items()]
    cv = [cv_isi(t, i, 4, ddof=1) for t, i in trains.values()]
    figures = {"rates": np.round(rates, 4).tolist(), "cv": np.round(cv, 4).tolist()}
    return figures | {k: round(v, 3) for k, v in times.items()}, trains


def figure(trains: Trains, means: dict, path: Path) -> None:
    """Raster of 200 ms, a tenth of every population, as in the paper's figure 6; rates beside NEST's."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 1), layout="constrained")
    end, top = max(t.max() for t, _ in trains.values()), 0
    for k, (t, i) in enumerate(trains.values()):
        few = (t > end - 200) & (i % 10 == 0)
        left.plot(t[few], -(top + i[few] // 10), ".", ms=2, color="C0" if k % 2 == 0 else "C3")
        top += i.max() // 10 + 1
    left.set(xlabel="t (ms)", ylabel="L2/3 (top) to L6, every tenth unit", yticks=[])
    rows = np.arange(len(POPULATIONS))
    for k, name in enumerate(("brainsim", "nest")):
        right.barh(rows + 0.4 * k, [x[name] for x in means["rates"]], 0.4, label=name)
    right.set(yticks=rows + 0.2, yticklabels=POPULATIONS, xlabel="rate (Hz)")
    right.invert_yaxis()
    right.legend()
    fig.savefig(path, dpi=80)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, 1.5 s")
    parser.add_argument("--scale", type=float, default=0.1, help="of the numbers of neurons and of synapses of each")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    args = parser.parse_args()
    stop = START + (1_000.0 if args.quick else 10_000.0)
    nest = json.loads((HERE / "nest.json").read_text())
    runs = [run(args.scale, seed, stop) for seed in range(2 if args.quick else max(args.seeds, 2))]
    seeds, trains = [x for x, _ in runs], runs[-1][1]
    means = {
        k: [compared([x[k][p] for x in seeds], [x[p] for x in nest[k]]) for p in range(len(POPULATIONS))]
        for k in ("rates", "cv")
    }
    table = Table("", "", "brainsim", "NEST, 10 %", "distance", "allowed", title=f"Microcircuit, scale {args.scale:g}")
    for k, rows in means.items():
        for p, x in zip(POPULATIONS, rows):
            table.add_row(k, p, *(f"{v:.4g}" for v in x.values()))
    compiling = seeds[0]["run_s"] - seeds[1]["run_s"]  # the second network has the shapes of the first
    times = {"build_s": seeds[0]["build_s"], "compile_s": round(compiling, 3), "run_s": seeds[1]["run_s"]}
    Console().print(table, times)
    results = {"experiment": "microcircuit", "quick": args.quick, "commit": commit(), "dt_ms": DT}
    results |= {"scale": args.scale, "stop_ms": stop, "times": times, "seeds": seeds, **means}
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
        if not args.quick:
            figure(trains, means, out.with_name("figure.png"))
