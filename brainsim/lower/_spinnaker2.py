"""SpiNNaker 2: cells in float32 on ARM cores, weights of 8 bits."""

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
from ._canonical import SOLVER, Graph, LoweringError, canonical
from ._constant import folded
from ._ledger import Ledger
from ._legalise import Layout
from ._targets import SPINNAKER2

CELL_BYTES = 24
"""Of a cell: u, v, two decays, threshold and bias in float32."""
SYNAPSE_BYTES = 4
"""Of a synapse: one word of weight, delay and target."""
TOP = 127
"""Largest weight."""


@dataclasses.dataclass(frozen=True, eq=False)
class SpiNNaker2:
    """A network as SpiNNaker 2 runs it: `u = A u + sum w`, `v = B v + u + bias`, a spike where v > v_th, then v = 0.

    Weights are whole numbers from -127 to 127, all else is float32. `net` runs under forward Euler with a step of 1.
    Spikes are robust to the order of operations, words are not: these are claimed of spikes only.
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
        n, sent = self.layout.n_cores, {name: np.asarray(x) > 0 for name, x in events.items()}
        steps = len(next(iter(sent.values())))
        spikes, synaptic = np.zeros(n, np.int64), np.zeros(n, np.int64)
        pairs: dict[str, set[tuple[int, int]]] = {name: set() for name in sent}
        for c in self.graph.connections.values():
            home = self.layout.core[c.post][c.targets]
            np.add.at(synaptic, home, sent[c.pre].sum(0)[c.sources])
            pairs[c.pre] |= set(zip(c.sources.tolist(), home.tolist()))
        traffic, outside = np.zeros((n, n), np.int64), 0
        for name, found in pairs.items():
            for unit, core in found:
                times = int(sent[name][:, unit].sum())
                if name in self.graph.inputs:
                    outside += times
                else:
                    traffic[self.layout.core[name][unit], core] += times
        for name in self.graph.groups:
            np.add.at(spikes, self.layout.core[name], sent[name].sum(0))
        accessed = np.bincount(np.concatenate(list(self.layout.core.values())), minlength=n) * steps
        return Ledger(steps, spikes, synaptic, accessed, accessed, int(traffic.sum()), outside, traffic, 0, 0)


def spinnaker2(net: Network, *, dt: float, solver: Any = SOLVER) -> SpiNNaker2:
    """`net`, as `bs.simulate(net, dt=dt, solver=solver)` runs it, for SpiNNaker 2.

    Weights become `trunc(127 w / max |w|)`, the maximum over all that arrive at a group; thresholds and biases are
    scaled by the same factor, and a constant current acts at its steady state. The rule was read off recorded rasters
    of the chip (the Braille network of NIR) and agrees with py-spinnaker2's `s2_nir.py`.

    **Raises** LoweringError: the rules of `canonical`, S2-REFRACTORY, S2-SRAM and S2-PE.
    """
    graph = folded(canonical(net, dt=dt, solver=solver))
    weights, errors, edges = {}, {}, {}
    nodes: dict[str, AbstractNode] = {name: Source(process=External(), size=n) for name, n in graph.inputs.items()}
    for name, g in graph.groups.items():
        if np.any(g.refractory != 1):
            raise LoweringError("S2-REFRACTORY", name, "a refractory period; the LIF of py-spinnaker2 has none.")
        arriving = {k: np.asarray(c.weight, np.float64) for k, c in graph.connections.items() if c.post == name}
        most = max((float(np.abs(w).max(initial=0.0)) for w in arriving.values()), default=0.0)
        scale = TOP / most if most > 0 else 1.0
        for k, w in arriving.items():
            weights[k] = np.trunc(w * scale).astype(np.int64)
            size = np.sqrt(np.mean(w**2)) if w.size else 0.0
            errors[k] = float(np.sqrt(np.mean((weights[k] / scale - w) ** 2)) / size) if size else 0.0
        gain = np.asarray(g.gain, np.float64)
        keep_u, keep_v = np.asarray(g.keep_i, np.float64), np.asarray(g.keep_v, np.float64)
        unit = CubaLIF(
            tau_syn=1.0 / (1.0 - keep_u),
            tau_m=1.0 / (1.0 - keep_v),
            r=1.0 / (1.0 - keep_v),
            e_l=np.asarray(g.bias, np.float64) * scale / gain / (1.0 - keep_v),
            v_th=np.asarray(g.v_th, np.float64) * scale / gain,
        )
        nodes[name] = Population(unit, g.size, {"i": Delta("i")}, init={"v": 0.0})
    for k, c in graph.connections.items():
        sizes = [graph.groups[x].size if x in graph.groups else graph.inputs[x] for x in (c.pre, c.post)]
        topology, order = CSR.from_coo(c.sources, c.targets, *sizes)
        delay = c.delay[order].astype(np.float64)
        delay = float(delay[0]) if delay.size and np.all(delay == delay[0]) else (delay if delay.size else 0.0)
        edges[k] = Projection(c.pre, f"{c.post}.i", topology, weight=weights[k][order].astype(np.float64), delay=delay)
    return SpiNNaker2(graph, Network(nodes, edges), weights, errors, _layout(graph))


def _layout(graph: Graph) -> Layout:
    """Cells on processing elements, one group after the other, as many as their memory holds."""
    limit, most = (int(SPINNAKER2.limits[rule].value) for rule in ("S2-SRAM", "S2-PE"))
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
                raise LoweringError("S2-SRAM", f"{name}[{k}]", f"{b} bytes; {SPINNAKER2.limits['S2-SRAM']}.")
            if total + b > limit:
                used.append(total)
                filled, begin, total = filled + 1, k, 0
            core[name][k], slot[name][k] = filled, k - begin
            total += int(b)
        used.append(total)
        filled += 1
    if filled > most:
        raise LoweringError("S2-PE", "chip", f"{filled} are needed; {SPINNAKER2.limits['S2-PE']}.")
    return Layout(SPINNAKER2, core, slot, {"S2-SRAM": np.array(used, np.int64)})
