"""Five-fold cross-validation of a trained spiking network on all Braille recordings.

`python -m experiments.braille [--quick] [--out PATH]` prints the tables; the full run writes `results.json` and
`figure.png` beside this file.
"""

import argparse
import dataclasses
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from brainsim._demo._data import LETTERS, Letters, path, ridge

from .._provenance import commit
from .model import Settings, cross_entropy, probabilities, train

HERE = Path(__file__).parent
FOLDS, SEED, MEMBERS = 5, 0, 3
TRIAL_EPOCHS = 40
VARIANTS = {
    "leaky, recurrent, windows": Settings(),
    "adaptive threshold": Settings(adaptive=True),
    "no recurrence": Settings(recurrent=False),
    "readout: mean potential": Settings(readout="mean"),
    "readout: largest potential": Settings(readout="max"),
}
"""What each fold chooses from, by trials on a part of its training part: these are the ablation too."""


def folds(y: Int[np.ndarray, " n"], n: int, seed: int) -> Int[np.ndarray, " n"]:
    """The fold of each sample: every letter is dealt out evenly, in random order."""
    rng, fold = np.random.default_rng(seed), np.empty(len(y), int)
    for letter in range(LETTERS):
        here = rng.permutation(np.flatnonzero(y == letter))
        fold[here] = np.arange(len(here)) % n
    return fold


def recordings() -> tuple[Letters, tuple[str, ...]]:
    """All recordings, in the order of the file, and the names of the letters."""
    with path().open("rb") as file, np.load(file) as z:
        data = Letters(z["spikes"].astype(np.float32), z["label"].astype(np.int32))
        return data, tuple(str(name) for name in z["class_names"])


def part(data: Letters, where: np.ndarray) -> Letters:
    return Letters(data.x[where], data.y[where])


def accuracy(p: Float[np.ndarray, "n letter"], y: Int[np.ndarray, " n"]) -> float:
    return float(np.mean(np.argmax(p, -1) == y))


def one_fold(train_part: Letters, test_part: Letters, members: int, variants: dict[str, Settings], seed: int) -> dict:
    """Choose a variant on a fifth of the training part, train `members` networks on all of it, read the test part."""
    began = time.perf_counter(), time.process_time()
    inner = folds(train_part.y, FOLDS, seed + 1000)
    learnt, validation = part(train_part, inner != 0), part(train_part, inner == 0)

    def tried(c: Settings) -> dict:
        net = train(learnt, dataclasses.replace(c, epochs=min(TRIAL_EPOCHS, c.epochs)), seed)
        p = probabilities([net["read"](validation.x)])
        return {
            "accuracy": accuracy(p, validation.y),
            "cross_entropy": cross_entropy(p, validation.y),
            "rate_hz": net["rate_hz"],
        }

    # two networks at a time: one of this size gains little from a second core
    with ThreadPoolExecutor(2) as pool:
        tries = dict(zip(variants, pool.map(tried, variants.values())))
        chosen = min(tries, key=lambda name: tries[name]["cross_entropy"])
        nets = list(pool.map(lambda k: train(train_part, variants[chosen], seed + k), range(members)))
    logits = [net["read"](test_part.x) for net in nets]  # the one and only look at the test part
    p = probabilities(logits)
    confusion = np.zeros((LETTERS, LETTERS), int)
    np.add.at(confusion, (test_part.y, np.argmax(p, -1)), 1)
    return {
        "validation": tries,
        "chosen": chosen,
        "accuracy": accuracy(p, test_part.y),
        "members": [accuracy(x, test_part.y) for x in logits],
        "cross_entropy": cross_entropy(p, test_part.y),
        "rate_hz": [net["rate_hz"] for net in nets],
        "confusion": confusion.tolist(),
        "samples": len(test_part.y),
        "wall_s": time.perf_counter() - began[0],
        "cpu_s": time.process_time() - began[1],
    }


