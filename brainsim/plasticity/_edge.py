"""`PlasticProjection`: synapses whose weights change by a rule, and live in the state."""

from types import SimpleNamespace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..base import is_traced, to_steps, unknown
from ..core import (
    INSTANT,
    AbstractDeclaredEdge,
    AbstractDelay,
    AbstractDelayed,
    AbstractScheduledEdge,
    AbstractShortTerm,
    Clock,
    Deposit,
    Emitted,
    Endpoint,
    Route,
    by_synapse,
    delay_steps,
    listened,
    ring_depth,
    value_of,
    wire,
    within_line,
)
from ..events import CSR, Dense, DrawnRows, FixedFanout
from ._line import Line
from ._rule import AbstractPlasticity, check_rule
from ._traces import flowed
from ._update import Columns, Ends, Happened, columns_of, updated

_RELEASE = "release."


class PlasticProjection(AbstractDeclaredEdge):
    """Synapses from the events of `pre` to a port of `post` whose weights change by a rule.

    Weights and traces are state: `sol.state.edges["S"]["w"]` has the weights, one per synapse, `bs.Trace("S.w")`
    records them, `bs.synapses_of(net, "S", state=...)` lists them with their ends, and a run that is given a state goes
    on from its weights. The field `weight` is what they begin with. State, `weight` and `delay` are in the order of
    `synapses_of`, so `bs.Trace("S.w", units=bs.synapses_of(net, "S", pre=[0]).index)` records those of unit 0.

    An event of the pre unit at the end of step n reaches the synapse `axonal` later, one of the post unit the rest of
    the delay later (the dendritic part), and what is sent arrives at the start of step `n + 1 + delay / dt`, as of a
    `Projection`. In every step the rule's `on_post` is applied to the synapses that post events reach, then its
    `on_pre` to those that pre events reach, then these deliver, then the traces jump: of events that reach a synapse
    together neither sees the trace of the other. So NEST has it; Brian2's documented form is `deliver="before"` with
    `first="pre"`. Several events of a unit in one step act on a synapse once. The cost follows the synapses of units
    with events.

    Gradients flow through weights, traces and the parameters of the rule, with the events held fixed: the derivative of
    a weight by the time of a spike is left out.

    **Arguments:**

    - `pre`, `post`, `connect`, `max_delay`, `short_term`: as in `Projection`; `connect` stores its synapses.
    - `rule`: a `bs.AbstractPlasticity`, such as `bs.PairSTDP()`.
    - `weight`: what the weights begin with, within the bounds of the rule: number, distribution or one per synapse.
    - `delay`: ms; number, distribution, or one per synapse.
    - `axonal`: the part of the delay before the synapse (ms), one number.
    - `deliver`: `"after"` or `"before"` the update by the same event.
    - `first`: `"post"` or `"pre"`: which part acts first of events that reach a synapse together. With `"pre"` the post
      part sees the jump of the pre traces, as in Brian2.
    - `modulator`: `"D"` or `"D.x"`: a variable of a node (one unit, or one for every post unit) that the rule reads as
      `mod`, after the jump of the step; of a node without a name for it its events.
    - `frozen`: True: weights stay, traces go on. Changed in a network with `eqx.tree_at` without compiling again.

    **Raises:** ValueError or TypeError where weights are not stored (`bs.Procedural`), begin beyond the bounds, or the
    parts of the rule do not fit.
    """

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    rule: AbstractPlasticity = eqx.field(kw_only=True)
    weight: Any = eqx.field(kw_only=True, converter=value_of)
    delay: Any = eqx.field(kw_only=True, converter=value_of, default=0.0)
    max_delay: float | None = eqx.field(kw_only=True, static=True, default=None)
    axonal: float = eqx.field(kw_only=True, static=True, default=0.0)
    deliver: Literal["after", "before"] = eqx.field(kw_only=True, static=True, default="after")
    first: Literal["post", "pre"] = eqx.field(kw_only=True, static=True, default="post")
    modulator: str | None = eqx.field(kw_only=True, static=True, default=None)
    short_term: Any = eqx.field(kw_only=True, default=None)
    frozen: Any = eqx.field(kw_only=True, converter=jnp.asarray, default=False)

    def wire(self, where, nodes, key):
        self._check(where)
        fields = wire(where, self, nodes, key, channels=1)
        if isinstance(fields["connect"], DrawnRows):
            raise TypeError(
                f"{where}.connect draws its synapses anew at every event; expected stored synapses: a weight that "
                "changes has to be kept. Use the rule without bs.Procedural."
            )
        route, order = fields["route"], fields.pop("order")
        n_post = nodes[route.post].size
        self._check_modulator(where, nodes, n_post)
        for name in ("weight", "delay"):  # by synapse, as the state has them
            x = by_synapse(where, name, fields[name], fields["connect"], order)
            fields[name] = jnp.ravel(x) if jnp.ndim(x) else x
        graph = fields["connect"] = _stored(fields["connect"], route, n_post)
        if self.short_term is not None:
            self.short_term.check(where, graph.n_pre)
        clock = Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))
        y, z = jax.eval_shape(nodes[route.post].init, clock)
        check_rule(where, self.rule, [*_variables(y, z)], self.modulator is not None)
        fields |= {name: getattr(self, name) for name in _SHARED}
        delay = fields["delay"]
        out = WiredPlasticProjection(**fields, columns=columns_of(graph, delay if delay.ndim else None))
        self._check_sizes(where, out)
        return out

    def _check(self, where: str) -> None:
        """Raise on fields that cannot be."""
        if not isinstance(self.rule, AbstractPlasticity):
            several = isinstance(self.rule, list | tuple | dict)
            fix = "A weight has one rule: write one with the parts of both." if several else "Pass an instance."
            raise TypeError(f"{where}.rule is {self.rule!r}; expected a rule such as bs.PairSTDP(). {fix}")
        if self.deliver not in ("after", "before"):
            raise ValueError(f"{where}.deliver is {self.deliver!r}; expected 'after' or 'before' the update.")
        if self.first not in ("post", "pre"):
            raise ValueError(f"{where}.first is {self.first!r}; expected 'post' or 'pre', which part acts first.")
        if self.delay is INSTANT or isinstance(self.delay, AbstractDelay):
            raise ValueError(
                f"{where}.delay is {self.delay!r}; expected ms: a rule needs the events of both sides of a step, and "
                "fixed delays. Pass a number, a distribution or one per synapse."
            )
        if not isinstance(self.short_term, AbstractShortTerm | None):
            raise TypeError(f"{where}.short_term is {self.short_term!r}; expected e.g. bs.TsodyksMarkram(), or None.")
        if self.frozen.dtype != bool or self.frozen.ndim:
            raise TypeError(f"{where}.frozen is {self.frozen!r}; expected True or False.")
        if isinstance(self.axonal, bool) or not isinstance(self.axonal, int | float) or not self.axonal >= 0:
            raise ValueError(f"{where}.axonal is {self.axonal!r}; expected one number >= 0 (ms), a part of the delay.")

    def _check_modulator(self, where: str, nodes: Any, n_post: int) -> None:
        if self.modulator is None:
            return
        end = Endpoint.parse(f"{where}.modulator", self.modulator)
        if end.node not in nodes:
            raise ValueError(f"{where}.modulator: {unknown('node', end.node, nodes)}")
        clock = Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))
        known = _variables(*jax.eval_shape(nodes[end.node].init, clock))
        if end.port is not None and end.port not in known:
            raise ValueError(f"{where}.modulator: node {end.node!r}: {unknown('variable', end.port, known)}")
        if nodes[end.node].size not in (1, n_post):
            raise ValueError(
                f"{where}.modulator: {end.node!r} has {nodes[end.node].size} units; expected 1, or one for each of the "
                f"{n_post} post units."
            )

    def _check_sizes(self, where: str, out: "WiredPlasticProjection") -> None:
        """Raise on parameters and initial weights that do not fit."""
        n_post = out.connect.n_post
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.rule):
            if jnp.shape(leaf) not in ((), (n_post,)):
                raise ValueError(
                    f"{where}.rule: {type(self.rule).__name__}{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)};"
                    f" expected () or ({n_post},), one value per post unit."
                )
        low, high = self.rule.bounds
        for bound, beyond, word in ((low, np.less, ">="), (high, np.greater, "<=")):
            if bound is None or is_traced(out.weight) or is_traced(bound) or not np.size(out.weight):
                continue
            bound = np.asarray(bound)
            bound = bound[np.asarray(out.connect.indices)] if bound.ndim and out.weight.ndim else bound
            bad = beyond(np.asarray(out.weight), bound)
            if np.any(bad):
                first = float(np.asarray(out.weight)[bad].flat[0]) if np.ndim(out.weight) else float(out.weight)
                raise ValueError(
                    f"{where}.weight begins with {first:g}; expected weights {word} {float(np.ravel(bound)[0]):g}, the "
                    f"bound of {type(self.rule).__name__}. Mend the weight or the bound."
                )
        if not is_traced(out.delay) and np.size(out.delay) and self.axonal > float(np.min(np.asarray(out.delay))):
            raise ValueError(
                f"{where}.axonal is {self.axonal:g} ms and the shortest delay {float(np.min(np.asarray(out.delay))):g} "
                "ms; expected a part of the delay."
            )


