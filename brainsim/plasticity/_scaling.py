"""All weights onto a unit by one factor: until it has its rate, or to a fixed sum."""

from types import SimpleNamespace

import equinox as eqx
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


class Normalised(AbstractPlasticity):
    r"""Any rule, with the weights onto each post unit scaled to a fixed sum every so often: synapses compete.

    $$w_{ij} \leftarrow w_{ij}\, \frac{W}{\sum_k w_{kj}} \quad \text{every}\ T.$$

    Bounds hold afterwards, so a sum beyond what they allow is not reached. In between nothing is done. In a gradient
    the weights of every step are kept.

    **Arguments:** `rule`: the other rule; `total`: W > 0, one or one per post unit; `every`: T (ms), a number of steps.

    Source: Diehl & Cook 2015, doi:10.3389/fncom.2015.00099; von der Malsburg 1973, doi:10.1007/BF00288907.
    """

    rule: AbstractPlasticity = Unchanged()
    total: Param = 1.0
    every: float = eqx.field(static=True, default=100.0)

    def __check_init__(self) -> None:
        positive(self, "total")
        if isinstance(self.every, bool) or not self.every > 0:
            raise ValueError(f"Normalised.every is {self.every!r}; expected a time > 0 (ms).")

    @property
    def bounds(self):
        return self.rule.bounds

    def totals(self):
        return self.total, self.every

    def traces(self):
        return self.rule.traces()

    def synapse(self):
        return self.rule.synapse()

    def post_events(self, value, post, dt):
        return self.rule.post_events(value, post, dt)

    def on_pre(self, syn, pre, post, mod):
        return self.rule.on_pre(syn, pre, post, mod)

    def on_post(self, syn, pre, post, mod):
        return self.rule.on_post(syn, pre, post, mod)
