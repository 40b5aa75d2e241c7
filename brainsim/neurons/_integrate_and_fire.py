"""Integrate-and-fire units."""

import jax.numpy as jnp

from ..base import Param, float_dtype
from ..core import AbstractUnit


class LIF(AbstractUnit):
    """Leaky integrate-and-fire: `tau_m dv/dt = e_l - v + I / g_l`; spike at `v > v_th`, then `v = v_reset`, clamped for `t_ref`.

    The refractory period lasts `round(t_ref / dt)` steps after the step of the spike, as in NEST (Brian2: one step less).
    Source: Lapicque 1907; Gerstner et al. 2014, eq. 1.5.
    """

    tau_m: Param = 20.0
    """Membrane time constant (ms)."""
    e_l: Param = -60.0
    """Leak reversal potential (mV)."""
    v_th: Param = -50.0
    """Threshold (mV)."""
    v_reset: Param = -60.0
    """Reset potential (mV)."""
    t_ref: Param = 0.0
    """Refractory period (ms)."""
    g_l: Param = 10.0
    """Leak conductance (nS)."""

    def init(self, n, clock):
        v = jnp.broadcast_to(self.e_l, (n,)).astype(float_dtype())
        return {"v": v}, {"refractory": jnp.zeros(n, jnp.int32)}

    def vector_field(self, y, z, inp):
        dv = (self.e_l - y["v"] + inp / self.g_l) / self.tau_m
        return {"v": jnp.where(z["refractory"] > 0, 0.0, dv)}

    def guard(self, y, z):
        return y["v"] - self.v_th

    def reset(self, y, z, s, inp, clock):
        v = y["v"] + s * (self.v_reset - y["v"])
        left = jnp.where(s > 0, clock.steps(self.t_ref), jnp.maximum(z["refractory"] - 1, 0))
        return {"v": v}, {"refractory": left}
