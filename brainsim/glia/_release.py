"""Synapses that listen: to the transmitter of an astrocyte, to a neuromodulator."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..base import Param, float_dtype
from ..core import AbstractShortTerm, Endpoint, View
from ._shared import positive


class _Listening(AbstractShortTerm):
    """A release that reads a variable of another node; `domain` (n_pre,) names the unit that each pre unit listens to,
    by default the one there is, or that of the same number."""

    by: eqx.AbstractVar[str]
    domain: eqx.AbstractVar[tuple[int, ...] | None]

    @property
    def listens(self):
        return Endpoint.parse("by", self.by).node

    def _heard(self, view: View, n: int) -> Array:
        variable = Endpoint.parse("by", self.by).port
        known: Any = {**view.z, **view.y["unit"]}
        if variable not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(f"{type(self).__name__}.by is {self.by!r}; node {self.listens!r} has {names}.")
        x = known[variable]
        if self.domain is not None:
            return x[np.asarray(self.domain, np.int32)]
        if x.shape[0] not in (1, n):
            raise ValueError(
                f"{type(self).__name__}: {self.listens!r} has {x.shape[0]} units; expected 1 or {n}, one for each pre "
                "unit, or the unit of each in `domain`."
            )
        return jnp.broadcast_to(x, (n,))


def _domain(x: Any) -> Any:
    return None if x is None else tuple(int(k) for k in np.asarray(x))


class GliaModulated(_Listening):
    r"""Short-term plasticity as of `bs.TsodyksMarkram`, whose release probability an astrocyte moves:

    $$\frac{d\gamma}{dt} = O\, g\, (1 - \gamma) - \Omega\, \gamma, \qquad U = (1 - \gamma) U_0 + \alpha \gamma,$$

    with the share $\gamma$ of presynaptic receptors that the transmitter g of the astrocyte has bound. With
    $\alpha$ below $U_0$ gliotransmission depresses release, above it facilitates. State: `u`, `x`, `gamma`.

    **Arguments:** `by`: `"G.glio"`, a variable of a node (uM), such as that of `bs.Exocytosis`; `domain`: the astrocyte
    of every pre unit, (n_pre,); `u0`: $U_0$; `tau_facil`, `tau_rec`: ms; `alpha`: $\alpha$; `bind`: O (1/(uM ms));
    `unbind`: $\Omega$ (1/ms).

    Source: De Pittà, Volman, Berry & Ben-Jacob 2011, doi:10.1371/journal.pcbi.1002293; the constants are those of
    Stimberg, Goodman, Brette & De Pittà 2019, doi:10.1007/978-3-030-00817-8_18.
    """

    by: str = eqx.field(static=True)
    domain: Any = eqx.field(static=True, default=None, converter=_domain)
    u0: Param = 0.6
    tau_facil: Param = 1.0 / 3.33e-3
    tau_rec: Param = 500.0
    alpha: Param = 0.0
    bind: Param = 1.5e-3
    unbind: Param = 0.5e-3 / 60.0

    def __check_init__(self) -> None:
        positive(self, "u0", "tau_facil", "tau_rec", "bind", "unbind")

    def init(self, n_pre, clock):
        none = jnp.zeros(n_pre, float_dtype())
        return {"u": none, "x": jnp.ones(n_pre, float_dtype()), "gamma": none}

    def release(self, z, value, clock, seen=None):
        assert seen is not None
        g, dt = self._heard(seen, value.shape[0]), clock.dt
        rate = self.bind * g + self.unbind
        bound = self.bind * g / rate
        gamma = bound + (z["gamma"] - bound) * jnp.exp(-rate * dt)
        u = z["u"] * jnp.exp(-dt / self.tau_facil)
        x = 1.0 - (1.0 - z["x"]) * jnp.exp(-dt / self.tau_rec)
        jump = ((1.0 - gamma) * self.u0 + self.alpha * gamma) * (1.0 - u)
        released = (u + jump) * x * value
        return released, {"u": u + jump * value, "x": x - released, "gamma": gamma}


class ModulatedGain(_Listening):
    r"""What every pre unit sends is multiplied by `1 + slope c / (c + half)`, with a variable c of another node.

    So a neuromodulator raises or lowers the gain of a projection.

    **Arguments:** `by`: `"D.c"`, a variable of a node, such as that of `bs.Neuromodulator`; `domain`: as of
    `GliaModulated`; `slope`: the change at saturation, -1 to silence; `half`: half saturation, in the unit of c.

    Source: gain modulation by occupied receptors, e.g. Servan-Schreiber, Printz & Cohen 1990,
    doi:10.1126/science.2392679.
    """

    by: str = eqx.field(static=True)
    domain: Any = eqx.field(static=True, default=None, converter=_domain)
    slope: Param = 1.0
    half: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "half")

    def init(self, n_pre, clock):
        return {}

    def release(self, z, value, clock, seen=None):
        assert seen is not None
        c = self._heard(seen, value.shape[0])
        return value * (1.0 + self.slope * c / (c + self.half)), z
