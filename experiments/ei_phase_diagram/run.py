"""The regimes of a sparse network of excitatory and inhibitory cells over inhibition and drive, as one sweep.

`python -m experiments.ei_phase_diagram [--quick] [--store FOLDER] [--out PATH]` prints the table; the full run writes
`results.json` and `figure.png` beside this file. With `--store` an interrupted run goes on, and several processes share
it.
"""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

import brainsim as bs

from .._provenance import commit

HERE = Path(__file__).parent
N, EXC, CE, CI = 2_500, 2_000, 200, 50
"""Cells, those that excite, and the synapses that every cell has from both kinds."""
JUMP, THETA, TAU, DELAY = 0.5, 20.0, 20.0, 1.5
"""Size of an excitatory potential, threshold above rest (mV); membrane time constant and delay (ms). Brunel has 1,000
synapses of 0.1 mV: the product is the same here."""
THRESHOLD_RATE = 1e3 * THETA / (JUMP * CE * TAU)
"""Rate (Hz) of each of `CE` external synapses that brings the mean potential to threshold: the unit of eta."""
DT, WARM, SEEN, BIN = 0.1, 100.0, 250, 2.0
"""Step (ms), what is left out at the start (ms), cells looked at, bins of the synchrony (ms)."""
POINTS = {"A": (3.0, 2.0), "B": (6.0, 4.0), "C": (5.0, 2.0), "D": (4.5, 0.9)}
"""(g, eta) of the four panels of Brunel's figure 8."""
PUBLISHED = {
    "A": "synchronous regular",
    "B": "synchronous irregular, fast",
    "C": "asynchronous irregular",
    "D": "synchronous irregular, slow",
}


@functools.cache
def network() -> bs.Network:
    """Brunel's model A: all cells alike, delta synapses, external Poisson input."""
    cell = bs.LIF(tau_m=TAU, e_l=0.0, v_th=THETA, v_reset=10.0, t_ref=2.0, g_l=1.0)
    nodes = {"P": bs.Population(cell, N, {"in": bs.Delta()}, init={"v": bs.Uniform(0.0, THETA)})}
    edges = {
        "E": bs.Projection(f"P[:{EXC}]", "P.in", bs.FixedInDegree(CE), weight=JUMP, delay=DELAY),
        "I": bs.Projection(f"P[{EXC}:]", "P.in", bs.FixedInDegree(CI), weight=-5.0 * JUMP, delay=DELAY),
        "X": bs.PoissonInput("P.in", CE, THRESHOLD_RATE, JUMP),
    }
    return bs.Network(nodes, edges, key=jax.random.key(0))


def irregularity(s: Float[Array, "t n"]) -> Float[Array, ""]:
    """Coefficient of variation of the intervals of a cell, mean over the cells with three intervals or more; 0 where
    there is none."""
    step = jnp.arange(s.shape[0], dtype=jnp.int32)[:, None]
    last = jax.lax.cummax(jnp.where(s > 0, step, -1), axis=0)
    before = jnp.concatenate([jnp.full_like(last[:1], -1), last[:-1]])
    counts = (s > 0) & (before >= 0)
    interval = jnp.where(counts, step - before, 0).astype(s.dtype)
    k = jnp.sum(counts, 0).astype(s.dtype)
    mean = jnp.sum(interval, 0) / jnp.maximum(k, 1.0)
    variance = jnp.sum(jnp.where(counts, (interval - mean[None]) ** 2, 0.0), 0) / jnp.maximum(k - 1.0, 1.0)
    some = k >= 3
    cv = jnp.where(some, jnp.sqrt(variance) / jnp.maximum(mean, 1.0), 0.0)
    return jnp.sum(cv) / jnp.maximum(jnp.sum(some).astype(s.dtype), 1.0)


