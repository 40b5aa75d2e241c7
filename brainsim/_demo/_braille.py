"""A recurrent spiking network learns to read Braille: the whole of it, to be copied.

Twelve tactile sensors send their events over delay lines to recurrent LIF neurons, and these to one leaky integrator
per letter, whose mean potential over the 1.28 s is the score of that letter. Weights, membrane and synaptic time
constants are trained by gradient descent through the spikes (surrogate gradients), with AdamW.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import brainsim as bs

from ._data import BIN_MS, LETTERS, Letters, rebin


@dataclasses.dataclass(frozen=True)
class Settings:
    """What was chosen, on a split of the training set only."""

    neurons: int = 128
    steps: int = 128
    """Time steps per letter: two bins of 5 ms are merged into one of 10 ms."""
    delays: tuple[float, ...] = (0.0, 40.0, 80.0, 120.0, 160.0)
    """Delays of the lines by which each sensor reaches the neurons (ms)."""
    epochs: int = 70
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    smoothing: float = 0.1
    """Label smoothing."""
    drop: float = 0.2
    """Mean share of events left out of a training sample; the share of a sample is uniform up to twice the mean."""
    roll: int = 12
    """Largest shift in time of a training sample (steps)."""
    mute: float = 0.2
    """Share of the neurons whose output is left out of a training batch (dropout, Srivastava et al. 2014)."""
    seed: int = 0

    @property
    def dt(self) -> float:
        """The step (ms)."""
        return 256 * BIN_MS / self.steps


def network(c: Settings) -> bs.Network:
    """Sensors -> recurrent LIF neurons -> one leaky integrator per letter. Potentials are in units of the threshold."""
    rng = np.random.default_rng(c.seed)
    n, lines = c.neurons, 12 * len(c.delays)
    cells = bs.LIF(tau_m=10.0 ** rng.uniform(1.0, 2.0, n), e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)
    return bs.Network(
        nodes={
            "sensors": bs.Source(process=bs.External(), size=lines),
            "cells": bs.Population(
                cells, n, {"syn": bs.ExpCurr(tau=np.full(n, 15.0))}, surrogate=bs.Triangular(1.0), detach_reset=True
            ),
            "letters": bs.Population(bs.LeakyIntegrator(tau_m=20.0, r=12.0), LETTERS, {"syn": bs.ExpCurr(tau=10.0)}),
        },
        edges={
            "input": bs.Projection(
                "sensors", "cells", bs.Dense(lines, n), weight=rng.normal(size=(lines, n)) / math.sqrt(len(c.delays))
            ),
            "recurrent": bs.Projection(
                "cells", "cells", bs.Dense(n, n), weight=rng.normal(size=(n, n)) * 0.5 / math.sqrt(n)
            ),
            "output": bs.Projection(
                "cells", "letters", bs.Dense(n, LETTERS), weight=rng.normal(size=(n, LETTERS)) / math.sqrt(n)
            ),
        },
    )


def trainable(net: bs.Network) -> dict[str, Any]:
    """The parameters that are learned. Time constants are learned as logarithms, and stay positive."""
    edges: dict[str, Any] = net.edges
    weights = {name: edge.weight for name, edge in edges.items()}
    cells: Any = net.nodes["cells"]
    return {
        "weights": weights,
        "log_tau_m": jnp.log(cells.unit.tau_m),
        "log_tau_syn": jnp.log(cells.receptors["syn"].tau),
    }


def with_parameters(net: bs.Network, p: dict[str, Any]) -> bs.Network:
    """`net` with these parameters in their places."""

    def places(net):
        cells = net.nodes["cells"]
        return [*(net.edges[name].weight for name in p["weights"]), cells.unit.tau_m, cells.receptors["syn"].tau]

    return eqx.tree_at(places, net, [*p["weights"].values(), jnp.exp(p["log_tau_m"]), jnp.exp(p["log_tau_syn"])])


def delayed(x: jax.Array, late: Sequence[int]) -> jax.Array:
    """The events `x` (steps, 12) on all lines, those of each delay `late` steps later: (steps, 12 lines per delay).

    The same as one `Projection(..., delay=d)` per delay, but as the sensors only play what was recorded, delaying the
    recording once is cheaper than a ring of arrivals in every step.
    """
    return jnp.concatenate([jnp.pad(x, ((k, 0), (0, 0)))[: len(x)] for k in late], axis=1)


def simulate(net: bs.Network, x: jax.Array, c: Settings, saveat: tuple = ()) -> bs.Solution:
    """The network's answer to one sample `x` (steps, 12), with the potentials of the letters and what `saveat` asks."""
    return bs.simulate(
        net,
        t1=c.steps * c.dt,
        dt=c.dt,
        key=jax.random.key(0),  # nothing in this network is random
        inputs={"sensors": delayed(x, [round(d / c.dt) for d in c.delays])},
        saveat=[bs.Trace(target="letters.v"), *saveat],
        adjoint=bs.DirectAdjoint(),  # a short run: keep every step, recompute nothing
    )


