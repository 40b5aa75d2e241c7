"""From what the user writes of an edge (endpoints, rule, weights, delays) to checked arrays."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ..base import Key, check_parameter, is_traced, parameter, to_steps, unknown, warn_off_grid
from ..events import CSR, AbstractMap, AbstractTopology, Dense, DrawnRows, FixedFanin, FixedFanout, on_huge_pages
from ._delay import AbstractDelay
from ._distributions import AbstractDistribution, Normal, Uniform, drawn_in_pieces
from ._node import AbstractNode
from ._units import Units

Part: TypeAlias = tuple[int, int, int]
"""Units start, stop, step of a node."""


class _Instant:
    """The delay of an edge that acts within the step (k = 0)."""

    def __repr__(self) -> str:
        return "INSTANT"


INSTANT: Final = _Instant()
"""Delay of an edge whose events arrive within the step they are emitted in. Such edges must form no cycle."""

_SLACK = 1e-6
"""Relative error that float32 may leave in a delay."""

_ENDPOINT = re.compile(r"^(?P<node>[A-Za-z_]\w*)(\[(?P<part>[^\]]*)\])?(\.(?P<port>[\w.]+))?$")


class Endpoint(NamedTuple):
    """A parsed end of an edge: `"P"`, `"P[:3200]"`, `"P[7]"`, `"P.exc"` or `"P[3200:].inh"`; or the target of a
    recording, whose variable is then the port."""

    node: str
    part: Units | None
    port: str | None

    @staticmethod
    def parse(where: str, text: Any) -> "Endpoint":
        """Read `text`; errors name `where`."""
        if not isinstance(text, str):
            raise TypeError(
                f"{where} is a {type(text).__name__}; expected the name that the node has in the network, such as 'P' "
                f"or 'P.exc'. Write that string."
            )
        match = _ENDPOINT.match(text)
        if match is None:
            raise ValueError(
                f"{where}: {text!r} is not an endpoint; expected 'node', 'node[start:stop]' or 'node.port'."
            )
        part = None if match["part"] is None else Units.of(f"{where}: {text!r}", match["part"])
        return Endpoint(match["node"], part, match["port"])

    def units(self, where: str, nodes: dict[str, AbstractNode]) -> range:
        """The unit numbers this end names; errors name `where`."""
        if self.node not in nodes:
            raise ValueError(f"{where}: {unknown('node', self.node, nodes)}")
        size = nodes[self.node].size
        units = range(size) if self.part is None else self.part.within(where, self.node, size)
        assert isinstance(units, range)  # text has no other
        return units

    def port_of(self, where: str, nodes: dict[str, AbstractNode]) -> str:
        """The port this end names, or the only one there is."""
        ports = nodes[self.node].ports
        if self.port is None and len(ports) == 1:
            return next(iter(ports))
        if self.port is None:
            fix = f"Name one, as in '{self.node}.PORT'." if ports else "Give the population receptors={...}."
            raise ValueError(
                f"{where}: {self.node!r} names no port; node {self.node!r} has {sorted(ports) or 'none'}. {fix}"
            )
        if self.port not in ports:
            raise ValueError(f"{where}: node {self.node!r}: {unknown('port', self.port, ports)}")
        return self.port


class Route(NamedTuple):
    """Where a wired edge reads and writes; `units_pre` None: every unit."""

    pre: str
    units_pre: Part | None
    post: str
    port: str
    units_post: Part
    delay_drawn: bool
    at_end: bool = False  # whether the port adds what arrives at the end of a step


def value_of(x: Any) -> Any:
    """A weight or delay as it is declared: a number or array as a parameter, what is to be drawn or learnt as it is."""
    return x if isinstance(x, AbstractDistribution | AbstractDelay | _Instant) else parameter(x)


def check_steps(where: str, delay: Any, dt: float, max_delay: float | None, route: Route) -> None:
    """Raise when a delay is beyond the line, or too short for its port; warn when `dt` does not divide a delay that was
    not drawn."""
    if isinstance(delay, _Instant | AbstractDelay) or is_traced(delay):
        return
    check_delays(where, delay, max_delay)
    if route.at_end and np.min(to_steps(np.asarray(delay), dt), initial=1) < 1:
        raise ValueError(
            f"{where}.delay is {np.min(np.asarray(delay)):g} ms at dt = {dt:g} ms; expected at least dt: port "
            f"{route.post}.{route.port} adds what arrives at the end of a step (Delta(at='end'))."
        )
    if not route.delay_drawn:
        warn_off_grid(where, "a delay", delay, dt)


def delay_steps(delay: Any, dt: float, max_delay: float | None, at_end: bool = False) -> Int[Array, "..."]:
    """`k = 1 + round(delay / dt)`, halves upward as in Brian2 and NEST, held within the line; INSTANT is 0. To a port
    that adds at the end of a step one less."""
    if isinstance(delay, _Instant):
        return jnp.asarray(0, jnp.int32)
    first, depth = 0 if at_end else 1, ring_depth(max_delay, dt)
    if is_traced(delay):
        return jnp.clip(first + to_steps(delay, dt), 1, depth)
    return jnp.asarray(np.clip(first + to_steps(np.asarray(delay), dt), 1, depth))


def ring_depth(max_delay: float | None, dt: float) -> int:
    """Rows of the ring that hold delays up to `max_delay` (ms): 1 + its steps, never fewer than float32 may round
    to."""
    return 1 + math.floor((max_delay or 0.0) / dt * (1 + _SLACK) + 0.5 + 1e-3)


def within_line(delay: Any, max_delay: float | None) -> Bool[Array, ""]:
    """Whether all delays (ms) lie within 0 and `max_delay`; those that are learnt count as at its ends beyond it."""
    if isinstance(delay, _Instant | AbstractDelay):
        return jnp.asarray(True)
    return jnp.all((delay >= 0) & (delay <= (max_delay or 0.0) * (1 + _SLACK)))


def wire(where: str, edge: Any, nodes: dict[str, AbstractNode], key: Key | None, *, channels: int) -> dict[str, Any]:
    """The wired fields of a declared edge with `pre`, `post`, `connect`, `weight`, `delay` and `max_delay`."""
    pre, post = Endpoint.parse(f"{where}.pre", edge.pre), Endpoint.parse(f"{where}.post", edge.post)
    units_pre, units_post = pre.units(where, nodes), post.units(where, nodes)
    if pre.port is not None:
        raise ValueError(
            f"{where}.pre is {edge.pre!r}; events come from the node, not from a port. Write {pre.node!r}."
        )
    port = post.port_of(where, nodes)
    if nodes[post.node].ports[port] != channels * nodes[post.node].size:
        wanted = (
            "a coupling, not events: use bs.GapJunctions"
            if channels == 1
            else "events, not a coupling: give it a bs.GapPort()"
        )
        raise ValueError(f"{where}: port {post.node}.{port} takes {wanted}.")
    same = pre.node == post.node and _twins(units_pre, units_post)
    keys = (None,) * 3 if key is None else jax.random.split(key, 3)
    topology: Any
    topology, order = _topology(where, edge, len(units_pre), len(units_post), same, keys[0])
    if isinstance(topology, DrawnRows):
        topology = _drawn(where, edge, topology, channels)
    shape = weight_shape(topology)
    listed = (edge.connect.n_post, edge.connect.k) if isinstance(edge.connect, FixedFanin) else shape
    order = None if order is None or np.array_equal(order, np.arange(order.size)) else order.astype(np.int32)
    weight = edge.weight
    if not isinstance(topology, DrawnRows) or topology.law == "one":
        weight = _values(where, "weight", weight, shape, listed, order, keys[1])
    learnt, at_end = edge.delay if isinstance(edge.delay, AbstractDelay) else None, nodes[post.node].at_end(port)
    if at_end and (learnt is not None or isinstance(edge.delay, _Instant)):
        raise ValueError(
            f"{where}.delay is {edge.delay!r}, but port {post.node}.{port} adds what arrives at the end of a step "
            "(Delta(at='end')); expected a delay of at least dt that is not learnt. Write Delta() for this port."
        )
    delay: Any = edge.delay if learnt is None else learnt.d
    max_delay: Any = 0.0
    if learnt is not None and edge.max_delay is None:
        raise ValueError(
            f"{where}.delay is to be learnt; give max_delay (ms), the fixed length of the delay line that it may use."
        )
    drawn = isinstance(delay, AbstractDistribution)
    shared = isinstance(topology, AbstractMap) and not isinstance(topology, Dense)
    if shared and (drawn or (not isinstance(delay, _Instant) and jnp.ndim(delay))):
        raise ValueError(
            f"{where}.delay is {delay!r}; expected one number (ms) or INSTANT: the synapses of a "
            f"{type(topology).__name__} share their weights and their delay."
        )
    if not isinstance(delay, _Instant):
        if eqx.is_array(delay) and jnp.ndim(delay) == 1 and jnp.shape(delay) != shape:
            delay = _per_pre(where, topology, delay)
            delay = delay if order is None else delay[np.argsort(order)]
        else:
            delay = _values(where, "delay", delay, shape, listed, order, keys[2])
        max_delay = _max_delay(where, delay, edge.max_delay)
    if isinstance(topology, AbstractMap):
        weight = jnp.broadcast_to(weight, shape) if isinstance(topology, Dense) else weight
    elif isinstance(topology, DrawnRows):
        topology = topology.into(nodes[post.node].size, units_post.start, units_post.step)
    elif units_post != range(nodes[post.node].size):
        indices = topology.indices * units_post.step + units_post.start
        size = nodes[post.node].size
        csr = isinstance(topology, CSR)
        topology = CSR(topology.indptr, indices, size) if csr else FixedFanout(indices, size)
    weight, delay = on_huge_pages(weight), on_huge_pages(delay)
    delay = delay if learnt is None else eqx.tree_at(lambda a: a.d, learnt, delay)
    full = units_pre == range(nodes[pre.node].size)
    part_pre = None if full else (units_pre.start, units_pre.stop, units_pre.step)
    route = Route(
        pre.node, part_pre, post.node, port, (units_post.start, units_post.stop, units_post.step), drawn, at_end
    )
    fields = {"pre": edge.pre, "post": edge.post, "connect": topology, "weight": weight, "delay": delay}
    fields |= {"max_delay": max_delay, "route": route}
    return fields | {"order": None if order is None else jnp.asarray(order)}


def by_synapse(where: str, field: str, x: Any, topology: Any, order: Any) -> Any:
    """The values `x` of an edge, in the order of the user's list, in that of the synapses of `topology`."""
    if isinstance(x, AbstractDelay):
        return eqx.tree_at(lambda a: a.d, x, by_synapse(where, f"{field}.d", x.d, topology, order))
    if isinstance(x, _Instant | AbstractDistribution) or jnp.ndim(x) == 0:
        return x
    shape = weight_shape(topology)
    if jnp.shape(x) not in (shape, (math.prod(shape),)):
        raise ValueError(
            f"{where}.{field} has shape {jnp.shape(x)}; expected () or {shape}, one value per synapse of this "
            f"connectivity, which is built: values put in later have the shape of the field. Mend the array given."
        )
    return x.reshape(shape) if order is None else x.reshape(-1)[order]


