"""The fly's brain at its size: time to build and to run, rates, memory; beside Brian2 where there is one.

`python -m experiments.classics.fly_brain [--data FOLDER] [--quick] [--brian PYTHON] [--out PATH]`
"""

import argparse
import json
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


def timed(brain: bs.Connectome, stimulated: np.ndarray, t1: float) -> dict:
    """Seconds to build, to run first and to run again, spikes and memory."""
    began = time.perf_counter()
    net = fly_brain(brain, bs.Poisson(RATE), stimulated)
    out: dict = {"build_s": time.perf_counter() - began, "runs_s": []}
    for seed in (SEED, SEED, SEED):
        began = time.perf_counter()
        recording = bs.Spikes("brain", max_rate=20.0)
        rules = dict(dt=0.1, solver=bs.ExponentialEuler(), key=jax.random.key(seed), saveat=[recording])
        sol = jax.block_until_ready(bs.simulate(net, t1=t1, **rules))
        out["runs_s"].append(time.perf_counter() - began)
    ids = np.asarray(sol.spikes("brain")[1])
    out |= {"spikes": ids.size, "active": np.unique(ids).size, "mean_rate_hz": ids.size / len(brain) / t1 * 1e3}
    return out | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


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
    results["brainsim"] = timed(brain, stimulated, t1)
    if args.brian:
        results["brian2_standalone"] = brian(args.brian, brain, stimulated, t1)
    print(json.dumps(results, indent=2))
    args.out.write_text(json.dumps(results, indent=2) + "\n")
