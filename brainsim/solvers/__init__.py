"""Solvers of the flow between events."""

from ._exponential_euler import ExponentialEuler as ExponentialEuler, phi1 as phi1
from ._flow import (
    Update as Update,
    advance as advance,
    flow as flow,
    fusion as fusion,
    noise_of as noise_of,
    prepared as prepared,
    update as update,
)
from ._noise import increments as increments
from ._plan import fewest as fewest
from ._propagator import Propagator as Propagator
from ._rules import REFUSED as REFUSED, SOLVERS as SOLVERS, SolverRule as SolverRule, check_solver as check_solver
from ._schedule import AbstractSchedule as AbstractSchedule, Every as Every, Substep as Substep, every as every
from ._structure import check_structure as check_structure
