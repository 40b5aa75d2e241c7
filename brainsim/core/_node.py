"""Nodes of a network: populations of units with their receptors, and sources of events."""

import abc
import warnings
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..base import (
    Frozen,
    FrozenDict,
    Param,
    check_parameter,
    float_dtype,
    is_traced,
    parameter,
    unknown,
    warn_off_grid,
)
from ._crossing import SINCE, Crossing, counted
from ._distributions import AbstractDistribution, draw
from ._equations import drop, emission, flows_linearly, reads_v, resets_by_choice
from ._input import AbstractInput
from ._protocol import check_receptor, check_unit
from ._state import Clock, Emitted, name_hash
from ._surrogate import AbstractSurrogate, HalfDrop
from ._unit import AbstractNoise, AbstractReceptor, AbstractUnit, Structure

_STEEPEST = 2.0 * (1.0 + 1e-4)
"""Slope at threshold times the drop of the guard, above which a reset makes gradients grow; more than rounding above
2."""


@jax.custom_jvp
def _moved(x: Array, s: Array, jump: Array) -> Array:
    """`x`, with the derivative of `x + s jump`."""
    return x


@_moved.defjvp
def _moved_jvp(primals, tangents):
    x, _, jump = primals
    ds = tangents[1].reshape(tangents[1].shape + (1,) * (x.ndim - 1))
    return x, tangents[0] + ds * jump


