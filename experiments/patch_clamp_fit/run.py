"""AdEx, GIF and a Hodgkin-Huxley-type cell fitted to the first 60 % of a current step, and tested on the rest.

`python -m experiments.patch_clamp_fit --data allen_patch.npz [--quick] [--out PATH]`. Gradient descent, from several
starts and for all cells side by side, is compared with CMA-ES, cell by cell and with as much time for each.
"""

import argparse
import json
import sys
from dataclasses import dataclass
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
from .models import MODELS

HERE = Path(__file__).parent
DT = 0.1  # ms
BEFORE, PART = 50.0, 0.6
"""Baseline before the step (ms), and the part of the step that is fitted."""
TAU = 5.0
"""Time constant of the van Rossum distance (ms)."""
STEEP = 10.0
"""A spike begins where v rises faster than this (mV/ms)."""
WINDOW = 4.0
"""Spikes closer than this coincide (ms)."""
AROUND = -3.0, 8.0
"""What is left out around spikes where the subthreshold variance is explained (ms)."""


@dataclass(frozen=True)
class Recordings:
    """Of n cells, sampled at the end of every step: `v` (mV) and `current` (pA), (steps, n); `spikes` 0/1."""

    cell_id: list[int]
    v: np.ndarray
    current: np.ndarray
    fitted: int
    """Number of steps that are fitted."""

    @property
    def spikes(self) -> np.ndarray:
        up = (self.v[1:] > 0.0) & (self.v[:-1] <= 0.0)
        return np.concatenate([np.zeros_like(up[:1]), up]).astype(float)

    @property
    def rest(self) -> np.ndarray:
        return np.median(self.v[: round(0.8 * BEFORE / DT)], axis=0)

    @property
    def low(self) -> np.ndarray:
        """The typical least potential after a spike of the fitted part."""
        after = round(12.0 / DT)
        out = []
        for k in range(self.v.shape[1]):
            at = np.flatnonzero(self.spikes[: self.fitted, k])
            out.append(np.median([self.v[i : i + after, k].min() for i in at]) if at.size else self.rest[k])
        return np.asarray(out)

    @property
    def cut(self) -> np.ndarray:
        """Potentials are compared up to here: the typical potential at which a spike begins, and 3 mV."""
        rise, before, out = np.diff(self.v, axis=0) / DT, round(3.0 / DT), []
        for k in range(self.v.shape[1]):
            at = [i for i in np.flatnonzero(self.spikes[: self.fitted, k]) if i > before]
            steep = [i - before + int(np.argmax(rise[i - before : i, k] > STEEP)) for i in at]
            out.append(np.median(self.v[steep, k]) + 3.0 if steep else 0.0)
        return np.asarray(out)

    def of(self, k: int) -> "Recordings":
        return Recordings([self.cell_id[k]], self.v[:, k : k + 1], self.current[:, k : k + 1], self.fitted)


def load(path: Path, cells: int) -> Recordings:
    with np.load(path) as z:
        skip = round(DT / float(z["dt_ms"]))
        on, off = float(np.median(z["t_on_ms"])), float(np.median(z["t_off_ms"]))
        first, steps = round((on - BEFORE) / DT), round((BEFORE + off - on) / DT)
        rows = skip * (first + 1 + np.arange(steps))
        v, current = z["v_mV"][:cells, rows].T.astype(float), z["i_pA"][:cells, rows].T.astype(float)
        ids = [int(x) for x in z["cell_id"][:cells]]
    return Recordings(ids, v, current, round((BEFORE + PART * (off - on)) / DT))


def run(net: bs.Network, current, adjoint=None):
    """Potential and spikes, each (steps, n)."""
    sol = bs.simulate(
        net,
        t1=current.shape[0] * DT,
        dt=DT,
        key=jax.random.key(0),
        inputs={"P": current},
        saveat=[bs.Trace("P.v"), bs.Events("P")],
        adjoint=adjoint,
    )
    return sol["P.v"], sol["P.events"]


