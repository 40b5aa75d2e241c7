"""Training through the rounding: the float network learns while the image of it is what runs.

`python -m experiments.braille_bits.aware [--quick] [--data PATH] [--out PATH]` prints the table; the full run writes
`aware.json` beside this file.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import brainsim as bs
from brainsim.lower import Lowered, legalise, tuned

from .._provenance import commit
from .model import BUNDLED, DT, HERE, letters, network, recordings, run

BITS, EPOCHS, SEEDS, RATE = 3, 40, (0, 1, 2), {"aware": 2e-3, "float": 1e-3}
EVERY = 2
"""Epochs between two looks at the recordings learnt on: what reads most of them is kept."""
STUDENT = 4.303
"""Of 97.5 % with two degrees of freedom: three seeds."""

LEARNT = ("in.weight", "rec.weight", "out.weight", "H.i_e", "O.i_e")
BATCH, SHIFT, DROPPED = 64, 2, 0.02
"""Recordings of a batch; of each the largest shift in time (steps) and the share of events left out."""
SCALE = 0.2
"""Of a spike count of a letter, to make a score of it."""


def counts(net: bs.Network, x: jax.Array, dt: float) -> jax.Array:
    """Output spikes of every letter in the recordings (n, steps, 12), (n, 7)."""

    def one(x):
        how: dict[str, Any] = dict(solver=diffrax.Euler(), key=jax.random.key(0), adjoint=bs.DirectAdjoint())
        return bs.simulate(net, t1=len(x) * dt, dt=dt, inputs={"x": x}, saveat=[bs.Events("O")], **how)["O.events"].sum(
            0
        )

    return jax.vmap(one)(x)


def trained(
    net: bs.Network, data: tuple, seed: int, epochs: int, rate: float, image: Callable[[bs.Network], bs.Network] | None
) -> bs.Network:
    """`net` after training on the recordings that are not held out; `image`: what runs instead of it, if anything."""
    x, y, held = data
    learn_on, dt = np.flatnonzero(~held), DT if image is None else 1.0
    batches = len(learn_on) // BATCH
    known = bs.train.parameters(net)
    p = {name: known[name] for name in LEARNT}
    method = optax.adam(optax.cosine_decay_schedule(rate, epochs * batches))
    state = method.init(p)

    def loss(p, x, y):
        own = bs.train.with_parameters(net, p)
        scores = SCALE * counts(own if image is None else image(own), x, dt)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))

    @jax.jit
    def update(p, state, x, y, key):
        kept, moved = jax.random.split(key)
        x = x * jax.random.bernoulli(kept, 1 - DROPPED, x.shape)
        x = jax.vmap(lambda x, k: jnp.roll(x, k, 0))(x, jax.random.randint(moved, (len(x),), -SHIFT, SHIFT + 1))
        value, slope = jax.value_and_grad(loss)(p, x, y)
        change, state = method.update(slope, state, p)
        return optax.apply_updates(p, change), state, value

    @jax.jit
    def right(p, x, y):
        own = bs.train.with_parameters(net, p)
        return jnp.mean(jnp.argmax(counts(own if image is None else image(own), x, dt), 1) == y)

    seen = x[learn_on], y[learn_on]
    rng, key, best = np.random.default_rng(seed), jax.random.key(seed), (float(right(p, *seen)), p)
    for epoch in range(epochs):
        for k, some in enumerate(rng.permutation(learn_on)[: batches * BATCH].reshape(batches, -1)):
            p, state, _ = update(p, state, x[some], y[some], jax.random.fold_in(key, epoch * batches + k))
        if (epoch + 1) % EVERY == 0 and (found := float(right(p, *seen))) > best[0]:
            best = found, p
    return bs.train.with_parameters(net, best[1])


def read(net: bs.Network, data: tuple, dt: float) -> dict[str, float]:
    """Letters read rightly (%)."""
    x, y, held = data
    right = letters(net, x, dt) == y
    return {"learnt_on": 100 * float(right[~held].mean()), "held_out": 100 * float(right[held].mean())}


def row(net: bs.Network, data: tuple, seed: int, epochs: int, n_seen: int) -> dict[str, Any]:
    """One seed: rounded after training, trained through the rounding, and as long in float."""
    x, _, held = data
    some = x[np.random.default_rng(seed).permutation(np.flatnonzero(~held))[:n_seen]]
    seen = {k.partition(".")[0]: np.asarray(v) for k, v in run(net, jnp.asarray(some)).items()} | {"x": some}
    start: Lowered = tuned(net, seen, bits=BITS, bias_synapses=1, dt=DT, solver=diffrax.Euler())
    learnt = trained(net, data, seed, epochs, RATE["aware"], lambda own: start.refill(own).net)
    image = start.refill(learnt)
    longer = trained(net, data, seed, epochs, RATE["float"], None)
    return {
        "seed": seed,
        "post_training": read(start.image.net, data, 1.0),
        "aware": read(image.net, data, 1.0),
        "float_longer": read(longer, data, DT),
        "proved": bool(all(np.all(b.steady) for b in image.tables.bounds.values())),
        "cores": legalise(image.tables).n_cores,
    }


def paired(rows: list[dict], a: str, b: str) -> dict[str, float]:
    """Mean of a - b over the seeds, held out (points), and the half width of its 95 % interval."""
    d = np.asarray([r[a]["held_out"] - r[b]["held_out"] for r in rows])
    half = STUDENT * d.std(ddof=1) / np.sqrt(len(d)) if len(d) == 3 else float("nan")
    return {"mean": float(d.mean()), "half": float(half)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.braille_bits.aware", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, few recordings; no claim")
    parser.add_argument("--data", type=Path, default=BUNDLED, help="the Braille recordings (.npz)")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results")
    args = parser.parse_args()
    console, began, data, net = Console(), time.perf_counter(), recordings(args.data), network()
    if args.quick:
        keep = np.random.default_rng(0).permutation(len(data[1]))[:200]
        data = (data[0][keep], data[1][keep], data[2][keep])
    rows = []
    for seed in SEEDS[:1] if args.quick else SEEDS:
        rows.append(row(net, data, seed, 1 if args.quick else EPOCHS, 40 if args.quick else 600))
        console.print(f"{time.perf_counter() - began:5.0f} s  {rows[-1]}", highlight=False)
    results: dict[str, Any] = {"quick": args.quick, "commit": commit(), "bits": BITS, "epochs": EPOCHS, "seeds": rows}
    results["float"] = read(net, data, DT)
    if not args.quick:
        results["gain"] = paired(rows, "aware", "post_training")
        results["below_float"] = paired(rows, "float_longer", "aware")
        console.print(results["gain"], results["below_float"])
    out = args.out or (None if args.quick else HERE / "aware.json")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
