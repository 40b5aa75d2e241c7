"""Refining one node of a network."""

import diffrax
import equinox as eqx


class Substep(eqx.Module):
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
        if isinstance(self.m, bool) or not isinstance(self.m, int) or self.m < 1:
            raise ValueError(f"Substep.m is {self.m!r}; expected a whole number of substeps >= 1.")
