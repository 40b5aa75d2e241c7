"""Images of chips beside the emulators of Loihi, and beside the float network of the same cells.

`python -m experiments.benchmarks.chips [--quick] [--peer NAME=PYTHON]`: 10,000 cells and 1,100,000 synapses in every
dialect and in its emulator, each a process on one core (Lava, which is several, on all), their runs interleaved; the
words after the runs are compared. Then 100,000 cells with 11,000,000 synapses to near cells, and gradients of 200
recurrent cells, image and float in turn. NAME is nengo-loihi, brian2-loihi or lava, PYTHON an interpreter that has it.
Writes `chips.json`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PEERS = ("nengo-loihi", "brian2-loihi", "lava")
CELLS, INPUTS, FAN_IN, FAN_OUT = 10_000, 100, 10, 100
"""Cells, input lines, synapses that a cell gets from them, and those that it sends to others."""
NEAR = 500
"""How far, in cells, the synapses of the large network reach."""
INPUT_RATE, THRESHOLD, DECAY_U, DECAY_V = 0.1, 2900, 1024, 256
"""Events of an input line in a step, and registers: they give about 20 spikes a second with steps of 1 ms."""
EXCITATORY, INHIBITORY, FROM_INPUT = 20, -120, 100
"""Largest mantissas, which are even."""

console = Console(width=None if Console().is_terminal else 150)


def network(n: int, near: int | None, seed: int = 0) -> dict[str, np.ndarray]:
    """Sources, targets and mantissas of the synapses "in" (from the inputs) and "rec"; a fifth of the cells inhibit.

    No pair has two synapses, so that there are a few less than asked for: nengo-loihi would lose the second.
    """
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(n), FAN_OUT)
    if near is None:
        target = rng.integers(0, n, source.size)
    else:
        target = (source + rng.integers(1, near, source.size) * rng.choice([-1, 1], source.size)) % n
    strength = 2 * rng.integers(1, 11, source.size)
    mantissa = np.where(source % 5 == 0, strength * INHIBITORY // 20, strength * EXCITATORY // 20)
    lines, into = rng.integers(0, INPUTS, n * FAN_IN), np.repeat(np.arange(n), FAN_IN)
    one = {"rec": np.unique(source * n + target, return_index=True)[1]}
    one["in"] = np.unique(lines * n + into, return_index=True)[1]
    values = {"rec": (source, target, mantissa), "in": (lines, into, 2 * rng.integers(1, FROM_INPUT // 2, into.size))}
    found = {"n": n, "n_in": INPUTS, "threshold": THRESHOLD, "decay_u": DECAY_U, "decay_v": DECAY_V}
    for name, some in one.items():
        for field, x in zip(("source", "target", "mantissa"), values[name], strict=True):
            found[f"{name}_{field}"] = x[some]
    return {k: np.asarray(v) for k, v in found.items()}


def played(steps: int, seed: int = 1) -> np.ndarray:
    """Events of the inputs, (steps, INPUTS)."""
    return (np.random.default_rng(seed).random((steps, INPUTS)) < INPUT_RATE).astype(np.float32)


def image(g: dict[str, np.ndarray], dialect: Any) -> Any:
    """The network under the rules of `dialect`."""
    from brainsim.lower import Cells, Image, Synapses

    own = {"decay_u": int(g["decay_u"]) + 1 - dialect.decay_u_offset, "decay_v": int(g["decay_v"])}
    cells = {"P": Cells(int(g["n"]), int(g["threshold"]), **own)}
    ends = {"in": ("x", "P"), "rec": ("P", "P")}
    fields = ("source", "target", "mantissa")
    synapses = {k: Synapses(*pair, *(g[f"{k}_{f}"] for f in fields)) for k, pair in ends.items()}
    return Image.of(dialect, cells, synapses, {"x": INPUTS})


def floating(chip: Any) -> Any:
    """The float network of CUBA LIF cells with the same weights, decays and thresholds, in steps of 1."""
    import brainsim as bs

    p = chip.tables.cells["P"]
    keep_u, keep_v = 1.0 - (int(p.decay_u[0]) + 1) / 4096, 1.0 - int(p.decay_v[0]) / 4096
    tau = {"tau_syn": 1.0 / (1.0 - keep_u), "tau_m": 1.0 / (1.0 - keep_v)}
    unit = bs.CubaLIF(**tau, r=tau["tau_m"], v_th=64.0 * int(p.threshold[0]))
    nodes = {"x": chip.net.nodes["x"], "P": bs.Population(unit, p.size, {"i": bs.Delta("i")})}
    edges = {
        k: bs.Projection(s.pre, "P.i", bs.FromCOO(s.sources, s.targets), weight=64.0 * s.mantissa)
        for k, s in chip.tables.synapses.items()
    }
    return bs.Network(nodes, edges)


class Runs:
    """A network that runs on, some steps at a time; its kernel compiled before."""

    def __init__(self, net: Any, x: np.ndarray, steps: int) -> None:
        import diffrax
        import jax

        import brainsim as bs

        self.net, self.x, self.steps, self.n = net, x, steps, 0
        self.how: dict[str, Any] = dict(dt=1.0, solver=diffrax.Euler())
        self.state = bs.initial_state(net, dt=1.0, key=jax.random.key(0))
        self.take()
        self.state, self.n = bs.initial_state(net, dt=1.0, key=jax.random.key(0)), 0

    def take(self) -> dict[str, float]:
        """Go on by `steps` steps; the time of a step (us), processor time too, and spikes of a cell and second."""
        import brainsim as bs

        x = self.x[self.n : self.n + self.steps]
        wall, cpu = time.perf_counter(), time.process_time()
        span = {"t0": float(self.n), "t1": float(self.n + self.steps)}
        sol = bs.simulate(self.net, **span, state=self.state, inputs={"x": x}, **self.how)
        spikes = int(sol.n_events["P"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.state, self.n = sol.state, self.n + self.steps
        each = 1e6 / self.steps
        rate = 1e3 * spikes / self.steps / self.net.sizes["P"]
        return {"step_us": each * wall, "step_cpu_us": each * cpu, "rate_hz": rate, "run_us": each * sol.run_s}


def worker(path: str, dialect: str) -> None:
    """An image in a process of its own: a line of JSON for each line of standard input; the last asks for the words."""
    from brainsim.lower import DIALECTS

    with np.load(path) as file:
        g = {k: file[k] for k in file}
    runs = Runs(image(g, DIALECTS[dialect]).net, g["x"], int(g["steps"]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if line.strip() == "run":
            print(json.dumps(runs.take()), flush=True)
            continue
        late = int(dialect == "brian2-loihi")  # by one step an input is earlier there
        anew = Runs(runs.net, g["x"], int(g["peer_total"]) + late)
        anew.take()
        np.savez(line.strip(), **{k: np.asarray(anew.state.nodes["P"].y["unit"][k]) for k in "uv"})
        print(json.dumps({"words": True}), flush=True)


class Process:
    """A worker, ours or a peer's, on the first core."""

    def __init__(self, command: list[str]) -> None:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        env = os.environ | {"JAX_ENABLE_X64": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL, env=env)
        self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, line: str) -> dict[str, Any]:
        print(line, file=self.process.stdin, flush=True)
        return self.read()

    def words(self, folder: str) -> np.ndarray:
        """u and v, (2, n)."""
        path = Path(folder, f"{id(self)}.npz")
        self.ask(str(path))
        with np.load(path) as file:
            return np.stack([file["u"], file["v"]]).astype(np.int64)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def beside(peer: str, python: str, n: int, steps: int, own_steps: int, rounds: int) -> dict[str, Any]:
    """An emulator, for `steps` steps a round, and our image in its dialect, for `own_steps`, by turns."""
    g = network(n, None) | {"x": played((rounds + 1) * own_steps), "steps": np.asarray(own_steps)}
    g |= {"peer_steps": np.asarray(steps), "peer_total": np.asarray(steps * rounds), "target": np.asarray("cython")}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "net.npz"))
        np.savez(path, **g)
        own = Process([sys.executable, "-m", "experiments.benchmarks.chips", "--worker", path, "--dialect", peer])
        other = Process([python, str(HERE / "_chips_peer.py"), peer, path])
        runs: dict[str, list[dict[str, float]]] = {"own": [], "peer": []}
        for _ in range(rounds):
            runs["own"].append(own.ask("run"))
            runs["peer"].append(other.ask("run"))
        words = [who.words(folder) for who in (own, other)]
        own.end()
        other.end()
    middle = {who: {k: statistics.median(r[k] for r in rows) for k in rows[0]} for who, rows in runs.items()}
    synapses = int(g["rec_source"].size + g["in_source"].size)
    row: dict[str, Any] = {"peer": peer, "cells": n, "synapses": synapses, "peer_steps": steps * rounds}
    row |= {"rate_hz": middle["own"]["rate_hz"], "own_step_us": middle["own"]["step_us"]}
    row |= {"peer_step_us": middle["peer"]["step_us"]}
    row["times"] = row["peer_step_us"] / row["own_step_us"]
    return row | {"words": int(words[0].size), "differ": int(np.sum(words[0] != words[1]))}


