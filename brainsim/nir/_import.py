"""From a NIR graph to a network."""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import float_dtype
from ..core import INSTANT, AbstractSurrogate, Network, Projection, Source
from ..events import Convolution, Dense, FixedFanout
from ..neurons import DiscreteNeurons, External
from ..simulate import Events, simulate
from ._check import NEURONS, mended
from ._dialects import DIALECTS, Dialect
from ._graph import Graph, NIRError, Node
from ._read import read
from ._shapes import Shape, Shapes, numbers, windows


@dataclasses.dataclass(frozen=True)
class NIRNetwork:
    """A network that came from NIR, and how it did.

    Train or change `net` as any other, put it back with `dataclasses.replace(model, net=...)`, and `to_nir(model)`
    writes the file again: every attribute whose leaf is unchanged has the bits of the old file.

    **Arguments:**

    - `net`: the network; of each neuron a `DiscreteNeurons`, of each linear primitive a `Projection` of its name.
    - `dialect`: with which it was imported; its `dt` (ms) is the step of a run.
    - `graph`: the graph of the file, repaired where that was asked for.
    - `names`: of every node of the flat graph the name in `net`: that of its node, or of its edge.
    - `inputs`, `outputs`: names in `net` of what stands for the Input and Output nodes.
    - `shapes`: of every node of `net` the NIR shape. Units of one with channels are in the order (height, width,
      channel), NIR's is (channel, height, width).
    - `notes`: what was repaired, and what the dialect does not read.
    """

    net: Network
    dialect: Dialect
    graph: Graph
    names: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    shapes: dict[str, Shape]
    notes: tuple[str, ...] = ()
    lagged: frozenset[str] = frozenset()
    """Nodes of `net` whose spikes count one step later."""

    @property
    def dt(self) -> float:
        """The step (ms)."""
        assert self.dialect.dt is not None
        return self.dialect.dt

    def rows(self, events: Any, node: str | None = None) -> jax.Array:
        """Input (n_steps, *shape) as NIR has it, as rows (n_steps, n) for `simulate(inputs={node: ...})`.

        `node`: name in `net`, where there are several inputs. Under a dialect with lead-in steps the input comes later
        by these.
        """
        node = next(iter(self.inputs.values())) if node is None else node
        x, shape = jnp.asarray(events, float_dtype()), self.shapes[node]
        if x.shape[1:] not in (shape, (math.prod(shape),)):
            raise ValueError(f"NIRNetwork.rows: events have shape {x.shape}; expected (n_steps, {shape}) for {node!r}.")
        x = x.reshape(x.shape[0], -1)[:, layout(shape)]
        late = jnp.zeros((self.dialect.lead_in, x.shape[1]), x.dtype)
        return jnp.concatenate([late, x])[: x.shape[0]]

    def run(self, events: Any, record: Any = None) -> dict[str, np.ndarray]:
        """Run from the start on `events` (n_steps, *shape), or a dict of them by Input; what `record` sent.

        `record`: names of neurons in the NIR graph; None: those of `outputs`. Returns by name (n_steps, *shape), in the
        order of NIR.
        """
        given = events if isinstance(events, dict) else dict.fromkeys(self.inputs, events)
        inputs = {self.inputs[k]: self.rows(x, self.inputs[k]) for k, x in given.items()}
        steps = next(iter(inputs.values())).shape[0]
        wanted = self.outputs if record is None else {k: self.names[k] for k in record}
        nodes = sorted(set(wanted.values()))
        sol = simulate(
            self.net,
            t1=steps * self.dt,
            dt=self.dt,
            key=jax.random.key(0),
            inputs=inputs,
            saveat=[Events(node=node) for node in nodes],
        )
        found = {}
        for name, node in wanted.items():
            shape = self.shapes[node]
            own = np.asarray(sol[f"{node}.events"])
            if node in self.lagged:
                own = np.concatenate([np.zeros_like(own[:1]), own[:-1]])
            found[name] = own[:, np.argsort(layout(shape))].reshape(-1, *shape)
        return found


