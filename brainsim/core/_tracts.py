"""Tracts: synapses whose delays are lengths over a speed, what couplings of continuous values share."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..base import check_parameter, is_traced
from ..events import CSR
from ._distributions import AbstractDistribution
from ._edge import AbstractDeclaredEdge, AbstractEdge
from ._routed import AbstractRouted
from ._wiring import Route, _Instant, by_synapse, value_of, wire, within_line


def _function(f: Any) -> Any:
    """A plain function as part of a structure, a module as it is."""
    return f if f is None or isinstance(f, eqx.Module) else jax.tree_util.Partial(f)


def _optional(x: Any) -> Any:
    return None if x is None else value_of(x)


class AbstractTracts(AbstractDeclaredEdge):
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

    def wired_fields(self, where: str, nodes: Any, key: Any, channels: int) -> dict[str, Any]:
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
        given = dataclasses.replace(self, delay=delays_of(self))
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


def delays_of(edge: Any) -> Any:
    """The delays (ms) of declared or wired tracts, in the order of the user's list."""
    return edge.delay if edge.lengths is None else edge.lengths / edge.speed


class AbstractWiredTracts(AbstractRouted, AbstractEdge):
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
    def delays_fit(self):
        return within_line(delays_of(self), self.max_delay)

    def synapses(self, where: str, dt: float) -> tuple[Array, Array]:
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

    def pre_units(self) -> Int[Array, " n_syn"]:
        """The pre unit of every synapse, counted in the whole node."""
        start, _, step = self.route.units_pre or (0, 0, 1)
        indptr = self.connect.indptr
        rows = jnp.arange(indptr.shape[0] - 1, dtype=jnp.int32)
        return jnp.repeat(rows, jnp.diff(indptr), total_repeat_length=self.connect.n_syn) * step + start

    def past(self, value: Array, length: int) -> Float[Array, "length n_pre"]:
        """The values at 0, -dt, -2 dt, ...; what is given, its last held before that, or the value at 0."""
        if self.history is None:
            return jnp.broadcast_to(value, (length, value.shape[0]))
        past = jnp.asarray(self.history, value.dtype)[:length]
        return jnp.concatenate([past, jnp.broadcast_to(past[-1], (length - past.shape[0], value.shape[0]))])
