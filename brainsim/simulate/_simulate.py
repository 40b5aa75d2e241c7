"""`simulate`: a whole run under one compiled scan."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import diffrax
import jax

from ..base import Key, check_mesh, is_traced
from ..core import Network, State
from ._adjoint import AbstractAdjoint, CheckpointedAdjoint
from ._cache import bounded
from ._checks import checked_inputs, checked_recordings, checked_solvers, checked_steps, positive, strong
from ._flags import signs
from ._flows import with_flows
from ._inputs import begun, warn_of_the_past, with_input_states
from ._observation import with_recording_states
from ._parts import by_name, whole_lists
from ._run import run
from ._saveat import room_for
from ._solution import SimulationError, Solution, flag_message
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

    - `t1`, `t0`: end and start (ms): times, not lengths. `t0` is 0, or the time of `state`; give it where `state` is
      traced.
    - `dt`: step (ms).
    - `solver`: one solver for all nodes, or a dict by node; None and nodes left out get the default of their unit,
      `Propagator()` or, of masses, `diffrax.Heun()`.
    - `key`: seeds initial values and noise; needed unless `state` is given. Beside a `state` it is the key of this run:
      the same state with other keys makes trials.
    - `state`: start from here instead of drawing initial values (plastic weights too: they live in the state). It may
      come from a network with other parameters or delays; its nodes, edges and sizes must be those of `net`.
    - `inputs`: node -> input: a number or array (n,) for a constant (pA), an array (n_steps, n) with one row per step
      of this run, or a waveform such as `StepCurrent`, whose times are those of the state (a run from a state at 100 ms
      begins with what it is at 100 ms). A waveform with a state of its own (`OUCurrent`) goes on where the state left
      it, and starts anew where another kind of waveform takes its place.
    - `saveat`: recordings: `Spikes`, `Events`, `Trace`, `Current`, `Rate`, and what instruments see of these
      (`bs.observe`: `BOLD`, `EEG`, `LFP`, `Downsampled`).
    - `adjoint`: `CheckpointedAdjoint()` (default) or `DirectAdjoint()`, both exact; `TruncatedAdjoint`, `SLTTAdjoint`,
      `EPropAdjoint`, `OTTTAdjoint` leave credit out.
    - `progress_meter`: e.g. `diffrax.TqdmProgressMeter()`.
    - `throw`: raise `SimulationError` on divergence, solver failure or overflow; else look at `Solution.flags`.

    **Returns:** a `Solution`.

    **Raises:** ValueError or TypeError on arguments that do not fit; SimulationError as above (outside
    transformations). **Warns** of waveforms and replayed spikes that are over before the run begins.

    !!! Example "Trials from a burn-in"
        ```python
        burnt = bs.simulate(net, t1=500.0, key=jax.random.key(0)).state
        keys = jax.random.split(jax.random.key(1), 10)
        trial = lambda key: bs.simulate(net, t1=1500.0, state=burnt, key=key)
        trials = jax.vmap(trial)(keys)  # ten runs from 500 to 1500 ms, each with noise of its own
        ```
    """
    warn_of_the_past("simulate", net, inputs or {}, state)
    return continued(
        net,
        t1=t1,
        dt=dt,
        t0=t0,
        solver=solver,
        key=key,
        state=state,
        inputs=inputs,
        saveat=saveat,
        adjoint=adjoint,
        progress_meter=progress_meter,
        throw=throw,
    )


def continued(
    net: Network,
    *,
    t1: float,
    dt: float,
    t0: float | None = None,
    solver: Any = None,
    key: Key | None = None,
    state: State | None = None,
    inputs: dict[str, Any] | None = None,
    saveat: Sequence[Any] = (),
    adjoint: AbstractAdjoint | None = None,
    progress_meter: diffrax.AbstractProgressMeter | None = None,
    throw: bool = True,
) -> Solution:
    """`simulate`, which may be the next piece of a longer run: what is over by now was there before."""
    dt = positive("dt", dt)
    check_mesh("simulate", (net, key, state, inputs))
    net = strong(net)
    solvers = checked_solvers(net, solver)
    begin = begun("simulate", net, state, key, dt)
    n_steps = checked_steps(t0, t1, dt, state)
    recordings = checked_recordings(net, saveat, n_steps)
    given = checked_inputs(net, inputs or {}, n_steps=n_steps)
    net = net.known(dt)
    net.check(dt)
    begin = with_recording_states(net, signs(net, with_input_states(net, begin, given)), recordings)
    net = with_flows(net, recordings)
    adjoint = CheckpointedAdjoint() if adjoint is None else adjoint
    meter = diffrax.NoProgressMeter() if progress_meter is None else progress_meter
    with Watch() as watch:
        rooms = room_for(
            net, recordings, n_steps, dt, growing=not any(map(is_traced, jax.tree.leaves((net, begin, given))))
        )
        taken, taken_rooms, merged = whole_lists(net, recordings, rooms)
        sol = by_name(net, run(net, begin, given, solvers, taken, taken_rooms, n_steps, adjoint, meter), merged)
        if any(is_traced(x) for x in jax.tree.leaves(sol)):
            return sol
        jax.block_until_ready(sol)
    bounded()
    sol = dataclasses.replace(sol, compile_s=watch.compile_s, run_s=watch.run_s)
    said = flag_message(sol, net, given)
    if throw and said is not None:
        raise SimulationError(said, sol)
    return sol
