"""An excitatory-inhibitory network tuned to rates and synchrony: by gradient, by CMA-ES, and by random search.

`python -m experiments.ei_tuning [--quick] [--out PATH]` prints the tables; the full run writes `results.json` and
`figure.png` beside this file.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim import train

from .._provenance import commit

HERE = Path(__file__).parent
N = {"E": 200, "I": 50}
DT, WARM, SPAN, BIN = 0.25, 100.0, 300.0, 5.0
"""Step, what is left out at the start of a run, what is looked at, and the bins of the synchrony (ms)."""
TRIALS = 4
"""Runs with noise of their own in every loss."""
RATE, SPREAD = {"E": 6.0, "I": 14.0}, 0.6
"""Mean target rates (Hz), and the standard deviation of the logarithm of those of single units."""
SYNCHRONY = 0.15
FACTOR = 0.02
"""Of the slope of the surrogate; README.md says why so little."""
BOUNDS = {
    "EE.weight": train.Log(0.2, 3.0),  # nS
    "EI.weight": train.Log(0.2, 3.0),
    "IE.weight": train.Log(1.0, 25.0),
    "II.weight": train.Log(1.0, 25.0),
    "E.i_e": (60.0, 220.0),  # pA
    "I.i_e": (30.0, 190.0),
}
METHODS = ("gradient", "CMA-ES", "random search")


def network(per_unit: bool, factor: float = FACTOR) -> bs.Network:
    """Conductance-based LIF units with white noise; `per_unit`: every unit has a drive of its own."""
    cell = bs.LIF(tau_m=20.0, e_l=-60.0, v_th=-50.0, v_reset=-60.0, t_ref=2.0, g_l=10.0)  # ms, mV, nS
    receptors = {"exc": bs.ExpCond(tau=3.0, e_rev=0.0), "inh": bs.ExpCond(tau=7.0, e_rev=-80.0)}

    def cells(name: str, drive: float) -> bs.Population:
        return bs.Population(
            cell,
            N[name],
            receptors,
            i_e=np.full(N[name], drive) if per_unit else drive,
            noise=bs.WhiteNoise({"v": 1.0}),  # mV per sqrt(ms): 3.2 mV without spikes
            init={"v": bs.Normal(-55.0, 5.0)},
            surrogate=bs.Damped(bs.Triangular(10.0), factor),
        )

    def synapses(pre: str, post: str, weight: float) -> bs.Projection:
        port = "exc" if pre == "E" else "inh"
        return bs.Projection(pre, f"{post}.{port}", bs.FixedProbability(0.2), weight=weight, delay=1.0)

    weights = {"EE": 0.8, "EI": 0.8, "IE": 5.0, "II": 5.0}
    edges = {name: synapses(*name, weight) for name, weight in weights.items()}
    return bs.Network({"E": cells("E", 130.0), "I": cells("I", 100.0)}, edges, key=jax.random.key(0))


def synchrony(s: jax.Array) -> jax.Array:
    """Golomb's chi of the binned spikes (trials, steps, n): root of (variance of the mean / mean of the variances)."""
    bins = round(BIN / DT)
    counts = s.reshape(s.shape[0], -1, bins, s.shape[-1]).sum(2)
    return jnp.sqrt(jnp.mean(jnp.var(jnp.mean(counts, -1), 1)) / jnp.mean(jnp.var(counts, 1)))


def measured(net: bs.Network, key: jax.Array, *, trials: int = TRIALS, span: float = SPAN, adjoint=None):
    """Rate of every unit (Hz) by population, and the synchrony of the excitatory one."""

    def one(key):
        saveat = [bs.Events(name) for name in N]
        sol = bs.simulate(net, t1=WARM + span, dt=DT, key=key, saveat=saveat, adjoint=adjoint)
        return {name: sol[f"{name}.events"][round(WARM / DT) :] for name in N}

    s = jax.vmap(one)(jax.random.split(key, trials))
    return {name: jnp.mean(train.rates(jnp.swapaxes(x, 0, 1), dt=DT), 0) for name, x in s.items()}, synchrony(s["E"])