_SHARED = ("rule", "axonal", "deliver", "first", "modulator", "short_term", "frozen")
"""Fields that wiring leaves as they are declared."""


class WiredPlasticProjection(AbstractDelayed):
    """A `PlasticProjection` in a network: a CSR, `weight` and `delay` a number or one by synapse, and the `columns` of
    the graph, by which post events find their synapses."""

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: CSR
    rule: AbstractPlasticity
    weight: Any = eqx.field(converter=value_of)
    delay: Any = eqx.field(converter=value_of)
    max_delay: float = eqx.field(static=True)
    axonal: float = eqx.field(static=True)
    deliver: Literal["after", "before"] = eqx.field(static=True)
    first: Literal["post", "pre"] = eqx.field(static=True)
    modulator: str | None = eqx.field(static=True)
    short_term: AbstractShortTerm | None
    frozen: Any = eqx.field(converter=jnp.asarray)
    columns: Columns
    route: Route = eqx.field(static=True)

    @property
    def reads(self):
        ends = {"pre": self.route.pre, "post": self.route.post} | listened(self.short_term)
        return ends if self.modulator is None else ends | {"mod": Endpoint.parse("edge", self.modulator).node}

    def schedule(self, where, dt):
        steps = delay_steps(self.delay, dt, self.max_delay, self.route.at_end)
        late = _steps(self.axonal, dt)
        targets, columns = self.connect.indices, self.columns
        if steps.ndim and self._depth_post(dt) > 1:  # a post unit is seen at several ages: (unit, age) by number
            age = jnp.maximum(steps - 1 - late, 0)
            targets, columns = columns.by_age(targets, age, self._depth_post(dt))
        return ScheduledPlasticProjection(self, steps, targets, columns, dt)

    def _depth_post(self, dt: float) -> int:
        return ring_depth(max(self.max_delay - self.axonal, 0.0), dt)

    @property
    def delays_fit(self):
        fit = within_line(self.delay, self.max_delay)
        if jnp.ndim(self.delay) == 0:
            return fit
        return fit & self.columns.sorted_by(self.delay)

    def lines(self, dt: float) -> dict[str, Line]:
        """The delay lines, by name: of pre events, and of what is seen of post units."""
        late, depth = _steps(self.axonal, dt), self._depth_post(dt)
        lines = {"line.pre": Line(late + 1)} if late else {}
        if depth > 1:
            kept = ["value", *(name for name, x in self.rule.traces().items() if x.side == "post")]
            lines |= {f"line.{name}": Line(depth) for name in kept}
        return lines

    def init(self, clock):
        n_pre, n_post, n_syn = self.connect.n_pre, self.connect.n_post, self.connect.n_syn
        weight = jnp.asarray(self.weight)
        z = {"w": jnp.broadcast_to(weight, (n_syn,))}
        z |= {name: jnp.full(n_syn, x, weight.dtype) for name, x in self.rule.synapse().items()}
        sizes = {"pre": n_pre, "post": n_post}
        for name, x in self.rule.traces().items():
            z[name] = jnp.full(sizes[x.side], x.start, weight.dtype)
        for name, line in self.lines(clock.step or float(clock.dt)).items():
            width = n_pre if name == "line.pre" else n_post
            z[name] = line.init(z[name[5:]] if name[5:] in z else jnp.zeros(width, weight.dtype))
        if self.short_term is not None:
            z |= {_RELEASE + k: x for k, x in self.short_term.init(n_pre, clock).items()}
        return z