def losses(net: bs.Network, data: Recordings) -> jax.Array:
    """The loss of every cell on the fitted part, (n,): subthreshold potential, spikes, and their number so far.

    The last has the longest reach: it grows with every interval that is too short or too long, where a distance of
    spikes saturates, and is then least for a cell that is silent.
    """
    steps = data.fitted
    v, s = run(net, jnp.asarray(data.current[:steps], jnp.float32))
    target = jnp.asarray(data.v[:steps], v.dtype)
    cut = jnp.asarray(data.cut, v.dtype)[None]
    trace = jnp.mean(((jnp.minimum(v, cut) - jnp.minimum(target, cut)) / 5.0) ** 2, 0)
    wanted = jnp.asarray(data.spikes[:steps], s.dtype)
    number = jnp.maximum(jnp.sum(wanted, 0), 1.0)
    distance = jax.vmap(lambda s, w: train.van_rossum(s, w, tau=TAU, dt=DT), in_axes=1)(s, wanted)
    count = jnp.mean(jnp.cumsum(s - wanted, 0) ** 2, 0)
    return trace + distance / number + count


def by_gradient(build, data: Recordings, steps: int, starts: int, seed: int):
    """All cells and all starts side by side; the best start of every cell. (network, losses, seconds, curve)."""
    net, bounds = build(data.rest, data.low)
    method = optax.chain(optax.clip(1.0), optax.adam(optax.cosine_decay_schedule(0.08, steps, 0.1)))
    fitted = train.fit(
        net,
        lambda net: jnp.mean(losses(net, data)),
        bounds,
        method=method,
        steps=steps,
        starts=starts,
        spread=0.4,
        key=jax.random.key(seed),
    )
    ends = {name: jnp.asarray(p) for name, p in fitted.ends.items()}
    table = np.asarray(jax.jit(jax.vmap(lambda p: losses(train.with_parameters(net, p), data)))(ends))
    best = np.nanargmin(table, axis=0)
    cells = np.arange(len(best))
    chosen = {name: p[best, cells] for name, p in ends.items()}
    curve = np.minimum.accumulate(np.nanmin(fitted.history, axis=1))
    # the first step compiles; what it takes is not the method's
    seconds = fitted.seconds - fitted.seconds[0]
    return train.with_parameters(net, chosen), table[best, cells], seconds, curve


def without_gradient(build, data: Recordings, seconds: float, seed: int):
    """CMA-ES on one cell for so long, compilation apart: (network, loss, seconds, curve)."""
    net, bounds = build(data.rest, data.low)
    fitted = train.fit(
        net,
        lambda net: jnp.mean(losses(net, data)),
        bounds,
        method=train.CMAES(sigma=1.0),
        steps=100_000,
        seconds=seconds,
        key=jax.random.key(seed),
        progress=False,
    )
    return fitted.net, fitted.loss, fitted.seconds - fitted.seconds[0], np.minimum.accumulate(fitted.history[:, 0])


def tested(net: bs.Network, data: Recordings) -> list[dict]:
    """What the fitted cells do in the part of the step that was not fitted, from a run of the whole step."""
    v, s = (np.asarray(x) for x in jax.jit(run)(net, jnp.asarray(data.current, jnp.float32)))
    part, out = slice(data.fitted, None), []
    duration = (len(data.v) - data.fitted) * DT
    for k in range(data.v.shape[1]):
        mine, real = s[part, k] > 0, data.spikes[part, k] > 0
        near = np.zeros(mine.size, bool)
        for i in np.flatnonzero(mine | real):
            near[max(i + round(AROUND[0] / DT), 0) : i + round(AROUND[1] / DT)] = True
        x, y = data.v[part, k][~near], v[part, k][~near]
        times, wanted = np.flatnonzero(mine) * DT, np.flatnonzero(real) * DT
        out.append(
            {
                "explained_subthreshold_variance": float(1.0 - np.mean((x - y) ** 2) / np.var(x)),
                "gamma": train.coincidence(times, wanted, window=WINDOW, duration=duration),
                "n_spikes": int(mine.sum()),
                "n_spikes_recorded": int(real.sum()),
            }
        )
    return out


def first_below(seconds, curve, level: float) -> float | None:
    """When a curve first is at or below a level."""
    k = np.flatnonzero(np.asarray(curve) <= level)
    return float(seconds[k[0]]) if k.size else None


