"""What the units have in common: checks of ranges, the refractory period, the crossing of a threshold, gating rates."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..base import check_parameter, float_dtype, is_traced

SILENT = -1e3
"""The guard of a unit that cannot spike now: below threshold by far, outside the support of every surrogate."""


def filled(x: Any, n: int) -> Float[Array, " n"]:
    """A parameter as the initial value of `n` units."""
    return jnp.broadcast_to(jnp.asarray(x, float_dtype()), (n,))


def _holds(owner: str, name: str, x: Any, good: Any, expected: str) -> None:
    check_parameter(owner, name, x)
    if not is_traced(x) and not bool(np.all(good(np.asarray(x)))):
        raise ValueError(f"{owner}.{name} is {np.asarray(x)}; expected {expected}. Mend the value given.")


def positive(unit: Any, *names: str) -> None:
    """Raise unless the named parameters of `unit` are finite and > 0."""
    for name in names:
        _holds(type(unit).__name__, name, getattr(unit, name), lambda x: x > 0, f"{name} > 0")


def not_negative(unit: Any, *names: str) -> None:
    """Raise unless the named parameters of `unit` are finite and >= 0."""
    for name in names:
        _holds(type(unit).__name__, name, getattr(unit, name), lambda x: x >= 0, f"{name} >= 0")


def below(unit: Any, low: str, high: str) -> None:
    """Raise unless parameter `low` of `unit` lies below parameter `high`: else every reset would spike again."""
    owner, a, b = type(unit).__name__, getattr(unit, low), getattr(unit, high)
    check_parameter(owner, low, a)
    check_parameter(owner, high, b)
    if is_traced(a) or is_traced(b) or (a.shape != b.shape and a.shape and b.shape):
        return  # arrays of unequal length are refused by the population, which knows its size
    if not bool(np.all(np.asarray(a) < np.asarray(b))):
        raise ValueError(
            f"{owner}: {low} = {np.asarray(a)}, {high} = {np.asarray(b)}; expected {low} < {high}. Lower {low}."
        )


def no_refractory(n: int) -> Int[Array, " n"]:
    """The counter of refractory steps left, at the start."""
    return jnp.zeros(n, jnp.int32)


def unless(silent: Bool[Array, " n"], guard: Float[Array, " n"]) -> Float[Array, " n"]:
    """`guard`, far below zero where the unit cannot spike."""
    return jnp.where(silent, jnp.asarray(SILENT, guard.dtype), guard)


def returned(refractory: Int[Array, " n"], v: Float[Array, " n"], v_reset: Any) -> Float[Array, " n"]:
    """`v`, at `v_reset` in the refractory period: what arrived by a jump meanwhile is lost, as in NEST."""
    return jnp.where(refractory > 0, v_reset, v)


def left_over(refractory: Int[Array, " n"], s: Float[Array, " n"], steps: Int[Array, "..."]) -> Int[Array, " n"]:
    """The counter after this step: `steps` after a spike, else one less."""
    return jnp.where(s > 0, steps, jnp.maximum(refractory - 1, 0))


def reset_to(v: Float[Array, " n"], s: Float[Array, " n"], target: Any) -> Float[Array, " n"]:
    """`target` where `s` is 1, differentiable in `s`."""
    return v + s * (target - v)


_LARGE = 80.0  # exp(80) is finite in float32, and so is its derivative


def bounded_exp(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`exp(x)` with x held below 80, so that neither value nor derivative overflows."""
    return jnp.exp(jnp.minimum(x, _LARGE))


def linoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x / (exp(x) - 1)`, 1 at x = 0; value and derivatives are finite for every x."""
    small = jnp.abs(x) < 1e-4
    # the other branch must be harmless where it is not taken, or its derivative would be NaN times 0
    safe = jnp.where(small, jnp.ones_like(x), jnp.minimum(x, _LARGE))
    return jnp.where(small, 1.0 - 0.5 * x, safe / jnp.expm1(safe))


_STEEPEST = 8.0


def cut_off(v_t: Any, delta_t: Any, v_peak: Any) -> Any:
    """`v_peak`, at most `v_t + 8 delta_t`: there the spike is certain, and infinity `exp(-8)` of the membrane time
    constant away."""
    return jnp.minimum(v_peak, v_t + _STEEPEST * delta_t)


def upswing(v: Float[Array, " n"], v_t: Any, delta_t: Any, v_peak: Any) -> Float[Array, " n"]:
    """`delta_t exp((v - v_t) / delta_t)`, constant beyond the cut-off.

    Without the bound the growth of one step of `ExponentialEuler` overflows.
    """
    return delta_t * jnp.exp(jnp.minimum((jnp.minimum(v, v_peak) - v_t) / delta_t, _STEEPEST))
