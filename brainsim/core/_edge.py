"""Edges of a network: what reads the views of nodes and deposits into ports, with delays."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..base import Frozen, Key, parameter
from ..events import AbstractMap, Convolution, Dense, deposit, deposit_all, propagate
from ._delay import AbstractDelay, by_step, spread
from ._distributions import AbstractDistribution
from ._node import AbstractNode
from ._state import Clock, Emitted, NodeState, View, ring_slot
from ._unit import Parametrised
from ._wiring import Endpoint, Part, _Instant, by_synapse, delay_steps, drawn_weight, ring_depth, wire, within_line


class Deposit(eqx.Module):
    """Arrivals on their way: to be added to the ring of `node.port`, `steps` steps from now.

    Either events over a topology, or (topology None) a row `value`; `part` are the units of the port that a row or the
    columns of a `Dense` belong to.
    """

    node: str = eqx.field(static=True)
    port: str = eqx.field(static=True)
    value: Float[Array, "*steps n"]
    steps: Int[Array, "..."]
    topology: Any = None
    weight: Any = None
    support: Array | None = None
    words: Array | None = None
    first: int = eqx.field(static=True, default=0)  # the unit of `value` that is row 0 of the topology
    part: Part | None = eqx.field(static=True, default=None)

    def add_to(
        self, ring: Float[Array, "depth width"], n: Int[Array, ""], every: int = 1
    ) -> Float[Array, "depth width"]:
        """`ring` with this deposit added; `n` is the present step, and the node runs once in `every` steps."""
        each = self.steps if self.steps.ndim else None
        if each is not None and every > 1:
            raise ValueError(
                f"an edge to {self.node}.{self.port} has a delay for every synapse, but the node runs once in {every} "
                "steps (Every); expected one delay. Give the edge a number, or the node another solver."
            )
        slot = ring_slot(n if self.steps.ndim else n + self.steps, ring.shape[0], every)
        rows: dict[str, Any] = dict(support=self.support, words=self.words, first=self.first)
        if self._sparse(ring.shape[1]):
            return deposit(ring, self.topology, self.weight, self.value, **rows, slot=slot, delay=each)
        value = self.value
        if self.topology is not None:
            # without the support: a dense backward pass gains nothing by it, and would keep it for every step
            value = propagate(self.topology, self.weight, value, first=self.first)
        row = jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)
        row = row.at[slice(*self.part)].add(value) if self.part else row + value
        return jax.lax.dynamic_update_index_in_dim(ring, row, slot, 0)

    def _sparse(self, width: int) -> bool:
        """Whether events are sent right into the rings of `width` units: not over a matrix, and not over a convolution
        to some of the units."""
        if isinstance(self.topology, Convolution):
            return self.topology.n_post == width
        return self.topology is not None and not isinstance(self.topology, AbstractMap)

    def add_all(self, rows: Float[Array, "after width"]) -> Float[Array, "after width"]:
        """`rows` with the deposits of consecutive steps added, one to each row of `value`; row t is what arrives at
        step t of them, none of which is late for the last row."""
        n = jnp.arange(self.value.shape[0], dtype=jnp.int32)
        if not self._sparse(rows.shape[1]):
            assert isinstance(self.topology, AbstractMap)
            value = self.value[:, self.first : self.first + self.topology.n_pre]
            sent = self.topology.apply(self.weight, value)
            old = jax.lax.dynamic_slice_in_dim(rows, self.steps, n.size)
            new = old.at[:, slice(*self.part)].add(sent) if self.part else old + sent
            return jax.lax.dynamic_update_slice_in_dim(rows, new, self.steps, 0)
        each = self.steps if self.steps.ndim else None
        slots = n if self.steps.ndim else n + self.steps
        part: dict[str, Any] = dict(words=self.words, first=self.first)
        return deposit_all(rows, self.topology, self.weight, self.value, **part, slots=slots, delay=each)


class AbstractEdge(Frozen):
    """Reads the views of nodes after their jump and sends deposits to ports.

    `resolve` is called once, by `Network`: it checks names and sizes and turns rules into arrays. `at` is called once
    a run: it turns delays in ms into steps.
    """

    @property
    @abc.abstractmethod
    def reads(self) -> dict[str, str]:
        """Role -> node name of every view the edge reads."""

    @property
    def sees(self) -> dict[str, str]:
        """Role -> name of another edge whose state `send` is given under that role, as it was at the start of the step:
        how an edge reads or modulates with what another edge knows. The order of edges stays free."""
        return {}

    @property
    @abc.abstractmethod
    def writes(self) -> tuple[str, str]:
        """(node, port) deposited into; known once resolved."""

    @property
    @abc.abstractmethod
    def instant(self) -> bool:
        """Whether deposits act within the step."""

    @property
    def weights(self) -> tuple[Any, ...]:
        """The weights of the deposits of `send`, in their order, where all share one value and the weights are the same
        in every step (then `deposits` too); () elsewhere."""
        return ()

    @property
    def deferred(self) -> bool:
        """Whether the derivative of `weights` is taken once a segment, not once a step."""
        return bool(self.weights)

    @property
    def learns(self) -> bool:
        """Whether its synapses are state, which row programs change and a backward pass brings back."""
        return False

    def deposits(self, sent: Emitted) -> list[Deposit]:
        """The deposits of what is sent, one for each of `weights`; `sent` has a first axis of steps for `add_all`."""
        raise NotImplementedError(f"{type(self).__name__} has `weights`, so it needs `deposits` too.")

    @abc.abstractmethod
    def resolve(self, where: str, nodes: dict[str, AbstractNode], key: Key | None) -> "AbstractEdge":
        """The edge with names checked and connectivity built."""

    def known(self, dt: float) -> "AbstractEdge":
        """The edge with what it works out for steps of `dt` from numbers, before a run is traced."""
        del dt
        return self

    @abc.abstractmethod
    def at(self, where: str, dt: float) -> "AbstractEdge":
        """The edge with its delays in steps of `dt`."""

    @abc.abstractmethod
    def depth(self, dt: float) -> int:
        """How many rows the ring of the port must have."""

    @property
    def delays_fit(self) -> Bool[Array, ""]:
        """Whether all delays (ms) lie within 0 and `max_delay`. One that does not raises, but where
        it is traced: then it is held at that border, and the run flags the edge."""
        return jnp.asarray(True)

    @abc.abstractmethod
    def init(self, clock: Clock) -> Any:
        """Initial edge state."""

    def begin(
        self, where: str, z: Any, nodes: Mapping[str, AbstractNode], states: Mapping[str, NodeState], dt: float
    ) -> tuple[Any, Float[Array, "steps width"] | None]:
        """`(z, rows)` at time 0, for an edge with a past: its state, and what arrives at its port in the steps -1, 0,
        1, ... because of what was sent before."""
        del where, nodes, states, dt
        return z, None

    @abc.abstractmethod
    def send(self, z: Any, views: dict[str, Any], clock: Clock) -> tuple[Any, list[Deposit]]:
        """The next edge state and the deposits of this step; `views` holds a `View` for each role of `reads` and a
        state for each of `sees`."""


class AbstractShortTerm(Parametrised):
    """Short-term plasticity of release: what each pre unit sends depends on its own recent events.

    Fields are parameters, numbers or arrays of shape (n_pre,); the state `z` is a dict of arrays of shape (n_pre,).
    """

    def check(self, where: str, n_pre: int) -> None:
        """Raise on parameters that do not fit `n_pre` units; `where` names the edge."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(self):
            if jnp.shape(leaf) not in ((), (n_pre,)):
                raise ValueError(
                    f"{where}: {type(self).__name__}{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}; "
                    "expected () or "
                    f"({n_pre},), one value per pre unit."
                )

    @abc.abstractmethod
    def init(self, n_pre: int, clock: Clock) -> dict[str, Array]:
        """Initial state."""

    @property
    def sees(self) -> str | None:
        """The node that it listens to, whose `View` it is given as `seen`."""
        return None

    @abc.abstractmethod
    def release(
        self, z: dict[str, Array], value: Float[Array, " n_pre"], clock: Clock, seen: View | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`(released, z)` at the end of this step, in which the units emitted `value`; called every step."""

    def release_many(
        self, z: dict[str, Array], value: Float[Array, " n_pre"], clock: Clock, seen: View | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """As `release`, of units that may emit several events in one step, one right after the other: `value` is k."""
        return self.release(z, value, clock) if seen is None else self.release(z, value, clock, seen)

    def of_events(self, z: dict[str, Array], own: Emitted, views: dict[str, Any], clock: Clock) -> Any:
        """`(released, z)` of what the pre units emitted, as an edge asks for it."""
        release = self.release if own.single else self.release_many
        return release(z, own.value, clock) if self.sees is None else release(z, own.value, clock, views["release"])


def _value(x: Any) -> Any:
    return x if isinstance(x, AbstractDistribution | AbstractDelay | _Instant) else parameter(x)


def listened(short_term: AbstractShortTerm | None) -> dict[str, str]:
    """The role of the node that a release listens to, as `AbstractEdge.reads` has it."""
    node = None if short_term is None else short_term.sees
    return {} if node is None else {"release": node}


class AbstractWiredEdge(AbstractEdge):
    """What edges from units of `pre` to a port of `post`, over a topology and a line of delays, have in common."""

    pre: eqx.AbstractVar[str]
    delay: eqx.AbstractVar[Any]
    max_delay: eqx.AbstractVar[float | None]
    route: eqx.AbstractVar[Any]

    @property
    def reads(self) -> dict[str, str]:
        return {"pre": Endpoint.parse("edge", self.pre).node}

    @property
    def writes(self) -> tuple[str, str]:
        return self.route.post, self.route.port

    @property
    def instant(self) -> bool:
        return isinstance(self.delay, _Instant)

    def depth(self, dt: float) -> int:
        return ring_depth(self.max_delay, dt)

    @property
    def delays_fit(self) -> Bool[Array, ""]:
        return within_line(self.delay, self.max_delay)


class Projection(AbstractWiredEdge):
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
    weight: Any = eqx.field(kw_only=True, converter=_value)
    delay: Any = eqx.field(kw_only=True, converter=_value, default=0.0)
    max_delay: float | None = eqx.field(kw_only=True, static=True, default=None)
    short_term: Any = eqx.field(kw_only=True, default=None)
    parts: Any = eqx.field(kw_only=True, default=None)  # (weight, steps) of each part of an event, set by `at`
    order: Any = eqx.field(kw_only=True, default=None)  # of every synapse its place in the user's list; None: the same
    route: Any = eqx.field(kw_only=True, static=True, default=None)  # a Route, set by `resolve`

    def resolve(self, where, nodes, key):
        if self.route is not None:
            return self
        if not isinstance(self.short_term, AbstractShortTerm | None):
            raise TypeError(
                f"{where}.short_term is {self.short_term!r}; expected an instance such as bs.TsodyksMarkram(), or None."
            )
        out = dataclasses.replace(self, **wire(where, self, nodes, key, channels=1))
        if self.short_term is not None:
            self.short_term.check(where, out.connect.n_pre)
        return out

    @property
    def reads(self):
        return {"pre": Endpoint.parse("edge", self.pre).node} | listened(self.short_term)

    def by_synapse(self, where: str) -> "Projection":
        """The edge with its weights and delays in the order of the synapses of its topology."""
        own = {
            name: by_synapse(where, name, getattr(self, name), self.connect, self.order) for name in ("weight", "delay")
        }
        return dataclasses.replace(self, order=None, **own)

    def at(self, where, dt):
        self = self.by_synapse(where)
        line = self.depth(dt) - 1
        if isinstance(self.delay, AbstractDelay):
            parts = spread(self.delay, self.weight, dt, self.max_delay or 0.0, line)
        else:
            steps = delay_steps(where, self.delay, dt, self.max_delay, warn=not self.route.delay_drawn)
            parts = ((drawn_weight(self.weight), steps),)
        if isinstance(self.connect, Dense) and parts[0][1].ndim:
            parts = by_step(parts, line)
        # what the parts are made of goes: nothing in a step may depend on it any more
        return dataclasses.replace(self, weight=None, delay=self.delay if self.instant else None, parts=parts)

    @property
    def weights(self):
        return tuple(weight for weight, _ in self.parts)

    @property
    def deferred(self):
        # a dense product costs as much as the addition of its cotangent: nothing to be saved, and events to be kept
        return isinstance(self.connect, Convolution) or not isinstance(self.connect, AbstractMap)

    def deposits(self, sent):
        units, node, port, part = self.route[:4]
        # as `Emitted.rows` has it; what short-term plasticity releases begins with the first unit
        first = units[0] if units and units[2] == 1 and self.short_term is None else 0
        rows: dict[str, Any] = dict(support=sent.support, words=sent.words, first=first)
        return [Deposit(node, port, sent.value, k, self.connect, w, part=part, **rows) for w, k in self.parts]

    def init(self, clock):
        return {} if self.short_term is None else self.short_term.init(self.connect.n_pre, clock)

    def send(self, z, views, clock):
        events, _ = views["pre"].events.rows(self.route.units_pre)
        if self.short_term is not None:
            own = views["pre"].events.of(self.route.units_pre)
            value, z = self.short_term.of_events(z, own, views, clock)
            events = Emitted(value, own.support)
        return z, self.deposits(events)