def targets() -> dict[str, np.ndarray]:
    """A rate for every unit, log-normal with the mean of its population (Hz)."""
    rng = np.random.default_rng(0)
    return {k: RATE[k] * np.exp(SPREAD * rng.standard_normal(n) - 0.5 * SPREAD**2) for k, n in N.items()}


def loss_of(per_unit: bool, adjoint=None):
    """`loss(net, key)`: squared errors of the roots of the rates (of units, or of populations) and of log chi."""
    wanted = targets() if per_unit else RATE

    def loss(net, key):
        rates, chi = measured(net, key, adjoint=adjoint)
        off = 10.0 * (jnp.log(chi + 1e-3) - np.log(SYNCHRONY)) ** 2
        for name, r in rates.items():
            r = r if per_unit else jnp.mean(r)
            off = off + jnp.mean((jnp.sqrt(r + 1.0) - jnp.sqrt(jnp.asarray(wanted[name], r.dtype) + 1.0)) ** 2)
        return off

    return loss


class Noise:
    """The noise of step k, the same for every method, and the processor time at its start."""

    def __init__(self, seed: int) -> None:
        self.key, self.times = jax.random.key(1000 + seed), []

    def __call__(self, k: int) -> jax.Array:
        self.times.append(time.process_time())
        return jax.random.fold_in(self.key, k)

    def seconds(self, steps: int) -> np.ndarray:
        """Processor time at the end of every step, compilation (the first step) taken as long as the second."""
        spent = np.diff([*self.times[-steps:], time.process_time()])
        spent[0] = spent[1]
        return np.cumsum(spent)


def fitted(per_unit: bool, method, steps: int, starts: int, seed: int, *, adjoint=None, factor: float = FACTOR):
    """A fit of all starts in one batch: what `train.fit` gives, and the processor time at the end of every step."""
    noise = Noise(seed)
    out = train.fit(
        network(per_unit, factor),
        loss_of(per_unit, adjoint),
        BOUNDS,
        method=method,
        steps=steps,
        starts=starts,
        spread=0.6,
        key=jax.random.key(seed),
        batches=noise,
        progress=False,
    )
    return out, noise.seconds(len(out.history))


def adam(steps: int) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(0.15, steps, 0.05), b2=0.99)
    )


def at_random(per_unit: bool, seconds: float, batch: int, starts: int, seed: int):
    """Points drawn over the bounds, `starts` streams side by side: (best points, history, processor times)."""
    net, loss, rng, noise = network(per_unit), loss_of(per_unit), np.random.default_rng(seed), Noise(seed)
    forward = {k: b if isinstance(b, train.AbstractTransform) else train.Bounded(*b) for k, b in BOUNDS.items()}
    shapes = {name: train.parameters(net)[name].shape for name in BOUNDS}
    low, high = ({k: t.forward(jnp.asarray(x, jnp.float32)) for k, t in forward.items()} for x in (-40.0, 40.0))

    def draw():
        out = {}
        for name, shape in shapes.items():
            u, (a, b) = rng.uniform(size=(starts * batch, *shape)), (float(low[name]), float(high[name]))
            out[name] = np.exp(np.log(a) + u * np.log(b / a)) if name.endswith("weight") else a + u * (b - a)
        return {name: jnp.asarray(p, jnp.float32) for name, p in out.items()}

    values = jax.jit(
        lambda points, key: jax.vmap(lambda p: loss(train.with_parameters(net, p), key))(points),
    )
    best, least, history = {}, np.full(starts, np.inf), []
    while len(history) < 3 or noise.seconds(len(history))[-1] < seconds:
        points = draw()
        losses = np.asarray(values(points, noise(len(history)))).reshape(starts, batch)
        losses = np.where(np.isfinite(losses), losses, np.inf)
        at = np.argmin(losses, 1)
        own = {k: np.asarray(p).reshape(starts, batch, *p.shape[1:])[np.arange(starts), at] for k, p in points.items()}
        found = np.min(losses, 1)
        better = found < least
        best = {k: np.where(better.reshape(-1, *[1] * (p.ndim - 1)), p, best.get(k, p)) for k, p in own.items()}
        least = np.where(better, found, least)
        history.append(found)
    return best, np.stack(history), noise.seconds(len(history))


