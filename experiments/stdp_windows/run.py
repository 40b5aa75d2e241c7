"""How much a pair of spikes changes a synapse, rule by rule, against what the equations say.

`python -m experiments.stdp_windows [--quick] [--out PATH]` prints the table; the full run writes `results.json` and
`figure.png` beside this file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import brainsim as bs

from .._provenance import commit

HERE = Path(__file__).parent
DT = 0.1  # ms
PAIRS, REST = 20, 300.0
"""Pairings of a protocol; ms after the last of them in which nothing happens."""
SPACING = 200.0  # ms between the pairs of the calcium rule


class Parrot(bs.AbstractUnit):
    """Spikes in the step in which something arrives at its port."""

    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": jnp.zeros_like(y["v"])}

    def guard(self, y, z):
        return y["v"] - 0.5

    def reset(self, y, z, s, inp, clock):
        return {"v": jnp.zeros_like(y["v"])}, z


def changes(rule: Any, pre: np.ndarray, post: np.ndarray, start: float = 0.5, **options: Any) -> np.ndarray:
    """The change of the weight of every synapse k, whose pre unit fires in the steps `pre[k]`, its post unit in
    `post[k]`."""
    n, last = len(pre), int(max(pre.max(), post.max()) + REST / DT)
    sides = {}
    for name, steps in (("A", pre), ("R", post)):
        units = np.repeat(np.arange(n), steps.shape[1])
        sides[name] = bs.Source(bs.Replay((steps.reshape(-1) + 1) * DT, units), n)
    nodes = sides | {"B": bs.Population(Parrot(), n, {"drive": bs.Delta(), "syn": bs.ExpCurr()})}
    drive = bs.Projection("R", "B.drive", bs.OneToOne(), weight=1.0, delay=bs.INSTANT)
    edge = bs.PlasticProjection("A", "B.syn", bs.OneToOne(), weight=start, rule=rule, **options)
    sol = bs.simulate(bs.Network(nodes, {"drive": drive, "S": edge}), t1=last * DT, dt=DT, key=jax.random.key(0))
    return np.asarray(sol.state.edges["S"]["w"], np.float64) - start


def trains(distances: np.ndarray, pairs: int, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps of pre and of post events, one row for each distance (ms), post after pre where it is positive."""
    begin = np.arange(pairs) * round(period / DT) + round(100.0 / DT)
    late = np.round(distances / DT).astype(int)
    return np.tile(begin, (len(distances), 1)), begin[None] + late[:, None]


def pair(d: np.ndarray) -> np.ndarray:
    """The window of `PairSTDP` at its defaults."""
    return np.where(d > 0, 0.01 * np.exp(-d / 20.0), -0.0105 * np.exp(d / 20.0))


def inhibitory(d: np.ndarray) -> np.ndarray:
    """That of `VogelsSprekeler`: symmetric, and lowered by every pre event."""
    return 1e-3 * (np.exp(-np.abs(d) / 20.0) - 2e-3 * 3.0 * 20.0)


def triplet(rule: bs.TripletSTDP, pre: np.ndarray, post: np.ndarray) -> np.ndarray:
    """Sums over all pairs and triplets of events."""
    p = {k: float(getattr(rule, k)) for k in ("tau_plus", "tau_x", "tau_minus", "tau_y")}
    a = {k: float(getattr(rule, k)) for k in ("a2_plus", "a3_plus", "a2_minus", "a3_minus")}

    def before(times, other, tau):
        gap = (times[:, None] - other[None]) * DT
        return np.where(gap > 0, np.exp(-np.maximum(gap, 0) / tau), 0.0).sum(1)

    out = []
    for t, f in zip(pre, post):
        up = before(f, t, p["tau_plus"]) * (a["a2_plus"] + a["a3_plus"] * before(f, f, p["tau_y"]))
        down = before(t, f, p["tau_minus"]) * (a["a2_minus"] + a["a3_minus"] * before(t, t, p["tau_x"]))
        out.append(up.sum() - down.sum())
    return np.array(out)


