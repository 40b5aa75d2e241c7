"""Units with spike-frequency adaptation: AdEx, Izhikevich, adaptive threshold."""

from typing import ClassVar

import equinox as eqx
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


class AdEx(AbstractUnit):
    """Adaptive exponential integrate-and-fire.

    `c_m dv/dt = g_l (e_l - v) + g_l delta_t exp((v - v_t) / delta_t) - w + I`, `tau_w dw/dt = a (v - e_l) - w`;
    at `v > v_peak` a spike, then `v = v_reset`, `w = w + b`. In the refractory period v is held and w goes on. A
    cut-off above `v_t + 8 delta_t` counts as that: v comes from there to any higher one within `exp(-8) c_m / g_l` (3
    us), and the exponential of a step cannot overflow. The default cut-off is `v_t + 5 delta_t`, where the spike is
    certain; the paper's is 20 mV, met less than 0.1 ms later.
    Source: Brette & Gerstner 2005, doi:10.1152/jn.00686.2005, eq. 1-3 and table 1.

    **Arguments:**

    - `c_m`: membrane capacitance (pF).
    - `g_l`: leak conductance (nS).
    - `e_l`: leak reversal potential (mV).
    - `v_t`: spike threshold (mV).
    - `delta_t`: spike slope factor (mV).
    - `tau_w`: adaptation time constant (ms).
    - `a`: subthreshold adaptation (nS).
    - `b`: spike-triggered adaptation (pA).
    - `v_reset`: reset potential (mV).
    - `v_peak`: cut-off: potential that counts as a spike (mV).
    - `t_ref`: refractory period (ms).
    """

    rate_slope_off: ClassVar[dict[str, str]] = {"v_reset": "2 to 4 times"}

    c_m: Param = 281.0
    g_l: Param = 30.0
    e_l: Param = -70.6
    v_t: Param = -50.4
    delta_t: Param = 2.0
    tau_w: Param = 144.0
    a: Param = 4.0
    b: Param = 80.5
    v_reset: Param = -70.6
    v_peak: Param = -40.4
    t_ref: Param = 0.0

    def __check_init__(self) -> None:
        positive(self, "c_m", "g_l", "delta_t", "tau_w")
        not_negative(self, "t_ref")
        below(self, "v_t", "v_peak")
        below(self, "v_reset", "v_peak")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n), "w": filled(0.0, n)}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        v, w = y["v"], y["w"]
        rise = upswing(v, self.v_t, self.delta_t, self.v_peak)
        dv = (self.g_l * (self.e_l - v + rise) - w + inp) * (1.0 / self.c_m)
        return {"v": dv, "w": (self.a * (v - self.e_l) - w) * (1.0 / self.tau_w)}

    def held(self, z):
        return {"v": z["refractory"] > 0}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - cut_off(self.v_t, self.delta_t, self.v_peak))

    def reset(self, y, z, s, inp, clock):
        v = reset_to(returned(z["refractory"], y["v"], self.v_reset), s, self.v_reset)
        return {"v": v, "w": y["w"] + s * self.b}, {
            "refractory": left_over(z["refractory"], s, clock.steps(self.t_ref))
        }


