"""How one step of a diffrax solver is taken: functions `(solver, terms, y, dt, elementwise) -> (y, failed)`."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ._exponential_euler import own_derivatives

Stepped = tuple[Any, Bool[Array, ""]]


def whole_step(solver: Any, terms: Any, y: Any, dt: Array, elementwise: bool) -> Stepped:
    """`solver.step` in local time 0..dt, its state made anew, as after a jump."""
    t0 = jnp.zeros_like(dt)
    state = solver.init(terms, t0, dt, y, None)
    y, _, _, _, result = solver.step(terms, t0, dt, y, None, state, made_jump=True)
    return y, jnp.asarray(result != diffrax.RESULTS.successful)


def with_noise_step(solver: Any, terms: Any, y: Any, dt: Array, elementwise: bool) -> Stepped:
    """`whole_step` of a solver that needs a noise term; without noise such solvers are forward Euler."""
    return whole_step(solver if isinstance(terms, diffrax.MultiTerm) else diffrax.Euler(), terms, y, dt, elementwise)


def ito_milstein_step(solver: Any, terms: Any, y: Any, dt: Array, elementwise: bool) -> Stepped:
    """The Ito Milstein step for diagonal noise: the Stratonovich one less `dt g dg/dy / 2`.

    The same numbers as `diffrax.ItoMilstein`, which builds matrices of the size of the population squared.
    """
    after, failed = with_noise_step(diffrax.StratonovichMilstein(), terms, y, dt, elementwise)
    if isinstance(terms, diffrax.MultiTerm):
        parts = own_derivatives(lambda y: terms.terms[1].vf(jnp.zeros_like(dt), y, None), y)
        drop = jax.tree.unflatten(jax.tree.structure(y), [0.5 * dt * g * slope for g, slope in parts])
        after = jax.tree.map(lambda x, d: x - d, after, drop)
    return after, failed


def explicit_step(solver: Any, terms: Any, y: Any, dt: Array, elementwise: bool) -> Stepped:
    """An explicit Runge-Kutta step from the solver's own tableau, stage after stage.

    `solver.step` runs the stages in a loop that XLA cannot fuse (8 times slower for eight stages) and that cannot be
    differentiated both ways; the numbers are the same to rounding.
    """
    tableau = solver.tableau
    t0 = jnp.zeros_like(dt)
    control = terms.contr(t0, dt)
    stages: list[Any] = []
    for row in ((), *tableau.a_lower):
        stages.append(terms.vf_prod(t0, combine(y, row, stages), None, control))
    return combine(y, tableau.b_sol, stages), jnp.asarray(False)


def combine(y: Any, coefficients: Any, stages: list[Any]) -> Any:
    """`y + sum_j c_j k_j`, without the terms whose coefficient is zero."""
    for c, k in zip(coefficients, stages):
        if c != 0:
            y = jax.tree.map(lambda p, q, c=float(c): p + c * q, y, k)
    return y
