"""A sweep of networks of 1,000 units that differ in topology, weights and initial state, in one vmapped call.

`python -m experiments.benchmarks.sweep [--quick]` writes sweep.json and prints a table: brainsim's vmap beside its own
sequential calls, with one topology and weights for all and with those of each, and beside brainevent's vmap of the same
equations over the same synapses. Each in processes of its own held to its cores, repeats interleaved. The same file is
the worker, so that it runs under a Python that has no brainsim.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the worker is a script
import networks  # noqa: E402

N, K, DT = 1_000, 80, networks.DT_MS
P = networks.NETWORKS["coba_lif"]
SPLIT = networks.n_excitatory(N)
WORKERS = {"brainsim 1 t": ("brainsim", 1), "brainsim 2 t": ("brainsim", 2), "brainevent 1 t": ("brainevent", 1)}


def make(folder, items, seed=0):
    """COBA-LIF with 80 targets a unit, `items` times over: targets, weights (nS) and initial potentials (mV)."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, N, (items, N, K), np.int32)
    indices.sort(axis=-1)
    mean = np.where(np.arange(N) < SPLIT, P.w_e, P.w_i)[:, None] * P.g_l
    weight = np.maximum(mean * (1 + 0.1 * rng.standard_normal((items, N, K))), 0).astype(np.float32)
    v0 = (P.v0_mean + P.v0_std * rng.standard_normal((items, N))).astype(np.float32)
    for name, x in dict(indices=indices, weight=weight, v0=v0).items():
        np.save(f"{folder}/{name}.npy", x)


def brainsim_ways(graphs, v0, steps, batch):
    """Way -> (a call, how many items it runs)."""
    import diffrax
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import brainsim as bs

    assert bs.backend() == "kernels", bs.backend()
    indices, weight = graphs

    def built(indices, weight, v0):
        cell = bs.LIF(tau_m=P.tau_m, e_l=P.e_l, v_th=P.v_th, v_reset=P.v_reset, t_ref=P.t_ref, g_l=P.g_l)
        receptors = {"exc": bs.ExpCond(tau=P.tau_e, e_rev=P.e_e), "inh": bs.ExpCond(tau=P.tau_i, e_rev=P.e_i)}
        cells = bs.Population(cell, N, receptors, i_e=P.drive * P.g_l, init={"v": v0})
        halves = {"exc": slice(SPLIT), "inh": slice(SPLIT, N)}
        edges = {
            port: bs.Projection(
                f"P[{at.start or ''}:{at.stop}]", f"P.{port}", bs.FixedFanout(indices[at], N), weight=weight[at]
            )
            for port, at in halves.items()
        }
        return eqx.partition(bs.Network({"P": cells}, edges, key=jax.random.key(0)), eqx.is_array)

    def run(arrays):
        how = dict(t1=steps * DT, dt=DT, solver=diffrax.Euler(), key=jax.random.key(0), saveat=[bs.Rate("P")])
        return jnp.mean(bs.simulate(eqx.combine(arrays, static), **how)["P.rate"]) * DT * 1e-3

    made = [built(*item) for item in zip(indices, weight, v0, strict=True)]
    static, items = made[0][1], [arrays for arrays, _ in made]
    same = [eqx.tree_at(lambda a: a.nodes, items[0], item.nodes) for item in items]
    axes = eqx.tree_at(
        lambda a: a.nodes["P"].init_values["v"], jax.tree.map(lambda _: None, items[0]), 0, is_leaf=lambda x: x is None
    )
    single = jax.jit(run).lower(items[0]).compile()

    def sequential(items):
        return lambda: jnp.stack([single(item) for item in items])

    def vmapped(items, axes):
        stacked = jax.tree.map(
            lambda axis, *xs: xs[0] if axis is None else jnp.stack(xs), axes, *items, is_leaf=lambda x: x is None
        )
        compiled = jax.jit(jax.vmap(run, in_axes=(axes,))).lower(stacked).compile()
        return lambda: compiled(stacked)

    every = jax.tree.map(lambda _: 0, items[0])
    return {
        "sequential": (sequential(items), len(items)),
        "vmap": (vmapped(items, every), len(items)),
        f"vmap of {batch}": (vmapped(items[:batch], every), batch),
        "sequential, shared": (sequential(same), len(items)),
        "vmap, shared": (vmapped(same, axes), len(items)),
        f"vmap of {batch}, shared": (vmapped(same[:batch], axes), batch),
    }