def check_sign(name: str, edge: Any, nodes: Mapping[str, AbstractNode]) -> None:
    """Raise on a weight below 0 into a conductance; a traced one is flagged by the run."""
    lowest = lowest_conductance(edge, nodes)
    if lowest is None or is_traced(lowest) or not lowest < 0:
        return
    node, port = edge.writes
    receptor = type(nodes[node].receptors[port]).__name__  # pyright: ignore[reportAttributeAccessIssue]
    raise ValueError(
        f"edge {name!r}.weight is {float(lowest):g} nS into {node}.{port}, a {receptor}; expected weights >= 0: a "
        f"conductance has no sign. Inhibition is a reversal potential below rest, as in bs.{receptor}(e_rev=-80.0); "
        f"bound a distribution, as in bs.Normal(1.0, 0.5, low=0.0)."
    )


def lowest_conductance(edge: Any, nodes: Mapping[str, AbstractNode]) -> Any:
    """The lowest weight of an edge into a conductance, 0 if none is lower; None for an edge into anything else."""
    node, port = edge.writes
    receptor = getattr(nodes[node], "receptors", {}).get(port)
    weight = getattr(edge, "weight", None)
    if receptor is None or weight is None or not type(receptor).conductance:
        return None
    if isinstance(weight, Uniform | Normal):  # drawn at every event
        weight = weight.low if isinstance(weight, Uniform) else weight.mean
    return jnp.min(weight, initial=0.0) if is_traced(weight) else np.min(np.asarray(weight), initial=0.0)


