"""The three models, with the bounds of what is fitted."""

import jax
import jax.numpy as jnp

import brainsim as bs
from brainsim.base import Param
from brainsim.train import Bounded, Log


class GIF(bs.AbstractUnit):
    """Integrate-and-fire with a spike-triggered current w and a moving threshold: `c_m dv/dt = g_l (e_l - v) - w + I`.

    A spike at `v > v_th + theta`; then `v = v_reset`, `w += b`, `theta += d`; both decay. Without the noise of the
    threshold of Mensi et al. 2012, doi:10.1152/jn.00408.2011: one sweep says nothing of it.
    """

    c_m: Param = 80.0  # pF
    g_l: Param = 4.0  # nS
    e_l: Param = -70.0  # mV
    v_th: Param = -45.0  # mV
    v_reset: Param = -60.0  # mV
    tau_w: Param = 100.0  # ms
    b: Param = 10.0  # pA
    tau_t: Param = 50.0  # ms
    d: Param = 2.0  # mV

    def init(self, n, clock):
        zero = jnp.zeros(n, clock.dt.dtype)
        return {"v": zero + self.e_l, "w": zero, "theta": zero}, {}

    def vector_field(self, y, z, inp):
        dv = (self.g_l * (self.e_l - y["v"]) - y["w"] + inp) * (1.0 / self.c_m)
        return {"v": dv, "w": -y["w"] * (1.0 / self.tau_w), "theta": -y["theta"] * (1.0 / self.tau_t)}

    def guard(self, y, z):
        return y["v"] - (self.v_th + y["theta"])

    def reset(self, y, z, s, inp, clock):
        v = y["v"] + s * (self.v_reset - y["v"])
        return {"v": v, "w": y["w"] + s * self.b, "theta": y["theta"] + s * self.d}, z


class Adapting(bs.AbstractUnit):
    """`TraubMiles` with a slow potassium current `g_m p (v - e_k)`: `dp/dt = (p_inf - p) / tau_p`.

    `p_inf = 1 / (1 + exp(-(v + 35) / 10))`, `tau_p = tau_max / (3.3 exp((v + 35) / 20) + exp(-(v + 35) / 20))`.
    Source: Pospischil et al. 2008, doi:10.1007/s00422-008-0263-8, eq. 8.
    """

    fast: bs.TraubMiles
    g_m: Param = 5.0  # nS
    tau_max: Param = 1000.0  # ms

    def _p_inf(self, v):
        return 1.0 / (1.0 + jnp.exp(-(v + 35.0) / 10.0))

    def init(self, n, clock):
        y, z = self.fast.init(n, clock)
        return y | {"p": self._p_inf(y["v"])}, z

    def vector_field(self, y, z, inp):
        v = y["v"]
        x = (v + 35.0) / 20.0
        rate = (3.3 * jnp.exp(x) + jnp.exp(-x)) * (1.0 / self.tau_max)
        fast = self.fast.vector_field(y, z, inp - self.g_m * y["p"] * (v - self.fast.e_k))
        return fast | {"p": (self._p_inf(v) - y["p"]) * rate}

    def guard(self, y, z):
        return self.fast.guard(y, z)

    def reset(self, y, z, s, inp, clock):
        return self.fast.reset(y, z, s, inp, clock)


def _cells(unit, n, width, detach):
    # a parameter of its own for every cell: they are fitted side by side
    unit = jax.tree.map(lambda x: jnp.broadcast_to(x, (n,)), unit)
    return bs.Network({"P": bs.Population(unit, n, surrogate=bs.Triangular(width), detach_reset=detach)})


def adex(rest, low):
    """AdEx cells with the resting and reset potentials of their recordings, shape (n,); their bounds."""
    unit = bs.AdEx(c_m=80.0, g_l=4.0, e_l=rest, v_t=-45.0, tau_w=100.0, a=1.0, b=20.0, v_reset=low, v_peak=-15.0)
    bounds = {
        "P.unit.c_m": Log(10.0, 400.0),
        "P.unit.g_l": Log(0.5, 30.0),
        "P.unit.e_l": Bounded(rest - 8.0, rest + 8.0),
        "P.unit.v_t": Bounded(-60.0, -25.0),
        "P.unit.tau_w": Log(5.0, 600.0),
        "P.unit.a": Bounded(-2.0, 10.0),
        "P.unit.b": Log(1.0, 300.0),
        "P.unit.v_reset": Bounded(low - 10.0, low + 10.0),
    }
    return _cells(unit, len(rest), 15.0, True), bounds


def gif(rest, low):
    """GIF cells, likewise."""
    unit = GIF(e_l=rest, v_reset=low)
    bounds = {
        "P.unit.c_m": Log(10.0, 400.0),
        "P.unit.g_l": Log(0.5, 30.0),
        "P.unit.e_l": Bounded(rest - 8.0, rest + 8.0),
        "P.unit.v_th": Bounded(-60.0, -20.0),
        "P.unit.v_reset": Bounded(low - 10.0, low + 10.0),
        "P.unit.tau_w": Log(5.0, 600.0),
        "P.unit.b": Log(0.5, 300.0),
        "P.unit.tau_t": Log(2.0, 400.0),
        "P.unit.d": Log(0.05, 20.0),
    }
    return _cells(unit, len(rest), 15.0, True), bounds


def hodgkin_huxley(rest, low):
    """Cells of Hodgkin-Huxley type, likewise; their currents bring v down again, so `low` is not needed."""
    fast = bs.TraubMiles(c_m=80.0, g_na=4000.0, g_k=1000.0, g_l=4.0, e_l=rest, v_t=-55.0, e_k=-90.0, t_ref=3.0)
    bounds = {
        "P.unit.fast.c_m": Log(10.0, 400.0),
        "P.unit.fast.g_na": Log(300.0, 30000.0),
        "P.unit.fast.g_k": Log(100.0, 10000.0),
        "P.unit.fast.g_l": Log(0.5, 30.0),
        "P.unit.fast.e_l": Bounded(rest - 8.0, rest + 8.0),
        "P.unit.fast.v_t": Bounded(-75.0, -40.0),
        "P.unit.g_m": Log(0.1, 100.0),
        "P.unit.tau_max": Log(50.0, 5000.0),
    }
    return _cells(Adapting(fast), len(rest), 20.0, False), bounds


MODELS = {"AdEx": adex, "GIF": gif, "HH with M-current": hodgkin_huxley}
