"""On an NVIDIA GPU: `python -m experiments.benchmarks.gpu [--quick]` writes gpu.json.

The CUDA kernels beside the pure path, which is what brainsim takes where its CUDA library has not been built: COBA-LIF
with its spikes recorded, its gradient in all weights, a sweep of networks, propagation alone over stored and over drawn
rows; and beside brainevent's product, where that is installed in the same environment. Everything runs in one process,
its measurements interleaved.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated
from unittest import mock

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import brainsim as bs
from brainsim.events import CSR, _ffi, deposit

from . import gradient, networks, sweep
from ._simulators import HERE
from .operators import ACTIVITIES, GRAPHS, SAME
from .run import TOLERANCE, machine

SIZES = (4_000, 40_000, 400_000, 4_000_000)
PURE_MOST = 400_000  # units of a network that is worth the wait
STEPS = 100  # of the operator alone
WAYS = ("kernels", "pure")
OUTPUT = HERE / "gpu.json"

console = Console(width=None if Console().is_terminal else 140)


def on(way):
    """What is traced inside takes the kernels, or the pure path."""
    return mock.patch.dict(_ffi._reasons, cuda="" if way == "kernels" else "pure, for comparison")


def seconds(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def interleaved(calls, rounds):
    """The median time of each call, in rounds."""
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: statistics.median(ts) for name, ts in times.items()}


def ceilings():
    """How fast the card copies, and how fast XLA adds at random."""
    x, n = jnp.ones(2**28), 10**7
    copy = jax.jit(lambda x: x + 1)
    places = jax.random.randint(jax.random.key(0), (n,), 0, 10**5, jnp.int32)
    add = jax.jit(lambda out, at, x: out.at[at].add(x))
    calls = {"copy": lambda: copy(x), "add": lambda: add(jnp.zeros(10**5), places, x[:n])}
    interleaved(calls, 1)
    best = interleaved(calls, 5)
    return {"copy_gb_per_s": 2 * x.nbytes / best["copy"] / 1e9, "xla_scatter_add_ns": best["add"] / n * 1e9}


def random_graph(n, k):
    """A graph of n units with k ascending targets each, drawn on the card."""
    key = jax.random.key(n)
    indices = jnp.sort(jax.random.randint(key, (n, k), 0, n, jnp.int32), axis=1).reshape(-1)
    return np.arange(0, n * k + 1, k, dtype=np.int32), np.asarray(indices), jax.random.uniform(key, (n * k,))


def chain(step):
    """Steps as a simulation takes them: one after the other, each with events of its own."""
    return jax.jit(lambda rows, *graph: jax.lax.scan(lambda out, row: (step(out, row, *graph), None), *start(rows))[0])


def start(rows):
    return jnp.zeros(rows.shape[1]), rows


def propagations(n, k, graph):
    """The compiled propagation of each way."""
    indptr, indices, weight = graph
    csr = CSR(indptr, indices, n)

    def ours(out, row, csr, weight):
        return deposit_on(csr, weight, out, row)

    calls = {}
    for way in WAYS:
        jitted = chain(partial(ours))  # traced anew
        calls[way] = lambda rows, jitted=jitted: jitted(rows, csr, weight)
    calls["loop alone"] = chain(lambda out, row: out + row.astype(out.dtype))
    try:
        import brainevent
    except ImportError:
        return calls
    matrix = brainevent.CSR((weight, jnp.asarray(indices), jnp.asarray(indptr)), shape=(n, n))  # refuses to be traced
    calls["brainevent"] = chain(lambda out, row: out + brainevent.BinaryArray(row) @ matrix)
    return calls


def operator_records(graphs, rounds):
    records = []
    for n, k in track(graphs, "propagation", console=console):
        ways = propagations(n, k, random_graph(n, k))
        for activity in ACTIVITIES:
            rows = jax.random.uniform(jax.random.key(1), (STEPS, n)) < activity
            calls = {name: partial(call, rows) for name, call in ways.items()}
            check(f"{n} units of {k} synapses, {activity:g}", compiled(calls), {"loop alone"})
            about = dict(units=n, synapses=n * k, activity=activity, events_per_step=int(rows.sum()) * k / STEPS)
            for name, t in interleaved(calls, rounds).items():
                records.append(dict(way=name, **about, us_per_step=t / STEPS * 1e6))
    return records


def compiled(calls):
    """The results of all calls, each traced as what it is called."""
    results = {}
    for name, call in calls.items():
        with on(name):
            results[name] = jax.tree.map(np.asarray, call())
    return results


def drawn_records(rounds):
    """10^6 x 10^6 units, p = 10^-3, 0.1 % of them active: 10^9 synapses that are never stored."""
    n, p, activity, records = 1_000_000, 1e-3, 1e-3, []
    rows = jax.random.uniform(jax.random.key(2), (STEPS // 10, n)) < activity
    for law, weight in (("one", jnp.asarray(1.0)), ("normal", jnp.asarray([0.0, 1.0]))):
        drawn = bs.DrawnRows.fixed_probability(jnp.asarray([1, 2], jnp.uint32), n, n, p, law=law)
        send = partial(deposit_on, drawn, weight)
        calls = {way: partial(chain(partial(send)), rows) for way in WAYS}
        check("drawn rows", compiled(calls), ())
        about = dict(units=n, synapses=int(n * n * p), law=law, events_per_step=int(rows.sum()) * n * p / len(rows))
        for way, t in interleaved(calls, rounds).items():
            records.append(dict(way=way, **about, us_per_step=t / len(rows) * 1e6))
    return records


def deposit_on(graph, weight, out, row):
    return deposit(out[None], graph, weight, row.astype(out.dtype))[0]


def check(what, results, apart):
    """That all ways but those `apart` come to the result of the pure path."""
    for name in results.keys() - {"pure", *apart}:
        if np.abs(results[name] - results["pure"]).max() > SAME * np.abs(results["pure"]).max():
            raise RuntimeError(f"{what}: {name} differs from the pure path")


def network_records(sizes, t_ms, rounds):
    records = []
    for n in track(sizes, "COBA-LIF", console=console):
        net, run = network(n, t_ms)
        calls = {way: partial(eqx.filter_jit(partial(run)), net) for way in WAYS if way == "kernels" or n <= PURE_MOST}
        spikes = {way: int(counts.sum()) for way, (counts, _) in compiled(calls).items()}
        if max(spikes.values()) - min(spikes.values()) > TOLERANCE * min(spikes.values()):
            raise RuntimeError(f"{n} units spike otherwise with the kernels: {spikes}")
        synapses = sum(e.connect.n_syn for e in net.edges.values())
        for way, t in interleaved(calls, rounds).items():
            about = dict(way=way, units=n, synapses=synapses, biological_ms=t_ms, rate_hz=spikes[way] / n / t_ms * 1e3)
            records.append(dict(**about, us_per_step=t / round(t_ms / networks.DT_MS) * 1e6))
    return records


def network(n, t_ms):
    """COBA-LIF, and a run of it that returns its spikes."""
    sys.path.insert(0, str(HERE))  # where the simulators' scripts look for one another
    import _sim_brainsim

    net, solver = _sim_brainsim.build(bs, jax, diffrax, SimpleNamespace(network="coba_lif", n=n), 0)
    saveat = [bs.Spikes("P", max_rate=100.0)]

    def run(net):
        key = jax.random.key(0)
        spikes = bs.simulate(net, t1=t_ms, dt=networks.DT_MS, solver=solver, saveat=saveat, key=key)["P.spikes"]
        return spikes.counts, spikes.ids

    return net, run


def gradient_records(steps, rounds):
    """4,000 units and their 320,000 weights."""
    net = gradient.build(4_000, 2.0)
    state, records, calls = gradient.settled(net, 100.0), [], {}
    for what, way in itertools.product(("forward", "brainsim"), WAYS):
        jax.clear_caches()
        f, args = gradient.program(net, what, steps, bs.CheckpointedAdjoint())
        with on(way):
            calls[what, way] = partial(f.lower(*args, state).compile(), *args, state)
    for (what, way), t in interleaved(calls, rounds).items():
        what = "forward" if what == "forward" else "forward and gradient"
        records.append(dict(way=way, what=what, units=4_000, steps=steps, us_per_step=t / steps * 1e6))
    return records


def sweep_records(items, steps, rounds):
    """Networks of 1,000 units, each with its own topology and weights: one vmapped call, or one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        sweep.make(folder, items)
        arrays = [jnp.asarray(np.load(f"{folder}/{name}.npy")) for name in ("indices", "weight", "v0")]
    calls, records = {}, []
    for way in WAYS:
        jax.clear_caches()
        with on(way):
            made = sweep.brainsim_ways(arrays[:2], arrays[2], steps, items)
        calls |= {(what, way): made[what][0] for what in ("sequential", "vmap")}
    for (what, way), t in interleaved(calls, rounds).items():
        records.append(dict(way=way, what=what, networks=items, steps=steps, us_per_step=t / steps * 1e6))
    return records


