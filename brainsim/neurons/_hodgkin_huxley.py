"""Conductance-based point neurons: Hodgkin-Huxley, Traub-Miles, Wang-Buzsaki, Morris-Lecar.

They spike when v crosses `v_th` upward: the flag `above` in z keeps one action potential from counting twice. Gates
start at their steady state. Published parameters per area (uF/cm2, mS/cm2, uA/cm2) are, number for number, those of a
patch of 100 um2 in pF, nS and pA: that is the cell the defaults describe where no other is named.
"""

import jax.numpy as jnp

from ..base import Param
from ..core import AbstractUnit
from ._shared import bounded_exp, filled, left_over, linoid, no_refractory, not_negative, positive, unless


def _gate(x, alpha, beta):
    """`dx/dt` of a gate that opens with rate alpha and closes with rate beta."""
    return alpha * (1.0 - x) - beta * x


def _steady(alpha, beta):
    return alpha / (alpha + beta)


class HodgkinHuxley(AbstractUnit):
    """The squid giant axon: `c_m dv/dt = g_na m^3 h (e_na - v) + g_k n^4 (e_k - v) + g_l (e_l - v) + I`.

    `dx/dt = phi (alpha_x (1 - x) - beta_x x)` for x = m, h, n, `phi = 3^((celsius - 6.3) / 10)`,
    `alpha_m = 0.1 (v + 40) / (1 - exp(-(v + 40) / 10))`, `beta_m = 4 exp(-(v + 65) / 18)`,
    `alpha_h = 0.07 exp(-(v + 65) / 20)`, `beta_h = 1 / (1 + exp(-(v + 35) / 10))`,
    `alpha_n = 0.01 (v + 55) / (1 - exp(-(v + 55) / 10))`, `beta_n = 0.125 exp(-(v + 65) / 80)`.
    A spike is the upward crossing of `v_th`. The defaults are those of the article for 100 um2 of membrane, so that 10
    pA stand for 10 uA/cm2, in the modern sign with rest at -65 mV. At dt = 0.1 ms the default
    solver makes intervals 0.5 % too long, `ExponentialEuler` 5 % (`bs.check_dt` measures it).
    Source: Hodgkin & Huxley 1952, doi:10.1113/jphysiol.1952.sp004764, eq. 26 and table 3.

    **Arguments:**

    - `c_m`: membrane capacitance (pF).
    - `g_na`: sodium conductance (nS).
    - `g_k`: potassium conductance (nS).
    - `g_l`: leak conductance (nS).
    - `e_na`: sodium reversal potential (mV).
    - `e_k`: potassium reversal potential (mV).
    - `e_l`: leak reversal potential (mV).
    - `celsius`: temperature (degrees Celsius).
    - `v_th`: potential whose upward crossing is a spike (mV).
    """

    c_m: Param = 1.0
    g_na: Param = 120.0
    g_k: Param = 36.0
    g_l: Param = 0.3
    e_na: Param = 50.0
    e_k: Param = -77.0
    e_l: Param = -54.387
    celsius: Param = 6.3
    v_th: Param = 0.0

    def __check_init__(self) -> None:
        positive(self, "c_m")
        not_negative(self, "g_na", "g_k", "g_l")

    def _rates(self, v):
        m = linoid(-(v + 40.0) / 10.0), 4.0 * bounded_exp(-(v + 65.0) / 18.0)
        h = 0.07 * bounded_exp(-(v + 65.0) / 20.0), 1.0 / (1.0 + bounded_exp(-(v + 35.0) / 10.0))
        n = 0.1 * linoid(-(v + 55.0) / 10.0), 0.125 * bounded_exp(-(v + 65.0) / 80.0)
        return {"m": m, "h": h, "n": n}

    def init(self, n, clock):
        v = filled(-65.0, n)
        return {"v": v, **{x: _steady(*rates) for x, rates in self._rates(v).items()}}, {"above": v > self.v_th}

    def vector_field(self, y, z, inp):
        v = y["v"]
        i_na = self.g_na * y["m"] ** 3 * y["h"] * (self.e_na - v)
        i_k = self.g_k * y["n"] ** 4 * (self.e_k - v)
        dv = (i_na + i_k + self.g_l * (self.e_l - v) + inp) * (1.0 / self.c_m)
        phi = 3.0 ** ((self.celsius - 6.3) / 10.0)
        return {"v": dv, **{x: phi * _gate(y[x], *rates) for x, rates in self._rates(v).items()}}

    def guard(self, y, z):
        return unless(z["above"], y["v"] - self.v_th)

    def reset(self, y, z, s, inp, clock):
        return y, {"above": y["v"] > self.v_th}


