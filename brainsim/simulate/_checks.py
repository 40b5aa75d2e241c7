"""Checks of the arguments of a run, before anything is compiled."""

import math
from collections.abc import Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

from ..base import check_parameter, float_dtype, is_traced, parameter, unknown
from ..core import AbstractInput, Network, State
from ..solvers import Propagator, check_solver
from ._saveat import AbstractRecording, Spikes


def positive(what: str, x: Any) -> float:
    """`x` as a Python float > 0."""
    if is_traced(x):
        raise TypeError(f"simulate: {what} is traced; it fixes the number of steps and must be a Python number.")
    x = float(x)
    if not (math.isfinite(x) and x > 0):
        raise ValueError(f"simulate: {what} is {x}; expected a number > 0 (ms).")
    return x


def strong(net: Network) -> Network:
    """`net` with numbers put in by `eqx.tree_at` as arrays of the usual type, so that none of them compiles a run
    again."""

    def one(x):
        if isinstance(x, float) or getattr(x, "weak_type", False):
            return jnp.asarray(x, float_dtype() if isinstance(x, float) else x.dtype)
        return x

    return jax.tree.map(one, net)


LAST_STEP = 2**31 - 2**24
"""The largest number of steps, with room for the delays."""


def _time(what: str, x: Any) -> float:
    """`x` (ms) as a Python float."""
    if is_traced(x):
        raise TypeError(f"simulate: {what} is traced; it fixes the number of steps and must be a Python number.")
    try:
        t = float(x)
    except (TypeError, ValueError):
        t = math.nan
    if not math.isfinite(t):
        raise ValueError(f"simulate: {what} is {x!r}; expected a time (ms).")
    return t


def checked_steps(t0: float | None, t1: float, dt: float, state: State | None) -> int:
    """Number of steps from the time of `state` (None: 0) to `t1`; `t0`, where given, must be that time. Of a traced
    state it is not known: there `t0` says it."""
    begin = 0.0
    if state is not None and not is_traced(state.n):
        begin = int(state.n) * dt
    elif state is not None and t0 is None:
        raise ValueError("simulate: the state is traced, so its time is not known; give t0 (ms) as well as t1.")
    t1, t0 = _time("t1", t1), begin if t0 is None else _time("t0", t0)
    if (state is None or not is_traced(state.n)) and abs(t0 - begin) > 1e-3 * dt:
        where = "a run without state= begins" if state is None else "the state is"
        raise ValueError(f"simulate: t0 is {t0:g} ms, but {where} at {begin:g} ms. Leave t0 out.")
    exact = (t1 - t0) / dt
    n_steps = round(exact)
    if n_steps < 1:
        text = f"simulate: t1 is {t1:g} ms, and the run begins at {t0:g} ms; expected a later time. "
        if t1 > 0:
            text += f"t1 is the time at which the run ends, not its length: for {t1:g} ms, give t1={t0 + t1:g}."
        raise ValueError(text.rstrip())
    last = round(t0 / dt) + n_steps
    if last * max(dt, 1.0) > LAST_STEP:
        raise ValueError(
            f"simulate: t1 = {t1:g} ms is step {last} of dt = {dt:g} ms; expected at most {LAST_STEP} steps and "
            f"{LAST_STEP} ms, which steps of 32 bits can count. Take a larger dt, or go "
            "on from the final state with its step number set back: eqx.tree_at(lambda s: s.n, state, ...)."
        )
    if abs(exact - n_steps) > 1e-3:
        raise ValueError(
            f"simulate: from t0 = {t0:g} to t1 = {t1:g} ms there are {exact:.4g} steps of dt = {dt:g} ms; expected a "
            f"whole number. Give t1={t0 + n_steps * dt:g}, or a dt that divides the time."
        )
    return n_steps


def checked_solvers(net: Network, solver: Any) -> dict[str, diffrax.AbstractSolver]:
    """A tested solver for every node."""
    given = dict(solver) if isinstance(solver, dict) else dict.fromkeys(net.nodes, solver)
    for name in given:
        if name not in net.sizes:
            raise ValueError(f"simulate: solver for {unknown('node', name, net.sizes)}")
    for name, members in net.members.items():
        if name not in given:
            given[name] = given.get(members[0])
            if any(given.get(member) != given[name] for member in members):
                raise ValueError(
                    f"simulate: the nodes {', '.join(members)} are packed into one, {name!r}, but their solvers "
                    f"differ; expected one for all of them. Leave some out: bs.pack(net, keep=[...])."
                )
    solvers: dict[str, Any] = {}
    for name, node in net.nodes.items():
        own = node.default_solver if given.get(name) is None else given[name]
        solvers[name] = Propagator() if own is None else own
    for name, one in solvers.items():
        check_solver(one, net.nodes[name], name)
    return solvers


def checked_inputs(net: Network, inputs: dict[str, Any], *, n_steps: int | None) -> dict[str, Any]:
    """Inputs as waveforms or arrays: 1-D constant, or 2-D with one row per step."""
    checked = {}
    for name, given in sorted(inputs.items()):
        if name not in net.sizes:
            raise ValueError(f"inputs: {unknown('node', name, net.sizes)}")
        size = net.sizes[name]
        if isinstance(given, AbstractInput):
            given.check(name, size)
            checked[name] = given
            continue
        x = parameter(given)
        check_parameter("inputs", name, x)
        allowed = [(), (size,)] + ([(n_steps, size)] if n_steps is not None else [])
        if jnp.shape(x) not in allowed:
            raise ValueError(
                f"inputs[{name!r}] has shape {jnp.shape(x)}; expected one of {allowed}: a constant, or one row per "
                "step."
            )
        checked[name] = x
    return checked


def _shown(r: Any) -> str:
    if isinstance(r, str):
        return f"Trace({r!r})" if "." in r else f"Spikes({r!r})"
    what = getattr(r, "target", None) or getattr(r, "node", None) or getattr(r, "variable", None) or r.key
    return f"{type(r).__name__}({what!r})"


def checked_recordings(net: Network, saveat: Sequence[Any], n_steps: int) -> tuple[Any, ...]:
    """Recordings whose targets exist, whose keys differ and whose steps fit the run."""
    keys = set()
    if isinstance(saveat, str | AbstractRecording | Spikes):
        raise TypeError(f"saveat is {saveat!r}; expected a list of recordings. Write saveat=[bs.{_shown(saveat)}].")
    for r in saveat:
        if not isinstance(r, AbstractRecording | Spikes):
            raise TypeError(f"saveat contains {r!r}; expected recordings such as Spikes('P') or Trace('P.v').")
        r.check(net)
        if r.key in keys:
            raise ValueError(f"saveat records {r.key!r} twice; ask for it once, with all units.")
        keys.add(r.key)
        if isinstance(r, AbstractRecording):
            if not isinstance(r.every, int) or r.every < 1:
                raise ValueError(f"saveat: every = {r.every!r} of {r.key!r}; expected a whole number of steps >= 1.")
            if n_steps % r.every:
                raise ValueError(
                    f"saveat: every = {r.every} of {r.key!r} does not divide the {n_steps} steps of the run. Choose "
                    "one that does."
                )
    return tuple(saveat)
