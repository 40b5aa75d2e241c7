"""Planted delays, found again from spikes: a teacher and a student of one layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import brainsim as bs

DT = 1.0  # ms
LINE = 24.0
"""The longest delay (ms)."""
N_IN, N_OUT, STEPS, BATCH, RATE = 30, 10, 150, 8, 0.03
SMOOTHING = 3.0
"""Time constant of the filter through which spike trains are compared (ms)."""


class Found(NamedTuple):
    """The planted delays, those the student began with and those it ended with (ms), and how it went."""

    planted: Float[np.ndarray, "n_in n_out"]
    begun: Float[np.ndarray, "n_in n_out"]
    learnt: Float[np.ndarray, "n_in n_out"]
    loss: Float[np.ndarray, " updates"]
    net: bs.Network
    """The student after training, its delays still in parts."""


def network(weight: np.ndarray, delay: object) -> bs.Network:
    """Sources onto leaky neurons that forget within a few steps, a weight and a delay for every pair."""
    cell = bs.LIF(tau_m=5.0, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)
    cells = bs.Population(cell, N_OUT, {"in": bs.Delta()}, detach_reset=True, surrogate=bs.Triangular(1.0))
    edge = bs.Projection("S", "P", bs.DenseMatrix(), weight=weight, delay=delay, max_delay=LINE)
    return bs.Network({"S": bs.Source(bs.External(), N_IN), "P": cells}, {"SP": edge})


def spikes(net: bs.Network, x: Float[Array, "t n_in"]) -> Float[Array, "t n_out"]:
    run = {"t1": len(x) * DT, "dt": DT, "key": jax.random.key(0), "inputs": {"S": x}}
    return bs.simulate(net, **run, saveat=[bs.Events("P")], adjoint=bs.DirectAdjoint())["P.events"]


def patterns(key: jax.Array) -> Float[Array, "batch t n_in"]:
    """Random events on all sources."""
    return jax.random.bernoulli(key, RATE, (BATCH, STEPS, N_IN)).astype(jnp.float32)


def smoothed(x: Float[Array, "t n"]) -> Float[Array, "t n"]:
    kernel = jnp.exp(-jnp.arange(0.0, 4 * SMOOTHING, DT) / SMOOTHING)
    return jax.vmap(lambda x: jnp.convolve(x, kernel)[: len(x)], 1, 1)(x)


def width(updates: int, line: float = LINE, dt: float = DT) -> optax.Schedule:
    """Sigma (ms): from half the line down to a twentieth of a step, exponentially, over four fifths of the updates.

    At its end all shares of a kernel but one have underflowed: what is trained last is the network that will run.
    """
    narrow = dt / 20
    return optax.exponential_decay(line / 2, 1, (2 * narrow / line) ** (1 / (0.8 * updates)), end_value=narrow)


def identify(seed: int, updates: int) -> Found:
    """Teacher with random weights and delays; a student that knows the signs learns both from the teacher's spikes."""
    rng = np.random.default_rng(seed)
    shape = (N_IN, N_OUT)
    weight = rng.uniform(0.3, 0.7, shape) * rng.choice([1.0, 1.0, 1.0, -1.0], shape)
    planted, begun = rng.integers(0, int(LINE / DT) + 1, shape) * DT, rng.uniform(0.0, LINE, shape)
    teacher = network(weight, planted)
    student = network(0.5 * np.sign(weight), bs.GaussianDelay(begun, LINE / 2, reach=LINE))
    p = {name: bs.train.parameters(student)[name] for name in ("SP.weight", "SP.delay.d")}
    sigma = width(updates)
    rates = {
        "SP.weight": optax.cosine_decay_schedule(0.01, updates),
        "SP.delay.d": optax.cosine_decay_schedule(0.3, updates),
    }
    optimiser = optax.partition({k: optax.adam(rate) for k, rate in rates.items()}, {k: k for k in rates})

    def loss(p, x, sigma):
        net = bs.train.with_parameters(student, p | {"SP.delay.sigma": sigma})
        apart = jax.vmap(lambda x: smoothed(spikes(net, x) - spikes(teacher, x)))(x)
        return jnp.mean(apart**2)

    def update(carry, k):
        p, state = carry
        x = patterns(jax.random.fold_in(jax.random.key(seed), k))
        value, g = jax.value_and_grad(loss)(p, x, sigma(k))
        change, state = optimiser.update(g, state, p)
        p = optax.apply_updates(p, change)
        p["SP.delay.d"] = jnp.clip(p["SP.delay.d"], 0.0, LINE)
        return (p, state), value

    (p, _), losses = jax.jit(lambda p: jax.lax.scan(update, (p, optimiser.init(p)), jnp.arange(updates)))(p)
    net = bs.train.with_parameters(student, p | {"SP.delay.sigma": sigma(updates)})
    return Found(planted, begun, np.asarray(p["SP.delay.d"]), np.asarray(losses), net)


def summary(found: Found, seed: int) -> dict:
    """How many delays were found, and whether the event-driven network is the trained one."""
    off = np.abs(np.floor(found.learnt / DT + 0.5) - found.planted / DT)
    x = patterns(jax.random.key(1000 + seed))
    plain = bs.hardened(found.net, DT)
    apart = [spikes(found.net, one) != spikes(plain, one) for one in x]
    return {
        "seed": seed,
        "within_one_step": float(np.mean(off <= 1)),
        "exact": float(np.mean(off == 0)),
        "within_one_step_before": float(np.mean(np.abs(np.round(found.begun / DT) - found.planted / DT) <= 1)),
        "loss": [float(found.loss[0]), float(np.mean(found.loss[-20:]))],
        "events": int(sum(np.sum(spikes(plain, one)) for one in x)),
        "events_that_differ": int(np.sum(apart)),
    }
