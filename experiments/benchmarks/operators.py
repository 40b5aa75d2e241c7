"""Propagation alone, over a random graph: brainsim, a plain C++ loop, brainevent, a dense product."""

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from ._simulators import HERE, find
from .run import machine

GRAPHS = ((4_000, 80), (20_000, 1_000), (100_000, 1_000), (1_000_000, 100))  # units, synapses of each: 3e5 to 1e8
ACTIVITIES = (1e-4, 1e-3, 1e-2, 1e-1)
DENSE_MOST = 2e7  # entries of a matrix worth trying
EVENTS = 2e7  # synaptic events of a measurement, if STEPS steps bring them
STEPS = 1000
WAYS = (("plain", 1), ("brainsim", 1), ("brainsim_words", 1), ("brainsim_words", 2))
WAYS += (("brainevent", 1), ("brainevent", 2), ("dense", 1))
SAME = 1e-3  # relative: float32 sums of up to 1e5 terms in another order

app = typer.Typer(add_completion=False)
console = Console(width=None if Console().is_terminal else 190)


class Way:
    """A worker process; `measure(name)` times the events of that name."""

    def __init__(self, way, threads, python, env, folder, n):
        command = [python, str(HERE / "_op_worker.py"), way, folder, str(n), str(n), str(threads)]
        pipe = subprocess.PIPE
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=self._errors)
        self._answer()

    def measure(self, name):
        print(name, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError("\n".join(self._errors.read().strip().splitlines()[-8:]) or "it ended")
        return json.loads(line)


def make(folder, n, k, seed=0):
    """A graph of n units with k targets each, ascending, and who is active when; returns steps and events."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, n, (n, k), np.int32)
    indices.sort(axis=1)
    np.save(f"{folder}/indices.npy", indices.reshape(-1))
    np.save(f"{folder}/indptr.npy", np.arange(0, n * k + 1, k, dtype=np.int32))
    np.save(f"{folder}/weight.npy", rng.random(n * k, np.float32))
    sizes = {}
    for activity in ACTIVITIES:
        steps = int(np.clip(EVENTS / (n * k * activity), 2, min(STEPS, 2e8 / (4 * n))))
        active = rng.random((steps, n), np.float32) < activity
        np.save(f"{folder}/{activity:g}.npy", active)
        sizes[activity] = steps, int(active.sum()) * k
    return sizes


def graph_records(n, k, ways, rounds, folder):
    """Records of all ways over one graph, their measurements interleaved."""
    sizes = make(folder, n, k)
    workers, records = {}, []
    for way, threads, python, env in ways:
        if way == "dense" and n * n > DENSE_MOST:
            continue
        try:
            workers[way, threads] = Way(way, threads, python, env, folder, n)
        except RuntimeError as e:
            console.print(f"  [red]{way} failed: {e}[/]")
    for activity, (steps, events) in sizes.items():
        runs = {key: [] for key in workers}
        for _ in range(rounds):
            for key, worker in workers.items():
                runs[key].append(worker.measure(f"{activity:g}"))
        truth = runs["plain", 1][0]["sum"]
        for (way, threads), mine in runs.items():
            if abs(mine[0]["sum"] - truth) > SAME * abs(truth):
                raise RuntimeError(f"{way} adds up to {mine[0]['sum']}, the plain loop to {truth}")
            record = dict(way=way, threads=threads, units=n, synapses=n * k, activity=activity)
            record |= dict(steps=steps, events_per_step=events / steps)
            for clock in ("cpu", "wall"):
                each = [r[f"{clock}_s"] / max(events, 1) * 1e9 for r in mine]
                ratios = [a[f"{clock}_s"] / b[f"{clock}_s"] for a, b in zip(mine, runs["plain", 1], strict=True)]
                record |= {f"{clock}_ns_per_event": statistics.median(each), f"{clock}_least": min(each)}
                record |= {f"{clock}_x_plain": statistics.median(ratios)}
            records.append(record)
    for worker in workers.values():
        worker.close()
    return records


def show(records):
    table = Table(title="ns per synaptic event (processor time), and over the plain C++ loop of the same round")
    for name in ("units", "synapses", "activity", "events/step"):
        table.add_column(name, justify="right")
    keys = list(dict.fromkeys((r["way"], r["threads"]) for r in records))
    for way, threads in keys:
        table.add_column(f"{way.replace('_', ' ')} {threads} t", justify="right")
    for name in ("2 t faster (wall)", "x brainevent 1 t", "x brainevent 1 or 2 t (wall)"):
        table.add_column(name, justify="right")
    rows = {}
    for r in records:
        row = f"{r['units']:,}", f"{r['synapses']:,}", f"{r['activity']:g}", f"{r['events_per_step']:,.0f}"
        rows.setdefault(row, {})[r["way"], r["threads"]] = r
    for row, of in rows.items():
        texts = [f"{of[k]['cpu_ns_per_event']:.2f} {of[k]['cpu_x_plain']:.2f}x" if k in of else "" for k in keys]

        def times(a, b, clock="wall", of=of):  # how often the best of b goes into the best of a; threads to choose from
            each = [min((of[k][f"{clock}_least"] for k in ks if k in of), default=None) for ks in (a, b)]
            return "" if None in each else f"{each[0] / each[1]:.2f}x"

        ours, theirs = ([(way, t) for t in (1, 2)] for way in ("brainsim_words", "brainevent"))
        texts += [times(ours[:1], ours[1:]), times(theirs[:1], ours[:1], "cpu"), times(theirs, ours)]
        table.add_row(*row, *texts)
    console.print(table)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="the two small graphs, three rounds")] = False,
    rounds: Annotated[int, typer.Option(help="measurements of each, interleaved")] = 7,
    output: Annotated[Path, typer.Option(help="where the numbers go")] = HERE / "operators.json",
):
    about, ways, records = machine(), [], []
    for way, threads in WAYS:
        peer = "brainpy" if way == "brainevent" else "brainsim"
        python, env, why = find(peer, way if way == "brainevent" else "brainsim", None)
        if python is None:
            console.print(f"skipping {way}: {why}")
            continue
        ways.append((way, threads, python, {**(env or os.environ), "NPROC": str(threads)}))
    rounds = 3 if quick else rounds
    for n, k in GRAPHS[:2] if quick else GRAPHS:
        console.print(f"{n:,} units, {n * k:,} synapses")
        with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
            source = str(HERE / "plain_propagate.cc")
            compiler = [os.environ.get("CXX", "c++"), "-O3", "-march=native", "-shared", "-fPIC"]
            subprocess.run([*compiler, source, "-o", f"{folder}/plain.so"], check=True)
            records += graph_records(n, k, ways, rounds, folder)
    about["load_average_at_end"] = round(os.getloadavg()[0], 2)
    output.write_text(json.dumps({"machine": about, "rounds": rounds, "records": records}, indent=1) + "\n")
    show(records)


if __name__ == "__main__":
    app()
