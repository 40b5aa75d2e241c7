"""A network as a graph of CUBA LIF cells in steps: everything that a chip has to be told, nothing implicit."""

import dataclasses
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import float_dtype, is_traced
from ..core import (
    AbstractDelay,
    AbstractEdge,
    AbstractNode,
    AbstractReceptor,
    AbstractUnit,
    Network,
    Population,
    Source,
    WiredProjection,
)
from ..events import CSR, Dense, FixedFanout
from ..neurons import LIF, CubaLIF
from ..solvers import ExponentialEuler
from ..synapses import Delta, ExpCurr


class LoweringError(ValueError):
    """A network has what the chip or the pass does not: the message names rule, node, value and limit."""

    def __init__(self, rule: str, where: str, message: str) -> None:
        super().__init__(f"[{rule}] {where}: {message}")
        self.rule = rule
        """Id of the rule."""
        self.where = where
        """The node or edge."""


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Cells with `i = keep_i i + arrivals + drive`, `v = keep_v v + gain i + bias`, a spike where v > v_th, then v = 0.

    v counts from the resting potential; `drive` acts from the second step on, as what arrives does. Arrays () or
    (size,); all but `refractory` may be traced.
    """

    size: int
    keep_i: Float[Array, "..."]
    keep_v: Float[Array, "..."]
    gain: Float[Array, "..."]
    drive: Float[Array, "..."]
    bias: Float[Array, "..."]
    v_th: Float[Array, "..."]
    refractory: Int[np.ndarray, "..."]
    """Steps from a spike to the first that can be another, >= 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Connection:
    """Synapses of one edge, in its order: an event of `pre` adds `weight` to i of its target, 1 + delay steps later."""

    pre: str
    post: str
    sources: Int[np.ndarray, " n_syn"]
    targets: Int[np.ndarray, " n_syn"]
    weight: Float[Array, " n_syn"]
    delay: Int[np.ndarray, " n_syn"]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The canonical graph of a network: groups of cells, connections and inputs by name, in steps of `dt` ms."""

    dt: float
    groups: dict[str, Group]
    connections: dict[str, Connection]
    inputs: dict[str, int]
    lags: dict[str, int]
    """Steps that each group is behind the network, where that has edges within a step."""

    def __str__(self) -> str:
        cells = sum(g.size for g in self.groups.values())
        synapses = sum(c.sources.size for c in self.connections.values())
        late = "".join(f"; {name} lags by {n} steps" for name, n in self.lags.items() if n)
        return f"{cells} cells, {synapses} synapses, {sum(self.inputs.values())} inputs, steps of {self.dt:g} ms{late}"


SOLVER = ExponentialEuler()
"""The solver of a run that a chip can follow: it takes the current at the start of a step, as a chip does."""


def canonical(net: Network, *, dt: float, solver: Any = SOLVER, known: Graph | None = None) -> Graph:
    r"""The graph of `net` as `bs.simulate(net, dt=dt, solver=solver)` runs it; the default is not that of `simulate`.

    With forward Euler a state keeps `1 - dt / tau` a step, with `ExponentialEuler` `exp(-dt / tau)`; an arrival adds to
    the current before v reads it. Both have the form of a chip exactly: nothing is approximated here. The constant
    current of a `CubaLIF` is filtered by its synapse and drives i, that of a `LIF` drives v.

    Every connection of a chip takes a step. Where the network has edges within a step (`INSTANT`), groups lag behind it
    by whole steps, and the delays of all edges are set so that nothing else changes (retiming, Leiserson and Saxe 1991,
    doi:10.1007/BF01759032); a bias, though, acts from the first step on.

    `known`: the graph of a network with the same synapses, whose pairs and delays are taken; it is needed inside `jit`,
    where those of `net` cannot be looked at.

    Takes `CubaLIF` with one port `Delta("i")`, and `LIF` with one port `ExpCurr`; `Source` nodes become inputs.

    **Raises** `LoweringError` with a rule: GRAPH-UNIT, -PORT, -NOISE, -RESET, -SOLVER, -INSTANT, -SHORT-TERM, -DELAY,
    -EDGE, -INIT.
    """
    groups, inputs = {}, {}
    for name, node in net.nodes.items():
        if isinstance(node, Source):
            inputs[name] = node.size
            continue
        groups[name] = _group(
            name, node, _exponential(name, solver.get(name) if isinstance(solver, dict) else solver), dt
        )
    connections = {}
    for name, edge in net.edges.items():
        projection = _checked(name, edge)
        ends, weight = known.connections[name] if known else _ends(projection, dt), projection.weight
        weight = jnp.reshape(weight, (-1,)) if jnp.ndim(weight) else weight
        connections[name] = dataclasses.replace(ends, weight=jnp.broadcast_to(weight, ends.sources.shape))
    lags = known.lags if known else _lags([*groups, *inputs], connections)
    if not known:
        connections = {
            name: dataclasses.replace(c, delay=c.delay + lags[c.post] - lags[c.pre]) for name, c in connections.items()
        }
    return Graph(dt, groups, connections, inputs, lags)


def _lags(names: list[str], connections: dict[str, Connection]) -> dict[str, int]:
    """The smallest lags with which every connection takes a step or more; inputs have none."""
    lags = dict.fromkeys(names, 0)
    for _ in range(len(names) + 1):
        late = {name: c for name, c in connections.items() if lags[c.post] < lags[c.pre] - c.delay.min(initial=0)}
        if not late:
            return lags
        for c in late.values():
            lags[c.post] = max(lags[c.post], lags[c.pre] - int(c.delay.min(initial=0)))
    raise LoweringError(
        "GRAPH-INSTANT",
        next(iter(late)),
        "part of a loop of fewer steps than edges; every connection of a chip takes a step. Give it a delay.",
    )


def _host(x: Any) -> Any:
    return np.zeros(()) if is_traced(x) else np.asarray(x)


def _exponential(name: str, solver: Any) -> bool:
    if isinstance(solver, diffrax.Euler):
        return False
    if isinstance(solver, ExponentialEuler):
        return True
    raise LoweringError(
        "GRAPH-SOLVER",
        name,
        f"solver {'Propagator, the default' if solver is None else type(solver).__name__}; expected diffrax.Euler() or "
        "bs.ExponentialEuler(), which take the current at the start of a step, as a chip does.",
    )


def _group(name: str, node: AbstractNode, exponential: bool, dt: float) -> Group:
    if not isinstance(node, Population) or not isinstance(node.unit, CubaLIF | LIF):
        kind = type(node.unit if isinstance(node, Population) else node).__name__
        raise LoweringError("GRAPH-UNIT", name, f"{kind}; a chip has CUBA LIF cells, expected bs.CubaLIF or bs.LIF.")
    if node.noise is not None:
        raise LoweringError("GRAPH-NOISE", name, f"{type(node.noise).__name__}; expected cells without noise.")
    if node.init_values:
        raise LoweringError(
            "GRAPH-INIT", name, f"initial values of {sorted(node.init_values)}; a chip starts at rest. Leave them out."
        )
    tau_syn, r, w_in = _synapse(name, node.unit, node.receptors)
    unit = node.unit
    if np.any(_host(unit.v_reset) != _host(unit.e_l)):
        raise LoweringError("GRAPH-RESET", name, "v_reset differs from e_l; a chip resets to its resting potential.")
    keep_i = _kept(dt, tau_syn, exponential)
    keep_v = _kept(dt, unit.tau_m, exponential)
    refractory = 1 + np.rint(_host(unit.t_ref) / dt).astype(np.int64)
    gain, i_e = (1.0 - keep_v) * r, jnp.asarray(node.i_e, float_dtype())
    drive, bias = (
        (jnp.zeros_like(i_e), gain * i_e) if w_in is None else ((1.0 - keep_i) * w_in * i_e, jnp.zeros_like(i_e))
    )
    return Group(node.size, keep_i, keep_v, gain, drive, bias, unit.v_th - unit.e_l, refractory)


def _kept(dt: float, tau: Array, exponential: bool) -> Array:
    return jnp.exp(-dt / tau) if exponential else 1.0 - dt / tau


def _synapse(name: str, unit: AbstractUnit, receptors: dict[str, AbstractReceptor]) -> tuple[Any, Any, Any]:
    """Time constant of the current, volts at rest for one of it, and its weight of `i_e`: None where that drives v."""
    if len(receptors) > 1:
        raise LoweringError(
            "GRAPH-PORT", name, f"ports {sorted(receptors)}; a chip has one current, expected one port."
        )
    port = next(iter(receptors.values()), None)
    if isinstance(unit, CubaLIF):
        if unit.reset_by_subtraction:
            raise LoweringError("GRAPH-RESET", name, "reset_by_subtraction; a chip resets to 0.")
        if port is not None and not (isinstance(port, Delta) and port.variable == "i"):
            raise LoweringError("GRAPH-PORT", name, f"{type(port).__name__}; expected bs.Delta('i') for a CubaLIF.")
        return unit.tau_syn, unit.r, unit.w_in
    assert isinstance(unit, LIF)
    if port is None:
        return unit.tau_m, 1.0 / unit.g_l, None
    if not isinstance(port, ExpCurr):
        raise LoweringError("GRAPH-PORT", name, f"{type(port).__name__}; expected bs.ExpCurr for a LIF.")
    return port.tau, 1.0 / unit.g_l, None


def _checked(name: str, edge: AbstractEdge) -> WiredProjection:
    if not isinstance(edge, WiredProjection) or not isinstance(edge.connect, CSR | Dense | FixedFanout):
        kind = type(edge.connect).__name__ if isinstance(edge, WiredProjection) else edge.kind
        raise LoweringError("GRAPH-EDGE", name, f"{kind}; expected a bs.Projection whose synapses are stored.")
    if edge.short_term is not None:
        raise LoweringError("GRAPH-SHORT-TERM", name, f"{type(edge.short_term).__name__}; a chip has none.")
    if isinstance(edge.delay, AbstractDelay):
        raise LoweringError("GRAPH-DELAY", name, "a delay that is learnt; round it first: bs.hardened(net, dt).")
    return edge


def _ends(edge: WiredProjection, dt: float) -> Connection:
    """Pairs and delays of the synapses of `edge`, without weights."""
    start, _, step = edge.route.units_pre or (0, None, 1)
    first, _, stride = edge.route.units_post
    if isinstance(edge.connect, Dense):
        pre, post = (x.reshape(-1) for x in np.indices((edge.connect.n_pre, edge.connect.n_post)))
        post = first + stride * post  # its columns are those of the view
    else:
        pre, post = (np.asarray(x, np.int64) for x in edge.connect.to_coo())
    n = pre.size
    delay = np.full(1, -1) if edge.instant else np.floor(np.asarray(edge.delay) / dt + 0.5).astype(np.int64).reshape(-1)
    if delay.size not in (1, n):
        delay = delay[pre]
    weight = jnp.zeros(n, float_dtype())
    return Connection(edge.reads["pre"], edge.writes[0], start + step * pre, post, weight, np.broadcast_to(delay, (n,)))
