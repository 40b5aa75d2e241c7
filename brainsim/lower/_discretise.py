"""From real numbers to registers: scales and exponents chosen once, and one rounding that training goes through too."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import float_dtype, is_traced
from ..core import AbstractSurrogate, Network
from ._arithmetic import nearest
from ._canonical import SOLVER, Connection, Graph, LoweringError, canonical
from ._constant import CELL, driven, edges_of, exponents_of, folded, mantissas, with_axons
from ._dialects import LOIHI, Dialect
from ._image import Image
from ._interval import Bounds, bounds
from ._tables import DELAY_MAX, Cells, Synapses, bias_registers, nearest_bias

_THRESHOLD_MAX = 2**17 - 1
_EXPONENT_MAX = 7


@dataclasses.dataclass(frozen=True, eq=False)
class Scales:
    """What is fixed when the numbers are rounded: nothing here depends on what is trained."""

    volt: dict[str, Float[np.ndarray, " n"]]
    """Chip units of v by cell for one unit of the network's v."""
    exponent: dict[str, int]
    """Exponent of the weights by edge."""
    bits: dict[str, int]
    """Bits of the weights by edge."""
    bias_exponent: dict[str, Int[np.ndarray, " n"]]
    """Exponent of the bias by cell."""


class Words(eqx.Module):
    """Registers as floats, with the straight-through derivative of their rounding."""

    keep_u: dict[str, Float[Array, "..."]]
    keep_v: dict[str, Float[Array, "..."]]
    v_th: dict[str, Float[Array, "..."]]
    bias: dict[str, Float[Array, "..."]]
    mantissa: dict[str, Float[Array, " n_syn"]]


def grid(bits: int) -> tuple[int, int]:
    """Step and largest mantissa of a list of weights of both signs."""
    step = 2 ** (9 - bits)
    return step, 256 - step


def rounded(graph: Graph, scales: Scales) -> Words:
    r"""The registers of `graph` under `scales`: the only place where numbers are rounded.

    `keep = round(4096 keep)`, held to 0..4096; `v_th = 64 round(s v_th / 64)`; mantissas `round(s gain w / (64 2^e))`
    to the nearest step of the grid, held to its ends; biases to the nearest multiple of their power of two. Derivatives
    look through the rounding, and stop where a value is held at an end.
    """
    dtype = float_dtype()
    keep_u, keep_v, v_th, bias, mantissa = {}, {}, {}, {}, {}
    for name, g in graph.groups.items():
        s = jnp.asarray(scales.volt[name], dtype)
        keep_u[name] = jnp.clip(nearest(g.keep_i * 4096.0), 0.0, 4096.0)
        keep_v[name] = jnp.clip(nearest(g.keep_v * 4096.0), 0.0, 4096.0)
        v_th[name] = jnp.clip(nearest(g.v_th * s * (1 / 64)), 0.0, float(_THRESHOLD_MAX)) * 64.0
        unit = jnp.asarray(2.0 ** scales.bias_exponent[name], dtype)
        bias[name] = jnp.clip(nearest(g.bias * s / unit), -4096.0, 4095.0) * unit
    for name, c in graph.connections.items():
        if c.pre == CELL:
            continue
        g, s = graph.groups[c.post], scales.volt[c.post][c.targets]
        gain = g.gain[c.targets] if jnp.ndim(g.gain) else g.gain
        step, top = grid(scales.bits[name])
        factor = jnp.asarray(s / (64 * 2.0 ** scales.exponent[name] * step), dtype)
        mantissa[name] = jnp.clip(nearest(c.weight * gain * factor), -256.0 / step, top / step) * float(step)
    for name, g in graph.groups.items():
        edges = [edge for edge in edges_of(name, 2) if edge in graph.connections]
        if edges:
            k = g.drive * g.gain * jnp.asarray(scales.volt[name] / 64, dtype)
            mantissa |= dict(zip(edges, mantissas(k, [scales.exponent[edge] for edge in edges])))
    return Words(keep_u, keep_v, v_th, bias, mantissa)