def window(node: Node, shape: Shape) -> tuple[Convolution, np.ndarray]:
    """The topology of a convolution or pool of a NIR shape, and its weight."""
    kernel, stride, padding, dilation = windows(node)
    channels, *size = shape
    if node.type.endswith("Pool2d"):
        sum_ = Convolution.pool((*size, channels), kernel, stride=stride, padding=padding)
        return sum_, np.asarray(1.0 if node.type == "SumPool2d" else 1.0 / math.prod(kernel))
    w, groups = np.asarray(node.fields["weight"]), numbers(node.fields["groups"], 1)[0]
    options: dict[str, Any] = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return Convolution((*size, channels), w.shape[0], kernel, **options), np.moveaxis(w, (0, 1), (-1, -2))


def layout(shape: Shape) -> np.ndarray:
    """Of every unit, channels last, its place in NIR's order, channels first."""
    places = np.arange(math.prod(shape))
    return np.moveaxis(places.reshape(shape), 0, -1).reshape(-1) if len(shape) > 1 else places


def from_nir(
    source: Any, dialect: Dialect | None = None, *, repair: bool = False, surrogate: AbstractSurrogate | None = None
) -> NIRNetwork:
    """A network from a NIR file or `bs.nir.Graph`.

    NIR states equations; how a library runs them in steps it leaves open. `dialect` says that: one of
    `bs.nir.DIALECTS`, with its step: `bs.nir.SNNTORCH.at(dt=0.1)`.

    Files are read in a process of its own with limits of memory and time, and nothing outside of the file is.

    **Arguments:** `source`: path or graph. `dialect`: as above; not needed where no neuron is. `repair`: mend what can
    be mended of a malformed graph, and say so in `notes`. `surrogate`: derivative of the spikes, for training.

    **Returns:** a `NIRNetwork`: `.net` for `simulate`, `.run(events)` for a raster.

    **Raises:** `bs.nir.NIRError` with every fault of the graph, or with the choice of dialects. Needs h5py for files:
    `pip install 'brainsim[nir]'`.

    !!! Example
        ```python
        model = bs.from_nir("braille.nir", bs.nir.SNNTORCH.at(dt=0.1))
        raster = model.run(events)["output"]  # events: (n_steps, 12)
        ```
    """
    graph = source if isinstance(source, Graph) else read(source)
    graph, done = mended(graph, repair)
    flat = graph.flat()
    if dialect is None or dialect.dt is None:
        if any(isinstance(n, Node) and n.type in (*NEURONS, "Delay") for n in flat.nodes.values()):
            raise NIRError(_open(flat, dialect))
        dialect = dataclasses.replace(dialect or next(iter(DIALECTS.values())), dt=1.0)
    return _Builder(graph, flat, dialect, surrogate, done).build()


def implied_dt(flat: Graph) -> list[float]:
    """Steps (ms) with which what arrives would enter in full: those of the library that wrote the numbers, if it is one
    that scales them so."""
    found = []
    for node in flat.nodes.values():
        if isinstance(node, Node):
            for tau, scale in (("tau", "r"), ("tau_mem", "r"), ("tau_syn", "w_in")):
                if tau in node.fields and scale in node.fields:
                    t, r = (np.asarray(node.fields[k], np.float64) for k in (tau, scale))
                    if np.all(r > 0) and not np.all(r == 1):
                        found += np.unique(np.round(1e3 * t / r, 6)).tolist()
    return sorted(set(found))


def _open(flat: Graph, dialect: Dialect | None) -> str:
    implied = implied_dt(flat)
    if implied and len(implied) < 4:
        hint = (
            f"tau / r of this file is {', '.join(f'{x:g}' for x in implied)} ms: the step, where input enters in full."
        )
    else:
        hint = "The numbers of this file imply no step."
    if dialect is not None:
        return f"the step of the dialect {dialect.name} is open: dialect.at(dt=...), in ms. {hint}"
    lines = [f"  bs.nir.{k.upper().replace(' ', '')}  {d.name}: {_said(d)}" for k, d in DIALECTS.items()]
    return "\n".join(
        ["the file leaves open how a neuron is updated in a step; give dialect=, for example bs.nir.NORSE.at(dt=0.1):"]
        + lines
        + [hint]
    )


