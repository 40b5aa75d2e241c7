"""Gaussian noise on gradients, annealed: does it rescue very deep networks that start badly?

`python -m experiments.gradient_noise --data mnist.npz [--quick] [--out PATH]` prints the tables; the full run writes
`results.json` and `figure.png` beside this file. Without `--data` only the spiking half is run.
"""

import argparse
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim._demo._braille import delayed
from brainsim._demo._data import LETTERS, load, rebin

from .._provenance import commit

HERE = Path(__file__).parent
GAMMA, PASSED, CLIP, BATCH = 0.55, 0.9, 1.0, 32
POINTS = 25  # of the curve of the loss
LAYERS, WIDTH, DIGITS = 20, 50, 10
"""Layers of weights of the rectifier network, its hidden width, its classes."""
DEPTH, CELLS, SAMPLES, STEPS, DT = 5, 48, 300, 64, 20.0
"""Spiking layers, units in each, recordings, time steps per recording, length of a step (ms)."""
LINES = (0, 2, 4, 6, 8)
"""Delays of the lines by which every sensor reaches the first layer (steps)."""


def rectifiers(p: dict[str, Array], x: Float[Array, "pixel"]) -> Float[Array, "digit"]:
    """20 fully connected layers."""

    def layer(x, p):
        return jax.nn.relu(x @ p[0] + p[1]), None

    x, _ = layer(x, (p["first"], p["first_bias"]))
    x, _ = jax.lax.scan(layer, x, (p["hidden"], p["hidden_bias"]))
    return x @ p["last"] + p["last_bias"]


def rectifier_start(pixels: int, deviation: float | None, key: Array) -> dict[str, Array]:
    """Normal weights of this standard deviation; None is that of He et al. 2015, `sqrt(2 / n_in)`."""
    shapes = {"first": (pixels, WIDTH), "hidden": (LAYERS - 2, WIDTH, WIDTH), "last": (WIDTH, DIGITS)}
    p = {}
    for k, (name, shape) in zip(jax.random.split(key, 3), shapes.items()):
        p[name] = jax.random.normal(k, shape) * (math.sqrt(2.0 / shape[-2]) if deviation is None else deviation)
        p[f"{name}_bias"] = jnp.zeros((*shape[:-2], shape[-1]))
    return p


@functools.cache
def spiking() -> bs.Network:
    """Layers of LIF units, joined within the step; potentials in units of the threshold."""
    unit = bs.LIF(tau_m=60.0, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)
    nodes: dict[str, Any] = {"L0": bs.Source(bs.External(), 12 * len(LINES))}
    edges = {}
    for k in range(1, DEPTH + 1):
        n_pre = 12 * len(LINES) if k == 1 else CELLS
        nodes[f"L{k}"] = bs.Population(unit, CELLS, {"in": bs.Delta()}, surrogate=bs.Triangular(1.0), detach_reset=True)
        edges[f"E{k}"] = bs.Projection(
            f"L{k - 1}", f"L{k}", bs.Dense(n_pre, CELLS), weight=np.zeros((n_pre, CELLS)), delay=bs.INSTANT
        )
    return bs.Network(nodes, edges)


def spiking_start(gain: float, key: Array) -> dict[str, Array]:
    """Normal weights of variance `gain^2 / n_in`, and a readout of the events of the last layer."""
    weights = {k: v for k, v in bs.train.parameters(spiking()).items() if k.endswith(".weight")}
    keys = jax.random.split(key, len(weights) + 1)
    p = {n: jax.random.normal(k, w.shape) * (gain / math.sqrt(w.shape[0])) for (n, w), k in zip(weights.items(), keys)}
    return p | {"readout": jax.random.normal(keys[-1], (CELLS, LETTERS)) / math.sqrt(CELLS)}