def _size(owner: str, size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 0:
        raise ValueError(f"{owner}.size is {size!r}; expected a whole number of units >= 0. Pass an int.")
    return int(size)


class AbstractNode(Frozen):
    """A hybrid system of `size` units: `y` flows under `vector_field`, `(y, z)` jumps, events come out.

    `ports` gives the width of every port in numbers per step: what edges may deposit into.
    """

    size: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def structure(self) -> Structure:
        """What flows together: solvers, fusion and online rules believe it, and `check_structure` checks it."""

    @property
    def spiking(self) -> bool:
        """Whether the events are spikes, which have a rate; elsewhere they are graded, or there are none."""
        return True

    @property
    def default_solver(self) -> Any:
        """The solver of a run that names none; None: `Propagator()`."""
        return None

    @property
    @abc.abstractmethod
    def ports(self) -> dict[str, int]:
        """Width of every port."""

    @abc.abstractmethod
    def check(self, name: str) -> None:
        """Raise on parameters that do not fit the size; `name` is the node's name in the network."""

    def at(self, name: str, dt: float) -> "AbstractNode":
        """The node as a run with steps of `dt` (ms) has it; warns of durations that `dt` does not divide."""
        del name, dt
        return self

    def watched(self, z: Any, inp: Array, clock: Clock) -> list[Array]:
        """Arrays that must be finite in a step that begins with `z`, beside what flows: else the node is flagged."""
        del z, inp, clock
        return []

    @abc.abstractmethod
    def init(self, clock: Clock) -> tuple[Any, Any]:
        """Initial `(y, z)`."""

    def at_end(self, port: str) -> bool:
        """Whether what arrives at `port` is added at the end of the step, for which its edges send a step earlier."""
        del port
        return False

    @abc.abstractmethod
    def arrive(self, y: Any, z: Any, arrivals: dict[str, Array]) -> tuple[Any, Any]:
        """`(y, z)` after this step's arrivals, one array of shape (width,) per port."""

    @abc.abstractmethod
    def vector_field(self, y: Any, z: Any, inp: Array) -> Any:
        """`dy/dt`; `inp` is constant during the step."""

    def free_field(self, y: Any, z: Any, inp: Array) -> Any:
        """`vector_field` without what `held` clamps."""
        return self.vector_field(y, z, inp)

    def held(self, y: Any, z: Any) -> Any:
        """What keeps its value in this step and where: a PyTree like `y`, with None where nothing is clamped."""
        del z
        return jax.tree.map(lambda _: None, y)

    @abc.abstractmethod
    def diffusion(self, y: Any, z: Any) -> Any:
        """None, or the diffusion as a PyTree like `y`, with None where a variable is not noisy."""

    @abc.abstractmethod
    def jump(self, y: Any, z: Any, inp: Array, clock: Clock) -> tuple[Any, Any, Emitted]:
        """`(y, z, events)` after the jump at the end of the step."""

    @abc.abstractmethod
    def find(self, y: Any, z: Any, variable: str) -> Array:
        """The state variable called `variable`; KeyError with the known names otherwise."""


class Population(AbstractNode):
    """`size` units of one type with the receptors of their ports.

    **Arguments:**

    - `unit`: the equations of the cell.
    - `size`: number of units.
    - `receptors`: port name -> receptor. Events deposited into a port go through its receptor.
    - `i_e`: constant current into every unit (pA for biophysical units), number or (size,).
    - `noise`: noise on the unit's variables.
    - `init`: initial values by name (`"v"`, `"exc.g"`), each a number, an array of shape (size,) or a distribution.
    - `surrogate`: derivative of the spike; the run itself is the same with all of them. None chooses by the equations:
      for a unit that flows linearly (`LIF`, `CubaLIF`, `AdaptiveLIF`) `HalfDrop`, the
      steepest triangle through whose reset no gradient grows; for all others, which have an upstroke of
      their own or no reset (`AdEx`, `Izhikevich`, `HodgkinHuxley`), `Crossing()`, by the time of the spike. The
      gradient of a firing rate is then right to within a factor of 2 in measured cases (`docs/gradients.md`). A bump
      of your own (`Triangular(width)`, `SuperSpike(width)`) counts in every step near threshold and multiplies
      gradients by up to `1 - drop / width` there: a narrow one overflows, which is warned of, and a bump on a cell
      without a reset counts every spike many times.
    - `detach_reset`: True stops gradients through the reset (Zenke & Vogels 2021): stable with any width, but a spike
      is counted in every step near threshold, and the gradient of a rate is too large by some ten to hundred times.
      For training, where the direction matters.

    **Warns:** UserWarning where a surrogate is too narrow for the reset.
    """

    unit: AbstractUnit
    size: int = eqx.field(static=True)
    receptors: dict[str, AbstractReceptor]
    i_e: Param
    noise: AbstractNoise | None
    init_values: dict[str, Any]
    surrogate: AbstractSurrogate | Crossing | None
    detach_reset: bool = eqx.field(static=True)
    linear: bool = eqx.field(static=True)
    reset_by_choice: bool = eqx.field(static=True)
    guarded: bool = eqx.field(static=True)
    graded: bool = eqx.field(static=True)

    def __init__(
        self,
        unit: AbstractUnit,
        size: int,
        receptors: dict[str, AbstractReceptor] | None = None,
        *,
        i_e: Any = 0.0,
        noise: AbstractNoise | None = None,
        init: dict[str, Any] | None = None,
        surrogate: AbstractSurrogate | Crossing | None = None,
        detach_reset: bool = False,
    ) -> None:
        if not isinstance(unit, AbstractUnit):
            raise TypeError(
                f"Population.unit is {unit!r}; expected a unit such as bs.LIF(). Pass an instance, not a class."
            )
        receptors, init = {} if receptors is None else receptors, {} if init is None else init
        for what, given, example in (("receptors", receptors, "{'exc': bs.ExpCond()}"), ("init", init, "{'v': -60.0}")):
            if not isinstance(given, dict):
                raise TypeError(f"Population.{what} is {given!r}; expected a dict by name, e.g. {example}.")
        for port, receptor in receptors.items():
            if not isinstance(receptor, AbstractReceptor):
                raise TypeError(
                    f"Population.receptors[{port!r}] is {receptor!r}; expected a receptor such as bs.ExpCond(tau=5.0). "
                    f"Pass an instance, not a class."
                )
            if not isinstance(port, str) or not port.isidentifier():
                raise ValueError(
                    f"Population.receptors has a port called {port!r}; expected a name of letters, digits and _."
                )
        self.unit = unit
        self.size = _size("Population", size)
        self.receptors = FrozenDict(receptors, "Population.receptors")
        if isinstance(i_e, AbstractInput):
            raise TypeError(
                f"Population.i_e is a {type(i_e).__name__}; expected a constant current, a number or an array. "
                f"What changes in time goes to the run: simulate(net, ..., inputs={{'P': {type(i_e).__name__}(...)}})."
            )
        self.i_e = parameter(i_e)
        check_parameter("Population", "i_e", self.i_e)
        if not isinstance(noise, AbstractNoise | None):
            raise TypeError(
                f"Population.noise is {noise!r}; expected a noise such as bs.WhiteNoise({{'v': 0.5}}), or None."
            )
        self.noise = noise
        values = {k: v if isinstance(v, AbstractDistribution) else parameter(v) for k, v in init.items()}
        self.init_values = FrozenDict(values, "Population.init_values")
        for name, value in self.init_values.items():
            if not isinstance(value, AbstractDistribution):
                check_parameter("Population", f"init[{name!r}]", value)
        if not isinstance(surrogate, AbstractSurrogate | Crossing | None):
            raise TypeError(
                f"Population.surrogate is {surrogate!r}; expected one such as bs.Triangular(). Pass an instance."
            )
        self.surrogate = surrogate
        self.detach_reset = detach_reset
        self.guarded, self.graded = emission(unit, self.size)
        self.linear, self.reset_by_choice = self._read()
        if isinstance(surrogate, AbstractSurrogate) and self.guarded and not detach_reset:
            self._check_width(surrogate)

    def _read(self) -> tuple[bool, bool]:
        """Whether the unit flows linearly, and whether its reset needs help to be differentiated."""
        if not self.guarded:
            return True, False
        try:
            return flows_linearly(self.unit, self.size), resets_by_choice(self.unit, self.size)
        except Exception:  # `check` says what is wrong with the equations, by name
            return True, False

    def _check_width(self, surrogate: AbstractSurrogate) -> None:
        """Warn of a surrogate through whose reset gradients grow."""
        try:
            depth, peak = drop(self.unit, self.size), surrogate.slope(jnp.zeros((), float_dtype()))
        except Exception:
            return
        if is_traced(depth) or is_traced(peak) or not np.any(np.asarray(depth * peak) > _STEEPEST):
            return
        kind, depth, peak = type(surrogate).__name__, float(np.max(depth)), float(np.max(peak))
        warnings.warn(
            f"Population of {type(self.unit).__name__}: {kind} with width {np.max(surrogate.width):g} has slope "
            f"{peak:.3g} at threshold and the reset lowers the guard by {depth:.4g}, so every step near threshold "
            f"multiplies gradients by up to {abs(1 - depth * peak):.3g}: over a run they overflow to infinity and NaN. "
            f"Leave surrogate out for the default, take a slope of at most {2 / depth:.3g}, or set detach_reset=True.",
            stacklevel=3,
        )

    @property
    def derivative(self) -> AbstractSurrogate | Crossing:
        """The derivative of the spike: the surrogate given, or the default for the unit."""
        if self.surrogate is not None:
            return self.surrogate
        if not self.linear:
            return Crossing()
        depth = drop(self.unit, self.size)
        return HalfDrop(jnp.where(depth > 0, depth, jnp.ones_like(depth)))  # pyright: ignore[reportCallIssue]

    def ready(self) -> "Population":
        """The population with its derivative of the spike worked out, once for a run."""
        if self.surrogate is not None or not self.guarded:
            return self
        return eqx.tree_at(lambda p: p.surrogate, self, self.derivative, is_leaf=lambda x: x is None)

    @property
    def derives_by_default(self) -> bool:
        """Whether the derivative of the spike is a default, or that of the nonlinear units by choice."""
        return isinstance(self.surrogate, Crossing | None)

    @property
    def _crosses(self) -> bool:
        by_time = isinstance(self.surrogate, Crossing) or (self.surrogate is None and not self.linear)
        return self.guarded and by_time

    @property
    def structure(self) -> Structure:
        return self.unit.structure

    @property
    def spiking(self) -> bool:
        return self.guarded and not self.graded

    @property
    def default_solver(self) -> Any:
        return self.unit.default_solver

    @property
    def variables(self) -> list[str]:
        """Names of the unit's flowing variables."""
        clock = Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))
        return sorted(jax.eval_shape(lambda: self.unit.init(self.size, clock))[0])

    @property
    def ports(self) -> dict[str, int]:
        return {name: r.channels * self.size for name, r in self.receptors.items()}

    def check(self, name: str) -> None:
        self._check_parameters(name)
        check_unit(f"Population {name!r}", self.unit, self.size)
        clock = Clock.of(name, jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))
        try:
            y, z = jax.eval_shape(self.init, clock)
        except ValueError as e:
            raise ValueError(f"Population {name!r}: {e}") from None
        if self.guarded:
            self._check_guard(name, y, z)
        if self.noise is not None:
            try:
                noisy = list(jax.eval_shape(self.noise.diffusion, y["unit"], z))
            except KeyError as e:
                noisy = [e.args[0]]
            for variable in noisy:
                if variable not in y["unit"]:
                    raise ValueError(f"Population {name!r}: {unknown('noisy variable', variable, y['unit'])}")
        for port, receptor in self.receptors.items():
            check_receptor(f"Population {name!r}, port {port!r}", receptor, self.size, y["unit"])
            if receptor.variable not in y["unit"] and reads_v(receptor, self.size):
                raise ValueError(
                    f"Population {name!r}: its unit {type(self.unit).__name__} has no variable {receptor.variable!r}, "
                    f"which port {port!r} ({type(receptor).__name__}) reads; it has {sorted(y['unit'])}. Name the "
                    "membrane potential 'v', or take a receptor that does not read it, such as bs.ExpCurr() or "
                    "bs.Delta('variable')."
                )

    def _check_guard(self, name: str, y: Any, z: Any) -> None:
        """Raise unless the guard is a number per unit."""
        guard = jax.eval_shape(self.unit.guard, y["unit"], z)
        if not jnp.issubdtype(guard.dtype, jnp.floating) or guard.shape != (self.size,):
            raise TypeError(
                f"Population {name!r}: {type(self.unit).__name__}.guard returns {guard.dtype} of shape {guard.shape}; "
                f"expected numbers of shape ({self.size},) that cross zero upward at a spike. Return a difference such "
                "as y['v'] - self.v_th, not a comparison."
            )

    def _check_parameters(self, name: str) -> None:
        """Raise unless every parameter is a number or has one value per unit; the unit checks its own where its units
        flow together."""
        self.unit.check(f"Population {name!r}", self.size)
        parts = {
            "unit": self.unit if self.structure.independent else None,
            "receptors": self.receptors,
            "i_e": self.i_e,
            "noise": self.noise,
            "surrogate": self.surrogate,
        }
        whole = AbstractInput | AbstractDistribution
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts, is_leaf=lambda x: isinstance(x, whole)):
            where = jax.tree_util.keystr(path, simple=True, separator=".")
            if isinstance(leaf, AbstractDistribution):
                raise TypeError(
                    f"Population {name!r}: {where} is the distribution {leaf}; expected a number or an array. "
                    f"Draw it: .sample(jax.random.key(0), ({self.size},))."
                )
            if isinstance(leaf, AbstractInput):
                leaf.check(name, self.size)
            elif jnp.shape(leaf) not in ((), (self.size,)):
                raise ValueError(
                    f"Population {name!r}: {where} has shape {jnp.shape(leaf)}; expected () or ({self.size},), one "
                    "value per "
                    f"unit. Pass a number or an array of the population's size."
                )

    def at(self, name: str, dt: float) -> "Population":
        for field in self.unit.in_steps:
            if hasattr(self.unit, field):
                warn_off_grid(f"Population {name!r}", f"a {field}", getattr(self.unit, field), dt)
        return self

    def init(self, clock: Clock) -> tuple[Any, Any]:
        unit, z = self.unit.init(self.size, clock)
        ports = {name: receptor.init(self.size) for name, receptor in self.receptors.items()}
        for name, value in sorted(self.init_values.items()):
            port, _, variable = name.rpartition(".")
            if port and port not in ports:
                raise ValueError(f"init: {unknown('port', port, ports)}")
            target = ports[port] if port else (unit if variable in unit else z)
            if variable not in target:
                known = [*unit, *z, *(f"{p}.{k}" for p, g in ports.items() for k in g)]
                raise ValueError(f"init: {unknown('state variable', name, known)}")
            # keyed by name, so that one more initial value never changes the others
            key = jax.random.fold_in(clock.key, name_hash(name))
            x = draw(value, key, (self.size,), owner="init", name=name)
            target[variable] = jnp.broadcast_to(x, (self.size,)).astype(target[variable].dtype)
        if self._crosses:
            z = {**z, SINCE: jnp.zeros(self.size, jnp.int32)}
        return {"unit": unit, "ports": ports}, z

    def at_end(self, port):
        return self.receptors[port].at_end

    def arrive(self, y, z, arrivals):
        late = {port: row for port, row in arrivals.items() if self.at_end(port)}
        y = self.added(y, z, {port: row for port, row in arrivals.items() if port not in late})
        return y, z | {_AT_END: late} if late else z

    def added(self, y: Any, z: Any, arrivals: dict[str, Array]) -> Any:
        """`y` after `arrivals`, all of them now."""
        unit, ports = y["unit"], dict(y["ports"])
        for name in sorted(arrivals):
            receptor = self.receptors[name]
            dg = arrivals[name] if receptor.channels == 1 else arrivals[name].reshape(receptor.channels, self.size)
            ports[name], unit = receptor.arrive(ports[name], dg, unit)
        moved = {name: where for name, where in self.unit.held(z).items() if unit[name] is not y["unit"][name]}
        unit = unit | {name: jnp.where(where, y["unit"][name], unit[name]) for name, where in moved.items()}
        return {"unit": unit, "ports": ports}

    def current(self, y: Any, inp: Array) -> Float[Array, " n"]:
        """Total current into the units: constant, external and synaptic (pA)."""
        total = jnp.broadcast_to(self.i_e + inp, (self.size,))
        for name in sorted(self.receptors):
            total = total + self.port_current(name, y)
        return total

    def port_current(self, port: str, y: Any) -> Float[Array, " n"]:
        """The current through one port (pA)."""
        return self.receptors[port].current(y["ports"][port], self._seen(port, y))

    def _seen(self, port: str, y: Any) -> Float[Array, " n"]:
        """The variable that a receptor sees, the potential for most: zeros, which it does not read, where there is
        none."""
        name = self.receptors[port].variable
        return y["unit"][name] if name in y["unit"] else jnp.zeros(self.size, float_dtype())

    def vector_field(self, y, z, inp):
        f = self.free_field(y, z, inp)
        still = {
            name: jnp.where(where, jnp.zeros_like(f["unit"][name]), f["unit"][name]) for name, where in self._still(z)
        }
        return {"unit": f["unit"] | still, "ports": f["ports"]}

    def _still(self, z: Any) -> list[tuple[str, Bool[Array, " n"]]]:
        return sorted(self.unit.held(z).items())

    def held(self, y, z):
        ports = {port: dict.fromkeys(g) for port, g in y["ports"].items()}
        return {"unit": dict.fromkeys(y["unit"]) | dict(self._still(z)), "ports": ports}

    def free_field(self, y, z, inp):
        unit = self.unit.vector_field(y["unit"], z, self.current(y, inp))
        ports = {name: r.flow(y["ports"][name], self._seen(name, y)) for name, r in self.receptors.items()}
        return {"unit": unit, "ports": ports}

    def diffusion(self, y, z):
        if self.noise is None:
            return None
        noisy = self.noise.diffusion(y["unit"], z)
        still = {name: where for name, where in self.unit.held(z).items() if name in noisy}
        noisy = noisy | {
            name: jnp.where(where, jnp.zeros_like(noisy[name]), noisy[name]) for name, where in still.items()
        }
        return {
            "unit": {name: noisy.get(name) for name in y["unit"]},
            "ports": {port: dict.fromkeys(g) for port, g in y["ports"].items()},
        }

    def jump(self, y, z, inp, clock, taken=None):
        if _AT_END in z:
            z = dict(z)
            y = self.added(y, z, z.pop(_AT_END))
        if not self.guarded:
            s = jnp.zeros(self.size, float_dtype())
            events = self._events(y, z, s, jnp.zeros(self.size, bool))
            unit, z = self.unit.reset(y["unit"], z, s, self.current(y, inp), clock)
            return {"unit": unit, "ports": y["ports"]}, z, events
        derivative = self.derivative
        if isinstance(derivative, Crossing):
            own = {k: x for k, x in z.items() if k != SINCE}
            s, y = derivative.spike(self, y, own, inp, z[SINCE], clock, taken)
            events = self._events(y, own, s, s > 0)
            unit, own = self.unit.reset(y["unit"], own, jax.lax.stop_gradient(s), self.current(y, inp), clock)
            return {"unit": unit, "ports": y["ports"]}, {**own, SINCE: counted(z[SINCE], s)}, events
        guard: Any = self.unit.guard(y["unit"], z)
        s = derivative(guard)
        events = self._events(y, z, s, derivative.support(guard))
        unit, z = self._reset(y["unit"], z, s, self.current(y, inp), clock)
        return {"unit": unit, "ports": y["ports"]}, z, events

    def _events(self, y, z, s, support):
        """What the unit emits: its spikes `s`, or a graded value, whose derivative may be anywhere."""
        value = self.unit.emit(y["unit"], z, s)
        return Emitted(s, support, single=True) if value is s else Emitted(value, single=True)

    def _reset(self, y, z, s, current, clock):
        """The unit's reset; where it compares `s`, its derivative by `s` is what the jump changes."""
        frozen = jax.lax.stop_gradient(s)
        if self.detach_reset:
            return self.unit.reset(y, z, frozen, current, clock)
        if not self.reset_by_choice:
            return self.unit.reset(y, z, s, current, clock)
        after, z_after = self.unit.reset(y, z, frozen, current, clock)
        spiked, silent = (self.unit.reset(y, z, x, current, clock)[0] for x in (jnp.ones_like(s), jnp.zeros_like(s)))
        jumped = jax.tree.map(lambda a, b: jax.lax.stop_gradient(a - b), spiked, silent)
        add = lambda x, d: _moved(x, s, d)  # noqa: E731
        return jax.tree.map(add, after, jumped), z_after

    def find(self, y, z, variable):
        groups = {**{k: (y["unit"], k) for k in y["unit"]}, **{k: (z, k) for k in z}}
        groups |= {f"{p}.{k}": (g, k) for p, g in y["ports"].items() for k in g}
        if variable not in groups:
            raise KeyError(unknown("state variable", variable, groups))
        where, key = groups[variable]
        return where[key]


