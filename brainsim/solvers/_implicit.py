"""Diagonally implicit Runge-Kutta steps, with Newton's method on all units at once."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ._schemes import Stepped

_UNROLLED = 8
"""Variables of a unit up to which its linear system is eliminated in the open, elementwise over the units."""

_TRIALS = 4
"""Trials of an update for each step that `root_find_max_steps` allows: some are taken back."""

_RESTART = 8
"""Vectors that GMRES builds before it looks at the residual."""

_DENSE = 256
"""Unknowns of units that flow together up to which their Jacobian is a matrix, unless the solver says otherwise."""

Linear = Callable[[Any], Any]


def implicit_step(solver: Any, terms: Any, y: Any, dt: Array, elementwise: bool) -> Stepped:
    """A step of a (singly) diagonally implicit solver; `failed` where Newton's method did not converge.

    A stage solves `z = h f(base + z)`, h = dt times its diagonal entry, by Newton's method. It has converged when the
    last update is below `atol + rtol |y|`. Where the solver's root finder names no tolerances, both are the square root
    of the machine epsilon (3e-4 in float32, 1.5e-8 in float64): the error left after an update is about its square.
    `root_find_max_steps` bounds the iterations, four trials each. With elementwise units the Jacobian has one small
    block per unit, found with one tangent per variable; `solver.step` would build it for the whole population. Of units
    that flow together it is a matrix up to 256 unknowns; beyond, its products with vectors are enough (GMRES), and an
    iterative solver of `lineax` in the root finder (`diffrax.VeryChord(..., linear_solver=lx.BiCGStab(...))`) is taken
    as it is given. Derivatives are those of the implicit function.
    """
    t0 = jnp.zeros_like(dt)
    rtol, atol = _tolerances(solver, dt.dtype)
    trials = _TRIALS * solver.root_find_max_steps
    how = None if elementwise else _krylov(solver, y, rtol, atol)

    def field(y):
        return terms.vf(t0, y, None)

    def stage(base, guess, h):
        """The slope `f(base + h slope)`, and a number > 0 where it was not found."""

        def residual(z):
            f = field(jax.tree.map(jnp.add, base, z))
            return jax.tree.map(lambda z, f: z - h * f, z, f)

        def newton(residual, z):
            return _newton(residual, z, base, rtol, atol, trials, elementwise, how)

        def tangent(g, b):
            return _solve(g, b, elementwise, how)

        guess = jax.tree.map(lambda f: h * f, guess)
        z, bad = jax.lax.custom_root(residual, guess, newton, tangent, has_aux=True)
        return jax.tree.map(lambda z: z / h, z), bad

    first = field(y)
    if type(solver) is diffrax.ImplicitEuler:
        slope, bad = stage(y, first, dt)
        return jax.tree.map(lambda y, f: y + dt * f, y, slope), bad > 0

    # the first stage is explicit and the others have one diagonal: a loop over them compiles Newton's method once
    tableau = solver.tableau
    n = tableau.num_stages
    h = float(tableau.a_diagonal[1]) * dt

    def padded(rows):
        return jnp.asarray([[*row, *(0.0,) * (n - len(row))] for row in rows], dt.dtype)

    def next_stage(slopes, given):
        i, row, predictor = given
        base = jax.tree.map(lambda y, k: y + dt * jnp.tensordot(row, k, 1), y, slopes)
        slope, bad = stage(base, jax.tree.map(lambda k: jnp.tensordot(predictor, k, 1), slopes), h)
        return jax.tree.map(lambda k, new: k.at[i].set(new), slopes, slope), bad

    slopes = jax.tree.map(lambda f: jnp.zeros((n, *f.shape), f.dtype).at[0].set(f), first)
    stages = (jnp.arange(1, n), padded(tableau.a_lower), padded(tableau.a_predictor))
    slopes, bad = jax.lax.scan(next_stage, slopes, stages)
    weights = jnp.asarray(tableau.b_sol, dt.dtype)
    return jax.tree.map(lambda y, k: y + dt * jnp.tensordot(weights, k, 1), y, slopes), jnp.any(bad > 0)


def _tolerances(solver: Any, dtype: Any) -> tuple[float, float]:
    """`(rtol, atol)` of the solver's root finder where it names numbers."""
    default = float(np.sqrt(np.finfo(dtype).eps))
    given = (solver.root_finder.rtol, solver.root_finder.atol)
    rtol, atol = (x if isinstance(x, int | float) else default for x in given)
    return rtol, atol


def _krylov(solver: Any, y: Any, rtol: float, atol: float) -> Any:
    """The iterative solver of the linear systems of units that flow together; None: they are matrices."""
    given = getattr(solver.root_finder, "linear_solver", None)
    if isinstance(given, lx.GMRES | lx.BiCGStab):
        return given
    size = sum(int(np.prod(jnp.shape(x))) for x in jax.tree.leaves(y))
    return lx.GMRES(rtol=0.1 * rtol, atol=0.1 * atol, restart=_RESTART) if size > _DENSE else None


