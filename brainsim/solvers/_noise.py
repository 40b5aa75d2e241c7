"""Noise as increments that are drawn before the step and handed to the solver as arrays."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import Key
from ..core import name_hash
from ..events import normals, seed_of


class Increments(diffrax.AbstractTerm):
    """`g(y) dW` with `dW` drawn beforehand: one increment for every number of `y`, zero where there is no noise.

    diffrax's Brownian paths are hashed from (t0, t1), which are the same in every step here.
    """

    diffusion: Callable[[Any], Any]  # y -> PyTree like y, None where not noisy
    dw: Any

    def vf(self, t, y, args):
        return jax.tree.map(_full, y, self.diffusion(y))

    def contr(self, t0, t1, **kwargs):
        return self.dw

    def prod(self, vf, control):
        return jax.tree.map(lambda g, w: g * w, vf, control)


def _full(y: Array, g: Array | None) -> Array:
    # XLA folds what is multiplied or added with these constant zeros
    return jnp.zeros_like(y) if g is None else jnp.broadcast_to(g, y.shape)


def increments(y: Any, noisy: Any, dt: Array, key: Key) -> Any:
    """Independent normal increments of variance `dt` (ms) in the shape of `y`, zero where `noisy` is None.

    The numbers of a variable depend on its name, not on which other variables there are.
    """

    def draw(path, x, g):
        if g is None:
            return jnp.zeros_like(x)
        folded = jax.random.fold_in(key, name_hash("noise" + jax.tree_util.keystr(path)))
        return jnp.sqrt(dt) * normals(seed_of(folded), x.size, x.dtype).reshape(x.shape)

    return jax.tree_util.tree_map_with_path(draw, y, noisy)
