r"""Closed-form flow of a population whose equations are affine, and the first crossing of its threshold.

Between events every variable of a unit obeys $\dot x_k = -a_k x_k + b_k + \sum_m c_{km} x_m$ with constant
coefficients, where each $x_m$ depends on itself alone, $\dot x_m = -a_m x_m + b_m$. Then

$$x_k(h) = x_k e^{-a_k h} + \Big(b_k + \sum_m c_{km} x_m^\infty\Big) h\,\varphi_1(-a_k h)
          + \sum_m c_{km} (x_m - x_m^\infty) K_{km}(h),
\qquad K_{km}(h) = h\, e^{-\min(a_k, a_m) h}\, \varphi_1(-|a_k - a_m| h),$$

with $x_m^\infty = b_m / a_m$ and $\varphi_1(z) = (e^z - 1) / z$: accurate for equal time constants too.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..base.jax_internals import partial_eval as pe
from ..core import Clock, Population
from ..solvers import phi1

Vars = list[Float[Array, " n"]]
"""The variables of a population, in the order of its flattened `y`."""


class NotAffine(ValueError):
    """The equations have no closed form of the kind above; the message says why."""


class Flow(eqx.Module):
    """The coefficients of one population: `rates` a (n,), `gains` c by (k, m); a variable's `offset` b is given apart,
    because it changes with the input."""

    rates: Vars
    gains: dict[tuple[int, int], Float[Array, " n"]]

    def sources(self, k: int) -> list[tuple[int, Float[Array, " n"]]]:
        """(m, c_km) of every variable that drives variable k."""
        return [(m, c) for (to, m), c in self.gains.items() if to == k]

    def velocity(self, x: Vars, offset: Vars) -> Vars:
        """dx/dt."""
        own = [b - a * y for a, b, y in zip(self.rates, offset, x, strict=True)]
        return [own[k] + sum(c * x[m] for m, c in self.sources(k)) for k in range(len(x))]

    def after(self, x: Vars, offset: Vars, h: Array) -> Vars:
        """The variables after a time `h` >= 0 (ms), () or (n,)."""
        out = []
        for k, (a, b, y) in enumerate(zip(self.rates, offset, x, strict=True)):
            moved = y * jnp.exp(-a * h)
            for m, c in self.sources(k):
                a_m = self.rates[m]
                rest = offset[m] / a_m
                # not |a - a_m|: where they are equal, JAX has the derivative of `abs` be 1, and halves these two
                slow, fast = jnp.minimum(a, a_m), jnp.maximum(a, a_m)
                shared = h * jnp.exp(-slow * h) * phi1(-(fast - slow) * h)
                b, moved = b + c * rest, moved + c * (x[m] - rest) * shared
            out.append(moved + b * h * phi1(-a * h))
        return out

    def curvature(self, velocity: Vars, weights: Vars) -> Float[Array, " n"]:
        r"""An upper bound, for all times from now on, of the second derivative of $\sum_k \gamma_k x_k$.

        From $\ddot x_k = -a_k \dot x_k + \sum_m c_{km} \dot x_m$, with $\dot x_m$ decaying and $a_k K_{km} \le 1$:
        $\max(0, -\gamma_k a_k \dot x_k) + \sum_m |\gamma_k c_{km} \dot x_m|$, all at the present time.
        """
        total = jnp.zeros_like(velocity[0])
        for k, (a, v, weight) in enumerate(zip(self.rates, velocity, weights, strict=True)):
            total = total + jnp.maximum(-weight * a * v, 0.0)
            total = total + sum(jnp.abs(weight * c * velocity[m]) for m, c in self.sources(k))
        return total


class Guard(eqx.Module):
    """A unit's guard, `sum_k weights_k x_k + level`."""

    weights: Vars
    level: Float[Array, " n"]

    def __call__(self, x: Vars) -> Float[Array, " n"]:
        return self.level + sum(w * y for w, y in zip(self.weights, x, strict=True))

    def slope(self, velocity: Vars) -> Float[Array, " n"]:
        """Its derivative in time."""
        return sum((w * v for w, v in zip(self.weights, velocity, strict=True)), jnp.zeros_like(self.level))

    def noise(self, x: Vars) -> Float[Array, " n"]:
        """How far from zero rounding alone can leave it."""
        size = jnp.abs(self.level) + sum(jnp.abs(w * y) for w, y in zip(self.weights, x, strict=True))
        return 256 * jnp.finfo(size.dtype).eps * size


