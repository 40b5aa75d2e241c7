"""Flags: what goes wrong in a run, by the name of the node, edge or list of spikes; when it is raised, what it says.

What can go wrong in any step is looked at in every step: whether the variables of a node are finite, whether its solver
failed. The rest is looked at once, before the first step or after the last, so that a step costs nothing more: what
construction refuses and a value put in later can be all the same, and NaN that never reaches a flowing variable.
"""

import dataclasses
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ..base import is_traced
from ..core import AbstractEdge, Network, State, lowest_conductance

FINE, NOT_FINITE, SOLVER_FAILED, OVERFLOWED, BAD_PARAMETER, BAD_DELAY, NAN_KEPT, CANNOT_EMIT, NEGATIVE = range(9)
WHAT: Final = {
    NOT_FINITE: "not finite",
    SOLVER_FAILED: "solver failed",
    OVERFLOWED: "overflowed",
    BAD_PARAMETER: "a parameter or input that is not finite",
    BAD_DELAY: "a delay beyond max_delay",
    NAN_KEPT: "NaN",
    CANNOT_EMIT: "cannot emit",
    NEGATIVE: "a negative conductance",
}

_UNREAD: Final = ("weight", "connect")
"""Fields of edges that are not looked at: one number per synapse, whose NaN reaches the variables of the post node."""

Flag = tuple[Int[Array, ""], Int[Array, ""]]


def raised(flag: Flag, bad: Bool[Array, ""], code: int, n: Int[Array, ""]) -> Flag:
    """`flag`, or `code` with step `n` where `bad` and nothing was wrong before."""
    first = bad & (flag[0] == FINE)
    return jnp.where(first, code, flag[0]), jnp.where(first, n, flag[1])


def _any(test: Any, tree: Any) -> Bool[Array, ""]:
    found = [jnp.any(test(x)) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.any(jnp.stack(found)) if found else jnp.asarray(False)


def _infinite(x: Array) -> Array:
    return ~jnp.isfinite(x)


def parameters_of(part: Any) -> dict[str, Any]:
    """What a node or edge has of parameters, one number per synapse apart."""
    skipped = _UNREAD if isinstance(part, AbstractEdge) else ("init_values",)
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.name not in skipped}


def before_run(net: Network, state: State, inputs: dict[str, Any]) -> State:
    """`state` with the flags of parameters, inputs and delays (in ms) that construction refuses."""
    flags, n = dict(state.flags), state.n
    given: dict[str, list[Any]] = {}
    for name, x in inputs.items():
        given.setdefault(net.unit_range(name)[0], []).append(x)
    for name, part in {**net.nodes, **net.edges}.items():
        bad = _any(_infinite, (parameters_of(part), given.get(name)))
        flags[name] = raised(flags[name], bad, BAD_PARAMETER, n)
    for name, edge in net.edges.items():
        flags[name] = raised(flags[name], ~edge.delays_fit, BAD_DELAY, n)
    return dataclasses.replace(state, flags=flags)


def signs(net: Network, state: State) -> State:
    """`state` with the flags of edges whose traced weights into a conductance are below 0; others are refused."""
    flags = dict(state.flags)
    for name, edge in net.edges.items():
        lowest = lowest_conductance(edge, net.nodes)
        if lowest is not None and is_traced(lowest):
            flags[name] = raised(flags[name], lowest < 0, NEGATIVE, state.n)
    return dataclasses.replace(state, flags=flags)


def after_run(state: State) -> State:
    """`state` with the flags of what is NaN in it, the flowing variables apart."""
    flags = dict(state.flags)
    kept = {name: (node.z, state.inputs.get(name)) for name, node in state.nodes.items()} | state.edges
    for name, tree in kept.items():
        flags[name] = raised(flags[name], _any(jnp.isnan, tree), NAN_KEPT, state.n)
    return dataclasses.replace(state, flags=flags)


def said(code: int, name: str, when: str, net: Network, inputs: dict[str, Any], state: State) -> str:
    """What the flag of a node or edge says."""
    edge = net.edges.get(name)
    owner = f"Node {name!r}" if edge is None else f"Edge {name!r}"
    whole = net.unit_range(name)[0] if edge is None else name
    if code == NOT_FINITE:
        port = _negative_port(net.nodes[whole], state.nodes[whole].y)
        if port:
            remedy = f"The conductance of port {port!r} is negative, which diverges at any dt: mend what makes it so."
        else:
            remedy = "Try a smaller dt or another solver."
        return f"{owner} is not finite {when}: the run diverged (from 2^64 on it counts as that). {remedy}"
    if code == NEGATIVE:
        return (
            f"{owner} has a weight below 0 into a conductance {when}; expected weights >= 0. Bound what changes it; "
            "inhibition is a reversal potential below rest."
        )
    if code == SOLVER_FAILED:
        return f"The solver of node {name!r} failed {when}. Try a smaller dt or another solver."
    if code == CANNOT_EMIT:
        return (
            f"Source {name!r} cannot emit {when}: a rate is NaN or above one event a step, {1e3 / state.dt:g} Hz, or "
            "replayed times or units are not valid. Mend them; bs.PoissonInput draws any number of events a step."
        )
    if code == BAD_DELAY:
        line = getattr(edge, "max_delay", None)
        return f"{owner} has a delay that is not within 0 and max_delay = {line} ms {when}. Build it with a larger one."
    if code == BAD_PARAMETER:
        part = net.nodes[whole] if edge is None else edge
        what = _first(_infinite, parameters_of(part)) or (f"inputs[{name!r}]" if name in inputs else "a parameter")
        return f"{owner}: {what} is not finite {when}. Mend the value put in after construction."
    held = (state.nodes[whole].z, state.inputs.get(name)) if edge is None else (state.edges[name],)
    what = next(filter(None, (_first(jnp.isnan, x) for x in held)), "its state")
    return f"{owner}: {what} is NaN {when}. It comes from its parameters, its input or its equations for the jump."


def _negative_port(node: Any, y: Any) -> str:
    """The name of a port whose conductance is below 0; empty where there is none."""
    for port, receptor in getattr(node, "receptors", {}).items():
        if type(receptor).conductance and any(bool(np.any(np.asarray(g) < 0)) for g in y["ports"][port].values()):
            return port
    return ""


def _first(test: Any, tree: Any) -> str:
    """The name of the first leaf with a number that is `test`; empty where there is none."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if eqx.is_inexact_array(leaf) and bool(np.any(np.asarray(test(leaf)))):
            return jax.tree_util.keystr(path, simple=True, separator=".")
    return ""
