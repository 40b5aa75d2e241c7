"""Short-term plasticity: release that depends on the recent spikes of the pre unit."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Param, check_parameter, float_dtype, is_traced
from ..core import AbstractShortTerm


def _decay(dt: Float[Array, ""], tau: Param) -> Float[Array, "..."]:
    """`exp(-dt / tau)`, 0 at tau = 0 with a derivative of 0."""
    still = tau > 0
    return jnp.where(still, jnp.exp(-dt / jnp.where(still, tau, jnp.ones_like(tau))), jnp.zeros_like(tau))


class TsodyksMarkram(AbstractShortTerm):
    r"""Facilitation and depression: `du/dt = -u / tau_facil`, `dx/dt = (1 - x) / tau_rec`; a spike releases `u x`.

    At a spike, in this order: `u <- u + U (1 - u)`; the weight is multiplied by `u x` with this new u;
    `x <- x - u x`. Between spikes u and x decay exactly, step by step. From rest (u = 0, x = 1) the first spike
    releases `U`. A regular train of period T comes to `u x` with

    $$u = \frac{U}{1 - (1 - U) e^{-T/\tau_{facil}}},$$
    $$x = \frac{1 - e^{-T/\tau_{rec}}}{1 - (1 - u) e^{-T/\tau_{rec}}}.$$

    The state belongs to the pre unit and is shared by all its synapses of the edge; `Trace("EE.u")` and
    `Trace("EE.x")` record u and x after the spikes of the step. Several spikes of a unit in one step act one right
    after the other; a graded event of value s < 1 has s times the effect of a spike on u, on x and on what is sent.
    `tsodyks2_synapse` of NEST 3.10 releases the same to 1e-4.

    **Arguments:** `U` in (0, 1]: utilisation; `tau_facil` >= 0 (ms), 0 for none: u is U at every spike;
    `tau_rec` > 0 (ms). Numbers or arrays of shape (n_pre,). The default depresses without facilitation.

    Source: Tsodyks, Uziel & Markram 2000, doi:10.1523/JNEUROSCI.20-01-j0003.2000; Markram, Wang & Tsodyks 1998,
    doi:10.1073/pnas.95.9.5323. The time course of the current (their tau_I) belongs to the receptor.

    **Arguments:**

    - `U`: utilisation: the fraction of resources that a spike from rest releases.
    - `tau_facil`: time constant of facilitation (ms).
    - `tau_rec`: time constant of recovery from depression (ms).
    """

    U: Param = 0.5
    tau_facil: Param = 0.0
    tau_rec: Param = 800.0

    def __check_init__(self) -> None:
        expected = {
            "U": ("0 < U <= 1", lambda a: (a > 0) & (a <= 1)),
            "tau_facil": ("tau_facil >= 0 (ms)", lambda a: a >= 0),
            "tau_rec": ("tau_rec > 0 (ms)", lambda a: a > 0),
        }
        for name, (text, good) in expected.items():
            x = getattr(self, name)
            check_parameter("TsodyksMarkram", name, x)
            if not is_traced(x) and not bool(np.all(good(np.asarray(x)))):
                raise ValueError(f"TsodyksMarkram.{name} is {np.asarray(x)}; expected {text}. Mend the value given.")

    def init(self, n_pre, clock):
        return {"u": jnp.zeros(n_pre, float_dtype()), "x": jnp.ones(n_pre, float_dtype())}

    def release(self, z, value, clock):
        u = z["u"] * _decay(clock.dt, self.tau_facil)
        x = 1.0 - (1.0 - z["x"]) * _decay(clock.dt, self.tau_rec)
        # what a spike would release, spike or not: the derivative in `value` is that amount on either side of threshold
        jump = self.U * (1.0 - u)
        released = (u + jump) * x * value
        return released, {"u": u + jump * value, "x": x - released}

    def release_many(self, z, value, clock):
        r"""Of k spikes at once, one right after the other: after j of them $1 - u_j = (1 - u)(1 - U)^j$, and of x is
        left $\prod_{j=1}^k (1 - u_j) = (1 - u)^k (1 - U)^{k (k + 1) / 2}$; without facilitation u_j = U. Values that
        are no whole number continue this.
        """
        many, one = value > 1, jnp.ones_like(value)
        released, after = self.release(z, jnp.where(many, one, value), clock)
        k, still = jnp.where(many, value, 2 * one), self.tau_facil > 0  # harmless where it is not taken
        empty = 1.0 - z["u"] * _decay(clock.dt, self.tau_facil)
        x = 1.0 - (1.0 - z["x"]) * _decay(clock.dt, self.tau_rec)
        unused = 1.0 - self.U * one
        left = x * empty**k * unused ** jnp.where(still, 0.5 * k * (k + 1.0), k)
        u = 1.0 - empty * unused ** jnp.where(still, k, one)
        after = {"u": jnp.where(many, u, after["u"]), "x": jnp.where(many, left, after["x"])}
        return jnp.where(many, x - left, released), after


class Gain(AbstractShortTerm):
    """What every pre unit sends is multiplied by its own number: `released = gain * value`; 0 silences a unit.

    One number a unit in place of one weight a synapse: a batch of runs that share one wiring, each with neurons of its
    own silenced, differs in `gain` alone, and a gain for each type of cell is learnt as `gain = g[type]`. The unit
    itself spikes as before.

    **Arguments:** `gain`: number or array (n_pre,).
    """

    gain: Param = 1.0

    def init(self, n_pre, clock):
        return {}

    def release(self, z, value, clock):
        return value * self.gain, z
