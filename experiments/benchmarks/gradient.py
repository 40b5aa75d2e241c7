"""What a gradient of a whole run costs: `python -m experiments.benchmarks.gradient [--quick]`, writes gradient.json.

The gradient of a firing rate in all weights of COBA-LIF, one per synapse, beside the forward run, as it is and with the
units left to XLA, and beside the same derivative taken in two other ways, whose scans are built here:

- *a step at a time*: rows are sparse as in brainsim, but the weights are closed over by the scan, so that its transpose
  adds a cotangent of the size of the synapses in every step;
- *all synapses*: in addition every row of the connectivity is visited in every step;
- *brainevent*: the same network and loss with the operators of brainevent, where it is installed
  (BRAINSIM_BENCH_BRAINPY_PYTHON); over fewer steps where it is slow, and all times are given per step.
"""

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import brainsim as bs

from . import networks
from ._simulators import HERE, find
from .run import machine

# The full slope overflows within 1,000 steps of this network, in which one spike moves 64 units by millivolts. The
# support, and with it the work, is that of the full slope.
DAMPING = 0.1
SOLVER = bs.ExponentialEuler()
console = Console(width=None if Console().is_terminal else 140)
FORWARD = ("forward", "forward in XLA")
WAYS = (*FORWARD, "brainsim", "a step at a time", "all synapses")


class StepByStep(bs.AbstractEdge):
    """A projection that keeps to itself that its weights are constant."""

    edge: bs.AbstractEdge

    reads = property(lambda self: self.edge.reads)
    writes = property(lambda self: self.edge.writes)
    instant = property(lambda self: self.edge.instant)

    def schedule(self, where, dt):
        return SentStepByStep(self.edge.schedule(where, dt))

    def depth(self, dt):
        return self.edge.depth(dt)

    def init(self, clock):
        return self.edge.init(clock)


class SentStepByStep(bs.AbstractScheduledEdge):
    """A `StepByStep` edge at one dt."""

    edge: bs.AbstractScheduledEdge

    reads = property(lambda self: self.edge.reads)
    writes = property(lambda self: self.edge.writes)
    instant = property(lambda self: self.edge.instant)

    def send(self, z, views, clock):
        return self.edge.send(z, views, clock)


class Everywhere(bs.AbstractSurrogate):
    """A surrogate that does not say where it is zero."""

    of: bs.AbstractSurrogate

    width = property(lambda self: self.of.width)

    def slope(self, x):
        return self.of.slope(x)

    def support(self, x):
        return None


def build(n, width):
    p, s = networks.NETWORKS["coba_lif"], networks.scale(n)
    cell = bs.LIF(tau_m=p.tau_m, e_l=p.e_l, v_th=p.v_th, v_reset=p.v_reset, t_ref=p.t_ref, g_l=p.g_l)
    receptors = {"exc": bs.ExpCond(tau=p.tau_e, e_rev=p.e_e), "inh": bs.ExpCond(tau=p.tau_i, e_rev=p.e_i)}
    about = dict(i_e=p.drive * p.g_l, init={"v": bs.Normal(p.v0_mean, p.v0_std)})
    # the reset is detached: a surrogate narrower than the jump at the reset would multiply gradients in every step
    surrogate = bs.Damped(bs.Triangular(width), DAMPING)
    cells = bs.Population(cell, n, receptors, surrogate=surrogate, detach_reset=True, **about)
    split, rule = networks.n_excitatory(n), bs.FixedProbability(networks.P_CONNECT)
    w_e, w_i = p.w_e * p.g_l / s, p.w_i * p.g_l / s
    edges = {
        "exc": bs.Projection(f"P[:{split}]", "P.exc", rule, weight=bs.Normal(w_e, 0.1 * w_e, low=0.0)),
        "inh": bs.Projection(f"P[{split}:]", "P.inh", rule, weight=bs.Normal(w_i, 0.1 * w_i, low=0.0)),
    }
    return bs.Network({"P": cells}, edges, key=jax.random.key(0))


def settled(net, t_ms):
    """The state after `t_ms`: the transient of the start is no measure of activity."""
    return bs.simulate(net, t1=t_ms, dt=networks.DT_MS, solver=SOLVER, key=jax.random.key(1)).state


def otherwise(net, way):
    """The same network, differentiated in another way."""
    if way in ("a step at a time", "all synapses"):
        net = eqx.tree_at(lambda m: m.edges, net, {name: StepByStep(edge) for name, edge in net.edges.items()})
    if way == "all synapses":
        net = eqx.tree_at(lambda m: m.nodes["P"].surrogate, net, Everywhere(net.nodes["P"].surrogate))
    return net