class Lowered(eqx.Module):
    """A network rounded for a chip: `image`, which runs, and how to round the network again with other numbers.

    `str(lowered)` reports: bits, exponent and error of the weights by edge; thresholds, decays and what is proved by
    group.
    """

    image: Image
    graph: Graph = eqx.field(static=True)
    scales: Scales = eqx.field(static=True)
    solver: Any = eqx.field(static=True)
    bias_synapses: int = eqx.field(static=True)
    surrogate: AbstractSurrogate | None

    def refill(self, net: Network) -> Image:
        """The image of `net`: the network lowered here with other weights, thresholds, time constants or currents.

        The scales stay. Inside a transformation derivatives look through every rounding (`rounded`), and the bits are
        those of a refill outside of it: `bs.train.fit(net, lambda net: loss(lowered.refill(net)), ...)` is
        quantisation-aware training. There the proof cannot be looked at, so the run is checked instead: it stops should
        a state leave the integers of float32. Raises LoweringError and ValueError as `discretise` does.
        """
        graph = canonical(net, dt=self.graph.dt, solver=self.solver, known=self.graph)
        names = {c.post for c in self.graph.connections.values() if c.pre == CELL}
        graph = with_axons(graph, names, self.bias_synapses) if self.bias_synapses else folded(graph)
        words = rounded(graph, self.scales)
        if any(is_traced(x) for x in jax.tree.leaves(words)):
            return _filled(self.image, words, self.scales)
        return _image(graph, words, self.scales, self.image.tables.dialect, self.surrogate)

    def __str__(self) -> str:
        tables, lines = self.image.tables, [str(self.graph)]
        for name, error in weight_errors(self.graph, self).items():
            s = tables.synapses[name]
            size = f"{s.bits} bits, exponent {s.exponent}, error {error:.2%} of the weights"
            lines.append(f"{name}: {s.sources.size} synapses, {size}")
        for name, cells in tables.cells.items():
            pairs = len(np.unique(np.stack([cells.decay_u, cells.decay_v]), axis=1).T)
            kinds = f"{np.unique(cells.threshold).size} thresholds, {pairs} pairs of decays"
            lines.append(f"{name}: {kinds}; {tables.bounds[name]}")
        return "\n".join(lines)


def weight_errors(graph: Graph, lowered: Lowered) -> dict[str, float]:
    """Root mean square error of the weights of every edge, as a part of their root mean square."""
    errors = {}
    for name, c in graph.connections.items():
        s = lowered.image.tables.synapses[name]
        if c.pre == CELL:
            continue
        gain = np.broadcast_to(graph.groups[c.post].gain, (graph.groups[c.post].size,))[c.targets]
        exact = np.asarray(c.weight) * gain * lowered.scales.volt[c.post][c.targets]
        size = np.sqrt(np.mean(exact**2)) if exact.size else 0.0
        errors[name] = float(np.sqrt(np.mean((64 * s.mantissa * 2.0**s.exponent - exact) ** 2)) / size) if size else 0.0
    return errors


