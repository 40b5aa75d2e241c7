"""Couplings of continuous values: what masses send each other over tracts of a length and a speed."""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..base import check_parameter, float_dtype, is_traced, parameter
from ..events import CSR
from ._deposit import Deposit
from ._distributions import AbstractDistribution
from ._edge import AbstractDeclaredEdge, AbstractEdge, AbstractScheduledEdge
from ._node import Population
from ._state import Emitted, NodeState, ring_slot
from ._wiring import Route, _Instant, by_synapse, ring_depth, value_of, wire, within_line


def _function(f: Any) -> Any:
    """A plain function as part of a structure, a module as it is."""
    return f if f is None or isinstance(f, eqx.Module) else jax.tree_util.Partial(f)


def _optional(x: Any) -> Any:
    return None if x is None else value_of(x)


class _Tracts(AbstractDeclaredEdge):
    """What both couplings declare: synapses whose delays are lengths over a speed."""

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    weight: Any = eqx.field(kw_only=True, converter=value_of)
    delay: Any = eqx.field(kw_only=True, converter=_optional, default=None)
    lengths: Any = eqx.field(kw_only=True, converter=_optional, default=None)
    speed: Any = eqx.field(kw_only=True, converter=_optional, default=None)
    max_delay: float | None = eqx.field(kw_only=True, static=True, default=None)
    function: Any = eqx.field(kw_only=True, converter=_function, default=None)
    history: Any = eqx.field(kw_only=True, converter=_optional, default=None)

    def _wired(self, where: str, nodes: Any, key: Any, channels: int) -> dict[str, Any]:
        """The wired fields, checked."""
        if (self.lengths is None) == (self.delay is None) or (self.lengths is None) != (self.speed is None):
            raise ValueError(f"{where}: expected lengths= (mm) with speed= (m/s), or delay= (ms).")
        if isinstance(self.delay, _Instant) or any(
            isinstance(x, AbstractDistribution) for x in (self.lengths, self.speed, self.delay)
        ):
            raise ValueError(f"{where}: delay, lengths and speed are numbers or arrays; expected no distribution.")
        if self.speed is not None:
            check_parameter(where, "speed", self.speed)
            if jnp.ndim(self.speed) or (not is_traced(self.speed) and not float(self.speed) > 0):
                raise ValueError(f"{where}.speed is {self.speed}; expected one number > 0 (m/s, which is mm/ms).")
        if self.function is not None and not callable(self.function):
            raise TypeError(f"{where}.function is {self.function!r}; expected a function of arrays.")
        given = dataclasses.replace(self, delay=_delays(self))
        fields = wire(where, given, nodes, key, channels=channels)
        topology = fields["connect"]
        if not isinstance(topology, CSR):
            raise ValueError(
                f"{where}.connect makes a {type(topology).__name__}; expected a list of synapses. Use bs.FromCOO(i, j) "
                "with (i, j) = numpy.nonzero(matrix)."
            )
        lengths = self.lengths if self.lengths is None or jnp.ndim(self.lengths) == 0 else self.lengths.reshape(-1)
        delay = fields["delay"] if self.lengths is None else None
        n_pre = nodes[fields["route"].pre].size
        if self.history is not None and jnp.shape(self.history)[1:] != (n_pre,):
            raise ValueError(
                f"{where}.history has shape {jnp.shape(self.history)}; expected (times, {n_pre}): the values at 0, "
                "-dt, -2 dt, ..."
            )
        return fields | dict(
            delay=delay, lengths=lengths, speed=self.speed, function=self.function, history=self.history
        )


def _delays(edge: Any) -> Any:
    """The delays (ms) of declared or wired tracts, in the order of the user's list."""
    return edge.delay if edge.lengths is None else edge.lengths / edge.speed


