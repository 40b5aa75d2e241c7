"""`Coupling`: what masses send each other over tracts of a length and a speed."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import float_dtype, parameter
from ..events import CSR
from ._deposit import Deposit
from ._edge import AbstractScheduledEdge
from ._node import Population
from ._routed import AbstractRouted
from ._state import Emitted, NodeState
from ._tracts import AbstractTracts, AbstractWiredTracts
from ._wiring import Route, ring_depth


class Coupling(AbstractTracts):
    r"""Masses coupled over tracts: the port of unit i receives

    $$c_i(t) = \sum_j w_{ij}\, f(x_j(t - d_{ij})), \quad d_{ij} = L_{ij} / v$$

    where x is what the units of `pre` send (`emit` of the unit: E of `WilsonCowan`, the rate of `JansenRit`, ...). A
    step sees the mean of c at its two ends, with values between two samples interpolated: order 2 in dt together with
    a solver of order 2 such as `diffrax.Heun()`. A delay below dt counts as dt.

    Before t = 0 the values are those at 0, or `history`. The edge is a projection of graded events, as fast and as
    differentiable as one, in the weights, the speed and the delays.

    **Arguments:**

    - `pre`, `post`, `connect`: as in `Projection`, with a list of synapses (`bs.FromCOO`); the port of `post` is a
      `bs.CouplingPort()`. Matrices of connectomes often have the target as row: `bs.FromCOO(source, target)`.
    - `weight`: number or one value per synapse; times x it has the unit of the mass's input.
    - `lengths`, `speed`: mm per synapse and m/s; or `delay`: ms, number or per synapse. All of them can be learnt.
    - `max_delay`: the longest delay (ms) where lengths, speed or delays are to change; default the longest now.
    - `function`: f, a function or equinox module of the array of all values sent; default the identity. A function
      runs in XLA, outside the fused step.
    - `rounded`: True rounds delays to whole steps of dt: one scatter a step instead of two. The delays then change
      with dt, and have no derivative.
    - `history`: (times, n_pre), the values sent at 0, -dt, -2 dt, ...; the last is held before that.

    **Raises:** ValueError at construction for lengths without a speed, dense topologies, and delays beyond `max_delay`.
    """

    rounded: bool = eqx.field(kw_only=True, static=True, default=False)

    def wire(self, where, nodes, key):
        return WiredCoupling(**self.wired_fields(where, nodes, key, 1), rounded=self.rounded)


class WiredCoupling(AbstractWiredTracts):
    """A `Coupling` in a network."""

    rounded: bool = eqx.field(static=True)

    def depth(self, dt):
        return ring_depth(self.max_delay, dt) + 1

    def _taps(self, where: str, dt: float) -> tuple[tuple[Array, Array], ...]:
        """(weight, steps) of both samples that a delay lies between."""
        weight, x = self.synapses(where, dt)
        line = self.depth(dt) - 1
        if self.rounded:
            k = jnp.clip(jnp.floor(x + 0.5).astype(jnp.int32), 1, line)
            return ((weight, k),)
        x = x + jax.lax.stop_gradient(jnp.maximum(x, 1.0) - x)
        whole = jnp.floor(jax.lax.stop_gradient(x))
        share, k = x - whole, whole.astype(jnp.int32)
        return (weight * (1.0 - share), k), (weight * share, jnp.minimum(k + 1, line))

    def schedule(self, where, dt):
        return ScheduledCoupling(
            connect=self.connect, taps=self._taps(where, dt), function=self.function, route=self.route
        )

    def init(self, clock):
        return {}

    def begin(self, where, z, nodes, states, dt):
        pre = self.route.pre
        value = sent_at(nodes[pre], states[pre])
        value = value if self.function is None else self.function(value)
        depth = self.depth(dt)
        past, n_post = self.past(value, depth + 1), self.connect.n_post
        return z, _arrivals(self._taps(where, dt), past, self.pre_units(), self.connect.indices, depth, n_post)


class ScheduledCoupling(AbstractRouted, AbstractScheduledEdge):
    """A coupling at one dt; `taps`: (weight, steps) of each share of a value."""

    connect: CSR
    taps: tuple[tuple[Array, Array], ...]
    function: Any
    route: Route = eqx.field(static=True)

    @property
    def weights(self):
        return tuple(weight for weight, _ in self.taps)

    def deposits(self, sent):
        route = self.route
        first = route.units_pre[0] if route.units_pre and route.units_pre[2] == 1 else 0
        rows: dict[str, Any] = dict(support=sent.support, words=sent.words, first=first, part=route.units_post)
        return [Deposit(route.post, route.port, sent.value, k, self.connect, w, **rows) for w, k in self.taps]

    def send(self, z, views, clock):
        sent, _ = views["pre"].events.rows(self.route.units_pre)
        if self.function is not None:
            sent = Emitted(self.function(sent.value))
        return z, self.deposits(sent)


def sent_at(node: Any, state: NodeState) -> Float[Array, " n"]:
    """What the units of a population send in this state, without spikes; nothing of other nodes."""
    silent = jnp.zeros(node.size, float_dtype())
    return node.unit.emit(state.y["unit"], state.z, silent) if isinstance(node, Population) else silent


@partial(jax.jit, static_argnums=(4, 5))
def _arrivals(parts: Any, past: Array, pre: Array, post: Array, depth: int, n_post: int) -> Array:
    """What arrives in the steps -1 to `depth` - 1 of values sent before t = 0."""

    def at_step(m):
        total = jnp.zeros(n_post, past.dtype)
        for weight, k in parts:
            sent = weight * past[jnp.clip(k - m - 1, 0, depth), pre]
            total = total.at[post].add(jnp.where(k > m, sent, jnp.zeros_like(sent)))
        return total

    return jax.lax.map(at_step, jnp.arange(-1, depth, dtype=jnp.int32))


class Sigmoidal(eqx.Module):
    """`height / (1 + exp(slope (middle - x)))`, a function for `bs.Coupling`.

    **Arguments:** `middle`, in the unit of x; `slope`, per that; `height`.
    """

    middle: Array = eqx.field(converter=parameter, default=0.0)
    slope: Array = eqx.field(converter=parameter, default=1.0)
    height: Array = eqx.field(converter=parameter, default=1.0)

    def __call__(self, x: Array) -> Array:
        return self.height * jax.nn.sigmoid(self.slope * (x - self.middle))
