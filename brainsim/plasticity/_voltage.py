"""Plasticity by the membrane potential of the post unit."""

import jax.numpy as jnp

from ..base import Param
from ._checked import ordered, positive
from ._rule import AbstractPlasticity
from ._traces import LowPass, SpikeTrace


class ClopathSTDP(AbstractPlasticity):
    r"""Voltage-based STDP with depression at pre events and potentiation while the post unit is depolarised.

    $$\Delta w = -A_{LTD} [\bar u_- - \theta_-]_+ \text{ at a pre event}, \qquad
    \frac{dw}{dt} = A_{LTP}\, \bar x\, [u - \theta_+]_+ [\bar u_+ - \theta_-]_+,$$

    with $\bar u_\pm$ the potential filtered with $\tau_\pm$ and $\bar x$ the pre events filtered with $\tau_x$ (a jump
    of $1/\tau_x$). Potentiation is integrated step by step for the units above both thresholds, so their synapses are
    visited in each of those steps. The post unit needs a potential `"v"` with an upstroke (`AdEx`, `HodgkinHuxley`):
    the reset of a `LIF` hides its spikes from the rule. The amplitude of depression is constant: the homeostatic
    factor $\bar{\bar u}^2 / u_{ref}^2$ is left out.

    **Arguments:** `a_ltd` (1/mV), `a_ltp` (1/mV^2): per unit of weight; `theta_minus`, `theta_plus`: mV; `tau_minus`,
    `tau_plus`, `tau_x`: ms; `w_min`, `w_max`: bounds.

    Source: Clopath, Büsing, Vasilaki & Gerstner 2010, doi:10.1038/nn.2479, eqs. 1 to 3, visual cortex.
    """

    a_ltd: Param = 14e-5
    a_ltp: Param = 8e-5
    theta_minus: Param = -70.6
    theta_plus: Param = -45.3
    tau_minus: Param = 10.0
    tau_plus: Param = 7.0
    tau_x: Param = 15.0
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau_plus", "tau_minus", "tau_x")
        ordered(self)
        ordered(self, "theta_minus", "theta_plus")

    def traces(self):
        low, high = (LowPass("post", tau, lambda post, mod: post.v, -70.6) for tau in (self.tau_minus, self.tau_plus))
        return {"x": SpikeTrace("pre", self.tau_x), "u_minus": low, "u_plus": high}

    def post_events(self, value, post, dt):
        high = jnp.maximum(post.v - self.theta_plus, 0.0)
        return dt * high * jnp.maximum(post.u_plus - self.theta_minus, 0.0)

    def on_pre(self, syn, pre, post, mod):
        return {"w": syn.w - self.a_ltd * jnp.maximum(post.u_minus - self.theta_minus, 0.0)}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + self.a_ltp * pre.x / self.tau_x * post.value}
