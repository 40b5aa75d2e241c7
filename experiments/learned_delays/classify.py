"""Recordings classified by two layers of short-lived neurons: without delays, with random ones, with learnt ones."""

import dataclasses
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import brainsim as bs

from .data import Recordings
from .identify import width

KINDS = ("none", "fixed", "learnt")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What was chosen, on a part of the training recordings held out from training."""

    hidden: int = 64
    tau: float = 0.5
    """Time constant of the membranes (steps)."""
    line: int = 15
    """The longest delay (steps)."""
    gain: float = 1.5
    """Standard deviation of a unit's summed weights."""
    epochs: int = 40
    batch: int = 64
    rate: float = 3e-3
    """Learning rate of weights, by which they change in units of the threshold."""
    delay_rate: float = 0.1
    """Learning rate of delays (steps)."""
    mute: float = 0.2
    """Share of the units of each layer whose events the next does not see in a batch (dropout)."""
    roll: int = 4
    """Largest shift in time of a training sample (steps)."""


class Run(NamedTuple):
    net: bs.Network
    readout: Float[Array, "hidden classes"]
    losses: list[float]
    cpu_s: float


def network(kind: str, n_in: int, dt: float, seed: int, c: Settings) -> bs.Network:
    """Two hidden layers without recurrence; the three kinds differ in the delays of the edges alone."""
    rng = np.random.default_rng(seed)
    unit = bs.LIF(tau_m=c.tau * dt, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)

    def layer() -> bs.Population:
        return bs.Population(unit, c.hidden, {"in": bs.Delta()}, detach_reset=True, surrogate=bs.Triangular(1.0))

    def edge(pre: str, post: str, n_pre: int) -> bs.Projection:
        weight = rng.normal(size=(n_pre, c.hidden)) * c.gain / np.sqrt(n_pre)
        d = rng.uniform(0.0, c.line, weight.shape) * dt
        if kind == "none":
            return bs.Projection(pre, post, bs.DenseMatrix(), weight=weight)
        delay = bs.GaussianDelay(d, 0.5 * c.line * dt, reach=c.line * dt) if kind == "learnt" else np.round(d / dt) * dt
        return bs.Projection(pre, post, bs.DenseMatrix(), weight=weight, delay=delay, max_delay=c.line * dt)

    nodes = {"S": bs.Source(bs.External(), n_in), "A": layer(), "B": layer()}
    return bs.Network(nodes, {"SA": edge("S", "A", n_in), "AB": edge("A", "B", c.hidden)})


def events(net: bs.Network, x: Float[Array, "t n_in"], dt: float) -> Float[Array, "t hidden"]:
    """Events of the second layer; a silent tail lets those under way arrive."""
    run = {"t1": len(x) * dt, "dt": dt, "key": jax.random.key(0), "inputs": {"S": x}}
    return bs.simulate(net, **run, saveat=[bs.Events("B")], adjoint=bs.DirectAdjoint())["B.events"]


def train(kind: str, data: Recordings, seed: int, c: Settings, report=lambda epoch, loss: None) -> Run:
    began = time.process_time()
    dt, keep = data.dt, float(np.exp(-1.0 / c.tau))
    net = network(kind, data.x.shape[2], dt, seed, c)
    known = bs.train.parameters(net)
    p = {name: known[name] for name in known if name.endswith((".weight", ".delay.d"))}
    if kind == "fixed":
        p = {name: x for name, x in p.items() if name.endswith(".weight")}
    p["readout"] = jnp.asarray(np.random.default_rng(1000 + seed).normal(size=(c.hidden, data.classes)) * 3.0 / np.sqrt(c.hidden), jnp.float32)
    per = len(data.y) // c.batch
    updates = c.epochs * per
    rates = {"weight": c.rate, "readout": c.rate, "d": c.delay_rate * dt}
    optimiser = optax.partition(
        {k: optax.adam(optax.cosine_onecycle_schedule(updates, r, pct_start=0.2)) for k, r in rates.items()},
        {name: name.rpartition(".")[2] for name in p},
    )
    sigma, x, y = width(updates, c.line * dt, dt), jnp.asarray(data.x), jnp.asarray(data.y)
    wide = {name: None for name in known if name.endswith(".sigma")}

    def placed(p, k, heard=1.0):
        values = {name: v for name, v in p.items() if name != "readout"} | {name: sigma(k) for name in wide}
        # a weight of 1 takes a membrane at rest to its threshold, though it decays within the step
        values |= {name: v / keep for name, v in values.items() if name.endswith(".weight")}
        values["AB.weight"] = values["AB.weight"] * heard
        return bs.train.with_parameters(net, values)

    def loss(p, k, x, y, heard):
        trains = jax.vmap(lambda x: events(placed(p, k, heard[0][:, None]), x, dt))(x)
        scores = jnp.mean(trains, axis=1) @ (p["readout"] * heard[1][:, None]) * 10.0
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y)), jnp.mean(trains)

    @jax.jit
    def update(p, state, k, chosen):
        muted, shift = jax.random.split(jax.random.fold_in(jax.random.key(seed), k))
        heard = jax.random.bernoulli(muted, 1.0 - c.mute, (2, c.hidden)).astype(jnp.float32) / (1.0 - c.mute)
        shifts = jax.random.randint(shift, (c.batch,), -c.roll, c.roll + 1)
        moved = jax.vmap(lambda a, k: jnp.roll(a, k, axis=0))(x[chosen], shifts)
        (value, rate), g = jax.value_and_grad(loss, has_aux=True)(p, k, moved, y[chosen], heard)
        change, state = optimiser.update(g, state, p)
        p = optax.apply_updates(p, change)
        p |= {name: jnp.clip(d, 0.0, c.line * dt) for name, d in p.items() if name.endswith(".d")}
        return p, state, value, rate

    state, rng, losses = optimiser.init(p), np.random.default_rng(seed), []
    for epoch in range(c.epochs):
        order = rng.permutation(len(y))[: per * c.batch].reshape(per, c.batch)
        values = []
        for i, chosen in enumerate(order):
            p, state, value, rate = update(p, state, jnp.asarray(epoch * per + i), chosen)
            values.append(value)
        losses.append(float(np.mean(values)))
        report(epoch, losses[-1], float(rate), lambda: (placed(p, epoch*per+per), p["readout"]))
    return Run(placed(p, updates), p["readout"], losses, time.process_time() - began)


def read(net: bs.Network, readout, x: np.ndarray, dt: float):
    """Classes read, and the number of events of every unit in every recording."""
    counts = jax.jit(jax.vmap(lambda x: jnp.sum(events(net, x, dt), axis=0)))(jnp.asarray(x))
    return np.asarray(jnp.argmax(counts @ readout, axis=1)), np.asarray(counts)
