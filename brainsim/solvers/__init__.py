"""Solvers of the flow between events."""

from ._exponential_euler import ExponentialEuler as ExponentialEuler
from ._flow import advance as advance
from ._rules import check_solver as check_solver