def compared(build, data: Recordings, steps: int, starts: int, seed: int) -> dict:
    """One model on all cells by both methods; times are seconds per cell."""
    n = data.v.shape[1]
    net, loss, seconds, curve = by_gradient(build, data, steps, starts, seed)
    each = seconds[-1] / n
    others = [without_gradient(build, data.of(k), each, seed) for k in range(n)]
    grid = np.linspace(0.0, each, 200)
    mean = np.mean([c[np.searchsorted(t, grid, side="right") - 1] for _, _, t, c in others], axis=0)
    level = max(float(curve[-1]), float(mean[-1]))
    gradient = [a | {"loss": float(b)} for a, b in zip(tested(net, data), loss)]
    evolution = [tested(o[0], data.of(k))[0] | {"loss": float(o[1])} for k, o in enumerate(others)]
    return {
        "seconds_per_cell": each,
        "level_both_reach": level,
        "gradient": {"cells": gradient, "seconds_to_level": first_below(seconds / n, curve, level)},
        "cma_es": {"cells": evolution, "seconds_to_level": first_below(grid, mean, level)},
    }


def figure(path: Path, results: dict) -> None:
    from matplotlib import pyplot

    from brainsim import plot

    fig, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    what = {"gamma": "spike coincidence Γ", "explained_subthreshold_variance": "explained variance"}
    for ax, (key, label) in zip(axes, what.items()):
        for j, method in enumerate(("gradient", "cma_es")):
            for k, found in enumerate(results["models"].values()):
                y = [max(cell[key], -1.0) for cell in found[method]["cells"]]
                x = k + 0.3 * (j - 0.5) + np.linspace(-0.06, 0.06, len(y))
                ax.plot(x, y, ".", color=plot.COLOURS[j], label=method.replace("_", "-") if k == 0 else None)
                ax.plot(k + 0.3 * (j - 0.5), np.median(y), "_", color="0.2", markersize=16)
        ax.axhline(0.0, color="0.8", linewidth=0.8)
        ax.set(ylabel=f"{label} (test)", ylim=(-1.1, 1.05), xticks=range(len(results["models"])))
        ax.set_xticklabels(list(results["models"]))
    axes[0].legend(frameon=False)
    fig.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.patch_clamp_fit", description=__doc__)
    parser.add_argument("--data", type=Path, help="allen_patch.npz; README.md says where it comes from")
    parser.add_argument("--quick", action="store_true", help="one cell, few steps: a minute, and no claim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the results (default of the full run: beside run.py)")
    options = parser.parse_args()
    if options.data is None or not options.data.exists():
        print(f"SKIPPED: no recordings ({options.data}). They are not bundled, as their licence is non-commercial.")
        print("experiments/patch_clamp_fit/README.md says where to get them; then pass --data PATH.")
        sys.exit(0)
    cells, steps, starts = (1, 20, 2) if options.quick else (10, 300, 8)
    data = load(options.data, cells)
    results = {
        "seed": options.seed,
        "commit": commit(),
        "quick": options.quick,
        "provenance": bs.io.provenance(),
        "settings": {
            "dt_ms": DT,
            "fitted_part": PART,
            "coincidence_window_ms": WINDOW,
            "steps": steps,
            "starts": starts,
        },
        "cell_id": data.cell_id,
        "models": {},
    }
    table = Table("model", "method", "loss (fitted)", "Γ (test)", "expl. var. (test)", "s to level", "s per cell")
    for name, build in MODELS.items():
        results["models"][name] = found = compared(build, data, steps, starts, options.seed)
        for method in ("gradient", "cma_es"):
            of = lambda key: np.asarray([c[key] for c in found[method]["cells"]])  # noqa: B023, E731
            late = found[method]["seconds_to_level"]
            table.add_row(
                name,
                method,
                f"{of('loss').mean():.3f}",
                f"{np.median(of('gamma')):.2f}",
                f"{np.median(of('explained_subthreshold_variance')):.2f}",
                "never" if late is None else f"{late:.1f}",
                f"{found['seconds_per_cell']:.1f}",
            )
    Console().print(f"medians over {cells} cells (loss: mean)", table)
    out = options.out or (None if options.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not options.quick:
        figure(HERE / "figure.png", results)