def discretise(
    net: Network,
    *,
    dt: float,
    solver: Any = SOLVER,
    dialect: Dialect = LOIHI,
    bits: int | Mapping[str, int] = 8,
    factor: float | Mapping[str, Any] = 1.0,
    per_neuron: bool = True,
    bias_synapses: int = 2,
    surrogate: AbstractSurrogate | None = None,
) -> Lowered:
    r"""Round `net`, as `bs.simulate(net, dt=dt, solver=solver)` runs it, to the registers of a chip.

    Every cell has a scale of its own, so that its largest synapse takes the largest mantissa, times `factor` (above 1
    its strongest synapses are clipped and the others get finer: at 3 or 4 bits that is worth much, see `tuned`); with
    `per_neuron=False` a group shares one. Of all exponents the largest is taken for which thresholds and biases fit
    and the interval proof says that no state can wrap or be clipped; where it never says so (cells without leak), the
    largest for which u cannot. A step of the chip is `dt`.

    A constant current that a synapse filters (`CubaLIF`) arrives over an axon that fires in every step, from a cell of
    its own, by `bias_synapses` synapses of 8 bits a cell: two hold it to 64 units of u. With 0 of them it acts at its
    steady state, from the first step on, in the bias register of the cell, which costs no events.

    **Arguments:** `bits`: one, or one by the name of the edge; `factor`: one, or one or (n,) by the name of the group;
    `surrogate`: as in `Image.of`.

    **Raises** `LoweringError` for what the chip lacks: the rules of `canonical`, and DISC-BITS, -DELAY, -BIAS,
    -REFRACTORY and -RANGE; ValueError for registers out of range.
    """
    graph = canonical(net, dt=dt, solver=solver)
    if bias_synapses not in (0, 1, 2):
        raise LoweringError("DISC-BIAS", "net", f"bias_synapses={bias_synapses!r}; expected 0, 1 or 2.")
    names = driven(graph)
    if names and not dialect.bias:
        raise LoweringError("DISC-BIAS", names[0], f"a constant current; {dialect.name} has no bias.")
    graph = with_axons(graph, names, bias_synapses) if bias_synapses else folded(graph)
    given = bits if isinstance(bits, Mapping) else dict.fromkeys(net.edges, bits)
    widths = {name: given.get(name, 8) for name in graph.connections}
    for name, width in widths.items():
        if not 2 <= width <= 8:
            raise LoweringError("DISC-BITS", name, f"weights of {width} bits; expected 2 to 8.")
    for name, c in graph.connections.items():
        if c.delay.max(initial=0) > DELAY_MAX:
            most = f"{c.delay.max()} steps of {dt:g} ms"
            raise LoweringError("DISC-DELAY", name, f"a delay of {most}; expected at most {DELAY_MAX} steps.")
    volt, exponents, biases = {}, {}, {}
    for name, group in graph.groups.items():
        if not dialect.bias and np.any(np.asarray(group.bias) != 0):
            raise LoweringError("DISC-BIAS", name, f"a constant current; {dialect.name} has no bias.")
        if not dialect.refractory and np.any(group.refractory != 1):
            raise LoweringError("DISC-REFRACTORY", name, f"a refractory period; {dialect.name} has none.")
        by = factor.get(name, 1.0) if isinstance(factor, Mapping) else factor
        if name == CELL:
            volt[name], biases[name] = np.full(1, 64.0), np.zeros(1, np.int64)
            continue
        volt[name], own, biases[name] = _scaled(graph, name, widths, dialect, by, per_neuron)
        exponents |= own
    scales = Scales(volt, exponents, widths, biases)
    image = _image(graph, rounded(graph, scales), scales, dialect, surrogate)
    return Lowered(image, graph, scales, solver, bias_synapses, surrogate)


def _scaled(
    graph: Graph, name: str, widths: Mapping[str, int], dialect: Dialect, factor: Any, per_neuron: bool
) -> tuple[Float[np.ndarray, " n"], dict[str, int], Int[np.ndarray, " n"]]:
    """Scale of the cells, exponents of the edges that reach them, exponents of their biases."""
    g = graph.groups[name]
    n = g.size
    edges = {k: c for k, c in graph.connections.items() if c.post == name and c.pre != CELL}
    axons = sum(c.post == name and c.pre == CELL for c in graph.connections.values())
    gain, v_th, bias, drive = (
        np.broadcast_to(np.asarray(x, np.float64), (n,)) for x in (g.gain, g.v_th, g.bias, g.drive)
    )
    tops = {k: grid(widths[k])[1] for k in edges}
    largest = np.zeros(n)  # by cell, the scale at which its largest synapse takes the largest mantissa
    for k, c in edges.items():
        np.maximum.at(largest, c.targets, np.abs(np.asarray(c.weight, np.float64)) * gain[c.targets] / tops[k])
    if not per_neuron or not np.any(largest):
        largest = np.full(n, largest.max(initial=0.0))
    largest = np.where(largest > 0, largest, largest.max() if np.any(largest) else v_th / 2**10)
    fallback = None
    for e in range(_EXPONENT_MAX, -9, -1):
        volt = np.minimum(factor * 64 * 2.0**e / largest, 64 * _THRESHOLD_MAX / v_th)  # weak cells: the threshold's end
        # what float32 makes of a word is what counts: the threshold and the bias as they will be rounded
        threshold = np.rint(v_th * volt / 64)
        if np.any((threshold < 1) | (threshold > _THRESHOLD_MAX)) or np.any(np.abs(bias * volt) > 4095 * 2**7):
            continue
        own = {k: _exponent(graph, c, volt, gain, widths[k], e, dialect) for k, c in edges.items()}
        constant = exponents_of(drive * gain * volt / 64, axons) if axons else ()
        if constant is None or any(x is None for x in own.values()):
            continue
        biases = bias_registers(nearest_bias(bias * volt))[1]
        own |= dict(zip(edges_of(name, axons), constant))
        found = volt, {k: int(x or 0) for k, x in own.items()}, biases
        proof = _proof(graph, name, Scales({name: volt}, found[1], dict(widths), {name: biases}), dialect)
        if np.all(proof.steady):
            return found
        inside = dialect.u_range is None or np.all(np.maximum(proof.u_high, -proof.u_low) < 2**23 - 1)
        if fallback is None and inside and np.all(proof.exact):
            fallback = found
    if fallback is None:
        raise LoweringError(
            "DISC-RANGE",
            name,
            "no exponent from 7 to -8 brings threshold, bias and current into their registers; expected weights within "
            "some powers of ten of the threshold. Rescale them.",
        )
    return fallback


