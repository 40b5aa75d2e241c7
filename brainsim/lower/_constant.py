"""Constant currents that a synapse filters: over an axon that fires in every step, or in the bias of the cell."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import float_dtype
from ._arithmetic import nearest
from ._canonical import Connection, Graph, Group

CELL = "constant"
"""The group of one cell that fires in every step."""
TOP = 254
"""Largest mantissa of 8 bits where both signs share a list; the smallest is -256."""


def edges_of(name: str, synapses: int) -> tuple[str, ...]:
    """Names of the edges by which the constant current of group `name` arrives, the coarser first."""
    return tuple(f"{CELL}_{name}{'_fine' * k}" for k in range(synapses))


def folded(graph: Graph) -> Graph:
    """`graph` with every drive at its steady state in the bias, where it acts from the first step on."""
    groups = {}
    for name, g in graph.groups.items():
        bias = g.bias + g.gain * g.drive / jnp.maximum(1.0 - g.keep_i, 1e-6)
        groups[name] = dataclasses.replace(g, bias=bias, drive=jnp.zeros_like(g.drive))
    return dataclasses.replace(graph, groups=groups)


def with_axons(graph: Graph, names: Iterable[str], synapses: int) -> Graph:
    """`graph` with a cell that fires in every step, and `synapses` edges from it to each group of `names`."""
    names = tuple(names)
    if not names:
        return graph
    one = jnp.ones((), float_dtype())
    cell = Group(1, 0.0 * one, 0.0 * one, one, 0.0 * one, 2.0 * one, one, np.ones((), np.int64))
    connections = dict(graph.connections)
    for name in names:
        g, zero = graph.groups[name], np.zeros(graph.groups[name].size, np.int64)
        drive = jnp.broadcast_to(g.drive, (g.size,))
        for edge in edges_of(name, synapses):
            connections[edge] = Connection(CELL, name, zero, np.arange(g.size), drive, zero + graph.lags[name])
    lags = graph.lags | {CELL: 0}
    return dataclasses.replace(graph, groups=graph.groups | {CELL: cell}, connections=connections, lags=lags)


def exponents_of(k: Float[np.ndarray, " n"], synapses: int) -> tuple[int, ...] | None:
    """Exponents of the edges for drives `k` (64 units of u), or None where they do not hold them.

    One edge: the smallest exponent at which none is clipped; two: a coarse one, and a fine one for what it leaves.
    """
    most = float(np.abs(k).max(initial=0.0))
    if synapses == 2:
        return (7, -1) if most < 256 * (TOP // 2) else None
    e = max(int(np.ceil(np.log2(max(most, 1.0) * 2 / TOP))) - 1, -1)
    return (e,) if e <= 7 else None


def mantissas(k: Float[Array, " n"], exponents: Sequence[int]) -> list[Float[Array, " n"]]:
    """Mantissas of every edge that add up to `k` in units of 64, rounded to the finest; derivatives go to the last."""
    found, left = [], k
    for e in exponents[:-1]:
        unit = 2.0 ** (e + 1)
        m = jax.lax.stop_gradient(jnp.clip(jnp.floor((left + unit / 2) / unit), -TOP // 2, TOP // 2))
        found.append(2.0 * m)
        left = left - m * unit
    last = nearest(left * (1.0 / 2.0 ** (exponents[-1] + 1)))
    return [*found, 2.0 * jnp.clip(last, -128.0, TOP / 2)]


def driven(graph: Graph) -> tuple[str, ...]:
    """Names of the groups with a drive that is not 0."""
    return tuple(name for name, g in graph.groups.items() if np.any(np.asarray(g.drive) != 0))