def program(net, way, steps, adjoint):
    """The compiled function of (network, state) that is timed, and what its temporary memory is (bytes)."""

    def loss(weights, rest, state):
        net = eqx.combine(weights, rest)
        how = dict(dt=networks.DT_MS, solver=SOLVER, state=state, adjoint=adjoint, saveat=[bs.Rate("P")])
        sol = bs.simulate(net, t0=0.0, t1=steps * networks.DT_MS, **how)  # a traced state does not tell its time
        return jnp.mean(sol["P.rate"]) * networks.DT_MS * 1e-3  # spikes a unit and step

    which = jax.tree.map(lambda _: False, net)
    which = eqx.tree_at(lambda m: [getattr(e, "edge", e).weight for e in m.edges.values()], which, [True, True])
    f = loss if way in FORWARD else jax.value_and_grad(loss)

    def call(weights, rest, state):
        return f(weights, eqx.combine(rest, static), state)

    weights, rest = eqx.partition(net, which)
    arrays, static = eqx.partition(rest, eqx.is_array)
    return jax.jit(call), (weights, arrays)


def measure(n, width, steps, settle_ms, ways, repeats, adjoint, net=None, peer_steps=0):
    net = build(n, width) if net is None else net
    net = eqx.tree_at(lambda m: m.nodes["P"].surrogate.surrogate.width, net, jnp.asarray(width))
    state = settled(net, settle_ms)
    activity, support = statistics_of(net, state, min(steps, 200))
    record = {
        "n": n,
        "synapses": sum(e.connect.n_syn for e in net.edges.values()),
        "steps": steps,
        "width_mv": width,
        "damping": DAMPING,
        "rate_hz": activity / networks.DT_MS * 1e3,
        "support": support,
        "adjoint": repr(adjoint),
    }
    jobs, times, first = {}, {way: [] for way in ways}, {}
    for way in ways:
        f, args = program(otherwise(net, way), way, steps, adjoint)
        begin = time.perf_counter()
        with without_fusion() if way == "forward in XLA" else contextlib.nullcontext():
            compiled = f.lower(*args, state).compile()
        record.setdefault("compile_s", {})[way] = time.perf_counter() - begin
        record.setdefault("temporary_mb", {})[way] = compiled.memory_analysis().temp_size_in_bytes / 1e6
        first[way] = jax.block_until_ready(compiled(*args, state))
        jobs[way] = (compiled, args)
    for _ in range(repeats):  # interleaved: all see the same weather
        for way, (compiled, args) in jobs.items():
            begin, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(compiled(*args, state))
            times[way].append((time.perf_counter() - begin, time.process_time() - cpu))
    record["run_s"] = {way: [wall for wall, _ in ts] for way, ts in times.items()}
    record["cpu_s"] = {way: [cpu for _, cpu in ts] for way, ts in times.items()}
    if peer_steps and (peer := beside_brainevent(net, state, width, peer_steps, repeats)):
        record["brainevent"] = peer
        for which in ("run_s", "cpu_s"):
            record[which]["brainevent"] = [x * steps / peer_steps for x in peer[which]]
    grads = {way: [np.asarray(x) for x in jax.tree.leaves(out[1])] for way, out in first.items() if way not in FORWARD}
    for g in grads.values():
        assert all(np.isfinite(x).all() for x in g), "a gradient that overflows is no measurement"
    ours = grads["brainsim"]
    record["largest_gradient"] = float(max(np.abs(x).max() for x in ours))
    off = [np.abs(x - y).max() / np.abs(y).max() for g in grads.values() for x, y in zip(ours, g, strict=True)]
    record["largest_difference"] = float(max(off))  # of the ways from one another, relative
    assert record["largest_difference"] < 1e-4, "the ways differ by more than the rounding of sums"
    return record, net


@contextlib.contextmanager
def without_fusion():
    """What is traced meanwhile leaves the units to XLA; only events go through kernels."""
    with contextlib.ExitStack() as patches:
        for module in ("solvers._plan", "fusion._scan"):
            patches.enter_context(mock.patch(f"brainsim.{module}.unavailable", return_value="measured without"))
        jax.clear_caches()  # a run that has been traced before would come with its kernels
        patches.callback(jax.clear_caches)
        yield


def statistics_of(net, state, steps):
    """Mean fraction of units that spike, and that have a derivative, in a step."""

    def one(state, _):
        state, events = bs.step(net, state, solver=SOLVER)
        return state, (jnp.mean(events["P"].value), jnp.mean(events["P"].support.astype(jnp.float32)))

    _, (activity, support) = jax.jit(lambda s: jax.lax.scan(one, s, length=steps))(state)
    return float(jnp.mean(activity)), float(jnp.mean(support))


