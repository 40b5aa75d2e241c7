"""Learnt delays: planted ones found again, and what they are worth on recordings.

`python -m experiments.learned_delays [--quick] [--data PATH] [--out PATH]` prints the tables; the full run writes
`results.json` and `figure.png` beside this file. `--data` is the Free Spoken Digit Dataset as one file, see README.md;
without it the recordings are the bundled Braille events alone.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs

from .._provenance import commit
from .classify import KINDS, Settings, read, train
from .data import Recordings, braille, spoken_digits
from .identify import Found, identify, summary

HERE = Path(__file__).parent
CHOSEN = {"spoken digits": Settings(), "Braille": Settings(line=8)}


def run_kind(kind: str, parts: tuple[Recordings, Recordings], seed: int, c: Settings) -> dict:
    """Train, then read the held-out recordings once with the trained network and once with the one that will run."""
    began = time.process_time()
    training, held_out = parts
    trained = train(kind, training, seed, c)
    plain = bs.hardened(trained.net, training.dt)
    as_trained, counts = read(trained.net, trained.readout, held_out.x, held_out.dt)
    as_run, counts_run = read(plain, trained.readout, held_out.x, held_out.dt)
    return {
        "kind": kind,
        "seed": seed,
        "accuracy": float(np.mean(as_run == held_out.y)),
        "accuracy_before_rounding": float(np.mean(as_trained == held_out.y)),
        "counts_that_differ": int(np.sum(counts != counts_run)),
        "events_per_recording": float(np.mean(np.sum(counts_run, axis=1))),
        "train_accuracy": float(np.mean(read(plain, trained.readout, training.x, training.dt)[0] == training.y)),
        "loss": trained.losses[-1],
        "cpu_s": time.process_time() - began,
    }


def accuracies(runs: list[dict], kind: str) -> np.ndarray:
    return np.asarray([r["accuracy"] for r in runs if r["kind"] == kind])


def figure(found: Found, recordings: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from brainsim.plot import COLOURS

    fig, axes = plt.subplots(1, 1 + len(recordings), figsize=(4 + 3 * len(recordings), 3.2), layout="constrained")
    axes = np.atleast_1d(axes)
    shown = dict(markersize=3, linestyle="", alpha=0.7)
    axes[0].plot(found.planted.ravel(), found.begun.ravel(), marker="o", color="0.8", label="at first", **shown)
    axes[0].plot(found.planted.ravel(), found.learnt.ravel(), marker="o", color=COLOURS[0], label="learnt", **shown)
    axes[0].set(xlabel="planted delay (ms)", ylabel="delay of the student (ms)")
    axes[0].legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, 1.15), ncols=2)
    for ax, group in zip(axes[1:], recordings):
        for k, kind in enumerate(KINDS):
            values = 100 * accuracies(group["runs"], kind)
            ax.plot([k] * len(values), values, "o", color=COLOURS[k], alpha=0.6)
            ax.plot([k - 0.25, k + 0.25], [values.mean()] * 2, color=COLOURS[k])
        ax.set(
            title=group["of"], xticks=range(len(KINDS)), xticklabels=["no delays", "fixed", "learnt"], xlim=(-0.5, 2.5)
        )
        ax.set_ylabel("held-out accuracy (%)")
    fig.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under two minutes, and no claim")
    parser.add_argument("--data", type=Path, default=None, help="fsdd.npz, the spoken digits (default: Braille alone)")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    args = parser.parse_args()
    if args.data is not None and not args.data.is_file():
        parser.error(f"--data {args.data} is not a file; expected fsdd.npz, see experiments/learned_delays/README.md.")
    console, seeds = Console(), (0,) if args.quick else (0, 1, 2)
    updates = 400 if args.quick else 1200

    found, planted = {}, []
    for seed in seeds:
        found[seed] = identify(seed, updates)
        planted.append(summary(found[seed], seed))
        console.print(planted[-1])

    recordings = []
    sets = {} if args.data is None else {"spoken digits": spoken_digits(args.data)}
    if not (sets and args.quick):
        sets["Braille"] = braille()
    for name, parts in sets.items():
        c = CHOSEN[name]
        if args.quick:
            parts = tuple(one.part(np.arange(128)) for one in parts)
            c = dataclasses.replace(c, hidden=16, line=4, epochs=2)
        runs = []
        for kind in ["learnt"] if args.quick else KINDS:
            for seed in seeds:
                runs.append(run_kind(kind, parts, seed, c))
                console.print(name, runs[-1])
        recordings.append({"of": name, "settings": dataclasses.asdict(c), "step_ms": parts[0].dt, "runs": runs})

    table = Table("recordings", "delays", "held-out accuracy", "range", "training", "CPU time of a run (s)")
    for group in recordings:
        for kind in dict.fromkeys(r["kind"] for r in group["runs"]):
            mine, a = [r for r in group["runs"] if r["kind"] == kind], 100 * accuracies(group["runs"], kind)
            means = [np.mean([r[key] for r in mine]) for key in ("train_accuracy", "cpu_s")]
            spread = f"{a.min():.1f} to {a.max():.1f} %"
            table.add_row(group["of"], kind, f"{a.mean():.1f} %", spread, f"{100 * means[0]:.1f} %", f"{means[1]:.0f}")
    console.print(table)
    results = {
        "commit": commit(),
        "quick": args.quick,
        "seeds": list(seeds),
        "planted": {"updates": updates, "runs": planted},
        "recordings": recordings,
    }
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not args.quick:
        figure(found[0], recordings, HERE / "figure.png")
