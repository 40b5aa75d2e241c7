"""What a run records."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import unknown
from ..core import AbstractNode, Clock, Network, View


class AbstractRecording(eqx.Module):
    """Something sampled at the end of every `every`-th step."""

    every: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def key(self) -> str:
        """Under what name the samples appear in the solution."""

    @abc.abstractmethod
    def check(self, net: Network) -> None:
        """Raise if the target does not exist."""

    @abc.abstractmethod
    def sample(self, views: dict[str, View], nodes: dict[str, AbstractNode], edges: dict[str, Any]) -> Array:
        """The sample, an array of fixed shape."""


def _check_node(what: str, net: Network, name: str) -> None:
    if name not in net.sizes:
        raise ValueError(f"{what}: {unknown('node', name, net.sizes)}")


class Spikes(eqx.Module):
    """All spikes of a population as index lists: 4 bytes a spike and 4 a step. Not differentiable; use `Events` for
    that.

    **Arguments:** `node`; `max_rate`: mean rate (Hz) over the population and the run that the list has room for. More
    spikes than that raise an overflow error (or set the flag, with `throw=False`).
    """

    node: str = eqx.field(static=True)
    max_rate: float = eqx.field(static=True, default=100.0)

    @property
    def key(self) -> str:
        return f"{self.node}.spikes"

    def check(self, net: Network) -> None:
        _check_node("Spikes", net, self.node)
        if not self.max_rate > 0:
            raise ValueError(f"Spikes.max_rate is {self.max_rate}; expected a rate > 0 Hz.")

    def capacity(self, net: Network, n_steps: int, dt: float) -> int:
        """Entries of the list for `n_steps` steps."""
        size = net.sizes[self.node]
        return int(min(size * n_steps, max(size, 256, size * n_steps * dt * 1e-3 * self.max_rate)))


class Events(AbstractRecording):
    """The emitted values of every step, shape (n_steps, n): dense and differentiable."""

    node: str = eqx.field(static=True)
    every: int = eqx.field(static=True, default=1)

    @property
    def key(self):
        return f"{self.node}.events"

    def check(self, net):
        _check_node("Events", net, self.node)

    def sample(self, views, nodes, edges):
        return views[self.node].events.value


class _Range(NamedTuple):
    """A slice that can be hashed."""

    start: int | None
    stop: int | None
    step: int | None


def _units(units: Any) -> tuple | None:
    if units is None:
        return None
    if isinstance(units, slice):
        return _Range(units.start, units.stop, units.step)
    return (int(units),) if isinstance(units, int) else tuple(int(i) for i in units)


class Trace(AbstractRecording):
    """A state variable of a node after every `every`-th step, shape (n_samples, n_recorded).

    **Arguments:** `target`: `"P.v"`, `"P.exc.g"`, or a variable of an edge's state; `units`: unit numbers, a slice, or
    None for all; `every`: in steps.
    """

    target: str = eqx.field(static=True)
    units: Any = eqx.field(static=True, default=None, converter=_units)
    every: int = eqx.field(static=True, default=1)

    @property
    def key(self):
        return self.target

    def check(self, net):
        what = f"Trace({self.target!r})"
        name, _, variable = self.target.partition(".")
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
        if self.units is not None and not isinstance(self.units, _Range):
            wrong = [i for i in self.units if not -size <= i < size]
            if wrong:
                raise ValueError(
                    f"{what}.units contains {wrong[0]}; {name!r} has {size} values. Give numbers below {size}."
                )

    def sample(self, views, nodes, edges):
        name, _, variable = self.target.partition(".")
        if name in views:
            x = nodes[name].find(views[name].y, views[name].z, variable)
        else:
            x = _edge_variable(edges[name], variable)
        if self.units is None:
            return x
        return x[slice(*self.units)] if isinstance(self.units, _Range) else x[jnp.asarray(self.units)]


def _edge_variable(z: dict, variable: str) -> Array:
    if variable not in z:
        raise KeyError(unknown("edge variable", variable, z))
    return z[variable]


class Rate(AbstractRecording):
    """Number of spikes of a population in every step, divided by its size: shape (n_steps,), unit 1/step."""

    node: str = eqx.field(static=True)
    every: int = eqx.field(static=True, default=1)

    @property
    def key(self):
        return f"{self.node}.activity"

    def check(self, net):
        _check_node("Rate", net, self.node)

    def sample(self, views, nodes, edges):
        return jnp.mean(views[self.node].events.value)