class TraubMiles(AbstractUnit):
    """The pyramidal cell of the COBAHH benchmark, with the membrane equation of `HodgkinHuxley` and the rates of Traub
    and Miles.

    With u = v - v_t: `alpha_m = 0.32 (13 - u) / (exp((13 - u) / 4) - 1)`,
    `beta_m = 0.28 (u - 40) / (exp((u - 40) / 5) - 1)`, `alpha_h = 0.128 exp((17 - u) / 18)`,
    `beta_h = 4 / (1 + exp((40 - u) / 5))`, `alpha_n = 0.032 (15 - u) / (exp((15 - u) / 5) - 1)`,
    `beta_n = 0.5 exp((10 - u) / 40)`. As in Brian2 (`threshold="v > -20*mV", refractory=3*ms`) a spike is `v > v_th`
    when the last one is `t_ref` or longer ago; nothing is reset and v is not held. The defaults are a cell of 20,000
    um2. Brian2's example starts at m = h = n = 0. Source: Brette et al. 2007, doi:10.1007/s10827-007-0038-6, benchmark
    3; Traub & Miles 1991.

    **Arguments:**

    - `c_m`: membrane capacitance (pF).
    - `g_na`: sodium conductance (nS).
    - `g_k`: potassium conductance (nS).
    - `g_l`: leak conductance (nS).
    - `e_na`: sodium reversal potential (mV).
    - `e_k`: potassium reversal potential (mV).
    - `e_l`: leak reversal potential (mV).
    - `v_t`: shift of the rates along v (mV).
    - `v_th`: potential above which it is a spike (mV).
    - `t_ref`: shortest time from spike to spike (ms).
    """

    c_m: Param = 200.0
    g_na: Param = 20000.0
    g_k: Param = 6000.0
    g_l: Param = 10.0
    e_na: Param = 50.0
    e_k: Param = -90.0
    e_l: Param = -60.0
    v_t: Param = -63.0
    v_th: Param = -20.0
    t_ref: Param = 3.0

    def __check_init__(self) -> None:
        positive(self, "c_m")
        not_negative(self, "g_na", "g_k", "g_l", "t_ref")

    def _rates(self, v):
        u = v - self.v_t
        m = 1.28 * linoid((13.0 - u) / 4.0), 1.4 * linoid((u - 40.0) / 5.0)
        h = 0.128 * bounded_exp((17.0 - u) / 18.0), 4.0 / (1.0 + bounded_exp((40.0 - u) / 5.0))
        n = 0.16 * linoid((15.0 - u) / 5.0), 0.5 * bounded_exp((10.0 - u) / 40.0)
        return {"m": m, "h": h, "n": n}

    def init(self, n, clock):
        v = filled(self.e_l, n)
        gates = {x: _steady(*rates) for x, rates in self._rates(v).items()}
        return {"v": v, **gates}, {"refractory": no_refractory(n)}

    def vector_field(self, y, z, inp):
        v = y["v"]
        i_na = self.g_na * y["m"] ** 3 * y["h"] * (self.e_na - v)
        i_k = self.g_k * y["n"] ** 4 * (self.e_k - v)
        dv = (i_na + i_k + self.g_l * (self.e_l - v) + inp) * (1.0 / self.c_m)
        return {"v": dv, **{x: _gate(y[x], *rates) for x, rates in self._rates(v).items()}}

    def guard(self, y, z):
        return unless(z["refractory"] > 0, y["v"] - self.v_th)

    def reset(self, y, z, s, inp, clock):
        # the step t_ref after the spike may spike again, so one step less is silent
        silent = jnp.maximum(clock.steps(self.t_ref) - 1, 0)
        return y, {"refractory": left_over(z["refractory"], s, silent)}


