"""Many populations: the same network as many populations, packed, and written as one population by hand.

`python -m experiments.benchmarks.many_populations [--quick]`. Every form lives in its own process, and their runs
are interleaved. Wall times mislead on a busy machine: the ratios are of processor time as well.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

FORMS = ("unpacked", "packed", "single")
SIZES = {"20 populations, 400 edges": (20, 20, 200), "100 populations, 1,000 edges": (100, 10, 100)}
"""Populations, edges into each of them, units in each."""
IN_DEGREE = 100  # synapses onto every unit, four fifths of them excitatory
DT_MS, T_MS, REPEATS = 0.1, 200.0, 5
W_E, W_I, I_E = 6.0, 67.0, 200.0  # nS, nS, pA: those of COBA-LIF

console = Console(width=None if Console().is_terminal else 150)


def build(bs, jax, np, n_populations: int, n_edges: int, size: int) -> Any:
    """Populations, four fifths of them excitatory; each hears from `n_edges`, in the same proportion."""
    rng = np.random.default_rng(0)
    exc = [f"E{i}" for i in range(4 * n_populations // 5)]
    inh = [f"I{i}" for i in range(n_populations // 5)]
    receptors = {"exc": bs.ExpCond(tau=5.0, e_rev=0.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}
    cells = bs.Population(bs.LIF(t_ref=5.0), size, receptors, i_e=I_E, init={"v": bs.Normal(-55.0, 5.0)})
    edges = {}
    for post in exc + inh:
        for kind, group, weight, share in (("exc", exc, W_E, 4), ("inh", inh, W_I, 1)):
            for pre in rng.choice(group, share * n_edges // 5, replace=False):
                rule = bs.FixedInDegree(IN_DEGREE // n_edges)
                edges[f"{pre}_{post}"] = bs.Projection(str(pre), f"{post}.{kind}", rule, weight=weight)
    return bs.Network(dict.fromkeys(exc + inh, cells), edges, key=jax.random.key(0))


def by_hand(bs, np, net: Any) -> Any:
    """The same synapses between the units of one population."""
    names = sorted(net.nodes)
    first = dict(zip(names, np.cumsum([0] + [net.nodes[name].size for name in names]), strict=False))
    n = sum(node.size for node in net.nodes.values())
    cells = net.nodes[names[0]]
    pairs: dict[str, Any] = {"exc": [], "inh": []}
    for edge in net.edges.values():
        i, j = edge.connect.to_coo()
        pairs[edge.writes[1]].append((i + first[edge.reads["pre"]], j + first[edge.writes[0]]))
    edges = {}
    for port, weight in (("exc", W_E), ("inh", W_I)):
        pre, post = (np.concatenate(x) for x in zip(*pairs[port], strict=True))
        edges[port] = bs.Projection("P", f"P.{port}", bs.CSR.from_coo(pre, post, n, n)[0], weight=weight)
    one = bs.Population(cells.unit, n, cells.receptors, i_e=cells.i_e, init=cells.init_values)
    return bs.Network({"P": one}, edges)


def worker(form: str, size: str) -> None:
    """Builds, compiles, then runs once per line of standard input; says one JSON line each time."""
    import jax
    import numpy as np

    import brainsim as bs

    def timed(what):
        wall, cpu = time.perf_counter(), time.process_time()
        value = what()
        return value, {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

    net, built = timed(lambda: build(bs, jax, np, *SIZES[size]))
    make = {"unpacked": lambda: net, "packed": lambda: bs.pack(net), "single": lambda: by_hand(bs, np, net)}[form]
    net, made = timed(make)
    state, begun = timed(lambda: bs.initial_state(net, dt=DT_MS, key=jax.random.key(1)))

    def run():
        return bs.simulate(net, t1=T_MS, dt=DT_MS, solver=bs.ExponentialEuler(), state=state)

    sol, first = timed(run)
    say = lambda x: print(json.dumps(x), flush=True)  # noqa: E731
    say({"build": built, "make": made, "begin": begun, "first": first, "compile_s": sol.compile_s})
    for _ in sys.stdin:
        sol, took = timed(run)
        events, units = sum(int(x) for x in sol.n_events.values()), sum(net.sizes[name] for name in sol.n_events)
        rate = events / units / (T_MS * 1e-3)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        say({**took, "run_s": sol.run_s, "rate_hz": rate, "units": units, "peak_memory_mb": round(memory)})


def measure(size: str, repeats: int) -> list[dict[str, Any]]:
    """One record per form."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    records, started = {}, {}
    for form in FORMS:  # one after the other: compiling is timed too
        command = [sys.executable, "-m", "experiments.benchmarks.many_populations", "--worker", form, "--size", size]
        started[form] = subprocess.Popen(command, **pipes)
        records[form] = json.loads(started[form].stdout.readline()) | {"size": size, "form": form, "runs": []}
        console.print(f"  {form}: first call {records[form]['first']['wall_s']:.1f} s")
    for _ in range(repeats):
        for form, process in started.items():
            print("run", file=process.stdin, flush=True)
            records[form]["runs"].append(json.loads(process.stdout.readline()))
    for process in started.values():
        process.stdin.close()
        process.wait()
    for record in records.values():
        warm = {key: statistics.median(run[key] for run in record["runs"]) for key in record["runs"][0]}
        steps = T_MS / DT_MS
        record |= {
            "rate_hz": warm["rate_hz"],
            "units": warm["units"],
            "peak_memory_mb": warm["peak_memory_mb"],
            "step_us": warm["run_s"] / steps * 1e6,
            "step_cpu_us": warm["cpu_s"] / steps * 1e6,
            "compile_cpu_s": record["first"]["cpu_s"] - warm["cpu_s"],
        }
    for record in records.values():
        record["x_single"] = record["step_us"] / records["single"]["step_us"]
        record["x_single_cpu"] = record["step_cpu_us"] / records["single"]["step_cpu_us"]
    return list(records.values())


