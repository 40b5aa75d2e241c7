"""Which solvers may be called step by step inside a network, and how they are refined."""

import diffrax

from ..core import AbstractNode


def check_solver(solver: diffrax.AbstractSolver, node: AbstractNode, name: str) -> None:
    """Raise unless `solver` is one of the tested ones and fits the node called `name`."""
