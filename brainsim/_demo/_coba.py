"""Act 1: the balanced network of the simulator benchmark, beside the figures of Brian2 and NEST."""

import dataclasses
import math
import time
from typing import Any, NamedTuple

import diffrax
import jax
import numpy as np

import brainsim as bs

from ._progress import AbstractProgress
from ._report import Act, Figure, Table

N_EXC, N_INH = 3200, 800


class Golden(NamedTuple):
    """Mean and sample standard deviation over `seeds` of another simulator on this network, from 0.5 to 2 s."""

    who: str
    seeds: int
    rate: float
    rate_sd: float
    cv: float
    cv_sd: float


BRIAN2 = Golden("Brian2 2.9", 8, rate=21.59, rate_sd=1.39, cv=1.763, cv_sd=0.026)
"""Measured for this project with this network, forward Euler, dt = 0.1 ms; tests/golden holds the whole table."""
NEST_RATE = 20.3
"""NEST 3.10, `iaf_cond_exp` with its adaptive integrator, one seed, 0 to 1 s: a rate (Hz) only."""
MIN_SPIKES = 5
"""Cells with fewer spikes in the window have no CV."""
SLACK = 0.02
"""Allowed beside three standard errors: the seeds of two generators and the rounding of float32 and float64."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Length of a run and start of the window (ms), and number of seeds."""

    t1: float = 2000.0
    start: float = 500.0
    seeds: int = 5
    seed: int = 0


