"""`update`: one step of one node, arrive, flow, jump; as one fused pass over its units where that can be."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval as pe
from jaxtyping import Array, Bool, Float, Int

from ..base import float_dtype
from ..core import AbstractNode, Clock, Events, name_hash, ring_slot
from ..events import collect, tally
from ..fusion import Program, fused, unavailable, why_not
from ._noise import Increments, increments
from ._rules import SOLVERS
from ._substep import Substep

AnySolver = diffrax.AbstractSolver | Substep
Ring = Float[Array, "depth width"]

_FEWEST = 32
"""Units below which a fused pass gains nothing over XLA."""


def noise_of(node: AbstractNode, solver: AnySolver, y: Any, z: Any, clock: Clock) -> Any:
    """The increments of the noise of this step, None without noise; `Substep` draws its own."""
    noisy = node.diffusion(y, z)
    if noisy is None or isinstance(solver, Substep):
        return None
    # the jump has the same clock: its draws must be others
    return increments(y, noisy, clock.dt, jax.random.fold_in(clock.key, name_hash("flow")))


def flow(
    node: AbstractNode, solver: AnySolver, y: Any, z: Any, inp: Array, clock: Clock, dw: Any
) -> tuple[Any, Bool[Array, ""]]:
    """`y` after `clock.dt` under the node's vector field and the noise `dw`, and whether the solver failed."""
    if isinstance(solver, Substep):
        part = clock.dt / solver.m

        def substep(carry, _):
            y, failed, i = carry
            own = Clock(clock.n, part, jax.random.fold_in(clock.key, i))
            y, bad = flow(node, solver.solver, y, z, inp, own, noise_of(node, solver.solver, y, z, own))
            return (y, failed | bad, i + 1), None

        start = (y, jnp.asarray(False), jnp.asarray(0, jnp.int32))
        (y, failed, _), _ = jax.lax.scan(substep, start, None, length=solver.m)
        return y, failed
    terms: Any = diffrax.ODETerm(lambda t, y, args: node.vector_field(y, z, inp))
    if dw is not None:
        terms = diffrax.MultiTerm(terms, Increments(lambda y: node.diffusion(y, z), dw))
    return SOLVERS[type(solver)].step(solver, terms, y, clock.dt, node.elementwise)


def advance(node: AbstractNode, solver: AnySolver, y: Any, z: Any, inp: Array, clock: Clock, dw: Any):
    """Flow over `clock.dt` with `inp` constant, then jump.

    **Returns:** `(y, z, events, failed)`; `failed` is True where the solver gave up.
    """
    failed = jnp.asarray(False)
    if jax.tree.leaves(y) and node.size:
        y, failed = flow(node, solver, y, z, inp, clock, dw)
    y, z, events = node.jump(y, z, inp, clock)
    return y, z, events, failed


class Update(NamedTuple):
    """A node after a step: its state, the rings of its ports with this step's arrivals taken out, its events, their
    number, whether a flowing variable is NaN or infinite, and whether the solver failed."""

    y: Any
    z: Any
    rings: dict[str, Ring]
    events: Events
    count: Int[Array, ""]
    not_finite: Bool[Array, ""]
    failed: Bool[Array, ""]


def update(
    node: AbstractNode,
    solver: AnySolver,
    y: Any,
    z: Any,
    rings: dict[str, Ring],
    inp: Array,
    clock: Clock,
    *,
    fuse: bool = True,
) -> Update:
    """Arrive, flow, jump. The same step with or without `fuse`, to rounding; backends differ here and nowhere else."""
    dw = noise_of(node, solver, y, z, clock) if jax.tree.leaves(y) and node.size else None
    slots = {port: ring_slot(clock.n, ring.shape[0]) for port, ring in rings.items()}
    plan = _plan(node, solver, y, z, rings, inp, clock, dw) if fuse else "not asked"
    if isinstance(plan, _Plan):
        return plan.run(y, z, rings, slots, inp, dw, clock)
    arrivals, left = {}, {}
    for port, ring in rings.items():
        arrivals[port], left[port] = collect(ring, slots[port])
    y, z = node.arrive(y, z, arrivals)
    y, z, events, failed = advance(node, solver, y, z, inp, clock, dw)
    count, bad = tally(events.value, jax.tree.leaves(y))
    return Update(y, z, left, events, count, bad, failed)


def fusion(node: AbstractNode, solver: AnySolver, name: str, depths: dict[str, int]) -> str:
    """How `update` runs: `fused`, or `XLA (reason)`. `depths`: of the ring of every port that is deposited into."""

    def step(n, key):
        clock = Clock.of(name, n, 0.1, key)
        y, z = node.init(clock)
        rings = {port: jnp.zeros((d, node.ports[port]), float_dtype()) for port, d in depths.items()}
        inp = jnp.zeros((), float_dtype())
        plans.append(_plan(node, solver, y, z, rings, inp, clock, noise_of(node, solver, y, z, clock)))

    plans: list[Any] = []
    jax.eval_shape(step, jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0)))
    return "fused" if isinstance(plans[0], _Plan) else f"XLA ({plans[0]})"


