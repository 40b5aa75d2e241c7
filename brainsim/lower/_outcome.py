"""A network on a target: every stage, and what the chip does beside the network; or the rule that refused it."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ..core import Network, Source
from ..simulate import Events, Trace, simulate
from ._canonical import SOLVER, Graph, LoweringError, canonical
from ._constant import CELL
from ._discretise import Lowered, discretise, weight_errors
from ._float_image import FloatImage, float_image
from ._ledger import Ledger, ledger
from ._legalise import Layout, legalise
from ._pack import Packed, pack
from ._place import place
from ._targets import Fact, Grade, Target
from ._tuned import tuned


@dataclasses.dataclass(frozen=True, eq=False)
class Fidelity:
    """Spikes of one group on the chip beside those of the network, in the same steps."""

    float_spikes: int
    chip_spikes: int
    both: int
    """Spikes of the same cell in the same step."""
    first: tuple[int, int] | None
    """Step and cell of the first that only one of them has."""

    @property
    def coincidence(self) -> float:
        """Part of the spikes of either that both have; 1 where there are none."""
        either = self.float_spikes + self.chip_spikes - self.both
        return self.both / either if either else 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a network on one target; what lies behind the stage that refused it is None."""

    target: Target
    refused: tuple[str, LoweringError] | None
    """Stage and error."""
    lowered: Lowered | FloatImage | None = None
    layout: Layout | None = None
    packed: Packed | None = None
    fidelity: dict[str, Fidelity] = dataclasses.field(default_factory=dict)
    """By group."""
    events: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Spikes of the chip by group, (steps, n)."""
    ledger: Ledger | None = None
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    """Root mean square error of the weights by edge, as a part of their root mean square."""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """By stage."""

    def energy(self) -> dict[str, tuple[float, Grade]]:
        """Energy of the run (pJ) by table of coefficients, and the worst grade of these: an estimate."""
        if self.ledger is None:
            return {}
        return {
            name: (float(sum(self.ledger.energy(table).values())), worst(table))
            for name, table in self.target.energy.items()
        }

    def latency(self) -> dict[str, tuple[float, float, Grade]]:
        """Time of the run on the chips (ns) by table of coefficients, from and to, and the worst grade of these: an
        estimate."""
        if self.ledger is None:
            return {}
        return {name: (*self.ledger.latency(table), worst(table)) for name, table in self.target.latency.items()}

    def costs(self) -> tuple[str, str]:
        """Energy and latency in words: the band over all tables, and each with its grade."""
        energy, latency = self.energy(), self.latency()
        each = ", ".join(f"{e * 1e-6:.3g} uJ ({name}, {grade.value})" for name, (e, grade) in energy.items())
        if len(energy) > 1:
            low, high = (f(e for e, _ in energy.values()) * 1e-6 for f in (min, max))
            each = f"{low:.3g} to {high:.3g} uJ: {each}"
        time = ", ".join(f"{a * 1e-3:.3g} to {b * 1e-3:.3g} us ({k}, {g.value})" for k, (a, b, g) in latency.items())
        return each or "not published", time or "not published"

    def __str__(self) -> str:
        if self.refused is not None:
            return f"{self.target.name}: refused in {self.refused[0]}: {self.refused[1]}"
        same = ", ".join(f"{name} {f.coincidence:.1%}" for name, f in self.fidelity.items())
        energy, latency = self.costs()
        lines = [f"{self.target.name}: {self.layout}", f"same spikes: {same}", f"energy: {energy}"]
        lines += [f"latency: {latency}"]
        return "\n".join([*lines[:1], str(self.ledger), *lines[1:]])


def worst(table: Mapping[str, Fact]) -> Grade:
    """The least trusted grade of a table."""
    return max((fact.grade for fact in table.values()), key=list(Grade).index)


def lower(
    net: Network,
    target: Target,
    *,
    dt: float,
    inputs: Mapping[str, Any],
    solver: Any = SOLVER,
    by_output: bool = False,
    near: bool = False,
    chips: int = 1,
    **how: Any,
) -> Outcome:
    """Lower `net` to `target` by all stages, and run both on `inputs`.

    **Arguments:** `dt`, `solver`: how `bs.simulate` runs `net`; `inputs`: events of every source, (steps, n) of 0 and
    1; `by_output`: choose scales by what comes out on `inputs` (`tuned`) where the target rounds to integers; `near`:
    put cells where their packets have few hops to go at the rates of that run (`place`) where the mesh of the target is
    known; `chips`: how many there are, in a row; `how`: the further arguments of `discretise`, or of `float_image`.

    What the target refuses is not raised, but stands in `Outcome.refused`. **Raises** ValueError for missing inputs.
    """
    given = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
    seconds: dict[str, float] = {}
    found: dict[str, Any] = {}
    stage = "canonical"
    try:
        with _timed(seconds, stage):
            graph = canonical(net, dt=dt, solver=solver)
        missing = sorted(set(graph.inputs) - set(given))
        if missing:
            raise ValueError(f"lower: inputs has nothing for {missing}; expected events of every source, (steps, n).")
        with _timed(seconds, "run"):
            wanted = run_of(net, dt=dt, inputs=given, solver=solver)
        stage = "discretise"
        with _timed(seconds, stage):
            if target.dialect is None:
                found["lowered"] = float_image(net, target, dt=dt, solver=solver, chips=chips, **how)
            else:
                how |= dict(dt=dt, solver=solver, dialect=target.dialect)
                found["lowered"] = tuned(net, wanted | given, **how) if by_output else discretise(net, **how)
        found["errors"] = _errors(graph, found["lowered"])
        stage = "legalise"
        with _timed(seconds, stage):
            chip = found["lowered"]
            if isinstance(chip, FloatImage):
                found["layout"] = chip.layout
            elif near and target.grid:
                rates = {name: wanted[name].mean(0) for name in graph.groups}
                found["layout"] = place(chip.image.tables, target, rates=rates, chips=chips)
            else:
                found["layout"] = legalise(chip.image.tables, target, chips=chips)
        if isinstance(chip, Lowered):
            stage = "pack"
            with _timed(seconds, stage):
                found["packed"] = pack(chip.image, found["layout"])
    except LoweringError as error:
        return Outcome(target, (stage, error), **found, seconds=seconds)
    with _timed(seconds, "chip"):
        found["events"], found["ledger"] = _ran(chip, found["layout"], given)
        for name, lag in graph.lags.items():
            if lag and name in wanted:  # back to the time of the network
                found["events"][name] = found["events"][name][lag:]
                wanted[name] = wanted[name][: len(wanted[name]) - lag]
    fidelity = {name: compared(wanted[name], found["events"][name]) for name in graph.groups}
    return Outcome(target, None, **found, fidelity=fidelity, seconds=seconds)


@contextlib.contextmanager
def _timed(into: dict[str, float], name: str):
    """Keep the seconds of a block under a name."""
    began = time.perf_counter()
    try:
        yield
    finally:
        into[name] = time.perf_counter() - began


def run_of(
    net: Network, *, dt: float, inputs: Mapping[str, Any], solver: Any = SOLVER
) -> dict[str, Float[np.ndarray, "steps n"]]:
    """Events of every population of `net` itself, run on `inputs` as in `lower`; for `tuned` and for comparisons."""
    steps = len(next(iter(inputs.values()))) if inputs else 100
    how: dict[str, Any] = dict(t1=steps * dt, dt=dt, solver=solver, key=jax.random.key(0))
    names = [name for name, node in net.nodes.items() if not isinstance(node, Source)]
    saveat = [Events(node=name) for name in names]
    sol = simulate(net, inputs=dict(inputs), saveat=saveat, **how)
    return {name: np.asarray(sol[f"{name}.events"]) for name in names}


def compared(wanted: Float[np.ndarray, "steps n"], got: Float[np.ndarray, "steps n"]) -> Fidelity:
    """Spikes of the network and of the chip."""
    a, b = wanted > 0, got > 0
    differ = np.argwhere(a != b)
    first = (int(differ[0][0]), int(differ[0][1])) if len(differ) else None
    return Fidelity(int(a.sum()), int(b.sum()), int((a & b).sum()), first)


def _errors(graph: Graph, lowered: Lowered | FloatImage) -> dict[str, float]:
    return lowered.errors if isinstance(lowered, FloatImage) else weight_errors(graph, lowered)


def _ran(chip: Lowered | FloatImage, layout: Layout, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], Ledger]:
    """Events of the chip by group, and the ledger of its run."""
    steps = len(next(iter(inputs.values()))) if inputs else 100
    if isinstance(chip, FloatImage):
        got = chip.simulate(steps, inputs=dict(inputs))
        return got, chip.ledger(got | dict(inputs))
    names = list(chip.image.tables.cells)
    saveat = [*(Events(node=n) for n in names), *(Trace(target=f"{n}.v") for n in names)]
    sol = chip.image.simulate(steps, inputs=dict(inputs), saveat=saveat)
    events = {name: np.asarray(sol[f"{name}.events"]) for name in names}
    v = {name: np.asarray(sol[f"{name}.v"]) for name in names}
    counted = ledger(chip.image, layout, events | dict(inputs), v)
    return {name: x for name, x in events.items() if name != CELL}, counted