def checked(per_unit: bool, ends: dict, trials: int, span: float) -> list[dict]:
    """What the networks found do in longer runs with noise that no fit has seen."""
    net, wanted = network(per_unit), targets()

    @jax.jit
    def look(p):
        return measured(train.with_parameters(net, p), jax.random.key(77), trials=trials, span=span)

    out = []
    for k in range(len(next(iter(ends.values())))):
        rates, chi = look({name: jnp.asarray(p[k], jnp.float32) for name, p in ends.items()})
        row = {"synchrony": float(chi), **{f"rate_{name.lower()}": float(jnp.mean(r)) for name, r in rates.items()}}
        if per_unit:
            r, w = (np.concatenate([x[name] for name in N]) for x in (rates, wanted))
            row["correlation"] = float(np.corrcoef(np.sqrt(r), np.sqrt(w))[0, 1])
            row["median_relative_error"] = float(np.median(np.abs(r / w - 1.0)))
            row["rates"] = [round(float(x), 3) for x in r]
        out.append(row)
    return out


def record(ends: dict, history: np.ndarray, seconds: np.ndarray, evaluations: int, check: list[dict]) -> dict:
    """One method: (steps, starts) of least losses so far, processor seconds and simulated networks per start."""
    starts = history.shape[1]
    least = np.minimum.accumulate(np.where(np.isfinite(history), history, np.inf), 0)
    thin = np.unique(np.linspace(0, len(least) - 1, 80).astype(int))
    return {
        "cpu_s_per_start": [round(float(s) / starts, 4) for s in seconds[thin]],
        "evaluations_per_start": [int((k + 1) * evaluations) for k in thin],
        "loss": [[round(float(x), 5) if np.isfinite(x) else None for x in least[k]] for k in thin],
        "final": [float(x) for x in least[-1]],
        "weights": [{k: float(p[s]) for k, p in ends.items() if k.endswith("weight")} for s in range(starts)],
        "held_out": check,
    }


def compared(per_unit: bool, steps: int, starts: int, seed: int, trials: int, span: float) -> dict:
    """Gradient, CMA-ES and random search from the same starts, with as much processor time."""
    found, seconds = fitted(per_unit, adam(steps), steps, starts, seed)
    check = lambda ends: checked(per_unit, ends, trials, span)  # noqa: E731
    out = {"gradient": record(found.ends, found.history, seconds, 1, check(found.ends))}
    n = sum(int(np.prod(p.shape[1:])) for p in found.ends.values())
    population = 4 + int(3 * np.log(n))
    _, few = fitted(per_unit, train.CMAES(), 5, starts, seed)
    generations = max(5, round(seconds[-1] / np.median(np.diff(few))))
    found, took = fitted(per_unit, train.CMAES(), generations, starts, seed)
    out["CMA-ES"] = record(found.ends, found.history, took, population, check(found.ends))
    ends, history, took = at_random(per_unit, seconds[-1], population, starts, seed)
    out["random search"] = record(ends, history, took, population, check(ends))
    return {"parameters": n, "population": population, **out}


def levels(one: dict) -> dict:
    """Processor time and simulations until the median loss over the starts is that at which CMA-ES ends."""
    level, out = float(np.median(one["CMA-ES"]["final"])), {}
    for name in METHODS:
        curve = np.median(np.asarray(one[name]["loss"], float), 1)
        below = np.flatnonzero(curve <= level)
        first = int(below[0]) if below.size else None
        out[name] = {
            "cpu_s": None if first is None else one[name]["cpu_s_per_start"][first],
            "evaluations": None if first is None else one[name]["evaluations_per_start"][first],
        }
    return {"level": level, **out}


POINTS = {  # weights EE, EI, IE, II (nS), drives E, I (pA)
    "asynchronous, 4 Hz": (0.66, 0.81, 18.0, 5.4, 113.0, 82.0),
    "4 Hz, strong EI": (0.83, 2.7, 4.5, 3.6, 146.0, 150.0),
    "synchronous, 6 Hz": (1.72, 0.98, 16.2, 1.2, 166.0, 66.0),
}


