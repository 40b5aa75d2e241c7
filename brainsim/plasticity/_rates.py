"""Rules that hold or follow rates: inhibitory plasticity, Oja, BCM."""

import jax.numpy as jnp

from ..base import Param
from ._checked import ordered, positive
from ._rule import AbstractPlasticity
from ._traces import LowPass, SpikeTrace


class VogelsSprekeler(AbstractPlasticity):
    r"""Inhibitory plasticity that brings every post unit to a target rate.

    A post event adds $\eta x$, a pre event $\eta (y - \alpha)$, with traces x and y of both units and
    $\alpha = 2 \rho_0 \tau$: the weight of inhibition grows where post and pre events are correlated, and in the mean
    is at rest where the post unit fires at $\rho_0$. `vogels_sprekeler_synapse` of NEST does the same to 1e-12
    (float64).

    **Arguments:** `tau`: ms; `eta`: in the unit of the weight; `rate`: the target $\rho_0$ (Hz) >= 0, one or one per
    post unit; `w_min`, `w_max`: bounds.

    Source: Vogels, Sprekeler, Zenke, Clopath & Gerstner 2011, doi:10.1126/science.1211095.
    """

    tau: Param = 20.0
    eta: Param = 1e-3
    rate: Param = 3.0
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau")
        positive(self, "rate", zero=True)
        ordered(self)

    def traces(self):
        return {"x": SpikeTrace("pre", self.tau), "y": SpikeTrace("post", self.tau)}

    def on_pre(self, syn, pre, post, mod):
        return {"w": jnp.minimum(syn.w + self.eta * post.y, self.w_max) - self.eta * 2e-3 * self.rate * self.tau}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + self.eta * pre.x}


class Oja(AbstractPlasticity):
    r"""Hebbian growth with a decay that keeps the weights of a unit normalised.

    A post event adds $\eta (x - y w)$, with traces x and y: in the mean
    $dw_i/dt = \eta \tau (r_i r - r^2 w_i)$, of rates $r_i$ and $r$. Of a unit with
    $r = \sum_i w_i r_i$ the weights become the first principal component of the rates, of length 1.

    **Arguments:** `tau`: ms of both traces; `eta`: learning rate; `w_min`, `w_max`: bounds.

    Source: Oja 1982, doi:10.1007/BF00275687, eq. 3, with rates estimated by traces.
    """

    tau: Param = 100.0
    eta: Param = 1e-3
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau")
        ordered(self)

    def traces(self):
        return {"x": SpikeTrace("pre", self.tau), "y": SpikeTrace("post", self.tau)}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + self.eta * (pre.x - post.y * syn.w)}


class BCM(AbstractPlasticity):
    r"""Potentiation above a threshold of post activity, depression below, and the threshold slides.

    A post event adds $\eta x (y - \theta)$, with traces x and y and $\tau_\theta d\theta/dt = y^2 / y_0 - \theta$: in
    the mean $dw_i/dt = \eta r \tau r_i (y - \theta)$, the form of Law & Cooper (1994).

    **Arguments:** `tau`: ms of both traces; `tau_theta`: ms of the threshold; `y0`: the activity at which threshold and
    activity agree, in events within tau (rate times tau); `eta`: learning rate; `w_min`, `w_max`: bounds.

    Source: Bienenstock, Cooper & Munro 1982, doi:10.1523/JNEUROSCI.02-01-00032.1982.
    """

    tau: Param = 100.0
    tau_theta: Param = 5000.0
    y0: Param = 1.0
    eta: Param = 1e-3
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau", "tau_theta", "y0")
        ordered(self)

    def traces(self):
        pair = {"x": SpikeTrace("pre", self.tau), "y": SpikeTrace("post", self.tau)}
        return pair | {"theta": LowPass("post", self.tau_theta, lambda post, mod: post.y * post.y / self.y0)}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + self.eta * pre.x * (post.y - post.theta)}