def _twins(pre: range, post: range) -> Any:
    """For each pre unit of a node the place in `post` of the same unit, -1 where there is none; True for equal
    ranges."""
    if pre == post:
        return True
    place, rest = np.divmod(np.asarray(pre) - post.start, post.step)
    twin = np.where((rest == 0) & (place >= 0) & (place < len(post)), place, -1)
    return twin if np.any(twin >= 0) else False


def weight_shape(topology: Any) -> tuple[int, ...]:
    """Shape of one value per synapse; () where there are none."""
    if isinstance(topology, DrawnRows):
        return ()
    if isinstance(topology, FixedFanout):
        return (topology.n_pre, topology.k)
    return topology.weight_shape if isinstance(topology, AbstractMap) else (topology.n_syn,)


def _drawn(where: str, edge: Any, topology: DrawnRows, channels: int) -> DrawnRows:
    """The topology with the law of the edge's weights; raises on what synapses that are not stored cannot have."""
    weight, fix = edge.weight, "Use the rule without bs.Procedural, which stores its synapses."
    if channels != 1:
        raise ValueError(
            f"{where}.connect: gap junctions need a symmetric connectivity, which drawn rows are not. {fix}"
        )
    if isinstance(edge.delay, AbstractDistribution) or (not isinstance(edge.delay, _Instant) and jnp.ndim(edge.delay)):
        raise ValueError(
            f"{where}.delay is {edge.delay!r}; expected one number (ms): no delay per synapse is kept. {fix}"
        )
    if not isinstance(weight, AbstractDistribution):
        if jnp.ndim(weight):
            raise ValueError(
                f"{where}.weight has shape {jnp.shape(weight)}; expected a number, bs.Uniform or bs.Normal: no weight "
                f"per synapse is kept. {fix}"
            )
        return topology.drawing("one")
    bounded = isinstance(weight, Normal) and (weight.low > -math.inf or weight.high < math.inf)
    if not isinstance(weight, Uniform | Normal) or bounded or any(jnp.ndim(x) for x in jax.tree.leaves(weight)):
        raise ValueError(
            f"{where}.weight is {weight!r}; expected a number, bs.Uniform(low, high) or bs.Normal(mean, std) with two "
            f"numbers and no bounds: drawn weights are linear in their parameters. {fix}"
        )
    return topology.drawing("uniform" if isinstance(weight, Uniform) else "normal")


