"""The fly's brain at its size: time to build and to run, rates, memory; beside Brian2 where there is one.

`python -m experiments.classics.fly_brain [--data FOLDER] [--quick] [--brian PYTHON] [--out PATH]`

A full run writes `figure.png` beside its results.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import brainsim as bs

from ..._provenance import commit
from .model import fly_brain
from .synthetic import synthetic

HERE = Path(__file__).parent
SUGAR, RATE, SEED = 21, 150.0, 0
"""Neurons stimulated, as many as there are sugar receptors on one side; their rate (Hz)."""


def wiring(data: Path | None, quick: bool) -> bs.Connectome:
    """The tables in `data`, or a random wiring."""
    if data is None:
        return synthetic(5000) if quick else synthetic()
    files = [next(iter(sorted(data.glob(pattern))), None) for pattern in ("*ompleteness*.csv", "*onnectivity*.parquet")]
    if None in files:
        raise SystemExit(
            f"{data} has no completeness CSV and connectivity Parquet; README.md says where they are from."
        )
    return bs.connectome.read_shiu(*files)


def timed(brain: bs.Connectome, stimulated: np.ndarray, t1: float) -> tuple[dict, tuple[np.ndarray, np.ndarray]]:
    """Seconds to build, to run first and to run again, spikes and memory; times (ms) and neurons of the spikes."""
    began = time.perf_counter()
    net = fly_brain(brain, bs.Poisson(RATE), stimulated)
    out: dict = {"build_s": time.perf_counter() - began, "runs_s": []}
    for seed in (SEED, SEED, SEED):
        began = time.perf_counter()
        recording = bs.Spikes("brain", max_rate=20.0)
        rules = dict(dt=0.1, solver=bs.ExponentialEuler(), key=jax.random.key(seed), saveat=[recording])
        sol = jax.block_until_ready(bs.simulate(net, t1=t1, **rules))
        out["runs_s"].append(time.perf_counter() - began)
    times, ids = map(np.asarray, sol.spikes("brain"))
    out |= {"spikes": ids.size, "active": np.unique(ids).size, "mean_rate_hz": ids.size / len(brain) / t1 * 1e3}
    return out | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}, (times, ids)


def reached(brain: bs.Connectome, ids: np.ndarray) -> dict:
    """The share of blocks of units that a spike, of their own or of a neuron before them, reaches in the run."""
    active = np.zeros(len(brain), bool)
    active[ids] = True
    active[brain.post[active[brain.pre]]] = True
    units = np.flatnonzero(active)
    return {str(size): np.unique(units // size).size / -(-len(brain) // size) for size in (1, 4, 16, 64)}


def figure(spikes: tuple[np.ndarray, np.ndarray], stimulated: np.ndarray, results: dict, path: Path) -> None:
    """Spikes of the neurons that have any, the stimulated ones first; seconds of a run; blocks reached."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    times, ids = spikes
    order = np.concatenate([stimulated, np.setdiff1d(ids, stimulated)])
    row = np.argsort(order)[np.searchsorted(np.sort(order), ids)]
    fig, (raster, wall, blocks) = plt.subplots(1, 3, figsize=(9, 2.8), width_ratios=(3, 1, 1), layout="constrained")
    for chosen, label in ((row < stimulated.size, "stimulated"), (row >= stimulated.size, "others")):
        raster.plot(times[chosen], row[chosen], ".", ms=1.5, label=label)
    raster.set(xlabel="time (ms)", ylabel="neuron", title=f"{order.size} of {results['neurons']} neurons spike")
    raster.legend(loc="upper right", fontsize=7)
    seconds = {"brainsim": min(results["brainsim"]["runs_s"][1:])}
    if "brian2_standalone" in results:
        seconds["Brian2"] = results["brian2_standalone"]["run_s"]
    wall.bar(list(seconds), list(seconds.values()), color=["C0", "C7"][: len(seconds)])
    wall.set(ylabel="wall time of the run (s)")
    blocks.bar(list(results["reached"]), [100 * x for x in results["reached"].values()], color="C2")
    blocks.set(xlabel="units in a block", ylabel="blocks that a spike reaches (%)")
    fig.savefig(path, dpi=100)
    plt.close(fig)


def brian(python: str, brain: bs.Connectome, stimulated: np.ndarray, t1: float) -> dict:
    """The same in Brian2's C++ standalone, one thread; the time of the run alone, as Brian2 reports it."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("problem.npz", "result.npz")]
        rules = {"n": len(brain), "stimulated": stimulated, "rate": RATE, "t1": t1}
        np.savez(files[0], pre=brain.pre, post=brain.post, weight=brain.weight, **rules)
        subprocess.run([python, str(HERE / "brian.py"), *files, "standalone"], check=True, cwd=folder)
        with np.load(files[1]) as z:
            return {"run_s": float(z["wall"]), "spikes": z["ids"].size, "active": np.unique(z["ids"]).size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the tables of Shiu et al. 2024")
    parser.add_argument("--brian", help="interpreter of an environment with Brian2")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    args = parser.parse_args()
    t1 = 100.0 if args.quick else 1000.0  # ms
    brain = wiring(args.data, args.quick)
    stimulated = np.sort(np.random.default_rng(SEED).choice(len(brain), SUGAR, replace=False))
    results = {"commit": commit(), "quick": args.quick, "wiring": repr(brain), "t1_ms": t1, "stimulated_hz": RATE}
    results |= {"neurons": len(brain), "load": os.getloadavg()[0]}
    results["brainsim"], spikes = timed(brain, stimulated, t1)
    results["reached"] = reached(brain, spikes[1])
    if args.brian:
        results["brian2_standalone"] = brian(args.brian, brain, stimulated, t1)
    print(json.dumps(results, indent=2))
    args.out.write_text(json.dumps(results, indent=2) + "\n")
    if not args.quick:
        figure(spikes, stimulated, results, args.out.with_name("figure.png"))
