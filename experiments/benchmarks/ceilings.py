"""What this machine can do at best, and how far the operators' kernels are from it.

`python -m experiments.benchmarks.ceilings [--quick]` prints the machine's ceilings (loops in ceilings.cc, compiled for
it), then, at two sizes, the time of each kernel beside the ceiling that its work is bound by, and writes ceilings.json.
One thread unless said; the best of the repeats, as a ceiling is what nothing disturbs.
"""

import ctypes
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("NPROC", "1")

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim.events import (
    CSR,
    DrawnRows,
    backend,
    collect,
    deposit,
    deposit_all,
    normals,
    propagate,
    seed_of,
    uniform_bits,
)

from .run import machine

STREAM = (4_000, 100_000, 4_000_000, 64_000_000)  # floats: caches of all levels, memory
ARRAYS = (4_000, 40_000, 400_000, 64_000_000)
ROWS = (100_000, 4_000_000, 100_000_000)  # synapses
K = 80


def library(folder):
    source = str(Path(__file__).with_suffix(".cc"))
    compiler = [os.environ.get("CXX", "c++"), "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*compiler, source, "-o", f"{folder}/ceilings.so"], check=True)
    loaded = ctypes.CDLL(f"{folder}/ceilings.so")
    for name in ("stream", "random_reads", "scatter", "rows", "wake"):
        getattr(loaded, name).restype = ctypes.c_double
    return loaded


def ceilings(lib, quick, repeats):
    """Records of what, of how much memory, on how many threads, ns per item."""
    big, small = ctypes.c_int64, ctypes.c_uint32
    count = big(1_000_000 if quick else 10_000_000)
    records = []

    def best(what, size, threads, call):
        records.append(dict(what=what, mb=size / 1e6, threads=threads, ns=min(call() for _ in range(repeats))))

    for threads in (1, 2):
        for n in STREAM:
            passes = big(max(2, (10**7 if quick else 2 * 10**8) // n))
            best("add 1 to each", 4 * n, threads, lambda: lib.stream(big(n), passes, threads))  # noqa: B023
        for n in ARRAYS:
            best("read at random", 4 * n, threads, lambda: lib.random_reads(small(n), count, threads))  # noqa: B023
            best("add at random, amounts in order", 4 * n, threads, lambda: lib.scatter(small(n), count, threads))  # noqa: B023
        for n in ROWS:
            each = big(count.value // K)
            best(f"read rows of {K}", 8 * n, threads, lambda: lib.rows(big(n), big(K), each, threads))  # noqa: B023
    best("wake a thread and back", 0, 2, lambda: lib.wake(big(2_000 if quick else 20_000)))
    return records


def timed(f, *args, repeats):
    """Nanoseconds of the best call."""
    jax.block_until_ready(f(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(f(*args))
        times.append(time.perf_counter() - start)
    return 1e9 * min(times)


def kernels(n, activity, repeats):
    """Records of each kernel over n units with K synapses each: ns per event, or per unit where it looks at units."""
    rng, steps = np.random.default_rng(0), 64
    indices = rng.integers(0, n, (n, K), np.int32)
    indices.sort(axis=1)
    graph = CSR(np.arange(0, n * K + 1, K, dtype=np.int32), indices.reshape(-1), n)
    weight, one = jnp.asarray(rng.random(n * K, np.float32)), jnp.float32(1.0)
    hit = rng.random((steps, n)) < activity
    values, events = jnp.asarray(hit, jnp.float32), int(hit.sum()) * K
    packed = np.packbits(np.pad(hit, ((0, 0), (0, -n % 32))), axis=1, bitorder="little").view("<u4")
    words, ring, c = jnp.asarray(packed), jnp.zeros((8, n)), jnp.asarray(rng.random(n, np.float32))
    delay = jnp.asarray(rng.integers(0, 8, n * K), jnp.int32)
    records = []

    def over(what, per, step, carry, xs):
        f = jax.jit(lambda carry, xs: jax.lax.scan(step, carry, xs)[0])
        ns = timed(f, carry, xs, repeats=repeats) / per
        records.append(dict(kernel=what, n=n, synapses=n * K, events_per_step=events / steps, ns=ns))

    def send(weight, delay=None):
        def step(ring, x):
            return deposit(ring, graph, weight, x[0], words=x[1], delay=delay), None

        return step

    def back(w):
        def step(total, x):
            return total + jax.vjp(lambda v: propagate(graph, w, v, x > 0), x)[1](c)[0], None

        return step

    def drawn(topology, weight):
        return lambda ring, x: (deposit(ring, topology, weight, x[0], words=x[1]), None)

    p, seed = K / n, seed_of(jax.random.key(0))
    over("scatter, a weight each", events, send(weight), ring, (values, words))
    over("scatter, one weight", events, send(one), ring, (values, words))
    over("scatter, a weight and a delay each", events, send(weight, delay), ring, (values, words))
    over("gather, a weight each", events, back(weight), jnp.zeros(n), values)
    slots = jnp.zeros(steps, jnp.int32)
    all_steps = jax.jit(
        jax.grad(lambda w: jnp.sum(deposit_all(ring, graph, w, values, slots=slots, words=words)[0] * c))
    )
    ns = timed(all_steps, weight, repeats=repeats) / events
    records.append(dict(kernel="outer of all steps, a weight each", n=n, events_per_step=events / steps, ns=ns))
    rows = DrawnRows.fixed_probability(seed, n, n, p)
    over("drawn scatter, one weight", events, drawn(rows, one), ring, (values, words))
    normal = jnp.asarray([1.0, 0.1], jnp.float32)
    over("drawn scatter, normal weights", events, drawn(rows.drawing("normal"), normal), ring, (values, words))

    def take(ring, n_step):
        row, ring = collect(ring, n_step)
        return ring, row[0]

    over("collect, per unit", n * steps, take, ring, jnp.arange(steps, dtype=jnp.int32))
    receptors = {"exc": bs.ExpCond(tau=5.0, e_rev=0.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}
    cells = bs.Population(bs.LIF(), n, receptors, init={"v": bs.Normal(-60.0, 1.0)})
    net, solver, dt = bs.Network({"P": cells}, {}), diffrax.Euler(), 0.1
    state = bs.simulate(net, t1=dt, dt=dt, solver=solver, key=jax.random.key(0)).state
    whole = jax.jit(lambda s: bs.simulate(net, t0=0.0, t1=steps * dt, dt=dt, solver=solver, state=s, throw=False).state)
    per = n * steps
    records.append(dict(kernel="fused step of a LIF, per unit", n=n, ns=timed(whole, state, repeats=repeats) / per))
    bulk = timed(jax.jit(lambda: uniform_bits(seed, 1 << 20)), repeats=repeats) / (1 << 20)
    records.append(dict(kernel="bits, per word", n=n, ns=bulk))
    bulk = timed(jax.jit(lambda: normals(seed, 1 << 20)), repeats=repeats) / (1 << 20)
    records.append(dict(kernel="normals, per number", n=n, ns=bulk))
    return records


def main(quick: bool = False):
    """Prints a table and, unless quick, writes ceilings.json."""
    assert backend() == "kernels", backend()
    repeats = 3 if quick else 30
    about, console = machine(), Console(width=None if Console().is_terminal else 110)
    with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
        limits = ceilings(library(folder), quick, 2 if quick else 5)
    table = Table("ceiling", "memory, MB", "threads", "ns")
    for r in limits:
        table.add_row(r["what"], f"{r['mb']:.3g}", str(r["threads"]), f"{r['ns']:.3f}")
    console.print(table)
    sizes = ((4_000, 0.02),) if quick else ((4_000, 0.02), (40_000, 0.01), (400_000, 0.005))
    runs = [r for n, activity in sizes for r in kernels(n, activity, repeats)]
    table = Table("kernel", "units", "events a step", "ns")
    for r in runs:
        table.add_row(r["kernel"], f"{r['n']:,}", f"{r.get('events_per_step', 0):,.0f}", f"{r['ns']:.3f}")
    console.print(table)
    if not quick:
        about["load_average_at_end"] = round(os.getloadavg()[0], 2)
        result = dict(machine=about, ceilings=limits, kernels=runs, version=bs.__version__)
        Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
