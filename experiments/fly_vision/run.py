"""The fly's optic lobe learns to report the motion of textures; how direction-selective T4 and T5 become.

`python -m experiments.fly_vision.run [--quick] [--seeds 3] [--extent 5] [--steps 400] [--out PATH]`
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import brainsim as bs

from .._provenance import commit
from .model import FILTERS, Lobe
from .task import PUBLISHED, calibrated, columns, error, learn, shuffled, tuning

HERE = Path(__file__).parent
SEEDS, TEST = 3, 128  # textures that the error is measured with, the same for all
WIRINGS = ("measured", "shuffled")


def one(
    wiring: str, seed: int, extent: int, steps: int, textures: int = TEST, keep: Path | None = None
) -> dict[str, Any]:
    """One network before and after it has learnt: its error on new textures, selectivity of T4 and T5."""
    brain = bs.connectome.read_optic_lobe(FILTERS, extent=extent)
    brain = shuffled(brain, seed) if wiring == "shuffled" else brain
    place, keys = columns(brain), jax.random.split(jax.random.key(seed), 3)
    lobe = eqx.filter_jit(calibrated)(Lobe(brain, keys[0]), place, keys[1])
    judge = eqx.filter_jit(error)
    test = jax.random.split(jax.random.key(99), textures)
    out: dict[str, Any] = {"error_before": float(judge(lobe, place, test)), "before": tuning(lobe, brain)}
    began = time.perf_counter()
    fitted = learn(lobe, place, keys[2], steps, keep)
    out["fit_s"] = time.perf_counter() - began
    block = max(steps // 20, 1)
    history = np.asarray(fitted.history).reshape(steps, -1)[:, 0]
    out["history"] = history[: steps // block * block].reshape(-1, block).mean(1).tolist()
    return out | {"error": float(judge(fitted.net, place, test)), "after": tuning(fitted.net, brain)}


def apart(found: dict[str, Any]) -> float:
    """The mean distance (degrees) of the preferred directions of T4 and T5 from those published."""
    off = [(x["preferred_deg"] - PUBLISHED[name[-1]] + 180.0) % 360.0 - 180.0 for name, x in found.items()]
    return float(np.mean(np.abs(off)))


def collected(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """By wiring, the mean over seeds of the errors, of the selectivity of each type and of the distances."""
    out = {}
    for wiring, found in runs.items():
        mean = {key: float(np.mean([run[key] for run in found])) for key in ("error_before", "error")}
        for when in ("before", "after"):
            mean[f"dsi_{when}"] = {
                name: float(np.mean([run[when][name]["dsi"] for run in found])) for name in found[0][when]
            }
            mean[f"degrees_from_published_{when}"] = float(np.mean([apart(run[when]) for run in found]))
        out[wiring] = mean
    return out


def figure(results: dict[str, Any], path: Path) -> None:
    """Errors while learning; responses of T4 and T5 by direction beside the published preferred ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1, 2.2))
    ax = left.subplots()
    for color, (wiring, runs) in zip(("C0", "C7"), results["runs"].items()):
        for k, run in enumerate(runs):
            steps = (np.arange(len(run["history"])) + 0.5) * results["steps"] / len(run["history"])
            ax.plot(steps, run["history"], color=color, lw=1, label=wiring if k == 0 else None)
    ax.set(xlabel="step", ylabel="error of the velocity (1: a constant)", ylim=(0, None))
    ax.legend(fontsize=8)
    axes = right.subplots(2, 4, subplot_kw={"projection": "polar"})
    for ax, name in zip(axes.ravel(), results["runs"]["measured"][0]["after"]):
        for color, (_, runs) in zip(("C0", "C7"), results["runs"].items()):
            for run in runs:
                r = np.array(run["after"][name]["response"])
                around = np.linspace(0, 2 * np.pi, r.size + 1)
                ax.plot(around, np.append(r, r[0]) / max(r.max(), 1e-9), color=color, lw=1)
        ax.plot([np.radians(PUBLISHED[name[-1]])] * 2, [0, 1], "k", lw=1.5)
        ax.set(xticks=[], yticks=[], ylim=(0, 1.05))
        ax.set_title(name, fontsize=8)
    fig.savefig(path, dpi=90)
    plt.close(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--extent", type=int, default=5, help="columns from the middle to the border; 15 as published")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    args = parser.parse_args()
    extent, steps, seeds, textures = (2, 2, 1, 4) if args.quick else (args.extent, args.steps, args.seeds, TEST)
    runs = {wiring: [one(wiring, seed, extent, steps, textures) for seed in range(seeds)] for wiring in WIRINGS}
    write(runs, extent, steps, args.quick, args.out)


def write(runs: dict[str, list[dict[str, Any]]], extent: int, steps: int, quick: bool, out: Path) -> None:
    """Results, and the figure of a full run."""
    wiring = repr(bs.connectome.read_optic_lobe(FILTERS, extent=extent))
    results = {"commit": commit(), "quick": quick, "wiring": wiring, "extent": extent, "steps": steps}
    results |= {"mean": collected(runs), "runs": runs}
    print(json.dumps(results["mean"], indent=1))
    out.write_text(json.dumps(results, indent=1) + "\n")
    if not quick:
        figure(results, out.with_name("figure.png"))


if __name__ == "__main__":
    main()