def _exponent(graph: Graph, c: Connection, volt: Any, gain: Any, bits: int, most: int, dialect: Dialect) -> int | None:
    """The smallest exponent at which no synapse of the edge is clipped that would not be at the exponent `most`."""
    step, top = grid(bits)
    low = 0 if dialect.shifts_sum else max(-int(np.log2(step)), dialect.exponents[0])
    word = np.abs(np.asarray(c.weight, np.float64)) * gain[c.targets] * volt[c.targets]
    need = np.log2(max(word.max(initial=0.0), 1e-30) / (64 * top))
    e = min(int(np.ceil(need - 1e-6)), most)
    return None if most < low else max(e, low)


def _proof(graph: Graph, name: str, scales: Scales, dialect: Dialect) -> Bounds:
    """The bounds of one group under `scales`."""
    edges = {k: c for k, c in graph.connections.items() if c.post == name}
    part = Graph(graph.dt, {name: graph.groups[name]}, edges, {}, {})
    words = rounded(part, scales)
    cells, sums = _cells(name, part, words, dialect), np.zeros((2, graph.groups[name].size))
    for k, c in edges.items():
        word = np.asarray(words.mantissa[k], np.float64) * 64 * 2.0 ** scales.exponent[k]
        np.add.at(sums, (np.where(word < 0, 1, 0), c.targets), word)
    return bounds(cells, dialect, *sums)


def _cells(name: str, graph: Graph, words: Words, dialect: Dialect) -> Cells:
    whole = lambda x: np.rint(np.asarray(x)).astype(np.int64)  # noqa: E731
    return Cells(
        graph.groups[name].size,
        threshold=whole(words.v_th[name]) // 64,
        decay_u=np.maximum(4096 - whole(words.keep_u[name]) - dialect.decay_u_offset, 0),
        decay_v=np.minimum(4096 - whole(words.keep_v[name]), dialect.decay_u_max),
        bias=whole(words.bias[name]),
        refractory=graph.groups[name].refractory,
    )


def _image(graph: Graph, words: Words, scales: Scales, dialect: Dialect, surrogate: AbstractSurrogate | None) -> Image:
    cells = {name: _cells(name, graph, words, dialect) for name in graph.groups}
    synapses = {}
    for name, c in graph.connections.items():
        mantissa = np.rint(np.asarray(words.mantissa[name])).astype(np.int64)
        e, width = scales.exponent[name], scales.bits[name]
        synapses[name] = Synapses(c.pre, c.post, c.sources, c.targets, mantissa, e, bits=width, delay=c.delay)
    return Image.of(dialect, cells, synapses, graph.inputs, surrogate=surrogate)


def _filled(image: Image, words: Words, scales: Scales) -> Image:
    """`image` with traced words in the places of its own."""
    net, offset = image.net, 4096 - image.tables.dialect.decay_u_offset
    nodes, edges = dict(net.nodes), dict(net.edges)
    for name in image.tables.cells:
        new = {"keep_u": jnp.minimum(words.keep_u[name], float(offset)), "keep_v": words.keep_v[name]}
        new |= {"v_th": words.v_th[name], "bias": words.bias[name]}
        node: Any = nodes[name]
        unit = dataclasses.replace(node.unit, **new, checked=float_dtype() == np.float32)
        nodes[name] = eqx.tree_at(lambda node: node.unit, node, unit)
    for name, s in image.tables.synapses.items():
        order = np.lexsort((s.targets, s.sources))
        weight = (words.mantissa[name] * (64 * 2.0 ** scales.exponent[name]))[order]
        edges[name] = eqx.tree_at(lambda edge: edge.weight, edges[name], weight)
    return eqx.tree_at(lambda image: (image.net.nodes, image.net.edges), image, (nodes, edges))
