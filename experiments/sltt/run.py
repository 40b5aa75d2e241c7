"""SLTT against backpropagation through time: accuracy, memory, time, and where the two gradients part.

`python -m experiments.sltt [--quick] [--data PATH] [--out PATH]` prints the tables; the full run writes `results.json`
and `figure.png` beside this file.
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
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim._demo._braille import delayed

from .._provenance import commit

HERE = Path(__file__).parent
BUNDLED = Path(bs.__file__).parent / "_demo" / "braille_events.npz"
LETTERS, SENSORS = 7, 12
LINES = (0, 4, 8, 12, 16)
"""Delays of the lines by which every sensor reaches the first layer (steps)."""
HIDDEN, WINDOWS, BATCH, RATE = 64, 8, 32, 3e-3
DT = 10.0  # ms


def load(path: Path) -> tuple[np.ndarray, ...]:
    """Events in steps of 10 ms (n, 128, 12) and letters, of the training and of the held-out recordings."""
    with np.load(path) as z:
        x, y, split = z["spikes"].astype(np.float32), z["label"].astype(np.int32), z["split"]
    x = x.reshape(len(x), 128, -1, SENSORS).sum(2)
    return x[split == 0], y[split == 0], x[split == 1], y[split == 1]


def network(keep: float, seed: int) -> bs.Network:
    """Two layers of LIF units within a step, as SLTT needs them; a potential keeps the share `keep` in a step."""
    rng, n_in = np.random.default_rng(seed), SENSORS * len(LINES)
    unit = bs.LIF(tau_m=-DT / np.log(keep), e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)

    def layer() -> bs.Population:
        return bs.Population(unit, HIDDEN, {"in": bs.Delta()}, detach_reset=True, surrogate=bs.Triangular(1.0))

    def weights(n_pre: int, gain: float) -> np.ndarray:
        return rng.normal(size=(n_pre, HIDDEN)) * gain / keep  # what arrives decays within its step

    nodes = {"S": bs.Source(bs.External(), n_in), "A": layer(), "B": layer()}
    edges = {
        "SA": bs.Projection("S", "A", bs.Dense(n_in, HIDDEN), weight=weights(n_in, 0.4), delay=bs.INSTANT),
        "AB": bs.Projection("A", "B", bs.Dense(HIDDEN, HIDDEN), weight=weights(HIDDEN, 0.4), delay=bs.INSTANT),
    }
    return bs.Network(nodes, edges)


def parameters(net: bs.Network, seed: int) -> dict[str, jax.Array]:
    """What is learnt: both layers, and a readout of the events of the second in every window of time."""
    readout = np.random.default_rng(seed + 1000).normal(size=(WINDOWS, HIDDEN, LETTERS)) / np.sqrt(HIDDEN)
    return {"SA": net.edges["SA"].weight, "AB": net.edges["AB"].weight, "readout": jnp.asarray(readout, jnp.float32)}


def scores(net: bs.Network, p: dict, x: jax.Array, adjoint: bs.AbstractAdjoint) -> jax.Array:
    """Score of every letter for one recording (T, 12)."""
    given = {"S": delayed(x, LINES)}
    net = eqx.tree_at(lambda net: [net.edges[k].weight for k in ("SA", "AB")], net, [p["SA"], p["AB"]])
    sol = bs.simulate(
        net, t1=len(x) * DT, dt=DT, key=jax.random.key(0), inputs=given, saveat=[bs.Events("B")], adjoint=adjoint
    )
    counts = sol["B.events"].reshape(WINDOWS, -1, HIDDEN).mean(1)
    return jnp.einsum("wh,whk->k", counts, p["readout"])


def loss(p: dict, net: bs.Network, x: jax.Array, y: jax.Array, adjoint: bs.AbstractAdjoint) -> jax.Array:
    out = jax.vmap(lambda x: scores(net, p, x, adjoint))(x)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(out, y))


def rule(name: str, key: jax.Array) -> bs.AbstractAdjoint:
    """`BPTT`, `SLTT`, or `SLTT-k` with derivatives in k steps drawn from `key`."""
    if name == "BPTT":
        return bs.DirectAdjoint()
    return bs.SLTTAdjoint() if name == "SLTT" else bs.SLTTAdjoint(k=int(name.split("-")[1]), key=key)


def train(data, name: str, keep: float, seed: int, epochs: int) -> dict:
    """Train by one rule; the held-out recordings are read once, after the last epoch."""
    x, y, x_test, y_test = (jnp.asarray(a) for a in data)
    net = network(keep, seed)
    p = parameters(net, seed)
    batches = len(y) // BATCH
    optimiser = optax.adam(optax.cosine_decay_schedule(RATE, epochs * batches))
    state = optimiser.init(p)

    @jax.jit
    def update(p, state, chosen, key):
        roll, rule_key = jax.random.split(key)
        shifts = jax.random.randint(roll, (BATCH,), -6, 7)
        moved = jax.vmap(lambda a, k: jnp.roll(a, k, axis=0))(x[chosen], shifts)
        value, g = jax.value_and_grad(loss)(p, net, moved, y[chosen], rule(name, rule_key))
        change, state = optimiser.update(g, state, p)
        return optax.apply_updates(p, change), state, value

    rng, key, times = np.random.default_rng(seed), jax.random.key(seed), []
    for epoch in range(epochs):
        order = rng.permutation(len(y))[: batches * BATCH].reshape(batches, BATCH)
        for i, chosen in enumerate(order):
            began = time.process_time()
            p, state, value = update(p, state, chosen, jax.random.fold_in(key, epoch * batches + i))
            value.block_until_ready()
            times.append(time.process_time() - began)
    read = jax.jit(jax.vmap(lambda a: jnp.argmax(scores(net, p, a, bs.DirectAdjoint()))))
    return {
        "rule": name,
        "keep": keep,
        "seed": seed,
        "accuracy": float(jnp.mean(read(x_test) == y_test)),
        "train_accuracy": float(jnp.mean(read(x) == y)),
        "update_cpu_s": float(np.median(times[1:])),
        "loss": float(value),
    }


def memory(data, lengths: list[int]) -> list[dict]:
    """Temporaries of the compiled gradient of a batch, in bytes, for runs of different length."""
    net, rows = network(0.5, 0), []
    p = parameters(net, 0)
    for n in lengths:
        x = jnp.asarray(np.resize(data[0][:BATCH], (BATCH, n, SENSORS)))
        y = jnp.asarray(data[1][:BATCH])
        for name in ("BPTT", "SLTT"):
            f = jax.jit(lambda p, x, y, name=name: jax.grad(loss)(p, net, x, y, rule(name, jax.random.key(0))))
            used = f.lower(p, x, y).compile().memory_analysis().temp_size_in_bytes
            rows.append({"rule": name, "steps": n, "bytes": used})
    return rows


def cosines(data, keeps: list[float], seeds: int) -> list[dict]:
    """Cosine of the angle between the two gradients of the hidden weights, at the initial weights."""
    rows = []

    @eqx.filter_jit
    def both(net, p, x, y):
        g = [jax.grad(loss)(p, net, x, y, rule(name, jax.random.key(0))) for name in ("BPTT", "SLTT")]
        a, b = (jnp.concatenate([one["SA"].ravel(), one["AB"].ravel()]) for one in g)
        return jnp.dot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))

    for keep in keeps:
        for seed in range(seeds):
            net, chosen = network(keep, seed), np.random.default_rng(seed).permutation(len(data[1]))[:BATCH]
            x, y = jnp.asarray(data[0][chosen]), jnp.asarray(data[1][chosen])
            rows.append({"keep": keep, "seed": seed, "cosine": float(both(net, parameters(net, seed), x, y))})
    return rows


def mean_of(rows: list[dict], key: str, **where) -> float:
    return float(np.mean([r[key] for r in rows if all(r[k] == v for k, v in where.items())]))


def figure(results: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for name in ("BPTT", "SLTT"):
        rows = [r for r in results["memory"] if r["rule"] == name]
        left.loglog([r["steps"] for r in rows], [r["bytes"] / 1e6 for r in rows], "o-", label=name)
    left.set(xlabel="steps", ylabel="temporaries of a gradient (MB)")
    left.legend()
    keeps = sorted({r["keep"] for r in results["cosines"]})
    right.plot(keeps, [mean_of(results["cosines"], "cosine", keep=k) for k in keeps], "o-", color="k")
    right.set(xlabel="share of the potential kept in a step", ylabel="cosine of SLTT and BPTT", ylim=(0, 1.02))
    plt.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under two minutes, and no claim")
    parser.add_argument("--data", type=Path, default=BUNDLED, help="the Braille events (default: the bundled ones)")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results (JSON)")
    args = parser.parse_args()
    data, console = load(args.data), Console()
    if args.quick:
        data = tuple(a[:160] for a in data)
        data = (data[0][:, :32], data[1], data[2][:, :32], data[3])
    seeds, epochs = (1, 2) if args.quick else (3, 30)
    rules = ["BPTT", "SLTT"] if args.quick else ["BPTT", "SLTT", "SLTT-32"]
    runs = []
    for keep in [0.5] if args.quick else [0.5, 0.9]:
        for name in rules:
            for seed in range(seeds):
                runs.append(train(data, name, keep, seed, epochs))
                console.print(runs[-1])
    results = {
        "commit": commit(),
        "quick": args.quick,
        "seeds": list(range(seeds)),
        "epochs": epochs,
        "runs": runs,
        "memory": memory(data, [8, 32] if args.quick else [8, 32, 128, 512]),
        "cosines": cosines(data, [0.1, 0.9] if args.quick else [0.05, 0.09, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95], seeds),
    }
    table = Table("rule", "kept in a step", "held-out accuracy", "training", "CPU time of an update (ms)")
    for keep in sorted({r["keep"] for r in runs}):
        for name in rules:
            here = {"rule": name, "keep": keep}
            accuracies = [r["accuracy"] for r in runs if r["rule"] == name and r["keep"] == keep]
            table.add_row(
                name,
                f"{keep:g}",
                f"{np.mean(accuracies):.1%} ± {np.std(accuracies):.1%}",
                f"{mean_of(runs, 'train_accuracy', **here):.1%}",
                f"{1e3 * mean_of(runs, 'update_cpu_s', **here):.0f}",
            )
    console.print(table)
    out = args.out or (None if args.quick else HERE / "results.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    if not args.quick:
        figure(results, HERE / "figure.png")
