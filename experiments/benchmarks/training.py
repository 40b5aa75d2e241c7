"""A training step of a recurrent spiking network: 700 inputs, 256 LIF units, 20 readouts, 100 steps, batch 128.

`python -m experiments.benchmarks.training [--quick]` writes training.json and prints a table: brainsim, the 30 lines of
`jax.lax.scan` one would write by hand, snnTorch and SpikingJelly, each in processes of its own, on one thread and on
two, repeats interleaved. The same file is the worker, so that it runs under a Python that has no brainsim.

All have the same weights, inputs (3 % of the entries are 1), decay, hard reset, mean potential of the readouts as the
score, cross-entropy and Adam; surrogates are each library's own of one threshold's width. Both torch networks apply the
input and output layers to all steps at once, as their authors recommend.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

INPUTS, CELLS, CLASSES, STEPS, BATCH = 700, 256, 20, 100, 128
TAU = 20.0
WAYS = {"brainsim": None, "lax.scan": None, "snntorch": "BRAINSIM_BENCH_TORCH_PYTHON"}
WAYS["spikingjelly"] = "BRAINSIM_BENCH_TORCH_PYTHON"


def task():
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = {"in": (INPUTS, CELLS, 0.1), "own": (CELLS, CELLS, 0.02), "out": (CELLS, CLASSES, 0.1)}
    weights = {name: (rng.normal(size=(a, b)) * s).astype(np.float32) for name, (a, b, s) in sizes.items()}
    x = (rng.random((BATCH, STEPS, INPUTS)) < 0.03).astype(np.float32)
    return weights, x, rng.integers(0, CLASSES, BATCH)


def brainsim_scores(weights):
    import equinox as eqx
    import jax

    import brainsim as bs

    assert bs.backend() == "kernels", bs.backend()
    cells = bs.LIF(tau_m=TAU, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)
    between = {"in": ("x", "cells"), "own": ("cells", "cells"), "out": ("cells", "readouts")}
    delays = {"in": bs.INSTANT, "own": 0.0, "out": bs.INSTANT}
    net = bs.Network(
        nodes={
            "x": bs.Source(bs.External(), INPUTS),
            "cells": bs.Population(cells, CELLS, {"v": bs.Delta()}, surrogate=bs.Triangular(1.0)),
            "readouts": bs.Population(bs.LeakyIntegrator(tau_m=TAU), CLASSES, {"v": bs.Delta()}),
        },
        edges={
            name: bs.Projection(pre, post, bs.Dense(*weights[name].shape), weight=weights[name], delay=delays[name])
            for name, (pre, post) in between.items()
        },
    )

    def scores(weights, x):
        # an arrival decays with the potential it is added to, in the same step; that of the others does not
        given = [w * math.exp(1.0 / TAU) for w in weights.values()]
        present = eqx.tree_at(lambda n: [n.edges[k].weight for k in weights], net, given)

        def one(x):
            run = dict(t1=float(STEPS), dt=1.0, key=jax.random.key(0), inputs={"x": x}, adjoint=bs.DirectAdjoint())
            sol = bs.simulate(present, **run, saveat=[bs.Trace("readouts.v")])
            return sol["readouts.v"].mean(0), sol.rates["cells"]

        out, rates = jax.vmap(one)(x)
        return out, rates.mean() / 1000.0

    return scores


def by_hand_scores(weights):
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp
    def spike(v):
        return (v > 0).astype(v.dtype)

    @spike.defjvp
    def _(primals, tangents):
        return spike(*primals), jnp.maximum(0.0, 1.0 - jnp.abs(primals[0])) * tangents[0]

    beta = math.exp(-1.0 / TAU)

    def scores(weights, x):
        def step(carry, x):
            v, s, out = carry
            v = beta * v * (1.0 - s) + x @ weights["in"] + s @ weights["own"]
            s = spike(v - 1.0)
            out = beta * out + s @ weights["out"]
            return (v, s, out), (out, s.mean())

        zeros = jnp.zeros((BATCH, CELLS))
        _, (out, rate) = jax.lax.scan(step, (zeros, zeros, jnp.zeros((BATCH, CLASSES))), jnp.swapaxes(x, 0, 1))
        return out.mean(0), rate.mean()

    return scores


def jax_step(make):
    import jax
    import jax.numpy as jnp
    import optax

    weights, x, y = task()
    scores, optimiser = make(weights), optax.adam(1e-3)

    def loss(weights, x, y):
        out, rate = scores(weights, x)
        return optax.softmax_cross_entropy_with_integer_labels(out, y).mean(), rate

    @jax.jit
    def update(weights, state, x, y):
        (value, rate), gradient = jax.value_and_grad(loss, has_aux=True)(weights, x, y)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(weights, change), state, value, rate

    now = jax.tree.map(jnp.asarray, weights)
    now, x, y = [now, optimiser.init(now)], jnp.asarray(x), jnp.asarray(y)

    def step():
        *now[:], value, rate = update(*now, x, y)
        return float(value), float(rate)

    return step


def torch_step(kind, threads):
    import torch

    torch.set_num_threads(threads)
    weights, x, y = task()

    def linear(w):
        layer = torch.nn.Linear(*w.shape, bias=False)
        layer.weight.data = torch.from_numpy(w.T.copy())
        return layer

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.own, self.out = (linear(weights[k]) for k in ("in", "own", "out"))

        def forward(self, x):
            current, spikes, cells = self.into(x), [], self.cells()
            s = torch.zeros(BATCH, CELLS)
            for t in range(STEPS):
                s = cells(current[t] + self.own(s))
                spikes.append(s)
            spikes = torch.stack(spikes)
            current, total, readouts = self.out(spikes), 0.0, self.readouts()
            for t in range(STEPS):
                total = total + readouts(current[t])
            return total / STEPS, spikes.mean()

    if kind == "snntorch":
        import snntorch

        # in place of RLeaky, which is slower: its own recurrent layer keeps every step's state
        beta = math.exp(-1.0 / TAU)
        unit = snntorch.Leaky(beta=beta, spike_grad=snntorch.surrogate.triangular(), reset_mechanism="zero")
        readout = snntorch.Leaky(beta=beta, reset_mechanism="none")

        def stateful(layer, which):
            state = [layer.init_leaky()]

            def step(x):
                spikes, state[0] = layer(x, state[0])
                return (spikes, state[0])[which]

            return step

        Net.cells, Net.readouts = lambda self: stateful(unit, 0), lambda self: stateful(readout, 1)
    else:
        from spikingjelly.activation_based import functional, neuron, surrogate

        how = dict(tau=1.0 / (1.0 - math.exp(-1.0 / TAU)), decay_input=False, v_reset=0.0, step_mode="s")
        unit = neuron.LIFNode(v_threshold=1.0, surrogate_function=surrogate.ATan(), **how)
        readout = neuron.LIFNode(v_threshold=1e9, **how)

        def cells(self):
            functional.reset_net(unit)
            return unit

        def readouts(self):
            functional.reset_net(readout)

            def step(x):
                readout(x)
                return readout.v

            return step

        Net.cells, Net.readouts = cells, readouts
    net = Net()
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    x, y = torch.from_numpy(x.transpose(1, 0, 2).copy()), torch.from_numpy(y)

    def step():
        optimiser.zero_grad()
        out, rate = net(x)
        loss = torch.nn.functional.cross_entropy(out, y)
        loss.backward()
        optimiser.step()
        return float(loss), float(rate)

    return step


def worker(name, threads, repeats):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    if name in ("brainsim", "lax.scan"):
        step = jax_step({"brainsim": brainsim_scores, "lax.scan": by_hand_scores}[name])
    else:
        step = torch_step(name, int(threads))
    (loss, rate), wall, cpu = step(), [], []
    for _ in range(int(repeats)):
        start = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "loss": loss, "spikes_per_step": rate}))


def main(quick: bool = False):
    """Prints a table and, unless quick, writes training.json."""
    from rich.console import Console
    from rich.table import Table

    from .run import machine

    rounds, repeats = (1, 3) if quick else (5, 6)
    pythons = {name: sys.executable if env is None else os.environ.get(env) for name, env in WAYS.items()}
    runs = {(name, threads): [] for threads in (1, 2) for name, python in pythons.items() if python}
    results = {"machine": machine(), "rows": []}
    for _ in range(rounds):
        for name, threads in runs:
            command = [pythons[name], __file__, name, str(threads), str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[name, threads].append(json.loads(done.stdout.splitlines()[-1]))
    title = f"{INPUTS}-{CELLS}-{CLASSES}, {STEPS} steps, batch {BATCH}: one training step"
    table = Table("", "threads", "ms (wall)", "ms (cpu)", "x brainsim (wall)", "loss", "spikes/unit/step", title=title)
    for (name, threads), made in runs.items():
        wall, cpu = (statistics.median(t for run in made for t in run[clock]) for clock in ("wall_s", "cpu_s"))
        ours = statistics.median(t for run in runs["brainsim", threads] for t in run["wall_s"])
        first = made[0]
        row = dict(way=name, threads=threads, wall_s=wall, cpu_s=cpu, x_brainsim=wall / ours)
        results["rows"].append(row | {k: first[k] for k in ("loss", "spikes_per_step")})
        figures = f"{1e3 * wall:.0f}", f"{1e3 * cpu:.0f}", f"{wall / ours:.2f}", f"{first['loss']:.3f}"
        table.add_row(name, str(threads), *figures, f"{first['spikes_per_step']:.4f}")
    Console().print(table)
    if not quick:
        Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    if not pythons["snntorch"]:
        Console().print("snnTorch and SpikingJelly were not run: name their Python in BRAINSIM_BENCH_TORCH_PYTHON.")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        worker(*sys.argv[1:])
    else:
        import typer  # which workers do without

        typer.run(main)