def large(n: int, steps: int, rounds: int) -> dict[str, Any]:
    """The image of many cells beside the float network, by turns."""
    from brainsim.lower import LOIHI

    g = network(n, NEAR)
    x, chip = played((rounds + 1) * steps), image(g, LOIHI)
    both = {"image": Runs(chip.net, x, steps), "float": Runs(floating(chip), x, steps)}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in both}
    for _ in range(rounds):
        for name, runs in both.items():
            rows[name].append(runs.take())
    synapses = {k: int(g[f"{k}_source"].size) for k in ("rec", "in")}
    found: dict[str, Any] = {"cells": n, "synapses": sum(synapses.values()), "steps": steps * rounds}
    for name, some in rows.items():
        found |= {f"{name}_{k}": statistics.median(r[k] for r in some) for k in ("rate_hz", "step_us", "step_cpu_us")}
    found["times_float"] = statistics.median(
        a["step_us"] / b["step_us"] for a, b in zip(rows["image"], rows["float"], strict=True)
    )
    events = synapses["rec"] * found["image_rate_hz"] * 1e-3 + synapses["in"] * INPUT_RATE
    found["ns_an_event"] = 1e3 * found["image_step_us"] / events
    return found


def gradient(steps: int, rounds: int) -> list[dict[str, Any]]:
    """Weights' gradients through images of 200 recurrent cells in every dialect beside that of the float network, by
    turns; and the words that a run within the gradient has otherwise than a plain run."""
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import brainsim as bs
    from brainsim.lower import DIALECTS, discretise

    n, rng = 200, np.random.default_rng(0)
    x = (rng.random((steps, 12)) < 0.1).astype(np.float32)
    cells = bs.Population(bs.CubaLIF(tau_syn=4.0, tau_m=10.0), n, {"i": bs.Delta("i")}, surrogate=bs.Triangular(1.0))
    edges = {"in": bs.Projection("x", "P.i", bs.Dense(12, n), weight=rng.normal(0.5, 0.4, (12, n)))}
    edges["rec"] = bs.Projection("P", "P.i", bs.Dense(n, n), weight=rng.normal(0.0, 0.5, (n, n)) / np.sqrt(n))
    net = bs.Network({"x": bs.Source(bs.External(), 12), "P": cells}, edges)
    how: dict[str, Any] = dict(dt=1.0, solver=diffrax.Euler())
    saveat = [bs.Trace("P.v"), bs.Events("P")]
    score = jnp.asarray(rng.normal(size=n), jnp.float32)

    def graded(of: Any) -> Any:
        def loss(net: Any, x: Any) -> Any:
            sol = of(net, x)
            return jnp.mean(sol["P.events"] @ score), (sol["P.v"], sol["P.events"])

        return eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))

    span: dict[str, Any] = dict(t1=float(steps), key=jax.random.key(0), saveat=saveat)
    runs = {"float": graded(lambda net, x: bs.simulate(net, inputs={"x": x}, **span, **how))}
    images = {name: discretise(net, dialect=d, **how) for name, d in DIALECTS.items()}
    runs |= {
        name: graded(lambda net, x, f=f: f.refill(net).simulate(steps, inputs={"x": x}, saveat=saveat))
        for name, f in images.items()
    }
    x, times = jnp.asarray(x), {name: [] for name in runs}
    first = {name: jax.block_until_ready(run(net, x)) for name, run in runs.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            jax.block_until_ready(run(net, x))
            times[name].append(time.process_time() - began)
    rows = []
    for name, lowered in images.items():
        sol = lowered.image.simulate(steps, inputs={"x": x}, saveat=saveat)
        inside, outside = first[name][0][1], (sol["P.v"], sol["P.events"])
        row: dict[str, Any] = {"dialect": name, "steps": steps, "spikes": int(np.asarray(sol["P.events"]).sum())}
        row["words"] = sum(int(a.size) for a in outside)
        row["differ"] = sum(int(np.sum(np.asarray(a) != np.asarray(b))) for a, b in zip(inside, outside, strict=True))
        row |= {"ms": 1e3 * statistics.median(times[name]), "float_ms": 1e3 * statistics.median(times["float"])}
        row["times_float"] = statistics.median(a / b for a, b in zip(times[name], times["float"], strict=True))
        rows.append(row)
    return rows


def show(results: dict[str, Any]) -> None:
    for name in (k for k in ("beside", "large", "gradient") if k in results):
        rows = results[name] if isinstance(results[name], list) else [results[name]]
        shown = Table(*(rows[0] if rows else ["no peer"]), title=name)
        for row in rows:
            shown.add_row(*(f"{x:,.4g}" if isinstance(x, float) else f"{x}" for x in row.values()))
        console.print(shown)


def main(
    quick: Annotated[bool, typer.Option(help="1,000 and 5,000 cells; no claim.")] = False,
    peer: Annotated[list[str] | None, typer.Option(help="NAME=PYTHON, may be given several times.")] = None,
    part: Annotated[str, typer.Option(help="large, gradient, both or none: what else is measured.")] = "both",
    out: Annotated[Path | None, typer.Option(help="Where to write the results.")] = None,
    path: Annotated[str | None, typer.Option("--worker", hidden=True)] = None,
    dialect: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if path is not None:
        return worker(path, dialect)
    place = out or (None if quick else HERE / "chips.json")
    results = json.loads(place.read_text()) if place is not None and place.exists() else {"beside": []}
    named = dict(x.split("=", 1) for x in peer or [])
    for name, python in named.items():
        row = beside(name, python, 1_000 if quick else CELLS, *((20, 100, 2) if quick else (40, 2_000, 5)))
        results["beside"] = [r for r in results["beside"] if r["peer"] != name] + [row]
    if part in ("gradient", "both"):
        results["gradient"] = gradient(200 if quick else 2_000, 3 if quick else 7)
    if part in ("large", "both"):
        results["large"] = large(5_000 if quick else 100_000, 50 if quick else 200, 3 if quick else 7)
    results["quick"] = quick
    if place is not None:
        place.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    return None


if __name__ == "__main__":
    typer.run(main)
