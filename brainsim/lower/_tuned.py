"""Scales chosen cell by cell, by what comes out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..base import float_dtype, unknown
from ..core import Network
from ..simulate import Events, simulate
from ._canonical import SOLVER, canonical
from ._constant import CELL
from ._discretise import Lowered, discretise
from ._image import DT, Image

FACTORS = (1.0, 1.1, 1.2, 1.35, 1.5, 1.7, 1.9, 2.2, 2.5, 3.0)
"""Scales that are tried: that at which the largest synapse takes the largest mantissa, times one of these."""


def tuned(net: Network, events: Mapping[str, Any], *, factors: Sequence[float] = FACTORS, **how: Any) -> Lowered:
    """`discretise` with the factor of every cell that makes its spike counts nearest to those of `net`.

    All cells are driven by the recorded events of `net`, not by each other, so one run for each factor decides about
    every cell. At few bits the error of the weights is a poor guide: it always prefers to clip nothing.

    **Arguments:** `events`: of every group and input of `net`, its events in some recordings, (steps, n) or
    (recordings, steps, n): `bs.Events` of `bs.simulate`; `how`: the arguments of `discretise` but `factor`.

    **Raises** ValueError where events are missing, and what `discretise` does.
    """
    given = {name: np.asarray(x) for name, x in events.items()}
    given = {name: x[None] if x.ndim == 2 else x for name, x in given.items()}
    graph = canonical(net, dt=how["dt"], solver=how.get("solver", SOLVER))
    for name in sorted({*graph.groups, *graph.inputs} - set(given)):
        raise ValueError(f"tuned: events: {unknown('group or input', name, given)}")
    wanted = {name: given[name].sum(1) for name in graph.groups}
    x = {_input(name): jnp.asarray(a, float_dtype()) for name, a in given.items()}
    errors: dict[str, list[Any]] = {name: [] for name in wanted}
    for factor in factors:
        got = _counts(_driven(discretise(net, factor=factor, **how).image).net, x, tuple(wanted))
        for name, counts in wanted.items():
            errors[name].append(np.abs(np.asarray(got[name]) - counts).mean(0))
    chosen = {name: np.asarray(factors)[np.argmin(np.stack(e), axis=0)] for name, e in errors.items()}
    return discretise(net, factor=chosen, **how)


def _input(name: str) -> str:
    return f"{name}_recorded"


def _driven(image: Image) -> Image:
    """`image` with the recorded events of every group and input in the place of their own."""
    tables, synapses = image.tables, {}
    for name, s in tables.synapses.items():
        synapses[name] = s if s.pre == CELL else dataclasses.replace(s, pre=_input(s.pre))
    sizes = {name: c.size for name, c in tables.cells.items() if name != CELL} | tables.inputs
    return Image.of(tables.dialect, tables.cells, synapses, {_input(name): n for name, n in sizes.items()})


@eqx.filter_jit
def _counts(net: Network, x: dict[str, Any], names: tuple[str, ...]) -> dict[str, Float[jax.Array, "recordings n"]]:
    """Spikes of the cells in every recording."""
    saveat = [Events(node=name) for name in names]

    def one(x: dict[str, Any]) -> dict[str, jax.Array]:
        steps = len(next(iter(x.values())))
        how: dict[str, Any] = dict(t1=steps * DT, dt=DT, solver=diffrax.Euler(), key=jax.random.key(0))
        sol = simulate(net, inputs=x, saveat=saveat, **how)
        return {name: sol[f"{name}.events"].sum(0) for name in names}

    return jax.vmap(one)(x)