class WangBuzsaki(AbstractUnit):
    """The fast-spiking interneuron: `c_m dv/dt = g_na m_inf^3 h (e_na - v) + g_k n^4 (e_k - v) + g_l (e_l - v) + I`.

    m is at its steady state `alpha_m / (alpha_m + beta_m)`; `dx/dt = phi (alpha_x (1 - x) - beta_x x)` for x = h, n;
    `alpha_m = 0.1 (v + 35) / (1 - exp(-(v + 35) / 10))`, `beta_m = 4 exp(-(v + 60) / 18)`,
    `alpha_h = 0.07 exp(-(v + 58) / 20)`, `beta_h = 1 / (1 + exp(-(v + 28) / 10))`,
    `alpha_n = 0.01 (v + 34) / (1 - exp(-(v + 34) / 10))`, `beta_n = 0.125 exp(-(v + 44) / 80)`.
    A spike is the upward crossing of `v_th`. The defaults are the article's for 100 um2: 1 pA stands for 1 uA/cm2.
    At dt = 0.1 ms the default solver makes intervals 4 to 5 % too long, at 0.05 ms 1 %; `ExponentialEuler`, for which
    the field is not linear enough in v, 35 and 18 %.
    Source: Wang & Buzsaki 1996, doi:10.1523/JNEUROSCI.16-20-06402.1996, eq. 2.1-2.6.

    **Arguments:**

    - `c_m`: membrane capacitance (pF).
    - `g_na`: sodium conductance (nS).
    - `g_k`: potassium conductance (nS).
    - `g_l`: leak conductance (nS).
    - `e_na`: sodium reversal potential (mV).
    - `e_k`: potassium reversal potential (mV).
    - `e_l`: leak reversal potential (mV).
    - `phi`: speed of h and n.
    - `v_th`: potential whose upward crossing is a spike (mV).
    """

    c_m: Param = 1.0
    g_na: Param = 35.0
    g_k: Param = 9.0
    g_l: Param = 0.1
    e_na: Param = 55.0
    e_k: Param = -90.0
    e_l: Param = -65.0
    phi: Param = 5.0
    v_th: Param = 0.0

    def __check_init__(self) -> None:
        positive(self, "c_m", "phi")
        not_negative(self, "g_na", "g_k", "g_l")

    def _rates(self, v):
        h = 0.07 * bounded_exp(-(v + 58.0) / 20.0), 1.0 / (1.0 + bounded_exp(-(v + 28.0) / 10.0))
        n = 0.1 * linoid(-(v + 34.0) / 10.0), 0.125 * bounded_exp(-(v + 44.0) / 80.0)
        return {"h": h, "n": n}

    def init(self, n, clock):
        v = filled(self.e_l, n)
        return {"v": v, **{x: _steady(*rates) for x, rates in self._rates(v).items()}}, {"above": v > self.v_th}

    def vector_field(self, y, z, inp):
        v = y["v"]
        m = _steady(linoid(-(v + 35.0) / 10.0), 4.0 * bounded_exp(-(v + 60.0) / 18.0))
        i_na = self.g_na * m**3 * y["h"] * (self.e_na - v)
        i_k = self.g_k * y["n"] ** 4 * (self.e_k - v)
        dv = (i_na + i_k + self.g_l * (self.e_l - v) + inp) * (1.0 / self.c_m)
        return {"v": dv, **{x: self.phi * _gate(y[x], *rates) for x, rates in self._rates(v).items()}}

    def guard(self, y, z):
        return unless(z["above"], y["v"] - self.v_th)

    def reset(self, y, z, s, inp, clock):
        return y, {"above": y["v"] > self.v_th}


