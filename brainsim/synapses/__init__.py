"""Receptors, short-term and long-term plasticity."""

from ._receptors import ExpCond as ExpCond
