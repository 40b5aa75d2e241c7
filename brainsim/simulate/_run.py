"""The compiled run: one scan over blocks of steps, with the recordings."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..core import AbstractInput, Network, Parts, State
from ..events import append, room
from ..solvers import update
from ._adjoint import AbstractAdjoint
from ._parts import counted, flagged
from ._saveat import AbstractRecording, Spikes
from ._solution import Solution, SpikeList
from ._step import step_core


@eqx.filter_jit
def run(
    net: Network,
    state: State,
    inputs: dict[str, Any],
    solvers,
    recordings,
    n_steps: int,
    adjoint: AbstractAdjoint,
    meter,
):
    """`n_steps` steps of `net`, whose delays are in ms still. Everything but arrays is static."""
    net = net.at(state.dt)
    per_step = {k: x for k, x in inputs.items() if not isinstance(x, AbstractInput) and jnp.ndim(x) == 2}
    lasting = {k: x for k, x in inputs.items() if k not in per_step}
    lists = [r for r in recordings if isinstance(r, Spikes)]
    sampled = [r for r in recordings if isinstance(r, AbstractRecording)]
    # Recordings of every step are outputs of the inner scan, the others of the outer one, whose blocks they all divide.
    block = math.gcd(*(r.every for r in sampled if r.every > 1)) or 1
    each = [r for r in sampled if r.every == 1]
    rare = [r for r in sampled if r.every > 1]

    members, sizes = net.members, dict(net.sizes)

    def take(which, net, views, state):
        nodes = net.nodes | {m: net.nodes[name] for name in members for m in members[name]}
        return {r.key: r.sample(views, nodes, Parts(state.edges, net.parts)) for r in which}

    def step(params, carry, row, probes, update=update):
        net, (lasting, solvers, lists, each, rare) = params
        state, counts, spikes = carry
        state, views, new, sent = step_core(net, state, lasting | row, solvers, probes, update)
        counts = {name: count + new[name] for name, count in counts.items()}
        now = {}
        for r in lists:
            ids, used = spikes[r.key]
            events = views[r.node].events
            spikes = spikes | {r.key: append(ids, used, events.value, events.words)}
            now[r.key] = spikes[r.key][1] - used
        ys = (take(each, net, views, state), now, take(rare, net, views, state))
        return (state, counts, spikes), (ys, sent)

    def part(carry, xs, length):
        inner, meter_state = carry
        inner, ys = adjoint.stretch(step, (net, (lasting, solvers, lists, each, rare)), inner, xs, length, block)
        return (inner, meter_state), ys

    def report(carry, done):
        inner, meter_state = carry
        return inner, meter.step(meter_state, done / n_blocks)

    n_blocks = n_steps // block
    counts = {name: jnp.zeros((sizes[name],) if name in members else (), jnp.int32) for name in net.nodes}
    spikes = {r.key: _empty(r, net, n_steps, state.dt) for r in lists}
    xs = jax.tree.map(lambda x: x.reshape(n_blocks, block, *x.shape[1:]) if block > 1 else x, per_step)
    carry = ((state, counts, spikes), meter.init())
    carry, (samples, now, late) = adjoint.scan(part, carry, xs, n_blocks, report, block)
    (final, counts, spikes), meter_state = carry
    meter.close(meter_state)

    recorded: dict[str, Any] = {}
    if block > 1:
        samples, now = jax.tree.map(lambda x: x.reshape(n_steps, *x.shape[2:]), (samples, now))
    recorded |= samples
    for r in rare:
        skip = r.every // block
        recorded[r.key] = late[r.key][skip - 1 :: skip]
    for r in lists:
        recorded[r.key] = SpikeList(spikes[r.key][0], now[r.key])
    every = {r.key: 1 if isinstance(r, Spikes) else r.every for r in recordings}
    return Solution(
        recorded, final, counted(net, counts), flagged(net, final), state.n, every, sizes, n_steps, state.dt
    )


def _empty(r: Spikes, net: Network, n_steps: int, dt: float):
    return room(r.capacity(net, n_steps, dt)), jnp.asarray(0, jnp.int32)