class AbstractProcess(Frozen):
    """A rule that emits events without flowing: Poisson, regular, replayed recordings, external input.

    `packable`: every field is one number or one per unit, and so is the state; sources of one kind can then be packed.
    `single`: no unit emits more than one event in a step. `needs_input`: without `inputs` of the run it would
    emit nothing.
    """

    packable: ClassVar[bool] = False
    single: ClassVar[bool] = False
    needs_input: ClassVar[bool] = False

    @property
    def silent_from(self) -> float | None:
        """The time (ms) from which on nothing is emitted, where it is known; a run that begins later warns."""
        return None

    @abc.abstractmethod
    def check(self, name: str, size: int) -> None:
        """Raise on parameters that do not fit `size` units."""

    def at(self, size: int, dt: float) -> "AbstractProcess":
        """The process as a run of `size` units with steps of `dt` (ms) has it."""
        del size, dt
        return self

    def watched(self, z: dict, inp: Array, n: int, clock: Clock) -> list[Array]:
        """Arrays that must be finite in a step that begins with `z`, or the source is flagged; `inp` is () or (n,)."""
        del z, inp, n, clock
        return []

    @abc.abstractmethod
    def init(self, n: int, clock: Clock) -> dict:
        """Initial `z`."""

    @abc.abstractmethod
    def emit(self, z: dict, inp: Float[Array, " n"], clock: Clock) -> tuple[Float[Array, " n"], dict]:
        """Values emitted at the end of this step, as `Emitted.value` has them, and the next `z`; `inp` is the node's
        input."""

    def graded(self, inp: Any) -> Bool[Array, ""]:
        """Whether the events of a run are other than numbers of spikes, and so have no rate; `inp` is the input of the
        run: an array, one with a row per step, a waveform, or None."""
        del inp
        return jnp.asarray(False)


