"""From the equations of a node and its solver to one fused program: which operands, in which order, to which place."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax

from ..base import shapes_of
from ..base.jax_internals import ClosedJaxpr, Literal, partial_eval as pe
from ..core import Clock, Emitted, Structure
from ..fusion import Program, fused, unavailable, why_not
from ._rules import SOLVERS
from ._schedule import Substep

FEWEST = 32
"""Units below which a fused pass gains nothing over XLA, where no larger node is beside it."""


def fewest(sizes: Iterable[int]) -> int:
    """Units from which the populations of a network, of these sizes, are fused: all of them beside a large one, as
    one that is not fused keeps the steps from being one call."""
    return 1 if max(sizes, default=0) >= FEWEST else FEWEST


class Plan(NamedTuple):
    """How the operands of a step become those of a fused program, and its outputs a state and events."""

    program: Program
    support: bool  # whether the surrogate has one: the last output but one
    single: bool  # as `Emitted` has it
    params: Any  # the arrays of node and solver
    scalars: tuple[int, ...]  # places among the leaves of the arguments
    vectors: tuple[int, ...]
    ports: tuple[str, ...]
    outputs: tuple[int, ...]  # for every leaf of (y, z): its place among the program's outputs, or ~(among the leaves)
    tree: Any  # of (y, z)

    def run(self, y, z, rings, slots, inp, dw, clock):
        """`(y, z, rings, events, count, not finite)` after the step."""
        leaves = jax.tree.leaves((self.params, y, z, inp, dw, clock.n, clock.dt))
        own = [(slots[port], rings[port]) for port in self.ports]
        scalars, vectors = [leaves[i] for i in self.scalars], [leaves[i] for i in self.vectors]
        outs, left, words, count, bad = fused(self.program, scalars, vectors, own)
        y, z = jax.tree.unflatten(self.tree, [outs[i] if i >= 0 else leaves[~i] for i in self.outputs])
        support = outs[-2] if self.support else None
        after = rings | dict(zip(self.ports, left, strict=True))
        return y, z, after, Emitted(outs[-1], support, words, self.single), count, bad


def make_plan(advance: Callable, node, solver, y, z, rings, inp, clock: Clock, dw, least: int) -> Plan | str:
    """The plan of arrive and `advance` for these operands, or why there is none."""
    kind, n = solver.solver if isinstance(solver, Substep) else solver, node.size
    if reason := unavailable():
        return reason
    if node.structure is not Structure.DIAGONAL:
        return "its units flow together" if node.structure is Structure.OPERATOR else "its variables flow together"
    if n < least:
        return f"fewer than {least} units"
    if SOLVERS[type(kind)].implicit:
        return f"{type(kind).__name__} iterates"
    params, static = eqx.partition((node, solver), eqx.is_array)
    ports = tuple(sorted(rings))
    if any(rings[port].shape[1] != n for port in ports):
        return "a port with several numbers per unit"

    def whole(args, rows, key):
        params, y, z, inp, dw, n, dt = args
        node, solver = eqx.combine(params, static)
        y, z = node.arrive(y, z, dict(zip(ports, rows, strict=True)))
        # a solver that can fail has a loop, which no kernel has
        y, z, events, _ = advance(node, solver, y, z, inp, dataclasses.replace(clock, n=n, dt=dt, run_key=key), dw)
        single.append(events.single)
        return (y, z), events.support, events.value

    single: list[bool] = []
    args = (params, y, z, inp, dw, clock.n, clock.dt)
    shapes, rows = shapes_of((args, [rings[port][0] for port in ports]))
    key = jax.eval_shape(lambda: jax.random.key(0))
    closed, (state, support, _) = jax.make_jaxpr(whole, return_shape=True)(shapes, rows, key)
    avals, n_args, n_state = closed.in_avals, len(jax.tree.leaves(args)), len(jax.tree.leaves(state))
    place: dict[Any, int] = {v: i for i, v in enumerate(closed.jaxpr.invars)}
    # what the step leaves alone does not go through the kernel
    kept = [place.get(v, n_args) if not isinstance(v, Literal) else n_args for v in closed.jaxpr.outvars[:n_state]]
    computed = [k for k, i in enumerate(kept) if i >= n_args]
    # only the derivative reads the support: where there is none, that output is dropped
    beside = len(closed.out_avals) - n_state
    jaxpr, used = _only(closed, [*computed, *range(n_state, n_state + beside)])
    if n_args + len(ports) in used:
        return "it draws random numbers"
    if place.get(closed.jaxpr.outvars[-1], n_args) < n_args and not computed:
        return "its events are its input"
    unread = [port for k, port in enumerate(ports) if n_args + k not in used]
    if unread:
        return f"port {unread[0]!r} is not read"
    jaxpr, scalars, vectors = _sorted(jaxpr, used, avals)
    vectors = tuple(i for i in vectors if i < n_args)
    first, n_y = len(jax.tree.leaves(params)), len(jax.tree.leaves(y))
    alias = tuple(vectors.index(first + k) if first + k in vectors else -1 for k in computed)
    watched = tuple(i for i, k in enumerate(computed) if k < n_y)
    program = Program(closed.replace(jaxpr=jaxpr), n, len(scalars), len(ports), (*alias, *(-1,) * beside), watched)
    outputs = tuple(~i if i < n_args else computed.index(k) for k, i in enumerate(kept))
    how = why_not(program)
    tree = jax.tree.structure(state)
    return how or Plan(program, support is not None, single[-1], params, scalars, vectors, ports, outputs, tree)


def _only(closed: ClosedJaxpr, outputs: list[int]) -> tuple[Any, tuple[int, ...]]:
    """The program cut to some outputs, and the places of the operands that it needs."""
    jaxpr, used = pe.dce_jaxpr(closed.jaxpr, [k in outputs for k in range(len(closed.jaxpr.outvars))])
    return jaxpr, tuple(i for i, u in enumerate(used) if u)


def _sorted(jaxpr: Any, used: tuple[int, ...], avals: Any) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """The program with its scalar operands first, the places of these and of the others."""
    scalars = tuple(i for i in used if avals[i].shape == ())
    vectors = tuple(i for i in used if avals[i].shape != ())
    return jaxpr.replace(invars=[jaxpr.invars[used.index(i)] for i in (*scalars, *vectors)]), scalars, vectors
