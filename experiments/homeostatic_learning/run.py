"""A learner whose own needs move its learning rate: homeostasis under shifting concepts.

`python -m experiments.homeostatic_learning --data mnist.npz [--quick] [--out PATH]`
"""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._living import SEEDS, command, spread

HERE = Path(__file__).parent
SIZES, BATCH, MEMORY, RATE, FLOOR = (784, 80, 60, 10), 10, 20, 1e-3, 1e-8
WAYS = ("fixed rate", "random changes", "homeostasis", "homeostasis, true label both times")


def start(key: Any) -> list[Any]:
    """He's weights, biases of N(0, 1)."""
    keys = jax.random.split(key, 2 * len(SIZES))
    pairs = list(itertools.pairwise(SIZES))
    return [
        (jax.random.normal(keys[2 * k], (a, b)) * np.sqrt(2 / a), jax.random.normal(keys[2 * k + 1], (b,)))
        for k, (a, b) in enumerate(pairs)
    ]


def scores(p: list[Any], x: Any) -> Any:
    for w, b in p[:-1]:
        x = jax.nn.elu(x @ w + b)
    return x @ p[-1][0] + p[-1][1]


def loss(p: list[Any], x: Any, y: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores(p, x)), y[:, None], 1))


def learnt(way: str, x: Any, y: Any, swaps: Any, key: Any, step: float) -> Any:
    """Accuracy on each batch before it is learnt, `x` (batches, 10, 784); `swaps` (batches, 10): the name of each class
    during each batch."""
    first, chance = jax.random.split(key)

    def one(carry, row):
        p, eta, seen_x, seen_y = carry
        x, y, names, k = row
        y = names[y]
        right = jnp.mean(jnp.argmax(scores(p, x), 1) == y)
        g = jax.grad(loss)(p, x, y)
        seen_x, seen_y = jnp.concatenate([seen_x[BATCH:], x]), jnp.concatenate([seen_y[BATCH:], y])

        def after(eta):
            moved = jax.tree.map(lambda a, b: a - eta * b, p, g)
            return jnp.mean(jnp.argmax(scores(moved, seen_x), 1) == seen_y)

        true, guess = y[-1], jnp.argmax(scores(p, x[-1:]), 1)[0]
        up = jnp.where(true >= 5, step, -step)
        if way == "random changes":
            change = jnp.where(jax.random.bernoulli(jax.random.fold_in(chance, k)), up, 0.0)
        elif way == "fixed rate":
            change = 0.0
        else:
            perceived = true if way.endswith("both times") else guess
            imagined = jnp.maximum(eta + jnp.where(perceived >= 5, step, -step), FLOOR)
            change = jnp.where(after(imagined) > after(eta), up, 0.0)
        eta = jnp.maximum(eta + change, FLOOR)
        p = jax.tree.map(lambda a, b: a - eta * b, p, g)
        return (p, eta, seen_x, seen_y), (right, eta)

    begin = start(first), jnp.asarray(RATE), jnp.zeros((MEMORY, SIZES[0])), jnp.zeros(MEMORY, jnp.int32)
    return jax.lax.scan(one, begin, (x, y, swaps, jnp.arange(x.shape[0])))[1]


def names_of(batches: int, epoch: int, per_epoch: int, seed: int) -> np.ndarray:
    """The name of each class during each batch: two classes change places `per_epoch` times an epoch."""
    rng, now, out = np.random.default_rng(seed), np.arange(10), []
    when = set(np.linspace(0, epoch, per_epoch, endpoint=False).astype(int)[0:] if per_epoch else [])
    for k in range(batches):
        if k and k % epoch in when:
            a, b = rng.choice(10, 2, replace=False)
            now = now.copy()
            now[[a, b]] = now[[b, a]]
        out.append(now)
    return np.array(out, np.int32)


def work(quick: bool, data: Path) -> dict[str, Any]:
    samples, epochs, rates, seeds = (500, 1, (0, 5), 1) if quick else (5000, 10, (0, 2, 5, 10, 20), SEEDS)
    with np.load(data) as z:
        x, y = z["x_train"][:samples].reshape(samples, -1) / 255.0, z["y_train"][:samples].astype(np.int32)
    per, runs = samples // BATCH, []
    run = {way: jax.jit(partial(learnt, way, step=RATE / 10)) for way in WAYS}
    for swaps in rates:
        for seed in range(seeds):
            order = np.concatenate([np.random.default_rng([seed, e]).permutation(samples) for e in range(epochs)])
            rows = jnp.asarray(x[order].reshape(-1, BATCH, SIZES[0]), jnp.float32), y[order].reshape(-1, BATCH)
            names = jnp.asarray(names_of(epochs * per, per, swaps, seed))
            for way in WAYS:
                right, eta = run[way](*rows, names, jax.random.key(seed))
                late = np.asarray(right)[len(right) // 2 :]
                runs.append(
                    {"swaps": swaps, "seed": seed, "way": way, "accuracy": float(late.mean()), "rate": float(eta[-1])}
                )
    rows = [("swaps an epoch", *WAYS)]
    for swaps in rates:
        of = {way: [r["accuracy"] for r in runs if r["swaps"] == swaps and r["way"] == way] for way in WAYS}
        rows.append((swaps, *map(spread, of.values())))
    return {"samples": samples, "epochs": epochs, "runs": runs, "table": rows}


def figure(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    for way in WAYS:
        of = [r for r in results["runs"] if r["way"] == way]
        at = sorted({r["swaps"] for r in of})
        mean = [np.mean([r["accuracy"] for r in of if r["swaps"] == s]) for s in at]
        ax.plot(at, mean, ".-", label=way)
    ax.set(xlabel="label swaps an epoch", ylabel="accuracy, second half")
    ax.legend(fontsize=7)
    fig.savefig(path, dpi=90)


def main() -> None:
    command(HERE, __doc__ or "", work, figure, data=True)
