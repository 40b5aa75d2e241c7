"""The image of a network on a chip: a network of integer cells, with the tables it was made of."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ..base import Key, float_dtype, is_traced, unknown
from ..core import (
    AbstractNode,
    AbstractReceptor,
    AbstractSurrogate,
    Network,
    Population,
    Projection,
    Source,
    State,
    Triangular,
)
from ..events import CSR
from ..neurons import External
from ..simulate import AbstractAdjoint, AbstractSink, Solution, Summary, simulate, stream, summary
from ._chip_cell import ChipLIF, ChipPort
from ._dialects import Dialect
from ._interval import Bounds, bounds
from ._tables import Cells, Synapses

DT = 1.0
"""Length of a step of a chip, the unit of time of an image."""
PORT = "q"
"""The port of an integer cell; synapses whose sum is shifted have one by their own name beside it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """What an image was made of, by name."""

    dialect: Dialect
    cells: dict[str, Cells]
    synapses: dict[str, Synapses]
    inputs: dict[str, int]
    bounds: dict[str, Bounds]
    """What is proved of every group of cells."""


class Image(eqx.Module):
    """What a chip holds, as a network that runs: `ChipLIF` populations, sources for the inputs, integer weights.

    Times are in steps. `net` is a `bs.Network` like any other, so a run is recorded, batched and differentiated like
    any other; but its words are right under forward Euler with `dt = 1` only, which `simulate`, `stream` and `summary`
    here own. Make one from tables with `Image.of`.

    **Example**

    >>> import numpy as np, brainsim as bs
    >>> from brainsim.lower import LOIHI, Cells, Image, Synapses
    >>> cells = {"P": Cells(2, threshold=10, decay_v=163)}
    >>> synapses = {"in": Synapses("x", "P", [0, 0], [0, 1], [10, 20])}
    >>> image = Image.of(LOIHI, cells, synapses, inputs={"x": 1})
    >>> sol = image.simulate(4, inputs={"x": np.ones((4, 1))}, saveat=[bs.Trace("P.v")])
    >>> sol["P.v"].astype(int).tolist()
    [[0, 0], [640, 128], [128, 128], [640, 128]]
    """

    net: Network
    tables: Tables = eqx.field(static=True)

    @staticmethod
    def of(
        dialect: Dialect,
        cells: Mapping[str, Cells],
        synapses: Mapping[str, Synapses],
        inputs: Mapping[str, int],
        *,
        surrogate: AbstractSurrogate | None = None,
    ) -> "Image":
        """The image of `cells` and `synapses` under `dialect`.

        **Arguments:** all by name; `inputs`: how many lines every input of the chip has, each 0 or 1 event a step;
        `surrogate`: derivative of a spike, its width in units of v, by default `Triangular` of one threshold.

        **Raises** TypeError and ValueError where a name, a size or a register does not fit.

        Cells of which `Bounds.exact` cannot be proved are checked in the run: should a state leave the integers of
        float32, the run raises `SimulationError` with the name of the group.
        """
        cells, synapses, inputs = dict(cells), dict(synapses), {k: int(n) for k, n in inputs.items()}
        both = sorted(set(cells) & set(inputs))
        if both:
            raise ValueError(f"Image.of: {both} name both cells and inputs; expected different names. Rename one.")
        sizes = {name: group.size for name, group in cells.items()} | inputs
        for name, group in cells.items():
            group.check(name, dialect)
        sums = {name: np.zeros((2, group.size)) for name, group in cells.items()}
        ports: dict[str, dict[str, AbstractReceptor]] = {name: {} for name in cells}
        edges = {}
        for name, s in synapses.items():
            _check_ends(name, s, cells, sizes)
            words = s.words(name, dialect)
            if not s.shifts_sum(dialect):
                ports[s.post][PORT] = ChipPort(bits=dialect.q_bits)
                np.add.at(sums[s.post], (np.where(words < 0, 1, 0), s.targets), words)
                edges[name] = _projection(s, words, slice(None), sizes, PORT)
                continue
            for delay in np.unique(s.delay):  # what arrives after different delays is shifted apart
                port, some = f"{name}_{delay}", s.delay == delay
                ports[s.post][port] = ChipPort(shift=s.exponent)
                reach = 64 * words[some] * 2.0**s.exponent
                np.add.at(sums[s.post], (np.where(reach < 0, 1, 0), s.targets[some]), reach)
                sums[s.post][1] -= 64  # a floor goes down by less than one
                edges[port] = _projection(s, words, some, sizes, port)
        proved = {name: bounds(group, dialect, *sums[name]) for name, group in cells.items()}
        nodes: dict[str, AbstractNode] = {k: Source(process=External(), size=n) for k, n in inputs.items()}
        for name, group in cells.items():
            checked = float_dtype() == np.float32 and not bool(np.all(proved[name].exact))
            unit = _unit(group, dialect, checked)
            width = np.maximum(64 * group.threshold, 64)
            slope = Triangular(width) if surrogate is None else surrogate
            nodes[name] = Population(unit, group.size, ports[name], surrogate=slope)
        return Image(Network(nodes, edges), Tables(dialect, cells, synapses, inputs, proved))

    @property
    def solver(self) -> diffrax.AbstractSolver:
        """Forward Euler, which adds the difference to the next state."""
        return diffrax.Euler()

    @property
    def dt(self) -> float:
        """Length of a step, 1."""
        return DT

    def simulate(
        self,
        steps: int,
        *,
        inputs: dict[str, Any] | None = None,
        state: State | None = None,
        key: Key | None = None,
        saveat: Sequence[Any] = (),
        adjoint: AbstractAdjoint | None = None,
        throw: bool = True,
    ) -> Solution:
        """Run `steps` steps from rest or from `state`.

        **Arguments:** `inputs`: events of every input, (steps, n) of 0 and 1, or (n,) for the same in every step; row k
        is sent in step k and arrives in step k + 1 + delay. `saveat`, `adjoint`, `throw`: as in `bs.simulate`; a trace
        of u or v holds integers. `key` matters only where a node was replaced by one that draws.

        **Returns** a `Solution` whose times count steps. **Raises** what `bs.simulate` does, and ValueError for inputs
        other than 0 and 1.
        """
        given = self._checked(inputs)
        if state is None and key is None:
            key = jax.random.key(0)
        begin = 0.0 if state is None or is_traced(state.n) else float(state.n)
        return simulate(
            self.net,
            t0=begin,
            t1=begin + float(steps),
            dt=DT,
            solver=self.solver,
            key=key,
            state=state,
            inputs=given,
            saveat=saveat,
            adjoint=adjoint,
            throw=throw,
        )

    def stream(
        self,
        steps: int,
        *,
        chunk: int,
        sink: AbstractSink,
        inputs: dict[str, Any] | None = None,
        state: State | None = None,
        saveat: Sequence[Any] = (),
        resume: bool = False,
        progress: bool = True,
    ) -> State:
        """`bs.stream` of the image to step `steps`, `chunk` steps at a time; arguments as in `simulate`."""
        given, key = self._checked(inputs), jax.random.key(0)
        how: dict[str, Any] = dict(saveat=saveat, resume=resume, progress=progress)
        return stream(
            self.net,
            t1=float(steps),
            chunk=float(chunk),
            sink=sink,
            dt=DT,
            solver=self.solver,
            key=key,
            state=state,
            inputs=given,
            **how,
        )

    def summary(self) -> Summary:
        """`bs.summary` of the image under its own solver and step."""
        return summary(self.net, dt=DT, solver=self.solver)

    def _checked(self, inputs: dict[str, Any] | None) -> dict[str, Any]:
        given = dict(inputs or {})
        for name, x in given.items():
            if name not in self.tables.inputs:
                raise ValueError(f"inputs: {unknown('input', name, self.tables.inputs)}")
            if is_traced(x):
                continue
            a = np.asarray(x)
            bad = a[(a != 0) & (a != 1)]
            if bad.size:
                raise ValueError(
                    f"inputs[{name!r}] contains {bad.flat[0]:g}; expected 0 or 1, as an event carries no number. Give "
                    "an input several lines."
                )
        return given


