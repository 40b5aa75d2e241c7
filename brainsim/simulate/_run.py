"""The compiled run: scans over segments of steps, with the recordings."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .. import fusion
from ..base import vary_with
from ..core import AbstractInput, Network, Parts, Population, Source, State, fitted
from ..events import append, room
from ..solvers import every, prepared, update
from ._adjoint import AbstractAdjoint
from ._cache import noted
from ._count import Count
from ._flags import after_run, before_run
from ._inputs import check_inputs_read
from ._irregular import warning_of_parameters, warning_once_differentiated
from ._observation import AbstractObservation, placed, views_like
from ._parts import counted, flagged
from ._saveat import AbstractRecording, Spikes
from ._solution import Solution, SpikeList, overflow
from ._step import step_core


def _run(
    net: Network,
    state: State,
    inputs: dict[str, Any],
    solvers,
    recordings,
    rooms: dict[str, int],
    n_steps: int,
    adjoint: AbstractAdjoint,
    meter,
) -> Solution:
    """`n_steps` steps of `net`, whose delays are in ms still; `rooms` are the lengths of the lists of spikes, by key.
    Everything but arrays is static."""
    noted()
    check_inputs_read(net, inputs)
    state = before_run(net, fitted(net, state, {name: every(solver) for name, solver in solvers.items()}), inputs)
    by_default = {
        k: x for k, x in net.nodes.items() if isinstance(x, Population) and x.derives_by_default and x.spiking
    }
    seen = [s for r in recordings if isinstance(r, AbstractRecording) for s in r.sources]
    net = warning_of_parameters(net, seen, by_default)
    scheduled = net.at(state.dt).ready()
    own = {name: (scheduled.nodes[name], solver, state.nodes[name]) for name, solver in solvers.items()}
    solvers = {name: prepared(node, solver, now.y, now.z, state.dt) for name, (node, solver, now) in own.items()}
    per_step = {k: x for k, x in inputs.items() if not isinstance(x, AbstractInput) and jnp.ndim(x) == 2}
    lasting = {k: x for k, x in inputs.items() if k not in per_step}
    lists = [r for r in recordings if isinstance(r, Spikes)]
    sampled = [r for r in recordings if isinstance(r, AbstractRecording)]
    followed = [r for r in sampled if isinstance(r, AbstractObservation)]
    rare = [r for r in sampled if r.every > 1 and not isinstance(r, AbstractObservation)]
    members, sizes = scheduled.members, dict(scheduled.sizes)

    def take(which, net, views, state):
        nodes, edges = Parts(net.nodes, net.parts), Parts(state.edges, net.parts)
        return {r.key: r.sample(views, nodes, edges) for r in which}

    def step(params, carry, row, probes, update=update):
        net, (lasting, solvers, lists, sampled) = params
        state, counts, spikes = carry
        state, views, new, sent = step_core(net, state, lasting | row, solvers, probes, update)
        counts = {name: count.plus(new[name]) for name, count in counts.items()}
        now = {}
        for r in lists:
            ids, used = spikes[r.key]
            origin = r.origin(net)
            events = views[origin.node].events
            words = events.words if origin.units is None else None
            spikes = spikes | {r.key: append(ids, used, r.of(events.value, net), words, many=not events.single)}
            now[r.key] = spikes[r.key][1] - used
        return (state, counts, spikes), ((take(sampled, net, views, state), now), sent)

    def part(carry, xs, length):
        carry, held = carry
        first = carry[0].n - state.n
        carry, (samples, now) = adjoint.stretch(
            step, (scheduled, (lasting, solvers, lists, sampled)), carry, xs, length
        )
        seen = {r.key: r.follow(held[r.key], samples[r.key], first, scheduled, state.dt) for r in followed}
        held = {key: after for key, (after, _) in seen.items()}
        return (carry, held), (samples | {key: found for key, (_, found) in seen.items()}, now)

    def thin(kept, ys, first, length):
        (windows, meter_state), (samples, now) = kept, ys
        thinned = {r.key: _thinned(windows[r.key], samples[r.key], first, r) for r in rare}
        observed = {r.key: placed(windows[r.key], samples[r.key], first, length, r.every) for r in followed}
        windows = thinned | observed
        samples = {key: x for key, x in samples.items() if key not in windows}
        return (windows, meter.step(meter_state, (first + length) / n_steps)), (samples, now)

    counts = {
        name: Count.zero((sizes[name],) if name in members else ())
        for name, node in scheduled.nodes.items()
        if node.spiking
    }
    spikes = {r.key: (room(rooms[r.key]), jnp.asarray(0, jnp.int32)) for r in lists}
    held = {r.key: state.recordings[r.key] for r in followed}

    def one_of_each():
        shown = take([*rare, *followed], scheduled, views_like(scheduled, state), state)
        rows, first = jax.tree.map(lambda x: x[None], shown), jnp.zeros((), jnp.int32)
        found = {r.key: r.follow(held[r.key], rows[r.key], first, scheduled, state.dt)[1] for r in followed}
        return shown | {key: x[0] for key, x in found.items()}

    shapes = jax.eval_shape(one_of_each)
    windows = {r.key: _windows(shapes[r.key], n_steps // r.every) for r in (*rare, *followed)}
    # no step raises the flags of edges, or sees the states of recordings
    flags = {name: state.flags[name] for name in scheduled.nodes}
    begin = dataclasses.replace(state, flags=flags, recordings={})
    # under shard_map what a scan carries varies over the axes of all that goes into it, from the start
    carry, kept = vary_with((((begin, counts, spikes), held), (windows, meter.init())), scheduled, per_step, lasting)
    final = adjoint.scan(part, carry, kept, per_step, n_steps, thin)
    ((last, counts, spikes), held), (windows, meter_state), (samples, now) = final
    meter.close(meter_state)
    flags, held = state.flags | last.flags, state.recordings | held
    last = after_run(dataclasses.replace(last, flags=flags, recordings=held))

    totals = counted(scheduled, counts)
    recorded: dict[str, Any] = {r.key: r.result((samples | windows)[r.key], scheduled, state.dt) for r in sampled}
    recorded = warning_once_differentiated(recorded, sampled, scheduled, by_default, state.dt)
    flags = flagged(scheduled, last)
    for r in lists:
        numbers, ids = r.origin(net).units, spikes[r.key][0]
        if isinstance(numbers, range):
            ids = ids * numbers.step + numbers.start
        elif numbers is not None:
            ids = jnp.asarray(numbers, jnp.int32)[ids]
        recorded[r.key] = SpikeList(ids, now[r.key])
        flags[r.key] = overflow(recorded[r.key], state.n)
    sampled_every = {r.key: 1 if isinstance(r, Spikes) else r.every for r in recordings}
    sources = {name: scheduled.nodes[scheduled.unit_range(name)[0]] for name in sizes}
    graded = {k: x.process.graded(inputs.get(k)) for k, x in sources.items() if isinstance(x, Source)}
    origins = {r.key: r.origin(net) for r in recordings}
    return Solution(recorded, last, totals, flags, graded, state.n, sampled_every, sizes, origins, n_steps, state.dt)


_compiled = eqx.filter_jit(_run)


def run(*args: Any) -> Solution:
    """A run, compiled once for the same network, recordings and kinds of input; see `_run`."""
    return _run(*args) if fusion.observing() else _compiled(*args)


def _windows(sample: jax.ShapeDtypeStruct, n: int) -> Array:
    return jnp.zeros((n, *sample.shape), sample.dtype)


def _thinned(windows: Array, rows: Array, first: Int[Array, ""], r: AbstractRecording) -> Array:
    """`windows` with the rows of the steps from `first` on: added up over windows, or those at their ends."""
    length = rows.shape[0]
    if r.summed:
        window = (first + jnp.arange(length, dtype=jnp.int32)) // r.every
        # one row after the other on a CPU, so that a sum is the same however a run is divided
        return windows.at[window].add(rows, indices_are_sorted=True, mode="promise_in_bounds")
    ends = r.every - 1 - first % r.every + r.every * jnp.arange(-(-length // r.every), dtype=jnp.int32)
    window = jnp.where(ends < length, (first + ends) // r.every, windows.shape[0])
    found = rows[jnp.minimum(ends, length - 1)]
    return windows.at[window].set(found, indices_are_sorted=True, unique_indices=True, mode="drop")
