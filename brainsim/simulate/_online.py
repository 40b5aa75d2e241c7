r"""Gradients that are gathered forward in time, with memory independent of the number of steps.

These rules keep no credit that would have to travel backwards through the steps. Of a loss of the recordings they need
one pass for the values and, once the loss is differentiated, a second pass forward that gathers, step by step,

$$\frac{dL}{dw} = \sum_t \ell_t \cdot \varepsilon_t ,$$

with $\ell_t$ the derivative of the loss by what a node holds and emits in step t, through this step alone (recordings
of the step, INSTANT edges, the nodes behind them), and $\varepsilon_t$ what the rule keeps of the past, an eligibility.
All take events in flight as constants: no credit passes through an edge with a delay, though its weights learn.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from .. import fusion
from ..base import Key
from ..core import Clock, Events, Network, Population, ring_slot
from ..events import CSR, Dense, FixedFanout, collect
from ..solvers import advance, flow, noise_of, update
from ._adjoint import AbstractAdjoint
from ._affine import NotAffine, affine
from ._event_loop import discrete
from ._segment import Step, blocked

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
    def start(self, net: Network, name: str, live: list[Array], routes: Arriving) -> Any:
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

    def scan(self, segment, carry, xs, length, report, block):
        return segment(carry, xs, length)

    def stretch(self, step, params, carry, xs, length, block):
        return _gathered(self, step, params, carry, xs, length, block)


def _smooth(tree: Any) -> Any:
    return eqx.filter(tree, eqx.is_inexact_array)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def _gathered(rule: AbstractOnlineAdjoint, step: Step, params, carry, xs, length: int, block: int):
    """The run and its derivative by `rule`."""
    arrays, static = eqx.partition((params, carry, xs, rule), eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    perturbed: list[bool] = []

    def whole(leaves):
        return eqx.combine(jax.tree.unflatten(tree, leaves), static)

    def plain(leaves):
        params, carry, xs, _ = whole(leaves)

        def steps(carry, x):
            carry, (ys, _) = blocked(step, block)(params, carry, x, {})
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
        return tuple(_sweep(step, whole, tree, leaves, wanted, bars, length, block))

    run.defvjp(forward, backward, symbolic_zeros=True)
    return run(*leaves)


def _sweep(step: Step, whole, tree, leaves, wanted: list[bool], bars, length: int, block: int):
    """The derivatives of the wanted leaves, gathered forward in time."""
    params, begun, xs, rule = whole(leaves)
    net, (state, *_) = params[0], begun
    (numbered_net, _), numbered_carry, numbered_xs, _ = jax.tree.unflatten(tree, range(len(leaves)))
    in_carry, in_xs = jax.tree.leaves(numbered_carry), jax.tree.leaves(numbered_xs)
    carry_bar, (samples_bar, _, late_bar) = bars
    n_steps = length * block

    first = jax.tree.map(lambda x: x[0, 0] if block > 1 else x[0], xs)
    sent = jax.eval_shape(lambda: step(params, begun, first, {})[1][1])
    weights, routes, parameters = {}, {}, {}
    for name, edge in net.edges.items():
        numbers = numbered_net.edges[name].weights
        if not edge.weights:
            raise ValueError(
                f"edge {name!r} ({type(edge).__name__}) has weights that change or a coupling, which "
                f"{type(rule).__name__} cannot follow forward in time. Use CheckpointedAdjoint."
            )
        width = state.inbox[edge.writes[0]][edge.writes[1]].shape[1]
        for k, d in zip(numbers, edge.deposits(sent[name]), strict=True):
            weights[k] = name
            if wanted[k]:
                routes.setdefault(edge.writes[0], {})[k] = (edge.writes[1], Synapses(name, d, width), name)
    populations = {name: node for name, node in net.nodes.items() if isinstance(node, Population)}
    if rule.learns_nodes:
        for name in populations:
            own = numbered_net.nodes[name]
            found = jax.tree.leaves((own.unit, own.receptors, own.i_e))
            parameters[name] = [k for k in found if wanted[k]]
    kept_back = {k for found in parameters.values() for k in found} | set(weights) | set(in_carry) | set(in_xs)
    inside = [k for k, w in enumerate(wanted) if w and k not in kept_back]
    rows_wanted = [k for k in in_xs if wanted[k]]

    xs = {k: leaves[k].reshape(n_steps, *leaves[k].shape[2:]) if block > 1 else leaves[k] for k in in_xs}
    samples_bar = jax.tree.map(lambda x: x.reshape(n_steps, *x.shape[2:]) if block > 1 else x, samples_bar)
    traced = [name for name in populations if routes.get(name) or parameters.get(name)]
    past = {}
    for name in {name for by in routes.values() for _, _, name in by.values()}:
        node, port = net.edges[name].writes
        past[name] = jnp.zeros((state.inbox[node][port].shape[0] + 1, *sent[name].value.shape), sent[name].value.dtype)
    kept = {}
    for name in traced:
        live = [leaves[k] for k in parameters.get(name, [])]
        arriving = {k: (port, synapses, past[e]) for k, (port, synapses, e) in routes.get(name, {}).items()}
        kept[name] = rule.start(net, name, live, arriving)
    sums = {k: jnp.zeros_like(x) for k, x in enumerate(leaves) if wanted[k] and k not in {*in_carry, *in_xs}}

    def one(now, t, row, sample_bar):
        """A step and what it adds to the sums."""
        carry, past, kept = now
        here = list(leaves)
        for k, x in zip(in_carry, carry, strict=True):
            here[k] = x
        for k in in_xs:
            here[k] = row[k]

        def local(moving, rows, probes, taps):
            given = list(here)
            for k, x in (moving | rows).items():
                given[k] = x
            params, carry, row, _ = whole(given)
            seen = {}

            def tapped(node, solver, y, z, rings, inp, clock):
                new = update(node, solver, y, z, rings, inp, clock)
                if clock.name not in taps:
                    return new
                arrivals = {p: collect(ring, ring_slot(clock.n, ring.shape[0]))[0] for p, ring in rings.items()}
                seen[clock.name] = (y, z, arrivals, inp, clock)
                smooth, rest = eqx.partition((new.y, new.z), eqx.is_inexact_array)
                held, tree = jax.tree.flatten(smooth)
                by_state, by_event = taps[clock.name]
                smooth = jax.tree.unflatten(tree, [x + tap for x, tap in zip(held, by_state, strict=True)])
                y, z = eqx.combine(smooth, rest)
                events = Events(new.events.value + by_event, new.events.support, new.events.words)
                return new._replace(y=y, z=z, events=events)

            carry, ((samples, _, late), sent) = step(params, carry, row, probes, update=tapped)
            return _smooth((carry, samples, late)), (jax.tree.leaves(carry), seen, sent)

        (net, (_, solvers, *_)), (state, *_), *_ = whole(here)
        moving = {k: leaves[k] for k in inside}
        rows = {k: row[k] for k in rows_wanted}
        probes = {
            (name, port): jnp.zeros(ring.shape[1:], ring.dtype)
            for name in traced
            for port, ring in state.inbox[name].items()
        }
        taps = {}
        for name in traced:
            held = jax.tree.leaves(_smooth((state.nodes[name].y, state.nodes[name].z)))
            taps[name] = ([jnp.zeros_like(x) for x in held], jnp.zeros_like(held[0]))
        _, pull, (carry, seen, sent) = jax.vjp(local, moving, rows, probes, taps, has_aux=True)
        last, whole_block = t == n_steps - 1, jnp.mod(t, block) == block - 1
        bar = (
            jax.tree.map(lambda x: jnp.where(last, x, jnp.zeros_like(x)), carry_bar),
            sample_bar,
            jax.tree.map(lambda x: jnp.where(whole_block, x[t // block], jnp.zeros_like(x[0])), late_bar),
        )
        by_moving, by_row, by_arrival, by_tap = pull(bar)
        past = {k: x.at[jnp.mod(state.n, x.shape[0])].set(sent[k].value) for k, x in past.items()}
        added, kept = dict(by_moving), dict(kept)
        for name in traced:
            y, z, arrivals, inp, clock = seen[name]
            mine = {port: g for (to, port), g in by_arrival.items() if to == name}
            by_state, by_event = by_tap[name]
            own = Local(net.nodes[name], solvers[name], y, z, arrivals, inp, clock, by_state, by_event, mine)
            live = {k: leaves[k] for k in parameters.get(name, [])}

            def replace(values, name=name):
                given = list(here)
                for k, x in values.items():
                    given[k] = x
                return whole(given)[0][0].nodes[name]

            arriving = {k: (port, syn, past[e]) for k, (port, syn, e) in routes.get(name, {}).items()}
            kept[name], more, by_weight = rule.learn(own, kept[name], live, replace, arriving)
            added |= more | by_weight
        return (carry, past, kept), added, by_row

    which = rule.chosen(n_steps)

    def body(carry, x):
        now, sums = carry
        t, row, bar, chosen = x
        if which is None:
            now, added, by_row = one(now, t, row, bar)
        else:
            now, added, by_row = jax.lax.cond(chosen, lambda: one(now, t, row, bar), lambda: quiet(now, row))
        return (now, {k: x + added[k] if k in added else x for k, x in sums.items()}), by_row

    def quiet(now, row):
        """A step without derivatives."""
        carry, past, kept = now
        here = list(leaves)
        for k, x in zip(in_carry, carry, strict=True):
            here[k] = x
        for k in in_xs:
            here[k] = row[k]
        params, full, row_now, _ = whole(here)
        n = full[0].n
        full, (_, sent) = step(params, full, row_now, {})
        past = {k: x.at[jnp.mod(n, x.shape[0])].set(sent[k].value) for k, x in past.items()}
        by_row = {k: jnp.zeros_like(row[k]) for k in rows_wanted}
        return (jax.tree.leaves(full), past, kept), _zeros(sums), by_row

    start = ([leaves[k] for k in in_carry], past, kept)
    steps = jnp.arange(n_steps, dtype=jnp.int32)
    (_, sums), by_rows = jax.lax.scan(body, (start, sums), (steps, xs, samples_bar, which))
    out: list[Any] = [None] * len(leaves)
    for k, x in sums.items():
        out[k] = x
    for k, x in by_rows.items():
        out[k] = x.reshape(leaves[k].shape)
    return out


class SLTTAdjoint(AbstractOnlineAdjoint):
    r"""Spatial learning through time: the state of the nodes is a constant in every step,

    $$v_t = \mathrm{stop}(v_{t-1}) \lambda + W s_t,$$

    so credit goes through the layers of a step (INSTANT edges) and not through the membranes.

    **Arguments:** `k`: derivatives in k steps only, drawn anew for every `key` (SLTT-K); None for all. The sum over the
    k steps is not scaled up, as in the source.

    Source: Meng et al. 2023, doi:10.48550/arXiv.2302.14311, eq. 9 and algorithm 1.
    """

    learns_nodes: ClassVar[bool] = False
    k: int | None = eqx.field(static=True, default=None)
    key: Key | None = None

    def __check_init__(self) -> None:
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise ValueError(f"SLTTAdjoint.k is {self.k!r}; expected a whole number of steps >= 1, or None for all.")
        if self.k is not None and self.key is None:
            raise ValueError("SLTTAdjoint: k steps are drawn at random; give key=jax.random.key(seed).")

    def chosen(self, n_steps):
        if self.k is None or self.key is None:
            return None
        if self.k > n_steps:
            raise ValueError(f"SLTTAdjoint.k is {self.k}, but the run has {n_steps} steps. Lower k.")
        order = jax.random.permutation(jax.lax.stop_gradient(self.key), n_steps)
        return jnp.zeros(n_steps, bool).at[order[: self.k]].set(True)

    def start(self, net, name, live, routes):
        return ()

    def learn(self, local, kept, live, replace, arriving):
        by_weight = {}
        for k, (port, synapses, past) in arriving.items():
            arrived = synapses.arriving(past, local.clock.n)
            by_weight[k] = synapses.summed(synapses.at_post(local.by_arrival[port]) * arrived)
        return kept, {}, by_weight


class EPropAdjoint(AbstractOnlineAdjoint):
    r"""Eligibility propagation: the exact derivative of every unit's own dynamics, reset included, and none through the
    events of others at earlier steps,

    $$\varepsilon_t = \frac{\partial h_t}{\partial h_{t-1}} \varepsilon_{t-1} + \frac{\partial h_t}{\partial w},$$

    with h the state of the post unit. The gradient of backpropagation through time wherever no credit has to pass
    through an edge with a delay; so also that of OSTL. A readout with a memory behind an edge counts with the response
    of the step alone: filter recorded events in the loss instead, which is exact. Memory and time per step: one
    eligibility per synapse and state variable. Learns weights and the parameters of units and receptors; `detach_reset`
    of a population leaves its reset out.

    Source: Bellec et al. 2020, doi:10.1038/s41467-020-17236-y, eq. 1, 13, 14; Bohnstingl et al. 2022,
    doi:10.1109/TNNLS.2022.3153985 (OSTL).
    """

    learns_nodes: ClassVar[bool] = True

    def start(self, net, name, live, routes):
        node = net.nodes[name]
        if not node.elementwise:
            raise ValueError(
                f"EPropAdjoint: the units of population {name!r} flow together, so they have no eligibilities of their "
                "own. Use CheckpointedAdjoint."
            )
        y, z = jax.eval_shape(node.init, Clock.of(name, jnp.asarray(0, jnp.int32), 1.0, jax.random.key(0)))
        held = [x for x in jax.tree.leaves((y, z)) if jnp.issubdtype(x.dtype, jnp.inexact)]
        shape = {k: (s.width,) if s.shared else s.d.weight.shape for k, (_, s, _) in routes.items()}
        by_weight = {k: [jnp.zeros(shape[k], x.dtype) for x in held] for k in routes}
        return [[jnp.zeros((node.size,), x.dtype) for x in held] for _ in live], by_weight

    def learn(self, local, kept, live, replace, arriving):
        smooth, rest = eqx.partition((local.y, local.z), eqx.is_inexact_array)
        held, tree = jax.tree.flatten(smooth)
        clock, solver, inp = local.clock, local.solver, local.inp
        dw = noise_of(local.node, solver, local.y, local.z, clock)

        def unit(held, rows, values):
            node = replace(dict(zip(live, values, strict=True)))
            y, z = node.arrive(*eqx.combine(jax.tree.unflatten(tree, held), rest), rows)
            y, z, events, _ = advance(node, solver, y, z, inp, clock, dw)
            return jax.tree.leaves(_smooth((y, z))), events.value

        operands = (held, local.rows, list(live.values()))
        _, linear = jax.linearize(unit, *operands)
        flat, operand_tree = jax.tree.flatten(operands)

        def by(i):
            """The derivatives, unit by unit, of (state, events) by the i-th operand."""
            ones = [jnp.ones_like(x) if i == j else jnp.zeros_like(x) for j, x in enumerate(flat)]
            return linear(*jax.tree.unflatten(operand_tree, ones))

        d = len(held)
        jacobian = [by(i) for i in range(d)]
        direct = {port: by(d + i) for i, port in enumerate(sorted(local.rows))}
        own = [by(d + len(direct) + i) for i in range(len(live))]

        def grown(before, at, source, drive):
            """Eligibilities after this step, and the derivative that comes with them."""
            state, event = source
            after = [at(x) * drive for x in state]
            emitted = at(event) * drive
            for (to_state, to_event), e in zip(jacobian, before, strict=True):
                after = [a + at(x) * e for a, x in zip(after, to_state, strict=True)]
                emitted = emitted + at(to_event) * e
            total = at(local.by_event) * emitted
            return after, sum((at(g) * a for g, a in zip(local.by_state, after, strict=True)), total)

        before_nodes, before_weights = kept
        nodes, weights, by_live, by_weight = [], {}, {}, {}
        for k, before, source in zip(live, before_nodes, own, strict=True):
            after, total = grown(before, lambda x: x, source, jnp.ones((), held[0].dtype))
            nodes.append(after)
            by_live[k] = jnp.sum(total) if live[k].ndim == 0 else total
        for k, (port, synapses, past) in arriving.items():
            drive = synapses.arriving(past, clock.n)
            weights[k], total = grown(before_weights[k], synapses.at_post, direct[port], drive)
            by_weight[k] = synapses.summed(total)
        return (nodes, weights), by_live, by_weight


class OTTTAdjoint(AbstractOnlineAdjoint):
    r"""Online training through time: a trace per pre unit, through the leak of the post units alone,

    $$\hat a_t = \lambda \hat a_{t-1} + s_t, \qquad \frac{dL}{dW} = \sum_t \hat a_t\, g_t^\top,$$

    with g the derivative of the loss of the step by the potentials before the jump. With synaptic currents, $\lambda$
    is the matrix of the flow. Memory: a trace per pre unit and state variable. Needs populations whose units are alike
    and flow linearly (`LIF`, `CubaLIF`, `LeakyIntegrator` with `ExpCurr` or `Delta`); learns weights, while other
    parameters get the derivative within the step.

    Source: Xiao et al. 2022, doi:10.48550/arXiv.2210.04195, eq. 7-9.
    """

    learns_nodes: ClassVar[bool] = False

    def start(self, net, name, live, routes):
        node: Any = net.nodes[name]
        arrays = [
            jax.tree_util.keystr(path, simple=True, separator=".")
            for path, x in jax.tree_util.tree_leaves_with_path({"unit": node.unit, "receptors": node.receptors})
            if jnp.ndim(x)
        ]
        fix = "Use EPropAdjoint, which has a trace per synapse."
        if arrays:
            raise ValueError(
                f"OTTTAdjoint: population {name!r} has one value of {arrays[0]} per unit, but a trace per pre unit "
                f"serves units that are alike. {fix}"
            )
        try:
            affine(node, discrete(node, 0))
        except NotAffine as e:
            raise ValueError(f"OTTTAdjoint: population {name!r} does not flow linearly: {e}. {fix}") from None
        y = jax.eval_shape(lambda: node.init(Clock.of(name, jnp.asarray(0, jnp.int32), 1.0, jax.random.key(0)))[0])
        return {k: [jnp.zeros(past.shape, x.dtype) for x in jax.tree.leaves(y)] for k, (_, _, past) in routes.items()}

    def learn(self, local, kept, live, replace, arriving):
        node, clock, solver, inp = local.node, local.clock, local.solver, local.inp
        held, tree = jax.tree.flatten(local.y)
        free = discrete(node, 0)

        def leak(held, rows):
            """The flow of a unit that never spikes."""
            y, _ = node.arrive(jax.tree.unflatten(tree, held), free, rows)
            return [x[0] for x in jax.tree.leaves(flow(node, solver, y, free, jnp.zeros_like(inp), clock, None)[0])]

        zero = [jnp.zeros_like(x) for x in held], {port: jnp.zeros_like(x) for port, x in local.rows.items()}
        flat, operand_tree = jax.tree.flatten(zero)

        def by(i):
            ones = [jnp.ones_like(x) if i == j else x for j, x in enumerate(flat)]
            return jax.jvp(leak, zero, jax.tree.unflatten(operand_tree, ones))[1]

        keep = [by(i) for i in range(len(held))]
        enter = {port: by(len(held) + i) for i, port in enumerate(sorted(local.rows))}

        def jump(flowed):
            y, z, events = node.jump(jax.tree.unflatten(tree, flowed), local.z, inp, clock)
            return jax.tree.leaves(_smooth((y, z))), events.value

        dw = noise_of(node, solver, local.y, local.z, clock)
        y, _ = node.arrive(local.y, local.z, local.rows)
        flowed = jax.tree.leaves(flow(node, solver, y, local.z, inp, clock, dw)[0])
        (by_flowed,) = jax.vjp(jump, flowed)[1]((local.by_state, local.by_event))

        traces, by_weight = {}, {}
        for k, (port, synapses, past) in arriving.items():
            rows = past.shape[0]
            now, before = jnp.mod(clock.n, rows), jnp.mod(clock.n - 1, rows)
            trace = [past[now] * x for x in enter[port]]
            for column, a in zip(keep, kept[k], strict=True):
                trace = [x + c * a[before] for x, c in zip(trace, column, strict=True)]
            traces[k] = [a.at[now].set(x) for a, x in zip(kept[k], trace, strict=True)]
            each = [
                synapses.at_post(g) * synapses.arriving(a, clock.n) for g, a in zip(by_flowed, traces[k], strict=True)
            ]
            by_weight[k] = synapses.summed(sum(each[1:], each[0]))
        return traces, {}, by_weight