def network(seed: int) -> bs.Network:
    """3,200 excitatory and 800 inhibitory LIF neurons with conductance synapses (Brette et al. 2007, benchmark 1)."""
    n = N_EXC + N_INH
    cell = bs.LIF(tau_m=20.0, e_l=-60.0, v_reset=-60.0, v_th=-50.0, t_ref=5.0, g_l=10.0)
    ports: dict[str, Any] = {"exc": bs.ExpCond(tau=5.0, e_rev=0.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}
    return bs.Network(
        nodes={"P": bs.Population(cell, n, ports, i_e=200.0, init={"v": bs.Normal(-55.0, 5.0)})},
        edges={
            "E": bs.Projection(f"P[:{N_EXC}]", "P.exc", bs.FixedProbability(0.02), weight=6.0),
            "I": bs.Projection(f"P[{N_EXC}:]", "P.inh", bs.FixedProbability(0.02), weight=67.0),
        },
        key=jax.random.key(seed),
    )


def run(seed: int, t1: float, saveat: tuple = ()) -> bs.Solution:
    """One run of `t1` ms; the seed draws connections and initial values."""
    return bs.simulate(
        network(seed),
        t1=t1,
        dt=0.1,
        solver=diffrax.Euler(),
        key=jax.random.key(seed + 1),
        saveat=[bs.Spikes("P"), *saveat],
    )


class Statistics(NamedTuple):
    """Mean firing rate (Hz) and mean CV of the inter-spike intervals over cells with at least five spikes."""

    rate: float
    cv: float


def statistics(t: np.ndarray, i: np.ndarray, n: int, start: float, stop: float) -> Statistics:
    """Of the spikes at `t` (ms) of units `i` < n, within (start, stop]."""
    inside = (t > start) & (t <= stop)
    t, i = t[inside], i[inside]
    order = np.lexsort((t, i))
    t, i = t[order], i[order]
    gaps, owner = np.diff(t), i[1:]
    gaps, owner = gaps[i[1:] == i[:-1]], owner[i[1:] == i[:-1]]
    count = np.bincount(owner, minlength=n)
    use = count >= MIN_SPIKES - 1
    safe = np.maximum(count, 1)
    mean = np.bincount(owner, gaps, n) / safe
    spread = np.sqrt(np.bincount(owner, (gaps - mean[owner]) ** 2, n) / safe)
    cv = spread[use] / mean[use]
    return Statistics(t.size / (n * (stop - start) * 1e-3), float(cv.mean()) if cv.size else math.nan)


def agrees(own: np.ndarray, mean: float, sd: float, seeds: int) -> bool:
    """Whether the means differ by no more than three standard errors and 2 %."""
    own_sd = own.std(ddof=1) if own.size > 1 else sd
    return abs(own.mean() - mean) <= 3 * math.sqrt(sd**2 / seeds + own_sd**2 / own.size) + SLACK * mean


def act(c: Settings, progress: AbstractProgress) -> Act:
    """Run the seeds, draw the first, compare."""
    began = time.perf_counter()
    rows, seconds, pictures, warm = [], [], [], 0.0
    traces = bs.Trace(target="P.v", units=(0, 1, N_EXC))
    for k in range(c.seeds):
        start = time.perf_counter()
        sol = run(c.seed + k, c.t1, (traces,) if k == 0 else ())
        seconds.append(time.perf_counter() - start)
        spikes = sol.spikes("P")
        rows.append(statistics(spikes.t, spikes.i, N_EXC + N_INH, c.start, c.t1))
        if k == 0:
            pictures.append(_picture(sol, c))
            warm = run(c.seed, c.t1, (traces,)).run_s  # again: compiled by now, so this is the run alone
        progress.advance(k + 1, c.seeds, f"rate {rows[-1].rate:.1f} Hz, CV {rows[-1].cv:.2f}, {seconds[-1]:.1f} s")
    rate, cv = (np.array(x) for x in zip(*rows))
    own_window = c.t1 == Settings.t1 and c.start == Settings.start
    numbers = {"rate_hz": rate.tolist(), "cv": cv.tolist(), "warm_s": warm, "comparable": own_window}
    same = (
        own_window
        and agrees(rate, BRIAN2.rate, BRIAN2.rate_sd, BRIAN2.seeds)
        and agrees(cv, BRIAN2.cv, BRIAN2.cv_sd, BRIAN2.seeds)
    )
    numbers["agrees"] = same
    return Act(
        title="A balanced network, beside Brian2 and NEST",
        text=(
            "Four thousand integrate-and-fire neurons, four fifths excitatory, drive each other through conductances: "
            "the *COBA* network on which simulators have been compared since Brette et al. (2007). No noise is put "
            "in; the irregular firing is the network's own. The *CV* says how irregular: the standard deviation of the "
            "intervals between a cell's spikes over their mean, 0 for a clock and 1 for a Poisson process; above 1, "
            "spikes come in bursts with pauses between them.",
            _verdict(c, own_window, same),
        ),
        figures_of_merit={
            "firing rate": f"{rate.mean():.2f} Hz",
            "CV of the inter-spike intervals": f"{cv.mean():.3f}",
            "computing time per second of model time": f"{warm / (c.t1 * 1e-3):.2f} s",
        },
        figures=tuple(pictures),
        tables=(_comparison(c, rate, cv), _runs(c, rows, seconds)),
        numbers=numbers,
        seconds=time.perf_counter() - began,
    )


def _verdict(c: Settings, own_window: bool, same: bool) -> str:
    if not own_window:
        return (
            f"This was a quick look: only {c.start / 1e3:g} to {c.t1 / 1e3:g} s, where the figures below are for 0.5 "
            f"to 2 s, so the two must not be compared. Leave out `--quick` for the whole."
        )
    bound = "three standard errors of the difference plus 2 %"
    word = "agree with Brian2 within" if same else "*differ* from Brian2 by more than"
    return f"Over {c.seeds} seeds, rate and CV {word} {bound}. Each seed draws its own connections and initial values."


def _comparison(c: Settings, rate: np.ndarray, cv: np.ndarray) -> Table:
    def spread(x: np.ndarray, digits: int) -> str:
        return f"{x.mean():.{digits}f} ± {x.std(ddof=1):.{digits}f}" if x.size > 1 else f"{x.mean():.{digits}f}"

    g = BRIAN2
    ours = (
        "brainsim",
        "forward Euler, 0.1 ms",
        f"{c.start / 1e3:g} to {c.t1 / 1e3:g} s",
        c.seeds,
        spread(rate, 2),
        spread(cv, 3),
    )
    brian = (
        g.who,
        "forward Euler, 0.1 ms",
        "0.5 to 2 s",
        g.seeds,
        f"{g.rate:.2f} ± {g.rate_sd:.2f}",
        f"{g.cv:.3f} ± {g.cv_sd:.3f}",
    )
    nest = ("NEST 3.10", "adaptive", "0 to 1 s", 1, f"{NEST_RATE:.1f}", "not measured")
    caption = "Mean ± standard deviation over seeds. Brian2 and NEST were measured beforehand on the same network."
    return Table(("simulator", "integrator", "window", "seeds", "rate (Hz)", "CV of ISI"), [ours, brian, nest], caption)


def _runs(c: Settings, rows: list[Statistics], seconds: list[float]) -> Table:
    body = [
        (c.seed + k, f"{s.rate:.2f}", f"{s.cv:.3f}", f"{wall:.2f}") for k, (s, wall) in enumerate(zip(rows, seconds))
    ]
    caption = f"Runs of {c.t1 / 1e3:g} s of model time. Another graph has another number of synapses: compiled anew."
    return Table(("seed", "rate (Hz)", "CV of ISI", "graph, compilation and run (s)"), body, caption)


def _picture(sol: bs.Solution, c: Settings) -> Figure:
    from matplotlib.figure import Figure as Canvas

    from .. import plot
    from ._style import tidy

    span = (max(c.t1 - 500.0, 0.0), c.t1)
    groups = {"excitatory": slice(None, N_EXC), "inhibitory": slice(N_EXC, None)}
    canvas = Canvas(figsize=(7.4, 7.2), layout="constrained")
    top, middle, *cells = canvas.subplots(5, 1, sharex=True, height_ratios=(3.0, 1.3, 0.8, 0.8, 0.8))
    plot.raster(sol, "P", groups=groups, t=span, ax=top, markersize=1.3)
    plot.rates(sol, "P", groups=groups, bin_ms=5.0, t=span, ax=middle)
    middle.get_legend().remove()  # the colours are those above
    for k, (ax, name) in enumerate(zip(cells, ("exc. 1", "exc. 2", "inh."))):
        plot.traces(sol, "P.v", columns=[k], t=span, threshold=-50.0, ax=ax, color=plot.COLOURS[k // 2])
        ax.set(xlabel="", ylabel="v (mV)", ylim=(-82.0, -48.0), yticks=[-80.0, -65.0, -50.0])
        ax.annotate(name, (1.01, 0.5), xycoords="axes fraction", va="center", fontsize=9)
    cells[-1].set(xlabel="time (ms)")
    top.set(xlabel="", ylabel="neuron")
    middle.set(xlabel="")
    tidy(canvas)
    canvas.align_ylabels()
    caption = (
        "The last half second of the first run. Top: every spike of all 4,000 neurons. Middle: population rates in "
        "bins of 5 ms. Bottom: membrane potentials of two excitatory neurons and an inhibitory one; dotted: the "
        "threshold of -50 mV."
    )
    return Figure.of(canvas, caption, network, run, _picture)
