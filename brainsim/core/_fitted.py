"""`fitted`: a state as a network can go on from, whichever network it comes from."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._network import Network, initial_state
from ._state import State, ring_slot, unflagged

_FIX: Final = "Take the state of a run of this network, or draw one: bs.initial_state(net, dt=dt, key=key)."


def fitted(net: Network, state: State, every: Mapping[str, int]) -> State:
    """`state` fitted to `net`: rings as deep as the delays of `net` need, all else as it is.

    Where a ring of `net` is deeper, arrivals under way are laid out anew and keep their time; a ring that is deeper
    already stays, for it may hold arrivals later than the delays of `net`. Shapes decide, so this works under jit.
    `every`: of each node, steps of the network in one of its own, which its ring has a row for.

    **Raises:** ValueError for a node, edge, port or variable that is not in both, or has another shape or type.
    """
    like = jax.eval_shape(lambda: initial_state(net, dt=state.dt, key=jax.random.key(0)))
    for kind, have, want in (("node", state.nodes, like.nodes), ("edge", state.edges, like.edges)):
        _same_names(kind, have, want)
        for name in want:
            _same(f"{kind} {name!r}", have[name], want[name])
    inbox: dict[str, Any] = {}
    for node, rings in like.inbox.items():
        _same_names("port", *({f"{node}.{port}" for port in x} for x in (state.inbox.get(node, {}), rings)))
        inbox[node] = {}
        for port, ring in rings.items():
            have = state.inbox[node][port]
            if have.shape[1:] != ring.shape[1:] or have.dtype != ring.dtype:
                raise ValueError(f"state: port '{node}.{port}': {_differ('its ring', have, ring)}")
            inbox[node][port] = _deepened(have, state.n, ring.shape[0], every.get(node, 1))
    flags = {name: state.flags.get(name, unflagged()) for name in like.flags}
    return dataclasses.replace(state, inbox=inbox, flags=flags)


def _deepened(
    ring: Float[Array, "depth width"], n: Int[Array, ""], depth: int, every: int
) -> Float[Array, "rows width"]:
    """The ring with at least `depth` rows (`ring_slot`), for what arrives in step `n` and later."""
    old = ring.shape[0]
    if old >= depth:
        return ring
    ahead = jnp.roll(ring, -ring_slot(n, old, every), 0)  # row k arrives k steps of the node from now
    longer = jnp.concatenate([ahead, jnp.zeros((depth - old, ring.shape[1]), ring.dtype)])
    return jnp.roll(longer, ring_slot(n, depth, every), 0)


def _same_names(kind: str, have: Iterable[str], want: Iterable[str]) -> None:
    have, want = set(have), set(want)
    if have == want:
        return
    missing, extra = sorted(want - have), sorted(have - want)
    wrong = f"no {kind} {missing[0]!r}" if missing else f"a {kind} {extra[0]!r}, which the network has not"
    known = f"it has the {kind}s {sorted(have)}, and the network {sorted(want)}"
    raise ValueError(f"state: there is {wrong}: {known}. {_FIX}")


def _same(where: str, have: Any, want: Any) -> None:
    """Raise unless both hold the same variables, of the same shapes and types."""
    old, new = _variables(have), _variables(want)
    for name in sorted(old.keys() ^ new.keys()):
        wrong = f"there is no variable {name!r}" if name in new else f"the variable {name!r} is of another model"
        known = f"it has {sorted(old)}, and the network {sorted(new)}"
        raise ValueError(f"state: {where}: {wrong}: {known}. {_FIX}")
    for name, x in old.items():
        if jnp.shape(x) != new[name].shape or jnp.result_type(x) != new[name].dtype:
            raise ValueError(f"state: {where}: {_differ(repr(name), x, new[name])}")


def _variables(tree: Any) -> dict[str, Any]:
    """The leaves by the names that recordings have for them."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for group in ("y.", "z.", "unit.", "ports."):
            name = name.removeprefix(group)
        named[name] = leaf
    return named


def _differ(what: str, have: Any, want: Any) -> str:
    shape, dtype = jnp.shape(have), jnp.result_type(have)
    fix = "Set jax_enable_x64 as it was for the run that made the state." if shape == want.shape else _FIX
    return f"{what} is {dtype}{list(shape)}; expected {want.dtype}{list(want.shape)}. {fix}"
