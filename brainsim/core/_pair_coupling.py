"""`PairCoupling`: masses coupled by a function of both ends."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import float_dtype
from ..events import CSR
from ._deposit import Deposit
from ._edge import AbstractScheduledEdge
from ._routed import AbstractRouted
from ._state import ring_slot
from ._tracts import AbstractTracts, AbstractWiredTracts
from ._wiring import Route, ring_depth


class PairCoupling(AbstractTracts):
    r"""Masses coupled by a function of both ends: the port of unit i receives

    $$c_i(t) = \sum_j w_{ij}\, f(x_i(t), x_j(t - d_{ij})), \quad d_{ij} = L_{ij} / v$$

    of one variable x, such as `bs.diffusive`, $x_j - x_i$, and `bs.sinusoidal`, $\sin(x_j - x_i)$, the Kuramoto model.
    Within a step f is linear in $x_i$ about its start, and $x_j$ is that of the step's middle: order 2 in dt together
    with a solver of order 2. It keeps the past of `pre` and gathers two values a synapse and step, in XLA; where f is a
    function of $x_j$ alone, `Coupling` is faster.

    **Arguments:** `pre`, `post`, `connect`, `weight`, `lengths`, `speed`, `delay`, `max_delay`, `history` as in
    `Coupling`, without a smallest delay; the port of `post` is a `bs.PairPort(variable)`. `function`: `f(x_post,
    x_pre)` of arrays of equal shape; `variable`: the variable of the units of `pre`, by default that of the port.

    **Raises:** as `Coupling`; TypeError for a function that does not take two arrays.
    """

    variable: str | None = eqx.field(kw_only=True, static=True, default=None)

    def wire(self, where, nodes, key):
        if self.function is None:
            raise ValueError(f"{where}.function is missing; expected f(x_post, x_pre), such as bs.diffusive.")
        row = jax.ShapeDtypeStruct((2,), float_dtype())
        try:
            made = jax.eval_shape(self.function, row, row)
        except TypeError as e:
            raise TypeError(f"{where}.function: expected f(x_post, x_pre) of two arrays; it fails: {e}") from e
        if getattr(made, "shape", None) != (2,):
            raise TypeError(f"{where}.function returned {made}; expected an array of the shape of its arguments.")
        fields = self.wired_fields(where, nodes, key, 2)
        route = fields["route"]
        port: Any = nodes[route.post]
        seen = getattr(port.receptors[route.port], "variable", "")
        source: Any = nodes[route.pre]
        variable = seen if self.variable is None else self.variable
        if variable not in source.variables:
            raise ValueError(f"{where}: {route.pre!r} has no variable {variable!r}; it has {source.variables}.")
        return WiredPairCoupling(**fields, variable=variable, variable_post=seen)


class WiredPairCoupling(AbstractWiredTracts):
    """A `PairCoupling` in a network, with the variables that it reads of both ends."""

    variable: str = eqx.field(static=True)
    variable_post: str = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre, "post": self.route.post}

    def schedule(self, where, dt):
        weight, x = self.synapses(where, dt)
        # what the step after this one sees at its middle, in steps back from its start
        x = x - 0.5 + jax.lax.stop_gradient(jnp.maximum(x - 0.5, 0.0) - (x - 0.5))
        whole = jnp.floor(jax.lax.stop_gradient(x))
        samples = weight, x - whole, whole.astype(jnp.int32), self.pre_units()
        variables = self.variable, self.variable_post
        return ScheduledPairCoupling(
            connect=self.connect, samples=samples, function=self.function, variables=variables, route=self.route
        )

    def depth(self, dt):
        return 1

    def _line(self, dt: float) -> int:
        return ring_depth(self.max_delay, dt) + 2

    def init(self, clock):
        n_pre = self.connect.n_pre if self.route.units_pre is None else self.route.units_pre[1]
        return {"past": jnp.zeros((self._line(clock.step or float(clock.dt)), n_pre), float_dtype())}

    def begin(self, where, z, nodes, states, dt):
        x = states[self.route.pre].y["unit"][self.variable]
        x_post = states[self.route.post].y["unit"][self.variable_post]
        line, width = z["past"].shape
        past = self.past(x, line)[:, :width]
        z = {"past": past[-jnp.arange(line) % line]}  # row 0 is now, row line - 1 one step ago
        edge = self.schedule(where, dt)
        row = edge.row(z, x_post, jnp.asarray(0, jnp.int32))
        return z, jnp.stack([jnp.zeros_like(row), row])


class ScheduledPairCoupling(AbstractRouted, AbstractScheduledEdge):
    """A pair coupling at one dt; `samples`: of every synapse its weight, the share of the earlier one of the two values
    that its delay lies between, steps back to the later one, and the pre unit."""

    connect: CSR
    samples: tuple[Array, Array, Array, Array]
    function: Any
    variables: tuple[str, str] = eqx.field(static=True)
    route: Route = eqx.field(static=True)

    @property
    def reads(self):
        return {"pre": self.route.pre, "post": self.route.post}

    def row(self, z: Any, x_post: Array, n: Array) -> Array:
        """`(G, J)` of every unit, with the newest values of the past at `n`."""
        weight, share, whole, pre = self.samples
        past, line = z["past"], z["past"].shape[0]
        near, far = (ring_slot(n - whole - one + 2 * line, line) for one in (0, 1))
        x_j = (1.0 - share) * past[near, pre] + share * past[far, pre]
        post = self.connect.indices
        x_i = x_post[post]
        value, slope = jax.jvp(lambda x: self.function(x, x_j), (x_i,), (jnp.ones_like(x_i),))
        zero = jnp.zeros_like(x_post)
        total, gain = zero.at[post].add(weight * value), zero.at[post].add(weight * slope)
        return jnp.concatenate([gain, total - gain * x_post])

    def send(self, z, views, clock):
        x, x_post = views["pre"].y["unit"][self.variables[0]], views["post"].y["unit"][self.variables[1]]
        n = clock.n + 1
        z = {"past": z["past"].at[ring_slot(n, z["past"].shape[0])].set(x[: z["past"].shape[1]])}
        row = self.row(z, x_post, n)
        return z, [Deposit(self.route.post, self.route.port, row, jnp.asarray(1, jnp.int32))]


def diffusive(x_post: Array, x_pre: Array) -> Array:
    """`x_pre - x_post`, for `bs.PairCoupling`."""
    return x_pre - x_post


def sinusoidal(x_post: Array, x_pre: Array) -> Array:
    """`sin(x_pre - x_post)`, for `bs.PairCoupling`: the Kuramoto model."""
    return jnp.sin(x_pre - x_post)
