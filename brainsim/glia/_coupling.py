"""Astrocytes that exchange IP3."""

from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ..base import Param
from ..core import (
    AbstractDeclaredEdge,
    AbstractEdge,
    AbstractRouted,
    AbstractScheduledEdge,
    Deposit,
    Endpoint,
    Route,
    wire,
)
from ..events import CSR, DrawnRows


class IP3Coupling(AbstractDeclaredEdge):
    r"""Gap junctions between astrocytes, through which IP3 flows once its difference exceeds a threshold:

    $$J_{ij} = \frac{F}{2} \Big(1 + \tanh \frac{|\Delta| - \Theta}{\omega}\Big) \operatorname{sign} \Delta, \qquad
    \Delta = I_j - I_i,$$

    added to the IP3 of unit i, a step later, by a port `bs.Delta("ip3")`. Both directions of a junction are synapses of
    their own: `connect` lists each pair twice.

    **Arguments:** `pre`: a population of astrocytes; `post`: `"G.gap"`, its port; `connect`: as in `Projection`, of
    stored synapses; `rate`: F (uM/ms); `threshold`: $\Theta$ (uM); `width`: $\omega$ (uM).

    Source: Goldberg, De Pittà, Volman, Berry & Ben-Jacob 2010, doi:10.1371/journal.pcbi.1000909; constants of
    Lallouette, De Pittà, Ben-Jacob & Berry 2014, doi:10.3389/fncom.2014.00045, table 1.
    """

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    connect: Any
    rate: Param = eqx.field(kw_only=True, default=2e-3, converter=jnp.asarray)
    threshold: Param = eqx.field(kw_only=True, default=0.3, converter=jnp.asarray)
    width: Param = eqx.field(kw_only=True, default=0.05, converter=jnp.asarray)

    def wire(self, where, nodes, key):
        for name in (Endpoint.parse(where, end).node for end in (self.pre, self.post)):
            if "ip3" not in getattr(nodes.get(name), "variables", ()):
                raise ValueError(f"{where}: {name!r} has no variable 'ip3'; expected a population of astrocytes.")
        given = SimpleNamespace(pre=self.pre, post=self.post, connect=self.connect, max_delay=None)
        given.weight, given.delay = jnp.ones(()), jnp.zeros(())
        made = wire(where, given, nodes, key, channels=1)
        if isinstance(made["connect"], DrawnRows):
            raise TypeError(f"{where}.connect draws its synapses anew; expected stored ones: leave bs.Procedural out.")
        topology = made["connect"]
        if not isinstance(topology, CSR):
            pre, post = topology.to_coo()
            topology, _ = CSR.from_coo(pre, post, topology.n_pre, topology.n_post)
        how = dict(rate=self.rate, threshold=self.threshold, width=self.width)
        return WiredIP3Coupling(connect=topology, **how, route=made["route"])


class WiredIP3Coupling(AbstractRouted, AbstractEdge, AbstractScheduledEdge):
    """An `IP3Coupling` in a network; nothing of it depends on dt."""

    connect: CSR
    rate: Param
    threshold: Param
    width: Param
    route: Route = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre, "post": self.route.post}

    def schedule(self, where, dt):
        return self

    def depth(self, dt):
        return 1

    def init(self, clock):
        return {}

    def send(self, z, views, clock):
        n_syn, indptr = self.connect.n_syn, self.connect.indptr
        rows = jnp.arange(indptr.shape[0] - 1, dtype=jnp.int32)
        pre, post = jnp.repeat(rows, jnp.diff(indptr), total_repeat_length=n_syn), self.connect.indices
        here = views["post"].y["unit"]["ip3"]
        there = views["pre"].y["unit"]["ip3"][slice(*self.route.units_pre or (None,))]
        difference = there[pre] - here[post]
        open_ = 0.5 * (1.0 + jnp.tanh((jnp.abs(difference) - self.threshold) / self.width))
        flux = jnp.zeros_like(here).at[post].add(self.rate * open_ * jnp.sign(difference))
        return z, [Deposit(self.route.post, self.route.port, clock.dt * flux, jnp.asarray(1, jnp.int32))]
