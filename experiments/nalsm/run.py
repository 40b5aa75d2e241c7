"""A liquid of spiking cells whose plasticity one astrocyte steers, beside plain STDP and no plasticity.

`python -m experiments.nalsm --data mnist.npz [--quick] [--out PATH]`
"""

from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

from .._living import SEEDS, command, spread

HERE = Path(__file__).parent
SIDE, INPUTS, LAMBDA = 7, 196, 3.0  # of the cube of cells; pixels; of the probability of a synapse
C = {"EE": 0.2, "EI": 0.1, "IE": 0.3, "II": 0.05}
UP, W_MAX, DECAY_MS, W_ASTRO = 0.15, 3.0, 10.0, 0.015
WAYS = ("no plasticity", "STDP", "astrocyte")
SCALES = (0.5, 1.0)  # of the weights at the start


class Liquid(bs.AbstractPlasticity):
    """Pairs, traces that jump by 0.1; depression is what the modulator says, and inhibition has the signs turned."""

    w_min: float = -W_MAX
    w_max: float = W_MAX
    excites: bool = eqx.field(static=True, default=True)

    def traces(self):
        return {"x": bs.SpikeTrace("pre", DECAY_MS), "y": bs.SpikeTrace("post", DECAY_MS)}

    def on_pre(self, syn, pre, post, mod):
        return {"w": syn.w + 0.1 * post.y * (-mod if self.excites else UP)}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + 0.1 * pre.x * (UP if self.excites else -mod)}


def wiring(rng: np.random.Generator) -> tuple[dict[str, tuple], np.ndarray]:
    """`(pre, post)` of excitatory and inhibitory synapses and of the input; and who excites."""
    n = SIDE**3
    excites = rng.random(n) < 0.8
    at = np.stack(np.unravel_index(np.arange(n), (SIDE,) * 3), 1)
    far = ((at[:, None] - at[None]) ** 2).sum(-1)
    kinds = np.where(excites, "E", "I")
    p = np.vectorize(C.get)(np.char.add(kinds[:, None], kinds[None])) * np.exp(-far / LAMBDA**2)
    p[np.arange(n), np.arange(n)] = 0.0
    found = rng.random((n, n)) < p
    pairs = {k: np.nonzero(found & (excites == (k == "E"))[:, None]) for k in "EI"}
    return pairs | {"in": np.nonzero(rng.random((INPUTS, n)) < 0.15)}, excites


def network(way: str, scale: float, seed: int, w_astro: float = W_ASTRO) -> bs.Network:
    """Input, liquid, astrocyte; without an astrocyte its amplitude is that of potentiation."""
    rng = np.random.default_rng(seed)
    pairs, _ = wiring(rng)
    n, start = SIDE**3, np.minimum(W_MAX * scale, W_MAX)
    cell = bs.LIF(tau_m=64.0, e_l=0.0, v_th=20.0, v_reset=0.0, t_ref=2.0, g_l=1.0)
    bias = 0.15 if way == "astrocyte" else UP
    nodes = {
        "X": bs.Source(bs.Poisson(0.0), INPUTS),
        "L": bs.Population(cell, n, {"in": bs.Delta()}),
        "G": bs.Population(bs.GlobalAstrocyte(bias=bias), 1, {"in": bs.Delta("a")}),
    }
    gain = w_astro / 100.0 if way == "astrocyte" else 0.0
    signs = {"E": 1.0, "I": -1.0, "in": rng.choice([-1.0, 1.0], pairs["in"][0].size)}
    low = {"E": 0.0, "I": -W_MAX, "in": -W_MAX}
    high = {"E": W_MAX, "I": 0.0, "in": W_MAX}
    edges: dict[str, Any] = {
        "LG": bs.Projection("L", "G.in", bs.AllToAll(), weight=gain),
        "XG": bs.Projection("X", "G.in", bs.AllToAll(), weight=-gain),
    }
    for k in ("E", "I", "in"):
        rule = Liquid(w_min=low[k], w_max=high[k], excites=k != "I")
        weight = np.broadcast_to(signs[k] * start * (scale if scale < 1 else 1.0), pairs[k][0].shape)
        edges[f"S_{k}"] = bs.PlasticProjection(
            "X" if k == "in" else "L",
            "L.in",
            bs.FromCOO(*pairs[k]),
            weight=weight,
            rule=rule,
            modulator="G.a",
            frozen=way == "no plasticity",
        )
    return bs.Network(nodes, edges, key=jax.random.key(seed))


@eqx.filter_jit
def shown(net: bs.Network, state: bs.State, images: Any, ms: float, carry: bool) -> tuple[bs.State, Any, Any]:
    """Spikes of each cell to each image; `carry`: what one image leaves behind is there for the next."""

    def one(now, image):
        begin = now if carry else state
        sol = bs.simulate(
            net,
            t0=0.0,
            t1=ms,
            dt=1.0,
            state=begin,
            inputs={"X": image * 1e3},
            throw=False,
            saveat=[bs.Events("L"), bs.Events("X")],
        )
        own, given = sol["L.events"], sol["X.events"]
        return sol.state, (jnp.sum(own, 0), jnp.sum(own, 1), jnp.sum(given, 1))

    state, out = jax.lax.scan(one, state, images)
    return state, out[0], out[1:]


