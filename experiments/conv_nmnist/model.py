"""Two convolutions of spiking neurons that read the digits of N-MNIST, and their training by surrogate gradients."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import brainsim as bs

SIDE, DIGITS = 34, 10
SPAN = 300_000
"""Microseconds of a recording that are read: three saccades."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """A network and how it is trained."""

    steps: int = 12
    windows: int = 3
    """Windows of time, one a saccade, in which the last layer is read out."""
    channels: tuple[int, int] = (16, 32)
    keep: float = 0.75
    """What a potential keeps in a step."""
    epochs: int = 30
    batch: int = 40
    rate: float = 3e-3
    decay: float = 1e-3
    drop: float = 0.3
    """Share of the last layer's outputs left out of a training sample."""
    shift: int = 2
    """Largest shift of a training sample (pixels)."""
    smoothing: float = 0.1
    quiet: float = 0.0
    """Price of the squared mean activity of a layer."""


def load(path: Path, c: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events (n, steps, 34 * 34 * 2), 1 where a pixel saw any of a polarity in a step; digits; whether held out."""
    with np.load(path) as z:
        z = dict(z)
    sample = np.repeat(np.arange(len(z["label"])), np.diff(z["offsets"]))
    inside = z["t"] < SPAN
    step = z["t"][inside].astype(np.int64) * c.steps // SPAN
    place = (z["y"][inside].astype(np.int64) * SIDE + z["x"][inside]) * 2 + z["polarity"][inside]
    frames = np.zeros((len(z["label"]), c.steps, SIDE * SIDE * 2), np.float32)
    frames[sample[inside], step, place] = 1.0
    return frames, z["label"].astype(np.int32), z["split"] == 1


def network(c: Settings, seed: int) -> bs.Network:
    """Pixels -> 17 x 17 x 16 -> 9 x 9 x 32 neurons, each convolution with stride 2, within a step."""
    rng = np.random.default_rng(seed)
    first = bs.Convolution((SIDE, SIDE, 2), c.channels[0], 5, stride=2, padding=2)
    second = bs.Convolution(first.out_shape, c.channels[1], 3, stride=2, padding=1)

    def neurons(n: int) -> bs.DiscreteNeurons:
        return bs.DiscreteNeurons(n, c.keep, v_th=1.0, surrogate=bs.Triangular(1.0))

    def edge(pre: str, post: str, connect: bs.Convolution, gain: float) -> bs.Projection:
        weight = rng.normal(size=connect.weight_shape) * gain / math.sqrt(math.prod(connect.weight_shape[:-1]))
        return bs.Projection(pre, post, connect, weight=weight, delay=bs.INSTANT)

    nodes: dict[str, Any] = {
        "pixels": bs.Source(bs.External(), first.n_pre),
        "a": neurons(first.n_post),
        "b": neurons(second.n_post),
    }
    edges = {"first": edge("pixels", "a", first, 1.5), "second": edge("a", "b", second, 1.5)}
    return bs.Network(nodes, edges)


def parameters(net: bs.Network, c: Settings, seed: int) -> dict[str, jax.Array]:
    """What is learnt: two kernels, and a readout of the counts of the last layer in every window."""
    n = net.nodes["b"].size * c.windows
    readout = np.random.default_rng(seed + 1000).normal(size=(n, DIGITS)) / math.sqrt(n)
    return {name: net.edges[name].weight for name in net.edges} | {"readout": jnp.asarray(readout, jnp.float32)}


def features(net: bs.Network, p: dict, x: jax.Array, c: Settings) -> tuple[jax.Array, jax.Array]:
    """Counts of the last layer by window, and the share of the neurons of each layer that spike in a step."""
    net = bs.train.with_parameters(net, {f"{name}.weight": p[name] for name in net.edges})
    sol = bs.simulate(
        net,
        t1=float(c.steps),
        dt=1.0,
        key=jax.random.key(0),
        inputs={"pixels": x},
        saveat=[bs.Events("a"), bs.Events("b")],
        adjoint=bs.DirectAdjoint(),
    )
    counts = sol["b.events"].reshape(c.windows, c.steps // c.windows, -1).sum(1)
    return counts.reshape(-1), jnp.stack([jnp.mean(sol["a.events"]), jnp.mean(sol["b.events"])])


def loss(p: dict, net: bs.Network, x: jax.Array, y: jax.Array, key: jax.Array, c: Settings) -> jax.Array:
    counts, active = jax.vmap(lambda x: features(net, p, x, c))(x)
    kept = jax.random.bernoulli(key, 1 - c.drop, counts.shape)
    out = jnp.where(kept, counts / (1 - c.drop), 0.0) @ p["readout"]
    wanted = optax.smooth_labels(jax.nn.one_hot(y, DIGITS), c.smoothing)
    return jnp.mean(optax.softmax_cross_entropy(out, wanted)) + c.quiet * jnp.mean(active**2)


def shifted(x: jax.Array, by: jax.Array) -> jax.Array:
    """A sample moved by some pixels; what leaves on one side comes in on the other, where hardly anything is."""
    return jnp.roll(x.reshape(-1, SIDE, SIDE, 2), by, (1, 2)).reshape(x.shape)


def optimiser(c: Settings, updates: int) -> optax.GradientTransformation:
    return optax.adamw(optax.cosine_decay_schedule(c.rate, updates), weight_decay=c.decay)


def update_of(net: bs.Network, c: Settings, updates: int) -> Any:
    """`update(p, state, x, y, key) -> (p, state, loss)`, compiled."""
    method = optimiser(c, updates)

    @jax.jit
    def update(p, state, x, y, key):
        one, other = jax.random.split(key)
        x = jax.vmap(shifted)(x, jax.random.randint(one, (x.shape[0], 2), -c.shift, c.shift + 1))
        value, slope = jax.value_and_grad(loss)(p, net, x, y, other, c)
        change, state = method.update(slope, state, p)
        return optax.apply_updates(p, change), state, value

    return update


def reader_of(net: bs.Network, c: Settings) -> Any:
    """`read(p, x) -> (digits, activity)`, compiled."""

    @jax.jit
    def read(p, x):
        counts, active = jax.vmap(lambda x: features(net, p, x, c))(x)
        return jnp.argmax(counts @ p["readout"], -1), jnp.mean(active, 0)

    return read
