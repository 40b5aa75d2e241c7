"""A Hodgkin-Huxley cell is driven by a noisy current, recorded with noise, and found again from 20 distant starts.

`python -m experiments.hh_recovery [--quick] [--out PATH]` prints the tables; the full run writes `results.json` and
`figure.png` beside this file.
"""

import argparse
import json
import time
from pathlib import Path

import diffrax
import jax
import numpy as np
import optimistix as optx
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim import train

from .._provenance import commit

HERE = Path(__file__).parent
TRUE = {"c_m": 1.0, "g_na": 120.0, "g_k": 36.0, "g_l": 0.3, "e_na": 50.0, "e_k": -77.0, "e_l": -54.387}
DT, FINER = 0.025, 4
"""Step of the fitted model (ms); the recorded cell takes `FINER` steps in its place."""
SEGMENT = 10.0  # ms, of multiple shooting
SIGMA = 1.0  # mV, noise of the recording
MEAN, SPREAD, TAU = 10.0, 10.0, 3.0  # pA, pA, ms: the injected current, an Ornstein-Uhlenbeck process
SOLVER = bs.Substep(diffrax.Heun(), 2)
REACHED, KNOWN = 0.05, 0.01
"""An end within `REACHED` counts; parameters whose bound is above `KNOWN` do not."""


def cell() -> bs.Network:
    return bs.Network({"P": bs.Population(bs.HodgkinHuxley(), 1)})


def injected(steps: int, rng: np.random.Generator) -> np.ndarray:
    keep, x = np.exp(-DT / TAU), 0.0
    xs = []
    for noise in rng.standard_normal(steps):
        x = keep * x + np.sqrt(1.0 - keep**2) * noise
        xs.append(x)
    return MEAN + SPREAD * np.asarray(xs)[:, None]


def voltage(net: bs.Network, current: np.ndarray, finer: int = 1) -> jax.Array:
    """The potential at the end of every step of `DT`."""
    sol = bs.simulate(
        net,
        t1=len(current) * DT,
        dt=DT / finer,
        key=jax.random.key(0),
        inputs={"P": np.repeat(current, finer, axis=0)},
        solver=SOLVER,
        saveat=[bs.Trace("P.v", every=finer)],
    )
    return sol["P.v"]


def bounds() -> dict:
    """A third to two and a half times the truth: wider than the starts."""
    out = {}
    for name, value in TRUE.items():
        low, high = sorted((0.3 * value, 2.5 * value))
        out[f"P.unit.{name}"] = train.Log(low, high) if value > 0 else train.Bounded(low, high)
    return out


def errors(fitted: train.Fitted) -> np.ndarray:
    """Relative errors, (starts, parameters)."""
    return np.stack([np.abs(fitted.ends[f"P.unit.{name}"] / v - 1.0) for name, v in TRUE.items()], 1)


def share(found: np.ndarray, known: np.ndarray) -> float:
    """The part of the starts that end within `REACHED` in every parameter that the data tell."""
    return float(np.mean(np.all(found[:, known] < REACHED, axis=1)))


def fits(data: np.ndarray, current: np.ndarray, starts: dict, quick: bool) -> dict[str, tuple[train.Fitted, float]]:
    """Multiple shooting with loose and then tight borders, after it one run over the whole recording, and for
    comparison such a run without it; with the seconds since the start of its sequence, compilation included."""
    method = optx.LevenbergMarquardt(rtol=1e-5, atol=1e-5)
    many = train.MultipleShooting(
        cell(),
        "P",
        data,
        dt=DT,
        segments=round(len(data) * DT / SEGMENT),
        sigma=SIGMA,
        inputs={"P": current},
        solver=SOLVER,
        continuity=0.1,
    )
    whole = train.LeastSquares(lambda net: train.difference(voltage(net, current), data), SIGMA)
    done, begun, seconds = {}, time.perf_counter(), {}

    def stage(name, loss, starts, steps):
        done[name] = train.fit(cell(), loss, bounds(), method=method, starts=starts, steps=steps)
        seconds[name] = time.perf_counter() - begun
        return done[name]

    loose = stage("loose borders", many, starts, 60 if quick else 120)
    tight = stage("tight borders", many.tightened(0.01, loose), loose.ends, 20 if quick else 40)
    stage("then one run", whole, tight.ends, 10 if quick else 20)
    begun = time.perf_counter()
    stage("one run alone", whole, starts, 20 if quick else 160)
    return {name: (fitted, seconds[name]) for name, fitted in done.items()}