class _WiredTracts(AbstractEdge):
    """Tracts in a network: a CSR, and values in the order of the user's list (`order`: of every synapse its place
    there; None: the same)."""

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: CSR
    weight: Any = eqx.field(converter=value_of)
    delay: Any = eqx.field(converter=_optional)  # None where lengths are given
    lengths: Any = eqx.field(converter=_optional)  # None where a delay is given
    speed: Any = eqx.field(converter=_optional)
    max_delay: float = eqx.field(static=True)
    function: Any = eqx.field(converter=_function)
    history: Any = eqx.field(converter=_optional)
    order: Array | None
    route: Route = eqx.field(static=True)

    @property
    def writes(self):
        return self.route.post, self.route.port

    @property
    def instant(self):
        return False

    @property
    def delays_fit(self):
        return within_line(_delays(self), self.max_delay)

    def _synapses(self, where: str, dt: float) -> tuple[Array, Array]:
        """Weights and delays (in steps of `dt`) of the synapses of the topology, one each."""
        n_syn = self.connect.n_syn
        weight = by_synapse(where, "weight", self.weight, self.connect, self.order)
        if self.lengths is None:
            delay = by_synapse(where, "delay", self.delay, self.connect, self.order)
        else:
            delay = by_synapse(where, "lengths", self.lengths, self.connect, self.order) / self.speed
        x = jnp.broadcast_to(delay, (n_syn,)) / dt
        line = self.max_delay / dt
        x = x + jax.lax.stop_gradient(jnp.clip(x, 0.0, max(line, 1.0)) - x)
        return jnp.broadcast_to(weight, (n_syn,)), x

    def _pre(self) -> Int[Array, " n_syn"]:
        """The pre unit of every synapse, counted in the whole node."""
        start, _, step = self.route.units_pre or (0, 0, 1)
        indptr = self.connect.indptr
        rows = jnp.arange(indptr.shape[0] - 1, dtype=jnp.int32)
        return jnp.repeat(rows, jnp.diff(indptr), total_repeat_length=self.connect.n_syn) * step + start

    def _past(self, value: Array, length: int) -> Float[Array, "length n_pre"]:
        """The values at 0, -dt, -2 dt, ...; what is given, its last held before that, or the value at 0."""
        if self.history is None:
            return jnp.broadcast_to(value, (length, value.shape[0]))
        past = jnp.asarray(self.history, value.dtype)[:length]
        return jnp.concatenate([past, jnp.broadcast_to(past[-1], (length - past.shape[0], value.shape[0]))])


class Coupling(_Tracts):
    r"""Masses coupled over tracts: the port of unit i receives

    $$c_i(t) = \sum_j w_{ij}\, f(x_j(t - d_{ij})), \quad d_{ij} = L_{ij} / v$$

    where x is what the units of `pre` send (`emit` of the unit: E of `WilsonCowan`, the rate of `JansenRit`, ...). A
    step sees the mean of c at its two ends, with values between two samples interpolated: order 2 in dt together with
    a solver of order 2 such as `diffrax.Heun()`. A delay below dt counts as dt.

    Before t = 0 the values are those at 0, or `history`. The edge is a projection of graded events, as fast and as
    differentiable as one, in the weights, the speed and the delays.

    **Arguments:**

    - `pre`, `post`, `connect`: as in `Projection`, with a list of synapses (`bs.FromCOO`); the port of `post` is a
      `bs.CouplingPort()`. Matrices of connectomes often have the target as row: `bs.FromCOO(source, target)`.
    - `weight`: number or one value per synapse; times x it has the unit of the mass's input.
    - `lengths`, `speed`: mm per synapse and m/s; or `delay`: ms, number or per synapse. All of them can be learnt.
    - `max_delay`: the longest delay (ms) where lengths, speed or delays are to change; default the longest now.
    - `function`: f, a function or equinox module of the array of all values sent; default the identity. A function
      runs in XLA, outside the fused step.
    - `rounded`: True rounds delays to whole steps of dt: one scatter a step instead of two. The delays then change
      with dt, and have no derivative.
    - `history`: (times, n_pre), the values sent at 0, -dt, -2 dt, ...; the last is held before that.

    **Raises:** ValueError at construction for lengths without a speed, dense topologies, and delays beyond `max_delay`.
    """

    rounded: bool = eqx.field(kw_only=True, static=True, default=False)

    def wire(self, where, nodes, key):
        return WiredCoupling(**self._wired(where, nodes, key, 1), rounded=self.rounded)


class WiredCoupling(_WiredTracts):
    """A `Coupling` in a network."""

    rounded: bool = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre}

    def depth(self, dt):
        return ring_depth(self.max_delay, dt) + 1

    def _taps(self, where: str, dt: float) -> tuple[tuple[Array, Array], ...]:
        """(weight, steps) of both samples that a delay lies between."""
        weight, x = self._synapses(where, dt)
        line = self.depth(dt) - 1
        if self.rounded:
            k = jnp.clip(jnp.floor(x + 0.5).astype(jnp.int32), 1, line)
            return ((weight, k),)
        x = x + jax.lax.stop_gradient(jnp.maximum(x, 1.0) - x)
        whole = jnp.floor(jax.lax.stop_gradient(x))
        share, k = x - whole, whole.astype(jnp.int32)
        return (weight * (1.0 - share), k), (weight * share, jnp.minimum(k + 1, line))

    def schedule(self, where, dt):
        return ScheduledCoupling(self.connect, self._taps(where, dt), self.function, self.route)

    def init(self, clock):
        return {}

    def begin(self, where, z, nodes, states, dt):
        pre = self.route.pre
        value = sent_at(nodes[pre], states[pre])
        value = value if self.function is None else self.function(value)
        depth = self.depth(dt)
        past, n_post = self._past(value, depth + 1), self.connect.n_post
        return z, _arrivals(self._taps(where, dt), past, self._pre(), self.connect.indices, depth, n_post)