def show(title, records):
    """A line for each case, with the times of all ways."""
    ways = list(dict.fromkeys(r["way"] for r in records))
    columns = [c for c in records[0] if c not in ("way", "us_per_step")]
    table = Table(title=title)
    for name in (*columns, *(f"{way}, us/step" for way in ways), "pure / kernels"):
        table.add_column(name.replace("_", " "), justify="right")
    rows = {}
    for r in records:
        rows.setdefault(tuple(r[c] for c in columns), {})[r["way"]] = r["us_per_step"]
    for row, of in rows.items():
        texts = [x if isinstance(x, str) else f"{x:,}" if isinstance(x, int) else f"{x:,.4g}" for x in row]
        texts += [f"{of[way]:,.1f}" if way in of else "" for way in ways]
        table.add_row(*texts, f"{of['pure'] / of['kernels']:.1f}x" if "pure" in of else "")
    console.print(table)


PARTS = {
    "networks": lambda quick: network_records(SIZES[:2] if quick else SIZES, 50.0, 3 if quick else 5),
    "propagation": lambda quick: operator_records(GRAPHS[:1] if quick else GRAPHS[:3], 3 if quick else 5),
    "drawn": lambda quick: drawn_records(3 if quick else 5),
    "gradient": lambda quick: gradient_records(100, 3 if quick else 5),
    "sweep": lambda quick: sweep_records(16 if quick else 64, 50, 3),
}


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(PARTS)}; all if none is named")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small sizes, three rounds")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="where the numbers go, beside those of other parts; gpu.json unless --quick"),
    ] = None,
):
    if jax.default_backend() != "gpu" or bs.backend("cuda") != "kernels":
        console.print(f"skipped: needs an NVIDIA GPU (jax runs on {jax.default_backend()}) and the CUDA library, which")
        console.print(f"ops/README.md says how to build (brainsim says: {bs.backend('cuda')})")
        raise typer.Exit
    if unknown := [part for part in parts or () if part not in PARTS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    output = output or (None if quick else OUTPUT)
    results = json.loads(output.read_text()) if output and output.exists() else {}
    about = machine() | {"gpu": jax.devices()[0].device_kind, "jax": jax.__version__} | ceilings()
    for part in parts or PARTS:
        begin = time.perf_counter()
        records = PARTS[part](quick)
        show(part, records)
        console.print(f"{part}: {time.perf_counter() - begin:.0f} s", style="dim")
        results[part] = {"machine": about, "records": records}
        if output:
            output.write_text(json.dumps(results, indent=1) + "\n")
    console.print(about)


if __name__ == "__main__":
    typer.run(main)
