"""ELM neurons of several sizes fitted to a simulated cell with dendrites; and the released ones checked.

`python -m experiments.elm_neuron [--quick] [--data elm_weights.npz] [--out PATH]` prints the tables; the full run
writes `results.json` and `figure.png` beside this file.
"""

import argparse
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

import brainsim as bs

from .._provenance import commit
from .cell import DENDRITES, INPUTS, recordings

HERE = Path(__file__).parent
BATCH, WINDOW, BURN = 16, 400, 100
"""Windows in an update, their length, and what is left out at the start of each (ms)."""
FILTERS = (3.0, 10.0, 30.0, 90.0)
"""Time constants of the traces that the linear model reads (ms)."""


class Linear(eqx.Module):
    """A GLM: spike logit and potential are linear in every input, filtered by each of `FILTERS`."""

    weight: Float[Array, "outputs filters inputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, x: Float[Array, "steps inputs"]) -> Float[Array, "steps outputs"]:
        keep = jnp.exp(-1.0 / jnp.asarray(FILTERS, x.dtype))[:, None]

        def step(s, row):
            s = keep * s + row
            return s, jnp.einsum("ofi,fi->o", self.weight, s) + self.bias

        return jax.lax.scan(step, jnp.zeros((len(FILTERS), x.shape[1]), x.dtype), x)[1]


def linear(key: jax.Array) -> Linear:
    return Linear(0.01 * jax.random.normal(key, (2, len(FILTERS), INPUTS)), jnp.zeros(2))


def elm(memory: int, tau_m=None):
    return lambda key: bs.ELM(INPUTS, branches=DENDRITES, memory=memory, outputs=2, tau_m=tau_m, key=key)


def models(quick: bool) -> dict:
    if quick:
        return {"linear": linear, "ELM 10": elm(10)}
    sizes = {"ELM 1": elm(1, np.asarray([12.0])), **{f"ELM {d}": elm(d) for d in (2, 5, 10, 20)}}
    return {"linear": linear, **sizes, "ELM 20, tau_m = 1 ms": elm(20, np.ones(20))}


def trained(model) -> tuple:
    """What is trained, and the rest: the time constants are given."""
    free = jax.tree.map(eqx.is_inexact_array, model)
    if isinstance(model, bs.ELM):
        free = eqx.tree_at(lambda m: (m.tau_s, m.tau_m), free, (False, False))
    return eqx.partition(model, free)


def auc(score: np.ndarray, spike: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a step with a spike has a higher score than one without."""
    order = np.argsort(score, kind="stable")
    rank = np.empty(score.size)
    rank[order] = np.arange(1, score.size + 1)
    n = int(spike.sum())
    return float((rank[spike > 0].sum() - n * (n + 1) / 2) / (n * (score.size - n)))


def quiet(s: np.ndarray) -> np.ndarray:
    """Steps further than 2 ms before and 15 ms after every spike, where the potential is that of the synapses."""
    out = np.ones(s.shape, np.float32)
    for trial, step in zip(*np.nonzero(s)):
        out[trial, max(step - 2, 0) : step + 16] = 0.0
    return out


def fit(make, data, updates: int, seeds: int) -> tuple:
    """Models of all seeds, trained side by side: (trained part, rest, processor time)."""
    between = quiet(data[1])
    middle, scale = (float(f(data[2][between > 0])) for f in (np.mean, np.std))
    x, s, v, between = (jnp.asarray(a, jnp.float32) for a in (*data, between))
    made = [trained(make(jax.random.key(seed))) for seed in range(seeds)]
    free, rest = jax.tree.map(lambda *a: jnp.stack(a), *[m[0] for m in made]), made[0][1]
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, updates, 0.01))
    )

    def loss(free, x, s, v, between):
        y = jax.vmap(eqx.combine(free, rest))(x)[:, BURN:]
        off, weight = y[..., 1] - (v[:, BURN:] - middle) / scale, between[:, BURN:]
        wrong = jnp.sum(weight * off**2) / jnp.sum(weight)
        return 10.0 * jnp.mean(optax.sigmoid_binary_cross_entropy(y[..., 0], s[:, BURN:])) + wrong

    @jax.jit
    def update(free, state, trial, start):
        cut = jax.vmap(lambda a, b: [jax.lax.dynamic_slice_in_dim(z[a], b, WINDOW) for z in (x, s, v, between)])(
            trial, start
        )
        gradient = jax.grad(loss)(free, *cut)
        change, state = optimiser.update(gradient, state, free)
        return optax.apply_updates(free, change), state

    state, rng = jax.vmap(optimiser.init)(free), np.random.default_rng(0)
    update = jax.jit(jax.vmap(update, in_axes=(0, 0, None, None)))
    began = time.process_time()
    for _ in range(updates):
        trial = jnp.asarray(rng.integers(0, x.shape[0], BATCH))
        free, state = update(free, state, trial, jnp.asarray(rng.integers(0, x.shape[1] - WINDOW + 1, BATCH)))
    jax.block_until_ready(free)
    return free, rest, (middle, scale), time.process_time() - began


def tested(free, rest, unit, data, seeds: int) -> list[dict]:
    """AUC of spikes, RMSE (mV) and explained variance of the potential on recordings that were not trained on."""
    x, s, v = data
    read = jax.jit(lambda free, x: jax.vmap(eqx.combine(free, rest))(x)[:, 2 * BURN :])
    between = quiet(s)[:, 2 * BURN :] > 0
    s, v, out = s[:, 2 * BURN :], v[:, 2 * BURN :], []
    for k in range(seeds):
        y = np.asarray(read(jax.tree.map(lambda a, k=k: a[k], free), jnp.asarray(x, jnp.float32)), float)
        off = (unit[0] + unit[1] * y[..., 1] - v)[between]
        row = {"auc": auc(y[..., 0].ravel(), s.ravel()), "rmse_mv": float(np.sqrt(np.mean(off**2)))}
        out.append(row | {"explained_variance": float(1.0 - np.var(off) / np.var(v[between]))})
    return out


def released(path: Path | None) -> dict | None:
    """The released neurons at rest and under Poisson drive; `tests/neurons/test_elm.py` compares all their outputs."""
    if path is None or not path.exists():
        print(f"SKIPPED: no released weights ({path}); experiments/elm_neuron/README.md says where they are from.")
        return None
    x = np.random.default_rng(0).uniform(size=(500, 1278)) < 2e-3
    x = jnp.asarray(x * np.where(np.arange(1278) < 639, 1.0, -1.0), jnp.float32)
    out = {}
    with np.load(path) as z:
        for memory in sorted({int(name[1:].split("/")[0]) for name in z.files if "/" in name}):
            weights = {k.split("/", 1)[1]: z[k] for k in z.files if k.startswith(f"m{memory}/")}
            cell = bs.ELM.of_weights(weights, inputs=1278, branches=45)
            v = [10.0 * np.asarray(jax.jit(lambda c, x: c(x))(cell, y))[200:, 1] - 67.7 for y in (0.0 * x, x)]
            n = sum(a.size for a in jax.tree.leaves(trained(cell)[0]))
            out[str(memory)] = {"parameters": n, "rest_mv": float(v[0][-1]), "driven_mv": float(v[1].mean())}
    return out


def figure(path: Path, results: dict, example: tuple) -> None:
    from matplotlib import pyplot

    from brainsim import plot

    fig, axes = pyplot.subplots(1, 3, figsize=(11, 3), layout="constrained", width_ratios=(1, 1, 1.6))
    sizes = [m for m in results["models"] if m["memory"] and "tau_m" not in m["name"]]
    others = [m for m in results["models"] if m not in sizes]
    for ax, key, label in (
        (axes[0], "auc", "AUC of spikes"),
        (axes[1], "explained_variance", "explained variance of v"),
    ):
        for m in sizes:
            y = [t[key] for t in m["test"]]
            ax.plot([m["memory"]] * len(y), y, "o", color=plot.COLOURS[0], markersize=4)
        means = [np.mean([t[key] for t in m["test"]]) for m in sizes]
        ax.plot([m["memory"] for m in sizes], means, color=plot.COLOURS[0], label="ELM")
        for m, style in zip(others, ("--", ":")):
            ax.axhline(np.mean([t[key] for t in m["test"]]), color="0.3", linestyle=style, label=m["name"])
        ax.set(xlabel="memory units", ylabel=label, xscale="log")
    axes[0].legend(frameon=False, fontsize="small")
    t, (v, guess, spikes) = np.arange(len(example[0])), example
    axes[2].plot(t, v, color="0.2", label="cell")
    axes[2].plot(t, guess, color=plot.COLOURS[0], label=f"ELM {sizes[-1]['memory']}", linewidth=1.0)
    axes[2].plot(t[spikes > 0], np.full(int(spikes.sum()), v.max() + 1.0), "|", color="0.2")
    axes[2].set(xlabel="time (ms)", ylabel="potential, held out (mV)")
    axes[2].legend(frameon=False, fontsize="small", loc="lower right")
    fig.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.elm_neuron", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three models, few updates: a minute, and no claim")
    parser.add_argument("--data", type=Path, help="elm_weights.npz, the released weights; README.md says from where")
    parser.add_argument("--out", type=Path, help="where to write the results (default of the full run: beside run.py)")
    options = parser.parse_args()
    if options.data is not None and not options.data.exists():
        parser.error(f"{options.data} does not exist; expected elm_weights.npz. README.md says where it comes from.")
    quick, at = options.quick, commit()
    seeds, updates = (1, 400) if quick else (3, 1000)
    learn, held_out = (recordings(k, n, 3000) for k, n in enumerate((15, 5) if quick else (80, 20)))
    found, example = [], ()
    for name, make in models(quick).items():
        free, rest, unit, seconds = fit(make, learn, updates, seeds)
        memory = int(rest.tau_m.size) if isinstance(rest, bs.ELM) else 0
        n = sum(a[0].size for a in jax.tree.leaves(free))
        row = {"name": name, "memory": memory, "parameters": n, "cpu_s_per_seed": round(seconds / seeds, 2)}
        found.append(row | {"test": tested(free, rest, unit, held_out, seeds)})
        if memory and "tau_m" not in name:
            one = eqx.combine(jax.tree.map(lambda a: a[0], free), rest)
            guess = unit[0] + unit[1] * np.asarray(jax.jit(lambda c, x: c(x))(one, jnp.asarray(held_out[0][0])))[:, 1]
            example = held_out[2][0][200:900], guess[200:900], held_out[1][0][200:900]
    results = {
        "commit": at,
        "quick": quick,
        "seeds": list(range(seeds)),
        "updates": updates,
        "provenance": bs.io.provenance(),
        "rate_hz": float(1e3 * np.mean(held_out[1])),
        "std_mv": float(np.std(held_out[2][quiet(held_out[1]) > 0])),
        "models": found,
        "released": released(options.data),
    }
    table = Table("model", "parameters", "AUC", "RMSE (mV)", "explained variance", "CPU s per seed")
    for m in found:
        of = lambda key: np.asarray([t[key] for t in m["test"]])  # noqa: B023, E731
        shown = [f"{of(k).mean():.4f} ± {of(k).std():.4f}" for k in ("auc", "rmse_mv", "explained_variance")]
        table.add_row(m["name"], str(m["parameters"]), *shown, f"{m['cpu_s_per_seed']:.1f}")
    Console().print(f"cell: {results['rate_hz']:.1f} Hz, potential {results['std_mv']:.2f} mV around its mean", table)
    Console().print(results["released"])
    out = options.out or (None if quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not quick:
        figure(HERE / "figure.png", results, example)
