r"""Gradients that are gathered forward in time, with memory independent of the number of steps.

These rules keep no credit that would have to travel backwards through the steps. Of a loss of the recordings they need
one pass for the values and, once the loss is differentiated, a second pass forward that gathers, step by step,

$$\frac{dL}{dw} = \sum_t \ell_t \cdot \varepsilon_t ,$$

with $\ell_t$ the derivative of the loss by what a node holds and emits in step t, through this step alone (recordings
of the step, INSTANT edges, the nodes behind them), and $\varepsilon_t$ what the rule keeps of the past, an eligibility.
All take events in flight as constants: no credit passes through an edge with a delay, though its weights learn.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import fusion
from ..base.jax_internals import SymbolicZero
from ..core import Clock, Emitted, Population, ScheduledNetwork, ring_slot
from ..events import CSR, Dense, FixedFanout, collect
from ..solvers import every, update
from ._adjoint import AbstractAdjoint, in_one
from ._segment import Step

Leaves = list[Float[Array, " n"]]
Arriving = dict[int, tuple[str, "Synapses", Float[Array, "rows n_pre"]]]
"""By number of a weight leaf: the port, the synapses and what was sent in past steps."""


class Synapses:
    """The synapses of one deposit: which pre unit feeds each of its weights, and which post unit each acts on.

    A weight that all share acts, through the sum of what arrives, on every post unit.
    """

    def __init__(self, name: str, d: Any, width: int) -> None:
        topology, self.d, self.width = d.topology, d, width
        self.shared = d.weight.ndim == 0
        if isinstance(topology, Dense):
            units = jnp.arange(width, dtype=jnp.int32)[slice(*d.part)] if d.part else jnp.arange(width, dtype=jnp.int32)
            self.pre: Array = jnp.arange(topology.n_pre, dtype=jnp.int32)[:, None]
            self.post: Array = units[None, :]
        elif isinstance(topology, CSR | FixedFanout):
            each = jnp.arange(topology.n_pre, dtype=jnp.int32)
            counts = jnp.diff(topology.indptr) if isinstance(topology, CSR) else jnp.full(topology.n_pre, topology.k)
            pre = jnp.repeat(each, counts, total_repeat_length=topology.n_syn)
            self.pre, self.post = pre.reshape(topology.indices.shape), topology.indices
        else:
            raise ValueError(
                f"edge {name!r} draws its synapses anew at every spike, so no rule can follow their weights forward in "
                "time. Use the rule without Procedural, or CheckpointedAdjoint."
            )

    def arriving(self, past: Float[Array, "rows n_pre"], n: Int[Array, ""]) -> Array:
        """What each weight multiplies in step `n`: `past` holds what was sent in step m in row m modulo its rows."""
        rows, k = past.shape[0], self.d.steps
        pre = self.d.first + self.pre
        x = past[jnp.mod(n - k, rows)][pre] if k.ndim == 0 else past[jnp.mod(n - k.reshape(self.pre.shape), rows), pre]
        if self.shared:
            x = jnp.broadcast_to(x, jnp.broadcast_shapes(self.pre.shape, self.post.shape))
            return jnp.zeros(self.width, past.dtype).at[jnp.broadcast_to(self.post, x.shape)].add(x)
        return x

    def at_post(self, x: Float[Array, " width"]) -> Array:
        """The value of the post unit of every weight."""
        return x if self.shared else x[self.post]

    def summed(self, x: Array) -> Array:
        """The derivative by the weights, of that by each."""
        return jnp.sum(x) if self.shared else jnp.broadcast_to(x, self.d.weight.shape)


class Local(eqx.Module):
    """A population in one step: what it began with, and `by_state`, `by_event`, `by_arrival`: the derivatives of the
    loss by its next state, its events and the arrivals at its ports."""

    node: Population
    solver: Any
    y: Any
    z: Any
    rows: dict[str, Array]
    inp: Array
    clock: Clock
    by_state: Leaves
    by_event: Array
    by_arrival: dict[str, Array]


class AbstractOnlineAdjoint(AbstractAdjoint):
    """A rule with an eligibility per weight; see the module. Reverse mode only. Initial values are constants, and so is
    the final state but for the last step."""

    learns_nodes: eqx.AbstractClassVar[bool]
    """Whether the rule has eligibilities for the parameters of units and receptors too; else their derivative is that
    within the step, as is that of inputs."""

    @abc.abstractmethod
    def start(self, net: ScheduledNetwork, name: str, live: list[Array], routes: Arriving) -> Any:
        """Eligibilities at the beginning, for population `name`: of its parameters `live` and of the weights of
        `routes`."""

    @abc.abstractmethod
    def learn(
        self,
        local: Local,
        kept: Any,
        live: dict[int, Array],
        replace: Any,
        arriving: Arriving,
    ) -> tuple[Any, dict[int, Array], dict[Any, Array]]:
        """Eligibilities after this step, and what it adds to the derivatives by `live` and by the weights."""

    def chosen(self, n_steps: int) -> Any:
        """None, or in which steps there is a derivative, (n_steps,)."""
        return None

    def scan(self, segment, carry, kept, xs, length, thin):
        return in_one(segment, carry, kept, xs, length, thin)

    def stretch(self, step, params, carry, xs, length):
        return _gathered(self, step, params, carry, xs, length)


def smooth_part(tree: Any) -> Any:
    return eqx.filter(tree, eqx.is_inexact_array)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _gathered(rule: AbstractOnlineAdjoint, step: Step, params, carry, xs, length: int):
    """The run and its derivative by `rule`."""
    arrays, static = eqx.partition((params, carry, xs, rule), eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    perturbed: list[bool] = []

    def whole(leaves):
        return eqx.combine(jax.tree.unflatten(tree, leaves), static)

    def plain(leaves):
        params, carry, xs, _ = whole(leaves)

        def steps(carry, x):
            carry, (ys, _) = step(params, carry, x, {})
            return carry, ys

        return fusion.scan(steps, carry, xs, length)

    @jax.custom_vjp
    def run(*leaves):
        return plain(leaves)

    def forward(*primals):
        perturbed[:] = [p.perturbed for p in primals]
        leaves = [p.value for p in primals]
        return plain(leaves), leaves

    def backward(leaves, bars):
        shapes = jax.eval_shape(plain, leaves)
        bars = jax.tree.map(
            lambda bar, x: (
                (jnp.zeros(x.shape, x.dtype) if isinstance(bar, SymbolicZero) else bar)
                if jnp.issubdtype(x.dtype, jnp.inexact)
                else None
            ),
            bars,
            shapes,
            is_leaf=lambda x: isinstance(x, SymbolicZero),
        )
        wanted = [p and eqx.is_inexact_array(x) for p, x in zip(perturbed, leaves, strict=True)]
        return tuple(_Sweep(step, whole, tree, leaves, wanted, length).gathered(bars))

    run.defvjp(forward, backward, symbolic_zeros=True)
    return run(*leaves)


class _Sweep:
    """The pass forward in time that gathers the derivatives of the wanted leaves; leaves go by their numbers."""

    def __init__(self, step: Step, whole, tree, leaves, wanted: list[bool], n_steps: int) -> None:
        self.step, self.whole, self.leaves, self.wanted = step, whole, leaves, wanted
        self.n_steps = n_steps
        params, begun, xs, self.rule = whole(leaves)
        self.net, (self.state, *_) = params[0], begun
        (self.numbered, (_, self.solvers, *_)), carry, rows, _ = jax.tree.unflatten(tree, range(len(leaves)))
        self.in_carry, self.in_xs = jax.tree.leaves(carry), jax.tree.leaves(rows)
        first = jax.tree.map(lambda x: x[0], xs)
        self.sent = jax.eval_shape(lambda: step(params, begun, first, {})[1][1])
        populations = [name for name, node in self.net.nodes.items() if isinstance(node, Population)]
        weights, self.routes = self._weights()
        self.parameters = self._parameters(populations) if self.rule.learns_nodes else {}
        self.traced = [name for name in populations if self.routes.get(name) or self.parameters.get(name)]
        elsewhere = {k for found in self.parameters.values() for k in found} | weights | {*self.in_carry, *self.in_xs}
        self.inside = [k for k, w in enumerate(wanted) if w and k not in elsewhere]
        """What has its derivative within a step."""

    def _weights(self) -> tuple[set[int], dict[str, dict[int, tuple[str, Synapses, str]]]]:
        """All weights; and by population and number of those wanted, their port, synapses and edge."""
        weights, routes = set(), {}
        for name, edge in self.net.edges.items():
            if not edge.weights:
                raise ValueError(
                    f"edge {name!r} ({edge.kind}) has weights that change or a coupling, which "
                    f"{type(self.rule).__name__} cannot follow forward in time. Use CheckpointedAdjoint."
                )
            node, port = edge.writes
            width = self.state.inbox[node][port].shape[1]
            for k, d in zip(self.numbered.edges[name].weights, edge.deposits(self.sent[name]), strict=True):
                weights.add(k)
                if self.wanted[k]:
                    routes.setdefault(node, {})[k] = (port, Synapses(name, d, width), name)
        return weights, routes

    def _parameters(self, populations: list[str]) -> dict[str, list[int]]:
        """By population, the parameters that are wanted."""
        own = {name: self.numbered.nodes[name] for name in populations}
        # what the solver has worked out of the parameters is differentiated as they are: a derivative by it goes on
        found = {name: jax.tree.leaves((x.unit, x.receptors, x.i_e, self.solvers[name])) for name, x in own.items()}
        return {name: [k for k in numbers if self.wanted[k]] for name, numbers in found.items()}

    def _arriving(self, name: str, past: dict[str, Array]) -> Arriving:
        return {k: (port, synapses, past[edge]) for k, (port, synapses, edge) in self.routes.get(name, {}).items()}

    def _live(self, name: str) -> dict[int, Array]:
        return {k: self.leaves[k] for k in self.parameters.get(name, [])}

    def gathered(self, bars) -> list[Any]:
        """The derivatives by all leaves, None where not wanted, from those by what comes out of the run."""
        leaves, n_steps = self.leaves, self.n_steps
        carry_bar, (samples_bar, _) = bars
        xs = {k: leaves[k] for k in self.in_xs}
        past = {}
        for name in {edge for by in self.routes.values() for _, _, edge in by.values()}:
            (node, port), value = self.net.edges[name].writes, self.sent[name].value
            past[name] = jnp.zeros((self.state.inbox[node][port].shape[0] + 1, *value.shape), value.dtype)
        kept = {
            name: self.rule.start(self.net, name, list(self._live(name).values()), self._arriving(name, past))
            for name in self.traced
        }
        own = [k for k, w in enumerate(self.wanted) if w and k not in {*self.in_carry, *self.in_xs}]
        sums = {k: jnp.zeros_like(leaves[k]) for k in own}
        which = self.rule.chosen(n_steps)

        def body(carry, x):
            now, sums = carry
            t, row, sample_bar, chosen = x

            def with_derivatives():
                last = t == n_steps - 1
                at_end = jax.tree.map(lambda x: jnp.where(last, x, jnp.zeros_like(x)), carry_bar)
                return self.learnt(now, row, (at_end, sample_bar))

            if which is None:
                now, added, by_row = with_derivatives()
            else:  # a branch adds zeros to whatever the other adds to
                full = lambda now, added, by_row: (now, _zeros(sums) | added, by_row)  # noqa: E731
                now, added, by_row = jax.lax.cond(
                    chosen, lambda: full(*with_derivatives()), lambda: full(*self.quiet(now, row))
                )
            return (now, {k: x + added[k] if k in added else x for k, x in sums.items()}), by_row

        begin = ([leaves[k] for k in self.in_carry], past, kept)
        steps = jnp.arange(n_steps, dtype=jnp.int32)
        (_, sums), by_rows = jax.lax.scan(body, (begin, sums), (steps, xs, samples_bar, which))
        found = sums | by_rows
        return [found.get(k) for k in range(len(leaves))]

    def _here(self, carry: list[Array], row: dict[int, Array]) -> list[Any]:
        """All leaves, as they are in a step."""
        here = dict(enumerate(self.leaves)) | dict(zip(self.in_carry, carry, strict=True)) | row
        return [here[k] for k in range(len(self.leaves))]

    def _remembered(self, past: dict[str, Array], n: Array, sent: dict[str, Emitted]) -> dict[str, Array]:
        return {k: x.at[jnp.mod(n, x.shape[0])].set(sent[k].value) for k, x in past.items()}

    def quiet(self, now, row):
        """A step without derivatives."""
        carry, past, kept = now
        params, full, row_now, _ = self.whole(self._here(carry, row))
        n = full[0].n
        full, (_, sent) = self.step(params, full, row_now, {})
        by_row = {k: jnp.zeros_like(row[k]) for k in self.in_xs if self.wanted[k]}
        return (jax.tree.leaves(full), self._remembered(past, n, sent), kept), {}, by_row

    def learnt(self, now, row, bar):
        """A step, what it adds to the sums, and the derivatives by its own inputs."""
        carry, past, kept = now
        here = self._here(carry, row)
        (net, (_, solvers, *_)), (state, *_), *_ = self.whole(here)
        for name in self.traced:
            if every(solvers[name]) > 1:
                raise ValueError(
                    f"{type(self.rule).__name__}: node {name!r} runs once in {every(solvers[name])} steps (Every), "
                    "which online rules do not follow. Use CheckpointedAdjoint."
                )

        def local(moving, rows, probes, taps):
            given = list(here)
            for k, x in (moving | rows).items():
                given[k] = x
            params, carry, row, _ = self.whole(given)
            seen = {}
            carry, ((samples, _), sent) = self.step(params, carry, row, probes, update=_tapped(taps, seen))
            return smooth_part((carry, samples)), (jax.tree.leaves(carry), seen, sent)

        moving = {k: self.leaves[k] for k in self.inside}
        rows = {k: row[k] for k in self.in_xs if self.wanted[k]}
        probes, taps = {}, {}
        for name in self.traced:
            probes |= {(name, port): jnp.zeros_like(ring[0]) for port, ring in state.inbox[name].items()}
            held = jax.tree.leaves(smooth_part((state.nodes[name].y, state.nodes[name].z)))
            taps[name] = ([jnp.zeros_like(x) for x in held], jnp.zeros_like(held[0]))
        _, pull, (carry, seen, sent) = jax.vjp(local, moving, rows, probes, taps, has_aux=True)
        by_moving, by_row, by_arrival, by_tap = pull(bar)
        past = self._remembered(past, state.n, sent)
        added, kept = dict(by_moving), dict(kept)
        for name in self.traced:
            by_port = {port: g for (to, port), g in by_arrival.items() if to == name}
            y, z, arrivals, inp, clock = seen[name]
            by_state, by_event = by_tap[name]
            own = Local(net.nodes[name], solvers[name], y, z, arrivals, inp, clock, by_state, by_event, by_port)

            def replace(values, name=name):
                given = list(here)
                for k, x in values.items():
                    given[k] = x
                (net, (_, solvers, *_)), *_ = self.whole(given)
                return net.nodes[name], solvers[name]

            arriving = self._arriving(name, past)
            kept[name], by_live, by_weight = self.rule.learn(own, kept[name], self._live(name), replace, arriving)
            added |= by_live | by_weight
        return (carry, past, kept), added, by_row


def _tapped(taps: dict[str, tuple[Leaves, Array]], seen: dict[str, tuple]) -> Any:
    """The step of one node with `taps` added to its next state and its events; `seen` is told what it began with."""

    def step(node, solver, y, z, rings, inp, clock, **how):
        new = update(node, solver, y, z, rings, inp, clock, **how)
        if clock.name not in taps:
            return new
        arrivals = {p: collect(ring, ring_slot(clock.n, ring.shape[0]))[0] for p, ring in rings.items()}
        seen[clock.name] = (y, z, arrivals, inp, clock)
        smooth, rest = eqx.partition((new.y, new.z), eqx.is_inexact_array)
        held, tree = jax.tree.flatten(smooth)
        by_state, by_event = taps[clock.name]
        smooth = jax.tree.unflatten(tree, [x + tap for x, tap in zip(held, by_state, strict=True)])
        y, z = eqx.combine(smooth, rest)
        events = new.events
        events = Emitted(events.value + by_event, events.support, events.words, events.single)
        return new._replace(y=y, z=z, events=events)

    return step