def drawn_weight(weight: Any) -> Any:
    """The parameters (2,) of a law that the operators draw from; numbers and arrays as they are."""
    if isinstance(weight, Uniform):
        return jnp.stack([weight.low, weight.high])
    return jnp.stack([weight.mean, weight.std]) if isinstance(weight, Normal) else weight


def _topology(where, edge, n_pre, n_post, same, key):
    connect = edge.connect
    if isinstance(connect, AbstractTopology):
        if (connect.n_pre, connect.n_post) != (n_pre, n_post):
            raise ValueError(
                f"{where}: the topology is {connect.n_pre} x {connect.n_post} but {edge.pre} -> {edge.post} is "
                f"{n_pre} x {n_post}. Build it for these sizes."
            )
        # values in the order of the sources go along
        return (connect.rows, np.asarray(connect.order)) if isinstance(connect, FixedFanin) else (connect, None)
    if isinstance(connect, type) or not callable(getattr(connect, "build", None)):
        number = isinstance(connect, int | float) and not isinstance(connect, bool)
        fix = f"Write bs.FixedProbability({connect!r})." if number else "Pass an instance, not a class."
        raise TypeError(
            f"{where}.connect is {connect!r}; expected a rule such as bs.FixedProbability(0.1) or a topology. {fix}"
        )
    try:
        return connect.build(n_pre, n_post, same=same, key=key)
    except (ValueError, TypeError) as e:
        hint = " Give the network a key: Network(..., key=jax.random.key(0))." if key is None else ""
        raise type(e)(f"{where}: {e}{hint}") from e


