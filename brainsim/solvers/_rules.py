"""Which solvers may be called step by step inside a network, what each is good for, and why the others may not."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ..core import AbstractNode, Clock, Structure
from ._exponential_euler import ExponentialEuler
from ._implicit import implicit_step
from ._propagator import Propagator
from ._schedule import AbstractSchedule
from ._schemes import explicit_step, ito_milstein_step, whole_step, with_noise_step


class SolverRule(NamedTuple):
    """What a solver does here, as tested.

    `order`: order of convergence without noise. `sense`: "Ito" or "Stratonovich", to which solution it converges with
    multiplicative noise; None: it takes no noise. `strong_order`: order of convergence path by path, where the noise of
    a variable depends on that variable alone. `implicit`: stable for stiff decay at any step. `step`: how it is called.
    """

    order: int
    sense: str | None
    strong_order: float | None
    implicit: bool
    step: Callable[..., Any]


SOLVERS: Mapping[type, SolverRule] = MappingProxyType(
    {
        Propagator: SolverRule(1, "Ito", 0.5, False, whole_step),
        ExponentialEuler: SolverRule(1, "Ito", 0.5, False, whole_step),
        diffrax.Euler: SolverRule(1, "Ito", 0.5, False, whole_step),
        diffrax.ItoMilstein: SolverRule(1, "Ito", 1.0, False, ito_milstein_step),
        diffrax.EulerHeun: SolverRule(1, "Stratonovich", 1.0, False, with_noise_step),
        diffrax.StratonovichMilstein: SolverRule(1, "Stratonovich", 1.0, False, with_noise_step),
        diffrax.Heun: SolverRule(2, "Stratonovich", 1.0, False, explicit_step),
        diffrax.Midpoint: SolverRule(2, "Stratonovich", 1.0, False, explicit_step),
        diffrax.Ralston: SolverRule(2, "Stratonovich", 1.0, False, explicit_step),
        diffrax.Bosh3: SolverRule(3, None, None, False, explicit_step),
        diffrax.Tsit5: SolverRule(5, None, None, False, explicit_step),
        diffrax.Dopri5: SolverRule(5, None, None, False, explicit_step),
        diffrax.Dopri8: SolverRule(8, None, None, False, explicit_step),
        diffrax.ImplicitEuler: SolverRule(1, None, None, True, implicit_step),
        diffrax.Kvaerno3: SolverRule(3, None, None, True, implicit_step),
        diffrax.Kvaerno4: SolverRule(4, None, None, True, implicit_step),
        diffrax.Kvaerno5: SolverRule(5, None, None, True, implicit_step),
    }
)
"""The solvers that `simulate` takes, each tested for these figures."""

_LEVY = "it needs space-time Levy areas of the noise; only increments are drawn. Use diffrax.StratonovichMilstein()"
_IMEX = "it needs the field in a stiff and an easy part, and is wrong with noise. Use diffrax.Kvaerno3()"
_LANGEVIN = "it solves underdamped Langevin equations only. Use diffrax.Heun()"

REFUSED: Mapping[type, str] = MappingProxyType(
    {
        diffrax.LeapfrogMidpoint: "it continues from the step before, across jumps. Use diffrax.Midpoint()",
        diffrax.ReversibleHeun: "it carries a second state from step to step, across jumps. Use diffrax.Heun()",
        diffrax.SemiImplicitEuler: "it needs a field of position and momentum. Use diffrax.Heun()",
        diffrax.HalfSolver: "its error estimate is of no use with a fixed step, and each half would get the noise of "
        "the whole step. Use Substep(solver, 2)",
        diffrax.KenCarp3: _IMEX,
        diffrax.KenCarp4: _IMEX,
        diffrax.KenCarp5: _IMEX,
        diffrax.Sil3: _IMEX,
        diffrax.SRA1: _LEVY,
        diffrax.ShARK: _LEVY,
        diffrax.SlowRK: _LEVY,
        diffrax.SPaRK: _LEVY,
        diffrax.GeneralShARK: _LEVY,
        diffrax.SEA: _LEVY,
        diffrax.ALIGN: _LANGEVIN,
        diffrax.ShOULD: _LANGEVIN,
        diffrax.QUICSORT: _LANGEVIN,
    }
)
"""The solvers of diffrax that are refused, with the reason and what to take instead."""


def check_solver(solver: Any, node: AbstractNode, name: str) -> None:
    """Raise a TypeError unless `solver` is one of `SOLVERS` (or a schedule of one) and fits the node called `name`."""
    if isinstance(solver, AbstractSchedule):
        return check_solver(solver.solver, node, name)
    if isinstance(solver, type):
        raise TypeError(
            f"The solver of node {name!r} is the class {solver.__name__}; expected an instance. "
            f"Write {solver.__name__}()."
        )
    kind = type(solver)
    if kind not in SOLVERS:
        known = ", ".join(sorted(k.__name__ for k in SOLVERS))
        if not isinstance(solver, diffrax.AbstractSolver):
            raise TypeError(f"The solver of node {name!r} is {solver!r}; expected an instance of one of {known}.")
        why = REFUSED.get(kind, "it is not tested in steps of local time between jumps. Use diffrax.Heun()")
        raise TypeError(f"The solver {kind.__name__} of node {name!r} is refused: {why}. Taken are {known}.")
    rule = SOLVERS[kind]
    y, noisy = _flowing(node, name)
    if not jax.tree.leaves(y):
        return None
    if node.structure is not Structure.DIAGONAL and kind in (Propagator, ExponentialEuler, diffrax.ItoMilstein):
        what = "units" if node.structure is Structure.OPERATOR else "variables"
        raise TypeError(
            f"The solver {kind.__name__} of node {name!r} is refused: the {what} of this node flow together "
            f"(structure = {node.structure}) and it takes the derivative of each variable alone. "
            f"Give solver={{{name!r}: diffrax.Heun()}}, or an implicit solver."
        )
    if noisy is not None and rule.sense is None:
        able = ", ".join(f"{k.__name__} ({r.sense})" for k, r in SOLVERS.items() if r.sense)
        raise TypeError(
            f"The solver {kind.__name__} of node {name!r} is refused: the node is noisy and it takes no noise. "
            f"Use one of {able}."
        )
    return None


def _flowing(node: AbstractNode, name: str) -> tuple[Any, Any]:
    """Shapes of the flowing state and of its diffusion (None without noise)."""
    arrays, static = eqx.partition(node, eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    fixed, rest = jax.tree.flatten(static)
    return _shapes(tree, tuple((x.shape, x.dtype) for x in leaves), rest, tuple(fixed), name)


@lru_cache(maxsize=256)
def _shapes(tree: Any, arrays: tuple, rest: Any, fixed: tuple, name: str) -> tuple[Any, Any]:
    def made(leaves):
        node = eqx.combine(jax.tree.unflatten(tree, leaves), jax.tree.unflatten(rest, fixed))
        y, z = node.init(Clock.of(name, jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0)))
        return y, node.diffusion(y, z)

    return jax.eval_shape(made, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in arrays])