def directions(factors: list[float], trials: int, points: int = 3) -> list[dict]:
    """Cosine and ratio of length of the surrogate gradient and central differences of log rates and log chi."""
    net, rows = network(False), []

    def out(x, factor, key):
        values = {k: jnp.exp(x[j]) if j < 4 else 100.0 * x[j] for j, k in enumerate(BOUNDS)}
        values |= {f"{p}.surrogate.factor": factor for p in N}
        rates, chi = measured(train.with_parameters(net, values), key, trials=trials)
        return jnp.log(jnp.stack([jnp.mean(rates["E"]), jnp.mean(rates["I"]), chi]))

    value, slope = jax.jit(out), jax.jit(jax.jacrev(out))
    for point, (*w, e, i) in list(POINTS.items())[:points]:
        x = np.asarray([*np.log(w), e / 100.0, i / 100.0], np.float32)
        keys, steps = [jax.random.key(k) for k in range(8)], 0.1 * np.eye(6, dtype=np.float32)
        both = [[value(x + sign * h, FACTOR, k) for sign in (1, -1) for k in keys] for h in steps]
        true = np.stack([np.mean(b[:8], 0) - np.mean(b[8:], 0) for b in both], 1) / 0.2
        real = np.linalg.norm(true, axis=1)
        for factor in factors:
            got = np.mean([slope(x, factor, k) for k in keys[:2]], 0).astype(np.float64)
            size = np.linalg.norm(got, axis=1)
            with np.errstate(all="ignore"):  # what has exploded is None below
                cosine, length = np.sum(got * true, 1) / size / real, size / real
            rows.append(
                {
                    "point": point,
                    "factor": factor,
                    "cosine": [float(c) if np.isfinite(c) else None for c in cosine],
                    "length": [float(r) if np.isfinite(r) else None for r in length],
                }
            )
    return rows


ABLATIONS = {
    "undamped": {"factor": 1.0},
    "factor 0.3": {"factor": 0.3},
    "cut every 5 ms": {"adjoint": bs.TruncatedAdjoint(round(5.0 / DT))},
}


def ablated(name: str, steps: int, starts: int, seed: int, trials: int, span: float) -> dict:
    found, seconds = fitted(True, adam(steps), steps, starts, seed, **ABLATIONS[name])
    return record(found.ends, found.history, seconds, 1, checked(True, found.ends, trials, span))


def shown(console: Console, results: dict) -> None:
    table = Table("parameters", "method", "CPU s", "networks", "loss", "E (Hz)", "I (Hz)", "chi", "correlation")
    rows = [(str(one["parameters"]), name, one[name]) for one in results["sizes"] for name in METHODS]
    rows += [("gradient", name, one) for name, one in results["ablations"].items()]
    for n, name, r in rows:
        of = lambda key: np.asarray([x.get(key, np.nan) for x in r["held_out"]])  # noqa: B023, E731
        table.add_row(
            n,
            name,
            f"{r['cpu_s_per_start'][-1]:.1f}",
            str(r["evaluations_per_start"][-1]),
            f"{np.median(r['final']):.3f} ({min(r['final']):.3f}-{max(r['final']):.3f})",
            *(f"{np.median(of(k)):.3g} ({of(k).min():.3g}-{of(k).max():.3g})" for k in ("rate_e", "rate_i")),
            f"{np.median(of('synchrony')):.3f} ({of('synchrony').min():.3f}-{of('synchrony').max():.3f})",
            f"{np.median(of('correlation')):.2f}",
        )
    console.print("per start; held-out: medians over the starts (range)", table)
    for one in results["sizes"]:
        console.print(one["parameters"], one["levels"])


