"""Small test units and noise, and how their final state is read."""

from typing import ClassVar

import jax
import jax.numpy as jnp

import brainsim as bs
from brainsim.base import Param, float_dtype


class Silent(bs.AbstractUnit):
    """What the test units share: they never spike."""

    def guard(self, y, z):
        return -jnp.ones_like(y["v"])

    def reset(self, y, z, s, inp, clock):
        return y, z


class LotkaVolterra(Silent):
    """`v' = v (a - w)`, `w' = w (v - 1)`: smooth, nonlinear, both variables coupled."""

    a: Param = 1.0

    def init(self, n, clock):
        y = {"v": jnp.full(n, 1.5, float_dtype()), "w": jnp.full(n, 0.7, float_dtype())}
        return y, {"count": jnp.zeros(n, jnp.int32)}

    def vector_field(self, y, z, inp):
        return {"v": y["v"] * (self.a - y["w"]) + inp, "w": y["w"] * (y["v"] - 1)}


class Linear(Silent):
    """`v' = b - rate v`, `w' = -w`."""

    rate: Param = 1.0
    b: Param = 0.0

    def init(self, n, clock):
        return {"v": jnp.ones(n, float_dtype()), "w": jnp.ones(n, float_dtype())}, {}

    def vector_field(self, y, z, inp):
        return {"v": self.b - self.rate * y["v"], "w": -y["w"]}


class Stiff(Silent):
    """`v' = -1000 (v - cos w)`, `w' = v`: the slow solution has `v = cos w`."""

    def init(self, n, clock):
        return {"v": jnp.zeros(n, float_dtype()), "w": jnp.zeros(n, float_dtype())}, {}

    def vector_field(self, y, z, inp):
        return {"v": -1000 * (y["v"] - jnp.cos(y["w"])), "w": y["v"]}


class Explosive(Silent):
    """`v' = v^2`: the implicit equation of a long step has no root."""

    def init(self, n, clock):
        return {"v": jnp.full(n, 10.0, float_dtype())}, {}

    def vector_field(self, y, z, inp):
        return {"v": y["v"] ** 2}


class Ring(Silent):
    """Units that leak into their neighbours, and say so."""

    structure: ClassVar[bs.Structure] = bs.Structure.OPERATOR

    def init(self, n, clock):
        return {"v": jnp.linspace(0.0, 1.0, n, dtype=float_dtype())}, {}

    def vector_field(self, y, z, inp):
        return {"v": jnp.roll(y["v"], 1) - y["v"]}


class HiddenRing(Silent):
    """The same, but it claims that its units are independent."""

    def init(self, n, clock):
        return {"v": jnp.linspace(0.0, 1.0, n, dtype=float_dtype())}, {}

    def vector_field(self, y, z, inp):
        return {"v": jnp.roll(y["v"], 1) - y["v"]}


class Geometric(bs.AbstractNoise):
    """Multiplicative noise on `v` alone: `dv = f dt + sigma v dW`."""

    sigma: Param

    def diffusion(self, y, z):
        return {"v": self.sigma * y["v"]}


def network(unit, n, **kw):
    return bs.Network({"P": bs.Population(unit, n, **kw)})


def final(net, solver, n_steps, t1, *, seed=0, **kw):
    """`(v, w)` of the population at the end."""
    sol = bs.simulate(net, t1=t1, dt=t1 / n_steps, solver=solver, key=jax.random.key(seed), **kw)
    return sol.state.nodes["P"].y["unit"]
