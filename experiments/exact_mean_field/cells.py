"""Quadratic integrate-and-fire cells in closed form: infinity is their threshold and their reset."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

import brainsim as bs
from brainsim.base import Param, float_dtype, parameter

SMALL = 1e-6
"""Of |I| (dt / tau)^2: below it sin(x) / x and sinh(x) / x are 1 to rounding of float32."""


def flow(v: Float[Array, " n"], current: Float[Array, " n"], h: float) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    r"""v after a time h of $\dot v = v^2 + I$, and how often it went through infinity.

    $$v \leftarrow \frac{v C + I S}{C - v S}, \quad (C, S) = (\cos qh, \sin(qh) / q) \text{ or } (\cosh qh, \sinh(qh) /
    q), \quad q = \sqrt{|I|}$$

    The denominator changes its sign at a spike; whole turns, qh > pi, are spikes too.
    """
    flat = jnp.abs(current) * h * h < SMALL
    q = jnp.sqrt(jnp.where(flat, jnp.ones_like(current), jnp.abs(current)))
    turns = jnp.where((current > 0) & ~flat, jnp.floor(q * h / jnp.pi), jnp.zeros_like(q))
    angle, growth = q * h - turns * jnp.pi, jnp.where(current > 0, jnp.zeros_like(q), q * h)
    c = jnp.where(current > 0, jnp.cos(angle), jnp.cosh(growth))
    s = jnp.where(current > 0, jnp.sin(angle), jnp.sinh(growth)) / q
    c, s = jnp.where(flat, 1.0 - 0.5 * current * h * h, c), jnp.where(flat, h, s)
    below = c - v * s
    below = jnp.where(below == 0, jnp.asarray(-jnp.finfo(v.dtype).tiny, v.dtype), below)
    return (v * c + current * s) / below, turns + jnp.where(below < 0, jnp.ones_like(v), jnp.zeros_like(v))


class ExactQIF(bs.AbstractNode):
    r"""`size` cells $\tau \dot v = v^2 + \eta + c$ that spike where v is infinite and go on from minus infinity.

    A step is exact for c held in it: flow and jump in one, which is why this is a node and not a unit with a vector
    field. A cell may spike several times a step. **Arguments:** `eta`: of every cell; `tau` (ms); `start`: v at t = 0.
    Port `in` takes c.
    """

    size: int = eqx.field(static=True)
    eta: Param = eqx.field(converter=parameter)
    start: Param = eqx.field(converter=parameter)
    tau: Param = eqx.field(converter=parameter, default=10.0)

    @property
    def structure(self):
        return bs.Structure.DIAGONAL

    @property
    def ports(self):
        return {"in": self.size}

    def check(self, name):
        for field in ("eta", "start"):
            if getattr(self, field).shape != (self.size,):
                raise ValueError(
                    f"ExactQIF {name!r}: {field} has shape {getattr(self, field).shape}; one for each cell."
                )

    def init(self, clock):
        return {"v": self.start.astype(float_dtype())}, {"in": jnp.zeros(self.size, float_dtype())}

    def arrive(self, y, z, arrivals):
        return y, {"in": arrivals["in"]} if "in" in arrivals else z

    def vector_field(self, y, z, inp):
        return {"v": jnp.zeros_like(y["v"])}  # the jump does it all

    def diffusion(self, y, z):
        return None

    def jump(self, y, z, inp, clock):
        v, spikes = flow(y["v"], self.eta + z["in"] + inp, clock.dt / self.tau)
        return {"v": v}, z, bs.Emitted(spikes)

    def find(self, y, z, variable):
        return (y | z)[variable]
