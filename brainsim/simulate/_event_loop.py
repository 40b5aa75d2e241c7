"""The loop of `simulate_events`: from one event of a network to the next."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..base import float_dtype
from ..core import AbstractDelay, Clock, Network, Population, Source, State, WiredProjection, listed
from ..events import Dense, FixedFanout
from ..neurons import Regular, StepCurrent
from ._adjoint import segment_length
from ._affine import Flow, Guard, affine, first_crossing, polished
from ._cache import noted
from ._solution import EventSolution


class _Lines(eqx.Module):
    """The delay lines of one edge: line l carries the spikes of unit `pre[l]`, `delay[l]` ms late, to `post[l]` with
    `weight[l]`, or (post None) to all units of the port with the row `weight[l]`."""

    source: str = eqx.field(static=True)
    node: str = eqx.field(static=True)
    port: str = eqx.field(static=True)
    pre: Int[Array, " lines"]
    delay: Float[Array, " lines"]
    weight: Float[Array, "lines ..."]
    post: Int[Array, " lines"] | None
    width: int = eqx.field(static=True)

    def row(self, line: Int[Array, ""]) -> Float[Array, " width"]:
        """What an event of `line` adds to the port."""
        if self.post is None:
            return self.weight[line]
        return jnp.zeros(self.width, self.weight.dtype).at[self.post[line]].add(self.weight[line])


class _Cells(eqx.Module):
    """A population as the event loop needs it."""

    node: Population
    free: tuple[Flow, Guard]
    held: Flow | None
    """The flow in the refractory period, where there is one."""

    def offset(self, tree: Any, x: list[Array], inp: Array, refractory: int) -> list[Array]:
        """b of the equations, under the input `inp`."""
        zero = jax.tree.unflatten(tree, [jnp.zeros_like(v) for v in x])
        return jax.tree.leaves(self.node.vector_field(zero, self.z(refractory), inp))

    def z(self, refractory: Any) -> dict[str, Array]:
        """The discrete state: whether the units are in the refractory period."""
        return discrete(self.node, refractory)


class _Now(NamedTuple):
    """What changes from event to event."""

    t: Array
    y: dict[str, Any]
    until: dict[str, Array]  # end of the refractory period of every unit
    times: dict[str, Array]
    counts: dict[str, Array]
    pointers: dict[str, Array]  # per line: which spike of its pre unit arrives next
    changes: dict[str, Array]  # per input: which of its steps comes next
    n: Array
    lost: Array


def discrete(node: Population, refractory: Any) -> dict[str, Array]:
    """The discrete state of a population whose refractory counters are `refractory`."""
    _, z = node.init(Clock.of("", jnp.asarray(0, jnp.int32), 1.0, jax.random.key(0)))
    return {name: jnp.broadcast_to(jnp.asarray(refractory, x.dtype), x.shape) for name, x in z.items()}


def _lines(edge: WiredProjection, width: int) -> _Lines:
    """The delay lines of an edge whose ports are `width` wide: one a pre unit where there is one delay."""
    edge = edge.by_synapse("edge")
    delay: Any = jnp.zeros((), float_dtype()) if edge.instant else edge.delay
    if isinstance(delay, AbstractDelay):  # beyond the line it counts as at its end, with the derivative there
        delay = delay.d + jax.lax.stop_gradient(jnp.clip(delay.d, 0.0, edge.max_delay) - delay.d)
    if isinstance(edge.connect, Dense) and delay.ndim:
        edge = listed(edge, width)
    route, connect = edge.route, edge.connect
    start, _, step = route.units_pre or (0, 0, 1)
    n_pre = connect.n_pre
    if isinstance(connect, Dense):
        first, _, stride = route.units_post
        into = jnp.arange(connect.n_post, dtype=jnp.int32) * stride + first
        rows = jnp.zeros((n_pre, width), edge.weight.dtype).at[:, into].set(edge.weight)
        pre, post = jnp.arange(n_pre, dtype=jnp.int32), None
    else:
        post = connect.indices.reshape(-1)
        each = jnp.arange(n_pre, dtype=jnp.int32)
        counts = jnp.full(n_pre, connect.k) if isinstance(connect, FixedFanout) else jnp.diff(connect.indptr)
        pre = jnp.repeat(each, counts, total_repeat_length=connect.n_syn)
        rows = jnp.broadcast_to(edge.weight.reshape(-1) if edge.weight.ndim else edge.weight, (connect.n_syn,))
        if delay.ndim == 0:
            rows, pre, post = jnp.zeros((n_pre, width), rows.dtype).at[pre, post].add(rows), each, None
    late = jnp.broadcast_to(delay.reshape(-1) if delay.ndim else delay, pre.shape)
    return _Lines(edge.reads["pre"], route.post, route.port, start + step * pre, late, rows, post, width)


def _source_times(process: Any, size: int, max_spikes: int, t1: Array) -> tuple[Array, Array]:
    """The spike times of a source, (n, max_spikes), `inf` where there are no more, and their numbers (n,)."""
    if isinstance(process, Regular):
        period, phase = (jnp.broadcast_to(x, (size,)) for x in (process.period, process.phase))
        first = jnp.where(phase > 0, 0, 1)  # none at t = 0
        slot = jnp.broadcast_to(jnp.arange(max_spikes), (size, max_spikes)) + first[:, None]
        times = phase[:, None] + period[:, None] * slot.astype(period.dtype)
        counts = jnp.floor((t1 - phase) / period).astype(jnp.int32) + 1 - first
        return jnp.where(times <= t1, times, jnp.inf), jnp.maximum(counts, 0)
    # k-th of its unit: how many earlier entries have the same unit; the list is sorted in time
    ids, own = process.ids, jnp.ones(process.ids.shape, jnp.int32)
    order = jnp.argsort(ids, stable=True)
    counts = jnp.zeros(size, jnp.int32).at[ids].add(own)
    starts = jnp.cumsum(counts) - counts
    rank = jnp.zeros_like(ids).at[order].set(jnp.arange(ids.shape[0], dtype=ids.dtype) - starts[ids[order]])
    times = jnp.full((size, max_spikes), jnp.inf, process.times.dtype)
    return times.at[ids, rank].set(process.times, mode="drop"), counts


@eqx.filter_jit
def run_events(
    net: Network,
    state: State,
    inputs: dict[str, Any],
    t1: Array,
    resting: tuple[str, ...],
    max_events: int,
    max_spikes: int,
) -> EventSolution:
    """`resting`: populations in which a unit may be in a refractory period."""
    noted()
    kind = float_dtype()
    cells = {k: _cells(node, k in resting) for k, node in net.nodes.items() if isinstance(node, Population)}
    edges: dict[str, Any] = net.edges
    lines = {name: _lines(edge, net.nodes[edge.writes[0]].size) for name, edge in edges.items()}
    steps = {name: x for name, x in inputs.items() if isinstance(x, StepCurrent)}
    times, counts = {}, {}
    for name, node in net.nodes.items():
        if isinstance(node, Source):
            times[name], counts[name] = _source_times(node.process, node.size, max_spikes, t1)
        else:
            times[name] = jnp.full((node.size, max_spikes), jnp.inf, kind)
            counts[name] = jnp.zeros(node.size, jnp.int32)
    left = {name: state.nodes[name].z.get("refractory") for name in cells}
    start = _Now(
        t=jnp.zeros((), kind),
        y={name: state.nodes[name].y for name in cells},
        until={k: jnp.zeros(cells[k].node.size) if x is None else x.astype(kind) * state.dt for k, x in left.items()},
        times=times,
        counts=counts,
        pointers={name: jnp.zeros(x.pre.shape, jnp.int32) for name, x in lines.items()},
        changes={name: jnp.searchsorted(x.times, 0.0, side="right").astype(jnp.int32) for name, x in steps.items()},
        n=jnp.asarray(0, jnp.int32),
        lost=jnp.asarray(False),
    )

    def advance(now: _Now, _: None):
        return _next(cells, lines, inputs, now, t1), None

    per = segment_length(max_events, None)
    many = jax.checkpoint(lambda now: jax.lax.scan(advance, now, None, length=per)[0], prevent_cse=False)

    def segment(now: _Now, _: None):
        return jax.lax.cond(now.t < t1, many, lambda now: now, now), None

    now, _ = jax.lax.scan(segment, start, None, length=-(-max_events // per))
    lost = now.lost | (now.t < t1)
    for name, node in net.nodes.items():
        if isinstance(node, Source):
            lost = lost | jnp.any(now.counts[name] > max_spikes)
    found = {name: (now.times[name], now.counts[name]) for name in net.nodes}
    found |= {name: p.of(found[p.whole]) for name, p in net.parts.items() if p.whole in net.nodes}
    return EventSolution(
        {name: t for name, (t, _) in found.items()},
        {name: c for name, (_, c) in found.items()},
        now.y | {name: p.of(now.y[p.whole]) for name, p in net.parts.items() if p.whole in cells},
        now.t,
        now.n,
        lost,
    )


def _cells(node: Population, rests: bool) -> _Cells:
    z = discrete(node, 0)
    return _Cells(node, affine(node, z), affine(node, discrete(node, 1))[0] if rests else None)


def _next(cells: dict[str, _Cells], lines: dict[str, _Lines], inputs: dict[str, Any], now: _Now, t1: Array) -> _Now:
    """After the next event: an arrival, a change of input, a spike, or the end."""
    dues: dict[tuple[str, str], tuple[Array, Array]] = {}  # ("edge" or "input", name) -> (time, line)
    for name, x in lines.items():
        due = now.times[x.source].at[x.pre, now.pointers[name]].get(mode="fill", fill_value=jnp.inf) + x.delay
        line = jnp.argmin(due) if due.shape[0] else jnp.asarray(0)
        dues["edge", name] = (due[line] if due.shape[0] else jnp.asarray(jnp.inf, due.dtype), line)
    inp: dict[str, Array] = {}
    for name in cells:
        x = inputs.get(name, jnp.zeros((), t1.dtype))
        if isinstance(x, StepCurrent):
            k = now.changes[name]
            row = x.amplitudes[jnp.maximum(k - 1, 0)]
            inp[name] = jnp.where(k > 0, row, jnp.zeros_like(row))
            dues["input", name] = (x.times.at[k].get(mode="fill", fill_value=jnp.inf), k)
        else:
            inp[name] = x
    limit = t1 - now.t
    for due, _ in dues.values():
        limit = jnp.minimum(limit, due - now.t)
    limit = jax.lax.stop_gradient(jnp.maximum(limit, 0.0))

    flows, spikes = {}, {}
    for name, c in cells.items():
        flows[name], spikes[name] = _look_ahead(c, now.y[name], now.until[name] - now.t, inp[name], limit)

    # what comes first; of equals, what is named first: arrivals before spikes
    names = [*dues, *(("spike", name) for name in cells), "end"]
    waits = [due - now.t for due, _ in dues.values()] + [h for h, *_ in spikes.values()] + [t1 - now.t]
    order = jnp.stack([jax.lax.stop_gradient(w) for w in waits])
    chosen = jnp.argmin(order)
    picked = {what: chosen == i for i, what in enumerate(names)}
    h = jnp.zeros((), t1.dtype)
    for what, wait in zip(names, waits, strict=True):
        h = jnp.where(picked[what], wait, h)
    h = h + jax.lax.stop_gradient(jnp.maximum(h, 0.0) - h)  # below zero by rounding only
    t = jnp.where(picked["end"], t1, now.t + h)

    pointers, changes = dict(now.pointers), dict(now.changes)
    arrivals: dict[tuple[str, str], Array] = {}
    for name, x in lines.items():
        is_now, line = picked["edge", name], dues["edge", name][1]
        if x.pre.shape[0]:
            row = jnp.where(is_now, x.row(line), 0.0)
            arrivals[x.node, x.port] = arrivals.get((x.node, x.port), 0.0) + row
            pointers[name] = pointers[name].at[line].add(is_now.astype(jnp.int32))
    for name in changes:
        changes[name] = changes[name] + picked["input", name].astype(jnp.int32)

    y, until, times, counts, lost = {}, dict(now.until), dict(now.times), dict(now.counts), now.lost
    for name, c in cells.items():
        node, flowed = c.node, flows[name](h)
        cell: Any = node.unit
        rows = {port: row for (to, port), row in arrivals.items() if to == name}
        z = c.z((until[name] > t).astype(jnp.int32))
        flowed = node.added(flowed, z, rows)
        _, unit, crossed = spikes[name]
        fires = picked["spike", name] & crossed
        s = jnp.zeros(node.size, t.dtype).at[unit].set(fires.astype(t.dtype))
        clock = Clock.of(name, now.n, 1.0, jax.random.key(0))
        reset, _ = node.unit.reset(flowed["unit"], z, s, node.current(flowed, inp[name]), clock)
        y[name] = {"unit": reset, "ports": flowed["ports"]}
        if c.held is not None:
            until[name] = jnp.where(s > 0, t + cell.t_ref, until[name])
        full = times[name].shape[1]
        slot = jnp.where(fires, counts[name][unit], full)
        times[name] = times[name].at[unit, slot].set(t, mode="drop")
        lost = lost | (fires & (counts[name][unit] >= full))
        counts[name] = counts[name].at[unit].add(fires.astype(jnp.int32))
    n = now.n + (~picked["end"]).astype(jnp.int32)
    return _Now(t, y, until, times, counts, pointers, changes, n, lost)


def _look_ahead(c: _Cells, y: Any, rest: Array, inp: Array, limit: Array):
    """How the population flows from here, `flow(h) -> y`, and its next crossing: `(wait, unit, found)`, `wait` inf
    where there is none before `limit`. `rest`: how long every unit is refractory still."""
    x, tree = jax.tree.flatten(y)
    flow, guard = c.free
    offset = c.offset(tree, x, inp, 0)
    if c.held is None:
        begin, ahead = jnp.zeros_like(x[0]), x

        def after(h):
            return jax.tree.unflatten(tree, flow.after(x, offset, h))
    else:
        held, still = c.held, c.offset(tree, x, inp, 1)
        begin = jnp.maximum(rest, 0.0)
        ahead = held.after(x, still, begin)

        def after(h):
            first = jnp.where(begin > h, h, begin)  # not `minimum`, whose derivative is halved where both are 0
            return jax.tree.unflatten(tree, flow.after(held.after(x, still, first), offset, h - first))

    stopped = jax.lax.stop_gradient((flow, guard, ahead, offset, limit - begin))
    h, found = first_crossing(*stopped)
    wait = jnp.where(stopped[-1] >= 0, jax.lax.stop_gradient(begin) + h, jnp.inf)
    wait = jnp.where(found | (h < stopped[-1]), wait, jnp.inf)
    unit = jnp.argmin(wait)

    def own(tree):
        """What belongs to that unit alone."""
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, unit, 1), tree)

    exact = begin[unit] + polished(own(flow), own(guard), own(ahead), own(offset), own(h))[0]
    crossed = found[unit]
    return after, (jnp.where(jnp.isfinite(wait[unit]), exact, jnp.inf), unit, crossed)
