"""Warnings where the gradient of a firing rate is known to be off: spikes that come and go rather than move, gates that
a step does not resolve, and parameters that a unit names."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base.jax_internals import SymbolicZero
from ..core import AbstractGraph, Network, Population
from ._gates import GATE, gate_rates
from ._saveat import Events, Rate

IRREGULAR = 0.5
"""Coefficient of variation of the intervals above which the default derivatives are off by more than a factor of 2."""
FEWEST = 2.0
"""Mean number of spikes of a unit below which nothing can be said of its intervals."""


def variation(events: Float[Array, "steps n"]) -> Float[Array, ""]:
    """The mean coefficient of variation of the intervals of those units that have three."""
    spiked = events != 0
    steps = jnp.arange(1, events.shape[0] + 1, dtype=jnp.int32)[:, None]
    last = jax.lax.cummax(jnp.where(spiked, steps, 0), axis=0)
    before = jnp.concatenate([jnp.zeros_like(last[:1]), last[:-1]])
    inside = spiked & (before > 0)
    length = jnp.where(inside, steps - before, 0).astype(events.dtype)
    n = jnp.sum(inside, axis=0).astype(events.dtype)
    some = jnp.maximum(n, 1.0)
    mean = jnp.sum(length, axis=0) / some
    variance = jnp.sum(jnp.where(inside, (length - mean[None]) ** 2, 0.0), axis=0) / some
    cv = jnp.where(n > 2.0, jnp.sqrt(variance) / jnp.maximum(mean, 1.0), 0.0)
    return jnp.sum(cv) / jnp.maximum(jnp.sum(n > 2.0).astype(events.dtype), 1.0)


def warning_once_differentiated(
    recorded: dict[str, Any],
    recordings: Sequence[Any],
    net: AbstractGraph,
    populations: dict[str, Population],
    dt: float,
) -> dict[str, Any]:
    """`recorded`, of which events and rates of `populations` warn, where they are differentiated, of too few or too
    irregular spikes, of a rate only of too few, and of gates that steps of `dt` do not resolve."""
    watched = dict(recorded)
    for r in recordings:
        if isinstance(r, Events | Rate) and net.unit_range(name := r.origin(net).node)[0] in populations:
            x, none = recorded[r.key], jnp.zeros(())
            node = populations[net.unit_range(name)[0]]
            fastest = jnp.stack([none, *gate_rates(node, dt).values()]).max()
            if isinstance(r, Rate):
                watched[r.key] = _warns(name, x, dt, jnp.sum(x) * (1e-3 * dt * r.every), none, fastest)
            else:
                spikes = jnp.sum(x) / max(x.shape[1], 1)
                watched[r.key] = _warns(name, x, dt, spikes, variation(x) if r.every == 1 else none, fastest)
    return watched


def warning_of_parameters(net: Network, recordings: Sequence[Any], populations: dict[str, Population]) -> Network:
    """`net`, of which parameters with a rate slope known to be off warn once a rate of `populations` is differentiated
    in them."""
    rates = {net.unit_range(r.origin(net).node)[0] for r in recordings if isinstance(r, Events | Rate)}
    for name in sorted(rates & populations.keys()):
        unit = populations[name].unit
        for field, factor in unit.rate_slope_off.items():
            watched = _names(f"{name}.unit.{field}", type(unit).__name__, factor, getattr(unit, field))
            net = eqx.tree_at(lambda m, at=(name, field): getattr(m.nodes[at[0]].unit, at[1]), net, watched)
    return net


def _names(path: str, unit: str, factor: str, value: Array) -> Array:
    same = jax.custom_jvp(lambda x: x)

    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (t,) = primals, tangents
        if not isinstance(t, SymbolicZero):
            warnings.warn(
                f"The gradient of a firing rate in {path!r} has the right sign and {factor} the size of the slope "
                f"({unit}.rate_slope_off, docs/gradients.md). Compare it with a slope taken with one key, or fit this "
                "parameter with train.CMAES().",
                stacklevel=2,
            )
            return x, t
        return x, jnp.zeros(x.shape, x.dtype)

    same.defjvp(rule, symbolic_zeros=True)
    return same(value)


def _warns(name: str, recorded: Array, dt: float, *found: Array) -> Array:
    @jax.custom_jvp
    def same(recorded: Array, *found: Array) -> Array:
        return recorded

    @same.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        recorded, *found = primals
        # JAX does not keep programs with callbacks in its compilation cache
        if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
            jax.debug.callback(partial(_warn, name, dt), *found)
        return recorded, tangents[0]

    return same(recorded, *found)


def _warn(name: str, dt: float, spikes: Any, cv: Any, fastest: Any) -> None:
    if dt * fastest > GATE:
        warnings.warn(
            f"The gradient of the spikes of {name!r} is taken with steps of {dt:g} ms, which do not resolve a gate "
            f"({1 / float(fastest):.2g} ms): it may be wrong by a factor of 2 to 10 (docs/gradients.md). "
            f"Take dt <= {0.25 * dt:.2g} ms, or Substep(..., 4) for this node.",
            stacklevel=2,
        )
    if spikes < FEWEST:
        what = f"{float(spikes):.2g} spikes a unit"
    elif cv > IRREGULAR:
        what = f"irregular spikes (coefficient of variation of the intervals {float(cv):.2g})"
    else:
        return
    warnings.warn(
        f"The gradient of the spikes of {name!r} is taken over {what}: spikes then come and go more than they move, "
        "and the default derivative may be wrong by more than a factor of 2 (docs/gradients.md). Compare it with a "
        "slope taken with one key, choose Population(surrogate=...), or fit with train.CMAES().",
        stacklevel=2,
    )
