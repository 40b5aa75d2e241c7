"""An associative memory after CA3: the recall table counted in whole numbers, in float spikes, and on chips.

`python -m experiments.ca3_memory [--quick] [--out PATH]` prints the tables; the full run writes `results.json` and
`figure.png` beside this file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from brainsim.lower import IDEAL, LOIHI1, SPINNAKER2, discretise, float_image, lower

from .._provenance import commit
from .model import ACTIVE, CYCLE, DT, Memory, network, played, spikes, waves

HERE = Path(__file__).parent
HOW: dict[str, Any] = dict(dt=DT, solver=diffrax.Euler())
STORED, KNOWN = (50, 100, 200, 300, 400, 600), (4, 8, 12, 16)
BITS = (8, 6, 5, 4)
ON_GRID = 240 / 254
"""Factor of the scale by which -15 and 1 become -240 and 16, both on the grid; at 1 the larger becomes 254."""


def scores(wave: np.ndarray, patterns: np.ndarray) -> dict[str, float]:
    """Of the last wave: patterns recalled without an error, cells missing and cells too many."""
    wrong = wave - patterns
    return {
        "exact": float(np.mean(~wrong.any(1))),
        "missing": float((wrong < 0).sum(1).mean()),
        "spurious": float((wrong > 0).sum(1).mean()),
    }


def table(stored: int, n: int, seed: int, bits: tuple[int, ...]) -> tuple[list[dict], list[dict]]:
    """Recalls with `stored` patterns: a row a cue, and a row a width on chips."""
    memory, rows = Memory.of(stored, seed), []
    cues = np.concatenate([memory.cues(known, n, seed) for known in KNOWN])
    patterns, x = np.concatenate([memory.patterns[:n]] * len(KNOWN)), jnp.asarray(played(cues))
    got = {}
    for inhibition in (True, False):
        events = np.asarray(spikes(network(memory, inhibition), x, DT))
        want, (found, outside) = memory.recall(cues, inhibition), waves(events)
        got[inhibition] = events
        for k, known in enumerate(KNOWN):
            some = slice(k * n, (k + 1) * n)
            row = {"stored": stored, "known": known, "inhibition": inhibition, "recalls": n}
            row |= scores(want[-1, some], patterns[some])
            row |= {"cells": int(found[:, some].size), "wrong": int((found[:, some] != want[:, some]).sum())}
            rows.append(row | {"outside": outside})
    net, chips = network(memory), []
    for width in bits:
        images = {"loihi, on the grid": discretise(net, bits=width, factor=ON_GRID, **HOW).image.net}
        images["loihi"] = discretise(net, bits=width, **HOW).image.net
        images["ideal"] = float_image(net, IDEAL, bits=width, per_neuron=True, **HOW).net
        if width == 8:
            images["spinnaker2"] = float_image(net, SPINNAKER2, **HOW).net
        for target, image in images.items():
            events = np.asarray(spikes(image, x, 1.0))
            row = {"stored": stored, "bits": width, "target": target, "spikes": int(got[True].sum())}
            row |= {"differ": int((events != got[True]).sum())}
            chips.append(row | scores(events[:, -CYCLE:].any(1).astype(int), patterns))
    return rows, chips


def cost(stored: int, seed: int) -> dict[str, Any]:
    """What one recall costs on Loihi 1: an estimate."""
    memory = Memory.of(stored, seed)
    x = played(memory.cues(ACTIVE // 2, 1, seed))[0]
    outcome = lower(network(memory), LOIHI1, inputs={"cue": x}, near=True, factor=ON_GRID, **HOW)
    assert outcome.layout is not None
    assert outcome.ledger is not None
    ((low, high, _),) = outcome.latency().values()
    return {
        "cores": outcome.layout.n_cores,
        "synaptic_events": int(outcome.ledger.synaptic_events.sum()),
        "energy_uj": {name: 1e-6 * e for name, (e, _) in outcome.energy().items()},
        "latency_us": [1e-3 * low, 1e-3 * high],
        "same_spikes": outcome.fidelity["CA3"].coincidence,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.ca3_memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two loads, few recalls; no claim")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results")
    args = parser.parse_args()
    console, began = Console(), time.perf_counter()
    results: dict[str, Any] = {"quick": args.quick, "commit": commit(), "table": [], "chips": []}
    n = 5 if args.quick else 40
    for stored in STORED[1:4:2] if args.quick else STORED:
        rows, chips = table(stored, n, seed=stored, bits=(8, 4) if args.quick else BITS)
        results["table"] += rows
        results["chips"] += chips
        console.print(f"{time.perf_counter() - began:4.0f} s  {stored} patterns", highlight=False)
    results["cost"] = cost(STORED[3], STORED[3])
    results["seconds"] = time.perf_counter() - began
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    show(results, console)
    if not args.quick:
        draw(results, HERE / "figure.png")


def show(results: dict, console: Console) -> None:
    """Print the tables."""
    for title, rows in (("recall", results["table"]), ("on chips", results["chips"])):
        shown = Table(*rows[0], title=title)
        for row in rows:
            shown.add_row(*(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()))
        console.print(shown)
    console.print(results["cost"])


def draw(results: dict, path: Path) -> None:
    """Patterns recalled against patterns stored, with and without inhibition; spikes that differ by bits."""
    from matplotlib.figure import Figure

    from brainsim.plot import COLOURS

    canvas = Figure(figsize=(7.4, 2.6), layout="constrained")
    left, middle, right = canvas.subplots(1, 3)
    for ax, inhibition in ((left, True), (middle, False)):
        for k, known in enumerate(KNOWN):
            rows = [r for r in results["table"] if (r["known"], r["inhibition"]) == (known, inhibition)]
            style = dict(color=COLOURS[k], marker="o", markersize=3)
            ax.plot([r["stored"] for r in rows], [100 * r["exact"] for r in rows], label=f"{known} cells", **style)
        ax.set(xlabel="patterns stored", ylim=(-4, 104), title=f"with{'' if inhibition else 'out'} inhibition")
    left.set(ylabel="recalled without an error (%)")
    middle.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=6, title="cue", title_fontsize=6)
    for k, target in enumerate(("loihi, on the grid", "loihi", "ideal")):
        rows = [r for r in results["chips"] if r["target"] == target]
        share = [
            100
            * np.sum([r["differ"] for r in rows if r["bits"] == b])
            / np.sum([r["spikes"] for r in rows if r["bits"] == b])
            for b in BITS
        ]
        right.plot(BITS, share, color=COLOURS[k], marker="osx"[k], markersize=3, linestyle="-:-"[k], label=target)
    right.set_yscale("symlog", linthresh=0.1)
    right.set(xlabel="bits of a weight", ylabel="spikes that differ (%)", ylim=(-0.02, 110), xticks=BITS)
    right.legend(frameon=False, fontsize=6)
    for ax in (left, middle, right):
        ax.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=160)