def _values(where, field, x, shape, listed, order, key):
    """A number, or one value per synapse in the order of the user's list.

    What a distribution gives is drawn in the order of the synapses. `listed`: another shape that the user may give.
    """
    if isinstance(x, AbstractDistribution):
        if key is None:
            raise ValueError(f"{where}.{field} is drawn from {x}; give Network(..., key=jax.random.key(0)).")
        drawn = drawn_in_pieces(x, key, shape)
        return drawn if order is None else drawn[np.argsort(order)]
    check_parameter(where, field, x)
    if jnp.shape(x) != shape and jnp.shape(x) in (listed, (math.prod(shape),)):
        x = x.reshape(shape)
    if jnp.shape(x) not in ((), shape):
        raise ValueError(
            f"{where}.{field} has shape {jnp.shape(x)}; expected () or {shape}, one value per synapse of this "
            f"connectivity. Pass a number, a distribution or an array of that shape."
        )
    return x


def _per_pre(where, topology, delay):
    shape = weight_shape(topology)
    if jnp.shape(delay) != (topology.n_pre,):
        raise ValueError(
            f"{where}.delay has shape {jnp.shape(delay)}; expected () or one delay per synapse {shape} or per pre unit "
            f"({topology.n_pre},)."
        )
    if isinstance(topology, CSR):
        return jnp.repeat(delay, jnp.diff(topology.indptr), total_repeat_length=shape[0])
    return jnp.broadcast_to(delay[:, None], shape)


def check_delays(where: str, delay: Any, max_delay: float | None) -> float:
    """The largest delay (ms); raises on NaN, on negative delays and on those beyond the line."""
    check_parameter(where, "delay", delay)
    delay = np.asarray(delay)
    low, high = float(np.min(delay, initial=np.inf)), float(np.max(delay, initial=0.0))
    if low < 0:
        raise ValueError(
            f"{where}.delay is {low:g} ms; expected delays >= 0. An event cannot arrive before it is sent; bound a "
            f"distribution, as in bs.Normal(1.5, 0.5, low=0.0)."
        )
    if max_delay is not None and high > max_delay * (1 + _SLACK):
        raise ValueError(
            f"{where}.delay is {high:g} ms, beyond the line of max_delay = {max_delay:g} ms; expected delays up to it. "
            f"Build the edge with a larger max_delay."
        )
    return high


def _max_delay(where, delay, max_delay):
    """Length of the delay line (ms)."""
    if max_delay is not None:
        line = parameter(max_delay)
        check_parameter(where, "max_delay", line)
        if is_traced(line) or jnp.ndim(line) or not float(line) >= 0:
            raise ValueError(
                f"{where}.max_delay is {max_delay!r}; expected one number >= 0 (ms), fixed at construction."
            )
        max_delay = float(max_delay)
    if not is_traced(delay):
        high = check_delays(where, delay, max_delay)
        return high if max_delay is None else max_delay
    if max_delay is None:
        raise ValueError(f"{where}: the delay is traced; give max_delay (ms), the fixed length of the delay line.")
    return max_delay
