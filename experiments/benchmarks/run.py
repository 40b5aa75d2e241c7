"""The harness: every simulator in its own process, repeats interleaved, rates beside times, results.json."""

import dataclasses
import datetime
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import networks
from ._simulators import SIMULATORS, Worker, WorkerError, find

TOLERANCE = 0.10  # a time whose rate is off by more than this is not a time of this network
TEXTS = ("simulator", "threads", "method", "precision")
NUMBERS = ("rate Hz", "valid", "build s", "compile s", "run s", "min .. max", "runs", "x brainsim", "cpu s", "x (cpu)")

app = typer.Typer(add_completion=False, help=__doc__)
console = Console(width=None if Console().is_terminal else 170)  # a file has no width of its own


def machine():
    """What the times depend on; no names, no paths."""
    model, memory = platform.processor(), None
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def valid(record):
    """Whether the mean rate of the runs is that of the network, or None where no reference is known."""
    reference = networks.REFERENCE_RATE_HZ.get((record["network"], record["n"]))
    return None if reference is None else abs(record["rate_hz"] - reference) <= TOLERANCE * reference


def start(jobs, network, n, t_ms, timeout_s):
    """Prepared workers of one network, and records of those that failed."""
    workers, failed = {}, []
    for name, threads, python, env in jobs:
        console.print(f"  preparing {name}, {threads} thread(s)")
        try:
            workers[name, threads] = Worker(
                name, python, env, network=network, n=n, threads=threads, t_ms=t_ms, timeout_s=timeout_s
            )
        except WorkerError as e:
            failed.append(failure(name, threads, network, n, e))
    return workers, failed


def failure(name, threads, network, n, error):
    console.print(f"  [red]{name}, {threads} thread(s) failed: {error}[/]")
    return {"simulator": name, "network": network, "n": n, "threads": threads, "error": str(error)}


def measure(jobs, network, n, *, t_ms, repeats, max_run_s, timeout_s):
    """One record per job, the repeats of all simulators interleaved so that all see the same weather."""
    workers, records = start(jobs, network, n, t_ms, timeout_s)
    slow = set()
    for repeat in range(repeats):
        for key in list(workers):
            if key in slow:
                continue
            try:
                run = workers[key].run(repeat)
            except WorkerError as e:
                workers.pop(key).abandon()
                records.append(failure(*key, network, n, e))
                continue
            label = f"{key[0]}, {key[1]} thread(s)"
            console.print(f"  run {repeat + 1}: {label}: {run['run_s']:.3f} s at {run['rate_hz']:.2f} Hz")
            if run["run_s"] > max_run_s:
                slow.add(key)
    for (name, threads), worker in workers.items():
        try:
            record = worker.close()
        except WorkerError as e:
            records.append(failure(name, threads, network, n, e))
            continue
        record |= {"simulator": name, "run_median_s": median(record["run_s"]), "valid": valid(record)}
        record["reference_rate_hz"] = networks.REFERENCE_RATE_HZ.get((network, n))
        records.append(record)
    return records


def median(values):
    return None if None in values or not values else statistics.median(values)


def ratio(record, records, figure):
    """This simulator's median over that of brainsim with as many threads, in the same interleaved session."""
    same = ("network", "n", "threads")
    for r in records:
        if r["simulator"] == "brainsim" and "error" not in r and all(r[k] == record[k] for k in same):
            mine, own = median(record[figure]), median(r[figure])
            return None if mine is None or own is None else mine / own
    return None


def table(records, network, n):
    reference = networks.REFERENCE_RATE_HZ.get((network, n))
    wanted = "no reference rate" if reference is None else f"reference rate {reference:g} Hz"
    seconds = next((r["biological_s"] for r in records if "error" not in r), 0)
    out = Table(title=f"{network}, {n:,} neurons, {seconds:g} s of biological time, {wanted}")
    for column in TEXTS:
        out.add_column(column)
    for column in NUMBERS:
        out.add_column(column, justify="right")
    for r in records:
        if (r["network"], r["n"]) != (network, n):
            continue
        if "error" in r:
            out.add_row(r["simulator"], str(r["threads"]), f"[red]{r['error']}[/]")
            continue
        times = r["run_s"]
        out.add_row(
            f"{r['simulator']} {r['version']}",
            str(r["threads"]),
            r["integrator"],
            r["precision"],
            f"{r['rate_hz']:.2f}",
            {True: "yes", False: "[red]NO[/]", None: "?"}[r["valid"]],
            f"{statistics.median(r['build_s']):.2f}",
            f"{r['compile_s']:.2f}",
            f"{r['run_median_s']:.3f}",
            f"{min(times):.3f} .. {max(times):.3f}",
            str(len(times)),
            number(r["x_brainsim"], 2),
            number(median(r["cpu_s"]), 3),
            number(r["x_brainsim_cpu"], 2),
        )
    return out


