"""Bits against accuracy and energy: the Braille network of the NIR paper rounded for Loihi after training.

`python -m experiments.braille_bits [--quick] [--data PATH] [--out PATH]` prints the tables; the full run writes
`results.json` and `figure.png` beside this file.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim.lower import LOIHI1, Lowered, discretise, ledger, legalise, tuned

from .._provenance import commit
from .model import BUNDLED, DT, HERE, letters, network, recordings, run

HOW: dict[str, Any] = dict(dt=DT, solver=diffrax.Euler())
COUNTED = 20
"""Recordings, held out, that energy is counted on."""


def accuracy(net: bs.Network, data: tuple, dt: float = 1.0) -> dict[str, float]:
    """Letters read rightly (%), of all recordings and of those held out; the step of an image is 1."""
    x, y, held = data
    right = letters(net, x, dt) == y
    return {
        "all": 100 * float(right.mean()),
        "held_out": 100 * float(right[held].mean()),
    }


def chosen(data: tuple, n: int) -> np.ndarray:
    """Training recordings that scales are chosen on."""
    return data[0][np.random.default_rng(0).permutation(np.flatnonzero(~data[2]))[:n]]


def cost(lowered: Lowered, data: tuple) -> dict[str, Any]:
    """Cores of Loihi 1, and events and energy of a recording."""
    x, _, held = data
    layout = legalise(lowered.image.tables)
    names, some = list(lowered.image.tables.cells), x[held][:COUNTED]
    found = {k: np.asarray(v) for k, v in run(lowered.image.net, jnp.asarray(some), 1.0, True).items()}
    books = [
        ledger(
            lowered.image,
            layout,
            {n: found[f"{n}.events"][k] for n in names} | {"x": some[k]},
            {n: found[f"{n}.v"][k] for n in names},
        )
        for k in range(len(some))
    ]
    energy = {
        table: 1e-6 * float(np.mean([sum(b.energy(facts).values()) for b in books]))
        for table, facts in LOIHI1.energy.items()
    }
    synaptic = float(np.mean([b.synaptic_events.sum() for b in books]))
    return {"cores": layout.n_cores, "synaptic_events": synaptic, "energy_uj": energy}


def post_training(net: bs.Network, data: tuple, seen: dict, bits: tuple[int, ...], say: Callable) -> list[dict]:
    """Rounded without training: scales at the largest synapse or chosen by output, constant currents in three ways."""
    rows = []
    for width in bits:
        for synapses in (0, 1):
            ways = {"largest": discretise(net, bits=width, bias_synapses=synapses, **HOW)}
            ways["output"] = tuned(net, seen, bits=width, bias_synapses=synapses, **HOW)
            for scales, lowered in ways.items():
                row = {"bits": width, "bias_synapses": synapses, "scales": scales}
                row |= accuracy(lowered.image.net, data) | cost(lowered, data)
                rows.append(row)
                say(f"{width} bits, {synapses} synapses of bias, {scales}: {row['all']:.1f} / {row['held_out']:.1f} %")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.braille_bits", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two widths, few recordings; no claim")
    parser.add_argument("--data", type=Path, default=BUNDLED, help="the Braille recordings (.npz)")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results")
    args = parser.parse_args()
    console, began = Console(), time.perf_counter()

    def say(text: str) -> None:
        console.print(f"{time.perf_counter() - began:5.0f} s  {text}", highlight=False)

    data = recordings(args.data)
    if args.quick:
        keep = np.random.default_rng(0).permutation(len(data[1]))[:200]
        data = (data[0][keep], data[1][keep], data[2][keep])
    net = network()
    floating = accuracy(net, data, DT)
    say(f"float: {floating['all']:.1f} / {floating['held_out']:.1f} %")
    some = chosen(data, 40 if args.quick else 600)
    seen = {k.partition(".")[0]: np.asarray(v) for k, v in run(net, jnp.asarray(some)).items()} | {"x": some}
    results = {
        "quick": args.quick,
        "commit": commit(),
        "recordings": len(data[1]),
        "float": floating,
    }
    results["post_training"] = post_training(net, data, seen, (8, 3) if args.quick else (8, 6, 4, 3), say)
    results["seconds"] = time.perf_counter() - began
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    show(results, console)
    if not args.quick:
        draw(results, HERE / "figure.png")


def show(results: dict, console: Console) -> None:
    """Print the tables."""
    table = Table(
        title=f"after training; in float {results['float']['all']:.1f} / {results['float']['held_out']:.1f} %"
    )
    for name in (
        "bits",
        "bias synapses",
        "scales",
        "all (%)",
        "held out (%)",
        "cores",
        "events",
        "energy (uJ)",
    ):
        table.add_column(name, justify="right")
    for r in results["post_training"]:
        energy = " .. ".join(f"{e:.2f}" for e in sorted(r["energy_uj"].values()))
        shown = (
            r["bits"],
            r["bias_synapses"],
            r["scales"],
            f"{r['all']:.1f}",
            f"{r['held_out']:.1f}",
            r["cores"],
        )
        table.add_row(*map(str, shown), f"{r['synaptic_events']:,.0f}", energy)
    console.print(table)


def draw(results: dict, path: Path) -> None:
    """Accuracy against bits, and against energy."""
    from matplotlib.figure import Figure

    from brainsim.plot import COLOURS

    canvas = Figure(figsize=(7.4, 3.0), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True)
    for scales, synapses in ((s, n) for s in ("largest", "output") for n in (0, 1)):
        rows = [r for r in results["post_training"] if (r["scales"], r["bias_synapses"]) == (scales, synapses)]
        style = dict(
            color=COLOURS[synapses],
            linestyle="-" if scales == "output" else ":",
            marker="o",
            markersize=3,
        )
        label = f"{scales} scales, {synapses} synapses of bias"
        left.plot([r["bits"] for r in rows], [r["all"] for r in rows], label=label, **style)
        energy = [np.mean(list(r["energy_uj"].values())) for r in rows]
        right.plot(energy, [r["all"] for r in rows], **style)
        for r in rows:
            low, high = sorted(r["energy_uj"].values())
            right.plot([low, high], [r["all"]] * 2, color=COLOURS[synapses], linewidth=0.4)
    for ax in (left, right):
        ax.axhline(results["float"]["all"], color="0.6", linewidth=0.7)
        ax.spines[["top", "right"]].set_visible(False)
    left.set(xlabel="bits of a weight", ylabel="letters read (%)", ylim=(0, 100))
    right.set(xlabel="energy of a recording (uJ, estimate)")
    left.legend(frameon=False, fontsize=6, loc="lower right")
    canvas.savefig(path, dpi=160)
