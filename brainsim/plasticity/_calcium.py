"""Plasticity by the calcium of the synapse."""

import jax.numpy as jnp

from ..base import Param
from ._checked import ordered, positive
from ._rule import AbstractPlasticity
from ._traces import Integral


class GraupnerBrunel(AbstractPlasticity):
    r"""A bistable efficacy that calcium moves: up above one threshold, down above a lower one.

    $$\tau \frac{d\rho}{dt} = -\rho (1-\rho)(\rho_* - \rho) + \gamma_p (1 - \rho) \Theta(c - \theta_p)
    - \gamma_d\, \rho\, \Theta(c - \theta_d), \qquad \tau_{Ca} \frac{dc}{dt} = -c,$$

    with $\rho_* = 1/2$; a pre event adds $C_{pre}$ to c, a post event $C_{post}$; $w = w_{min} + \rho (w_{max} -
    w_{min})$. The calcium of a pre event comes late by the paper's D: give the projection `axonal=13.7` and a delay of
    at least that.

    A synapse is visited at its events only: c decays between them in closed form, so the times above both thresholds
    are known, and $\rho$ is advanced exactly in each of the three stretches; the first term, smaller than the others by
    a factor of 1,000 and more, is left out above the thresholds, and noise everywhere. So `w` is up to date at the
    events of a synapse.

    **Arguments:** `tau`: ms; `tau_ca`: ms; `c_pre`, `c_post`: jumps of calcium; `theta_d` < `theta_p`: thresholds;
    `gamma_d`, `gamma_p`: rates; `w_min`, `w_max`: the weights at rho = 0 and 1. The defaults are those of the paper's
    "DP" curve.

    Source: Graupner & Brunel 2012, doi:10.1073/pnas.1109359109, eqs. 1 and 2.
    """

    tau: Param = 150e3
    tau_ca: Param = 20.0
    c_pre: Param = 1.0
    c_post: Param = 2.0
    theta_d: Param = 1.0
    theta_p: Param = 1.3
    gamma_d: Param = 200.0
    gamma_p: Param = 321.808
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau", "tau_ca", "theta_d", "gamma_d", "gamma_p")
        positive(self, "c_pre", "c_post", zero=True)
        ordered(self)
        ordered(self, "theta_d", "theta_p")

    def traces(self):
        since = lambda unit, mod: 1.0  # noqa: E731
        return {"silent": Integral("pre", since), "quiet": Integral("post", since)}

    def synapse(self):
        return {"c": 0.0}

    def on_pre(self, syn, pre, post, mod):
        return self._after(syn, self.c_pre, jnp.where(post.value != 0, 0.0, jnp.minimum(pre.silent, post.quiet)))

    def on_post(self, syn, pre, post, mod):
        return self._after(syn, self.c_post, jnp.where(pre.value != 0, 0.0, jnp.minimum(pre.silent, post.quiet)))

    def _after(self, syn, jump, gap):
        """The synapse after a `gap` (ms) without events and a jump of calcium."""
        log_c = jnp.log(jnp.maximum(syn.c, 1e-30))
        high = jnp.clip(self.tau_ca * (log_c - jnp.log(self.theta_p)), 0.0, gap)
        middle = jnp.clip(self.tau_ca * (log_c - jnp.log(self.theta_d)), 0.0, gap) - high
        rho = (syn.w - self.w_min) / (self.w_max - self.w_min)
        both = self.gamma_p + self.gamma_d
        rest = self.gamma_p / both
        rho = rest + (rho - rest) * jnp.exp(-high * both / self.tau)
        rho = rho * jnp.exp(-middle * self.gamma_d / self.tau)
        # x = rho - 1/2 obeys dx/dt = x (1/4 - x^2) / tau: 1 / (4 x^2) - 1 decays with 2 tau
        x, fade = rho - 0.5, jnp.exp((high + middle - gap) / (2.0 * self.tau))
        rho = 0.5 + x / jnp.sqrt(4.0 * x * x * (1.0 - fade) + fade)
        return {"w": self.w_min + rho * (self.w_max - self.w_min), "c": syn.c * jnp.exp(-gap / self.tau_ca) + jump}
