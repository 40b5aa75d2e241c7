r"""`simulate_events`: the same network without a time step, from event to event, with exact gradients of spike times.

Between events the units flow in closed form. The next event is the earliest of the arrivals under way, the threshold
crossings to come and the changes of the input. A crossing at time h of the guard $g(x(h; \theta); \theta) = 0$ has the
derivative $dh = -\partial_\theta g / \dot g$; the rest, flow over h, reset and arrival, is differentiated as it stands.
Reverse mode is then the adjoint system of EventProp, with its jumps at spikes, and with delays.

Source: Wunderlich & Pehle 2021, doi:10.1038/s41598-021-91786-z, eq. 1-5 (and their Methods); delays as in Meszaros,
Knight & Nowotny 2025, doi:10.48550/arXiv.2501.07331.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..base import Key, float_dtype, is_traced
from ..core import SINCE, Network, Population, Source, State, WiredProjection, initial_state
from ..events import CSR, Dense, FixedFanout
from ..neurons import Regular, Replay, StepCurrent
from ._affine import NotAffine, affine
from ._cache import bounded
from ._checks import checked_inputs, positive, strong
from ._event_loop import discrete, run_events
from ._solution import EventSolution


def simulate_events(
    net: Network,
    *,
    t1: float,
    key: Key | None = None,
    state: State | None = None,
    inputs: dict[str, Any] | None = None,
    max_events: int = 1000,
    max_spikes: int = 100,
    throw: bool = True,
) -> EventSolution:
    """Run `net` from 0 to `t1` (ms) without a time step: exact spike times, with exact gradients.

    Works under jit, vmap, grad and jvp: spike times are differentiable with respect to weights, delays, time constants,
    thresholds, initial values, currents and the times of sources. They jump where a spike appears or vanishes; no
    gradient sees that. Best in float64 (`jax_enable_x64`): float32 has 1e-4 ms left after 1,000 ms.

    The limit dt -> 0 of `simulate`: an event arrives `delay` ms after the spike (`INSTANT` at once), learnable delays
    at their `d`; in the refractory period what a Delta receptor adds is lost.

    **Arguments:**

    - `net`: `Population`s of units with affine equations between spikes (`LIF`, `CubaLIF`, `LeakyIntegrator`, yours)
      with `ExpCurr` or `Delta` receptors; `Source`s of `Replay` or `Regular`; `Projection`s. Packed or not.
    - `t1`: end (ms).
    - `key`, `state`: draw initial values, or start from those of `state` (`bs.initial_state`), with nothing under way.
    - `inputs`: node -> a number, an array (n,) or a `StepCurrent`, as in `simulate`.
    - `max_events`: room for spikes, changes of input and arrivals: one a spike and edge, or, where delays differ from
      synapse to synapse, one a spike and synapse. Time and memory follow the events that happen (memory: the square
      root of `max_events`).
    - `max_spikes`: room for the spikes of every unit.
    - `throw`: raise where the room was too small; else look at `EventSolution.overflow`.

    **Returns:** an `EventSolution`.

    **Raises:** ValueError or TypeError on what has no closed form, naming the node or edge; RuntimeError on overflow
    (outside transformations).

    !!! Example
        ```python
        def latency(weight):
            changed = eqx.tree_at(lambda net: net.edges["E"].weight, net, weight)
            return bs.simulate_events(changed, t1=50.0, key=key)["P"][3, 0]  # first spike of unit 3 (ms)

        jax.grad(latency)(net.edges["E"].weight)  # ms per unit of weight
        ```
    """
    t1 = positive("t1", t1)
    for name, x in (("max_events", max_events), ("max_spikes", max_spikes)):
        if isinstance(x, bool) or not isinstance(x, int) or x < 1:
            raise ValueError(f"simulate_events: {name} is {x!r}; expected a whole number >= 1.")
    net = strong(net)
    given = _checked_inputs(net, inputs or {})
    for name, node in net.nodes.items():
        _check_node(name, node)
    for name, edge in net.edges.items():
        _check_edge(name, edge)
    if state is None:
        if key is None:
            raise ValueError("simulate_events: give key=jax.random.key(seed) for initial values, or state=.")
        state = initial_state(net, dt=1.0, key=key)
    resting = tuple(name for name in net.nodes if _rests(net.nodes[name], state.nodes[name].z))
    sol = run_events(net, state, given, jnp.asarray(t1, float_dtype()), resting, max_events, max_spikes)
    if throw and not is_traced(sol.overflow) and bool(jnp.any(sol.overflow)):
        full = {name: int(jnp.max(c, initial=0)) for name, c in sol.counts.items()}
        most = max(full, key=lambda name: full[name])
        raise RuntimeError(
            f"simulate_events: only {float(jnp.min(sol.t)):g} of {t1:g} ms fit max_events = {max_events}, max_spikes = "
            f"{max_spikes}; the busiest unit, of node {most!r}, had {full[most]} spikes. Raise the one that is full."
        )
    if not is_traced(sol.t):
        bounded()
    return sol


def _checked_inputs(net: Network, inputs: dict[str, Any]) -> dict[str, Any]:
    checked = checked_inputs(net, inputs, n_steps=None)
    for name, x in checked.items():
        if name not in net.nodes or not isinstance(net.nodes[name], Population):
            raise ValueError(f"simulate_events: input for {name!r}; expected a population that is not part of another.")
        if eqx.is_array(x) or isinstance(x, StepCurrent):
            continue
        raise TypeError(
            f"simulate_events: the input of {name!r} is a {type(x).__name__}, which is not constant in steps. Give a "
            "number, an array (n,) or a StepCurrent, or use simulate."
        )
    return checked


def _check_node(name: str, node: Any) -> None:
    """Raise unless the node has a closed form between events."""
    fix = "Use simulate, with a time step."
    if isinstance(node, Source):
        if not isinstance(node.process, Replay | Regular):
            raise TypeError(
                f"simulate_events: source {name!r} is {type(node.process).__name__}, whose events are decided step by "
                f"step. Give its spikes as bs.Replay(times, ids), or use simulate."
            )
        return
    if not isinstance(node, Population) or not node.structure.independent:
        raise TypeError(f"simulate_events: node {name!r} is a {type(node).__name__} whose units flow together. {fix}")
    if node.noise is not None:
        raise ValueError(f"simulate_events: population {name!r} has noise, so no closed form. Drop it. {fix}")
    unit = type(node.unit).__name__
    if node.graded:
        raise ValueError(f"simulate_events: the unit {unit} of population {name!r} emits graded values. {fix}")
    z = discrete(node, 0)
    if set(z) - {"refractory", SINCE} or ("refractory" in z and not hasattr(node.unit, "t_ref")):
        raise ValueError(f"simulate_events: the unit {unit} of population {name!r} has the state {sorted(z)}. {fix}")
    try:
        affine(node, z)
        if "refractory" in z:
            affine(node, discrete(node, 1))
    except NotAffine as e:
        kinds = sorted({type(r).__name__ for r in node.receptors.values()})
        raise ValueError(
            f"simulate_events: population {name!r} ({unit} with {', '.join(kinds) or 'no receptors'}) has no closed "
            f"form: {e}. Use LIF or CubaLIF with ExpCurr or Delta receptors, or simulate with a time step."
        ) from None


def _rests(node: Any, z: Any) -> bool:
    """Whether any unit may be in a refractory period."""
    if not isinstance(node, Population) or "refractory" not in z:
        return False
    unit: Any = node.unit
    return any(is_traced(x) or bool(np.any(np.asarray(x) > 0)) for x in (unit.t_ref, z["refractory"]))


def _check_edge(name: str, edge: Any) -> None:
    """Raise unless the edge sends the same weight at every spike."""
    if not isinstance(edge, WiredProjection):
        raise TypeError(f"simulate_events: edge {name!r} is a {edge.kind}; expected a Projection. Use simulate.")
    if edge.short_term is not None:
        raise ValueError(f"simulate_events: edge {name!r} has short-term plasticity. Drop it, or use simulate.")
    if not isinstance(edge.connect, CSR | FixedFanout | Dense):
        raise ValueError(
            f"simulate_events: edge {name!r} draws its synapses anew at every spike. Use the rule without Procedural."
        )
