"""Linear units as NIR and Loihi define them: the current-based LIF and the leaky integrator."""

import equinox as eqx

from ..base import Param
from ..core import AbstractUnit
from ._shared import (
    below,
    filled,
    left_over,
    no_refractory,
    not_negative,
    positive,
    reset_to,
    returned,
    unless,
)


class CubaLIF(AbstractUnit):
    """Current-based LIF: `tau_syn di/dt = -i + w_in I`, `tau_m dv/dt = e_l - v + r i`; at `v > v_th` a spike.

    Then `v = v_reset`, or, with `reset_by_subtraction`, `v = v - (v_th - v_reset)`; v is frozen for `t_ref` (neither
    noise nor a Delta receptor moves it), i is not.
    The synapse is part of the unit: spikes come in through a receptor that jumps `i`, `bs.Delta(variable="i")`, and an
    event of weight w adds w to i; all else (`i_e`, `inputs`) is I and is filtered by `tau_syn`. NIR's unit impulse of
    weight w adds `w_in w / tau_syn`; Loihi's adds w. A spike that finds the unit at rest gives
    `v - e_l = r w tau_syn / (tau_syn - tau_m) (exp(-t / tau_syn) - exp(-t / tau_m))`: exact by default,
    order 1 under `ExponentialEuler`. The numbers need no unit; if they have, v is in mV, i in pA, r
    in GOhm. Source: Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9 (NIR), CubaLIF; Davies et al. 2018 (Loihi),
    eq. 1-2.

    **Arguments:**

    - `tau_syn`: time constant of the synaptic current (ms).
    - `tau_m`: membrane time constant (ms); NIR's tau_mem.
    - `r`: resistance (GOhm = mV/pA).
    - `e_l`: resting potential (mV); NIR's v_leak.
    - `v_th`: threshold (mV); NIR's v_threshold.
    - `v_reset`: reset potential (mV).
    - `w_in`: weight of the input current.
    - `t_ref`: refractory period (ms).
    - `reset_by_subtraction`: subtract the distance from threshold to reset, instead of going to v_reset.
    """

    tau_syn: Param = 5.0
    tau_m: Param = 20.0
    r: Param = 1.0
    e_l: Param = 0.0
    v_th: Param = 1.0
    v_reset: Param = 0.0
    w_in: Param = 1.0
    t_ref: Param = 0.0
    reset_by_subtraction: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        positive(self, "tau_syn", "tau_m")
        not_negative(self, "t_ref")
        below(self, "v_reset", "v_th")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n), "i": filled(0.0, n)}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        dv = (self.e_l - y["v"] + self.r * y["i"]) * (1.0 / self.tau_m)
        return {"v": dv, "i": (self.w_in * inp - y["i"]) * (1.0 / self.tau_syn)}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - self.v_th)

    def held(self, z):
        return {"v": z["refractory"] > 0}

    def reset(self, y, z, s, inp, clock):
        v = y["v"]
        if self.reset_by_subtraction:
            v = v - s * (self.v_th - self.v_reset)
        else:
            v = reset_to(returned(z["refractory"], v, self.v_reset), s, self.v_reset)
        return {"v": v, "i": y["i"]}, {"refractory": left_over(z["refractory"], s, clock.steps(self.t_ref))}


class LeakyIntegrator(AbstractUnit):
    """A unit that never spikes: `tau_m dv/dt = e_l - v + r I`. A readout; exact by default for constant and
    exponential I.

    Source: Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9 (NIR), LI.

    **Arguments:**

    - `tau_m`: time constant (ms); NIR's tau.
    - `e_l`: resting value (mV); NIR's v_leak.
    - `r`: resistance (GOhm = mV/pA).
    """

    tau_m: Param = 20.0
    e_l: Param = 0.0
    r: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau_m")

    def init(self, n, clock):
        return {"v": filled(self.e_l, n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": (self.e_l - y["v"] + self.r * inp) * (1.0 / self.tau_m)}
