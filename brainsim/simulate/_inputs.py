"""What a run is given from outside: the state it begins with, its key, its inputs and what of them is over by then."""

import dataclasses
import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..base import Key, float_dtype, is_traced
from ..base.jax_internals import partial_eval as pe
from ..core import (
    AbstractInput,
    AbstractNode,
    AbstractProcess,
    Clock,
    InputState,
    Network,
    Source,
    State,
    initial_state,
    run_key,
)


def begun(owner: str, net: Network, state: State | None, key: Key | None, dt: float | None) -> State:
    """The state that a run of steps `dt` (None: of the state) begins with: drawn with `key`, or `state`, with `key` for
    the noise of the run."""
    if state is None:
        if key is None or dt is None:
            raise ValueError(f"{owner}: give key=jax.random.key(seed) for initial values and noise, or state=.")
        return initial_state(net, dt=dt, key=key)
    if not isinstance(state, State):
        hint = " Pass sol.state." if hasattr(state, "state") else ""
        raise TypeError(f"{owner}: state is a {type(state).__name__}; expected a State.{hint}")
    if jnp.ndim(state.n):
        raise ValueError(
            f"{owner}: the state is a batch of shape {jnp.shape(state.n)}, from runs under vmap. Take one of them, "
            "jax.tree.map(lambda x: x[0], state), or simulate under jax.vmap over the states."
        )
    if dt is not None and not math.isclose(state.dt, dt):
        raise ValueError(f"{owner}: the state counts in steps of {state.dt} ms, not of dt = {dt} ms. Use the same dt.")
    return state if key is None else dataclasses.replace(state, key=run_key(key))


def kind_of(source: AbstractInput) -> str:
    """The classes of a waveform and of those it is made of."""
    inside = jax.tree.leaves(vars(source), is_leaf=lambda x: isinstance(x, AbstractInput))
    parts = [kind_of(x) for x in inside if isinstance(x, AbstractInput)]
    return f"{type(source).__name__}({', '.join(parts)})" if parts else type(source).__name__


def with_input_states(net: Network, state: State, inputs: dict[str, Any]) -> State:
    """`state` with a state for every waveform: the one it has, or an initial one where there is none of this kind."""
    known, sizes = dict(state.inputs), net.sizes
    for name, source in inputs.items():
        if isinstance(source, AbstractInput):
            kind, clock = kind_of(source), Clock.of(name, state.n, state.dt, state.key)
            if not _continues(known.get(name), kind, source, sizes[name], clock):
                known[name] = InputState(source.init(sizes[name], clock), kind)
    return dataclasses.replace(state, inputs=known)


def _continues(old: InputState | None, kind: str, source: AbstractInput, n: int, clock: Clock) -> bool:
    """Whether `old` is a state of this waveform."""
    if old is None or old.kind != kind:
        return False
    if not jax.tree.leaves(old.z):
        return True
    shape = lambda z: jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), z)  # noqa: E731
    return shape(old.z) == shape(eqx.filter_eval_shape(source.init, n, clock))


def check_inputs_read(net: Network, inputs: dict[str, Any]) -> None:
    """Raise for an input that its node does not read, and for a source that needs an input and has none."""
    for name in inputs:
        node = net.nodes[net.unit_range(name)[0]]
        if not _reads_input(node, name):
            what = f"the process {type(node.process).__name__}" if isinstance(node, Source) else "the unit"
            raise ValueError(
                f"inputs[{name!r}]: {what} of {name!r} reads no input, so that this one has no effect. Leave it out; "
                "of the sources, bs.Poisson adds an input to its rate and bs.External emits it."
            )
    for name in without_input(net, inputs):
        raise ValueError(
            f"Source {name!r} emits its input, and the run has none for it. Give inputs={{{name!r}: ...}}: an array "
            "(n_steps, n), a waveform, or 0.0 for silence."
        )


def without_input(net: Network, inputs: dict[str, Any]) -> list[str]:
    """The sources that need an input and have none, by the names they go by."""
    needy = [k for k, node in net.nodes.items() if isinstance(node, Source) and node.process.needs_input]
    names = [name for whole in needy if whole not in inputs for name in net.members.get(whole, [whole])]
    return [name for name in names if name not in inputs]


def _reads_input(node: AbstractNode, name: str) -> bool:
    """Whether anything that `node` computes in a step depends on its input."""

    def of(inp: Any, n: Any, key: Any) -> Any:
        clock = Clock.of(name, n, 0.1, key)
        y, z = node.init(clock)
        return node.vector_field(y, z, inp), node.jump(y, z, inp, clock)

    shapes = (jax.ShapeDtypeStruct((), float_dtype()), jax.ShapeDtypeStruct((), jnp.int32))
    jaxpr = jax.make_jaxpr(of)(*shapes, jax.eval_shape(lambda: jax.random.key(0))).jaxpr
    return pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1][0]


def _timed(tree: Any) -> list[Any]:
    """The waveforms and processes in a tree, and those that they are made of."""
    timed = lambda x: isinstance(x, AbstractInput | AbstractProcess)  # noqa: E731
    found = [x for x in jax.tree.leaves(tree, is_leaf=timed) if timed(x)]
    return [one for x in found for one in (x, *_timed(vars(x)))]


def warn_of_the_past(owner: str, net: Network, inputs: dict[str, Any], state: State | None) -> None:
    """Warn, once, of waveforms and replayed spikes that are over before a run from `state` begins."""
    if not isinstance(state, State) or is_traced(state.n) or jnp.ndim(state.n) or not int(state.n):
        return
    begin, after = int(state.n) * state.dt, (int(state.n) + 0.5) * state.dt
    over: list[str] = []
    given = {f"inputs[{name!r}]": x for name, x in inputs.items()}
    for where, tree in {**net.nodes, **net.edges, **given}.items():
        ends = [(type(x).__name__, x.silent_from) for x in _timed(tree)]
        over += [f"{where} ({kind}, until {end:g} ms)" for kind, end in ends if end is not None and end < after]
    if over:
        warnings.warn(
            f"{owner}: the run begins at {begin:g} ms, when these are over: {', '.join(over)}. Their times are those "
            f"of the state, not counted from the start of the run: add {begin:g} to them, or give inputs as an array "
            "of one row per step, which begins with the run.",
            stacklevel=3,
        )
