"""A current that is whatever arrives."""

import jax.numpy as jnp

from ..base import float_dtype
from ..core import AbstractReceptor


class HeldCurr(AbstractReceptor):
    """A current that is, in every step, the sum of what arrives at its start: `I = sum of weight times value` (pA).

    For graded values, which come in every step, such as the slow inward current of an astrocyte; a spike gives a pulse
    of one step, and so does each value of a node that runs under `bs.Every`, which sends in its own steps only. Source:
    `sic_connection` of NEST does this. State: `i` (pA).
    """

    def init(self, n):
        return {"i": jnp.zeros(n, float_dtype())}

    def current(self, g, v):
        return g["i"]

    def vector_field(self, g):
        return {"i": jnp.zeros_like(g["i"])}

    def arrive(self, g, dg, y_unit):
        return {"i": dg}, y_unit
