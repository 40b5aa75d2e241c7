"""Synaptic scaling: all weights onto a unit by one factor, until it has its rate."""

from types import SimpleNamespace

import jax.numpy as jnp

from ..base import Param
from ._checked import positive
from ._rule import AbstractPlasticity
from ._traces import Integral, SpikeTrace


class Unchanged(AbstractPlasticity):
    """Weights that stay as they are."""

    def traces(self):
        return {}


class SynapticScaling(AbstractPlasticity):
    r"""Scales all weights onto a post unit by one factor until the unit fires at a target rate, beside any other rule.

    $$\frac{dw_{ij}}{dt} = \beta\, w_{ij} (\rho_j - r_j), \qquad r_j = y_j / \tau,$$

    with a trace y of the post events. The factor since the last event of a synapse is known from the post unit,
    $e^{S_j(t) - S_j(t')}$ with $S = \int \beta (\rho - r)$, so no synapse is touched in between and `w` is up to
    date at its events, before the other rule acts.

    **Arguments:** `rule`: the other rule, whose bounds hold; none by default. `rate`: $\rho$ (Hz) >= 0, one or one per
    post unit; `tau`: of the estimate (ms); `beta`: 1 per (ms Hz).

    Source: van Rossum, Bi & Turrigiano 2000, doi:10.1523/JNEUROSCI.20-23-08812.2000, eq. 4, proportional part;
    Turrigiano 2008, doi:10.1016/j.cell.2008.10.008.
    """

    rule: AbstractPlasticity = Unchanged()
    rate: Param = 5.0
    tau: Param = 1000.0
    beta: Param = 1e-6

    def __check_init__(self) -> None:
        positive(self, "tau")
        positive(self, "rate", "beta", zero=True)

    @property
    def bounds(self):
        return self.rule.bounds

    def traces(self):
        rate = SpikeTrace("post", self.tau)
        factor = Integral("post", lambda post, mod: self.beta * (self.rate - 1e3 * post.rate / self.tau), reset=False)
        return {**self.rule.traces(), "rate": rate, "factor": factor}

    def synapse(self):
        return {**self.rule.synapse(), "scaled": 0.0}

    def post_events(self, value, post, dt):
        return self.rule.post_events(value, post, dt)

    def on_pre(self, syn, pre, post, mod):
        return self._then(self.rule.on_pre, syn, pre, post, mod)

    def on_post(self, syn, pre, post, mod):
        return self._then(self.rule.on_post, syn, pre, post, mod)

    def _then(self, part, syn, pre, post, mod):
        now = SimpleNamespace(**(vars(syn) | {"w": syn.w * jnp.exp(post.factor - syn.scaled)}))
        return {"w": now.w, **part(now, pre, post, mod), "scaled": post.factor}
