"""What a run records."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import unknown
from ..core import AbstractGraph, AbstractNode, Clock, Endpoint, Population, Units, View, columns


class Origin(NamedTuple):
    """What a recording is of: the class of the recording, the node or edge, the variable or port, and the numbers of
    the units, None for all."""

    kind: str
    node: str = ""
    variable: str = ""
    units: range | tuple[int, ...] | None = None


class AbstractRecording(eqx.Module):
    """Something that every step has, sampled at the end of every `every`-th step, or added up over `every` steps."""

    every: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def key(self) -> str:
        """Under what name the samples appear in the solution."""

    @abc.abstractmethod
    def check(self, net: AbstractGraph) -> None:
        """Raise if the target does not exist."""

    @abc.abstractmethod
    def sample(self, views: dict[str, View], nodes: dict[str, AbstractNode], edges: dict[str, Any]) -> Array:
        """The sample of a step, an array of fixed shape."""

    @property
    def summed(self) -> bool:
        """Whether a sample is the sum over the `every` steps up to its time, not the value at its time."""
        return False

    @property
    def sources(self) -> tuple["AbstractRecording", ...]:
        """What it is a recording of: itself, or the recordings that it is made of."""
        return (self,)

    def result(self, samples: Array, net: AbstractGraph, dt: float) -> Array:
        """What the solution holds, of all samples."""
        return samples

    def origin(self, net: AbstractGraph) -> Origin:
        """What the columns of the samples are."""
        return Origin(type(self).__name__)


def _choice(what: str, target: str, units: Units | None) -> tuple[str, Units | None, str]:
    """Name, chosen units and variable of `"P"`, `"P[:10]"`, `"P.v"` or `"P[:10].v"`."""
    end = Endpoint.parse(what, target)
    if end.part is not None and units is not None:
        raise ValueError(f"{what} chooses units twice: in the text and by units=. Drop one of them.")
    return end.node, units if end.part is None else end.part, end.port or ""


def _of_node(kind: str, net: AbstractGraph, target: str, units: Units | None) -> Origin:
    """The origin of a recording of events; raises if it does not exist."""
    what = f"{kind}({target!r})"
    name, chosen, rest = _choice(what, target, units)
    if rest:
        raise ValueError(f"{what}: expected a node such as {name!r} or '{name}[:10]'; its variables need a Trace.")
    if name not in net.sizes:
        raise ValueError(f"{what}: {unknown('node', name, net.sizes)}")
    if kind != "Events" and not net.nodes[net.unit_range(name)[0]].spiking:
        raise ValueError(
            f"{what}: node {name!r} has no spikes, as its unit has no guard or emits graded values. Record what it "
            f"emits with bs.Events({name!r}), or a variable with bs.Trace('{name}.variable')."
        )
    return Origin(kind, name, "", None if chosen is None else chosen.within(f"{what}.units", name, net.sizes[name]))


def _units(given: Any) -> Units | None:
    return Units.of("units", given)


_ROOM = 2**24
"""Entries, of all lists together, that a run outside of transformations takes without being asked: 64 MB of addresses,
of which a CPU takes memory only as far as they are written."""

_MEAN_RATE = 100.0  # Hz


class Spikes(eqx.Module):
    """All spikes of a population as index lists: 4 bytes a spike and 4 a step; a unit that emits k in a step is listed
    k times. Not differentiable; use `Events` for that.

    A list has a fixed length. One that has no room for all spikes keeps the first, sets `sol.flags["P.spikes"]` and
    raises `SimulationError` (not with `throw=False`); `sol.spikes("P")` of it raises.

    **Arguments:**

    - `node`: `"P"`, or some of its units, `"P[:10]"`.
    - `max_rate`: mean rate (Hz) over the units and the run that the list has room for. None: 100 Hz, and outside of
      transformations at least 2^24 spikes, shared by the lists of a run: all there can be, in most runs.
    - `units`: numbers, a slice, a mask or text such as `":10"`; None for all.
    - `name`: what the solution calls it instead of `node`, as in `sol.spikes(name)`.
    """

    node: str = eqx.field(static=True)
    max_rate: float | None = eqx.field(static=True, default=None)
    units: Any = eqx.field(static=True, default=None, converter=_units)
    name: str | None = eqx.field(static=True, default=None)

    @property
    def key(self) -> str:
        return f"{self.name or self.node}.spikes"

    def check(self, net: AbstractGraph) -> None:
        self.origin(net)
        if self.max_rate is not None and not self.max_rate > 0:
            raise ValueError(f"Spikes.max_rate is {self.max_rate}; expected a rate > 0 Hz.")

    def origin(self, net: AbstractGraph) -> Origin:
        """The node, and the numbers of the units in ascending order."""
        found = _of_node("Spikes", net, self.node, self.units)
        if found.units is None or (isinstance(found.units, range) and found.units.step > 0):
            return found
        return found._replace(units=tuple(sorted({*found.units})))

    def capacity(self, net: AbstractGraph, n_steps: int, dt: float, room: int = 0) -> int:
        """Entries of the list for `n_steps` steps; without a `max_rate` at least `room`, if there can be so many."""
        size = _size(self.origin(net), net)
        rate, room = (_MEAN_RATE, room) if self.max_rate is None else (self.max_rate, 0)
        return int(min(max(size * n_steps, 256), max(size, 256, size * n_steps * dt * 1e-3 * rate, room)))

    def of(self, value: Float[Array, " n"], net: AbstractGraph) -> Float[Array, " n_chosen"]:
        """The values of the chosen units."""
        return value[columns(self.origin(net).units)]


def room_for(
    net: AbstractGraph, recordings: Sequence[Any], n_steps: int, dt: float, *, growing: bool
) -> dict[str, int]:
    """The lengths of the lists of spikes, by key; `growing`: outside of transformations."""
    lists = [r for r in recordings if isinstance(r, Spikes)]
    room = _ROOM // len(lists) if lists and growing else 0
    return {r.key: r.capacity(net, n_steps, dt, room) for r in lists}


def _size(origin: Origin, net: AbstractGraph) -> int:
    return net.sizes[origin.node] if origin.units is None else len(origin.units)


class Events(AbstractRecording):
    """What each unit emitted, added up over every `every` steps, shape (n_steps / every, n): dense and differentiable.

    Of spikes that is their number: with `every=1` 0 or 1, the spikes of the step.

    **Arguments:** `node`: `"P"` or `"P[:10]"`; `every`: in steps; `units`, `name`: as in `Spikes`.
    """

    node: str = eqx.field(static=True)
    every: int = eqx.field(static=True, default=1)
    units: Any = eqx.field(static=True, default=None, converter=_units)
    name: str | None = eqx.field(static=True, default=None)

    @property
    def key(self):
        return f"{self.name or self.node}.events"

    @property
    def summed(self):
        return True

    def check(self, net):
        self.origin(net)

    def origin(self, net):
        return _of_node("Events", net, self.node, self.units)

    def sample(self, views, nodes, edges):
        return _emitted(views, self.node, self.units)


def _emitted(views: dict[str, View], target: str, units: Units | None) -> Float[Array, " n"]:
    """The events of the chosen units of a node."""
    name, chosen, _ = _choice("recording", target, units)
    return _taken(views[name].events.value, name, chosen)


def _taken(x: Array, name: str, chosen: Units | None) -> Array:
    return x if chosen is None else x[columns(chosen.within(name, name, x.shape[0]))]


class Trace(AbstractRecording):
    """A state variable of a node after every `every`-th step, shape (n_steps / every, n_recorded).

    **Arguments:**

    - `target`: `"P.v"`, `"P.exc.g"`, `"P[:10].v"`, or a variable of an edge's state.
    - `units`: numbers, a slice, a mask or text such as `":10"`; None for all.
    - `every`: in steps.
    - `name`: what the solution calls it instead of `target`, so that one variable may be recorded more than once.
    """

    target: str = eqx.field(static=True)
    units: Any = eqx.field(static=True, default=None, converter=_units)
    every: int = eqx.field(static=True, default=1)
    name: str | None = eqx.field(static=True, default=None)

    @property
    def key(self):
        return self.name or self.target

    def check(self, net):
        self.origin(net)

    def origin(self, net):
        what = f"Trace({self.target!r})"
        name, chosen, variable = _choice(what, self.target, self.units)
        known = [*net.nodes, *net.edges, *net.parts]
        if name not in known:
            raise ValueError(f"{what}: {unknown('node or edge', name, known)}")
        if not variable:
            raise ValueError(f"{what}: expected 'node.variable', e.g. '{name}.v'.")
        clock = Clock.of(name, jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))
        try:
            part = net.parts.get(name)
            whole = name if part is None else part.whole
            if whole in net.nodes:
                y, z = jax.eval_shape(net.nodes[whole].init, clock)
                size = net.nodes[whole].find(y, z, variable).shape[0]
            else:
                size = _edge_variable(jax.eval_shape(net.edges[whole].init, clock), variable).shape[0]
            size = size if part is None else part.size
        except KeyError as e:
            raise ValueError(f"{what}: {e.args[0]}") from None
        return Origin("Trace", name, variable, None if chosen is None else chosen.within(f"{what}.units", name, size))

    def sample(self, views, nodes, edges):
        name, chosen, variable = _choice("Trace", self.target, self.units)
        if name in views:
            x = nodes[name].find(views[name].y, views[name].z, variable)
        else:
            x = _edge_variable(edges[name], variable)
        return _taken(x, name, chosen)


def _edge_variable(z: dict, variable: str) -> Array:
    if variable not in z:
        fixed = " A run does not change it: bs.synapses_of reads it." if variable in ("weight", "delay") else ""
        raise KeyError(unknown("edge variable", variable, z) + fixed)
    return z[variable]


class Current(AbstractRecording):
    """The input current of a population after every `every`-th step, shape (n_steps / every, n_recorded), in pA.

    $$I = I_e + I_{in} + \\sum_{ports} I_{port}(g, v)$$

    with `i_e`, what `inputs` held in the step, and the current of every port for the state at the end of the step; or
    that of one port. A port of `Delta` moves v at once and has no current.

    **Arguments:** `target`: `"P"` for the whole, `"P.exc"` for a port, `"P[:10].exc"` of some units; `units`, `every`,
    `name`: as in `Trace`.

    !!! Example
        `saveat=[bs.Current("P"), bs.Current("P.exc")]`, then `sol["P.current"]` and `sol["P.exc.current"]`.
    """

    target: str = eqx.field(static=True)
    units: Any = eqx.field(static=True, default=None, converter=_units)
    every: int = eqx.field(static=True, default=1)
    name: str | None = eqx.field(static=True, default=None)

    @property
    def key(self):
        return self.name or f"{self.target}.current"

    def check(self, net):
        self.origin(net)

    def origin(self, net):
        what = f"Current({self.target!r})"
        name, chosen, port = _choice(what, self.target, self.units)
        if name not in net.sizes:
            raise ValueError(f"{what}: {unknown('node', name, net.sizes)}")
        node = net.nodes[net.unit_range(name)[0]]
        if not isinstance(node, Population):
            raise ValueError(f"{what}: {name!r} is a {type(node).__name__}, which takes no current; name a Population.")
        if port and port not in node.receptors:
            raise ValueError(f"{what}: node {name!r}: {unknown('port', port, node.receptors)}")
        units = None if chosen is None else chosen.within(f"{what}.units", name, net.sizes[name])
        return Origin("Current", name, port, units)

    def sample(self, views, nodes, edges):
        name, chosen, port = _choice("Current", self.target, self.units)
        view, node = views[name], cast(Population, nodes[name])
        if port:
            x = node.port_current(port, view.y)
        else:
            x = node.current(view.y, view.inp)
        return _taken(x, name, chosen)


class Rate(AbstractRecording):
    """Mean firing rate of a population (Hz), by count in windows of `every` steps: shape (n_steps / every,).

    $$r_k = \\frac{\\text{events of all units in window } k}{n \\cdot \\mathrm{every} \\cdot dt}$$

    Differentiable through the surrogate, as `Events` is. `bs.smoothed` smooths it.

    **Arguments:** `node`: `"P"` or `"P[:10]"`; `every`: in steps; `units`, `name`: as in `Spikes`.
    """

    node: str = eqx.field(static=True)
    every: int = eqx.field(static=True, default=1)
    units: Any = eqx.field(static=True, default=None, converter=_units)
    name: str | None = eqx.field(static=True, default=None)

    @property
    def key(self):
        return f"{self.name or self.node}.rate"

    @property
    def summed(self):
        return True

    def check(self, net):
        self.origin(net)

    def origin(self, net):
        return _of_node("Rate", net, self.node, self.units)

    def sample(self, views, nodes, edges):
        return jnp.sum(_emitted(views, self.node, self.units))

    def result(self, samples, net, dt):
        return samples * (1e3 / (max(_size(self.origin(net), net), 1) * self.every * dt))
