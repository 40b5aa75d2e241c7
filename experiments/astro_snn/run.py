"""Spiking units with an astrocyte each recall a cue after a delay, beside the same units without.

`python -m experiments.astro_snn [--quick] [--out PATH]`
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import brainsim as bs

from .._living import SEEDS, command, spread

HERE = Path(__file__).parent
DT, CUE, GO = 2.0, 30.0, 50.0  # ms: the step, how long a cue and the signal to go last
LINES, CELLS, BATCH = 10, 48, 32  # input lines of each of two cues and of the signal, units, trials of a step
DELAYS = (50.0, 300.0)
WAYS = {"astrocytes": 2.0, "frozen at 0": 0.0, "frozen at 1": None}
"""Gain of the modulation; None: calcium is ignored and the input doubled."""


def network(way: str, seed: int) -> bs.Network:
    rng, n, gain = np.random.default_rng(seed), 3 * LINES, WAYS[way]
    unit = bs.AMSU(tau_m=20.0, tau_g=20.0, tau_c=np.geomspace(100.0, 1000.0, CELLS), gain=0.0 if gain is None else gain)
    ports = {"syn": bs.ExpCurr(tau=10.0), "glu": bs.Delta("glu")}
    scale = 2.0 if gain is None else 1.0
    return bs.Network(
        {
            "X": bs.Source(bs.External(), n),
            "N": bs.Population(unit, CELLS, ports, surrogate=bs.Triangular(1.0), detach_reset=True),
        },
        {
            "in": bs.Projection("X", "N.syn", bs.Dense(n, CELLS), weight=scale * rng.normal(0.15, 0.3, (n, CELLS))),
            "glu": bs.Projection("X", "N.glu", bs.Dense(n, CELLS), weight=np.abs(rng.normal(0.0, 0.1, (n, CELLS)))),
            "back": bs.Projection("N", "N.syn", bs.Dense(CELLS, CELLS), weight=rng.normal(0, 0.05, (CELLS, CELLS))),
        },
    )


def trial(key: Any, cue: Any, delay: float) -> Any:
    """Events of the lines: the cue's at first, those of the signal to go after the delay, and 5 Hz of all always."""
    t = DT * jnp.arange(round((CUE + delay + GO) / DT))[:, None]
    group = jnp.repeat(jnp.arange(3), LINES)[None]
    on = ((t < CUE) & (group == cue)) | ((t >= CUE + delay) & (group == 2))
    rate = jnp.where(on, 150.0, 5.0)
    return (jax.random.uniform(key, rate.shape) < rate * DT * 1e-3).astype(jnp.float32)


def score(p: dict[str, Any], net: bs.Network, x: Any) -> Any:
    """Of the second cue, from the spikes after the signal to go."""
    net = bs.train.with_parameters(net, {k: jnp.abs(v) if k == "glu.weight" else v for k, v in p.items() if k != "out"})
    sol = bs.simulate(
        net, t1=len(x) * DT, dt=DT, key=jax.random.key(0), inputs={"X": x}, saveat=[bs.Events("N")], throw=False
    )
    return jnp.sum(sol["N.events"][-round(GO / DT) :], 0) @ p["out"][:-1] + p["out"][-1]


def one(way: str, delay: float, seed: int, steps: int) -> dict[str, Any]:
    net = network(way, seed)
    weights = {k: v for k, v in bs.train.parameters(net).items() if k.endswith(".weight")}
    p = weights | {"out": 0.1 * jax.random.normal(jax.random.key(seed), (CELLS + 1,))}
    method = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def batch(key, size):
        a, b = jax.random.split(key)
        cues = jax.random.bernoulli(a, 0.5, (size,)).astype(jnp.int32)
        return jax.vmap(partial(trial, delay=delay))(jax.random.split(b, size), cues), cues

    def loss(p, key):
        x, cues = batch(key, BATCH)
        s = jax.vmap(lambda x: score(p, net, x))(x)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(s, cues))

    def update(carry, k):
        p, state = carry
        value, g = jax.value_and_grad(loss)(p, jax.random.fold_in(jax.random.key(seed), k))
        change, state = method.update(g, state, p)
        return (optax.apply_updates(p, change), state), value

    (p, _), losses = jax.jit(lambda c: jax.lax.scan(update, c, jnp.arange(steps)))((p, method.init(p)))
    x, cues = batch(jax.random.key(1000 + seed), 512)
    right = jnp.mean((jax.vmap(lambda x: score(p, net, x))(x) > 0) == cues)
    state = bs.initial_state(net, dt=DT, key=jax.random.key(0))
    size = sum(x.nbytes for x in jax.tree.leaves((state.nodes, state.inbox)) if hasattr(x, "nbytes"))
    return {
        "way": way,
        "delay_ms": delay,
        "seed": seed,
        "accuracy": float(right),
        "loss": float(jnp.mean(losses[-10:])),
        "state_bytes": size,
    }


def work(quick: bool) -> dict[str, Any]:
    delays, steps, seeds = ((50.0,), 3, 1) if quick else (DELAYS, 100, SEEDS)
    ways = ("astrocytes", "frozen at 0") if quick else tuple(WAYS)
    runs = [one(way, delay, seed, steps) for way in ways for delay in delays for seed in range(seeds)]
    rows = [("delay (ms)", *ways)]
    for delay in delays:
        of = [[r["accuracy"] for r in runs if (r["way"], r["delay_ms"]) == (way, delay)] for way in ways]
        rows.append((f"{delay:g}", *map(spread, of)))
    return {"steps": steps, "runs": runs, "table": rows}


def figure(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(4.5, 3), layout="constrained")
    for way in WAYS:
        of = [[r["accuracy"] for r in results["runs"] if (r["way"], r["delay_ms"]) == (way, d)] for d in DELAYS]
        ax.plot(DELAYS, np.mean(of, 1), ".-", label=way)
        ax.fill_between(DELAYS, np.min(of, 1), np.max(of, 1), alpha=0.2)
    ax.axhline(0.5, color="grey", lw=0.8)
    ax.set(xlabel="delay (ms)", ylabel="right cue recalled", ylim=(0.45, 1.02))
    ax.legend()
    fig.savefig(path, dpi=90)


def main() -> None:
    command(HERE, __doc__ or "", work, figure)