class _Plan(NamedTuple):
    """How the operands of `update` become those of a fused program, and its outputs an `Update`."""

    program: Program
    params: Any  # the arrays of node and solver
    scalars: tuple[int, ...]  # places among the leaves of the arguments
    vectors: tuple[int, ...]
    ports: tuple[str, ...]
    outputs: tuple[int, ...]  # for every output leaf: its place among the program's outputs, or ~place among the leaves
    tree: Any  # of the outputs

    def run(self, y, z, rings, slots, inp, dw, clock) -> Update:
        leaves = jax.tree.leaves((self.params, y, z, inp, dw, clock.n, clock.dt))
        ring_list = [(slots[port], rings[port]) for port in self.ports]
        scalars, vectors = [leaves[i] for i in self.scalars], [leaves[i] for i in self.vectors]
        outs, left, words, count, bad = fused(self.program, scalars, vectors, ring_list)
        y, z, support, value = jax.tree.unflatten(self.tree, [outs[i] if i >= 0 else leaves[~i] for i in self.outputs])
        after = rings | dict(zip(self.ports, left, strict=True))
        return Update(y, z, after, Events(value, support, words), count, bad, jnp.asarray(False))


def _plan(node, solver, y, z, rings, inp, clock, dw) -> _Plan | str:
    """The plan of the fused step, or why there is none."""
    if reason := unavailable():
        return reason
    if not node.elementwise:
        return "its units flow together"
    if node.size < _FEWEST:
        return f"fewer than {_FEWEST} units"
    kind = solver.solver if isinstance(solver, Substep) else solver
    if SOLVERS[type(kind)].implicit:
        return f"{type(kind).__name__} iterates"
    n = node.size
    params, static = eqx.partition((node, solver), eqx.is_array)
    ports = tuple(sorted(rings))
    if any(rings[port].shape[1] != n for port in ports):
        return "a port with several numbers per unit"

    def whole(args, rows, key):
        params, y, z, inp, dw, n, dt = args
        node, solver = eqx.combine(params, static)
        clock_ = Clock(n, dt, key, clock.name)
        y, z = node.arrive(y, z, dict(zip(ports, rows, strict=True)))
        # a solver that can fail has a loop, which no kernel has
        y, z, events, _ = advance(node, solver, y, z, inp, clock_, dw)
        return y, z, events.support, events.value

    args = (params, y, z, inp, dw, clock.n, clock.dt)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    rows = [jax.ShapeDtypeStruct((n,), rings[port].dtype) for port in ports]
    key = jax.eval_shape(lambda: jax.random.key(0))
    closed, out = jax.make_jaxpr(whole, return_shape=True)(shapes, rows, key)
    n_args, n_state = len(jax.tree.leaves(args)), len(jax.tree.leaves(out[:2]))
    place = {v: i for i, v in enumerate(closed.jaxpr.invars)}
    outvars = closed.jaxpr.outvars
    # what the step leaves alone does not go through the kernel; the event values, the last output, always do
    kept = [isinstance(v, type(outvars[-1])) and place.get(v, n_args) < n_args for v in outvars[:-1]] + [False]
    jaxpr, used = pe.dce_jaxpr(closed.jaxpr, [not k for k in kept])
    if used[-1]:
        return "it draws random numbers"
    if any(used[n_args + k] is False for k in range(len(ports))):
        ports_used = [k for k in range(len(ports)) if used[n_args + k]]
        return f"port {ports[next(k for k in range(len(ports)) if k not in ports_used)]!r} is not read"
    inputs = [i for i in range(n_args) if used[i]]
    avals = [v.aval for v in closed.jaxpr.invars]
    scalars = tuple(i for i in inputs if avals[i].shape == ())
    vectors = tuple(i for i in inputs if avals[i].shape != ())
    order = [*scalars, *vectors, *range(n_args, n_args + len(ports))]
    invars = dict(zip((i for i, u in enumerate(used) if u), jaxpr.invars, strict=True))
    jaxpr = jaxpr.replace(invars=[invars[i] for i in order])
    computed = [k for k, keep in enumerate(kept) if not keep]
    first_state = len(jax.tree.leaves(params))
    alias = tuple(
        vectors.index(first_state + k) if k < n_state and first_state + k in vectors else -1 for k in computed
    )
    n_y = len(jax.tree.leaves(out[0]))
    watched = tuple(i for i, k in enumerate(computed) if k < n_y)
    program = Program(closed.replace(jaxpr=jaxpr), n, len(scalars), len(ports), alias, watched)
    outputs = tuple(
        ~place[v] if keep else computed.index(k) for k, (v, keep) in enumerate(zip(outvars, kept, strict=True))
    )
    return why_not(program) or _Plan(program, params, scalars, vectors, ports, outputs, jax.tree.structure(out))
