"""Three factors: pre, post, and a signal that says whether it was good."""

import jax.numpy as jnp

from ..base import Param
from ._checked import ordered, positive
from ._rule import AbstractPlasticity
from ._traces import Integral, SpikeTrace

_FAINT = 1e-30  # of an eligibility that has decayed: what is left of it adds nothing


class RewardSTDP(AbstractPlasticity):
    r"""STDP marks a synapse as eligible; a modulator turns eligibility into weight.

    $$\frac{de}{dt} = -\frac{e}{\tau_e} + A_+ x\, \delta_{post} - A_- y\, \delta_{pre},
    \qquad \frac{dw}{dt} = M(t)\, e.$$

    The modulator M is a variable of another node, one for all (`modulator="D.c"` of the projection). Nothing is done to
    a synapse between its events: with $g = e^{-(t-u)/\tau_e}$ and $q = \int_u^t M g$ of every pre unit, since its last
    event u, a synapse needs $e / g$ and the q of its last visit, so `w` is up to date at its events, and `w + e (q_now
    - q)` at any time. Bounds are applied at events.

    **Arguments:** `tau_plus`, `tau_minus`, `a_plus`, `a_minus`: as of `PairSTDP`, of eligibility; `tau_e`: ms, above
    `tau_plus`; `w_min`, `w_max`: bounds.

    Source: Izhikevich 2007, doi:10.1093/cercor/bhl152; Frémaux & Gerstner 2016, doi:10.3389/fncir.2015.00085.
    """

    tau_plus: Param = 20.0
    tau_minus: Param = 20.0
    a_plus: Param = 0.01
    a_minus: Param = 0.0105
    tau_e: Param = 1000.0
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau_plus", "tau_minus", "tau_e")
        ordered(self)
        ordered(self, "tau_plus", "tau_e")

    def traces(self):
        pair = {"x": SpikeTrace("pre", self.tau_plus), "y": SpikeTrace("post", self.tau_minus)}
        since = SpikeTrace("pre", self.tau_e, nearest=True, start=1.0)
        return pair | {"g": since, "q": Integral("pre", lambda pre, mod: pre.g * mod)}

    def synapse(self):
        return {"e": 0.0, "seen": 0.0}

    def on_pre(self, syn, pre, post, mod):
        w = syn.w + syn.e * (pre.q - syn.seen)
        return {"w": w, "e": syn.e * pre.g - self.a_minus * post.y, "seen": 0.0}

    def on_post(self, syn, pre, post, mod):
        w = syn.w + syn.e * (pre.q - syn.seen)
        return {"w": w, "e": syn.e + self.a_plus * pre.x / jnp.maximum(pre.g, _FAINT), "seen": pre.q}