def brainevent_ways(graphs, v0, steps, batch):
    """The same network in plain JAX, its propagation by brainevent."""
    del batch
    import brainevent
    import jax
    import jax.numpy as jnp

    halves = (slice(SPLIT), P.tau_e, P.e_e), (slice(SPLIT, N), P.tau_i, P.e_i)

    def run(indices, weight, v0):
        def step(carry, _):
            v, g, late, left = carry
            g = [x + y for x, y in zip(g, late, strict=True)]
            current = sum(x * (e - v) for x, (_, _, e) in zip(g, halves, strict=True)) / P.g_l
            flown = v + DT / P.tau_m * (P.e_l - v + P.drive + current)
            v = jnp.where(left > 0, P.v_reset, flown)
            g = [x - DT / tau * x for x, (_, tau, _) in zip(g, halves, strict=True)]
            spikes = v > P.v_th
            v = jnp.where(spikes, P.v_reset, v)
            left = jnp.where(spikes, round(P.t_ref / DT), jnp.maximum(left - 1, 0))
            late = [
                brainevent.binary_fcnmv(
                    weight[at], indices[at], spikes[at], shape=(at.stop - (at.start or 0), N), transpose=True
                )
                for at, _, _ in halves
            ]
            return (v, g, late, left), jnp.mean(spikes)

        zero = [jnp.zeros(N), jnp.zeros(N)]
        return jnp.mean(jax.lax.scan(step, (v0, zero, zero, jnp.zeros(N, jnp.int32)), None, length=steps)[1])

    args = [jnp.asarray(x) for x in (*graphs, v0)]
    items = list(zip(*args, strict=True))
    single, many = jax.jit(run).lower(*items[0]).compile(), jax.jit(jax.vmap(run)).lower(*args).compile()
    return {
        "sequential": (lambda: jnp.stack([single(*item) for item in items]), len(items)),
        "vmap": (lambda: many(*args), len(items)),
    }


def worker(way, folder, steps, batch, threads):
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads) :])
    graphs = np.load(f"{folder}/indices.npy"), np.load(f"{folder}/weight.npy")
    make_ways = {"brainsim": brainsim_ways, "brainevent": brainevent_ways}[way]
    ways = make_ways(graphs, np.load(f"{folder}/v0.npy"), int(steps), int(batch))
    events = {name: np.rint(np.asarray(call()) * int(steps) * N) for name, (call, _) in ways.items()}  # not timed
    for name, sequential in (("vmap", "sequential"), ("vmap, shared", "sequential, shared")):
        if way == "brainsim":
            np.testing.assert_array_equal(events[name], events[sequential])
    rates = {name: float(np.mean(many)) / (int(steps) * N * DT) * 1e3 for name, many in events.items()}
    print(json.dumps(rates), file=out, flush=True)
    for line in sys.stdin:
        call, items = ways[line.strip()]
        wall, cpu = time.perf_counter(), time.process_time()
        np.asarray(call())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        per = 1e6 / items / int(steps)
        print(json.dumps({"wall_us": wall * per, "cpu_us": cpu * per}), file=out, flush=True)


def main(quick: bool = False):
    """Prints a table and, unless quick, writes sweep.json."""
    from rich.console import Console
    from rich.table import Table

    from experiments.benchmarks._simulators import find
    from experiments.benchmarks.run import machine

    items, steps, batch, rounds = (32, 200, 8, 2) if quick else (256, 500, 64, 5)
    console, about = Console(width=None if Console().is_terminal else 130), machine()
    with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
        make(folder, items)
        workers, rates = {}, {}
        for name, (way, threads) in WORKERS.items():
            python, env, why = find("brainpy" if way == "brainevent" else "brainsim", way, None)
            if python is None:
                console.print(f"skipping {name}: {why}")
                continue
            command = [python, __file__, way, folder, str(steps), str(batch), str(threads)]
            pipe = subprocess.PIPE
            env = {**(env or os.environ), "NPROC": str(threads)}
            workers[name] = subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe)
            rates[name] = json.loads(workers[name].stdout.readline())
        times = {(name, way): [] for name in workers for way in rates[name]}
        for _ in range(rounds):
            for name, way in times:
                print(way, file=workers[name].stdin, flush=True)
                times[name, way].append(json.loads(workers[name].stdout.readline()))
        for process in workers.values():
            process.stdin.close()
            process.wait()
    table = Table(
        "", "way", "Hz", "us per item-step (wall)", "(cpu)", "x sequential (wall)", "(cpu)", "x vmap, 1 t (cpu)"
    )
    records = []
    for (name, way), mine in times.items():
        shared = ", shared" if way.endswith("shared") else ""
        wall, cpu = (statistics.median(r[clock] for r in mine) for clock in ("wall_us", "cpu_us"))

        def times_of(other, clock, mine=mine):  # of the same round
            return statistics.median(a[clock] / b[clock] for a, b in zip(times[other], mine, strict=True))

        base = name, f"sequential{shared}"
        ratios = dict(x_sequential_wall=times_of(base, "wall_us"), x_sequential_cpu=times_of(base, "cpu_us"))
        ratios["x_vmap_cpu"] = times_of(("brainsim 1 t", f"vmap{shared}"), "cpu_us")
        about_it = dict(simulator=name, way=way, rate_hz=rates[name][way], wall_us=wall, cpu_us=cpu)
        records.append(dict(about_it, **ratios, runs=mine))
        table.add_row(name, way, f"{rates[name][way]:.1f}", *(f"{x:.2f}" for x in (wall, cpu, *ratios.values())))
    about["load_average_at_end"] = round(os.getloadavg()[0], 2)
    if not quick:
        result = dict(machine=about, items=items, units=N, synapses=N * K, steps=steps, rounds=rounds, records=records)
        Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"{items} networks of {N} units and {N * K} synapses, {steps} steps of {DT} ms", table)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        worker(*sys.argv[1:])
    else:
        import typer  # which workers do without

        typer.run(main)