def read_letter(p: dict[str, Array], x: Float[Array, "steps sensor"]) -> Float[Array, "letter"]:
    """Scores from the events of the last layer."""
    net = bs.train.with_parameters(spiking(), {k: v for k, v in p.items() if k != "readout"})
    sol = bs.simulate(
        net,
        t1=len(x) * DT,
        dt=DT,
        key=jax.random.key(0),
        inputs={"L0": delayed(x, LINES)},
        saveat=[bs.Events(f"L{DEPTH}")],
        adjoint=bs.DirectAdjoint(),
    )
    return 10.0 * jnp.mean(sol[f"L{DEPTH}.events"], 0) @ p["readout"]


def descent(rate: float, eta: float, key: Array) -> optax.GradientTransformation:
    """Clipped gradient descent, with noise of variance `eta / (1 + t)^0.55` on every component of the gradient."""
    noise = [optax.add_noise(eta, GAMMA, key)] if eta else []
    return optax.chain(optax.clip_by_global_norm(CLIP), *noise, optax.sgd(rate))


def at_once(p: Any, key: Array, rate: float, eta: float, steps: int) -> Any:
    """`p` moved by as much noise as `steps` steps add up to, before the first of them."""
    total = rate * math.sqrt(eta * sum((1 + t) ** -GAMMA for t in range(steps)))
    leaves, tree = jax.tree.flatten(p)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(tree, [x + total * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])


def train(start: Callable, scores: Callable, x: Array, y: Array, how: dict, seeds: int, steps: int) -> dict:
    """Train `seeds` networks; starts, batches and noise differ between them, and only the noise between conditions.

    `how`: `eta`, `rate`, and flags: `adam` instead of descent, noise `once` before the first step.
    """

    def loss(p, x, y):
        out = jax.vmap(lambda x: scores(p, x))(x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(out, y))

    def one(seed):
        init, order, noise = jax.random.split(jax.random.key(seed), 3)
        p = start(init)
        if how.get("once"):
            p = at_once(p, noise, how["rate"], how["eta"], steps)
        eta = 0.0 if how.get("once") else how["eta"]
        method = optax.adam(how["rate"]) if how.get("adam") else descent(how["rate"], eta, noise)

        def update(carry, t):
            p, state = carry
            chosen = jax.random.randint(jax.random.fold_in(order, t), (BATCH,), 0, len(y))
            value, g = jax.value_and_grad(loss)(p, x[chosen], y[chosen])
            change, state = method.update(g, state, p)
            return (optax.apply_updates(p, change), state), value

        (p, _), losses = jax.lax.scan(update, (p, method.init(p)), jnp.arange(steps))
        read = jax.lax.map(lambda x: jnp.argmax(scores(p, x)), x, batch_size=500)
        return jnp.mean(read == y), jnp.mean(losses.reshape(POINTS, -1), 1)

    began = time.process_time()
    # one after another: matrix products of a few dozen rows are ten times slower in a batch of them on a CPU
    accuracy, losses = jax.jit(lambda seeds: jax.lax.map(one, seeds))(jnp.arange(seeds))
    accuracy = np.asarray(accuracy)
    return {
        "train_accuracy": accuracy.tolist(),
        "passed": float(np.mean(accuracy > PASSED)),
        "loss": np.asarray(losses).tolist(),
        "cpu_s": time.process_time() - began,
    }


def digits(path: Path, n: int) -> tuple[Array, Array]:
    """The first `n` training digits, averaged over squares of two by two pixels: (n, 196) in 0..1."""
    if not path.exists():
        raise SystemExit(f"{path} does not exist; expected the arrays of MNIST. README.md says where they come from.")
    with np.load(path) as z:
        missing = {"x_train", "y_train"} - set(z.files)
        if missing:
            raise SystemExit(f"{path} has no {sorted(missing)}; expected the arrays of MNIST. README.md says which.")
        x, y = z["x_train"][:n], z["y_train"][:n]
    pooled = x.reshape(len(x), 14, 2, 14, 2).mean((2, 4)).reshape(len(x), -1) / 255.0
    return jnp.asarray(pooled, jnp.float32), jnp.asarray(y.astype(np.int32))