def figure(results: dict, names: tuple[str, ...], to: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", width_ratios=(1, 1.1))
    total = np.sum([f["confusion"] for f in results["folds"]], axis=0)
    shares = total / total.sum(1, keepdims=True)
    left.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for i, j in np.argwhere(total):
        left.text(j, i, total[i, j], ha="center", va="center", color="w" if shares[i, j] > 0.5 else "k", fontsize=8)
    left.set(xlabel="read", ylabel="letter", title="test recordings of all folds")
    left.set_xticks(range(LETTERS), names)
    left.set_yticks(range(LETTERS), names)
    k = np.arange(len(results["folds"]))
    for i, fold in enumerate(results["folds"]):
        one = right.plot(np.full(len(fold["members"]), i), np.multiply(100.0, fold["members"]), "o", color="0.6", ms=4)
    one[0].set_label("one network")
    right.plot(k, [100.0 * f["accuracy"] for f in results["folds"]], "s", color="C0", label="their ensemble")
    right.plot(k, [100.0 * f["ridge"] for f in results["folds"]], "^", color="C1", label="ridge on counts")
    right.axhline(93.0, color="k", lw=0.8, ls=":")
    right.set(xlabel="fold", ylabel="test accuracy (%)", xticks=k, ylim=(80, 100))
    right.legend(loc="lower right")
    plt.savefig(to, dpi=120)


def show(results: dict, which: list[int], console: Console) -> None:
    table = Table("fold", "chosen", "ensemble", "single networks", "ridge", "wall (s)", "CPU (s)")
    for i, f in zip(which, results["folds"]):
        singles = f"{np.mean(f['members']):.1%} ± {np.std(f['members']):.1%}"
        seconds = f"{f['wall_s']:.0f}", f"{f['cpu_s']:.0f}"
        table.add_row(str(i), f["chosen"], f"{f['accuracy']:.1%}", singles, f"{f['ridge']:.1%}", *seconds)
    s = results["summary"]
    table.add_row("mean", "", f"{s['accuracy']:.1%} ± {s['sd']:.1%}", f"{s['single']:.1%}", f"{s['ridge']:.1%}", "", "")
    console.print(table)
    table = Table("variant", "validation accuracy", "cross-entropy", "rate (Hz)")
    for name, v in results["ablation"].items():
        row = f"{v['accuracy']:.1%} ± {v['sd']:.1%}", f"{v['cross_entropy']:.3f}", f"{v['rate_hz']:.1f}"
        table.add_row(name, *row)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small fold, under two minutes, and no claim")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="only this fold, to see what it takes")
    args = parser.parse_args()
    console, (data, names) = Console(), recordings()
    variants, members = VARIANTS, MEMBERS
    if args.quick:  # within the training part of the first fold, so that no test part is read
        data = part(data, folds(data.y, FOLDS, SEED) != 0)
        small = dict(cells=48, steps=64, epochs=8, rate=1e-2)
        variants, members = {name: dataclasses.replace(c, **small) for name, c in VARIANTS.items()}, 2
    fold, made = folds(data.y, FOLDS, SEED), []
    only = 0 if args.quick else args.fold
    which = list(range(FOLDS)) if only is None else [only]
    for k in which:
        halves = part(data, fold != k), part(data, fold == k)
        made.append(one_fold(*halves, members, variants, 100 * k) | {"ridge": ridge(*halves, bins=16).accuracy})
        console.print(f"fold {k}: {made[-1]['accuracy']:.1%}, {made[-1]['wall_s']:.0f} s")
    accuracies = [f["accuracy"] for f in made]
    tries = {name: [f["validation"][name] for f in made] for name in variants}
    results = {
        "commit": commit(),
        "quick": args.quick,
        "seed": SEED,
        "trial_epochs": TRIAL_EPOCHS,
        "cores": os.cpu_count(),
        "settings": {name: dataclasses.asdict(c) for name, c in variants.items()},
        "folds": made,
        "ablation": {
            name: {key: float(np.mean([t[key] for t in ts])) for key in ("accuracy", "cross_entropy", "rate_hz")}
            | {"sd": float(np.std([t["accuracy"] for t in ts]))}
            for name, ts in tries.items()
        },
        "summary": {
            "accuracy": float(np.mean(accuracies)),
            "sd": float(np.std(accuracies)),
            "single": float(np.mean([f["members"] for f in made])),
            "ridge": float(np.mean([f["ridge"] for f in made])),
            "chance": float(np.max(np.bincount(data.y)) / len(data.y)),
        },
    }
    show(results, which, console)
    out = args.out or (None if only is not None else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if only is None:
        figure(results, names, HERE / "figure.png")
