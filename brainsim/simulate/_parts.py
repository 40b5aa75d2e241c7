"""What a run of a packed network says of the nodes that were merged: how often each fired, which of them diverged."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..core import Network, State


def _sums(net: Network, node: str, x: Int[Array, " n"]) -> dict[str, Int[Array, ""]]:
    """The sum of `x` over the units of every member of `node`."""
    members = net.members(node)
    upto = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])
    starts, stops = np.asarray([(net.parts[m].start, net.parts[m].stop) for m in members]).T
    sums = upto[stops] - upto[starts]
    return {m: sums[k] for k, m in enumerate(members)}


def counted(net: Network, counts: dict[str, Array]) -> dict[str, Int[Array, ""]]:
    """Numbers of events by node, members in the place of what they were merged into; there, `counts` has a number per
    unit."""
    found: dict[str, Any] = {}
    for name, count in counts.items():
        found |= _sums(net, name, count) if net.members(name) else {name: count}
    return found


def flagged(net: Network, state: State) -> dict[str, tuple[Array, Array]]:
    """Flags by node; of the members of a packed one those whose units are not finite have its flag, or all if none."""
    flags: dict[str, Any] = {}
    for name, (code, first) in state.flags.items():
        if not net.members(name):
            flags[name] = code, first
            continue
        size = net.nodes[name].size
        bad = [jnp.any(~jnp.isfinite(x).reshape(size, -1), axis=1) for x in jax.tree.leaves(state.nodes[name].y)]
        bad = sum((x.astype(jnp.int32) for x in bad), start=jnp.zeros(size, jnp.int32))
        unknown = jnp.sum(bad) == 0
        for member, n_bad in _sums(net, name, bad).items():
            mine = unknown | (n_bad > 0)
            flags[member] = jnp.where(mine, code, 0), jnp.where(mine, first, -1)
    return flags
