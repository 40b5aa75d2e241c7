"""Receptors: the kinetics of synapses on the post side."""

import jax.numpy as jnp

from ..base import Param, float_dtype
from ..core import AbstractReceptor


class ExpCond(AbstractReceptor):
    """Exponential conductance: `dg/dt = -g / tau`, `I = g (e_rev - v)`; an arrival adds its weight (nS) to g."""

    tau: Param = 5.0
    """Decay time constant (ms)."""
    e_rev: Param = 0.0
    """Reversal potential (mV)."""

    def init(self, n):
        return {"g": jnp.zeros(n, float_dtype())}

    def current(self, g, v):
        return g["g"] * (self.e_rev - v)

    def vector_field(self, g):
        return {"g": -g["g"] / self.tau}

    def arrive(self, g, dg, y_unit):
        return {"g": g["g"] + dg}, y_unit
