"""What a network holds and needs, before anything is run."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..base import as_text, is_traced
from ..core import AbstractInput, Network, Population, Source, initial_state
from ..fusion import observed, unavailable
from ..solvers import fewest, fusion
from ._checks import checked_solvers
from ._gates import GATE, gate_rates
from ._inputs import without_input
from ._simulate import simulate

_COARSE = 0.5  # a step longer than half a time constant does not resolve it
_MANY = 1000  # units from which the time of a step is worth a warning


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts, bytes and warnings of a network at one step; prints as tables."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    state_bytes: int
    network_bytes: int
    warnings: list[str]
    steps: str

    def __rich__(self) -> Any:
        from rich.console import Group  # loaded where something is shown
        from rich.table import Table

        nodes, edges = Table(title="nodes"), Table(title="edges")
        for table, rows in ((nodes, self.nodes), (edges, self.edges)):
            for column in rows[0] if rows else ():
                table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
            for row in rows:
                table.add_row(*(f"{x:,}" if isinstance(x, int) else str(x) for x in row.values()))
        total = f"network {_size(self.network_bytes)}, state {_size(self.state_bytes)}"
        warned = [f"[yellow]warning:[/] {w}" for w in self.warnings]
        return Group(nodes, *([edges] if self.edges else []), total, f"steps: {self.steps}", *warned)

    __str__ = as_text
    __repr__ = as_text


def summary(
    net: Network,
    *,
    dt: float = 0.1,
    solver: Any = None,
    inputs: dict[str, Any] | None = None,
    saveat: Sequence[Any] = (),
) -> Summary:
    """Units, synapses, bytes and doubtful choices of `net` at step `dt` (ms); allocates nothing.

    The column `step` says how a node is advanced with `solver` (as in `simulate`): `fused`, in one pass of machine code
    made from its equations, or `XLA` and why. The line `steps` says how they follow one another in a run with these
    `inputs` and recordings (`saveat`), as in `simulate`: many in `one call`, or each by `XLA` and why.

    Warned of: time constants (parameters called `tau...`) shorter than two steps, variables whose own rate at some
    potential a step does not resolve (`check_dt` measures by how much), delays that `dt` does not divide, ports that
    nothing reaches, and 1,000 units or more whose steps are not one call.
    """
    state = jax.eval_shape(lambda: initial_state(net, dt=dt, key=jax.random.key(0)))
    solvers = checked_solvers(net, solver)
    warned = [w for name, node in net.nodes.items() for w in (*_coarse(name, node, dt), *_fast(name, node, dt))]
    least = fewest(node.size for node in net.nodes.values() if isinstance(node, Population))
    nodes = []
    for name, node in net.ready().nodes.items():
        kind = type(node.process).__name__ if isinstance(node, Source) else type(getattr(node, "unit", node)).__name__
        needed = _bytes((state.nodes[name], state.inbox[name]))
        depths = {port: ring.shape[0] for port, ring in state.inbox[name].items()}
        how = fusion(node, solvers[name], name, depths, least)
        ports = " ".join(node.ports)
        nodes.append(
            {"name": name, "model": kind, "units": node.size, "ports": ports, "state": _size(needed), "step": how}
        )
        for port in node.ports:
            if port not in state.inbox[name]:
                warned.append(f"port {name}.{port} receives nothing: no edge leads to it")
    edges = []
    for name, edge in net.edges.items():
        node, port = edge.writes
        topology = getattr(edge, "connect", None)
        synapses = 0 if topology is None else topology.n_syn
        route = f"{' '.join(edge.reads.values())} -> {node}.{port}"
        edges.append(
            {
                "name": name,
                "from, to": route,
                "synapses": synapses,
                "ring": edge.depth(dt),
                "bytes": _size(_bytes(edge)),
            }
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.check(dt)
    warned += [str(w.message) for w in caught]
    steps = _steps(net, dt, solver, inputs or {}, saveat)
    if steps != "one call" and not unavailable() and sum(row["units"] for row in nodes) >= _MANY:
        reason = steps.removeprefix("XLA (").removesuffix(")")
        warned.append(
            f"the steps are not one call: {reason}. All of them then go to XLA, up to three times as slowly; replace "
            "what the reason names, or run it in a network of its own"
        )
    return Summary(nodes, edges, _bytes(state), _bytes(net), warned, steps)


def _steps(net: Network, dt: float, solver: Any, inputs: dict[str, Any], saveat: Sequence[Any]) -> str:
    """How `simulate` would run it: traced, not run; sources that emit their input are silent where it is not given."""
    inputs = dict.fromkeys(without_input(net, inputs), 0.0) | inputs
    rows = [x.shape[0] for x in inputs.values() if not isinstance(x, AbstractInput) and np.ndim(x) == 2]
    n_steps = rows[0] if rows else 2 * math.lcm(*(getattr(r, "every", 1) for r in saveat))

    def whole(key):
        return simulate(net, t1=n_steps * dt, dt=dt, solver=solver, key=key, inputs=inputs, saveat=saveat).state.n

    with warnings.catch_warnings(), observed() as reasons:
        warnings.simplefilter("ignore")  # they are among those of the edges
        jax.eval_shape(whole, jax.eval_shape(lambda: jax.random.key(0)))
    reason = next(filter(None, reasons), "")
    return f"XLA ({reason})" if reason else "one call"


def _coarse(name: str, node: Any, dt: float) -> list[str]:
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(node):
        parameter = getattr(path[-1], "name", "")
        if parameter.startswith("tau") and not is_traced(leaf):
            shortest = float(np.min(np.asarray(leaf), initial=np.inf))
            if dt > _COARSE * shortest:
                where = f"{name}{jax.tree_util.keystr(path)}"
                found.append(
                    f"dt = {dt} ms does not resolve {where} = {shortest:g} ms; take dt <= {_COARSE * shortest:g} ms"
                )
    return found


def _fast(name: str, node: Any, dt: float) -> list[str]:
    """Variables of a unit, but v, that relax within a few steps at some potential: gates, whose upstroke is late."""
    if not isinstance(node, Population) or any(is_traced(x) for x in jax.tree.leaves(node.unit)):
        return []
    return [
        f"dt = {dt} ms does not resolve {name}.{k}, which relaxes within {1 / float(fastest):.2g} ms at some "
        f"potential, and spikes are late: bs.check_dt(net, {dt}) measures it"
        for k, fastest in gate_rates(node, dt).items()
        if np.isfinite(fastest) and dt * fastest > GATE
    ]


def _bytes(tree: Any) -> int:
    sizes = 0
    for x in jax.tree.leaves(tree):
        if hasattr(x, "dtype"):
            sizes += math.prod(x.shape) * (
                8 if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize
            )
    return sizes


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return ""