def figure(path: Path, found: dict[str, np.ndarray], bound: np.ndarray, data, fitted_voltage) -> None:
    from matplotlib import pyplot

    from brainsim import plot

    fig, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained", width_ratios=(1, 1.4))
    x = np.arange(len(TRUE))
    for k, (name, e) in enumerate(found.items()):
        shift = 0.16 * (2 * k - 1)
        left.plot(np.tile(x + shift, (len(e), 1)), 100 * e, ".", color=plot.COLOURS[k], markersize=4)
        left.plot([], [], ".", color=plot.COLOURS[k], label=name)
    left.plot(x, 100 * bound, "_", color="0.2", markersize=16, label="Cramer-Rao bound")
    left.axhline(100 * REACHED, color="0.7", linestyle=":")
    left.set(xticks=x, yscale="log", ylabel="error at the end (%)")
    left.set_xticklabels(list(TRUE), rotation=30)
    left.legend(frameon=False, fontsize="x-small")
    t = DT * np.arange(1, len(data) + 1)
    right.plot(t, data, color="0.75", linewidth=0.8, label="recording")
    right.plot(t, fitted_voltage, color=plot.COLOURS[0], linewidth=1.0, label="one run of the fitted cell")
    right.set(xlabel="time (ms)", ylabel="v (mV)")
    right.legend(frameon=False, fontsize="x-small")
    fig.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.hh_recovery", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 starts, 100 ms: a minute, and no claim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the results (default of the full run: beside run.py)")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    n, duration = (4, 100.0) if options.quick else (20, 200.0)
    rng = np.random.default_rng(options.seed)
    current = injected(round(duration / DT), rng)
    clean = np.asarray(voltage(cell(), current, FINER))
    data = clean + SIGMA * rng.standard_normal(clean.shape)
    starts = {f"P.unit.{name}": v * rng.uniform(0.5, 1.5, n) for name, v in TRUE.items()}
    told = train.cramer_rao(
        cell(), train.LeastSquares(lambda net: train.difference(voltage(net, current), data), SIGMA), bounds()
    )
    known = told.relative < KNOWN
    console = Console()
    console.print(told)
    done = fits(data, current, starts, options.quick)
    results = {
        "seed": options.seed,
        "commit": commit(),
        "quick": options.quick,
        "provenance": bs.io.provenance(),
        "settings": {
            "duration_ms": duration,
            "dt_ms": DT,
            "noise_mv": SIGMA,
            "current_pa": [MEAN, SPREAD],
            "starts": n,
            "start_range": [0.5, 1.5],
        },
        "n_spikes": int(np.sum((clean[1:] > 0) & (clean[:-1] <= 0))),
        "true": TRUE,
        "relative_bound": dict(zip(TRUE, told.relative.tolist())),
        "fits": {},
    }
    table = Table("fit", "within 5 %", "median error (%)", "worst of the best (%)", "loss", "seconds")
    for name, (fitted, seconds) in done.items():
        found = errors(fitted)
        row = {
            "share_within_5_percent": share(found, known),
            "relative_errors": found.tolist(),
            "losses": fitted.losses.tolist(),
            "steps": len(fitted.history),
            "seconds": seconds,
        }
        results["fits"][name] = row
        best = 100 * found[fitted.start].max()
        cells = f"{row['share_within_5_percent']:.0%}", f"{100 * np.median(found):.2g}", f"{best:.2g}"
        table.add_row(name, *cells, f"{fitted.loss:.4g}", f"{seconds:.0f}")
    console.print(table)
    out = options.out or (None if options.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not options.quick:
        shown = {k: errors(done[k][0]) for k in ("then one run", "one run alone")}
        figure(HERE / "figure.png", shown, told.relative, data, voltage(done["then one run"][0].net, current))
