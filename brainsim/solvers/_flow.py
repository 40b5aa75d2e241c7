"""`update`: one step of one node, arrive, flow, jump; as one fused pass over its units where that can be."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..base import float_dtype
from ..core import AbstractNode, Clock, Emitted, Population, name_hash, ring_slot
from ..events import collect, tally
from ._noise import Increments, increments
from ._plan import FEWEST, Plan, make_plan
from ._propagator import Field, Propagator, propagated
from ._rules import SOLVERS
from ._schedule import AbstractSchedule, Every, Substep

AnySolver = diffrax.AbstractSolver | AbstractSchedule
Ring = Float[Array, "depth width"]


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
    terms: Any = diffrax.ODETerm(Field(node, z, inp))
    if dw is not None:
        terms = diffrax.MultiTerm(terms, Increments(lambda y: node.diffusion(y, z), dw))
    return SOLVERS[type(solver)].step(solver, terms, y, clock.dt, node.structure.independent)


def prepared(node: AbstractNode, solver: AnySolver, y: Any, z: Any, dt: Any) -> AnySolver:
    """`solver` for a run that begins with `(y, z)`, with what it can work out once."""
    if isinstance(solver, Substep):
        return Substep(prepared(node, solver.solver, y, z, dt / solver.m), solver.m)  # pyright: ignore[reportArgumentType]
    if isinstance(solver, Every):
        return Every(prepared(node, solver.solver, y, z, dt * solver.m), solver.m)  # pyright: ignore[reportArgumentType]
    if not isinstance(solver, Propagator) or not jax.tree.leaves(y):
        return solver
    return Propagator(propagated(Field(node, z, jnp.zeros((), float_dtype())), y, dt))


class Taken(eqx.Module):
    """The step that a node has taken from `before`, with what it was taken with."""

    solver: AnySolver
    before: Any
    inp: Array
    dw: Any

    def longer(self, node: AbstractNode, z: Any, clock: Clock) -> Any:
        """The derivative of the state after the step by its length (per ms)."""

        def step(dt):
            own = Clock(clock.n, dt, clock.run_key, clock.name)
            return flow(node, self.solver, self.before, z, self.inp, own, self.dw)[0]

        return jax.jvp(step, (clock.dt,), (jnp.ones_like(clock.dt),))[1]


def advance(node: AbstractNode, solver: AnySolver, y: Any, z: Any, inp: Array, clock: Clock, dw: Any):
    """Flow over `clock.dt` with `inp` constant, then jump.

    **Returns:** `(y, z, events, failed)`; `failed` is True where the solver gave up.
    """
    failed, taken = jnp.asarray(False), Taken(solver, y, inp, dw)
    if jax.tree.leaves(y) and node.size:
        y, failed = flow(node, solver, y, z, inp, clock, dw)
    if isinstance(node, Population):
        y, z, events = node.jump(y, z, inp, clock, taken)
    else:
        y, z, events = node.jump(y, z, inp, clock)
    return y, z, events, failed


class Update(NamedTuple):
    """A node after a step: its state, the rings of its ports with this step's arrivals taken out, its events, their
    number, whether a flowing variable is NaN or infinite, and whether the solver failed."""

    y: Any
    z: Any
    rings: dict[str, Ring]
    events: Emitted
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
    least: int = FEWEST,
) -> Update:
    """Arrive, flow, jump. The same step with or without `fuse`, to rounding; backends differ here and nowhere else.
    Nodes of fewer than `least` units are not fused."""
    if isinstance(solver, Every):
        return _now_and_then(node, solver, y, z, rings, inp, clock, dict(fuse=fuse, least=least))
    dw = noise_of(node, solver, y, z, clock) if jax.tree.leaves(y) and node.size else None
    slots = {port: ring_slot(clock.n, ring.shape[0]) for port, ring in rings.items()}
    plan = make_plan(advance, node, solver, y, z, rings, inp, clock, dw, least) if fuse else "not asked"
    watched = node.watched(z, inp, clock)
    if isinstance(plan, Plan):
        new = Update(*plan.run(y, z, rings, slots, inp, dw, clock), jnp.asarray(False))
        if new.events.single and not watched:
            return new
        count, bad = tally(new.events.value, watched, many=not new.events.single)  # the kernel counts units
        return new._replace(count=count, not_finite=new.not_finite | bad)
    arrivals, left = {}, {}
    for port, ring in rings.items():
        arrivals[port], left[port] = collect(ring, slots[port])
    y, z = node.arrive(y, z, arrivals)
    y, z, events, failed = advance(node, solver, y, z, inp, clock, dw)
    count, bad = tally(events.value, [*jax.tree.leaves(y), *watched], many=not events.single)
    return Update(y, z, left, events, count, bad, failed)


def _now_and_then(node, solver: Every, y, z, rings, inp, clock: Clock, how: dict[str, Any]) -> Update:
    """The step of a node that runs once in `solver.m` steps."""
    m = jnp.asarray(solver.m, clock.n.dtype)
    step = None if clock.step is None else clock.step * solver.m
    own = Clock(jax.lax.div(clock.n, m), clock.dt * solver.m, clock.run_key, clock.name, step)
    single: list[bool] = []

    def run(y, z, rings, inp):
        new = update(node, solver.solver, y, z, rings, inp, own, **how)
        single.append(new.events.single)
        events = new.events.value, new.events.support, new.events.words
        return (new.y, new.z, new.rings), (*events, new.count, new.not_finite, new.failed)

    _, sent = jax.eval_shape(run, y, z, rings, inp)

    def hold(y, z, rings, inp):
        return (y, z, rings), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sent)

    due = jax.lax.rem(clock.n, m) == m - 1
    (y, z, rings), (value, support, words, *rest) = jax.lax.cond(due, run, hold, y, z, rings, inp)
    return Update(y, z, rings, Emitted(value, support, words, single[0]), *rest)


def fusion(node: AbstractNode, solver: AnySolver, name: str, depths: dict[str, int], least: int = FEWEST) -> str:
    """How `update` runs: `fused`, or `XLA (reason)`. `depths`: of the ring of every port that is deposited into."""

    def step(n, key):
        clock = Clock.of(name, n, 0.1, key)
        y, z = node.init(clock)
        rings = {port: jnp.zeros((d, node.ports[port]), float_dtype()) for port, d in depths.items()}
        inp, dw = jnp.zeros((), float_dtype()), noise_of(node, solver, y, z, clock)
        plans.append(
            make_plan(advance, node, prepared(node, solver, y, z, clock.dt), y, z, rings, inp, clock, dw, least)
        )

    solver = solver.solver if isinstance(solver, Every) else solver
    plans: list[Any] = []
    jax.eval_shape(step, jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0)))
    return "fused" if isinstance(plans[0], Plan) else f"XLA ({plans[0]})"
