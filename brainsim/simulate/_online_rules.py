"""The rules that gather gradients forward in time, each with what it keeps of the past."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..base import Key
from ..core import Clock, Structure
from ..solvers import advance, flow, noise_of
from ._affine import NotAffine, affine
from ._event_loop import discrete
from ._online import AbstractOnlineAdjoint, smooth_part


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
        if node.structure is not Structure.DIAGONAL:
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
            node, solver = replace(dict(zip(live, values, strict=True)))
            y, z = node.arrive(*eqx.combine(jax.tree.unflatten(tree, held), rest), rows)
            y, z, events, _ = advance(node, solver, y, z, inp, clock, dw)
            return jax.tree.leaves(smooth_part((y, z))), events.value

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
        if late := [port for port in node.ports if node.at_end(port)]:
            raise ValueError(
                f"OTTTAdjoint: port {name}.{late[0]} adds what arrives at the end of a step, which its traces do not "
                f"follow. {fix}"
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
            return jax.tree.leaves(smooth_part((y, z))), events.value

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