def figure(path: Path, results: dict) -> None:
    from matplotlib import pyplot

    from brainsim import plot

    fig, axes = pyplot.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for ax, one in zip(axes[0], results["sizes"]):
        for j, name in enumerate(METHODS):
            r = one[name]
            curves, x = np.asarray(r["loss"], float), r["cpu_s_per_start"]
            ax.fill_between(x, curves.min(1), curves.max(1), color=plot.COLOURS[j], alpha=0.2, linewidth=0)
            ax.plot(x, np.median(curves, 1), color=plot.COLOURS[j], label=name)
        ax.set(xlabel="processor time per start (s)", ylabel="least loss so far", yscale="log")
        ax.set_title(f"{one['parameters']} parameters", fontsize="medium")
    axes[0, 0].legend(frameon=False)
    large, wanted = results["sizes"][-1], np.concatenate(list(targets().values()))
    for j, name in enumerate(METHODS):
        r = large[name]
        x, curves = r["evaluations_per_start"], np.asarray(r["loss"], float)
        axes[0, 2].plot(x, np.median(curves, 1), color=plot.COLOURS[j], label=name)
    axes[0, 2].set(xlabel="networks simulated per start", ylabel="least loss so far", xscale="log", yscale="log")
    axes[0, 2].set_title(f"{large['parameters']} parameters", fontsize="medium")
    for j, name in enumerate(("gradient", "CMA-ES")):
        k = int(np.argsort(large[name]["final"])[len(large[name]["final"]) // 2])
        rates = np.asarray(large[name]["held_out"][k]["rates"])
        axes[1, 0].plot(wanted, np.maximum(rates, 0.1), ".", markersize=4, color=plot.COLOURS[j], label=name)
        y = [x["synchrony"] for x in large[name]["held_out"]]
        axes[1, 1].plot(j + np.linspace(-0.1, 0.1, len(y)), y, "o", color=plot.COLOURS[j])
    y = [x["synchrony"] for x in large["random search"]["held_out"]]
    axes[1, 1].plot(2 + np.linspace(-0.1, 0.1, len(y)), y, "o", color=plot.COLOURS[2])
    axes[1, 0].plot([1, 80], [1, 80], color="0.6", linewidth=0.8)
    axes[1, 0].set(
        xlabel="target rate of the unit (Hz)",
        ylabel="rate, held-out noise (Hz)",
        xscale="log",
        yscale="log",
        ylim=(0.07, 500),
    )
    axes[1, 0].legend(frameon=False, markerscale=2.0, loc="upper left")
    axes[1, 1].axhline(SYNCHRONY, color="0.6", linewidth=0.8)
    axes[1, 1].set(ylabel="synchrony, held-out noise", xticks=range(3), xlim=(-0.5, 2.5), ylim=(0, None))
    axes[1, 1].set_xticklabels(METHODS)
    rows = results["directions"]
    factors = sorted({r["factor"] for r in rows})
    for j, name in enumerate(("rate of E", "rate of I", "synchrony")):
        y = [np.mean([r["cosine"][j] or 0.0 for r in rows if r["factor"] == f]) for f in factors]
        axes[1, 2].plot(factors, y, "o-", color=plot.COLOURS[j + 3], label=name)
    axes[1, 2].set(xlabel="factor of the surrogate", ylabel="cosine with differences", xscale="log", ylim=(-1.05, 1.05))
    axes[1, 2].legend(frameon=False)
    fig.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.ei_tuning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two starts, few steps: under two minutes, and no claim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the results (default of the full run: beside run.py)")
    options = parser.parse_args()
    quick, seed, console = options.quick, options.seed, Console()
    starts, steps = (2, {False: 10, True: 5}) if quick else (5, {False: 60, True: 120})
    trials, span = (2, 300.0) if quick else (8, 2500.0)
    began, sizes = time.process_time(), []
    for per_unit in (True,) if quick else (False, True):
        sizes.append(compared(per_unit, steps[per_unit], starts, seed, trials, span))
        sizes[-1]["levels"] = levels(sizes[-1])
    names = ["cut every 5 ms"] if quick else list(ABLATIONS)
    results = {
        "seed": seed,
        "commit": commit(),
        "quick": quick,
        "provenance": bs.io.provenance(),
        "targets": {"rate_e": RATE["E"], "rate_i": RATE["I"], "synchrony": SYNCHRONY},
        "settings": {"starts": starts, "steps": [steps[False], steps[True]], "trials": TRIALS, "factor": FACTOR},
        "sizes": sizes,
        "ablations": {name: ablated(name, steps[True], starts, seed, trials, span) for name in names},
        "directions": directions([FACTOR], 8, 1)
        if quick
        else directions([0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0], 8),
        "cpu_s": 0.0,
    }
    results["cpu_s"] = round(time.process_time() - began, 1)
    shown(console, results)
    out = options.out or (None if quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not quick:
        figure(HERE / "figure.png", results)
