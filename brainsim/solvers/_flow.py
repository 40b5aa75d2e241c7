"""`advance`: one step of one node, flow then jump. The seam behind which backends may differ."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import AbstractNode, Clock


class _Increments(diffrax.AbstractTerm):
    """A diagonal diffusion driven by increments drawn beforehand; variables without noise have None."""

    diffusion: Any  # (y) -> PyTree like y, None where not noisy
    dw: Any

    def vf(self, t, y, args):
        return self.diffusion(y)

    def contr(self, t0, t1, **kwargs):
        return self.dw

    def prod(self, vf, control):
        return jax.tree.map(lambda g, w: g * w, vf, control)


def increments(like: Any, dt: Array, key: Array) -> Any:
    """Independent normal increments of variance `dt` in the shape of `like`."""
    leaves, tree = jax.tree.flatten(like)
    keys = [jax.random.fold_in(key, i) for i in range(len(leaves))]
    drawn = [jnp.sqrt(dt) * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def flow(node: AbstractNode, solver: diffrax.AbstractSolver, y: Any, z: Any, inp: Array, clock: Clock) -> tuple[Any, Array]:
    """`y` after `clock.dt` under the node's vector field (and noise), and whether the solver failed."""
    terms: Any = diffrax.ODETerm(lambda t, y, args: node.vector_field(y, z, inp))
    noisy = node.diffusion(y, z)
    if noisy is not None:
        dw = increments(noisy, clock.dt, clock.key)
        terms = diffrax.MultiTerm(terms, _Increments(lambda y: node.diffusion(y, z), dw))
    t0 = jnp.zeros_like(clock.dt)
    solver_state = solver.init(terms, t0, clock.dt, y, None)
    y, _, _, _, result = solver.step(terms, t0, clock.dt, y, None, solver_state, made_jump=True)
    return y, result != diffrax.RESULTS.successful


def advance(node: AbstractNode, solver: diffrax.AbstractSolver, y: Any, z: Any, inp: Array, clock: Clock):
    """Flow over `clock.dt` with `inp` constant, then jump.

    **Returns:** `(y, z, events, failed)`; `failed` is True where the solver gave up.
    """
    failed = jnp.asarray(False)
    if jax.tree.leaves(y):
        y, failed = flow(node, solver, y, z, inp, clock)
    y, z, events = node.jump(y, z, inp, clock)
    return y, z, events, failed