def scores(net: bs.Network, x: jax.Array, c: Settings) -> tuple[jax.Array, jax.Array]:
    """Score of every letter for one sample `x` (steps, 12), and the mean firing rate of the cells (Hz)."""
    sol = simulate(net, x, c)
    return jnp.mean(sol["letters.v"], axis=0), sol.rates["cells"]


def augment(x: jax.Array, key: jax.Array, *, drop: float, roll: int) -> jax.Array:
    """One training sample with events left out at random, a share of up to twice `drop`, and shifted in time by up to
    `roll` steps."""
    share, dropped, shift = jax.random.split(key, 3)
    keep = 1.0 - 2.0 * drop * jax.random.uniform(share)
    kept = jnp.where(jax.random.bernoulli(dropped, keep, x.shape), x, 0.0)
    return jnp.roll(kept, jax.random.randint(shift, (), -roll, roll + 1), axis=0)


class Epoch(NamedTuple):
    """Means over one pass through the training set; accuracy is that on augmented samples."""

    number: int
    loss: float
    accuracy: float
    rate_hz: float
    seconds: float


class Trained(NamedTuple):
    """The trained network and how it came about."""

    net: bs.Network
    history: list[Epoch]
    seconds: float


def train(data: Letters, c: Settings, report: Callable[[Epoch], None] = lambda epoch: None) -> Trained:
    """Train a network on `data`; `report` is called after every epoch."""
    net = network(c)
    p = trainable(net)
    x, y = jnp.asarray(rebin(data.x, c.steps)), jnp.asarray(data.y)
    batches = len(y) // c.batch
    rate = optax.cosine_onecycle_schedule(c.epochs * batches, c.learning_rate, pct_start=0.15)
    decayed = {"weights": True, "log_tau_m": False, "log_tau_syn": False}
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=c.weight_decay, mask=decayed)
    )

    def loss(p, x, y, heard):
        weights = p["weights"] | {"output": p["weights"]["output"] * (heard[:, None] / (1.0 - c.mute))}
        present = with_parameters(net, p | {"weights": weights})
        out, firing = jax.vmap(lambda x: scores(present, x, c))(x)
        wanted = optax.smooth_labels(jax.nn.one_hot(y, LETTERS), c.smoothing)
        return jnp.mean(optax.softmax_cross_entropy(out, wanted)), (
            jnp.mean(jnp.argmax(out, -1) == y),
            jnp.mean(firing),
        )

    @jax.jit
    def update(p, state, chosen, key):
        mute, *keys = jax.random.split(key, len(chosen) + 1)
        samples = jax.vmap(lambda x, key: augment(x, key, drop=c.drop, roll=c.roll))(x[chosen], jnp.stack(keys))
        heard = jax.random.bernoulli(mute, 1.0 - c.mute, (c.neurons,)).astype(x.dtype)
        (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(p, samples, y[chosen], heard)
        change, state = optimiser.update(gradient, state, p)
        return optax.apply_updates(p, change), state, jnp.stack([value, *aux])

    state, history = optimiser.init(p), []
    start = time.perf_counter()
    for epoch in range(c.epochs):
        key = jax.random.fold_in(jax.random.key(c.seed), epoch)
        shuffle, *keys = jax.random.split(key, batches + 1)
        order = jax.random.permutation(shuffle, len(y))[: batches * c.batch].reshape(batches, c.batch)
        figures = []
        for chosen, key in zip(order, keys):
            p, state, figure = update(p, state, chosen, key)
            figures.append(figure)
        mean = np.mean(figures, axis=0)
        history.append(Epoch(epoch + 1, float(mean[0]), float(mean[1]), float(mean[2]), time.perf_counter() - start))
        report(history[-1])
    return Trained(with_parameters(net, p), history, time.perf_counter() - start)


class Read(NamedTuple):
    """What the network reads: `letter` (n,) and the mean firing rate of its cells (Hz)."""

    letter: np.ndarray
    rate_hz: float


def read(net: bs.Network, x: np.ndarray, c: Settings) -> Read:
    """Read the recordings `x` (n, 256, 12)."""
    out, rate = eqx.filter_jit(jax.vmap(lambda x: scores(net, x, c)))(jnp.asarray(rebin(x, c.steps)))
    return Read(np.asarray(jnp.argmax(out, -1)), float(jnp.mean(rate)))


def watch(net: bs.Network, x: np.ndarray, c: Settings) -> bs.Solution:
    """One recording `x` (256, 12) with the spikes of the cells."""
    return simulate(net, jnp.asarray(rebin(x[None], c.steps)[0]), c, (bs.Spikes("cells", max_rate=1000.0 / c.dt),))
