"""`advance`: one step of one node, flow then jump. The seam behind which backends may differ."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..core import AbstractNode, Clock, name_hash
from ._noise import Increments, increments
from ._rules import SOLVERS
from ._substep import Substep

AnySolver = diffrax.AbstractSolver | Substep


def flow(
    node: AbstractNode, solver: AnySolver, y: Any, z: Any, inp: Array, clock: Clock
) -> tuple[Any, Bool[Array, ""]]:
    """`y` after `clock.dt` under the node's vector field (and noise), and whether the solver failed."""
    if isinstance(solver, Substep):
        part = clock.dt / solver.m

        def substep(y, i):
            return flow(node, solver.solver, y, z, inp, Clock(clock.n, part, jax.random.fold_in(clock.key, i)))

        y, failed = jax.lax.scan(substep, y, jnp.arange(solver.m))
        return y, jnp.any(failed)
    terms: Any = diffrax.ODETerm(lambda t, y, args: node.vector_field(y, z, inp))
    noisy = node.diffusion(y, z)
    if noisy is not None:
        # the jump has the same clock: its draws must be others
        key = jax.random.fold_in(clock.key, name_hash("flow"))
        dw = increments(y, noisy, clock.dt, key)
        terms = diffrax.MultiTerm(terms, Increments(lambda y: node.diffusion(y, z), dw))
    return SOLVERS[type(solver)].step(solver, terms, y, clock.dt, node.elementwise)


def advance(node: AbstractNode, solver: AnySolver, y: Any, z: Any, inp: Array, clock: Clock):
    """Flow over `clock.dt` with `inp` constant, then jump.

    **Returns:** `(y, z, events, failed)`; `failed` is True where the solver gave up.
    """
    failed = jnp.asarray(False)
    if jax.tree.leaves(y) and node.size:
        y, failed = flow(node, solver, y, z, inp, clock)
    y, z, events = node.jump(y, z, inp, clock)
    return y, z, events, failed
