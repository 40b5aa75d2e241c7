"""One recurrent NIR file run as seven libraries run it: where their rasters part, and by which rule.

`python -m experiments.nir_exchange [--quick] [--out PATH]` prints the tables; the full run writes `results.json` and
`figure.png` beside this file.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim import nir

from .._provenance import commit

HERE = Path(__file__).parent
RECORDINGS = Path(bs.__file__).parent / "_demo" / "braille_events.npz"
CELLS, LETTERS = "lif1.lif", "lif2"
DT = 0.1  # ms: the step that the numbers of the file imply
REFERENCE = nir.SNNTORCH
"""The library that trained the file."""


def recordings() -> tuple[np.ndarray, np.ndarray]:
    """Events (n, 256, 12) and letters (n,) of the recordings held out."""
    with np.load(RECORDINGS) as z:
        held = z["split"] == 1
        return (z["spikes"][held] > 0).astype(np.float32), z["label"][held].astype(np.int32)


def rasters(dialect: nir.Dialect, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes of the hidden cells and of the letters in every recording, (n, 256, cells)."""
    model = bs.from_nir(RECORDINGS.with_name("braille.nir"), dialect.at(DT))
    found = [model.run(one, record=[CELLS, LETTERS]) for one in x]
    return {name: np.stack([f[name] for f in found]) for name in (CELLS, LETTERS)}


def apart(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """How two rasters (n, steps, cells) differ."""
    differ = a != b
    first = [int(np.argmax(d)) for d in differ.any(2) if d.any()]
    return {
        "differing": int(differ.sum()),
        "of_spikes": float(differ.sum() / max(a.sum(), 1)),
        "recordings": len(first) / len(a),
        "first_step": float(np.median(first)) if first else None,
    }


def rules(dialect: nir.Dialect) -> list[str]:
    """The fields in which a dialect differs from the reference."""
    names = [f.name for f in dataclasses.fields(dialect) if f.name not in ("name", "dt")]
    return [k for k in names if getattr(dialect, k) != getattr(REFERENCE, k)]


def compare(x: np.ndarray, y: np.ndarray, some: int, say: Any) -> list[dict]:
    """Every dialect beside the reference; and the reference with each of its rules alone, on `some` recordings."""
    reference, rows = rasters(REFERENCE, x), []
    for dialect in nir.DIALECTS.values():
        found = reference if dialect is REFERENCE else rasters(dialect, x)
        read = np.argmax(found[LETTERS].sum(1), 1)
        row: dict[str, Any] = {"dialect": dialect.name, "read": 100 * float(np.mean(read == y))}
        row["spikes"] = float(found[CELLS].sum() / len(x))
        row |= apart(reference[CELLS], found[CELLS])
        row["rules"] = {}
        for name in rules(dialect):
            alone = dataclasses.replace(REFERENCE, **{name: getattr(dialect, name)})
            own = rasters(alone, x[:some])
            row["rules"][name] = apart(reference[CELLS][:some], own[CELLS])
        rows.append(row)
        say(f"{dialect.name}: {row['read']:.1f} %, {row['differing']} bits differ")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.nir_exchange", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few recordings; no claim")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results")
    args = parser.parse_args()
    console, began = Console(), time.perf_counter()

    def say(text: str) -> None:
        console.print(f"{time.perf_counter() - began:5.0f} s  {text}", highlight=False)

    x, y = recordings()
    x, y = (x[:3], y[:3]) if args.quick else (x, y)
    results: dict[str, Any] = {"quick": args.quick, "commit": commit(), "recordings": len(y)}
    results["dialects"] = compare(x, y, 2 if args.quick else 60, say)
    results["seconds"] = time.perf_counter() - began
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    show(results, console)
    if not args.quick:
        draw(results, HERE / "figure.png")


def show(results: dict, console: Console) -> None:
    table = Table(title=f"beside {REFERENCE.name}, which trained the file; {results['recordings']} recordings")
    for name in (
        "dialect",
        "read (%)",
        "spikes",
        "differ (% of spikes)",
        "recordings that differ",
        "from step",
        "rules",
    ):
        table.add_column(name, justify="right")
    for r in results["dialects"]:
        own = ", ".join(f"{k} {100 * v['of_spikes']:.0f} %" for k, v in r["rules"].items())
        first = "" if r["first_step"] is None else f"{r['first_step']:.0f}"
        shares = (f"{100 * r['of_spikes']:.1f}", f"{100 * r['recordings']:.0f} %")
        table.add_row(r["dialect"], f"{r['read']:.1f}", f"{r['spikes']:.0f}", *shares, first, own)
    console.print(table)


def draw(results: dict, path: Path) -> None:
    """Differing bits and letters read, by dialect."""
    from matplotlib.figure import Figure

    from brainsim.plot import COLOURS

    rows = results["dialects"]
    canvas = Figure(figsize=(7.4, 2.6), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True)
    places = range(len(rows))
    left.barh(places, [100 * r["of_spikes"] for r in rows], color=COLOURS[0])
    left.set(yticks=places, yticklabels=[r["dialect"] for r in rows], xlabel="bits that differ (% of spikes)")
    right.barh(places, [r["read"] for r in rows], color=COLOURS[1])
    right.set(xlabel="letters read (%)", xlim=(0, 100))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=130)
