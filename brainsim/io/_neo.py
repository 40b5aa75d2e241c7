"""Export to Neo, the common data model of electrophysiology, and from there to NWB and Elephant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import unknown
from ..simulate import ONE_OF_A_BATCH, Solution, SpikeTrain, is_batch
from ._stored import StoredRun

if TYPE_CHECKING:
    from neo import Block

_UNITS = {"v": "mV", "g": "nS", "i": "pA"}
"""By the name of the variable; all others are dimensionless."""


class _Run:
    """What a `Solution` and a `StoredRun` have in common: names, sizes and the span of time."""

    def __init__(self, run: Solution | StoredRun) -> None:
        if not isinstance(run, Solution | StoredRun):
            raise TypeError(f"to_neo: run is {type(run).__name__}; expected a bs.Solution or a bs.StoredRun.")
        self.run = run
        if isinstance(run, Solution):
            if is_batch(run):
                raise ValueError(f"to_neo exports one run; {ONE_OF_A_BATCH}")
            self.dt, self.every, self.origins = run.dt, run.every, run.origins
            first, last = run.first_step, run.first_step + run.n_steps
        else:
            if not run.chunks:
                raise ValueError(
                    f"to_neo: {run.path} holds no complete chunk; nothing can be exported. Let the run go on."
                )
            if run.gaps:
                raise ValueError(
                    f"to_neo: {run.path} has a gap from {run.gaps[0][0]:g} to {run.gaps[0][1]:g} ms; expected a whole "
                    "run. Complete it with stream(resume=True)."
                )
            self.dt, self.every, self.origins = run.dt, run.every, run.origins
            first, last = run.n0, run.n0 + run.n_steps
        # Products as in `spikes` and `times`, so that a spike of the last step is not after the end by a rounding.
        self.start, self.stop = first * self.dt, last * self.dt

    @property
    def populations(self) -> list[str]:
        """What single spikes were recorded of."""
        listed = {key.removesuffix(".spikes") for key, o in self.origins.items() if o.kind == "Spikes"}
        dense = {
            k.removesuffix(".events") for k, o in self.origins.items() if o.kind == "Events" and self.every[k] == 1
        }
        return sorted(listed | dense)

    @property
    def traces(self) -> list[str]:
        """Recordings made by `Trace` and `Current`."""
        return sorted(key for key, o in self.origins.items() if o.kind in ("Trace", "Current"))

    def spikes(self, node: str) -> SpikeTrain:
        """Spikes of a node, from the compact recording or from the dense one."""
        if f"{node}.spikes" in self.origins:
            return self.run.spikes(node)
        key = f"{node}.events"
        values = np.asarray(self.run[key])
        if np.any(values != np.rint(values)) or np.any(values < 0):
            raise ValueError(f"to_neo: the events of {node!r} are graded, not spikes. Leave it out of nodes=[...].")
        step, column = np.nonzero(values)
        many = values[step, column].astype(int)
        return SpikeTrain(np.repeat(self.run.times(key)[step], many), np.repeat(self.run.units_of(key)[column], many))

    def units(self, node: str) -> np.ndarray:
        """The units whose spikes were recorded."""
        return self.run.units_of(f"{node}.spikes" if f"{node}.spikes" in self.origins else f"{node}.events")


def to_neo(
    run: Solution | StoredRun,
    *,
    nodes: Sequence[str] | None = None,
    traces: Sequence[str] | None = None,
    name: str = "brainsim",
) -> "Block":
    """The recordings of a run as a Neo `Block` with one `Segment`.

    Every unit of a population recorded with `Spikes` (or with `Events` of every step) becomes a `SpikeTrain`, silent
    ones too; times are in ms, from the start to the end of the run. Unit 3 of P is called "P[3]" and annotated with
    `population` and `unit`, as in `segment.filter(population="P")`. Every `Trace` and `Current` becomes an
    `AnalogSignal` with a channel per recorded unit and the array annotations `population` and, where it is known,
    `unit`. Its unit follows from the variable's name: mV for `v`, nS for `g`, pA for `i` and currents, else
    dimensionless.

    **Arguments:**

    - `run`: a `Solution` of one run, or a `StoredRun`.
    - `nodes`: populations whose spikes are exported; None: all that were recorded.
    - `traces`: recordings by `Trace` and `Current` that are exported; None: all.
    - `name`: of the block.

    **Returns:** a `neo.Block`. NWB wants a start of the session and `pip install pynwb`; then go on with
    `neo.io.NWBIO("run.nwb", mode="w", session_start_time=datetime.now().astimezone()).write_block(block)`.

    **Raises:** ImportError without Neo; ValueError for what was not recorded, or for a batch of runs.

    !!! Example
        ```python
        block = bs.to_neo(sol, traces=["P.v"])
        block.segments[0].spiketrains[0], block.segments[0].analogsignals[0]
        ```
    """
    try:
        import neo
    except ImportError as e:
        raise ImportError("to_neo needs Neo: pip install 'brainsim[neo]'.") from e
    source = _Run(run)
    chosen = source.populations if nodes is None else _known("spikes of node", nodes, source.populations)
    keys = source.traces if traces is None else _known("trace", traces, source.traces)
    block = neo.Block(name=name, description="simulated with brainsim", simulator="brainsim", dt_ms=float(source.dt))
    segment = neo.Segment(name="run", index=0)
    block.segments.append(segment)
    segment.spiketrains.extend([train for node in chosen for train in _trains(source, node)])
    segment.analogsignals.extend([_signal(source, key) for key in keys])
    block.check_relationships()
    return block


def _known(what: str, names: Iterable[str], known: list[str]) -> list[str]:
    if isinstance(names, Mapping):
        raise TypeError(f"to_neo: {names!r} is a dict; expected a list of names: a recording knows its units.")
    if isinstance(names, str):
        raise TypeError(f"to_neo: {names!r} is a string; expected a list of names. Write [{names!r}].")
    for one in names:
        if one not in known:
            raise ValueError(f"to_neo: {unknown(what, one, known)}")
    return list(names)


def _trains(source: _Run, node: str) -> Iterator[Any]:
    """A `SpikeTrain` for every unit, times ascending."""
    import neo

    t, i = source.spikes(node)
    # Sorted by unit, stable in time: the trains are the pieces between the borders.
    order = np.argsort(i, kind="stable")
    units, t, i = source.units(node), np.asarray(t, float)[order], i[order]
    name = source.origins[f"{node}.spikes" if f"{node}.spikes" in source.origins else f"{node}.events"].node
    for unit in units.tolist():
        times = t[np.searchsorted(i, unit) : np.searchsorted(i, unit, side="right")]
        yield neo.SpikeTrain(
            times,
            units="ms",
            t_start=_ms(source.start),
            t_stop=_ms(source.stop),
            name=f"{name}[{unit}]",
            population=name,
            unit=unit,
        )


def _signal(source: _Run, key: str) -> Any:
    """An `AnalogSignal` with one channel for each recorded unit."""
    import neo

    values = np.asarray(source.run[key])
    if values.ndim != 2:
        raise ValueError(
            f"to_neo: trace {key!r} has shape {values.shape}; expected (n_samples, n_recorded). Leave it out."
        )
    origin, n = source.origins[key], values.shape[1]
    node = origin.node
    known = origin.units is not None or node in source.run.sizes
    annotations = {"population": np.full(n, node)} | ({"unit": source.run.units_of(key)} if known else {})
    current, variable = origin.kind == "Current", f"{origin.variable}.current".lstrip(".")
    variable = variable if current else origin.variable
    return neo.AnalogSignal(
        values,
        units="pA" if current else _UNITS.get(variable.rpartition(".")[2], "dimensionless"),
        t_start=_ms(source.run.times(key)[0]),
        sampling_period=_ms(source.every[key] * source.dt),
        name=key,
        variable=variable,
        array_annotations=annotations,
    )


def _ms(x: float) -> Any:
    import quantities

    return float(x) * quantities.ms