_AT_END = "added at the end"
"""Name of what is added after the flow of this step, which no variable of a unit can have."""
_ARRIVED = "arrived"
"""Name of what arrived at the port of a driven source in this step."""


class Source(AbstractNode):
    """`size` units that emit events by a rule, and receive nothing but `inputs` unless they are driven.

    **Arguments:** `process`: the rule, e.g. `bs.Poisson(rate=10.0)`; `size`: number of units; `driven`: True gives the
    source a port `rate`, and what arrives there in a step is added to its input in that step: a mass that sends x over
    an edge of weight w adds w x (Hz, for `Poisson`) to the rate of its targets.
    """

    process: AbstractProcess
    size: int = eqx.field(static=True, converter=lambda size: _size("Source", size))
    driven: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if not isinstance(self.process, AbstractProcess):
            raise TypeError(
                f"Source.process is {self.process!r}; expected a process such as bs.Poisson(rate=10.0). Pass an "
                "instance."
            )

    @property
    def structure(self) -> Structure:
        return Structure.DIAGONAL

    @property
    def ports(self) -> dict[str, int]:
        return {"rate": self.size} if self.driven else {}

    def check(self, name: str) -> None:
        self.process.check(name, self.size)

    def at(self, name: str, dt: float) -> "Source":
        process = self.process.at(self.size, dt)
        return self if process is self.process else eqx.tree_at(lambda source: source.process, self, process)

    def watched(self, z, inp, clock):
        return self.process.watched(z, inp, self.size, clock)

    def init(self, clock):
        z = self.process.init(self.size, clock)
        return {}, z | {_ARRIVED: jnp.zeros(self.size, float_dtype())} if self.driven else z

    def arrive(self, y, z, arrivals):
        return y, z | {_ARRIVED: arrivals["rate"]} if arrivals else z

    def vector_field(self, y, z, inp):
        return {}

    def diffusion(self, y, z):
        return None

    def jump(self, y, z, inp, clock):
        inp, own = jnp.broadcast_to(inp, (self.size,)).astype(float_dtype()), z
        if self.driven:
            inp, own = inp + z[_ARRIVED], {k: x for k, x in z.items() if k != _ARRIVED}
        value, own = self.process.emit(own, inp, clock)
        z = own | {_ARRIVED: jnp.zeros_like(inp)} if self.driven else own
        return y, z, Emitted(value, single=type(self.process).single)

    def find(self, y, z, variable):
        if variable not in z:
            raise KeyError(unknown("state variable", variable, z))
        return z[variable]
