"""What the experiments on living networks share: their command, and where results go."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ._provenance import commit

SEEDS = 3


def command(here: Path, doc: str, work: Callable[..., dict[str, Any]], figure: Callable, data: bool = False) -> None:
    """`--quick`, `--out` (and `--data`): runs `work(quick)` (or `work(quick, data)`), which returns the results with a
    `table` of rows; the full run writes `results.json` and `figure.png`."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small form that shows nothing, within 20 s")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    if data:
        parser.add_argument("--data", type=Path, required=True, help="mnist.npz; README.md says where it comes from")
    args = parser.parse_args()
    began = time.process_time()
    found = work(args.quick, args.data) if data else work(args.quick)
    columns, *rows = found.pop("table")
    table = Table(*columns, title=here.name)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)
    results = {"experiment": here.name, "quick": args.quick, "commit": commit()}
    results |= {"cpu_s": round(time.process_time() - began, 1), **found}
    out = args.out or (None if args.quick else here / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not args.quick:
        import matplotlib

        matplotlib.use("Agg")
        figure(results, here / "figure.png")


def spread(values: Any) -> str:
    """Mean and range."""
    values = [float(x) for x in values]
    return f"{sum(values) / len(values):.3g} ({min(values):.3g} to {max(values):.3g})"