def _newton(residual, guess, base, rtol, atol, trials, elementwise, how):
    """The root of `residual` near `guess`, and 1.0 where it was not found within so many trials.

    Newton's method with a damping of its own for every unit: an update that does not make the unit's residual smaller
    is taken back and tried at a quarter of its length. Starts from zero where that is nearer than `guess`.
    """
    scale = jax.tree.map(lambda b: atol + rtol * jnp.abs(b), base)
    zero = jax.tree.map(jnp.zeros_like, guess)

    def size(r):
        return _largest(jax.tree.map(lambda r, s: jnp.abs(r) / s, r, scale), elementwise)

    def going_on(carry):
        trial, *_, update, _ = carry
        return (trial == 0) | ((trial < trials) & ~(jnp.max(size(update)) <= 1))

    def try_update(carry):
        trial, z, best, update, damping = carry
        z_new = jax.tree.map(lambda z, u: z - _spread(damping, u) * u, z, update)
        r, g = jax.linearize(residual, z_new)
        good = size(r) < best  # False for NaN
        update_new = _solve(g, r, elementwise, how)
        z, update = jax.tree.map(lambda a, b: jnp.where(_spread(good, a), a, b), (z_new, update_new), (z, update))
        damping = jnp.where(good, jnp.minimum(4 * damping, 1.0), damping / 4)
        return trial + 1, z, jnp.where(good, size(r), best), update, damping

    near, at_zero = size(residual(guess)), size(residual(zero))
    z = jax.tree.map(lambda a, b: jnp.where(_spread(near < at_zero, a), a, b), guess, zero)
    start = (jnp.asarray(0, jnp.int32), z, jnp.full_like(near, jnp.inf), zero, jnp.ones_like(near))
    _, z, _, update, _ = jax.lax.while_loop(going_on, try_update, start)
    # as a number: custom_root wants auxiliary output that has a tangent
    return jax.tree.map(jnp.subtract, z, update), jnp.where(jnp.max(size(update)) <= 1, 0.0, 1.0).astype(near.dtype)


def _largest(tree, elementwise):
    """The largest number of every unit, shape (n,); of all together, shape (), where the units are coupled."""
    if not elementwise:
        return jnp.max(jnp.stack([jnp.max(x) for x in jax.tree.leaves(tree)]))
    return jnp.max(jnp.stack([jnp.max(x.reshape(x.shape[0], -1), -1) for x in jax.tree.leaves(tree)]), 0)


def _spread(x, like):
    """One value per unit, or one for all, in the rank of `like`."""
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim)) if x.ndim else x


def _solve(g: Linear, b: Any, elementwise: bool, how: Any = None) -> Any:
    """`x` with `g(x) = b`, for a linear `g`, block diagonal over the units where `elementwise`; by the iterative solver
    `how`, where there is one, whose failure shows in Newton's method."""
    if how is not None:
        operator = lx.FunctionLinearOperator(g, jax.eval_shape(lambda: b))
        return lx.linear_solve(operator, b, how, throw=False).value
    if not elementwise:
        flat, unravel = ravel_pytree(b)
        columns = jax.vmap(lambda e: ravel_pytree(g(unravel(e)))[0])(jnp.eye(flat.size, dtype=flat.dtype))
        return unravel(jnp.linalg.solve(columns.T, flat))
    right = _columns(b)
    size, n = len(right), right[0].shape[0]
    basis = jnp.eye(size, dtype=right[0].dtype)
    ones = [jnp.broadcast_to(basis[:, j, None], (size, n)) for j in range(size)]
    made = jax.vmap(lambda *e: _columns(g(_tree(b, list(e)))))(
        *ones
    )  # made[i][j]: effect of variable j on i, (size, n)
    if size > _UNROLLED:
        matrix = jnp.stack(made).transpose(2, 0, 1)
        return _tree(b, list(jnp.linalg.solve(matrix, jnp.stack(right, -1)[..., None])[..., 0].T))
    return _tree(b, _eliminate([[*made[i]] for i in range(size)], right))


def _columns(tree: Any) -> list[Array]:
    """The variables of a tree of (n, ...) leaves, each of shape (n,)."""
    return [x.reshape(x.shape[0], -1)[:, k] for x in jax.tree.leaves(tree) for k in range(int(np.prod(x.shape[1:])))]


def _tree(like: Any, columns: list[Array]) -> Any:
    """The inverse of `_columns`."""
    leaves, structure = jax.tree.flatten(like)
    made, used = [], 0
    for x in leaves:
        width = int(np.prod(x.shape[1:]))
        made.append(jnp.stack(columns[used : used + width], -1).reshape(x.shape))
        used += width
    return jax.tree.unflatten(structure, made)


def _eliminate(rows: list[list[Array]], right: list[Array]) -> list[Array]:
    """Gaussian elimination with partial pivoting, one system per unit, every entry an array of shape (n,)."""
    rows, right, size = [list(r) for r in rows], list(right), len(rows)
    for j in range(size):
        for i in range(j + 1, size):
            # the larger of the two pivots goes up, unit by unit
            swap = jnp.abs(rows[i][j]) > jnp.abs(rows[j][j])
            for k in range(j, size):
                up, down = rows[j][k], rows[i][k]
                rows[j][k], rows[i][k] = jnp.where(swap, down, up), jnp.where(swap, up, down)
            right[j], right[i] = jnp.where(swap, right[i], right[j]), jnp.where(swap, right[j], right[i])
        for i in range(j + 1, size):
            factor = rows[i][j] / rows[j][j]
            for k in range(j + 1, size):
                rows[i][k] = rows[i][k] - factor * rows[j][k]
            right[i] = right[i] - factor * right[j]
    x: list[Array] = list(right)
    for j in reversed(range(size)):
        for k in range(j + 1, size):
            x[j] = x[j] - rows[j][k] * x[k]
        x[j] = x[j] / rows[j][j]
    return x
