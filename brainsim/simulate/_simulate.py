"""`simulate`: a whole run under one compiled scan."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import diffrax
import jax

from ..base import Key, is_traced
from ..core import Network, State, initial_state
from ._adjoint import AbstractAdjoint, CheckpointedAdjoint
from ._checks import checked_inputs, checked_recordings, checked_solvers, checked_steps, positive, strong
from ._parts import by_name, whole_lists
from ._run import run
from ._saveat import room_for
from ._solution import SimulationError, Solution, flag_message
from ._step import with_input_states
from ._timing import Watch


def simulate(
    net: Network,
    *,
    t1: float,
    dt: float = 0.1,
    t0: float | None = None,
    solver: diffrax.AbstractSolver | dict[str, diffrax.AbstractSolver] | None = None,
    key: Key | None = None,
    state: State | None = None,
    inputs: dict[str, Any] | None = None,
    saveat: Sequence[Any] = (),
    adjoint: AbstractAdjoint | None = None,
    progress_meter: diffrax.AbstractProgressMeter | None = None,
    throw: bool = True,
) -> Solution:
    """Run `net` from `t0` to `t1`. Works under jit, grad, jvp and vmap.

    **Arguments:**

    - `t1`, `t0`: end and start (ms). `t0` is 0, or the time of `state`; give it where `state` is traced.
    - `dt`: step (ms).
    - `solver`: one solver for all nodes, or a dict by node; None and nodes left out get `ExponentialEuler()`.
    - `key`: seeds initial values and noise; needed unless `state` is given.
    - `state`: start from here instead of drawing initial values (plastic weights too: they live in the state).
    - `inputs`: node -> input: a number or array (n,) for a constant (pA), an array (n_steps, n) with one row per step,
      or a waveform such as `StepCurrent`.
    - `saveat`: recordings: `Spikes`, `Events`, `Trace`, `Current`, `Rate`.
    - `adjoint`: `CheckpointedAdjoint()` (default) or `DirectAdjoint()`, both exact; `TruncatedAdjoint`, `SLTTAdjoint`,
      `EPropAdjoint`, `OTTTAdjoint` leave credit out.
    - `progress_meter`: e.g. `diffrax.TqdmProgressMeter()`.
    - `throw`: raise `SimulationError` on divergence, solver failure or overflow; else look at `Solution.flags`.

    **Returns:** a `Solution`.

    **Raises:** ValueError or TypeError on arguments that do not fit; SimulationError as above (outside
    transformations).
    """
    dt = positive("dt", dt)
    net = strong(net)
    solvers = checked_solvers(net, solver)
    n_steps = checked_steps(t0, t1, dt, state)
    recordings = checked_recordings(net, saveat, n_steps)
    given = checked_inputs(net, inputs or {}, n_steps=n_steps)
    if state is None:
        if key is None:
            raise ValueError("simulate: give key=jax.random.key(seed) for initial values and noise, or state=.")
        state = initial_state(net, dt=dt, key=key)
    elif not math.isclose(state.dt, dt):
        raise ValueError(f"simulate: the state counts in steps of {state.dt} ms, not of dt = {dt} ms. Use the same dt.")
    net.at(dt)  # warns, outside the compiled run, of delays that dt does not divide and the like
    state = with_input_states(net, state, given)
    adjoint = CheckpointedAdjoint() if adjoint is None else adjoint
    meter = diffrax.NoProgressMeter() if progress_meter is None else progress_meter
    with Watch() as watch:
        rooms = room_for(
            net, recordings, n_steps, dt, growing=not any(map(is_traced, jax.tree.leaves((net, state, given))))
        )
        taken, taken_rooms, merged = whole_lists(net, recordings, rooms)
        sol = by_name(net, run(net, state, given, solvers, taken, taken_rooms, n_steps, adjoint, meter), merged)
        if any(is_traced(x) for x in jax.tree.leaves(sol)):
            return sol
        jax.block_until_ready(sol)
    sol = dataclasses.replace(sol, compile_s=watch.compile_s, run_s=watch.run_s)
    message = flag_message(sol)
    if throw and message is not None:
        raise SimulationError(message, sol)
    return sol
