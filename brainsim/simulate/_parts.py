"""What a run of a packed network says of the nodes that were merged: their spikes, how often each fired, which of them
diverged."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..base import is_traced
from ..core import AbstractGraph, State
from ._count import Count
from ._flags import parameters_of
from ._saveat import Origin, Spikes
from ._solution import Solution, SpikeList, overflow


def _sums(net: AbstractGraph, node: str, x: Int[Array, " n"]) -> Int[Array, " n_members"]:
    """The sums of `x` over the units of the members of `node`."""
    upto = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
    starts, stops = np.asarray([(net.parts[m].start, net.parts[m].stop) for m in net.members[node]]).T
    return upto[stops] - upto[starts]


def counted(net: AbstractGraph, counts: dict[str, Count]) -> dict[str, Count]:
    """Numbers of events by node; of a packed one, for which `counts` has a number per unit, those of its members."""
    return {name: _total(net, name, x) if name in net.members else x for name, x in counts.items()}


def _total(net: AbstractGraph, node: str, x: Count) -> Count:
    """The sums of the members of `node`, of 15 bits at a time: of 2^16 units and more in parts that cannot overflow."""
    high, middle, low = (_sums(net, node, part) for part in (x.high, x.low >> 15, x.low & (2**15 - 1)))
    middle = middle + (low >> 15)
    return Count(high + (middle >> 15), ((middle & (2**15 - 1)) << 15) + (low & (2**15 - 1)))


def flagged(net: AbstractGraph, state: State) -> dict[str, tuple[Array, Array]]:
    """Flags by node; of a packed one those of its members: its own where anything of their units is not finite, or for
    all if nothing is."""
    flags: dict[str, Any] = dict(state.flags)
    for name in net.members:
        size = net.nodes[name].size
        parameters = [x for x in jax.tree.leaves(parameters_of(net.nodes[name])) if jnp.shape(x) == (size,)]
        each = [x for x in (*jax.tree.leaves(state.nodes[name]), *parameters) if eqx.is_inexact_array(x)]
        bad = [jnp.any(~jnp.isfinite(x).reshape(size, -1), axis=1) for x in each]
        bad = _sums(net, name, sum((x.astype(jnp.int32) for x in bad), start=jnp.zeros(size, jnp.int32)))
        mine = (bad > 0) | (jnp.sum(bad) == 0)
        code, first = flags[name]
        flags[name] = jnp.where(mine, code, 0), jnp.where(mine, first, -1)
    return flags


def by_name(net: AbstractGraph, sol: Solution, capacities: dict[str, dict[str, int]]) -> Solution:
    """`sol` by the names that nodes had before they were packed; `capacities` as from `whole_lists`.

    Done outside the compiled run: hundreds of numbers cut from arrays would each be compiled.
    """
    events, flags = _by_member(net, sol.events), _by_member(net, sol.flags)
    recordings, every, origins = dict(sol.recordings), dict(sol.every), dict(sol.origins)
    for whole, each in capacities.items():
        every |= {f"{m}.spikes": every[f"{whole}.spikes"] for m in each}
        origins |= {f"{m}.spikes": Origin("Spikes", m) for m in each}
        del every[f"{whole}.spikes"], origins[f"{whole}.spikes"]
        lists = _split(net, recordings.pop(f"{whole}.spikes"), each, {m: events[m].whole for m in each})
        recordings |= lists
        del flags[f"{whole}.spikes"]
        flags |= {key: overflow(listed, sol.n0) for key, listed in lists.items()}
    return dataclasses.replace(sol, recordings=recordings, events=events, flags=flags, every=every, origins=origins)


def _by_member(net: AbstractGraph, by_node: dict[str, Any]) -> dict[str, Any]:
    named, members = dict(by_node), net.members
    for name in members.keys() & named.keys():
        value = jax.tree.map(lambda x: x if is_traced(x) else np.asarray(x), named.pop(name))
        named |= {m: jax.tree.map(lambda x, k=k: x[k], value) for k, m in enumerate(members[name])}
    return named


def whole_lists(
    net: AbstractGraph, recordings: Sequence[Any], rooms: dict[str, int]
) -> tuple[tuple[Any, ...], dict[str, int], dict[str, dict[str, int]]]:
    """The recordings with one list of spikes for a packed node, all of whose members are asked for, in place of theirs.

    Returns them, the lengths of their lists (as in `rooms`), and for each such node the lengths of the lists of its
    members, which `by_name` makes: a step pays for every list.
    """
    asked = {r.node: r for r in recordings if isinstance(r, Spikes) and r.name is None and r.origin(net).units is None}
    lengths = {
        whole: {m: rooms[asked[m].key] for m in members}
        for whole, members in net.members.items()
        if f"{whole}.spikes" not in rooms and asked.keys() >= set(members) and net.sizes[whole]
    }
    within = {asked[m].key for each in lengths.values() for m in each}
    rest = [r for r in recordings if r.key not in within]
    whole = [Spikes(name) for name in lengths]
    room = {key: n for key, n in rooms.items() if key not in within}
    room |= {r.key: sum(lengths[r.node].values()) + 1 for r in whole}
    return (*rest, *whole), room, lengths


def _split(
    net: AbstractGraph, listed: SpikeList, capacities: dict[str, int], n_events: dict[str, Array]
) -> dict[str, Any]:
    """The lists of the members from that of the node they were merged into.

    Spikes for which that list had no room are counted in the last step: every member knows how many it missed.
    """
    ids, counts, members = listed.ids, listed.counts, list(capacities)
    xp = jnp if is_traced(ids) or is_traced(counts) else np
    n_steps, first = counts.shape[0], np.asarray([net.parts[m].start for m in members])
    ends = xp.cumsum(xp.asarray(counts), dtype=xp.int32)
    ids = ids if xp is jnp else np.asarray(ids)[: ends[-1]]
    place = xp.arange(ids.shape[0], dtype=xp.int32)
    used = place < ends[-1]
    step = xp.searchsorted(ends, place, side="right").astype(xp.int32)
    owner = xp.searchsorted(xp.asarray(first, xp.int32), ids, side="right").astype(xp.int32) - 1
    member = xp.where(used, owner, len(members))
    order = xp.argsort(member, stable=True)
    length = len(members) * n_steps
    cell = xp.where(used, member * n_steps + step, length)
    table = xp.bincount(cell, **{"length" if xp is jnp else "minlength": length + 1})[:length]
    table = table.reshape(len(members), n_steps).astype(xp.int32)
    totals = table.sum(1, dtype=xp.int32)
    start = xp.cumsum(totals, dtype=xp.int32) - totals
    ids = ids[order]
    lists: dict[str, Any] = {}
    for k, (m, room) in enumerate(capacities.items()):
        mine: Any
        if xp is np:
            mine = np.zeros(room, np.int32)  # memory is taken only as far as it is written
            own = ids[start[k] : start[k] + min(totals[k], room)] - first[k]
            mine[: own.size] = own
        else:
            own = xp.arange(room, dtype=xp.int32)
            mine = ids.at[start[k] + own].get(mode="fill", fill_value=0) - int(first[k])
            mine = xp.where(own < totals[k], mine, 0).astype(xp.int32)
        missed = xp.asarray(n_events[m]) - totals[k]
        last = xp.arange(n_steps) == n_steps - 1
        lists[f"{m}.spikes"] = SpikeList(mine, (table[k] + xp.where(last, missed, 0)).astype(xp.int32))
    return lists