class ScheduledCoupling(AbstractScheduledEdge):
    """A coupling at one dt; `taps`: (weight, steps) of each share of a value."""

    connect: CSR
    taps: tuple[tuple[Array, Array], ...]
    function: Any
    route: Route = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre}

    @property
    def writes(self):
        return self.route.post, self.route.port

    @property
    def instant(self):
        return False

    @property
    def weights(self):
        return tuple(weight for weight, _ in self.taps)

    def deposits(self, sent):
        route = self.route
        first = route.units_pre[0] if route.units_pre and route.units_pre[2] == 1 else 0
        rows: dict[str, Any] = dict(support=sent.support, words=sent.words, first=first, part=route.units_post)
        return [Deposit(route.post, route.port, sent.value, k, self.connect, w, **rows) for w, k in self.taps]

    def send(self, z, views, clock):
        sent, _ = views["pre"].events.rows(self.route.units_pre)
        if self.function is not None:
            sent = Emitted(self.function(sent.value))
        return z, self.deposits(sent)


def sent_at(node: Any, state: NodeState) -> Float[Array, " n"]:
    """What the units of a population send in this state, without spikes; nothing of other nodes."""
    silent = jnp.zeros(node.size, float_dtype())
    return node.unit.emit(state.y["unit"], state.z, silent) if isinstance(node, Population) else silent


@partial(jax.jit, static_argnums=(4, 5))
def _arrivals(parts: Any, past: Array, pre: Array, post: Array, depth: int, n_post: int) -> Array:
    """What arrives in the steps -1 to `depth` - 1 of values sent before t = 0."""

    def at_step(m):
        total = jnp.zeros(n_post, past.dtype)
        for weight, k in parts:
            sent = weight * past[jnp.clip(k - m - 1, 0, depth), pre]
            total = total.at[post].add(jnp.where(k > m, sent, jnp.zeros_like(sent)))
        return total

    return jax.lax.map(at_step, jnp.arange(-1, depth, dtype=jnp.int32))


class PairCoupling(_Tracts):
    r"""Masses coupled by a function of both ends: the port of unit i receives

    $$c_i(t) = \sum_j w_{ij}\, f(x_i(t), x_j(t - d_{ij})), \quad d_{ij} = L_{ij} / v$$

    of one variable x, such as `bs.diffusive`, $x_j - x_i$, and `bs.sinusoidal`, $\sin(x_j - x_i)$, the Kuramoto model.
    Within a step f is linear in $x_i$ about its start, and $x_j$ is that of the step's middle: order 2 in dt together
    with a solver of order 2. It keeps the past of `pre` and gathers two values a synapse and step, in XLA; where f is a
    function of $x_j$ alone, `Coupling` is faster.

    **Arguments:** `pre`, `post`, `connect`, `weight`, `lengths`, `speed`, `delay`, `max_delay`, `history` as in
    `Coupling`, without a smallest delay; the port of `post` is a `bs.PairPort(variable)`. `function`: `f(x_post,
    x_pre)` of arrays of equal shape; `variable`: the variable of the units of `pre`, by default that of the port.

    **Raises:** as `Coupling`; TypeError for a function that does not take two arrays.
    """

    variable: str | None = eqx.field(kw_only=True, static=True, default=None)

    def wire(self, where, nodes, key):
        if self.function is None:
            raise ValueError(f"{where}.function is missing; expected f(x_post, x_pre), such as bs.diffusive.")
        row = jax.ShapeDtypeStruct((2,), float_dtype())
        try:
            made = jax.eval_shape(self.function, row, row)
        except TypeError as e:
            raise TypeError(f"{where}.function: expected f(x_post, x_pre) of two arrays; it fails: {e}") from e
        if getattr(made, "shape", None) != (2,):
            raise TypeError(f"{where}.function returned {made}; expected an array of the shape of its arguments.")
        fields = self._wired(where, nodes, key, 2)
        route = fields["route"]
        port: Any = nodes[route.post]
        seen = getattr(port.receptors[route.port], "variable", "")
        source: Any = nodes[route.pre]
        variable = seen if self.variable is None else self.variable
        if variable not in source.variables:
            raise ValueError(f"{where}: {route.pre!r} has no variable {variable!r}; it has {source.variables}.")
        return WiredPairCoupling(**fields, variable=variable, variable_post=seen)