def _check_ends(name: str, s: Synapses, cells: Mapping[str, Cells], sizes: Mapping[str, int]) -> None:
    for role, end, known, units in (("pre", s.pre, sizes, s.sources), ("post", s.post, cells, s.targets)):
        if end not in known:
            raise ValueError(f"synapses {name!r}: {role}: {unknown('group', end, known)}")
        if units.size and int(units.max()) >= sizes[end]:
            raise ValueError(
                f"synapses {name!r} {'leave' if role == 'pre' else 'reach'} unit {int(units.max())} of {end!r}, which "
                f"has {sizes[end]}; expected 0 to {sizes[end] - 1}."
            )


def _projection(
    s: Synapses, words: Int[np.ndarray, " n_syn"], some: Any, sizes: Mapping[str, int], port: str
) -> Projection:
    """The projection of the synapses `some` to `port`."""
    topology, order = CSR.from_coo(s.sources[some], s.targets[some], sizes[s.pre], sizes[s.post])
    delay = s.delay[some][order]
    same = delay.size == 0 or bool(np.all(delay == delay[0]))
    delay = (float(delay[0]) if delay.size else 0.0) if same else delay.astype(np.float64)
    return Projection(s.pre, f"{s.post}.{port}", topology, weight=words[some][order].astype(np.float64), delay=delay)


def _unit(cells: Cells, dialect: Dialect, checked: bool) -> ChipLIF:
    return ChipLIF(
        keep_u=_field(4096 - cells.decay_u - dialect.decay_u_offset),
        keep_v=_field(4096 - cells.decay_v),
        v_th=_field(64 * cells.threshold),
        bias=_field(cells.bias),
        v_min=_field(cells.v_min),
        v_max=_field(cells.v_max),
        refractory=_field(cells.refractory),
        dialect=dialect,
        checked=checked,
    )


def _field(x: Int[np.ndarray, " n"]) -> Float[jax.Array, "..."]:
    """One number where all cells share it, else one for each."""
    return jnp.asarray(x[0] if np.all(x == x[0]) else x, float_dtype())
