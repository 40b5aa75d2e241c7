"""Integrate-and-fire units: leaky, quadratic, exponential."""

import jax.numpy as jnp

from ..base import Param
from ..core import AbstractUnit
from ._shared import (
    below,
    cut_off,
    filled,
    left_over,
    no_refractory,
    not_negative,
    positive,
    reset_to,
    returned,
    unless,
    upswing,
)


class LIF(AbstractUnit):
    """Leaky integrate-and-fire: `tau_m dv/dt = e_l - v + I / g_l`; spike at `v > v_th`, then `v = v_reset`, held for
    `t_ref`.

    The refractory period lasts `round(t_ref / dt)` steps, halves upward, after that of the spike, as in NEST (Brian2:
    one step less); what a Delta receptor adds meanwhile is lost. Exact by default for constant and
    exponential I, under `ExponentialEuler` for constant I.
    Source: Lapicque 1907; Gerstner et al. 2014, Neuronal Dynamics, eq. 1.5.

    **Arguments:**

    - `tau_m`: membrane time constant (ms).
    - `e_l`: leak reversal potential (mV).
    - `v_th`: threshold (mV).
    - `v_reset`: reset potential (mV).
    - `t_ref`: refractory period (ms).
    - `g_l`: leak conductance (nS).
    """

    tau_m: Param = 20.0
    e_l: Param = -60.0
    v_th: Param = -50.0
    v_reset: Param = -60.0
    t_ref: Param = 0.0
    g_l: Param = 10.0

    def __check_init__(self) -> None:
        positive(self, "tau_m", "g_l")
        not_negative(self, "t_ref")
        below(self, "v_reset", "v_th")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n)}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        return {"v": (self.e_l - y["v"] + inp * (1.0 / self.g_l)) * (1.0 / self.tau_m)}

    def held(self, z):
        return {"v": z["refractory"] > 0}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - self.v_th)

    def reset(self, y, z, s, inp, clock):
        v = reset_to(returned(z["refractory"], y["v"], self.v_reset), s, self.v_reset)
        return {"v": v}, {"refractory": left_over(z["refractory"], s, clock.steps(self.t_ref))}


class QIF(AbstractUnit):
    """Quadratic integrate-and-fire: `tau_m dv/dt = (v - e_l)(v - v_c) / (v_c - e_l) + I / g_l`; at `v > v_peak`,
    `v = v_reset`.

    Near rest it is a leaky integrator with `tau_m` and `g_l`; without input it spikes from above `v_c`. It fires for
    `I > g_l (v_c - e_l) / 4`, with the period `pi tau_m / w` in the limit of far peak and reset, where
    `w^2 = (I / g_l) / (v_c - e_l) - 1 / 4`. Refractory period as in `LIF`.
    Source: Latham et al. 2000; Gerstner et al. 2014, Neuronal Dynamics, eq. 5.16.

    **Arguments:**

    - `tau_m`: membrane time constant at rest (ms).
    - `e_l`: resting potential (mV).
    - `v_c`: critical potential (mV).
    - `v_peak`: potential that counts as a spike (mV).
    - `v_reset`: reset potential (mV).
    - `t_ref`: refractory period (ms).
    - `g_l`: conductance at rest (nS).
    """

    tau_m: Param = 10.0
    e_l: Param = -65.0
    v_c: Param = -50.0
    v_peak: Param = 0.0
    v_reset: Param = -70.0
    t_ref: Param = 0.0
    g_l: Param = 10.0

    def __check_init__(self) -> None:
        positive(self, "tau_m", "g_l")
        not_negative(self, "t_ref")
        below(self, "e_l", "v_c")
        below(self, "v_c", "v_peak")
        below(self, "v_reset", "v_peak")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n)}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        # beyond the peak the spike is certain: growing no faster there keeps every number finite
        v = jnp.minimum(y["v"], self.v_peak)
        dv = ((v - self.e_l) * (v - self.v_c) * (1.0 / (self.v_c - self.e_l)) + inp * (1.0 / self.g_l)) * (
            1.0 / self.tau_m
        )
        return {"v": dv}

    def held(self, z):
        return {"v": z["refractory"] > 0}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - self.v_peak)

    def reset(self, y, z, s, inp, clock):
        v = reset_to(returned(z["refractory"], y["v"], self.v_reset), s, self.v_reset)
        return {"v": v}, {"refractory": left_over(z["refractory"], s, clock.steps(self.t_ref))}


class ExponentialIF(AbstractUnit):
    """Exponential integrate-and-fire: `tau_m dv/dt = e_l - v + delta_t exp((v - v_t) / delta_t) + I / g_l`.

    At `v > v_peak` it spikes and `v = v_reset`; refractory period as in `LIF`. A cut-off above `v_t + 8 delta_t` counts
    as that, as in `AdEx`. The rheobase is
    `g_l (v_t - e_l - delta_t)`, reached at `v = v_t`. Source: Fourcaud-Trocme et al. 2003,
    doi:10.1523/JNEUROSCI.23-37-11628.2003, eq. 2-4; the defaults are their fit to the Wang-Buzsaki cell, with
    `v_peak = v_t + 5 delta_t` (theirs is infinite).

    **Arguments:**

    - `tau_m`: membrane time constant (ms).
    - `e_l`: leak reversal potential (mV).
    - `v_t`: potential of the minimum of the I-V curve, where the spike starts (mV).
    - `delta_t`: spike slope factor (mV).
    - `v_peak`: cut-off: potential that counts as a spike (mV).
    - `v_reset`: reset potential (mV).
    - `t_ref`: refractory period (ms).
    - `g_l`: leak conductance (nS).
    """

    tau_m: Param = 10.0
    e_l: Param = -65.0
    v_t: Param = -59.9
    delta_t: Param = 3.48
    v_peak: Param = -42.5
    v_reset: Param = -68.0
    t_ref: Param = 1.7
    g_l: Param = 10.0

    def __check_init__(self) -> None:
        positive(self, "tau_m", "delta_t", "g_l")
        not_negative(self, "t_ref")
        below(self, "v_t", "v_peak")
        below(self, "v_reset", "v_peak")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n)}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        rise = upswing(y["v"], self.v_t, self.delta_t, self.v_peak)
        return {"v": (self.e_l - y["v"] + rise + inp * (1.0 / self.g_l)) * (1.0 / self.tau_m)}

    def held(self, z):
        return {"v": z["refractory"] > 0}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - cut_off(self.v_t, self.delta_t, self.v_peak))

    def reset(self, y, z, s, inp, clock):
        v = reset_to(returned(z["refractory"], y["v"], self.v_reset), s, self.v_reset)
        return {"v": v}, {"refractory": left_over(z["refractory"], s, clock.steps(self.t_ref))}