class MorrisLecar(AbstractUnit):
    """The barnacle muscle fibre: `c_m dv/dt = g_ca m_inf (e_ca - v) + g_k w (e_k - v) + g_l (e_l - v) + I`.

    `dw/dt = phi cosh((v - v_3) / (2 v_4)) (w_inf - w)`, `m_inf = (1 + tanh((v - v_1) / v_2)) / 2`,
    `w_inf = (1 + tanh((v - v_3) / v_4)) / 2`. A spike is the upward crossing of `v_th`. The defaults are type II (Hopf:
    firing starts at a finite rate), `MorrisLecar.type_1()` starts at zero rate; both for 100 um2, so 1 pA stands for 1
    uA/cm2. Source: Morris & Lecar 1981, doi:10.1016/S0006-3495(81)84782-0, eq. 9; parameters of Rinzel & Ermentrout
    1998, table 7.1.

    **Arguments:**

    - `c_m`: membrane capacitance (pF).
    - `g_ca`: calcium conductance (nS).
    - `g_k`: potassium conductance (nS).
    - `g_l`: leak conductance (nS).
    - `e_ca`: calcium reversal potential (mV).
    - `e_k`: potassium reversal potential (mV).
    - `e_l`: leak reversal potential (mV).
    - `v_1`: midpoint of m_inf (mV).
    - `v_2`: width of m_inf (mV).
    - `v_3`: midpoint of w_inf (mV).
    - `v_4`: width of w_inf (mV).
    - `phi`: rate of w at its midpoint (1/ms).
    - `v_th`: potential whose upward crossing is a spike (mV).
    """

    c_m: Param = 20.0
    g_ca: Param = 4.4
    g_k: Param = 8.0
    g_l: Param = 2.0
    e_ca: Param = 120.0
    e_k: Param = -84.0
    e_l: Param = -60.0
    v_1: Param = -1.2
    v_2: Param = 18.0
    v_3: Param = 2.0
    v_4: Param = 30.0
    phi: Param = 0.04
    v_th: Param = 0.0

    @staticmethod
    def type_1() -> "MorrisLecar":
        """The type I parameter set of Rinzel & Ermentrout 1998: firing starts at zero rate near 40 pA."""
        return MorrisLecar(g_ca=4.0, v_3=12.0, v_4=17.4, phi=1 / 15)

    def __check_init__(self) -> None:
        positive(self, "c_m", "v_2", "v_4", "phi")
        not_negative(self, "g_ca", "g_k", "g_l")

    def _w_inf(self, v):
        return 0.5 * (1.0 + jnp.tanh((v - self.v_3) * (1.0 / self.v_4)))

    def init(self, n, clock):
        v = filled(self.e_l, n)
        return {"v": v, "w": self._w_inf(v)}, {"above": v > self.v_th}

    def vector_field(self, y, z, inp):
        v, w = y["v"], y["w"]
        m_inf = 0.5 * (1.0 + jnp.tanh((v - self.v_1) * (1.0 / self.v_2)))
        i_ca = self.g_ca * m_inf * (self.e_ca - v)
        dv = (i_ca + self.g_k * w * (self.e_k - v) + self.g_l * (self.e_l - v) + inp) * (1.0 / self.c_m)
        # cosh as a sum of bounded exponentials
        x = (v - self.v_3) / (2.0 * self.v_4)
        speed = self.phi * 0.5 * (bounded_exp(x) + bounded_exp(-x))
        return {"v": dv, "w": speed * (self._w_inf(v) - w)}

    def guard(self, y, z):
        return unless(z["above"], y["v"] - self.v_th)

    def reset(self, y, z, s, inp, clock):
        return y, {"above": y["v"] > self.v_th}