class WiredPairCoupling(_WiredTracts):
    """A `PairCoupling` in a network, with the variables that it reads of both ends."""

    variable: str = eqx.field(static=True)
    variable_post: str = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre, "post": self.route.post}

    def schedule(self, where, dt):
        weight, x = self._synapses(where, dt)
        # what the step after this one sees at its middle, in steps back from its start
        x = x - 0.5 + jax.lax.stop_gradient(jnp.maximum(x - 0.5, 0.0) - (x - 0.5))
        whole = jnp.floor(jax.lax.stop_gradient(x))
        samples = weight, x - whole, whole.astype(jnp.int32), self._pre()
        variables = self.variable, self.variable_post
        return ScheduledPairCoupling(self.connect, samples, self.function, variables, self.route)

    def depth(self, dt):
        return 1

    def _line(self, dt: float) -> int:
        return ring_depth(self.max_delay, dt) + 2

    def init(self, clock):
        n_pre = self.connect.n_pre if self.route.units_pre is None else self.route.units_pre[1]
        return {"past": jnp.zeros((self._line(clock.step or float(clock.dt)), n_pre), float_dtype())}

    def begin(self, where, z, nodes, states, dt):
        x = states[self.route.pre].y["unit"][self.variable]
        x_post = states[self.route.post].y["unit"][self.variable_post]
        line, width = z["past"].shape
        past = self._past(x, line)[:, :width]
        z = {"past": past[-jnp.arange(line) % line]}  # row 0 is now, row line - 1 one step ago
        edge = self.schedule(where, dt)
        row = edge.row(z, x_post, jnp.asarray(0, jnp.int32))
        return z, jnp.stack([jnp.zeros_like(row), row])


class ScheduledPairCoupling(AbstractScheduledEdge):
    """A pair coupling at one dt; `samples`: of every synapse its weight, the share of the earlier one of the two values
    that its delay lies between, steps back to the later one, and the pre unit."""

    connect: CSR
    samples: tuple[Array, Array, Array, Array]
    function: Any
    variables: tuple[str, str] = eqx.field(static=True)
    route: Route = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre, "post": self.route.post}

    @property
    def writes(self):
        return self.route.post, self.route.port

    @property
    def instant(self):
        return False

    def row(self, z: Any, x_post: Array, n: Array) -> Array:
        """`(G, J)` of every unit, with the newest values of the past at `n`."""
        weight, share, whole, pre = self.samples
        past, line = z["past"], z["past"].shape[0]
        near, far = (ring_slot(n - whole - one + 2 * line, line) for one in (0, 1))
        x_j = (1.0 - share) * past[near, pre] + share * past[far, pre]
        post = self.connect.indices
        x_i = x_post[post]
        value, slope = jax.jvp(lambda x: self.function(x, x_j), (x_i,), (jnp.ones_like(x_i),))
        zero = jnp.zeros_like(x_post)
        total, gain = zero.at[post].add(weight * value), zero.at[post].add(weight * slope)
        return jnp.concatenate([gain, total - gain * x_post])

    def send(self, z, views, clock):
        x, x_post = views["pre"].y["unit"][self.variables[0]], views["post"].y["unit"][self.variables[1]]
        n = clock.n + 1
        z = {"past": z["past"].at[ring_slot(n, z["past"].shape[0])].set(x[: z["past"].shape[1]])}
        row = self.row(z, x_post, n)
        return z, [Deposit(self.route.post, self.route.port, row, jnp.asarray(1, jnp.int32))]


def diffusive(x_post: Array, x_pre: Array) -> Array:
    """`x_pre - x_post`, for `bs.PairCoupling`."""
    return x_pre - x_post


def sinusoidal(x_post: Array, x_pre: Array) -> Array:
    """`sin(x_pre - x_post)`, for `bs.PairCoupling`: the Kuramoto model."""
    return jnp.sin(x_pre - x_post)


class Sigmoidal(eqx.Module):
    """`height / (1 + exp(slope (middle - x)))`, a function for `bs.Coupling`.

    **Arguments:** `middle`, in the unit of x; `slope`, per that; `height`.
    """

    middle: Array = eqx.field(converter=parameter, default=0.0)
    slope: Array = eqx.field(converter=parameter, default=1.0)
    height: Array = eqx.field(converter=parameter, default=1.0)

    def __call__(self, x: Array) -> Array:
        return self.height * jax.nn.sigmoid(self.slope * (x - self.middle))