def number(x, digits):
    return "" if x is None else f"{x:.{digits}f}"


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def known(what, names, all_names):
    wrong = [name for name in names if name not in all_names]
    if wrong:
        raise typer.BadParameter(f"no {what} called {wrong[0]!r}; there are {', '.join(all_names)}")
    return names


@app.command()
def main(
    quick: Annotated[bool, typer.Option(help="COBA-LIF at 4,000 neurons, one thread, three runs of 1 s.")] = False,
    networks_: Annotated[str, typer.Option("--networks", help="Comma-separated.")] = "coba_lif,coba_hh",
    sizes: Annotated[str, typer.Option(help="Numbers of neurons, comma-separated.")] = "4000,40000",
    simulators: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(SIMULATORS),
    threads: Annotated[str, typer.Option(help="Numbers of threads, comma-separated.")] = "1",
    repeats: Annotated[int, typer.Option(help="Runs of each, each with its own graph and initial state.")] = 5,
    t_ms: Annotated[float, typer.Option(help="Biological time of a run (ms); rates from 500 ms on.")] = 1500.0,
    max_run_s: Annotated[float, typer.Option(help="A simulator slower than this is not repeated.")] = 60.0,
    timeout_s: Annotated[float, typer.Option(help="Limit of one preparation or run.")] = 1800.0,
    brainsim_python: Annotated[str | None, typer.Option(help="Python that has brainsim; default this one.")] = None,
    brian2_python: Annotated[str | None, typer.Option(help="Python that has Brian2.")] = None,
    brainpy_python: Annotated[str | None, typer.Option(help="Python that has BrainPy.")] = None,
    nest_python: Annotated[str | None, typer.Option(help="Python that has NEST.")] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(__file__).parent / "results.json",
):
    """Run the same networks in brainsim and the peers that are installed, and compare."""
    if quick:
        networks_, sizes, threads, repeats, t_ms = "coba_lif", "4000", "1", 3, 1000.0
    if t_ms <= networks.WINDOW_START_MS:
        raise typer.BadParameter(f"--t-ms must be above {networks.WINDOW_START_MS:g}: rates are measured from there on")
    pythons = {"brainsim": brainsim_python, "brian2": brian2_python, "brainpy": brainpy_python, "nest": nest_python}
    jobs, skipped = [], {}
    for name in known("simulator", words(simulators), SIMULATORS):
        simulator = SIMULATORS[name]
        python, env, why_not = find(simulator.environment, simulator.module, pythons[simulator.environment])
        if why_not:
            skipped[name] = why_not
            console.print(f"[yellow]skipped {name}: {why_not}[/]")
        else:
            jobs += [(name, int(k), python, env) for k in words(threads)]
    settings = {"dt_ms": networks.DT_MS, "t_ms": t_ms, "window_start_ms": networks.WINDOW_START_MS, "repeats": repeats}
    settings |= {
        "max_run_s": max_run_s,
        "tolerance_rate": TOLERANCE,
        "p_connect": {n: networks.p_connect(int(n)) for n in words(sizes)},
    }
    settings |= {"networks": {name: dataclasses.asdict(p) for name, p in networks.NETWORKS.items()}}
    about = machine()
    if about["load_average_at_start"] > 0.5:
        console.print("[yellow]This machine is busy: wall times will mislead; read the column `cpu s`.[/]")
    result = {"machine": about, "settings": settings, "skipped": skipped, "results": []}
    for network in known("network", words(networks_), networks.NETWORKS):
        for n in map(int, words(sizes)):
            console.print(f"[bold]{network}, {n:,} neurons[/]")
            records = measure(jobs, network, n, t_ms=t_ms, repeats=repeats, max_run_s=max_run_s, timeout_s=timeout_s)
            for record in records:
                if "error" not in record:
                    record["x_brainsim"] = ratio(record, records, "run_s")
                    record["x_brainsim_cpu"] = ratio(record, records, "cpu_s")
            console.print(table(records, network, n))
            result["results"] += records
            # after each network, so that an interrupted session keeps what it has
            out.write_text(json.dumps(result, indent=1) + "\n")
    for name, why in skipped.items():
        console.print(f"[yellow]skipped {name}: {why}[/]")
    console.print(f"written: {out.name}")
