"""Ports of couplings: what masses receive."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..base import float_dtype
from ..core import AbstractReceptor


class CouplingPort(AbstractReceptor):
    """Port of `bs.Coupling`: the input of a step is the mean of what arrives at its two ends.

    The variables are the input `c`, in the unit of the mass's input, and the arrival before, `last`.
    """

    def init(self, n):
        return {"c": jnp.zeros(n, float_dtype()), "last": jnp.zeros(n, float_dtype())}

    def current(self, g, v):
        return g["c"]

    def vector_field(self, g):
        return {"c": jnp.zeros_like(g["c"]), "last": jnp.zeros_like(g["last"])}

    def arrive(self, g, dg, y_unit):
        return {"c": 0.5 * (g["last"] + dg), "last": dg}, y_unit


class PairPort(AbstractReceptor):
    """Port of `bs.PairCoupling`: the input of a step is `J + G x`, linear in the variable x of the unit.

    The variables are `J` and `G`, new in every step. **Arguments:** `variable`: the name of the variable.
    """

    channels: ClassVar[int] = 2
    variable: str = eqx.field(static=True, default="x")

    def init(self, n):
        return {"G": jnp.zeros(n, float_dtype()), "J": jnp.zeros(n, float_dtype())}

    def current(self, g, v):
        return g["J"] + g["G"] * v

    def vector_field(self, g):
        return {"G": jnp.zeros_like(g["G"]), "J": jnp.zeros_like(g["J"])}

    def arrive(self, g, dg, y_unit):
        return {"G": dg[0], "J": dg[1]}, y_unit