def beside_brainevent(net, state, width, steps, repeats):
    """Its record, or None where it is not installed."""
    python, env, why_not = find("brainpy", "brainevent", None)
    if why_not:
        console.print(f"without brainevent: {why_not}")
        return None
    cells, inbox = state.nodes["P"], state.inbox["P"]
    arrays = {"v": cells.y["unit"]["v"], "wait": cells.z["refractory"]}
    for port, x in (("exc", "e"), ("inh", "i")):
        edge = net.edges[port]
        arrays |= {f"g_{x}": cells.y["ports"][port]["g"], f"in_{x}": inbox[port][0], f"{port}_weight": edge.weight}
        arrays |= {f"{port}_indptr": edge.connect.indptr, f"{port}_indices": edge.connect.indices}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/network.npz", **{k: np.asarray(x) for k, x in arrays.items()})
        command = [python, HERE / "_grad_brainevent.py", folder, f"--steps={steps}", f"--repeats={repeats}"]
        command += [f"--width={width}", f"--damping={DAMPING}"]
        got = subprocess.run(command, env=env, capture_output=True, text=True)
    if got.returncode:
        raise RuntimeError(got.stderr[-2000:])
    return json.loads(got.stdout)


def figures(record):
    """Median processor time and what follows from it, by way."""
    cpu = {way: statistics.median(ts) for way, ts in record["cpu_s"].items()}
    events = record["synapses"] * record["rate_hz"] * record["steps"] * networks.DT_MS * 1e-3
    for way in cpu:
        yield (
            way,
            {
                "cpu_s": cpu[way],
                "wall_s": statistics.median(record["run_s"][way]),
                "ns_per_unit_step": 1e9 * cpu[way] / (record["n"] * record["steps"]),
                "ns_per_event": 1e9 * cpu[way] / events if events else float("nan"),
                "x_forward": cpu[way] / cpu["forward in XLA"],
                "x_brainsim": cpu[way] / cpu["brainsim"],
                "x_backward": (cpu[way] - cpu["forward in XLA"]) / (cpu["brainsim"] - cpu["forward in XLA"]),
            },
        )


def table(record):
    title = (
        f"COBA-LIF, {record['n']:,} neurons, {record['synapses']:,} synapses, {record['steps']} steps, "
        f"{record['rate_hz']:.1f} Hz, width {record['width_mv']:g} mV: support {100 * record['support']:.2f} %"
    )
    out = Table(title=title)
    for column in ("way", "cpu s", "wall s", "ns/unit-step", "ns/event", "x XLA forward", "x brainsim", "memory MB"):
        out.add_column(column, justify="left" if column == "way" else "right")
    for way, f in figures(record):
        row = (f["cpu_s"], f["wall_s"], f["ns_per_unit_step"], f["ns_per_event"], f["x_forward"], f["x_brainsim"])
        out.add_row(way, *(f"{x:.3g}" for x in row), f"{record['temporary_mb'].get(way, float('nan')):.1f}")
    return out


def main(
    quick: Annotated[bool, typer.Option(help="4,000 neurons, 200 steps.")] = False,
    repeats: Annotated[int, typer.Option(help="Timed runs of each.")] = 5,
    large: Annotated[bool, typer.Option(help="Also 40,000 neurons with 32 million synapses (8 GB).")] = True,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(__file__).parent / "gradient.json",
):
    """Time gradients of whole runs."""
    if not bs.backend().startswith("kernels") and not os.environ.get("BRAINSIM_BENCH_ALLOW_PURE"):
        raise SystemExit(f"brainsim runs on {bs.backend()}, not its kernels; BRAINSIM_BENCH_ALLOW_PURE=1 insists")
    result = {"machine": machine(), "results": []}

    def keep(record):
        record["figures"] = dict(figures(record))
        result["results"].append(record)
        console.print(table(record))
        out.write_text(json.dumps(result, indent=1) + "\n")

    steps, checkpointed = 200 if quick else 1000, bs.CheckpointedAdjoint()
    record, net = measure(4000, 2.0, steps, 500.0, WAYS, repeats, checkpointed, peer_steps=steps)
    keep(record)
    if quick:
        return
    for width in (0.5, 1.0, 5.0, 10.0):  # what the width of the surrogate costs
        keep(measure(4000, width, steps, 500.0, WAYS[:3], repeats, checkpointed, net)[0])
    if large:
        record, net = measure(40_000, 1.0, 1000, 1000.0, WAYS, 2, checkpointed, peer_steps=50)
        keep(record)
        for width in (0.25, 2.0, 5.0):
            keep(measure(40_000, width, 1000, 1000.0, WAYS[:3], 3, checkpointed, net)[0])


if __name__ == "__main__":
    typer.run(main)