def first_crossing(
    flow: Flow, guard: Guard, x: Vars, offset: Vars, limit: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """`(h, found)`: the guard is below zero until `h` and, where `found`, crosses zero there; `h >= limit` where it
    does not before `limit`. Not differentiable: see `polished`.

    Steps to the zero of the parabola that bounds the guard from above, so that no crossing is missed however briefly
    the guard is positive; near the crossing they are Newton's. Where they are too many, `h` is as far as they came.
    """
    tolerance = 64 * jnp.finfo(limit.dtype).eps

    def move(state):
        h, found, going, n = state
        y = flow.after(x, offset, h)
        velocity = flow.velocity(y, offset)
        value, slope = guard(y), guard.slope(velocity)
        below = jnp.maximum(-value, 0.0)
        root = jnp.sqrt(slope**2 + 2.0 * flow.curvature(velocity, guard.weights) * below)
        denominator = slope + root
        rises = denominator > 0
        step = jnp.where(rises, 2.0 * below / jnp.where(rises, denominator, 1.0), jnp.inf)
        there = going & (value >= -guard.noise(y)) & ((value >= 0) | (slope > 0))
        there = there | (going & (step <= tolerance * (1.0 + h)))
        ahead = jnp.where(going & ~there, h + step, h)
        beyond = ahead >= limit
        return jnp.where(beyond, limit, ahead), found | there, going & ~there & ~beyond, n + 1

    start = (jnp.zeros_like(limit), jnp.zeros(limit.shape, bool), limit > 0, jnp.asarray(0))
    # one look even where there is no time left: an arrival may have lifted the guard above zero
    h, found, *_ = jax.lax.while_loop(lambda s: jnp.any(s[2]) & (s[3] < 50), move, (*start[:2], limit >= 0, start[3]))
    return h, found


def polished(flow: Flow, guard: Guard, x: Vars, offset: Vars, h: Float[Array, " n"]) -> Float[Array, " n"]:
    r"""The crossing near `h`, differentiable by the implicit function theorem: $dh = -d g(x(h)) / \dot g$ at fixed h.

    One step of Newton's with the slope held constant has that derivative. A guard lifted above zero by an arrival
    crosses now, whatever the parameters: h = 0.
    """
    h = jax.lax.stop_gradient(h)
    y = flow.after(x, offset, h)
    value = guard(y)
    slope = jax.lax.stop_gradient(guard.slope(flow.velocity(y, offset)))
    lifted = jax.lax.stop_gradient((h <= 0) & (guard(x) > guard.noise(x)))
    bad = lifted | (slope <= 0)
    return jnp.where(bad, h, h - value / jnp.where(bad, 1.0, slope))


def _dependence(f: Callable, y: Any, rest: Any) -> list[set[int]]:
    """For every output of `f(y, rest)` which leaves of `y` it depends on; NotAffine unless it is affine in `y`, with
    coefficients that `rest` does not change."""
    n_y, n_rest = len(jax.tree.leaves(y)), len(jax.tree.leaves(rest))

    def tangent(y, t, rest):
        return jax.jvp(lambda y: f(y, rest), (y,), (t,))[1]

    closed = jax.make_jaxpr(tangent)(y, y, rest)
    found = []
    for k in range(len(closed.jaxpr.outvars)):
        _, used = pe.dce_jaxpr(closed.jaxpr, [i == k for i in range(len(closed.jaxpr.outvars))])
        # `dce_jaxpr` keeps the constants apart: used are the arguments alone
        if any(used[:n_y]):
            raise NotAffine("its equations are not linear in the state")
        if any(used[2 * n_y : 2 * n_y + n_rest]):
            raise NotAffine("the input current changes the rates of its equations")
        found.append({m for m in range(n_y) if used[n_y + m]})
    return found


def affine(node: Population, z: Any) -> tuple[Flow, Guard]:
    """The flow and guard of a population while its discrete state is `z`; NotAffine where there is no closed form."""
    y, _ = node.init(Clock.of("", jnp.asarray(0, jnp.int32), 1.0, jax.random.key(0)))
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.zeros_like, y))
    n, zero = len(leaves), jnp.zeros_like(leaves[0])

    def field(x, inp):
        return jax.tree.leaves(node.vector_field(jax.tree.unflatten(tree, x), z, inp))

    def guard(x, inp):
        value = node.unit.guard(jax.tree.unflatten(tree, x)["unit"], z)
        return [-jnp.ones_like(zero) if value is None else value]

    depends, seen = _dependence(field, leaves, zero), _dependence(guard, leaves, zero)[0]
    for k, own in enumerate(depends):
        if any(depends[m] - {m} for m in own - {k}):
            raise NotAffine("a variable is driven through two others in a row")
        if any(m not in depends[m] for m in own - {k}):
            raise NotAffine("a variable is driven by one that does not decay")

    def column(f, m, outputs):
        """The derivatives of `outputs` of `f` by variable m."""
        tangent = [jnp.ones_like(x) if i == m else jnp.zeros_like(x) for i, x in enumerate(leaves)]
        moved = jax.jvp(lambda x: f(x, zero), (leaves,), (tangent,))[1]
        return [moved[k] for k in outputs]

    rates, gains = [], {}
    for m in range(n):
        driven = [k for k in range(n) if m in depends[k]]
        by = dict(zip(driven, column(field, m, driven), strict=True))
        rates.append(-by.pop(m) if m in by else jnp.zeros_like(leaves[m]))
        gains |= {(k, m): c for k, c in by.items()}
    weights = [column(guard, m, [0])[0] if m in seen else jnp.zeros_like(leaves[m]) for m in range(n)]
    return Flow(rates, gains), Guard(weights, guard(leaves, zero)[0])
