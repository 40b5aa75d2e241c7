"""Electrical synapses: conductances between membranes, one for each pair."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import is_traced
from ..events import CSR, FixedFanout, propagate
from ._delay import AbstractDelay
from ._deposit import Deposit
from ._distributions import AbstractDistribution
from ._edge import AbstractDeclaredEdge, AbstractScheduledEdge
from ._node import AbstractNode, Population
from ._routed import AbstractDelayed, AbstractRouted
from ._state import Clock
from ._wiring import (
    Endpoint,
    Route,
    _Instant,
    by_synapse,
    delay_steps,
    value_of,
    wire,
)


class GapJunctions(AbstractDeclaredEdge):
    """Electrical synapses: `I_i = sum_j g_ij (v_j - v_i)`, one conductance `g_ij = g_ji` for every pair of units.

    Within a population a pair that the connectivity names is one junction, which conducts both ways, whether it is
    named in one direction or in both; a unit has none with itself. Of a rule that draws at random each pair is decided
    once: `FixedProbability(p)` joins a pair with probability p. Between two populations an edge carries the current
    into `post`; the edge from `post` to `pre` with the same conductances carries what leaves it.

    The current of step n + k, constant during the step, uses the potentials `v_j` at the end of step n and `v_i` at the
    start of step n + k: order 1 in dt. With `x_i = dt sum_j g_ij / C_i` the conductance of a pair in a step is `g_ij
    min(1, 1 / (x_i + x_j))`. So bounded, the coupling alone is a symmetric operator with eigenvalues between 0 and 1
    (`(v_i - v_j)^2 <= (x_i + x_j) (v_i^2 / x_i + v_j^2 / x_j)`, summed over pairs): potentials meet and never swap,
    however strong it is. Where `x_i + x_j > 1` the bound is at work, and a run warns: such cells meet within a step,
    and are held together less tightly than their conductance says. Source: Kopell & Ermentrout 2004,
    doi:10.1073/pnas.0406343101.

    **Arguments:** `pre`, `post`, `connect` as in `Projection`, the port of `post` a `bs.GapPort()`; `weight`:
    conductance (nS), number, distribution (drawn once a pair) or one value per entry of the connectivity, those of one
    pair equal; `delay`: one number (ms).
    """

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    weight: Any = eqx.field(kw_only=True, converter=value_of)
    delay: Any = eqx.field(kw_only=True, converter=value_of, default=0.0)
    max_delay: float | None = eqx.field(kw_only=True, static=True, default=None)

    def wire(self, where, nodes, key):
        if isinstance(self.delay, _Instant | AbstractDelay | AbstractDistribution) or jnp.ndim(self.delay):
            raise ValueError(f"{where}.delay is {self.delay!r}; expected one number >= 0 (ms) for gap junctions.")
        out = WiredGapJunctions(**wire(where, self, nodes, key, channels=2))
        source = nodes[Endpoint.parse(where, self.pre).node]
        if not isinstance(source, Population) or "v" not in source.variables:
            raise ValueError(
                f"{where}.pre is {self.pre!r}; expected a population whose unit has a membrane potential 'v'."
            )
        if out.route.units_post != (0, nodes[out.route.post].size, 1):
            raise ValueError(
                f"{where}.post is {self.post!r}; expected a whole population: choose units by the connectivity."
            )
        return _both_ways(where, self, out) if out.route.pre == out.route.post else out


class WiredGapJunctions(AbstractDelayed):
    """`GapJunctions` in a network; `order`: of every synapse its place in the list given, or the places of the two
    values that name a pair, (2, n_syn)."""

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    weight: Any = eqx.field(converter=value_of)
    delay: Any = eqx.field(converter=value_of)
    max_delay: float = eqx.field(static=True)
    order: Array | None
    route: Route = eqx.field(static=True)

    def by_synapse(self, where: str) -> "WiredGapJunctions":
        """The edge with its conductances in the order of the synapses of its topology."""
        if self.order is None or jnp.ndim(self.weight) == 0:
            weight = by_synapse(where, "weight", self.weight, self.connect, None)
        elif self.order.ndim == 1:
            weight = by_synapse(where, "weight", self.weight, self.connect, self.order)
        else:  # the mean of the two values that name a pair
            one, other = self.weight.reshape(-1)[self.order]
            weight = 0.5 * (one + other)
        return dataclasses.replace(self, weight=weight, order=None)

    def schedule(self, where, dt):
        steps = delay_steps(self.delay, dt, self.max_delay)
        return ScheduledGapJunctions(
            connect=self.connect, weight=self.by_synapse(where).weight, steps=steps, route=self.route
        )

    def init(self, clock):
        return {}


class ScheduledGapJunctions(AbstractRouted, AbstractScheduledEdge):
    """Gap junctions at one dt, their conductances by synapse and bounded by what a step can carry."""

    connect: Any
    weight: Any
    steps: Array
    route: Route = eqx.field(static=True)

    def send(self, z, views, clock):
        v = views["pre"].y["unit"]["v"][slice(*self.route.units_pre or (None,))]
        drive, total = propagate(self.connect, self.weight, v), _total(self, v.dtype)
        return z, [Deposit(self.route.post, self.route.port, jnp.concatenate([total, drive]), self.steps)]


def _total(edge: ScheduledGapJunctions, dtype: Any) -> Float[Array, " n_post"]:
    """The conductance into every unit (nS)."""
    return propagate(edge.connect, edge.weight, jnp.ones(edge.connect.n_pre, dtype))


def _both_ways(where: str, given: GapJunctions, edge: WiredGapJunctions) -> WiredGapJunctions:
    """The edge within a population with every pair as two synapses of one conductance, and without autapses."""
    topology, n = edge.connect, edge.connect.n_post
    if any(is_traced(x) for x in jax.tree.leaves(topology)):
        raise ValueError(
            f"{where}.connect is traced; the pairs of gap junctions are found on the host. Build it before."
        )
    start, stop, step = edge.route.units_pre or (0, n, 1)
    pre, post = (np.asarray(x, np.int64) for x in topology.to_coo())
    pre = pre * step + start
    place = np.arange(pre.size) if edge.order is None else np.asarray(edge.order)  # in the user's list
    kept = np.flatnonzero(pre != post)
    low, high, up = np.minimum(pre, post)[kept], np.maximum(pre, post)[kept], (pre < post)[kept]
    # by pair, the direction upward first, then in the order of the list
    kept = kept[np.lexsort((place[kept], ~up, low * n + high))]
    pair, up = np.minimum(pre, post)[kept] * n + np.maximum(pre, post)[kept], pre[kept] < post[kept]
    pairs, inverse, count = np.unique(pair, return_inverse=True, return_counts=True)
    n_up = np.bincount(inverse, up, pairs.size).astype(int)
    n_down = count - n_up
    if getattr(given.connect, "random", False):
        # drawn in one direction and in the other: the pair is decided by the first, where that could be drawn
        drawn = np.zeros(n, bool)
        drawn[start:stop:step] = True
        use = up | ~drawn[post[kept]]
        partner = np.arange(kept.size)
    else:
        unlike = (n_up > 0) & (n_down > 0) & (n_up != n_down)
        if np.any(unlike):
            i, j = divmod(int(pairs[unlike][0]), n)
            raise ValueError(
                f"{where}.connect names the pair of units {i} and {j} {n_up[unlike][0]} and {n_down[unlike][0]} times; "
                f"expected it in one direction, or equally often in both. A gap junction conducts both ways."
            )
        use = up | (n_up[inverse] == 0)
        partner = np.where(up & (n_down[inverse] > 0), np.arange(kept.size) + n_up[inverse], np.arange(kept.size))
    one, other = place[kept][use], place[kept][partner[use]]
    weight = edge.weight
    if isinstance(given.weight, AbstractDistribution):  # one draw a pair
        weight = weight.reshape(-1)[one]
        one = other = np.arange(one.size)
    elif jnp.ndim(weight) and not is_traced(weight):
        values = np.asarray(weight).reshape(-1)
        unequal = np.flatnonzero(values[one] != values[other])
        if unequal.size:
            i, j = sorted((pre[kept][use][unequal[0]], post[kept][use][unequal[0]]))
            a, b = values[one][unequal[0]], values[other][unequal[0]]
            raise ValueError(
                f"{where}.weight is {a:g} nS from unit {i} to {j} and {b:g} nS back; expected one conductance for the "
                f"pair. Give a symmetric matrix, or each pair once."
            )
    ends = pre[kept][use], post[kept][use]
    rows, columns = np.concatenate(ends), np.concatenate(ends[::-1])
    connect, order = CSR.from_coo(rows, columns, n, n)
    both = np.stack([np.tile(one, 2), np.tile(other, 2)])[:, order].astype(np.int32)
    route = edge.route._replace(units_pre=None)
    return dataclasses.replace(edge, connect=connect, weight=weight, order=jnp.asarray(both), route=route)


def coupled(
    nodes: Mapping[str, AbstractNode], edges: dict[str, AbstractScheduledEdge], dt: float
) -> dict[str, AbstractScheduledEdge]:
    """`edges`, at `dt`, with the conductances of gap junctions bounded by what a step can carry."""
    gaps = {name: edge for name, edge in edges.items() if isinstance(edge, ScheduledGapJunctions)}
    if not gaps:
        return edges
    total: dict[str, Array] = {}
    for name, edge in gaps.items():
        into = edge.writes[0]
        total[into] = total.get(into, 0.0) + _total(edge, edge.weight.dtype)
        back = (into, edge.reads["pre"])
        if back[0] != back[1] and not any((other.reads["pre"], other.writes[0]) == back for other in gaps.values()):
            warnings.warn(
                f"edge {name!r}: gap junctions carry current from {back[1]!r} into {back[0]!r} and none leaves "
                f"{back[1]!r}. Add bs.GapJunctions({back[0]!r}, {back[1]!r}, ...) with the same conductances.",
                stacklevel=2,
            )
    speed = {node: dt * g * _per_capacitance(nodes[node]) for node, g in total.items()}
    out = dict(edges)
    for name, edge in gaps.items():
        source = nodes[edge.reads["pre"]]
        from_ = speed.get(edge.reads["pre"], jnp.zeros(source.size, edge.weight.dtype))
        x = from_[slice(*edge.route.units_pre or (None,))], speed[edge.writes[0]]
        out[name] = dataclasses.replace(edge, weight=_bounded(name, edge, *x, dt))
    return out


def _bounded(name: str, edge: ScheduledGapJunctions, x_pre: Array, x_post: Array, dt: float) -> Array:
    """The conductances times `min(1, 1 / (x_i + x_j))`."""
    if isinstance(edge.connect, CSR):
        n_syn = edge.connect.n_syn
        pre = jnp.repeat(x_pre, jnp.diff(edge.connect.indptr), total_repeat_length=n_syn)
        x = pre + x_post[edge.connect.indices]
    else:
        post = x_post[edge.connect.indices] if isinstance(edge.connect, FixedFanout) else x_post[None]
        x = x_pre[:, None] + post
    if not is_traced(x) and x.size and float(jnp.max(x)) > 1.001:
        fastest = float(jnp.max(x))
        warnings.warn(
            f"edge {name!r}: dt does not resolve the gap junctions: dt G / C, summed over the two cells of a pair, is "
            f"up to {fastest:.3g}; from 1 on the current is bounded by what makes the cells meet in one step. Take "
            f"dt <= {dt / fastest:.3g} ms.",
            stacklevel=2,
        )
    return edge.weight * jnp.where(x > 1, 1.0 / jnp.where(x > 1, x, jnp.ones_like(x)), jnp.ones_like(x))


def _per_capacitance(node: AbstractNode) -> Float[Array, " n"]:
    """`d(dv/dt) / dI` of every unit at its initial state (mV/ms per pA), 1 / C where v is a membrane potential."""
    unit: Any = getattr(node, "unit", None)
    y, z = unit.init(node.size, Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0)))
    zero = jnp.zeros(node.size, y["v"].dtype)
    slope = jax.jvp(lambda inp: unit.vector_field(y, z, inp)["v"], (zero,), (jnp.ones_like(zero),))[1]
    return jax.lax.stop_gradient(jnp.abs(slope))
