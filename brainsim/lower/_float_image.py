"""Chips whose cells compute in floating point, with weights of some bits: SpiNNaker 2, and an ideal one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import diffrax
import jax
import numpy as np
from jaxtyping import Float, Int

from ..core import AbstractNode, Network, Population, Projection, Source
from ..events import CSR
from ..neurons import CubaLIF, External
from ..simulate import Events, simulate
from ..synapses import Delta
from ._canonical import SOLVER, Graph, Group, LoweringError, canonical
from ._constant import folded
from ._ledger import Ledger, counted
from ._legalise import Layout, check_chips, check_whole, limits_of, rule_of
from ._targets import IDEAL, SPINNAKER2, Target

CELL_BYTES = 24
"""Of a cell: u, v, two decays, threshold and bias in float32."""
SYNAPSE_BYTES = 4
"""Of a synapse: one word of weight, delay and target."""


@dataclasses.dataclass(frozen=True, eq=False)
class FloatImage:
    """Cells of floating point: `u = A u + sum w`, `v = B v + u + bias`, a spike where v > v_th, then v = 0.

    Weights are whole numbers, all else is float32. `net` runs under forward Euler with a step of 1. Spikes are robust
    to the order of operations, words are not: these are claimed of spikes only.
    """

    graph: Graph
    net: Network
    weights: dict[str, Int[np.ndarray, " n_syn"]]
    """By edge."""
    errors: dict[str, float]
    """Root mean square error of the weights by edge, as a part of their root mean square."""
    layout: Layout

    def simulate(self, steps: int, *, inputs: dict[str, Any]) -> dict[str, Float[np.ndarray, "steps n"]]:
        """Events of every group in `steps` steps; `inputs` as in `Image.simulate`."""
        saveat = [Events(node=name) for name in self.graph.groups]
        how: dict[str, Any] = dict(dt=1.0, solver=diffrax.Euler(), key=jax.random.key(0))
        sol = simulate(self.net, t1=float(steps), inputs=inputs, saveat=saveat, **how)
        return {name: np.asarray(sol[f"{name}.events"]) for name in self.graph.groups}

    def ledger(self, events: Mapping[str, Any]) -> Ledger:
        """Counts of a run; every cell is updated in every step, hops are not known."""
        ends = ((c.pre, c.post, c.sources, c.targets) for c in self.graph.connections.values())
        return counted(self.layout, ends, events)


def float_image(
    net: Network,
    target: Target = SPINNAKER2,
    *,
    dt: float,
    solver: Any = SOLVER,
    bits: int | None = None,
    per_neuron: bool = False,
    chips: int = 1,
) -> FloatImage:
    r"""`net`, as `bs.simulate(net, dt=dt, solver=solver)` runs it, for a target whose cells are in floating point.

    Weights become `w (2^(bits - 1) - 1) / max |w|`, rounded as the target does, the maximum over all that arrive at a
    group, or with `per_neuron` at a cell; thresholds and biases are scaled by the same factor, and a constant current
    acts at its steady state. The rule of `SPINNAKER2` (8 bits, truncated) was read off recorded rasters of the chip
    (the Braille network of NIR) and agrees with py-spinnaker2's `s2_nir.py`. With `IDEAL` the constant current is
    filtered as in the network; at all 24 bits of float32 nothing is left of the rounding, so fewer bits show what
    weights of that width cost and nothing else.

    **Arguments:** `bits`: of a weight, sign included, by default as many as the target has; `chips`: as in `legalise`.

    **Raises** LoweringError: the rules of `canonical`, and S2-BITS, S2-REFRACTORY, S2-SRAM and S2-PE (IDEAL-BITS).
    """
    check_chips(chips)
    graph, most = canonical(net, dt=dt, solver=solver), int(target.widths["weight"].value)
    graph = graph if target is IDEAL else folded(graph)
    bits = most if bits is None else bits
    if not 2 <= bits <= most:
        raise LoweringError(rule_of(target, "BITS"), "net", f"weights of {bits} bits; expected 2 to {most}.")
    weights, errors, edges = {}, {}, {}
    nodes: dict[str, AbstractNode] = {name: Source(process=External(), size=n) for name, n in graph.inputs.items()}
    for name, g in graph.groups.items():
        if "REFRACTORY" in limits_of(target) and np.any(g.refractory != 1):
            raise LoweringError(rule_of(target, "REFRACTORY"), name, "a refractory period; its LIF cells have none.")
        arriving = {k: c for k, c in graph.connections.items() if c.post == name}
        scale = _scale(g.size, arriving, 2 ** (bits - 1) - 1, per_neuron)
        for k, c in arriving.items():
            w, own = np.asarray(c.weight, np.float64), scale[c.targets]
            weights[k] = target.rounding(w * own)
            size = np.sqrt(np.mean(w**2)) if w.size else 0.0
            errors[k] = float(np.sqrt(np.mean((weights[k] / own - w) ** 2)) / size) if size else 0.0
        unit, i_e = _cell(g, scale if per_neuron else scale[0])
        nodes[name] = Population(unit, g.size, {"i": Delta("i")}, i_e=i_e, init={"v": 0.0})
    for k, c in graph.connections.items():
        sizes = [graph.groups[x].size if x in graph.groups else graph.inputs[x] for x in (c.pre, c.post)]
        topology, order = CSR.from_coo(c.sources, c.targets, *sizes)
        delay = c.delay[order].astype(np.float64)
        delay = float(delay[0]) if delay.size and np.all(delay == delay[0]) else (delay if delay.size else 0.0)
        edges[k] = Projection(c.pre, f"{c.post}.i", topology, weight=weights[k][order].astype(np.float64), delay=delay)
    return FloatImage(graph, Network(nodes, edges), weights, errors, _layout(graph, target, chips))


def _scale(size: int, arriving: Mapping[str, Any], top: int, per_neuron: bool) -> Float[np.ndarray, " n"]:
    """By cell, what its weights are multiplied by."""
    largest = np.zeros(size)
    for c in arriving.values():
        np.maximum.at(largest, c.targets, np.abs(np.asarray(c.weight, np.float64)))
    largest = largest if per_neuron else np.full(size, largest.max(initial=0.0))
    return np.where(largest > 0, top / np.where(largest > 0, largest, 1.0), 1.0)


def _cell(g: Group, scale: Any) -> tuple[CubaLIF, Float[np.ndarray, "..."]]:
    """The cell in steps of 1, its v in units of a weight, and its constant current."""
    gain = np.asarray(g.gain, np.float64)
    leak_u, leak_v = (1.0 - np.asarray(x, np.float64) for x in (g.keep_i, g.keep_v))
    unit = CubaLIF(
        tau_syn=1.0 / leak_u,
        tau_m=1.0 / leak_v,
        r=1.0 / leak_v,
        e_l=np.asarray(g.bias, np.float64) * scale / gain / leak_v,
        v_th=np.asarray(g.v_th, np.float64) * scale / gain,
        t_ref=np.asarray(g.refractory, np.float64) - 1.0,
    )
    return unit, np.asarray(g.drive, np.float64) * scale / leak_u / unit.w_in


def _layout(graph: Graph, target: Target, chips: int) -> Layout:
    """Cells on processing elements, one group after the other, as many as their memory holds."""
    limits = limits_of(target)
    limit, rule = limits.get("SRAM", 2**62), rule_of(target, "SRAM")
    core, slot, used, filled = {}, {}, [], 0
    for name, g in graph.groups.items():
        size = np.full(g.size, CELL_BYTES)
        for c in graph.connections.values():
            if c.post == name:
                np.add.at(size, c.targets, SYNAPSE_BYTES)
        core[name], slot[name] = np.zeros(g.size, np.int64), np.zeros(g.size, np.int64)
        begin, total = 0, 0
        for k, b in enumerate(size):
            if b > limit:
                raise LoweringError(rule, f"{name}[{k}]", f"{b} bytes; {target.limits[rule]}.")
            if total + b > limit:
                used.append(total)
                filled, begin, total = filled + 1, k, 0
            core[name][k], slot[name][k] = filled, k - begin
            total += int(b)
        used.append(total)
        filled += 1
    if "PE" in limits:
        check_whole(target, rule_of(target, "PE"), filled, chips)
    return Layout(target, core, slot, {rule: np.array(used, np.int64)} if "SRAM" in limits else {})
