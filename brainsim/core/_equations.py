"""What the equations of a unit look like, read from their programs and not from their values: whether the flow is
linear, whether a reset can be differentiated by the spike, and how far the reset takes the guard down."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import float_dtype
from ..base.jax_internals import partial_eval as pe
from ._state import Clock
from ._unit import AbstractReceptor, AbstractUnit


def _clock() -> Clock:
    return Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))


def reads(f: Callable[..., Any], *args: Any) -> list[bool]:
    """Which leaves of `args` the outputs of `f` are computed from; of each a shape or an array."""
    jaxpr = jax.make_jaxpr(f)(*args).jaxpr
    return list(pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1])


def emission(unit: AbstractUnit, n: int) -> tuple[bool, bool]:
    """Whether the unit has a guard, and whether what it emits is other than its spikes."""
    found = [False, False]

    def look():
        y, z = unit.init(n, _clock())
        s = jnp.zeros(n, float_dtype())
        found[:] = unit.guard(y, z) is not None, unit.emit(y, z, s) is not s

    try:
        jax.eval_shape(look)
    except Exception:  # `check_unit` says what is wrong with the equations, by name
        return True, False
    return found[0], found[1]


def reads_v(receptor: AbstractReceptor, n: int) -> bool:
    """Whether the current or the kinetics of the receptor depend on the potential."""
    g = jax.eval_shape(lambda: receptor.init(n))
    v = jax.ShapeDtypeStruct((n,), float_dtype())
    return reads(lambda v, g: jax.tree.leaves((receptor.current(g, v), receptor.flow(g, v))), v, g)[0]


def flows_linearly(unit: AbstractUnit, n: int) -> bool:
    """Whether the derivative of the vector field by y does not depend on y: no upstroke of the cell's own."""
    y, z = jax.eval_shape(lambda: unit.init(n, _clock()))

    def tangent(y, dy, z, inp):
        return jax.jvp(lambda y: unit.vector_field(y, z, inp), (y,), (dy,))[1]

    leaves = len(jax.tree.leaves(y))
    return not any(reads(tangent, y, y, z, jax.ShapeDtypeStruct((n,), float_dtype()))[:leaves])


def resets_by_choice(unit: AbstractUnit, n: int) -> bool:
    """Whether a variable is reset by comparing `s`, as in `where(s > 0, ...)`, and so has no derivative by it."""
    y, z = jax.eval_shape(lambda: unit.init(n, _clock()))
    s = jax.ShapeDtypeStruct((n,), float_dtype())

    def each(s, ds, y, z):
        return jax.jvp(lambda s: jax.tree.leaves(unit.reset(y, z, s, jnp.zeros_like(s), _clock())[0]), (s,), (ds,))

    for k in range(len(jax.tree.leaves(y))):
        by_s = reads(lambda *args, k=k: each(*args)[0][k], s, s, y, z)[0]
        by_ds = reads(lambda *args, k=k: each(*args)[1][k], s, s, y, z)[1]
        if by_s and not by_ds:
            return True
    return False


def drop(unit: AbstractUnit, n: int) -> Float[Array, "..."]:
    """How far below zero the reset takes the guard of a unit that is at its threshold (mV for most): () where all units
    are alike, else (n,); 0 or less where nothing is reset."""
    alike = not any(jnp.ndim(x) for x in jax.tree.leaves(unit))
    clock = _clock()
    y, z = unit.init(1 if alike else n, clock)
    guard: Callable[..., Any] = unit.guard
    g, back = jax.vjp(lambda y: guard(y, z), y)
    (slope,) = back(jnp.ones_like(g))
    # at threshold by the potential, where there is one
    moved = {"v"} if "v" in slope and slope["v"].shape == g.shape else set(slope)
    steep = {k: d if k in moved else jnp.zeros_like(d) for k, d in slope.items()}
    norm = sum((d**2 for d in steep.values() if d.shape == g.shape), start=jnp.zeros_like(g))
    back = jnp.where(norm > 0, g / jnp.where(norm > 0, norm, jnp.ones_like(norm)), jnp.zeros_like(g))
    y = {k: x - back * steep[k] if x.shape == g.shape else x for k, x in y.items()}
    after, _ = unit.reset(y, z, jnp.ones_like(g), jnp.zeros_like(g), clock)
    depth = jax.lax.stop_gradient(guard(y, z) - guard(after, z))
    return depth[0] if alike else depth