class ScheduledPlasticProjection(AbstractScheduledEdge):
    """A plastic projection at one dt: of every synapse the steps of its delay and where passes see its post unit
    (`targets`, `columns`: by unit, or by unit and age)."""

    wired: WiredPlasticProjection
    steps: Array
    targets: Any
    columns: Columns
    dt: float = eqx.field(static=True)

    @property
    def reads(self):
        return self.wired.reads

    @property
    def writes(self):
        return self.wired.writes

    @property
    def instant(self):
        return False

    @property
    def learns(self):
        return True

    def send(self, z, views, clock):
        edge = self.wired
        rule, specs, fixed, dt = edge.rule, edge.rule.traces(), jax.lax.stop_gradient, clock.dt
        z, lines, axonal = dict(z), edge.lines(self.dt), _steps(edge.axonal, self.dt)
        sent, own, z = self._sent(z, views, lines, clock)
        spikes = {"pre": fixed(own.value), "post": fixed(views["post"].events.value)}
        mod = None if edge.modulator is None else _variable(views["mod"], edge.modulator)
        units = {"pre": {}, "post": _variables(views["post"].y, views["post"].z)}
        seen, jumped = {}, {}
        for side in ("pre", "post"):
            own_specs = {k: x for k, x in specs.items() if x.side == side}
            seen[side] = flowed(own_specs, z, units[side], mod, dt)
            jumped[side] = {k: x.jump(seen[side][k], spikes[side]) for k, x in own_specs.items()}
        due = rule.post_events(spikes["post"], SimpleNamespace(**units["post"], **seen["post"]), dt)
        post = {"value": due.astype(spikes["post"].dtype)} | seen["post"]
        for name, x in post.items():
            if (line := lines.get(f"line.{name}")) is not None:
                z[f"line.{name}"] = ring = line.put(z[f"line.{name}"], x, clock.n)
                late = self.steps - 1 - axonal
                post[name] = line.at(ring, clock.n, late) if self.steps.ndim == 0 else line.by_age(ring, clock.n)
        pre = {"value": spikes["pre"]} | seen["pre"]
        ends = Ends(pre, pre | jumped["pre"] if edge.first == "pre" else pre, post, mod)
        old = {k: z[k] for k in ("w", *rule.synapse())}
        events, first = sent
        now = due is spikes["post"] and "line.value" not in lines
        change, offset = (own, 0) if axonal else views["pre"].events.rows(edge.route.units_pre)
        happened = {
            "on_pre": Happened(change.value, change.words, offset),
            "on_post": Happened(post["value"], views["post"].events.words if now else None),
        }
        new = updated(self, ends, happened, old, clock)
        weight = old["w"] if edge.deliver == "before" else new["w"]
        rows: dict[str, Any] = dict(support=events.support, words=events.words, first=first)
        deposit = Deposit(
            edge.route.post, edge.route.port, events.value, self.steps - axonal, edge.connect, weight, **rows
        )
        return z | new | jumped["pre"] | jumped["post"], [deposit]

    def _sent(self, z, views, lines, clock):
        """What the synapses deliver, with the place of its first unit, the events by which they change, and `z`: of
        now, or of `axonal` ago."""
        release, units = self.wired.short_term, self.wired.route.units_pre
        own, sent = views["pre"].events.of(units), views["pre"].events.rows(units)
        if (line := lines.get("line.pre")) is not None:
            z["line.pre"] = ring = line.put(z["line.pre"], own.value, clock.n)
            own = Emitted(line.at(ring, clock.n, jnp.asarray(line.depth - 1, jnp.int32)), single=own.single)
            sent = own, 0
        if release is None:
            return sent, own, z
        held = {k[len(_RELEASE) :]: x for k, x in z.items() if k.startswith(_RELEASE)}
        value, held = release.of_events(held, own, views, clock)
        return (Emitted(value, own.support), 0), own, z | {_RELEASE + k: x for k, x in held.items()}


def _stored(topology: Any, route: Route, n_post: int) -> CSR:
    """The topology as a CSR onto the whole post population."""
    if isinstance(topology, CSR):
        return topology
    n_pre = topology.n_pre
    if isinstance(topology, Dense):
        row = np.arange(*route.units_post, dtype=np.int32)
        return CSR(np.arange(n_pre + 1) * row.size, np.tile(row, n_pre), n_post)
    assert isinstance(topology, FixedFanout)
    return CSR(np.arange(n_pre + 1) * topology.k, topology.indices.reshape(-1), n_post)


def _steps(duration: float, dt: float) -> int:
    return int(to_steps(np.asarray(duration), dt))


def _variables(y: Any, z: Any) -> dict[str, Any]:
    """The variables of a unit by name."""
    flowing = y.get("unit", {}) if isinstance(y, dict) else {}
    return {k: x for k, x in {**z, **flowing}.items() if k.isidentifier()}


def _variable(view: Any, name: str) -> Any:
    """The variable that a modulator names, (n,) or () of one unit."""
    variable = Endpoint.parse("edge", name).port
    x = view.events.value if variable is None else _variables(view.y, view.z)[variable]
    return x[0] if x.shape[0] == 1 else x
