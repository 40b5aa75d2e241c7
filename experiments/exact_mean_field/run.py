"""Is the mean field of Montbrió, Pazó and Roxin that of spiking cells? Rates of both through a step and a ramp.

`python -m experiments.exact_mean_field [--quick] [--out PATH]` prints the tables; the full run writes `results.json`
and `figure.png` beside this file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import diffrax
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs

from .._provenance import commit
from .cells import ExactQIF

HERE = Path(__file__).parent
TAU, ETA, DELTA, J = 10.0, -5.0, 1.0, 15.0
"""Time constant (ms), centre and half width of the Lorentzian, coupling: bistable, and started at rest."""
ON, OFF, DRIVE = 30.0, 130.0, 3.0
"""When the drive comes and goes (ms), and its size."""
DRIVES = {
    "step": (bs.StepCurrent([DRIVE, 0.0], times=[ON, OFF]), 160.0),
    "ramp": (bs.Ramp(0.0, DRIVE, ON, OFF), 160.0),
    "held": (bs.StepCurrent([DRIVE], times=[ON]), 330.0),
}
"""Drives, and the ends of their runs (ms). The rate rings with a period of 11 ms that decays in 43 ms: only the last is
steady in the end."""
STEADY = (230.0, 330.0)
BOUND = {"steady": 0.01, "rms": 0.05}
"""What is asked of 100,000 cells at dt <= 0.005 tau."""


def rest() -> tuple[float, float]:
    """Rate (1/ms) and potential of the mean field without drive: its lower fixed point."""
    # 0 = Delta / pi + 2 r v, 0 = v^2 + eta + J r - (pi r)^2 with r in 1/tau, times r^2
    roots = np.roots([-(np.pi**2), J, ETA, 0.0, (DELTA / (2 * np.pi)) ** 2])
    r = min(x.real for x in roots if abs(x.imag) < 1e-9 and x.real > 0)
    return r / TAU, -DELTA / (2 * np.pi * r)


def etas(n: int) -> np.ndarray:
    """Mid-quantiles of the Lorentzian: drawn at random, even their mean would not converge."""
    return ETA + DELTA * np.tan(np.pi * (2 * np.arange(1, n + 1) - n - 1) / (2 * n))


def starts(n: int, seed: int) -> np.ndarray:
    """v of cells at rest: those below their threshold at their fixed point, the others anywhere in their period."""
    current = etas(n) + J * TAU * rest()[0]
    phase = np.random.default_rng(seed).uniform(-0.5, 0.5, n) * np.pi
    q = np.sqrt(np.abs(current))
    return np.where(current > 0, q * np.tan(phase), -q)


def coupled(cells: Any, n: int, dt: float) -> bs.Network:
    """All to all through the mean of the spikes, which a relay hands back in the next step: 2 n synapses."""
    return bs.Network(
        {"Q": cells, "R": bs.DiscreteNeurons(1, 0.0)},
        {
            "QR": bs.Projection("Q", "R.x", bs.AllToAll(), weight=1.0 / n, delay=bs.INSTANT),
            "RQ": bs.Projection("R", "Q.in", bs.AllToAll(), weight=J * TAU / dt, delay=dt),
        },
    )


def exact(n: int, dt: float, seed: int) -> bs.Network:
    return coupled(ExactQIF(n, etas(n), starts(n, seed), TAU), n, dt)


def cut(n: int, dt: float, seed: int, peak: float = 100.0) -> bs.Network:
    """Cells that are reset from `peak` to -`peak`: tau v' = v^2 + eta + c, as `bs.QIF` writes it."""
    unit = bs.QIF(tau_m=TAU / 2, e_l=-1.0, v_c=1.0, v_peak=peak, v_reset=-peak, g_l=2.0)
    start = np.clip(starts(n, seed), -peak, peak)
    cells = bs.Population(unit, n, {"in": bs.HeldCurr()}, i_e=etas(n) + 1.0, init={"v": start})
    return coupled(cells, n, dt)


def binned(rate: np.ndarray, dt: float) -> np.ndarray:
    """Means over tau (Hz)."""
    return 1e3 * rate.reshape(-1, round(TAU / dt)).mean(1)


def spiking(net: bs.Network, drive: str, dt: float) -> np.ndarray:
    """Rate of the cells in bins (Hz)."""
    solver = {"Q": diffrax.Euler()} if isinstance(net.nodes["Q"], bs.Population) else None
    sol = bs.simulate(
        net,
        t1=DRIVES[drive][1],
        dt=dt,
        key=jax.random.key(0),
        inputs={"Q": DRIVES[drive][0]},
        solver=solver,
        saveat=[bs.Trace("R.v")],
    )
    return binned(np.asarray(sol["R.v"], float)[:, 0] / dt, dt)


def mean_field(drive: str) -> np.ndarray:
    """Rate of the mean field in bins (Hz)."""
    dt = 0.005 * TAU
    r, v = rest()
    unit = bs.MontbrioPazoRoxin(tau=TAU, delta=DELTA, eta=ETA, J=J)
    net = bs.Network({"M": bs.Population(unit, 1, init={"r": r, "v": v})})
    sol = bs.simulate(
        net,
        t1=DRIVES[drive][1],
        dt=dt,
        key=jax.random.key(0),
        inputs={"M": DRIVES[drive][0]},
        solver=diffrax.Tsit5(),
        saveat=[bs.Trace("M.r")],
    )
    return binned(np.asarray(sol["M.r"], float)[:, 0], dt)


