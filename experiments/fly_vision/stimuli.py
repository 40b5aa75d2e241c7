"""What the eye sees: random textures and edges that move, as the luminance (0 to 1) of every column in every frame."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .model import DT, GREY

WAVES, LENGTHS, SPEEDS = 16, (4.0, 20.0), (4.0, 24.0)  # of a texture: gratings, columns, columns a second
BEFORE = 15  # grey frames, in which the cells come to rest


def texture(key: Array, place: Float[Array, "columns 2"], frames: int) -> tuple[Array, Array]:
    """Grey, then a random texture that moves with one velocity; the frames and the velocity (columns a second).

    A texture is a sum of gratings of random direction, phase and wave length, with amplitudes like natural images:
    proportional to the wave length.
    """
    keys = jax.random.split(key, 5)
    length = jnp.exp(jax.random.uniform(keys[0], (WAVES,), minval=jnp.log(LENGTHS[0]), maxval=jnp.log(LENGTHS[1])))
    angle = jax.random.uniform(keys[1], (WAVES,), maxval=2 * jnp.pi)
    phase = jax.random.uniform(keys[2], (WAVES,), maxval=2 * jnp.pi)
    speed = jax.random.uniform(keys[3], (), minval=SPEEDS[0], maxval=SPEEDS[1])
    heading = jax.random.uniform(keys[4], (), maxval=2 * jnp.pi)
    velocity = speed * jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    wave = (2 * jnp.pi / length)[None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    moved = velocity[:, None] * (jnp.arange(frames, dtype=float) * (DT * 1e-3))[None]
    phases = (place @ wave)[None] - (wave.T @ moved).T[:, None] + phase[None, None]
    contrast = jnp.cos(phases) @ length / jnp.sqrt(jnp.sum(length**2))
    return after_grey(jnp.clip(GREY + 0.25 * contrast, 0.0, 1.0)), velocity


def edge(angle: Array, speed: Array, bright: Array, place: Float[Array, "columns 2"], frames: int) -> Array:
    """Grey, then an edge that moves across the eye in a direction (radians): behind it 1 (`bright`) or 0.

    It is a column wide, and in the middle of the eye half-way through the frames.
    """
    ahead = place @ jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    at = speed * DT * 1e-3 * (jnp.arange(frames, dtype=float) - frames // 2)
    passed = jax.nn.sigmoid(4.0 * (at[:, None] - ahead[None]))
    return after_grey(GREY + (jnp.where(bright, 1.0, 0.0) - GREY) * passed)


def after_grey(moving: Float[Array, "frames columns"]) -> Array:
    """With the grey frames before it."""
    return jnp.concatenate([jnp.full((BEFORE, moving.shape[1]), GREY), moving])