class Izhikevich(AbstractUnit):
    """Izhikevich's simple model: `dv/dt = 0.04 v^2 + 5 v + 140 - u + I`, `du/dt = a (b v - u)`; at `v > v_peak`,
    `v = c`, `u = u + d`.

    v is in mV and t in ms; u and I are in mV/ms, so a current of 1 pA is taken as 1 mV/ms (a cell of 1 pF). The
    defaults are the regular spiking cell. Source: Izhikevich 2003, doi:10.1109/TNN.2003.820440, eq. 1-3 and fig. 2
    (that article's own program takes two half-millisecond Euler steps for v and one step of 1 ms for u).

    **Arguments:**

    - `a`: rate of recovery (1/ms); below 0 for some published patterns, where u runs away from `b v` between spikes.
    - `b`: sensitivity of recovery to v (1/ms).
    - `c`: reset potential (mV).
    - `d`: jump of recovery at a spike (mV/ms).
    - `v_peak`: potential that counts as a spike (mV).
    """

    a: Param = 0.02
    b: Param = 0.2
    c: Param = -65.0
    d: Param = 8.0
    v_peak: Param = 30.0

    def __check_init__(self) -> None:
        below(self, "c", "v_peak")

    def init(self, n, clock):
        v = filled(-65.0, n)
        return {"v": v, "u": self.b * v}, {}

    def vector_field(self, y, z, inp):
        # beyond the peak the spike is certain: growing no faster there keeps every number finite
        v = jnp.minimum(y["v"], self.v_peak)
        dv = (0.04 * v + 5.0) * v + 140.0 - y["u"] + inp
        return {"v": dv, "u": self.a * (self.b * v - y["u"])}

    def guard(self, y, z):
        return y["v"] - self.v_peak

    def reset(self, y, z, s, inp, clock):
        return {"v": reset_to(y["v"], s, self.c), "u": y["u"] + s * self.d}, z


class AdaptiveLIF(AbstractUnit):
    """Leaky integrate-and-fire with adaptive threshold (ALIF): `tau_m dv/dt = e_l - v + I / g_l`, `tau_a da/dt = -a`.

    A spike at `v > v_th + a`; then `a = a + beta`, and `v = v_reset`, or, with `reset_by_subtraction`,
    `v = v - (v_th + a - v_reset)` with the `a` before the spike. In the refractory period v is frozen (neither
    noise nor a Delta receptor moves it) and a goes on.
    Bellec's and Yin's threshold `v_th + beta' b` with `b(n+1) = rho b(n) + (1 - rho) s(n)`, `rho = exp(-dt / tau_a)`,
    is this one with `a = beta' b` and `beta = beta' (1 - rho)`: here the jump does not depend on dt.
    Source: Bellec et al. 2018 (arXiv:1803.09574), eq. 1-2; Yin et al. 2021, doi:10.1038/s42256-021-00397-w, eq. 1-4.

    **Arguments:**

    - `tau_m`: membrane time constant (ms).
    - `e_l`: leak reversal potential (mV, or no unit).
    - `v_th`: threshold at rest (as e_l).
    - `v_reset`: reset potential (as e_l).
    - `g_l`: leak conductance (nS).
    - `tau_a`: time constant of the threshold (ms).
    - `beta`: jump of the threshold at a spike (as e_l).
    - `t_ref`: refractory period (ms).
    - `reset_by_subtraction`: subtract the distance from threshold to reset, instead of going to v_reset.
    """

    tau_m: Param = 20.0
    e_l: Param = 0.0
    v_th: Param = 1.0
    v_reset: Param = 0.0
    g_l: Param = 1.0
    tau_a: Param = 200.0
    beta: Param = 0.1
    t_ref: Param = 0.0
    reset_by_subtraction: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        positive(self, "tau_m", "g_l", "tau_a")
        not_negative(self, "t_ref")
        below(self, "v_reset", "v_th")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n), "a": filled(0.0, n)}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        dv = (self.e_l - y["v"] + inp * (1.0 / self.g_l)) * (1.0 / self.tau_m)
        return {"v": dv, "a": -y["a"] * (1.0 / self.tau_a)}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - (self.v_th + y["a"]))

    def held(self, z):
        return {"v": z["refractory"] > 0}

    def reset(self, y, z, s, inp, clock):
        v, a = y["v"], y["a"]
        if self.reset_by_subtraction:
            v = v - s * (self.v_th + a - self.v_reset)
        else:
            v = reset_to(returned(z["refractory"], v, self.v_reset), s, self.v_reset)
        return {"v": v, "a": a + s * self.beta}, {"refractory": left_over(z["refractory"], s, clock.steps(self.t_ref))}
