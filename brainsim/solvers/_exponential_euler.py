"""The exponential Euler method as a diffrax solver."""

from collections.abc import Callable
from typing import ClassVar

import diffrax
import jax
import jax.numpy as jnp
from diffrax import RESULTS


def phi1(x: jax.Array) -> jax.Array:
    """`(exp(x) - 1) / x`, 1 at x = 0, differentiable there."""
    small = jnp.abs(x) < 1e-5
    safe = jnp.where(small, jnp.ones_like(x), x)
    return jnp.where(small, 1.0 + 0.5 * x, jnp.expm1(safe) / safe)


class ExponentialEuler(diffrax.AbstractItoSolver):
    """`y <- y + dt phi1(a dt) f(y)` with `a` the derivative of each variable's own field; noise is added Euler-Maruyama.

    Exact for `y' = a y + b` with constant a and b; order 1 otherwise, and stable for stiff decay. The field must be
    elementwise: a variable's field may depend on the other variables of the same unit, not on other units. Same as NEURON's
    `cnexp` and Brian2's `exponential_euler`. Source: Hochbruck & Ostermann 2010, eq. 1.5 with a diagonal Jacobian.
    """

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable] = diffrax.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del solver_state, made_jump
        drift, noise = terms.terms if isinstance(terms, diffrax.MultiTerm) else (terms, None)
        dt = t1 - t0
        leaves, tree = jax.tree.flatten(y0)
        field = jax.tree.leaves(drift.vf(t0, y0, args))
        new = []
        for k, (y, f) in enumerate(zip(leaves, field, strict=True)):

            def own(x, k=k):
                y_k = jax.tree.unflatten(tree, [*leaves[:k], x, *leaves[k + 1 :]])
                return jax.tree.leaves(drift.vf(t0, y_k, args))[k]

            _, a = jax.jvp(own, (y,), (jnp.ones_like(y),))
            new.append(y + dt * phi1(a * dt) * f)
        y1 = jax.tree.unflatten(tree, new)
        if noise is not None:
            y1 = jax.tree.map(lambda a, b: a + b, y1, noise.vf_prod(t0, y0, args, noise.contr(t0, t1)))
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)