def calcium(tau: float, pre: np.ndarray, post: np.ndarray, fine: int = 10) -> np.ndarray:
    """The calcium rule integrated in small steps, as it stands in the paper, with all its terms."""
    n = int(max(pre.max(), post.max())) + 1
    rho, c, h = np.full(len(pre), 0.5), np.zeros(len(pre)), DT / fine
    hits = [np.zeros((n, len(pre))) for _ in range(2)]
    for hit, steps in zip(hits, (pre, post)):
        for k, row in enumerate(steps):
            hit[row, k] = 1.0
    last, fade = rho.copy(), np.exp(-h / 20.0)
    for s, f in zip(*hits):
        if np.any(c > 0.5):
            for _ in range(fine):
                c = c * fade
                drift = 321.808 * (1 - rho) * (c > 1.3) - 200.0 * rho * (c > 1.0)
                rho = rho + h / tau * (drift - rho * (1 - rho) * (0.5 - rho))
        else:
            c = c * fade**fine
            rho = rho - DT / tau * rho * (1 - rho) * (0.5 - rho)
        last = np.where((s + f) > 0, rho, last)
        c = c + s + 2.0 * f
    return last - 0.5


def measured(quick: bool) -> dict[str, Any]:
    """Of every rule the distances or rates, the changes in float32 and float64, and those that are expected."""
    d = np.round(np.linspace(-60, 60, 25 if quick else 121), 1)
    d = d[d != 0]
    rates = np.array([10.0, 20.0, 40.0, 50.0]) if quick else np.array([10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0])
    cortex, pairs = (lambda: bs.TripletSTDP(a2_plus=5e-10, w_min=-50.0, w_max=50.0)), 10 if quick else PAIRS
    protocols: dict[str, Any] = {
        "pair": (bs.PairSTDP, trains(d, 1, 1.0), pair(d), d),
        "nearest": (lambda: bs.PairSTDP(nearest=True), trains(d, 1, 1.0), pair(d), d),
        "inhibitory": (bs.VogelsSprekeler, trains(d, 1, 1.0), inhibitory(d), d),
    }
    for name, late in (("triplet, post 10 ms after pre", 10.0), ("triplet, post 10 ms before pre", -10.0)):
        each = [trains(np.array([late]), pairs, 1e3 / r) for r in rates]
        given = tuple(np.concatenate(x) for x in zip(*each))
        with jax.enable_x64(True):
            protocols[name] = (cortex, given, triplet(cortex(), *given), rates)
    tau, period = (5e3, 100.0) if quick else (150e3, SPACING)
    given = trains(d, 10 if quick else PAIRS, period)
    protocols["calcium"] = (lambda: bs.GraupnerBrunel(tau=tau), given, calcium(tau, *given), d)
    out = {}
    for name, (rule, given, expected, at) in protocols.items():
        got = {}
        for x64 in (False, True):
            with jax.enable_x64(x64):
                got["float64" if x64 else "float32"] = changes(rule(), *given)
        scale = np.max(np.abs(expected))
        errors = {k: float(np.max(np.abs(x - expected)) / scale) for k, x in got.items()}
        out[name] = {
            "at": at.tolist(),
            "changes": got["float64"].tolist(),
            "expected": expected.tolist(),
            "relative_errors": errors,
        }
    return out


def figure(found: dict[str, Any], path: Path) -> None:
    """Every window: the run as dots, the equations as a line."""
    import matplotlib.pyplot as plt

    panels = {"pair": "pair", "inhibitory": "inhibitory", "triplet": "triplet", "calcium": "calcium"}
    fig, axes = plt.subplots(1, len(panels), figsize=(14, 3), layout="constrained")
    for ax, (title, part) in zip(axes, panels.items()):
        for name, x in found.items():
            if part in name:
                ax.plot(x["at"], x["expected"], lw=1)
                ax.plot(x["at"], x["changes"], ".", ms=3, label=name)
        ax.axhline(0, lw=0.5, color="grey")
        ax.set(title=title, xlabel="rate (Hz)" if part == "triplet" else "post - pre (ms)", ylabel="change of weight")
    axes[2].legend(fontsize=6)
    fig.savefig(path, dpi=100)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few distances and pairings")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    args = parser.parse_args()
    start = time.perf_counter()
    found = measured(args.quick)
    table = Table("rule", "largest change", "error, float32", "error, float64", title="Windows, against the equations")
    for name, x in found.items():
        errors = x["relative_errors"]
        table.add_row(
            name, f"{max(map(abs, x['changes'])):.3g}", f"{errors['float32']:.1e}", f"{errors['float64']:.1e}"
        )
    Console().print(table)
    results = {
        "experiment": "stdp_windows",
        "quick": args.quick,
        "commit": commit(),
        "dt_ms": DT,
        "wall_s": round(time.perf_counter() - start, 1),
        "windows": found,
    }
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
        if not args.quick:
            figure(found, out.with_name("figure.png"))


if __name__ == "__main__":
    main()