def table(records: list[dict[str, Any]]) -> Table:
    out = Table(title=f"{records[0]['size']}, {records[0]['units']:,.0f} units, {T_MS:g} ms of dt = {DT_MS:g} ms")
    numbers = {
        "rate Hz": ".2f",
        "build s": ".2f",
        "pack s": ".2f",
        "compile s": ".2f",
        "compile cpu s": ".2f",
        "step us": ".0f",
        "step cpu us": ".0f",
        "x single": ".2f",
        "x (cpu)": ".2f",
        "MB": ".0f",
    }
    out.add_column("form")
    for column in numbers:
        out.add_column(column, justify="right")
    for r in records:
        values = (
            r["rate_hz"],
            r["build"]["wall_s"],
            r["make"]["wall_s"],
            r["compile_s"],
            r["compile_cpu_s"],
            r["step_us"],
            r["step_cpu_us"],
            r["x_single"],
            r["x_single_cpu"],
            r["peak_memory_mb"],
        )
        out.add_row(r["form"], *(f"{x:{spec}}" for x, spec in zip(values, numbers.values(), strict=True)))
    return out


def main(
    quick: Annotated[bool, typer.Option(help="Only the smaller network, one repeat.")] = False,
    worker_: Annotated[str | None, typer.Option("--worker", hidden=True)] = None,
    size: Annotated[str | None, typer.Option(hidden=True)] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(__file__).parent / "many_populations.json",
) -> None:
    """Compare the three forms of a network of many populations."""
    if worker_ is not None and size is not None:
        worker(worker_, size)
        return
    from .run import machine

    result = {"machine": machine(), "dt_ms": DT_MS, "t_ms": T_MS, "results": []}
    for name in list(SIZES)[: 1 if quick else None]:
        console.print(f"[bold]{name}[/]")
        records = measure(name, 1 if quick else REPEATS)
        console.print(table(records))
        result["results"] += records
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
