"""Receptors: the kinetics of synapses on the post side.

All but the magnesium block are linear, so that one state per post unit serves any number of synapses. Weights are at
the peak: an event of weight 1 brings a conductance to 1 nS (a current to 1 pA) at its largest, whatever the time
constants.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Param, check_parameter, float_dtype, is_traced, unknown
from ..core import AbstractReceptor

_E = float(np.e)
_LARGE = 80.0  # exp(80) is finite in float32, and so is its derivative


def _zeros(n: int) -> Float[Array, " n"]:
    return jnp.zeros(n, float_dtype())


def _at_least(receptor: Any, name: str, low: float, *, strict: bool = True) -> None:
    """Raise unless parameter `name` is finite and > `low` (>= where not strict)."""
    owner, x = type(receptor).__name__, getattr(receptor, name)
    check_parameter(owner, name, x)
    if is_traced(x):
        return
    a = np.asarray(x)
    if not bool(np.all(a > low if strict else a >= low)):
        raise ValueError(
            f"{owner}.{name} is {a}; expected {name} {'>' if strict else '>='} {low:g}. Mend the value given."
        )


def _slower(receptor: Any) -> None:
    """Raise unless 0 < tau_rise <= tau_decay."""
    _at_least(receptor, "tau_rise", 0.0)
    _at_least(receptor, "tau_decay", 0.0)
    rise, decay = receptor.tau_rise, receptor.tau_decay
    if is_traced(rise) or is_traced(decay) or (rise.shape and decay.shape and rise.shape != decay.shape):
        return  # arrays of unequal length are refused by the population, which knows its size
    if not bool(np.all(np.asarray(rise) <= np.asarray(decay))):
        raise ValueError(
            f"{type(receptor).__name__}: tau_rise = {np.asarray(rise)}, tau_decay = {np.asarray(decay)}; expected "
            f"tau_rise <= tau_decay. Swap them."
        )


def apart(tau_rise: Param, tau_decay: Param) -> tuple[Param, Param]:
    """The two time constants, those that are nearly equal moved apart about the mean of their rates.

    The response is `exp(-k t) sinh(h t) / h` up to a factor, with k the mean and h half the difference of the rates: it
    is even in h, so that to hold h above `eps k` changes it by `(eps k t)^2 / 6`, while two exponentials whose
    difference is taken lose all but `eps` of their digits. The derivative by either constant is that of k alone, as
    it is where they are equal.
    """
    rise, decay = 1.0 / tau_rise, 1.0 / tau_decay
    mean, half = 0.5 * (rise + decay), 0.5 * (rise - decay)
    least = 2.0 * float(jnp.finfo(mean.dtype).eps) ** (1 / 3)  # where both errors are as large: 1 %, 0.001 % in float64
    near = jnp.abs(half) < least * mean
    side = jnp.where(half < 0, -least, least)
    fast, slow = 1.0 / (mean * (1.0 + side)), 1.0 / (mean * (1.0 - side))
    return jnp.where(near, fast, tau_rise), jnp.where(near, slow, tau_decay)


def peak_factor(tau_rise: Param, tau_decay: Param) -> Param:
    """`1 / (exp(-t/tau_decay) - exp(-t/tau_rise))` at its peak `t = tau_r tau_d / (tau_d - tau_r) ln(tau_d / tau_r)`.

    Of two constants that are `apart`. Source: Roth & van Rossum 2009; NEURON's Exp2Syn.
    """
    t = tau_rise * tau_decay / (tau_decay - tau_rise) * jnp.log(tau_decay / tau_rise)
    return 1.0 / (jnp.exp(-t / tau_decay) - jnp.exp(-t / tau_rise))


def _two_exponentials(tau_rise: Param, tau_decay: Param, g: dict) -> dict:
    """The vector field of `decay - rise`."""
    tau_rise, tau_decay = apart(tau_rise, tau_decay)
    return {"rise": -g["rise"] * (1.0 / tau_rise), "decay": -g["decay"] * (1.0 / tau_decay)}


def _at_peak(tau_rise: Param, tau_decay: Param, g: dict, dg: Array) -> dict:
    """`decay - rise` after arrivals `dg`, each of which peaks at its weight."""
    jump = peak_factor(*apart(tau_rise, tau_decay)) * dg
    return {"rise": g["rise"] + jump, "decay": g["decay"] + jump}


def magnesium_block(v: Float[Array, " n"], mg: Param) -> Float[Array, " n"]:
    """Fraction of NMDA channels not blocked, `1 / (1 + [Mg] / 3.57 exp(-0.062 v))`; v in mV, `mg` in mM.

    Source: Jahr & Stevens 1990, doi:10.1523/JNEUROSCI.10-09-03178.1990, eq. 4a.
    """
    return 1.0 / (1.0 + mg / 3.57 * jnp.exp(jnp.minimum(-0.062 * v, _LARGE)))


class Delta(AbstractReceptor):
    """Delta synapse: an arrival of weight w makes `v` jump by w (mV). No state, no current.

    `variable` names another flowing variable of the unit to jump instead, in that variable's unit: `Delta("i")` for a
    `CubaLIF`.

    An arrival at time t is added at the start of the step that begins at t: the jump decays for a step before the
    threshold is tested. With `at="end"` it is added at the end of the step that ends at t and tested at once, as in
    NEST: a network in which one arrival makes a unit fire is faster by a step from spike to spike. Delays are then at
    least dt. Source: Gerstner et al. 2014, Neuronal Dynamics; NEST's iaf_psc_delta, which is `Delta(at="end")`.

    **Arguments:**

    - `variable`: the variable that jumps.
    - `at`: `"start"` or `"end"`, of the step.
    """

    variable: str = eqx.field(static=True, default="v")
    at: str = eqx.field(static=True, default="start")

    def __check_init__(self) -> None:
        if not isinstance(self.variable, str):
            raise TypeError(
                f"Delta.variable is {self.variable!r}; expected the name of a variable, 'v'. The jump is the weight."
            )
        if self.at not in ("start", "end"):
            raise ValueError(f"Delta.at is {self.at!r}; expected 'start' or 'end', of the step.")

    @property
    def at_end(self):
        return self.at == "end"

    def init(self, n):
        return {}

    def current(self, g, v):
        return jnp.zeros_like(v)

    def vector_field(self, g):
        return {}

    def arrive(self, g, dg, y_unit):
        if self.variable not in y_unit:
            raise ValueError(f"Delta: {unknown('variable', self.variable, y_unit)}")
        return g, {**y_unit, self.variable: y_unit[self.variable] + dg}


class ExpCurr(AbstractReceptor):
    """Exponential current: `di/dt = -i / tau`, `I = i`; an arrival of weight w adds w (pA) to i.

    One event: `i = w exp(-t / tau)`, charge `w tau` (fC). Exact by default, with the
    membrane it drives where that is linear.
    Source: Gerstner et al. 2014, Neuronal Dynamics; NEST's iaf_psc_exp.

    **Arguments:**

    - `tau`: decay time constant (ms).
    """

    tau: Param = 5.0

    def __check_init__(self) -> None:
        _at_least(self, "tau", 0.0)

    def init(self, n):
        return {"i": _zeros(n)}

    def current(self, g, v):
        return g["i"]

    def vector_field(self, g):
        return {"i": -g["i"] * (1.0 / self.tau)}

    def arrive(self, g, dg, y_unit):
        return {"i": g["i"] + dg}, y_unit


class ExpCond(AbstractReceptor):
    """Exponential conductance: `dg/dt = -g / tau`, `I = g (e_rev - v)`; an arrival of weight w adds w (nS) to g.

    One event: `g = w exp(-t / tau)`, integral `w tau`. Exact by default.
    Source: Roth & van Rossum 2009 (Computational Modeling Methods for Neuroscientists, ch. 6).

    **Arguments:**

    - `tau`: decay time constant (ms).
    - `e_rev`: reversal potential (mV).
    """

    conductance: ClassVar[bool] = True

    tau: Param = 5.0
    e_rev: Param = 0.0

    def __check_init__(self) -> None:
        _at_least(self, "tau", 0.0)

    def init(self, n):
        return {"g": _zeros(n)}

    def current(self, g, v):
        return g["g"] * (self.e_rev - v)

    def vector_field(self, g):
        return {"g": -g["g"] * (1.0 / self.tau)}

    def arrive(self, g, dg, y_unit):
        return {"g": g["g"] + dg}, y_unit


class DualExpCond(AbstractReceptor):
    """Conductance with rise and decay: `g = decay - rise`, `d decay/dt = -decay / tau_decay`, `d rise/dt = -rise /
    tau_rise`.

    An arrival of weight w adds `w f` to both, `I = g (e_rev - v)`. One event: `g = w f (exp(-t / tau_decay) - exp(-t
    / tau_rise))` with `f = 1 / (exp(-t_p / tau_decay) - exp(-t_p / tau_rise))`, `t_p = tau_rise tau_decay /
    (tau_decay - tau_rise) ln(tau_decay / tau_rise)`, so that g peaks at w nS, at `t_p`; integral `w f (tau_decay -
    tau_rise)`. Exact by default. Needs tau_rise <= tau_decay; where they are equal it is the alpha
    function of `AlphaCond`, to 1e-4 in float32 and 1e-9 in float64, with its derivatives: constants less than 2 % apart
    (0.002 % in float64) are taken 2 % apart, with the same mean rate. Source: Roth & van Rossum 2009; NEURON's Exp2Syn.

    **Arguments:**

    - `tau_rise`: rise time constant (ms).
    - `tau_decay`: decay time constant (ms).
    - `e_rev`: reversal potential (mV).
    """

    conductance: ClassVar[bool] = True

    tau_rise: Param = 0.5
    tau_decay: Param = 5.0
    e_rev: Param = 0.0

    def __check_init__(self) -> None:
        _slower(self)

    def init(self, n):
        return {"rise": _zeros(n), "decay": _zeros(n)}

    def current(self, g, v):
        return (g["decay"] - g["rise"]) * (self.e_rev - v)

    def vector_field(self, g):
        return _two_exponentials(self.tau_rise, self.tau_decay, g)

    def arrive(self, g, dg, y_unit):
        return _at_peak(self.tau_rise, self.tau_decay, g, dg), y_unit


class DualExpCurr(AbstractReceptor):
    """Current with rise and decay: `I = decay - rise`, `d decay/dt = -decay / tau_decay`, `d rise/dt = -rise /
    tau_rise`.

    An arrival of weight w adds `w f` to both, so that the current of one event peaks at w pA; f, the time of the peak
    and constants that are nearly equal as in `DualExpCond`. One event: `I = w f (exp(-t / tau_decay) - exp(-t /
    tau_rise))`, charge `w f (tau_decay - tau_rise)` (fC). Source: Roth & van Rossum 2009; NEURON's Exp2Syn.

    **Arguments:**

    - `tau_rise`: rise time constant (ms).
    - `tau_decay`: decay time constant (ms).
    """

    tau_rise: Param = 0.5
    tau_decay: Param = 5.0

    def __check_init__(self) -> None:
        _slower(self)

    def init(self, n):
        return {"rise": _zeros(n), "decay": _zeros(n)}

    def current(self, g, v):
        return g["decay"] - g["rise"]

    def vector_field(self, g):
        return _two_exponentials(self.tau_rise, self.tau_decay, g)

    def arrive(self, g, dg, y_unit):
        return _at_peak(self.tau_rise, self.tau_decay, g, dg), y_unit


class AlphaCurr(AbstractReceptor):
    """Alpha current: `dx/dt = -x / tau`, `di/dt = (e x - i) / tau`, `I = i`; an arrival of weight w adds w (pA) to x.

    One event: `i = w (t / tau) exp(1 - t / tau)`, which peaks at w pA at `t = tau`; charge `w e tau` (fC). Exact by
    default; under `ExponentialEuler` the amplitude is too large by `(exp(a) - 1) / a`, `a = dt / tau` (order 1).
    Source: Rall 1967; NEST's iaf_psc_alpha.

    **Arguments:**

    - `tau`: time to peak (ms).
    """

    tau: Param = 2.0

    def __check_init__(self) -> None:
        _at_least(self, "tau", 0.0)

    def init(self, n):
        return {"i": _zeros(n), "x": _zeros(n)}

    def current(self, g, v):
        return g["i"]

    def vector_field(self, g):
        return {"i": (_E * g["x"] - g["i"]) * (1.0 / self.tau), "x": -g["x"] * (1.0 / self.tau)}

    def arrive(self, g, dg, y_unit):
        return {"i": g["i"], "x": g["x"] + dg}, y_unit


class AlphaCond(AbstractReceptor):
    """Alpha conductance: `dx/dt = -x / tau`, `dg/dt = (e x - g) / tau`, `I = g (e_rev - v)`; an arrival adds its
    weight to x.

    One event of weight w (nS): `g = w (t / tau) exp(1 - t / tau)`, which peaks at w nS at `t = tau`; integral `w e
    tau`. Exact by default; under `ExponentialEuler` the amplitude is too large by `(exp(a) - 1) / a`, `a = dt / tau`
    (order 1). Source: Rall 1967; Roth & van Rossum 2009; NEST's iaf_cond_alpha.

    **Arguments:**

    - `tau`: time to peak (ms).
    - `e_rev`: reversal potential (mV).
    """

    conductance: ClassVar[bool] = True

    tau: Param = 2.0
    e_rev: Param = 0.0

    def __check_init__(self) -> None:
        _at_least(self, "tau", 0.0)

    def init(self, n):
        return {"g": _zeros(n), "x": _zeros(n)}

    def current(self, g, v):
        return g["g"] * (self.e_rev - v)

    def vector_field(self, g):
        return {"g": (_E * g["x"] - g["g"]) * (1.0 / self.tau), "x": -g["x"] * (1.0 / self.tau)}

    def arrive(self, g, dg, y_unit):
        return {"g": g["g"], "x": g["x"] + dg}, y_unit


class NMDA(AbstractReceptor):
    """NMDA conductance with magnesium block: `I = g B(v) (e_rev - v)`, `B(v) = 1 / (1 + [Mg] / 3.57 exp(-0.062 v))`.

    `g = decay - rise` has the kinetics and the normalisation of `DualExpCond`: the weight (nS) is the peak without
    block. The gating does not saturate (it is linear, so all synapses of a unit share one state); for trains well above
    `1 / tau_decay` lower the weight, or let `TsodyksMarkram` depress it.
    Source: Jahr & Stevens 1990, doi:10.1523/JNEUROSCI.10-09-03178.1990, eq. 4a (block); Roth & van Rossum 2009
    (kinetics).

    **Arguments:**

    - `tau_rise`: rise time constant (ms).
    - `tau_decay`: decay time constant (ms).
    - `e_rev`: reversal potential (mV).
    - `mg`: magnesium concentration outside (mM).
    """

    conductance: ClassVar[bool] = True

    tau_rise: Param = 2.0
    tau_decay: Param = 100.0
    e_rev: Param = 0.0
    mg: Param = 1.0

    def __check_init__(self) -> None:
        _slower(self)
        _at_least(self, "mg", 0.0, strict=False)

    def init(self, n):
        return {"rise": _zeros(n), "decay": _zeros(n)}

    def current(self, g, v):
        return (g["decay"] - g["rise"]) * magnesium_block(v, self.mg) * (self.e_rev - v)

    def vector_field(self, g):
        return _two_exponentials(self.tau_rise, self.tau_decay, g)

    def arrive(self, g, dg, y_unit):
        return _at_peak(self.tau_rise, self.tau_decay, g, dg), y_unit


class GapPort(AbstractReceptor):
    """Port of `bs.GapJunctions`: receives `G = sum_j g_ij` (nS) and `J = sum_j g_ij v_j` (pA) every step and drives
    `i = J - G v`, with v at the start of the step.

    Each arrival replaces the last; the coupling begins with the first arrival, one step plus the delay after the start.
    The variables are `g` (nS) and the current `i` (pA). Source: Kopell & Ermentrout 2004, doi:10.1073/pnas.0406343101.
    """

    channels: ClassVar[int] = 2
    conductance: ClassVar[bool] = True

    def init(self, n):
        return {"g": _zeros(n), "i": _zeros(n)}

    def current(self, g, v):
        return g["i"]

    def vector_field(self, g):
        return {"g": jnp.zeros_like(g["g"]), "i": jnp.zeros_like(g["i"])}

    def arrive(self, g, dg, y_unit):
        return {"g": dg[0], "i": dg[1] - dg[0] * y_unit["v"]}, y_unit
