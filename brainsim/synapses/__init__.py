"""Receptors, short-term and long-term plasticity."""

from ._coupling_ports import CouplingPort as CouplingPort, PairPort as PairPort
from ._held import HeldCurr as HeldCurr
from ._receptors import (
    NMDA as NMDA,
    AlphaCond as AlphaCond,
    AlphaCurr as AlphaCurr,
    Delta as Delta,
    DualExpCond as DualExpCond,
    DualExpCurr as DualExpCurr,
    ExpCond as ExpCond,
    ExpCurr as ExpCurr,
    GapPort as GapPort,
)
from ._short_term import Gain as Gain, TsodyksMarkram as TsodyksMarkram
