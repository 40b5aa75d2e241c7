"""What a run of a packed network says of the nodes that were merged: how often each fired, which of them diverged."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..base import is_traced
from ..core import Network, State


def _sums(net: Network, node: str, x: Int[Array, " n"]) -> Int[Array, " n_members"]:
    """The sums of `x` over the units of the members of `node`."""
    upto = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
    starts, stops = np.asarray([(net.parts[m].start, net.parts[m].stop) for m in net.members[node]]).T
    return upto[stops] - upto[starts]


def counted(net: Network, counts: dict[str, Array]) -> dict[str, Array]:
    """Numbers of events by node; of a packed one, for which `counts` has a number per unit, those of its members."""
    return {name: _sums(net, name, x) if name in net.members else x for name, x in counts.items()}


def flagged(net: Network, state: State) -> dict[str, tuple[Array, Array]]:
    """Flags by node; of a packed one those of its members: its own where the units are not finite, or for all if none
    is."""
    flags: dict[str, Any] = dict(state.flags)
    for name in net.members:
        size = net.nodes[name].size
        bad = [jnp.any(~jnp.isfinite(x).reshape(size, -1), axis=1) for x in jax.tree.leaves(state.nodes[name].y)]
        bad = _sums(net, name, sum((x.astype(jnp.int32) for x in bad), start=jnp.zeros(size, jnp.int32)))
        mine = (bad > 0) | (jnp.sum(bad) == 0)
        code, first = flags[name]
        flags[name] = jnp.where(mine, code, 0), jnp.where(mine, first, -1)
    return flags


def by_member(net: Network, by_node: dict[str, Any]) -> dict[str, Any]:
    """What `counted` or `flagged` found, by the names that the nodes had before they were packed.

    Done outside the compiled run: hundreds of numbers cut from arrays would each be compiled.
    """
    named, members = dict(by_node), net.members
    for name in members:
        value = jax.tree.map(lambda x: x if is_traced(x) else np.asarray(x), named.pop(name))
        named |= {m: jax.tree.map(lambda x, k=k: x[k], value) for k, m in enumerate(members[name])}
    return named
