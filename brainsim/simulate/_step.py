"""The schedule of one step: arrive, flow, jump, send."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import float_dtype, is_traced
from ..core import (
    AbstractInput,
    Clock,
    Emitted,
    InputState,
    Network,
    NodeState,
    Parts,
    Population,
    ScheduledNetwork,
    State,
    View,
    fitted,
    ring_slot,
)
from ..events import collect, multiplicity, place
from ..solvers import Update, every, fewest, prepared, update
from ._cache import bounded, noted
from ._checks import checked_inputs, checked_solvers
from ._flags import CANNOT_EMIT, NOT_FINITE, SOLVER_FAILED, after_run, before_run, raised
from ._inputs import begun, check_inputs_read, with_input_states


def input_value(source: Any, z: Any, n_units: int, clock: Clock) -> tuple[Array, Any]:
    """The input of one node in this step: `source` is an `AbstractInput`, or an array already at this step."""
    if isinstance(source, AbstractInput):
        return source.value(z, n_units, clock)
    return source, z


@jax.custom_jvp
def probe(ring: Array, change: Array, slot: Array) -> Array:
    """`ring`, with the derivative of the ring with `change` added to its row `slot`."""
    return ring


@probe.defjvp
def _(primals, tangents):
    slot = primals[2]
    row, others = collect(tangents[0], slot)
    return probe(*primals), place(others, row + tangents[1], slot)


def step_core(
    net: ScheduledNetwork,
    state: State,
    inputs: dict[str, Any],
    solvers: dict[str, diffrax.AbstractSolver],
    probes: dict[tuple[str, str], Array] | None = None,
    update: Callable[..., Update] = update,
) -> tuple[State, dict[str, View], dict[str, Array], dict[str, Emitted]]:
    """One step of a network whose delays are already in steps: the state, the views, the number of events by node and
    what every edge with constant `weights` sent.

    Nodes run in the order INSTANT edges ask for; all other deposits arrive at a later step, so their order is free.
    `probes`: by (node, port), what a derivative adds to what arrives. `update`: the step of one node.
    """
    n, dt, probes = state.n, state.dt, probes or {}
    inbox = {node: dict(ports) for node, ports in state.inbox.items()}
    nodes, flags, views, counts = {}, dict(state.flags), {}, {}
    edges, input_states, sent = dict(state.edges), dict(state.inputs), {}

    def send(name):
        edge = net.edges[name]
        clock = Clock.of(name, n, dt, state.key)
        seen: dict[str, Any] = {role: views[node] for role, node in edge.reads.items()}
        seen |= {role: state.edges[other] for role, other in edge.sees.items()}
        edges[name], deposits = edge.send(state.edges[name], seen, clock)
        for d in deposits:
            inbox[d.node][d.port] = d.add_to(inbox[d.node][d.port], n, every(solvers[d.node]))
        if edge.weights:
            sent[name] = Emitted(deposits[0].value, None, deposits[0].words)

    members, sizes = net.members, net.sizes
    least = fewest(node.size for node in net.nodes.values() if isinstance(node, Population))
    instant = {name: edge for name, edge in net.edges.items() if edge.instant}
    for name in net.order:
        node, clock = net.nodes[name], Clock.of(name, n, dt, state.key)
        old = state.nodes[name]
        inp: Array = jnp.zeros((), float_dtype())
        for given in [one for one in (name, *members.get(name, [])) if one in inputs]:
            own = Clock.of(given, n, dt, state.key)
            held = state.inputs.get(given)
            value, following = input_value(inputs[given], held.z if held else None, sizes[given], own)
            inp = value if given == name else _added(inp, node.size, net.parts[given].units, value)
            if held and isinstance(inputs[given], AbstractInput):
                input_states[given] = InputState(following, held.kind)
        for port, ring in inbox[name].items():
            if (name, port) in probes:
                inbox[name][port] = probe(ring, probes[name, port], ring_slot(n, ring.shape[0], every(solvers[name])))
        new = update(node, solvers[name], old.y, old.z, inbox[name], inp, clock, least=least)
        inbox[name], counts[name] = new.rings, new.count
        if name in members:  # events of every unit, summed over each member when the run is over
            value = new.events.value
            counts[name] = (value != 0).astype(jnp.int32) if new.events.single else multiplicity(value)
        flag = raised(state.flags[name], new.failed, SOLVER_FAILED, n)
        flags[name] = raised(flag, new.not_finite, NOT_FINITE if jax.tree.leaves(new.y) else CANNOT_EMIT, n)
        nodes[name], views[name] = NodeState(new.y, new.z), View(new.y, new.z, new.events, inp)
        for edge_name, edge in instant.items():
            if set(edge.reads.values()) <= set(views) and name in edge.reads.values():
                send(edge_name)
    for edge_name in net.edges:
        if edge_name not in instant:
            send(edge_name)
    state = State(n + 1, state.key, nodes, edges, inbox, input_states, state.recordings, flags, dt)
    return state, Parts(views, net.parts), counts, sent


def _added(inp: Array, n_units: int, units: slice, value: Array) -> Array:
    return jnp.broadcast_to(inp, (n_units,)).at[units].add(value)


@eqx.filter_jit
def _step(net, state, inputs, given):
    check_inputs_read(net, inputs)
    state = before_run(net, fitted(net, state, {name: every(solver) for name, solver in given.items()}), inputs)
    noted()
    scheduled = net.at(state.dt).ready()
    own = {name: (scheduled.nodes[name], solver, state.nodes[name]) for name, solver in given.items()}
    solvers: dict[str, Any] = {
        name: prepared(node, solver, now.y, now.z, state.dt) for name, (node, solver, now) in own.items()
    }
    state, views, *_ = step_core(scheduled, state, inputs, solvers)
    return after_run(state), {name: views[name].events for name in net.sizes}


def step(
    net: Network, state: State, inputs: dict[str, Any] | None = None, *, solver: Any = None
) -> tuple[State, dict[str, Emitted]]:
    """One step of `net`: for closed loops, and for an ANN in the loop.

    **Arguments:** `state`: from `initial_state`, a run or an earlier step; it knows `dt`. `inputs`: node -> input of
    this step, shape () or (n,), or an `AbstractInput`. `solver`: as in `simulate`.

    **Returns:** the next state and the events of every node, by all names it goes by.
    """
    solvers = checked_solvers(net, solver)
    inputs = checked_inputs(net, inputs or {}, n_steps=None)
    state = with_input_states(net, begun("step", net, state, None, None), inputs)
    after = _step(net.known(float(state.dt)), state, inputs, solvers)
    if not is_traced(state.n):
        bounded()
    return after
