"""`Projection`: synapses from the events of units to a port, declared, wired and scheduled."""

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import Array

from ..events import AbstractMap, Convolution, Dense
from ._delay import AbstractDelay, by_step, spread
from ._deposit import Deposit
from ._edge import AbstractDeclaredEdge, AbstractScheduledEdge
from ._routed import AbstractDelayed, AbstractRouted
from ._short_term import AbstractShortTerm, listened
from ._state import Emitted
from ._wiring import (
    INSTANT,
    Route,
    by_synapse,
    delay_steps,
    drawn_weight,
    value_of,
    wire,
)


class Projection(AbstractDeclaredEdge):
    """Synapses from the events of `pre` to a port of `post`.

    An event of unit i at step n adds `weight_j` to the port of the post unit of each synapse j of i at the start of
    step `n + k`, with `k = 1 + round(delay / dt)` (what the same delay means in Brian2 and NEST).

    **Arguments:**

    - `pre`, `post`: `"P"`, `"P[:3200]"`, `"P.exc"`, `"P[3200:].inh"`; the port may be left out where there is only one.
    - `connect`: a rule such as `bs.FixedProbability(0.02)`, or a topology (`CSR`, `FixedFanout`, `FixedFanin`,
      `Dense`). In a network it is the topology, its post indices counted in the whole post population; of a
      `FixedFanin` its rows, a CSR.
    - `weight`: number, distribution or one value per synapse (nS for conductance receptors, pA for current ones, mV for
      delta); under `bs.Procedural` a number, `bs.Uniform` or `bs.Normal`, whose parameters stay fields.
      Per-synapse arrays given with a rule made from arrays are in the order of those arrays, and the fields keep it:
      what is read back, and what `tree_at` or `train.with_parameters` put in, is in the order of the list.
    - `delay`: ms; number, distribution, array per synapse or per pre unit (shape (n_pre,); read as per synapse where
      a CSR has just n_pre synapses), `INSTANT`, or, to learn delays, `bs.LinearDelay(...)` or `bs.GaussianDelay(...)`;
      `bs.hardened` rounds what was learnt. Per synapse of a `Dense`, a convolution over time: one matrix product for
      every step of the line, the fast form for training small, active layers; `bs.hardened` lists its synapses.
    - `max_delay`: length of the delay line (ms) where delays are to change later; default the largest delay.
    - `short_term`: short-term plasticity of the release, e.g. `bs.TsodyksMarkram(...)`.
    """

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    weight: Any = eqx.field(kw_only=True, converter=value_of)
    delay: Any = eqx.field(kw_only=True, converter=value_of, default=0.0)
    max_delay: float | None = eqx.field(kw_only=True, static=True, default=None)
    short_term: AbstractShortTerm | None = eqx.field(kw_only=True, default=None)

    def wire(self, where, nodes, key):
        if not isinstance(self.short_term, AbstractShortTerm | None):
            raise TypeError(
                f"{where}.short_term is {self.short_term!r}; expected an instance such as bs.TsodyksMarkram(), or None."
            )
        out = WiredProjection(short_term=self.short_term, **wire(where, self, nodes, key, channels=1))
        if self.short_term is not None:
            self.short_term.check(where, out.connect.n_pre)
        return out


class WiredProjection(AbstractDelayed):
    """A `Projection` in a network: `connect` is its topology, `weight` and `delay` are numbers or one value per synapse
    in the order in which they were given (`order`: of every synapse its place there, None where that is the same)."""

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    weight: Any = eqx.field(converter=value_of)
    delay: Any = eqx.field(converter=value_of)
    max_delay: float = eqx.field(static=True)
    short_term: AbstractShortTerm | None
    order: Array | None
    route: Route = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre} | listened(self.short_term)

    @property
    def instant(self):
        return self.delay is INSTANT

    def by_synapse(self, where: str) -> "WiredProjection":
        """The edge with its weights and delays in the order of the synapses of its topology."""
        own = {
            name: by_synapse(where, name, getattr(self, name), self.connect, self.order) for name in ("weight", "delay")
        }
        return dataclasses.replace(self, order=None, **own)

    def schedule(self, where, dt):
        edge, line = self.by_synapse(where), self.depth(dt) - 1
        if isinstance(edge.delay, AbstractDelay):
            taps = spread(edge.delay, edge.weight, dt, self.max_delay, line)
        else:
            taps = ((drawn_weight(edge.weight), delay_steps(edge.delay, dt, self.max_delay, self.route.at_end)),)
        if isinstance(self.connect, Dense) and taps[0][1].ndim:
            taps = by_step(taps, line)
        return ScheduledProjection(
            connect=self.connect, taps=taps, short_term=self.short_term, route=self.route, within_step=self.instant
        )

    def init(self, clock):
        return {} if self.short_term is None else self.short_term.init(self.connect.n_pre, clock)


class ScheduledProjection(AbstractRouted, AbstractScheduledEdge):
    """A projection at one dt; `taps`: (weight, steps) of each share of an event."""

    connect: Any
    taps: tuple[tuple[Any, Array], ...]
    short_term: AbstractShortTerm | None
    route: Route = eqx.field(static=True)
    within_step: bool = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre} | listened(self.short_term)

    @property
    def instant(self):
        return self.within_step

    @property
    def weights(self):
        return tuple(weight for weight, _ in self.taps)

    @property
    def deferred(self):
        # a dense product costs as much as the addition of its cotangent: nothing to be saved, and events to be kept
        return isinstance(self.connect, Convolution) or not isinstance(self.connect, AbstractMap)

    def deposits(self, sent):
        route = self.route
        # as `Emitted.rows` has it; what short-term plasticity releases begins with the first unit
        first = route.units_pre[0] if route.units_pre and route.units_pre[2] == 1 and self.short_term is None else 0
        rows: dict[str, Any] = dict(support=sent.support, words=sent.words, first=first, part=route.units_post)
        return [Deposit(route.post, route.port, sent.value, k, self.connect, w, **rows) for w, k in self.taps]

    def send(self, z, views, clock):
        events, _ = views["pre"].events.rows(self.route.units_pre)
        if self.short_term is not None:
            own = views["pre"].events.of(self.route.units_pre)
            value, z = self.short_term.of_events(z, own, views, clock)
            events = Emitted(value, own.support)
        return z, self.deposits(events)
