"""How often a node takes its steps: several in one of the network, or one in several."""

from typing import Any

import diffrax
import equinox as eqx


class AbstractSchedule(eqx.Module):
    """A solver with the number of its steps in one of the network, or of the network in one of its own."""

    solver: eqx.AbstractVar[Any]
    m: eqx.AbstractVar[int]


def _check(owner: str, m: object, what: str) -> None:
    if isinstance(m, bool) or not isinstance(m, int) or m < 1:
        raise ValueError(f"{owner}.m is {m!r}; expected a whole number of {what} >= 1.")


class Substep(AbstractSchedule):
    """`m` steps of `solver` of length dt / m in every step of the network, for a node that needs a finer step.

    Input and discrete state are constant over the step, the noise of every substep is independent; arrivals and jumps
    come once per step, as without it.

    **Arguments:** `solver`: one of `SOLVERS`; `m`: number of substeps, >= 1.

    !!! example
        `simulate(net, t1=100.0, dt=0.1, solver={"P": Substep(diffrax.Euler(), 4)}, key=key)`
    """

    solver: diffrax.AbstractSolver
    m: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not isinstance(self.solver, diffrax.AbstractSolver):
            raise TypeError(
                f"Substep.solver is {self.solver!r}; expected a solver such as diffrax.Euler(), an instance."
            )
        _check("Substep", self.m, "substeps")


class Every(AbstractSchedule):
    """One step of `solver` of length m dt in every `m` steps of the network, for a node that is slow: an astrocyte, a
    modulator, a field.

    The node runs in the steps n with `(n + 1) % m == 0`: what arrived in the m steps up to n arrives, the flow over
    m dt follows, then the jump. Its state at the end of step n is that at time (n + 1) dt and stays until the next
    of its steps; it emits in those steps alone. Step counters and durations of the node count in its own steps. Where
    the steps are one call (`summary`), the others cost it nothing.

    An arrival counts from the start of the window of m steps that it falls in, which moves it by less than m dt: an
    error of first order. The input is that of the step in which the node runs. Delays of edges to the node are one
    number an edge; a run that goes on from a `state` has the same m.

    **Arguments:** `solver`: one of `SOLVERS`, or `Substep`; `m`: number of steps, >= 1.

    !!! example
        `simulate(net, t1=1000.0, dt=0.1, solver={"A": Every(diffrax.Heun(), 100)}, key=key)`
    """

    solver: diffrax.AbstractSolver | Substep
    m: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not isinstance(self.solver, diffrax.AbstractSolver | Substep):
            raise TypeError(
                f"Every.solver is {self.solver!r}; expected a solver such as diffrax.Heun(), an instance, or a Substep."
            )
        _check("Every", self.m, "steps")


def every(solver: Any) -> int:
    """Steps of the network in one of a node with this solver."""
    return solver.m if isinstance(solver, Every) else 1