def branching(own: np.ndarray) -> float:
    """Spikes of the liquid in a bin of 4 ms over those in the bin before, averaged over bins that follow a spike."""
    bins = own.reshape(len(own), -1)[:, : own.shape[1] // 4 * 4].reshape(len(own), -1, 4).sum(2)
    before, after = bins[:, :-1].ravel(), bins[:, 1:].ravel()
    return float(np.mean(after[before > 0] / before[before > 0])) if np.any(before > 0) else 0.0


def right(train: np.ndarray, y: np.ndarray, test: np.ndarray, yt: np.ndarray) -> float:
    """Of a ridge readout of spike counts."""
    scale = max(train.max(), 1.0)
    a, b = (np.c_[x / scale, np.ones(len(x))] for x in (train, test))
    w = np.linalg.solve(a.T @ a + 1.0 * np.eye(a.shape[1]), a.T @ np.eye(10)[y])
    return float(np.mean((b @ w).argmax(1) == yt))


def case(way: str, scale: float, seed: int, data: tuple, sizes: tuple, w_astro: float = W_ASTRO) -> dict[str, Any]:
    x, y, xt, yt = data
    snapshots, ms = sizes
    net = network(way, scale, seed, w_astro)
    state = bs.initial_state(net, dt=1.0, key=jax.random.key(seed))
    order = np.random.default_rng(seed).integers(0, len(x), snapshots)
    learnt = shown(net, state, x[order], 20.0, True)[0]
    edges = {
        k: {**state.edges[k], "w": learnt.edges[k]["w"]} if k.startswith("S_") else z for k, z in state.edges.items()
    }
    begin = eqx.tree_at(lambda s: s.edges, state, edges)
    still = eqx.tree_at(lambda n: [n.edges[f"S_{k}"].frozen for k in ("E", "I", "in")], net, [jnp.array(True)] * 3)
    _, counts, (own, _) = shown(still, begin, x, ms, False)
    _, tested, _ = shown(still, begin, xt, ms, False)
    counts, tested, own = map(np.asarray, (counts, tested, own))
    return {
        "way": way,
        "scale": scale,
        "seed": seed,
        "w_astro": w_astro,
        "branching": branching(own),
        "accuracy": right(counts, y, tested, yt),
        "rate_hz": float(counts.mean() / ms * 1e3),
        "mean_weight": float(np.mean(np.asarray(learnt.edges["S_E"]["w"]))),
    }


def work(quick: bool, data: Path) -> dict[str, Any]:
    n, nt, sizes, seeds = (60, 30, (50, 20.0), 1) if quick else (800, 300, (2500, 80.0), SEEDS)
    with np.load(data) as z:
        arrays = [z[k][:m] for k, m in (("x_train", n), ("y_train", n), ("x_test", nt), ("y_test", nt))]
    pooled = [a.reshape(len(a), 14, 2, 14, 2).mean((2, 4)).reshape(len(a), -1) / 255.0 for a in arrays[::2]]
    given = (pooled[0].astype(np.float32), arrays[1].astype(int), pooled[1].astype(np.float32), arrays[3].astype(int))
    run = partial(case, data=given, sizes=sizes)
    runs = [run(way, scale, seed) for scale in ((1.0,) if quick else SCALES) for way in WAYS for seed in range(seeds)]
    sweep = [run("astrocyte", 1.0, seed, w_astro=w) for w in ((0.005,) if quick else (0.05,)) for seed in range(seeds)]
    pixels = right(given[0], given[1], given[2], given[3])
    rows: list[tuple] = [("scale at the start", "way", "branching", "accuracy", "rate (Hz)")]
    for r in [x for x in runs if x["seed"] == 0]:
        of = [x for x in runs if (x["way"], x["scale"]) == (r["way"], r["scale"])]
        rows.append((r["scale"], r["way"], *(spread(x[k] for x in of) for k in ("branching", "accuracy", "rate_hz"))))
    for r in [x for x in sweep if x["seed"] == 0]:
        of = [x for x in sweep if x["w_astro"] == r["w_astro"]]
        columns = (spread(x[k] for x in of) for k in ("branching", "accuracy", "rate_hz"))
        rows.append((1.0, f"astrocyte, w = {r['w_astro']}", *columns))
    return {"cells": SIDE**3, "train": n, "test": nt, "pixels": pixels, "runs": runs, "sweep": sweep, "table": rows}


def figure(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for ax, key in zip(axes, ("branching", "accuracy")):
        for way in WAYS:
            mean = [np.mean([r[key] for r in results["runs"] if (r["way"], r["scale"]) == (way, s)]) for s in SCALES]
            ax.plot(SCALES, mean, ".-", label=way)
        ax.set(xlabel="scale of weights at the start", ylabel=key)
    axes[0].axhspan(0.8, 1.2, color="grey", alpha=0.2)
    axes[1].axhline(results["pixels"], color="k", lw=0.8, label="pixels, no liquid")
    axes[1].legend(fontsize=7)
    fig.savefig(path, dpi=90)


def main() -> None:
    command(HERE, __doc__ or "", work, figure, data=True)