def figure(results: dict, to: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, len(results["nets"]), figsize=(9, 4.6), layout="constrained", squeeze=False)
    for ax, (name, net) in zip(axes[0], results["nets"].items()):
        t = (np.arange(POINTS) + 0.5) * net["steps"] / POINTS
        for k, (condition, run) in enumerate(net["conditions"].items()):
            ax.plot(t, np.median(run["loss"], axis=0), color=f"C{k}", label=f"{condition}: {run['passed']:.0%}")
            ax.fill_between(t, *np.quantile(run["loss"], [0.1, 0.9], axis=0), color=f"C{k}", alpha=0.15, lw=0)
        ax.set(xlabel="step", ylabel="training loss (nat)", title=name, ylim=(0, 2.6))
        how = dict(fontsize=8, title_fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
        ax.legend(title="share of seeds over 90 % training accuracy", **how)
    plt.savefig(to, dpi=120)


def conditions(good: float | None, poor: float, rate: float, eta: float) -> dict[str, dict]:
    """What is compared: starts, and what is added to them."""
    plain = dict(start=poor, rate=rate, eta=0.0)
    return {
        "good start": plain | dict(start=good),
        "poor start": plain,
        "poor start, Adam": plain | dict(rate=1e-3, adam=True),
        "poor start, noise": plain | dict(eta=eta),
        "poor start, a third of the variance": plain | dict(eta=eta / 3.0),
        "poor start, all noise at once": plain | dict(eta=eta, once=True),
    }


def compare(start: Callable, scores: Callable, data: tuple, tried: dict[str, dict], seeds: int, steps: int) -> dict:
    made = {}
    for name, how in tried.items():
        made[name] = how | train(functools.partial(start, how["start"]), scores, *data, how, seeds, steps)
        print(name, made[name]["passed"], f"{made[name]['cpu_s']:.0f} s", flush=True)
    return {"seeds": seeds, "steps": steps, "conditions": made}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under two minutes, and no claim")
    parser.add_argument("--data", type=Path, default=None, help="mnist.npz with x_train and y_train")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    args = parser.parse_args()
    console, nets = Console(), {}
    if args.data is None:
        console.print("SKIPPED the 20 layers: name the file of MNIST by --data; README.md says where it comes from.")
    else:
        data = digits(args.data, 500 if args.quick else 5000)
        tried = conditions(None, 0.1, rate=0.1, eta=0.03)
        seeds, steps = (2, 100) if args.quick else (20, 5000)
        start = functools.partial(rectifier_start, data[0].shape[1])
        nets["20 layers of rectifiers, MNIST"] = compare(start, rectifiers, data, tried, seeds, steps)
    letters, *_ = load()
    data = jnp.asarray(rebin(letters.x[:SAMPLES], STEPS)), jnp.asarray(letters.y[:SAMPLES])
    tried = conditions(3.0, 1.0, rate=0.1, eta=0.2)
    seeds, steps = (2, 25) if args.quick else (6, 1200)
    nets["5 layers of spiking cells, Braille"] = compare(spiking_start, read_letter, data, tried, seeds, steps)
    results = {"commit": commit(), "quick": args.quick, "gamma": GAMMA, "clip": CLIP, "batch": BATCH, "nets": nets}
    for name, net in nets.items():
        table = Table("", "eta", "seeds > 90 %", "training accuracy (median, range)", title=name)
        for condition, run in net["conditions"].items():
            low, middle, high = np.quantile(run["train_accuracy"], [0.0, 0.5, 1.0])
            shown = f"{run['passed']:.0%}", f"{middle:.1%} ({low:.1%} to {high:.1%})"
            table.add_row(condition, f"{run['eta']:.2g}", *shown)
        console.print(table)
    out = args.out or (None if args.quick or args.data is None else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not args.quick and args.data is not None:
        figure(results, HERE / "figure.png")
