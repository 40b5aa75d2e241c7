"""A spiking network that reads a Braille letter, and its training by surrogate gradients."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import brainsim as bs
from brainsim._demo._braille import augment, delayed
from brainsim._demo._data import BIN_MS, LETTERS, Letters, rebin
from brainsim.base import float_dtype

SENSORS, BINS = 12, 256
DELAYS = (0.0, 40.0, 80.0, 120.0, 160.0)
"""Delays of the lines by which each sensor reaches the cells (ms)."""
WINDOWS = 8
GAIN = 4.0  # scores of the size that the readout by potentials has at the start


@dataclasses.dataclass(frozen=True)
class Settings:
    """A network and how it is trained. What they were chosen on is in README.md."""

    cells: int = 128
    adaptive: bool = False
    """Units with an adaptive threshold (`AdaptiveLIF`) instead of `LIF`."""
    recurrent: bool = True
    readout: str = "windows"
    """`windows`: a linear readout of the events of every cell in each of `WINDOWS` windows of time.
    `mean` or `max`: over time, of the potential of one leaky integrator per letter."""
    steps: int = 128
    """Time steps per letter: two bins of 5 ms are merged into one of 10 ms."""
    epochs: int = 60
    batch: int = 64
    rate: float = 4e-3
    decay: float = 1e-2
    """Weight decay."""
    smoothing: float = 0.1
    """Label smoothing."""
    drop: float = 0.2
    """Mean share of events left out of a training sample; the share of a sample is uniform up to twice the mean."""
    shift: float = 120.0
    """Largest shift in time of a training sample (ms)."""
    mute: float = 0.2
    """Share of the cells whose output is left out of a training batch (dropout, Srivastava et al. 2014)."""

    @property
    def dt(self) -> float:
        """The step (ms)."""
        return BINS * BIN_MS / self.steps


def network(c: Settings, seed: int) -> bs.Network:
    """Sensors -> cells, recurrent or not -> one leaky integrator per letter, unless the cells are read out directly.

    Potentials are in units of the threshold.
    """
    rng = np.random.default_rng(seed)
    n, lines = c.cells, SENSORS * len(DELAYS)
    tau_m = 10.0 ** rng.uniform(1.0, 2.0, n)
    if c.adaptive:
        unit = bs.AdaptiveLIF(tau_m=tau_m, tau_a=10.0 ** rng.uniform(1.5, 2.7, n), beta=np.full(n, 0.3))
    else:
        unit = bs.LIF(tau_m=tau_m, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)
    joined = {
        "input": ("sensors", "cells", (lines, n), 1.0 / math.sqrt(len(DELAYS))),
        "recurrent": ("cells", "cells", (n, n), 0.5 / math.sqrt(n)),
        "output": ("cells", "letters", (n, LETTERS), 1.0 / math.sqrt(n)),
    }
    edges = {
        name: bs.Projection(pre, post, bs.Dense(*shape), weight=rng.normal(size=shape) * gain)
        for name, (pre, post, shape, gain) in joined.items()
    }
    nodes = {
        "sensors": bs.Source(process=bs.External(), size=lines),
        "cells": bs.Population(
            unit, n, {"syn": bs.ExpCurr(tau=np.full(n, 15.0))}, surrogate=bs.Triangular(1.0), detach_reset=True
        ),
        "letters": bs.Population(bs.LeakyIntegrator(tau_m=20.0, r=12.0), LETTERS, {"syn": bs.ExpCurr(tau=10.0)}),
    }
    if not c.recurrent:
        del edges["recurrent"]
    if c.readout == "windows":
        del edges["output"], nodes["letters"]
    return bs.Network(nodes, edges)


def free(net: bs.Network, c: Settings, seed: int) -> dict[str, Array]:
    """What is learnt, by name: weights, and per cell the time constants, as logarithms so that they stay positive."""
    names = [f"{edge}.weight" for edge in net.edges] + ["cells.unit.tau_m", "cells.receptors.syn.tau"]
    names += ["cells.unit.tau_a", "cells.unit.beta"] if c.adaptive else []
    values = bs.train.parameters(net)
    p = {name: jnp.log(values[name]) if "tau" in name else values[name] for name in names}
    if c.readout == "windows":
        start = np.random.default_rng(seed + 1000).normal(size=(c.cells, WINDOWS * LETTERS)) / math.sqrt(c.cells)
        p["output.weight"] = jnp.asarray(start, float_dtype())
    return p


def scores(net: bs.Network, p: dict[str, Array], x: Float[Array, "steps sensor"], c: Settings) -> tuple[Array, Array]:
    """Score of every letter for one recording, and the mean rate of the cells (Hz)."""
    windows = c.readout == "windows"
    own = {name: v for name, v in p.items() if not (windows and name == "output.weight")}
    net = bs.train.with_parameters(net, {name: jnp.exp(v) if "tau" in name else v for name, v in own.items()})
    sol = bs.simulate(
        net,
        t1=c.steps * c.dt,
        dt=c.dt,
        key=jax.random.key(0),  # nothing in this network is random
        inputs={"sensors": delayed(x, [round(d / c.dt) for d in DELAYS])},
        saveat=[bs.Events("cells") if windows else bs.Trace("letters.v")],
        adjoint=bs.DirectAdjoint(),  # a short run: keep every step, compute none again
    )
    if windows:
        counts = sol["cells.events"].reshape(WINDOWS, -1, c.cells).mean(1)
        weights = p["output.weight"].reshape(c.cells, WINDOWS, LETTERS)
        return GAIN * jnp.einsum("wn,nwk->k", counts, weights), sol.rates["cells"]
    over_time = {"mean": jnp.mean, "max": jnp.max}[c.readout]
    return over_time(sol["letters.v"], axis=0), sol.rates["cells"]


@functools.cache
def compiled(c: Settings, batches: int):
    """Optimiser, update and reading, compiled once for all members and folds: `p` has all that differs between them."""
    net = network(c, 0)
    rate = optax.cosine_onecycle_schedule(c.epochs * batches, c.rate, pct_start=0.15)
    decayed = {name: name.endswith("weight") for name in free(net, c, 0)}
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=c.decay, mask=decayed))

    def loss(p, x, y, heard):
        p = p | {"output.weight": p["output.weight"] * (heard[:, None] / (1.0 - c.mute))}
        out, rates = jax.vmap(lambda x: scores(net, p, x, c))(x)
        wanted = optax.smooth_labels(jax.nn.one_hot(y, LETTERS), c.smoothing)
        return jnp.mean(optax.softmax_cross_entropy(out, wanted)), jnp.mean(rates)

    @jax.jit
    def update(p, state, x, y, key):
        mute, *keys = jax.random.split(key, len(y) + 1)
        x = jax.vmap(lambda x, key: augment(x, key, drop=c.drop, roll=round(c.shift / c.dt)))(x, jnp.stack(keys))
        heard = jax.random.bernoulli(mute, 1.0 - c.mute, (c.cells,)).astype(x.dtype)
        (value, rate), gradient = jax.value_and_grad(loss, has_aux=True)(p, x, y, heard)
        change, state = optimiser.update(gradient, state, p)
        return optax.apply_updates(p, change), state, value, rate

    return optimiser, update, jax.jit(jax.vmap(lambda p, x: scores(net, p, x, c)[0], (None, 0)))


def train(data: Letters, c: Settings, seed: int) -> dict[str, Any]:
    """The parameters of one network trained on `data`, with `read(x)`, its logits (n, letter) of recordings."""
    batches = len(data.y) // c.batch
    optimiser, update, out = compiled(c, batches)
    p = free(network(c, seed), c, seed)
    state, x = optimiser.init(p), rebin(data.x, c.steps)
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    for epoch in range(c.epochs):
        order = rng.permutation(len(x))[: batches * c.batch].reshape(batches, c.batch)
        for i, chosen in enumerate(order):
            step_key = jax.random.fold_in(key, epoch * batches + i)
            p, state, value, rate = update(p, state, x[chosen], data.y[chosen], step_key)

    def read(x: Float[np.ndarray, "n t sensor"]) -> Float[np.ndarray, "n letter"]:
        return np.asarray(out(p, rebin(x, c.steps)))

    return {"read": read, "loss": float(value), "rate_hz": float(rate)}


def probabilities(logits: list[Float[np.ndarray, "n letter"]]) -> Float[np.ndarray, "n letter"]:
    """Mean over networks of the probabilities they give to the letters."""
    return np.mean([jax.nn.softmax(x, axis=-1) for x in logits], axis=0)


def cross_entropy(p: Float[np.ndarray, "n letter"], y: Int[np.ndarray, " n"]) -> float:
    """Mean of -log of the probability given to the letter that it is."""
    return float(-np.mean(np.log(p[np.arange(len(y)), y])))