def _said(d: Dialect) -> str:
    decay = "exp(-dt / tau)" if d.exponential else "1 - dt / tau"
    gain = "input enters in full" if d.whole_input else "input enters by dt / tau"
    sign = ">=" if d.at_threshold or d.several else ">"
    return f"decay {decay}, {gain}, spike at v {sign} v_threshold, reset {d.reset.value}"


class _Builder:
    """One import."""

    def __init__(self, graph: Graph, flat: Graph, dialect: Dialect, surrogate: Any, notes: list[str]) -> None:
        self.graph, self.flat, self.dialect, self.surrogate, self.notes = graph, flat, dialect, surrogate, notes
        self.shapes = Shapes(flat)
        self.types = {k: n.type for k, n in self.shapes.nodes.items()}
        self.after: dict[str, list[str]] = {k: [] for k in self.types}
        for a, b in flat.edges:
            self.after[a].append(b)
        self.names: dict[str, str] = {}
        for k in sorted(self.types):
            self.names[k] = self._fresh(k)
        self.nodes: dict[str, Any] = {}
        self.edges: dict[str, Any] = {}
        self.unit_shapes: dict[str, Shape] = {}
        spiking = [k for k, t in self.types.items() if t in ("IF", "LIF", "CubaLIF")]
        self.lagged = {self.names[k] for k in spiking} if dialect.lagged else set()
        self.bias: dict[str, dict[str, np.ndarray]] = {}
        self.late: dict[str, list[str]] = {}

    def _fresh(self, name: str) -> str:
        own = re.sub(r"\W", "_", name)
        own = own if own.isidentifier() else f"n{own}"
        while own in self.names.values():
            own += "_"
        return own

    def build(self) -> NIRNetwork:
        for name in self.shapes.order:
            self._declare(name)
        for name in self.shapes.order:
            self._connect(name)
        inputs = {k: self.names[k] for k, t in self.types.items() if t == "Input"}
        outputs = {k: self._sender(k)[0] for k, t in self.types.items() if t == "Output"}
        for name, kind in self.types.items():
            if kind in NEURONS:
                self.nodes[self.names[name]] = self._neurons(name)
        for own, node in self.nodes.items():
            if node is None:
                size = math.prod(self.unit_shapes[own])
                bias = self._bias(own)
                self.nodes[own] = DiscreteNeurons(size, 0.0, bias=bias, late=tuple(self.late.get(own, ())))
        names = {k: v for k, v in self.names.items() if self.types[k] not in ("Output", "Flatten")}
        net = Network(self.nodes, self.edges)
        return NIRNetwork(
            net,
            self.dialect,
            self.graph,
            names,
            inputs,
            outputs,
            self.unit_shapes,
            tuple(self.notes),
            frozenset(self.lagged),
        )

    def _is_op(self, name: str) -> bool:
        return self.types[name] not in (*NEURONS, "Input", "Output")

    def _direct(self, name: str) -> bool:
        """Whether a linear node is the edge into the one neuron after it."""
        return len(self.after[name]) == 1 and self.types[self.after[name][0]] in NEURONS

    def _place(self, own: str, shape: Shape, node: Any = None) -> None:
        self.nodes[own], self.unit_shapes[own] = node, shape

    def _declare(self, name: str) -> None:
        """The node of `net` that stands for a NIR node, if any."""
        kind, shape, before = self.types[name], self.shapes.out[name], self.shapes.before[name]
        if kind == "Input":
            source = Source(External(), math.prod(shape))  # pyright: ignore[reportArgumentType]  (equinox's converter)
            self._place(self.names[name], shape, source)
        elif kind in NEURONS:
            self._place(self.names[name], shape)
        elif kind == "Output":
            if len(before) != 1:
                self._place(self.names[name], shape)
        else:
            if len(before) > 1:
                into = self.shapes.into[name] or self.shapes.out[before[0]]
                self._place(f"{self.names[name]}_in", into)
            if kind != "Flatten" and not self._direct(name):
                self._place(f"{self.names[name]}_out", shape)

    def _sender(self, name: str) -> tuple[str, int]:
        """The node of `net` that sends what NIR node `name` does, and how many steps later."""
        own, kind = self.names[name], self.types[name]
        if own in self.nodes:
            return own, 0
        if f"{own}_out" in self.nodes:
            return f"{own}_out", 0
        if kind == "Flatten" and f"{own}_in" in self.nodes:
            return f"{own}_in", 0
        (a,) = self.shapes.before[name]
        node, hops = self._sender(a)
        return node, hops + self._back(a, name)

    def _back(self, a: str, b: str) -> int:
        return int(self.shapes.place[a] > self.shapes.place[b])

    def _connect(self, name: str) -> None:
        """The edges into a NIR node, or the edge that it is."""
        before = self.shapes.before[name]
        if not self._is_op(name):
            if self.names[name] in self.nodes and self.types[name] != "Input":
                for a in before:
                    if not (self._is_op(a) and self._direct(a)):
                        self._join(a, name, self.names[name])
            return
        own = self.names[name]
        if f"{own}_in" in self.nodes:
            for a in before:
                self._join(a, name, f"{own}_in")
            pre, hops = f"{own}_in", 0
        else:
            pre, hops = self._sender(before[0])
            hops += self._back(before[0], name)
        if self.types[name] == "Flatten":
            return
        if self._direct(name):
            target = self.after[name][0]
            post, back = self.names[target], self._back(name, target)
        else:
            post, back = f"{own}_out", 0
        self._operate(name, pre, post, hops + back, back)

    def _join(self, a: str, b: str, post: str) -> None:
        """An edge that passes on what `a` sends."""
        pre, hops = self._sender(a)
        there = np.argsort(layout(self.unit_shapes[post]))[layout(self.unit_shapes[pre])]
        name = f"{self.names[a]}_to_{post}"
        self._project(
            name, pre, post, FixedFanout(there[:, None].astype(np.int32), there.size), 1.0, hops + self._back(a, b)
        )

    def _project(self, name: str, pre: str, post: str, connect: Any, weight: Any, steps: int, **more: Any) -> None:
        assert self.dialect.dt is not None
        steps = max(steps, 1) if pre in self.lagged else steps
        delay = INSTANT if steps == 0 else (steps - 1) * self.dialect.dt
        while name in self.edges or name in self.nodes:
            name += "_"
        self.edges[name] = Projection(pre, post, connect, weight=weight, delay=delay, **more)

    def _operate(self, name: str, pre: str, post: str, steps: int, back: int) -> None:
        """The edge that a linear node is."""
        node, own = self.shapes.nodes[name], self.names[name]
        pre_shape, post_shape = self.unit_shapes[pre], self.unit_shapes[post]
        first, last = layout(pre_shape), layout(post_shape)
        if node.type in ("Linear", "Affine"):
            flattened = self.types[self.shapes.before[name][0]] == "Flatten"
            columns = np.arange(first.size) if self.dialect.channel_last and flattened else first
            w = np.asarray(node.fields["weight"])[last][:, columns].T
            self._project(own, pre, post, Dense(*w.shape), w, steps)
        elif node.type == "Scale":
            here = np.argsort(last)[first][:, None]
            scale = np.broadcast_to(np.asarray(node.fields["scale"]), pre_shape).reshape(-1)[first]
            self._project(own, pre, post, FixedFanout(here.astype(np.int32), here.size), scale[:, None], steps)
        elif node.type == "Delay":
            self._delay(name, pre, post, steps)
        else:
            connect, w = window(node, pre_shape)
            self._project(own, pre, post, connect, w, steps)
        if "bias" in node.fields:
            self._add_bias(own, post, np.asarray(node.fields["bias"]), back)

    def _add_bias(self, own: str, post: str, bias: np.ndarray, back: int) -> None:
        shape = self.unit_shapes[post]
        each = bias if bias.size == math.prod(shape) else np.repeat(bias, math.prod(shape[1:]))
        self.bias.setdefault(post, {})[own] = each.reshape(-1)[layout(shape)]
        if back and not self.dialect.bias_at_start:
            self.late.setdefault(post, []).append(own)

    def _bias(self, post: str) -> dict[str, Any]:
        return dict(self.bias.get(post, {}))

    def _delay(self, name: str, pre: str, post: str, steps: int) -> None:
        """Edges of units with a delay: those without one act in the step, the others in a line."""
        assert self.dialect.dt is not None
        own, dt = self.names[name], self.dialect.dt
        first = layout(self.unit_shapes[pre])
        delay = np.broadcast_to(np.asarray(self.shapes.nodes[name].fields["delay"], np.float64), self.shapes.out[name])
        whole = np.floor(delay.reshape(-1)[first] * 1e3 / dt + 0.5).astype(int) + steps
        there = np.argsort(layout(self.unit_shapes[post]))[first]
        from ..connect import FromCOO

        for late in (False, True):
            pick = np.flatnonzero((whole > 0) == late)
            if pick.size:
                rule: Any = FromCOO(pick, there[pick])
                wait: Any = (whole[pick] - 1) * dt if late else INSTANT
                self.edges[own if late == bool(np.any(whole > 0)) else f"{own}_now"] = Projection(
                    pre, post, rule, weight=1.0, delay=wait
                )

    def _neurons(self, name: str) -> DiscreteNeurons:
        node, own = self.shapes.nodes[name], self.names[name]
        shape, dialect = self.unit_shapes[own], self.dialect
        order, size = layout(shape), math.prod(shape)
        fields = {k: x for k, x in node.fields.items() if not isinstance(x, str | dict)}
        for k, x in fields.items():
            fields[k] = np.asarray(x).reshape(-1)[order] if np.size(x) == size else np.asarray(x).reshape(())
        self._note(name, fields)
        neurons = dialect.neurons(Node(node.type, fields), size, self._bias(own), tuple(self.late.get(own, ())))
        neurons = dataclasses.replace(neurons, surrogate=self.surrogate)
        return self._cut(own, neurons) if dialect.levels else neurons

    def _note(self, name: str, fields: dict[str, np.ndarray]) -> None:
        if np.any(fields.get("v_reset", 0.0) != 0):
            self.notes.append(f"{name}: v_reset is not 0, which {self.dialect.name} does not read")
        if np.any(fields.get("v_leak", 0.0) != 0) and not self.dialect.reads_leak:
            self.notes.append(f"{name}: v_leak is not 0, which {self.dialect.name} does not read")

    def _cut(self, own: str, neurons: DiscreteNeurons) -> DiscreteNeurons:
        """Weights into a population as integers, its threshold on their scale, biases where they settle."""
        into = {k: e for k, e in self.edges.items() if e.post == own}
        largest = max((float(np.max(np.abs(np.asarray(e.weight)), initial=0.0)) for e in into.values()), default=0.0)
        scale = self.dialect.levels / largest if largest else 1.0
        for k, e in into.items():
            self.edges[k] = dataclasses.replace(e, weight=np.trunc(np.asarray(e.weight, np.float64) * scale))
        alpha = 0.0 if neurons.alpha is None else np.asarray(neurons.alpha)
        offset = sum((np.asarray(b) for b in neurons.bias.values()), np.zeros(())) * scale / (1.0 - alpha)
        v_th = None if neurons.v_th is None else neurons.v_th * scale
        return dataclasses.replace(neurons, bias={}, late=(), v_th=v_th, offset_v=offset)
