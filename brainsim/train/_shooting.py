"""Multiple shooting: a recorded voltage in segments, each from a start of its own, tied at their borders."""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..base import float_dtype, parameter, unknown
from ..core import AbstractInput, Network, Population, State, initial_state
from ..neurons import Sampled, VoltageClamp
from ..simulate import AbstractAdjoint, CheckpointedAdjoint, Trace, simulate
from ._residuals import AbstractResiduals

_SEGMENT = 10.0
"""Length of a segment by default (ms)."""


class MultipleShooting(AbstractResiduals):
    """Residuals of a recorded voltage, in `segments` stretches that are run side by side.

    One long run of a spiking cell is a bad guide for its parameters: a spike a little early is all wrong, and errors
    grow from spike to spike. Here each segment has its own initial state, unknown, and is tied to the end of the one
    before by

    (y_k(end) - y_{k+1}(start)) / (continuity * spread of y).

    The unknown initial states start at the measured voltage, with the other variables as they are when the unit is
    clamped to the recording. Source: Bock 1983; van Domselaar & Hemker 1975.

    **Arguments:**

    - `net`: a network of one population without edges; every unit has a recording of its own.
    - `node`: its name.
    - `data`: recorded voltage (mV), shape (steps,) or (steps, n), one sample at the end of every step of `dt`.
    - `dt`, `inputs`, `solver`: as for `simulate`. The run is as long as the data.
    - `segments`: how many; it divides the number of steps. None: such that one lasts about 10 ms, a spike or so. With
      fewer the first guess has to be better; with more each holds less about slow variables. A fit that ends far above
      the noise, or at a bound, warns: try twice as many.
    - `sigma`: standard deviation of the noise of the recording (mV).
    - `continuity`: allowed gap, as a part of the spread of a variable. Begin with a loose one (0.1), tighten it when
      that has converged (0.01): `loss.tightened(0.01, fitted)`.

    What jumps (`z`: refractory counters) starts anew in every segment.

    **Raises:** ValueError on a network, data, inputs or segments that do not fit.
    """

    node: str = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    segments: int = eqx.field(static=True)
    sigma: float | None = eqx.field(static=True)
    continuity: float = eqx.field(static=True)
    solver: Any
    data: Float[Array, "segments steps n"]
    inputs: dict[str, Any]
    starts: dict[str, Float[Array, "segments n"]]
    scale: dict[str, float] = eqx.field(static=True)
    adjoint: AbstractAdjoint

    def __init__(
        self,
        net: Network,
        node: str,
        data: Any,
        *,
        dt: float,
        segments: int | None = None,
        sigma: float | None = None,
        inputs: Mapping[str, Any] | None = None,
        solver: diffrax.AbstractSolver | None = None,
        continuity: float = 0.1,
        adjoint: AbstractAdjoint | None = None,
    ) -> None:
        if node not in net.sizes:
            raise ValueError(f"MultipleShooting: {unknown('node', node, net.sizes)}")
        if net.edges or len(net.nodes) > 1:
            raise ValueError(
                "MultipleShooting: the network has edges or several nodes; expected one population driven by currents. "
                "What is under way on edges cannot be cut at the borders of segments."
            )
        population: Any = net.nodes[node]
        data = np.asarray(data, float)
        data = data[:, None] if data.ndim == 1 else data
        if data.ndim != 2 or data.shape[1] != population.size or not np.all(np.isfinite(data)):
            raise ValueError(
                f"MultipleShooting: data of shape {data.shape}; expected finite numbers (steps, {population.size}), "
                "one column per unit."
            )
        if segments is None:
            wanted = max(1.0, data.shape[0] * float(dt) / _SEGMENT)
            whole = [k for k in range(1, data.shape[0] + 1) if data.shape[0] % k == 0]
            segments = min(whole, key=lambda k: abs(np.log(k / wanted)))
        if segments < 1 or data.shape[0] % segments:
            near = [k for k in range(1, data.shape[0] + 1) if data.shape[0] % k == 0]
            near = sorted(near, key=lambda k: abs(k - segments))[:3]
            raise ValueError(
                f"MultipleShooting: {segments} segments do not divide the {data.shape[0]} samples of the data; near "
                f"are {', '.join(map(str, sorted(near)))}."
            )
        if not continuity > 0:
            raise ValueError(f"MultipleShooting.continuity is {continuity}; expected > 0, a part of the spread.")
        self.node, self.dt, self.segments, self.sigma = node, float(dt), segments, sigma
        self.continuity, self.solver, self.adjoint = continuity, solver, adjoint or CheckpointedAdjoint()
        self.data = jnp.asarray(data.reshape(segments, -1, population.size), float_dtype())
        self.inputs = {name: self._cut(x, data.shape) for name, x in (inputs or {}).items()}
        if set(self.inputs) - {node}:
            raise ValueError(
                f"MultipleShooting: inputs for {unknown('node', next(iter(set(inputs or {}) - {node})), [node])}"
            )
        self.starts, self.scale = self._clamped(population, data)

    def _cut(self, x: Any, shape: tuple[int, int]) -> Any:
        if isinstance(x, AbstractInput):
            return x
        x = jnp.asarray(parameter(x))
        if x.ndim == 2 and x.shape[0] != shape[0]:
            raise ValueError(
                f"MultipleShooting: inputs of {x.shape[0]} steps and data of {shape[0]}; expected as many. "
                + ("The data are longer than the run." if shape[0] > x.shape[0] else "Cut the inputs.")
            )
        if x.shape not in ((), (shape[1],), shape):
            raise ValueError(f"MultipleShooting: inputs of shape {x.shape}; expected (), ({shape[1]},) or {shape}.")
        return x.reshape(self.segments, -1, shape[1]) if x.ndim == 2 else x

    def _clamped(self, population: Population, data: np.ndarray) -> tuple[dict[str, Array], dict[str, float]]:
        """The variables at the borders, and their spread, with the unit clamped to the recording."""
        # sample k is the value at the end of step k, so that the command in step k is the mean of two
        command = Sampled(np.concatenate([data[:1], data]), self.dt, linear=True)
        held = Population(VoltageClamp(population.unit, command), population.size)
        clamped = Network({self.node: held})
        traced = [Trace(target=f"{self.node}.{x}") for x in population.variables]
        key = jax.random.key(0)
        sol = simulate(clamped, t1=len(data) * self.dt, dt=self.dt, key=key, saveat=traced)
        start = initial_state(clamped, dt=self.dt, key=key).nodes[self.node].y["unit"]
        per, starts, scale = len(data) // self.segments, {}, {}
        for x in population.variables:
            course = np.asarray(data if x == "v" else sol[f"{self.node}.{x}"])
            first = course[:1] if x == "v" else np.asarray(start[x])[None]
            scale[x] = float(np.std(course)) or 1.0
            border = np.concatenate([first, course[per - 1 :: per][: self.segments - 1]])
            starts[x] = jnp.asarray(border, float_dtype())
        return starts, scale

    def tightened(self, continuity: float, fitted: Any) -> "MultipleShooting":
        """The same with a smaller gap allowed, whose segments start where those of `fitted` did."""
        starts = {x: s * self.scale[x] for x, s in fitted.free.items()}
        new = eqx.tree_at(lambda m: m.starts, self, starts)
        object.__setattr__(new, "continuity", float(continuity))
        return new

    def free(self):
        return {x: s * (1.0 / self.scale[x]) for x, s in self.starts.items()}

    def run(self, model: Network, starts: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Voltage (segments, steps, n), and the variables at the ends of the segments, each from its own start."""
        steps = self.data.shape[1]
        state = initial_state(model, dt=self.dt, key=jax.random.key(0))
        per_step = {name: x for name, x in self.inputs.items() if not isinstance(x, AbstractInput) and x.ndim == 3}
        lasting = {name: x for name, x in self.inputs.items() if name not in per_step}

        def one(k: Array, start: dict[str, Array], rows: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
            y = state.nodes[self.node].y
            where = lambda s: (s.n, s.nodes[self.node].y)  # noqa: E731
            begin: State = eqx.tree_at(where, state, (k * steps, y | {"unit": start}))
            sol = simulate(
                model,
                t0=0.0,
                t1=steps * self.dt,
                dt=self.dt,
                state=begin,
                solver=self.solver,
                inputs=lasting | rows,
                saveat=[Trace(target=f"{self.node}.v")],
                adjoint=self.adjoint,
            )
            return sol[f"{self.node}.v"], sol.state.nodes[self.node].y["unit"]

        return jax.vmap(one)(jnp.arange(self.segments, dtype=jnp.int32), starts, per_step)

    def residuals(self, model: Network, free: Any, *batch: Any) -> Any:
        starts = self._starts(free)
        v, ends = self.run(model, starts)
        return v - self.data, {x: (ends[x][:-1] - starts[x][1:]) * self._weight(x) for x in starts}

    def _weight(self, x: str) -> float:
        # residuals will be divided by sigma, and gaps have a measure of their own
        return (1.0 if self.sigma is None else self.sigma) / (self.continuity * self.scale[x])

    def linearised(self, model, named, free, *batch):
        # A segment depends on its own start alone, and a unit on its own: a column per variable serves all of them.
        (_, ends), tangent = jax.linearize(lambda named, s: self.run(model(named), s), named, self._starts(free))
        flat, unravel = ravel_pytree(named)
        still = jax.tree.map(jnp.zeros_like, ends)
        by_named = jax.vmap(lambda x: tangent(unravel(x), still))(jnp.eye(flat.size, dtype=flat.dtype))
        r = self(model(named), free)  # the same run again, which the compiler shares
        rows = by_named[0], {x: e[:, :-1] * self._weight(x) for x, e in by_named[1].items()}
        columns = jnp.concatenate([a.reshape(flat.size, -1) for a in jax.tree.leaves(rows)], 1).T
        by_free = {}
        zero = jax.tree.map(jnp.zeros_like, named)
        segments, n = self.segments, self.data.shape[2]
        own, following = jnp.eye(segments, dtype=flat.dtype), jnp.eye(segments, k=1, dtype=flat.dtype)
        unit = jnp.eye(n, dtype=flat.dtype)
        for x, s in free.items():
            dv, de = tangent(zero, still | {x: jnp.full_like(s, self.scale[x])})
            spread = jnp.einsum("klu,kj,uw->klujw", dv, own, unit)
            gaps = {}
            for other in ends:
                gap = jnp.einsum("ku,kj,uw->kujw", de[other], own, unit)
                if other == x:
                    gap = gap - self.scale[x] * jnp.einsum("kj,uw->kujw", following, unit)
                gaps[other] = gap[:-1] * self._weight(other)
            by_free[x] = jnp.concatenate([a.reshape(-1, segments, n) for a in jax.tree.leaves((spread, gaps))])
        per_sigma = 1.0 if self.sigma is None else 1.0 / self.sigma
        jacobian = jax.vmap(unravel)(columns), by_free
        return r, jax.tree.map(lambda j: j * per_sigma, jacobian)

    def _starts(self, free: Any) -> dict[str, Array]:
        return {x: s * self.scale[x] for x, s in free.items()}
