"""What living synapses, units and glia cost: `python -m experiments.benchmarks.plasticity [--quick]`.

Pair STDP over 10,000 x 1,000 synapses at 10 Hz on both sides (`_stdp.py`) beside Brian2, in its best and its documented
form, and NEST; three things within brainsim: a plastic COBA network beside a static one, units under homeostasis beside
units, astrocytes; and a gradient through plasticity. One thread each, processor time, runs of all forms by turns,
medians. An update is one change of one weight: events of both sides times 1,000.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .._provenance import commit
from ._simulators import find
from ._stdp import DT_MS, OUT
from .run import machine

HERE = Path(__file__).parent
FORMS = {
    "brainsim": ("static", "plastic"),
    "brian2": ("static", "best", "documented"),
    "nest": ("none", "static", "plastic"),
}
SCRIPTS = {
    "brainsim": ["-m", "experiments.benchmarks._stdp_brainsim"],
    "brian2": [str(HERE / "_stdp_brian2.py")],
    "nest": [str(HERE / "_stdp_nest.py")],
}
LIVING = ("coba", "coba, plastic", "coba, homeostatic", "coba, astrocytes", "LiRinzel", "GChI")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}

console = Console(width=None if Console().is_terminal else 150)


class Worker:
    """A process that has prepared one form of one simulator, on one processor where the system can hold it there."""

    def __init__(self, python: str, script: list[str], form: str, t_ms: float) -> None:
        pinned = ["taskset", "-c", "0"] if Path("/usr/bin/taskset").exists() else []
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        env = os.environ | ONE_THREAD
        self.process = subprocess.Popen([*pinned, python, *script, form, str(t_ms)], env=env, **pipes)
        self.runs: list[dict[str, float]] = []
        self.about = self._answer()

    def run(self) -> None:
        print("run", file=self.process.stdin, flush=True)
        self.runs.append(self._answer())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"a worker ended with exit status {self.process.wait()}; its error is above.")


def record(worker: Worker, t_ms: float) -> dict[str, Any]:
    warm = {k: statistics.median(run[k] for run in worker.runs) for k in worker.runs[0]}
    updates = (warm["pre_events"] + warm["post_events"]) * OUT
    rates = {side: warm[f"{side}_events"] / 1e4 / (t_ms * 1e-3) for side in ("pre", "post")}
    return {
        **worker.about,
        "t_ms": t_ms,
        "ns_per_update": warm["cpu_s"] / updates * 1e9,
        "ns_per_update_of_runs": [run["cpu_s"] / updates * 1e9 for run in worker.runs],
        "wall_over_cpu": warm["wall_s"] / warm["cpu_s"],
        "pre_hz": rates["pre"],
        "post_hz": rates["post"],
        "mean_weight": warm["mean_weight"],
    }


def peers(pythons: dict[str, str], times: dict[str, float], repeats: int) -> list[dict[str, Any]]:
    """One record per form; the runs of all are by turns."""
    workers = []
    for name, python in pythons.items():
        for form in FORMS[name]:
            console.print(f"  preparing {name}, {form}")
            workers.append((Worker(python, SCRIPTS[name], form, times[name]), times[name]))
    for _ in range(repeats):
        for worker, _ in workers:
            worker.run()
    for worker, _ in workers:
        worker.close()
    return [record(*x) for x in workers]


def ratios(records: list[dict[str, Any]]) -> dict[str, float]:
    """What the issue asks for: of whole runs, and of what plasticity adds to a static run."""
    ns = {(r["simulator"], r["form"]): r["ns_per_update"] for r in records}
    whole, added = ns["brainsim", "plastic"], ns["brainsim", "plastic"] - ns["brainsim", "static"]
    out = {"brainsim, plastic less static (ns an update)": added}
    for name, form in (("brian2", "best"), ("brian2", "documented"), ("nest", "plastic")):
        if (name, form) in ns:
            out[f"{name} {form} over brainsim, whole runs"] = ns[name, form] / whole
            out[f"{name} {form} over brainsim, less static"] = (ns[name, form] - ns[name, "static"]) / added
    return out


def living(t_ms: float, repeats: int) -> dict[str, dict[str, float]]:
    """Microseconds a step of networks with and without living parts, and their rates."""
    here = ["-m", "experiments.benchmarks._living"]
    workers = {form: Worker(sys.executable, here, form, t_ms) for form in LIVING}
    for _ in range(repeats):
        for worker in workers.values():
            worker.run()
    out = {}
    for form, worker in workers.items():
        worker.close()
        steps = t_ms / DT_MS
        us = statistics.median(run["cpu_s"] for run in worker.runs) / steps * 1e6
        least = min(run["cpu_s"] for run in worker.runs) / steps * 1e6
        last = worker.runs[-1]
        rate = last["pre_events"] / 4_000 / (t_ms * 1e-3)
        out[form] = {"us_per_step": us, "least_us_per_step": least, "rate_hz": rate, "mean_weight": last["mean_weight"]}
        out[form]["steps"] = worker.about["steps"]
    return out


def gradient(t_ms: float, repeats: int) -> dict[str, Any]:
    """Seconds of a run and of its gradient, by turns, and the memory of the latter."""
    here = ["-m", "experiments.benchmarks._stdp_gradient"]
    workers = {form: Worker(sys.executable, here, form, t_ms) for form in ("forward", "gradient")}
    for _ in range(repeats):
        for worker in workers.values():
            worker.run()
    for worker in workers.values():
        worker.close()
    cpu = {form: statistics.median(run["cpu_s"] for run in worker.runs) for form, worker in workers.items()}
    memory = workers["gradient"].about["temporary_mb"]
    return {"t_ms": t_ms, **cpu, "ratio": cpu["gradient"] / cpu["forward"], "temporary_mb": memory}


def table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    out = Table(title=title)
    for k, column in enumerate(columns):
        out.add_column(column, justify="left" if isinstance(rows[0][k], str) else "right")
    for row in rows:
        out.add_row(*(x if isinstance(x, str) else f"{x:.4g}" for x in row))
    return out


def main(
    quick: Annotated[bool, typer.Option(help="One run of each form, 50 ms; writes nothing.")] = False,
    repeats: int = 5,
    brian2_python: Annotated[str | None, typer.Option(help="A Python that has Brian2.")] = None,
    nest_python: Annotated[str | None, typer.Option(help="A Python that has NEST.")] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = HERE / "plasticity.json",
) -> None:
    """Measure and print; without --quick write plasticity.json."""
    repeats = 1 if quick else repeats
    t_ms = dict.fromkeys(FORMS, 50.0 if quick else 500.0) | {"nest": 50.0 if quick else 200.0}
    pythons, skipped = {"brainsim": sys.executable}, {}
    for name, given in (("brian2", brian2_python), ("nest", nest_python)):
        python, _, missing = find(name, name, given)
        if missing is None:
            pythons[name] = python
        else:
            skipped[name] = missing
            console.print(f"  {name} is left out: {missing}")
    about = machine()
    records = peers(pythons, t_ms, repeats)
    found = ratios(records)
    names = ["simulator", "form", "ns_per_update", "pre_hz", "post_hz", "mean_weight"]
    title = "pair STDP, 10,000 x 1,000 synapses at 10 Hz"
    console.print(table(title, names, [[r[name] for name in names] for r in records]))
    console.print(table("ratios", ["what", "value"], [[*x] for x in found.items()]))
    parts = living(50.0 if quick else 500.0, repeats)
    base = parts["coba"]["us_per_step"]
    columns = ["network", "us a step", "over coba", "least us", "rate Hz", "mean weight"]
    rows = [
        [name, x["us_per_step"], x["us_per_step"] / base, x["least_us_per_step"], x["rate_hz"], x["mean_weight"]]
        for name, x in parts.items()
    ]
    console.print(table("living parts (COBA-LIF of 4,000; 10,000 astrocytes alone)", columns, rows))
    slope = gradient(50.0 if quick else 1000.0, repeats)
    console.print(table("gradient, 1,000 x 1,000", ["what", "value"], [[*x] for x in slope.items()]))
    if not quick:
        result = {"machine": about, "commit": commit(), "repeats": repeats, "skipped": skipped}
        result |= {"stdp": records, "ratios": found, "living": parts, "gradient": slope}
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
