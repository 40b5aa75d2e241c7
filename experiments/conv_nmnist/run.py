"""A convolutional network that learns N-MNIST: accuracy, the time of an update, and what sending by events saves.

`python -m experiments.conv_nmnist --data nmnist_1k.npz [--quick] [--peer PYTHON]` prints the tables; the full run
writes `results.json` and `figure.png` beside this file. `--peer`: a Python with torch and spikingjelly, to train the
same network there (`spikingjelly.json`).
"""

import argparse
import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim.events import propagate

from .._provenance import commit
from .model import Settings, load, network, optimiser, parameters, reader_of, update_of

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
QUIET = 3000.0
"""Price of activity in the network that is to be quiet."""


def train(data: tuple, c: Settings, seed: int) -> tuple[dict, dict]:
    """What was measured, and the parameters; the held-out recordings are read once, after the last epoch."""
    x, y, held = data
    net = network(c, seed)
    p, learn_on = parameters(net, c, seed), np.flatnonzero(~held)
    batches = len(learn_on) // c.batch
    update, read = update_of(net, c, c.epochs * batches), reader_of(net, c)
    state = optimiser(c, c.epochs * batches).init(p)
    rng, key, wall, cpu = np.random.default_rng(seed), jax.random.key(seed), [], []
    for epoch in range(c.epochs):
        for k, chosen in enumerate(rng.permutation(learn_on)[: batches * c.batch].reshape(batches, -1)):
            began, busy = time.perf_counter(), time.process_time()
            p, state, value = update(p, state, x[chosen], y[chosen], jax.random.fold_in(key, epoch * batches + k))
            value.block_until_ready()
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - busy)
    digits, active = read(p, x[held])
    row = {
        "seed": seed,
        "accuracy": float(np.mean(np.asarray(digits) == y[held])),
        "activity": [float(a) for a in active],
        "update_s": float(np.median(wall[5:])),
        "update_cpu_s": float(np.median(cpu[5:])),
    }
    return row, p


def edges(data: tuple, c: Settings, p: dict, repeats: int) -> list[dict]:
    """Time of each convolution on what it is sent in a recording, by events and as matrix products, per step (us)."""
    x, _, held = data
    net = network(c, 0)
    net = bs.train.with_parameters(net, {f"{name}.weight": p[name] for name in net.edges})
    sent = x[held][:20].reshape(-1, x.shape[-1])
    how: dict[str, Any] = dict(t1=float(c.steps), dt=1.0, key=jax.random.key(0), saveat=[bs.Events("a")])
    layer = jax.jit(jax.vmap(lambda x: bs.simulate(net, inputs={"pixels": x}, **how)["a.events"]))(x[held][:20])
    rows = []
    for name, values in (("first", jnp.asarray(sent)), ("second", layer.reshape(len(sent), -1))):
        connect, weight = net.edges[name].connect, net.edges[name].weight
        ways: dict[str, Callable] = {"events": propagate, "dense": lambda c, w, v: c.apply(w, v)}
        row: dict[str, Any] = {"edge": name, "active": float(jnp.mean(values != 0))}
        for way, send in ways.items():
            one = jax.jit(lambda w, v, send=send, connect=connect: jax.lax.map(lambda v: send(connect, w, v), v).sum(0))
            one(weight, values).block_until_ready()
            times = []
            for _ in range(repeats):
                began = time.perf_counter()
                one(weight, values).block_until_ready()
                times.append(time.perf_counter() - began)
            row[f"{way}_us"] = 1e6 * min(times) / len(values)
        rows.append(row)
    return rows