def tail(n: int) -> float:
    """By how much the steady rate of n cells under the drive differs from the mean field: r = mean sqrt(max(I, 0)) / pi
    solved for their own eta."""

    def fixed(rate):
        r = 2.0
        for _ in range(500):
            r = rate(r)
        return r

    eta = etas(n) + DRIVE
    finite = fixed(lambda r: float(np.mean(np.sqrt(np.maximum(eta + J * r, 0.0)))) / np.pi)
    # the mean of sqrt(I) over the Lorentzian in closed form: real part of sqrt(centre + i Delta)
    infinite = fixed(lambda r: float(np.sqrt(complex(ETA + DRIVE + J * r, DELTA)).real) / np.pi)
    return finite / infinite - 1.0


def compared(rate: np.ndarray, expected: np.ndarray, drive: str) -> dict[str, float]:
    if drive == "held":
        first, last = (round(t / TAU) for t in STEADY)
        return {"steady": float(rate[first:last].mean() / expected[first:last].mean() - 1.0)}
    return {
        "rms": float(np.sqrt(np.mean((rate - expected) ** 2)) / expected.max()),
        "peak": float(rate.max() / expected.max() - 1.0),
    }


def measured(sizes, steps, seeds, ablations) -> dict[str, Any]:
    expected = {drive: mean_field(drive) for drive in DRIVES}
    rows, curves = [], []
    plan = [("exact", exact, n, h, seeds) for n in sizes for h in steps]
    plan += [("reset from 100 to -100", cut, sizes[0], h, 1) for h in ablations]
    for name, build, n, h, count in plan:
        for drive in DRIVES:
            for seed in range(count):
                began = time.process_time()
                rate = spiking(build(n, h * TAU, seed), drive, h * TAU)
                rows.append(
                    {"cells": name, "n": n, "dt_over_tau": h, "drive": drive, "seed": seed}
                    | compared(rate, expected[drive], drive)
                    | {"cpu_s": round(time.process_time() - began, 2)}
                )
            of = {"cells": name, "n": n, "dt_over_tau": h, "drive": drive}
            curves.append(of | {"rate": [float(x) for x in rate]})  # of the last seed
    return {
        "runs": rows,
        "tail": [{"n": n, "steady": tail(n)} for n in sizes],
        "mean_field": {drive: [float(x) for x in rate] for drive, rate in expected.items()},
        "curves": curves,
    }


def shown(console: Console, results: dict) -> None:
    table = Table("cells", "N", "dt / tau", "drive", "steady %", "RMS / peak %", "peak %", "CPU s")
    groups: dict[tuple, list] = {}
    for r in results["runs"]:
        groups.setdefault((r["cells"], r["n"], r["dt_over_tau"], r["drive"]), []).append(r)
    for of, rows in groups.items():
        texts = (", ".join(f"{100 * r[k]:+.2f}" for r in rows if k in r) for k in ("steady", "rms", "peak"))
        table.add_row(*map(str, of), *texts, f"{np.mean([r['cpu_s'] for r in rows]):.1f}")
    console.print(table)
    tails = {one["n"]: round(100 * one["steady"], 3) for one in results["tail"]}
    console.print("steady rate that the cut tail alone leaves (%)", tails)


def figure(path: Path, results: dict) -> None:
    from matplotlib import pyplot

    from brainsim import plot

    fig, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    sizes = sorted({r["n"] for r in results["runs"]})
    steps = sorted({r["dt_over_tau"] for r in results["runs"] if r["cells"] == "exact"})
    cuts = sorted({r["dt_over_tau"] for r in results["runs"] if r["cells"] != "exact"})
    for ax, drive in zip(axes, ("step", "ramp"), strict=True):
        expected = np.asarray(results["mean_field"][drive])
        t = (np.arange(len(expected)) + 0.5) * TAU
        ax.plot(t, expected, color="0.2", label="mean field")
        curve = {(c["cells"], c["n"], c["dt_over_tau"]): c["rate"] for c in results["curves"] if c["drive"] == drive}
        for j, n in enumerate(sizes):
            ax.plot(t, curve["exact", n, steps[-1]], ".", color=plot.COLOURS[j], label=f"{n} cells, exact")
        reset = curve["reset from 100 to -100", sizes[0], cuts[0]]
        ax.plot(t, reset, "x", markersize=4, color=plot.COLOURS[3], label=f"reset from 100, dt {cuts[0]} tau")
        ax.set(xlabel="time (ms)", title=drive)
    axes[0].set(ylabel="rate (Hz)")
    axes[0].legend(frameon=False, fontsize="small")
    fig.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.exact_mean_field", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed of 2,500 cells: seconds, and no claim")
    parser.add_argument("--out", type=Path, help="where to write the results (default of the full run: beside run.py)")
    options = parser.parse_args()
    quick, console, began = options.quick, Console(), time.process_time()
    found = (
        measured([2_500], [0.01], 1, [0.01]) if quick else measured([10_000, 100_000], [0.002, 0.005], 3, [0.001, 0.01])
    )
    results = {"commit": commit(), "quick": quick, "provenance": bs.io.provenance(), "bounds": BOUND} | found
    results["cpu_s"] = round(time.process_time() - began, 1)
    shown(console, results)
    out = options.out or (None if quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not quick:
        figure(HERE / "figure.png", results)
