"""Recordings classified by two layers of short-lived neurons: without delays, with random ones, with learnt ones."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
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
    """The same for all kinds; chosen on a fifth of the training recordings that was held out from training."""

    hidden: int = 64
    tau: float = 0.2
    """Time constant of the membranes (steps): they keep exp(-5), less than 1 %, from one step to the next."""
    line: int = 12
    """The longest delay (steps)."""
    gain: float = 3.0
    """Standard deviation of the summed weights of a unit (thresholds)."""
    epochs: int = 30
    batch: int = 64
    rate: float = 2e-2
    """Learning rate of weights (thresholds) and readout."""
    delay_rate: float = 0.05
    """Learning rate of delays (steps)."""
    mute: float = 0.1
    """Share of the units of each layer left out of a training batch (dropout)."""
    roll: int = 4
    """Largest shift in time of a training sample (steps)."""


class Trained(NamedTuple):
    """A trained network, its delays still in parts, and the readout of its events."""

    net: bs.Network
    readout: Float[Array, "hidden classes"]
    losses: list[float]
    """Mean of every epoch."""


def network(kind: str, n_in: int, dt: float, seed: int, c: Settings) -> bs.Network:
    """Two hidden layers without recurrence; the kinds differ in the delays of the edges alone."""
    rng = np.random.default_rng(seed)
    unit = bs.LIF(tau_m=c.tau * dt, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)

    def layer() -> bs.Population:
        return bs.Population(unit, c.hidden, {"in": bs.Delta()}, detach_reset=True, surrogate=bs.Triangular(1.0))

    def edge(pre: str, post: str, n_pre: int) -> bs.Projection:
        weight = rng.normal(size=(n_pre, c.hidden)) * c.gain / np.sqrt(n_pre)
        d = rng.uniform(0.0, c.line, weight.shape) * dt
        longest = c.line * dt
        delay = {
            "none": 0.0,
            "fixed": np.round(d / dt) * dt,
            "learnt": bs.GaussianDelay(d, longest / 2, reach=longest),
        }[kind]
        return bs.Projection(pre, post, bs.DenseMatrix(), weight=weight, delay=delay, max_delay=longest)

    nodes = {"S": bs.Source(bs.External(), n_in), "A": layer(), "B": layer()}
    return bs.Network(nodes, {"SA": edge("S", "A", n_in), "AB": edge("A", "B", c.hidden)})


def events(net: bs.Network, x: Float[Array, "t n_in"], dt: float) -> Float[Array, "t hidden"]:
    """Events of the second layer; silence at the end lets those under way arrive."""
    x = jnp.pad(x, ((0, round(sum(edge.max_delay for edge in net.edges.values()) / dt)), (0, 0)))
    run = {"t1": len(x) * dt, "dt": dt, "key": jax.random.key(0), "inputs": {"S": x}}
    return bs.simulate(net, **run, saveat=[bs.Events("B")], adjoint=bs.DirectAdjoint())["B.events"]


def train(kind: str, data: Recordings, seed: int, c: Settings) -> Trained:
    """Adam on the cross-entropy of scores that are linear in the number of events of every unit of the second layer."""
    net = network(kind, data.x.shape[2], data.dt, seed, c)
    names = [name for edge in net.edges for name in (f"{edge}.weight", f"{edge}.delay.d", f"{edge}.delay.sigma")]
    known = {name: x for name, x in bs.train.parameters(net).items() if name in names}
    p = {name: x for name, x in known.items() if not name.endswith("sigma")}
    readout = np.random.default_rng(1000 + seed).normal(size=(c.hidden, data.classes)) * 3.0 / np.sqrt(c.hidden)
    p["readout"] = jnp.asarray(readout, jnp.float32)

    x, y, per = jnp.asarray(data.x), jnp.asarray(data.y), len(data.y) // c.batch
    updates, longest = c.epochs * per, c.line * data.dt
    sigma = width(updates, longest, data.dt)
    rates = {"weight": c.rate, "readout": c.rate, "d": c.delay_rate * data.dt}
    optimiser = optax.partition(
        {
            last: optax.adam(optax.cosine_onecycle_schedule(updates, rate, pct_start=0.2))
            for last, rate in rates.items()
        },
        {name: name.rpartition(".")[2] for name in p},
    )

    def placed(p: dict, k: Array, heard: Float[Array, " hidden"]) -> bs.Network:
        values = {name: v for name, v in p.items() if name != "readout"}
        values |= {name: sigma(k) for name in known if name.endswith("sigma")}
        # in units of the threshold, which what arrives has to reach after a step of decay
        values |= {name: v * np.exp(1.0 / c.tau) for name, v in values.items() if name.endswith("weight")}
        values["AB.weight"] = values["AB.weight"] * heard[:, None]
        return bs.train.with_parameters(net, values)

    def loss(p, k, x, y, heard):
        here = placed(p, k, heard[0])
        share = jax.vmap(lambda x: jnp.mean(events(here, x, data.dt), axis=0))(x)
        scores = 10.0 * share @ (p["readout"] * heard[1][:, None])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))

    @jax.jit
    def update(p, state, k, chosen):
        mute, shift = jax.random.split(jax.random.fold_in(jax.random.key(seed), k))
        heard = jax.random.bernoulli(mute, 1.0 - c.mute, (2, c.hidden)).astype(jnp.float32) / (1.0 - c.mute)
        shifts = jax.random.randint(shift, (c.batch,), -c.roll, c.roll + 1)
        moved = jax.vmap(lambda x, k: jnp.roll(x, k, axis=0))(x[chosen], shifts)
        value, g = jax.value_and_grad(loss)(p, k, moved, y[chosen], heard)
        change, state = optimiser.update(g, state, p)
        p = optax.apply_updates(p, change)
        return p | {k: jnp.clip(d, 0.0, longest) for k, d in p.items() if k.endswith(".d")}, state, value

    state, rng, losses = optimiser.init(p), np.random.default_rng(seed), []
    for epoch in range(c.epochs):
        values = []
        for i, chosen in enumerate(rng.permutation(len(y))[: per * c.batch].reshape(per, c.batch)):
            p, state, value = update(p, state, jnp.asarray(epoch * per + i), chosen)
            values.append(value)
        losses.append(float(np.mean(values)))
    return Trained(placed(p, jnp.asarray(updates), jnp.ones(c.hidden)), p["readout"], losses)


@eqx.filter_jit
def _counts(net: bs.Network, x: Array, dt: float) -> Array:
    return jax.vmap(lambda x: jnp.sum(events(net, x, dt), axis=0))(x)


def read(
    net: bs.Network, readout: Float[Array, "hidden classes"], x: Float[np.ndarray, "n t n_in"], dt: float
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n hidden"]]:
    """The classes read, and how many events they were read from."""
    counts = np.asarray(_counts(net, jnp.asarray(x), dt))
    return np.argmax(counts @ np.asarray(readout), axis=1), counts
