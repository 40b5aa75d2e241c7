"""A connectivity that is never stored: 10^6 x 10^6 units, p = 10^-3, 10^9 synapses, 0.1 % of the units active.

`python -m experiments.benchmarks.procedural [--quick]` writes procedural.json and prints a table: brainsim beside
brainevent's just-in-time connectivity, each in processes of its own held to one core, repeats interleaved. The same
file is the worker, so that it runs under a Python that has no brainsim.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = {"one weight": "one", "normal weights": "normal"}
NOISE = 1_000_000


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(call, repeats):
    """Processor and wall seconds of each of the repeats, after one that compiles."""
    call()
    cpu, wall = [], []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return {"cpu_s": cpu, "wall_s": wall}


def active(n, share):
    import numpy as np

    value = np.zeros(n, bool)
    value[np.random.default_rng(0).choice(n, round(n * share), replace=False)] = True
    return value


def brainsim_worker(n, p, share, repeats):
    import jax
    import jax.numpy as jnp

    import brainsim as bs
    from brainsim.events import normals, propagate, uniform_bits

    assert bs.backend() == "kernels", bs.backend()
    value, seed = jnp.asarray(active(n, share), jnp.float32), jnp.asarray([1, 2], jnp.uint32)
    imported, out = peak_mb(), {}
    for name, law in CASES.items():
        rows = bs.DrawnRows.fixed_probability(seed, n, n, p, law=law)
        weight = jnp.asarray(1.0 if law == "one" else [0.0, 1.0], jnp.float32)
        send = jax.jit(lambda v, rows=rows, weight=weight: propagate(rows, weight, v))
        back = jax.jit(jax.grad(lambda v, m, send=send: jnp.sum(propagate(rows, weight, v, m))))  # noqa: B023
        out[name] = measured(lambda: send(value).block_until_ready(), repeats)  # noqa: B023
        out[f"{name}, transposed"] = measured(lambda: back(value, value > 0).block_until_ready(), repeats)  # noqa: B023
    peak = peak_mb() - imported
    key = jax.random.key(0)
    noise = {
        "word": jax.jit(lambda: uniform_bits(seed, NOISE)),
        "normal": jax.jit(lambda: normals(seed, NOISE)),
        "Bernoulli": jax.jit(lambda: uniform_bits(seed, NOISE) < jnp.uint32(2**24)),
        "word, threefry": jax.jit(lambda: jax.random.bits(key, (NOISE,))),
        "normal, threefry": jax.jit(lambda: jax.random.normal(key, (NOISE,))),
        "Bernoulli, threefry": jax.jit(lambda: jax.random.bits(key, (NOISE,)) < jnp.uint32(2**24)),
    }
    drawn = {k: measured(lambda: f().block_until_ready(), 4 * repeats) for k, f in noise.items()}  # noqa: B023
    return {"cases": out, "peak_mb": peak, "noise": drawn}


def brainevent_worker(n, p, share, repeats):
    import brainevent
    import jax
    import jax.numpy as jnp

    value = jnp.asarray(active(n, share))
    imported, out = peak_mb(), {}
    for name, law in CASES.items():
        kind, data = (brainevent.JITCScalarR, (1.0,)) if law == "one" else (brainevent.JITCNormalR, (0.0, 1.0))
        matrix = kind((*data, p, 123), shape=(n, n), corder=True)  # its order that draws the active rows only
        send = jax.jit(lambda v, matrix=matrix: brainevent.BinaryArray(v) @ matrix)
        out[name] = measured(lambda: send(value).block_until_ready(), repeats)  # noqa: B023
    return {"cases": out, "peak_mb": peak_mb() - imported, "version": brainevent.__version__}


def worker(name, n, p, share, repeats):
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    run = {"brainsim": brainsim_worker, "brainevent": brainevent_worker}[name]
    print(json.dumps(run(int(n), float(p), float(share), int(repeats))))


def main(quick: bool = False):
    """Prints a table and, unless quick, writes procedural.json."""
    from rich.console import Console
    from rich.table import Table

    n, p, share, rounds, repeats = (100_000, 1e-2, 1e-3, 1, 3) if quick else (1_000_000, 1e-3, 1e-3, 5, 5)
    events = n * p * round(n * share)
    pythons = {"brainsim": sys.executable, "brainevent": os.environ.get("BRAINSIM_BENCH_BRAINPY_PYTHON")}
    runs = {name: [] for name, python in pythons.items() if python}
    for _ in range(rounds):
        for name in runs:
            command = [pythons[name], __file__, name, str(n), str(p), str(share), str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))

    def median(name, group, case, clock):
        return statistics.median(t for run in runs[name] for t in run[group][case][clock])

    table = Table("", "case", "ns per synaptic event (cpu)", "ns (wall)", "peak beyond import, MB")
    results = {
        "n": n,
        "p": p,
        "synapses": n * n * p,
        "active": share,
        "synaptic_events": events,
        "rows": [],
        "noise": {},
    }
    for name, made in runs.items():
        peak = max(run["peak_mb"] for run in made)
        for case in made[0]["cases"]:
            cpu, wall = (1e9 * median(name, "cases", case, clock) / events for clock in ("cpu_s", "wall_s"))
            table.add_row(name, case, f"{cpu:.2f}", f"{wall:.2f}", f"{peak:.0f}")
            row = {"simulator": name, "case": case, "cpu_ns": cpu, "wall_ns": wall, "peak_mb": peak}
            results["rows"].append(row)
    bulk = Table("bulk noise, brainsim", "ns each (cpu)")
    for kind in runs["brainsim"][0]["noise"]:
        results["noise"][kind] = 1e9 * median("brainsim", "noise", kind, "cpu_s") / NOISE
        bulk.add_row(kind, f"{results['noise'][kind]:.2f}")
    if not quick:
        Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    Console().print(f"{n} x {n}, p = {p}: {n * n * p:.3g} synapses, {events:.3g} synaptic events a call", table, bulk)
    if "brainevent" not in runs:
        Console().print("brainevent was not run: name its Python in BRAINSIM_BENCH_BRAINPY_PYTHON.")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        worker(*sys.argv[1:])
    else:
        import typer  # which workers do without

        typer.run(main)