def synchrony(s: Float[Array, "t n"]) -> Float[Array, ""]:
    """Golomb's chi of the spikes in bins: 1 for cells that do the same, `n^-1/2` for independent ones."""
    bins = round(BIN / DT)
    counts = s[: s.shape[0] // bins * bins].reshape(-1, bins, s.shape[1]).sum(1)
    spread = jnp.mean(jnp.var(counts, 0))
    return jnp.sqrt(jnp.var(jnp.mean(counts, 1)) / jnp.where(spread > 0, spread, 1.0))


def model(p: dict[str, Array], key: Array, span: float = 300.0) -> dict[str, Array]:
    """Rate (Hz), irregularity and synchrony of the member with `g` and `eta`."""
    net = bs.train.with_parameters(network(), {"I.weight": -p["g"] * JUMP, "X.rate": p["eta"] * THRESHOLD_RATE})
    sol = bs.simulate(
        net, t1=WARM + span, dt=DT, key=key, solver=bs.Propagator(), saveat=[bs.Events(f"P[:{SEEN}]", name="s")]
    )
    s = sol["s.events"][round(WARM / DT) :]
    return {"rate": 1e3 * jnp.mean(s) / DT, "cv": irregularity(s), "chi": synchrony(s)}


def regime(rate: float, cv: float, chi: float) -> str:
    """The name of what was measured, by thresholds that README.md gives."""
    if rate < 1.0:
        return "silent"
    together = "synchronous" if chi > 0.2 else "asynchronous"
    return f"{together} {'irregular' if cv > 0.5 else 'regular'}"


def measured(g: np.ndarray, eta: np.ndarray, seeds: int, span: float, store: Path | None) -> dict[str, Any]:
    network()  # the graph is built on the host, outside of what is traced
    space = bs.sweep.Grid({"g": g, "eta": eta, "seed": range(seeds)})
    study = functools.partial(model, span=span)
    sweep = bs.sweep.run(study, space, key=jax.random.key(1), store=store, chunk=10, progress=store is not None)
    maps = {name: sweep[name].mean(-1) for name in ("rate", "cv", "chi")}
    points = {}
    for name, (x, y) in POINTS.items():
        i, j = int(np.argmin(np.abs(g - x))), int(np.argmin(np.abs(eta - y)))
        values = {k: float(v[i, j]) for k, v in maps.items()}
        points[name] = {
            "g": float(g[i]),
            "eta": float(eta[j]),
            "published": PUBLISHED[name],
            **values,
            "found": regime(**values),
        }
    return {
        "settings": {"members": len(space), "seeds": seeds, "span_ms": span, "dt_ms": DT, "cells": N},
        "flagged": int(np.sum(sweep.flag != 0)),
        "g": g.tolist(),
        "eta": eta.tolist(),
        **{name: np.round(x.astype(float), 4).tolist() for name, x in maps.items()},
        "spread_of_seeds": {name: float(np.median(sweep[name].std(-1))) for name in maps},
        "points": points,
    }


def shown(console: Console, results: dict) -> None:
    table = Table("point", "g", "eta", "rate (Hz)", "CV", "chi", "found", "published")
    for name, r in results["points"].items():
        numbers = (f"{r[k]:.3g}" for k in ("g", "eta", "rate", "cv", "chi"))
        table.add_row(name, *numbers, r["found"], r["published"])
    console.print(table)
    console.print(results["settings"])


def figure(path: Path, results: dict) -> None:
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(1, 3, figsize=(11, 3.3), layout="constrained", sharey=True)
    titles = {"rate": "rate (Hz)", "cv": "CV of intervals", "chi": "synchrony (chi)"}
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        shown = ax.pcolormesh(
            results["g"], results["eta"], np.asarray(results[name]).T, shading="nearest", rasterized=True
        )
        fig.colorbar(shown, ax=ax)
        ax.axvline(CE / CI, color="w", linewidth=0.8, linestyle="--")
        ax.axhline(1.0, color="w", linewidth=0.8, linestyle="--")
        for label, (x, y) in POINTS.items():
            ax.text(x, y, label, color="w", ha="center", va="center", fontweight="bold")
        ax.set(xlabel="g", title=title)
    axes[0].set(ylabel="eta")
    fig.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.ei_phase_diagram", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five points by five, one seed: seconds, and no claim")
    parser.add_argument("--points", type=int, default=40, help="along each axis")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--store", type=Path, help="where the sweep is kept; started again, it goes on")
    parser.add_argument("--out", type=Path, help="where to write the results (default of the full run: beside run.py)")
    options = parser.parse_args()
    quick, console = options.quick, Console()
    points, seeds, span = (4, 1, 50.0) if quick else (options.points, options.seeds, 300.0)
    found = measured(np.linspace(2.0, 8.0, points), np.linspace(0.4, 4.0, points), seeds, span, options.store)
    results = {"commit": commit(), "quick": quick, "provenance": bs.io.provenance()} | found
    shown(console, results)
    out = options.out or (None if quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=None) + "\n")
    if not quick:
        figure(HERE / "figure.png", results)
