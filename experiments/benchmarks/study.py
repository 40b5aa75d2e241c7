"""What a sweep costs beyond its members: `python -m experiments.benchmarks.study [--quick]`, writes study.json.

Networks of 100 units (COBA-LIF, 10 synapses a unit, one graph), 200 ms, through `bs.sweep.run`. Processor time, so that
other work on the machine matters little; ways are interleaved and medians taken.

- *throughput*: members in memory, milliseconds of one core each, and the wall time of all of them;
- *store*: the same into a folder, chunks of about a second;
- *segments*: ten segments of 20 ms, none stopped, beside one call;
- *refill*: a third of the members stops after one segment: how much of the ideal saving is left;
- *Brian2*, where it is installed: the same graph as a C++ standalone program, run once a member: its processor time,
  and that of the loop alone by Brian2's own clock.
"""

import json
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import brainsim as bs

from . import networks
from ._simulators import find
from .run import machine

HERE = Path(__file__).parent
N, T_MS, DT, PARTS = 100, 200.0, networks.DT_MS, 10
P = networks.NETWORKS["coba_lif"]


def network():
    cell = bs.LIF(tau_m=P.tau_m, e_l=P.e_l, v_th=P.v_th, v_reset=P.v_reset, t_ref=P.t_ref, g_l=P.g_l)
    receptors = {"exc": bs.ExpCond(tau=P.tau_e, e_rev=P.e_e), "inh": bs.ExpCond(tau=P.tau_i, e_rev=P.e_i)}
    init = {"v": bs.Normal(P.v0_mean, P.v0_std)}
    cells = bs.Population(cell, N, receptors, i_e=P.drive * P.g_l, init=init)
    split, rule = networks.n_excitatory(N), bs.FixedOutDegree(10)
    edges = {
        "exc": bs.Projection(f"P[:{split}]", "P.exc", rule, weight=8 * P.w_e * P.g_l),
        "inh": bs.Projection(f"P[{split}:]", "P.inh", rule, weight=8 * P.w_i * P.g_l),
    }
    return bs.Network({"P": cells}, edges, key=jax.random.key(0))


NET = network()


def driven(p):
    return bs.train.with_parameters(NET, {"P.i_e": p["i_e"]})


def whole(p, key):
    sol = bs.simulate(driven(p), t1=T_MS, dt=DT, solver=diffrax.Euler(), key=key, throw=False)
    return {"rate": sol.rates["P"]}


def _start(p, key):
    state = bs.initial_state(driven(p), dt=DT, key=key)
    return {"state": state, "n": jnp.zeros(()), "k": jnp.zeros((), jnp.int32)}


def _advance(p, carry):
    state, t1 = carry["state"], T_MS / PARTS
    sol = bs.simulate(driven(p), t0=0.0, t1=t1, solver=diffrax.Euler(), dt=DT, state=state, throw=False)
    return {"state": sol.state, "n": carry["n"] + sol.rates["P"] / PARTS, "k": carry["k"] + 1}


def _finish(p, carry):
    return {"rate": carry["n"], "early": p["early"], "k": carry["k"]}


SEGMENTS = bs.sweep.Segments(_start, _advance, _finish, PARTS)


def space(members):
    early = np.arange(members) % 3 == 0
    return bs.sweep.Members({"i_e": np.linspace(180.0, 260.0, members), "early": early.astype(np.int32)})


def by_brian2(members):
    """What a member takes in Brian2; {} where that is not installed."""
    python, env, _ = find("brian2", "brian2", None)
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        graph = {}
        for name, edge in NET.edges.items():
            pre, post = edge.connect.to_coo()
            first = networks.n_excitatory(N) if name == "inh" else 0
            weight = float(edge.weight) / P.g_l
            graph |= {f"{name}_pre": pre + first, f"{name}_post": post, f"{name}_weight": weight}
        np.savez(f"{folder}/graph.npz", **graph)
        numbers = map(str, (N, T_MS, members, 220.0 / P.g_l))
        command = [python, "_study_brian2.py", f"{folder}/graph.npz", *numbers]
        done = subprocess.run(command, cwd=HERE, env=env, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def timed(call):
    """Processor seconds, wall seconds, and the result."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def main(
    quick: Annotated[bool, typer.Option(help="2,048 members, one round.")] = False,
    members: Annotated[int, typer.Option(help="Members of the comparison.")] = 32_768,
    many: Annotated[int, typer.Option(help="Members of the long run; 0 leaves it out.")] = 100_000,
    rounds: int = 3,
) -> None:
    """Measure and print; without --quick write study.json."""
    members, many, rounds = (2_048, 0, 1) if quick else (members, many, rounds)
    key, table = jax.random.key(0), space(members)
    stop = lambda out: (out["early"] == 1) & (out["k"] >= 1)  # noqa: E731
    lanes, stored, few = 64, 640, members // 16
    with tempfile.TemporaryDirectory() as folder:
        kw = dict(key=key, progress=False)
        ways = {
            "one call": lambda k: bs.sweep.run(whole, table, chunk=lanes, **kw),
            "one call, large chunks": lambda k: bs.sweep.run(whole, table, chunk=stored, **kw),
            "stored, large chunks": lambda k: bs.sweep.run(
                whole, table, chunk=stored, store=Path(folder) / f"s{k}", **kw
            ),
            "segments": lambda k: bs.sweep.run(SEGMENTS, table, chunk=lanes, **kw),
            "segments, a third stopped": lambda k: bs.sweep.run(SEGMENTS, table, chunk=lanes, stop=stop, **kw),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        rates, overhead = {}, {}
        whole_table, table = table, space(few)
        for name, way in ways.items():  # what compiling takes is measured on a few members and taken off
            overhead[name] = timed(lambda way=way: way("few"))[0]
        table = whole_table
        for k in range(rounds):
            for name, way in ways.items():
                cpu, _, sweep = timed(lambda way=way, k=k: way(k))
                found[name].append(cpu)
                rates[name] = float(np.mean(sweep["rate"]))
    each = {  # from the difference of two numbers of members, compiling drops out
        name: 1e3 * (statistics.median(x) - overhead[name]) / (members - few) for name, x in found.items()
    }
    saved = 1 / (1 - (1 - 1 / PARTS) / 3)
    gain = each["segments"] / each["segments, a third stopped"]
    results = {
        "machine": machine(),
        "members": members,
        "ms of processor time a member": each,
        "mean rate (Hz)": rates,
        "store over memory": each["stored, large chunks"] / each["one call, large chunks"] - 1,
        "segments over one call": each["segments"] / each["one call"] - 1,
        "gain by stopping a third": gain,
        "ideal gain": saved,
        "share of the ideal gain": (gain - 1) / (saved - 1),
        "waves": members / lanes,
    }
    if peer := by_brian2(10 if quick else 100):
        results |= {f"Brian2 {name}": x for name, x in peer.items()}
        results["Brian2 program over a member"] = peer["program_ms"] / each["one call"]
        results["Brian2 loop over a member"] = peer["loop_ms"] / each["one call"]
    if many:
        cpu, wall, sweep = timed(lambda: bs.sweep.run(whole, space(many), chunk="auto", **kw))
        results |= {"many": many, "many: processor s": cpu, "many: wall s": wall}
        results |= {"many: mean rate (Hz)": float(np.mean(sweep["rate"]))}
        results |= {"many: peak memory (MB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    rows = Table("", "value")
    for name, x in results.items():
        rows.add_row(name, json.dumps(x) if not isinstance(x, float) else f"{x:.4g}")
    Console().print(rows)
    if not quick:
        (HERE / "study.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