def peer(python: str, path: Path, c: Settings, seeds: tuple[int, ...], threads: int) -> list[dict]:
    """The same by SpikingJelly."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(dataclasses.asdict(c) | {"seeds": seeds, "threads": threads}, file)
        file.flush()
        call = [python, str(HERE / "spikingjelly_peer.py"), str(path), file.name]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.conv_nmnist", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="nmnist_1k.npz")
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs; no claim")
    parser.add_argument("--peer", default=None, help="a Python that has torch and spikingjelly")
    parser.add_argument("--threads", type=int, default=2, help="of SpikingJelly")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results")
    args = parser.parse_args()
    c = Settings(epochs=2 if args.quick else 12)
    seeds, console, began = SEEDS[:1] if args.quick else SEEDS, Console(), time.perf_counter()

    def say(text: str) -> None:
        console.print(f"{time.perf_counter() - began:5.0f} s  {text}", highlight=False)

    data = load(args.data, c)
    results: dict[str, Any] = {"quick": args.quick, "commit": commit(), "settings": dataclasses.asdict(c)}
    for name, settings in (("trained", c), ("quiet", dataclasses.replace(c, quiet=QUIET))):
        runs = [train(data, settings, seed) for seed in seeds]
        results[name] = [row for row, _ in runs]
        for row in results[name]:
            say(f"{name}, seed {row['seed']}: {100 * row['accuracy']:.0f} %")
        results[f"{name}_edges"] = edges(data, settings, runs[0][1], 3 if args.quick else 20)
    results["seconds"] = time.perf_counter() - began
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if args.peer:
        theirs = {"threads": args.threads, "spikingjelly": peer(args.peer, args.data, c, seeds, args.threads)}
        results |= theirs
        if not args.quick:
            (HERE / "spikingjelly.json").write_text(json.dumps(theirs, indent=1) + "\n")
    show(results, console)
    if not args.quick:
        draw(results, HERE / "figure.png")


def show(results: dict, console: Console) -> None:
    table = Table(title="100 held-out recordings; an update takes 40")
    for name in ("network", "read (%)", "update (ms)", "processor (ms)", "active (%)"):
        table.add_column(name, justify="right")
    for name in ("trained", "quiet", "spikingjelly"):
        if rows := results.get(name):
            mean = lambda key, rows=rows: float(np.mean([r[key] for r in rows]))  # noqa: E731
            active = np.mean([r["activity"] for r in rows], 0) if "activity" in rows[0] else []
            cells = (100 * mean("accuracy"), 1e3 * mean("update_s"), 1e3 * mean("update_cpu_s"))
            table.add_row(name, *(f"{x:.1f}" for x in cells), ", ".join(f"{100 * a:.1f}" for a in active))
    console.print(table)
    table = Table(title="one step of an edge")
    for name in ("network", "edge", "active (%)", "by events (us)", "densely (us)"):
        table.add_column(name, justify="right")
    for name in ("trained", "quiet"):
        for r in results[f"{name}_edges"]:
            times = (f"{r['events_us']:.1f}", f"{r['dense_us']:.1f}")
            table.add_row(name, r["edge"], f"{100 * r['active']:.2f}", *times)
    console.print(table)


def draw(results: dict, path: Path) -> None:
    """Accuracy by seed, and the time of an edge against its activity."""
    from matplotlib.figure import Figure

    from brainsim.plot import COLOURS

    canvas = Figure(figsize=(7.4, 2.8), layout="constrained")
    left, right = canvas.subplots(1, 2)
    names = [name for name in ("trained", "quiet", "spikingjelly") if results.get(name)]
    for k, name in enumerate(names):
        left.plot([100 * r["accuracy"] for r in results[name]], [k] * len(results[name]), "o", color=COLOURS[k])
    left.axvline(95, color="0.6", linewidth=0.7)
    left.set(yticks=range(len(names)), yticklabels=names, xlabel="held-out digits read (%)")
    for k, name in enumerate(("trained", "quiet")):
        for r in results[f"{name}_edges"]:
            for way, marker in (("events", "o"), ("dense", "s")):
                right.plot(100 * r["active"], r[f"{way}_us"], marker, color=COLOURS[k], markersize=4)
    right.set(
        xlabel="active (%)", ylabel="a step of an edge (us): o by events, square densely", xscale="log", yscale="log"
    )
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    canvas.savefig(path, dpi=130)
