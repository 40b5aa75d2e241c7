"""The task, what is learnt of it, and how direction-selective the cells become."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import brainsim as bs
from brainsim import train

from . import stimuli
from .model import Lobe

FRAMES, SETTLE, BATCH = 30, 10, 16  # of a texture; those that are not judged; textures a step
RATE = 0.003  # of Adam
PARAMETERS = {
    "strength": train.Log(0.05, 50.0),
    "v_rest": (-3.0, 3.0),
    "tau": (20.0, 200.0),  # ms, a frame at least
    "readout": train.Identity(),
}
DIRECTIONS, EDGE_SPEEDS = 12, (6.0, 12.0, 24.0)  # columns a second
PUBLISHED = {"a": 180.0, "b": 0.0, "c": 90.0, "d": 270.0}  # preferred directions of T4 and T5 (degrees)


def activity(lobe: Lobe, key: Array, place: Array) -> tuple[Float[Array, " outputs"], Float[Array, "2"]]:
    """Of a random texture, by output type: how much more the cells send than in grey, on average over cells and frames;
    and the velocity in units of the fastest."""
    frames, velocity = stimuli.texture(key, place, FRAMES)
    v = lobe.run(frames, np.asarray(lobe.outputs))[stimuli.BEFORE - 1 :]
    sent = jnp.maximum(v, 0.0).reshape(v.shape[0], lobe.readout.shape[0], -1).mean(-1)
    return sent[SETTLE:].mean(0) - sent[0], velocity / stimuli.SPEEDS[1]


def error(lobe: Lobe, place: Array, keys: Array) -> Array:
    """Mean squared error of the velocity over that of the best constant: 1 says nothing, 0 is right."""

    def one(key):
        found, velocity = activity(lobe, key, place)
        return jnp.sum((found / lobe.scale @ lobe.readout - velocity) ** 2)

    slow, fast = stimuli.SPEEDS
    mean_square = (fast**3 - slow**3) / (3 * (fast - slow)) / fast**2
    return jnp.mean(jax.vmap(one)(keys)) / mean_square


def calibrated(lobe: Lobe, place: Array, key: Array, textures: int = 200) -> Lobe:
    """With activities by their spread, and the read-out that is best for them (ridge regression of the means)."""
    found, velocity = jax.lax.map(lambda k: activity(lobe, k, place), jax.random.split(key, textures))
    scale = jnp.std(found, 0) + 1e-6
    x = found / scale
    readout = jnp.linalg.solve(x.T @ x + 0.02 * textures * jnp.eye(x.shape[1]), x.T @ velocity)
    return eqx.tree_at(lambda lobe: (lobe.scale, lobe.readout), lobe, (scale, readout))


def learn(lobe: Lobe, place: Array, key: Array, steps: int, keep: Path | None = None) -> train.Fitted:
    """All parameters by gradient, new textures in every step; `keep`: a folder from which a stopped run goes on."""
    method = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(RATE, steps)))
    return train.fit(
        lobe,
        lambda lobe, keys: error(lobe, place, keys),
        PARAMETERS,
        method=method,
        steps=steps,
        batches=lambda k: jax.random.split(jax.random.fold_in(key, k), BATCH),
        checkpoint=keep,
        every=25,
        resume=keep is not None,
        progress=False,
    )


def shuffled(brain: bs.Connectome, key: int) -> bs.Connectome:
    """The same types, edges by pair of types, synapses and signs; which cell of a type an edge ends at is by chance."""
    pair = brain.pairs("type")[1]
    order = np.argsort(pair, kind="stable")
    mixed = np.lexsort((np.random.default_rng(key).random(pair.size), pair))
    post = np.empty_like(brain.post)
    post[order] = brain.post[mixed]
    edges = {"pre_row": brain.pre, "post_row": post, "count": brain.count, "sign": brain.sign}
    return bs.Connectome(brain.neurons, edges)


def tuning(lobe: Lobe, brain: bs.Connectome, radius: float = 1.5) -> dict[str, Any]:
    """Of T4 (bright edges) and T5 (dark ones): selectivity and preferred direction (degrees), and the responses.

    The response is the largest rise of v over its rest, averaged over the cells within `radius` of the middle, then
    over speeds; the index is `|sum r exp(i angle)| / sum r`.
    """
    place = columns(brain)
    chosen = {f"T{k}{s}": brain.cells(type=f"T{k}{s}") for k in (4, 5) for s in PUBLISHED}
    near = np.hypot(*np.asarray(place).T) < radius
    units = np.concatenate([rows[near] for rows in chosen.values()])
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    frames = round(2 * (np.abs(np.asarray(place)).max() + 4) / EDGE_SPEEDS[0] / 20e-3)

    grid = np.meshgrid(angles, EDGE_SPEEDS, [1.0, 0.0], indexing="ij")
    edges = tuple(jnp.asarray(x.ravel(), jnp.float32) for x in grid)
    found = np.asarray(_rises(lobe, edges, place, tuple(units.tolist()), frames, len(chosen)))
    found = found.reshape(*grid[0].shape, len(chosen)).mean(1)
    out = {}
    for k, name in enumerate(chosen):
        r = found[:, 0 if name.startswith("T4") else 1, k]
        mean = np.sum(r * np.exp(1j * angles))
        index = float(np.abs(mean) / max(r.sum(), 1e-12))
        out[name] = {"dsi": index, "preferred_deg": float(np.degrees(np.angle(mean)) % 360), "response": r.tolist()}
    return out


@eqx.filter_jit
def _rises(lobe: Lobe, edges: tuple, place: Array, units: tuple, frames: int, groups: int) -> Array:
    """The largest rise of v over its rest, averaged over each group of units, for every edge."""

    def one(given):
        v = lobe.run(stimuli.edge(*given, place, frames), np.asarray(units))[stimuli.BEFORE - 1 :]
        return jnp.maximum(jnp.max(v - v[0], 0), 0.0).reshape(groups, -1).mean(-1)

    return jax.lax.map(one, edges)


def columns(brain: bs.Connectome) -> Array:
    """Where the columns are (columns, 2)."""
    return jnp.asarray(brain.positions[brain.cells(type="R1"), :2], jnp.float32)
