"""The derivative of a spike by the time at which it happens: one weight per upward crossing of the guard."""

import warnings
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._state import Clock

SINCE = "since_spike"
"""Name of the counter of whole steps since the last spike, which a population with this derivative keeps in `z`."""

_MOST = 2**30  # where the counter stays
_FORGETS = 5.0  # relaxations within an interval after which less than 1 % is left


class Crossing(eqx.Module):
    r"""The derivative of a spike by its time: one weight per upward crossing of the guard g, divided by the interval T
    since the spike before,

    $$\mathrm{d}s = -\frac{\mathrm{d}t^*}{T} = \frac{\mathrm{d}g}{\dot g\, T}, \qquad
    \mathrm{d}y \leftarrow \mathrm{d}y - \dot y\, \frac{\mathrm{d}g}{\dot g},$$

    with $t^*$ the time of the crossing, and every interval measured from the spike that begins it; of variables that
    relax more than five times in an interval, gates above all, the derivative is then set to zero, as the spike makes
    them what they are after every spike. The derivative of
    the number of spikes is then exact where a cell fires regularly, for every parameter, and right to within a factor
    of 2 where its mean input makes it fire. Where only fluctuations do (a few Hz from far below threshold), spikes come
    and go more than they move, and the derivative is too small, or noisy: `docs/gradients.md` has the derivation and
    measured cases. It is zero for a cell that never spikes, and of no use for a leaky integrator under white noise, for
    which a bump such as `Triangular` is right. The backward pass is sparse: it visits spikes alone.

    **Arguments:** `exact_flow`: True keeps the second equation out, so that the derivatives of voltages are those in
    the time of the run, exact for a smooth cell; those of counts of spikes then add up from spike to spike. None:
    `simulate` chooses, for a population whose `Events` or `Rate` are recorded or that drives others the equations
    above, for one with a recorded `Trace` the exact flow; for both at once the equations above, with a warning once it
    is differentiated.

    Source: Ho & Cao 1983, doi:10.1007/BF00933971 (perturbation analysis); Rice 1944 (crossings).
    """

    exact_flow: bool | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.exact_flow, bool | None):
            raise TypeError(f"Crossing.exact_flow is {self.exact_flow!r}; expected True, False or None.")

    def spike(
        self, node: Any, y: Any, z: Any, inp: Array, since: Int[Array, " n"], clock: Clock, taken: Any
    ) -> tuple[Float[Array, " n"], Any]:
        """`(s, y)`: 1 where `node.unit` spikes, and `y` as it is, with the derivatives above.

        `taken.longer(node, z, clock)` is the derivative of `y` by the length of the step that led to it; None where it
        is not known.
        """
        # without the key, which would make a program of this step one that draws random numbers
        arrays, static = eqx.partition((node, z, inp, since, clock.n, clock.dt, taken), eqx.is_array)

        def guard(arrays, y):
            node, z, *_ = eqx.combine(arrays, static)
            return node.unit.guard(y["unit"], z)

        @jax.custom_jvp
        def run(arrays, y):
            g = guard(arrays, y)
            return (g > 0).astype(g.dtype), y

        @run.defjvp
        def rule(primals, tangents):
            arrays, y = primals
            node, z, inp, since, n, dt, taken = eqx.combine(arrays, static)
            g, dg = jax.jvp(guard, primals, tangents)
            field = node.vector_field(y, z, inp)
            if taken is not None:
                # the numbers' own direction, to order 2: that of a solver without errors, and that of a longer step
                longer = taken.longer(node, z, Clock(n, dt, jax.random.key(0), clock.name))
                field = jax.tree.map(lambda a, b: 0.5 * (a + b), field, longer)
            speed = jax.jvp(lambda y: guard(arrays, y), (y,), (field,))[1]
            # g was not above zero a step ago: it rose at least so fast
            speed = jnp.where(g > 0, jnp.maximum(speed, g / dt), jnp.ones_like(g))
            earlier = jnp.where(g > 0, dg / speed, jnp.zeros_like(g))
            interval = (since + 1).astype(g.dtype) * dt
            if self.exact_flow is None:
                warnings.warn(
                    f"The gradient of a population of {type(node.unit).__name__} is taken with every interval measured "
                    "from the spike before: right for its Events, while the derivatives of its traces leave out how "
                    "much earlier its spikes are. Record Events and Trace in two runs, or choose with "
                    "Population(surrogate=bs.Crossing(exact_flow=...)).",
                    stacklevel=2,
                )
            dy = tangents[1]
            if not self.exact_flow:
                dy = jax.tree.map(lambda t, f: t - f * earlier.reshape(earlier.shape + (1,) * (f.ndim - 1)), dy, field)
                forgotten = self._forgotten(node, y, z, inp, jnp.where(g > 0, interval, 0.0))
                own = {k: jnp.where(forgotten[k], jnp.zeros_like(t), t) for k, t in dy["unit"].items()}
                dy = dy | {"unit": own}
            return ((g > 0).astype(g.dtype), y), (earlier / interval, dy)

        return run(arrays, y)

    @staticmethod
    def _forgotten(node: Any, y: Any, z: Any, inp: Array, interval: Array) -> dict[str, Array]:
        """By variable of the unit: where it relaxes so fast at the spike that the next one does not feel it; `interval`
        is 0 where there is no spike."""

        def field(k, x):
            return node.vector_field(y | {"unit": y["unit"] | {k: x}}, z, inp)["unit"][k]

        rates = {k: jax.jvp(partial(field, k), (x,), (jnp.ones_like(x),))[1] for k, x in y["unit"].items()}
        per_unit = {k: interval.reshape(interval.shape + (1,) * (a.ndim - 1)) for k, a in rates.items()}
        return {k: jnp.abs(a) * per_unit[k] > _FORGETS for k, a in rates.items()}


def counted(since: Int[Array, " n"], s: Float[Array, " n"]) -> Int[Array, " n"]:
    """The counter after this step."""
    return jnp.where(s > 0, 0, jnp.minimum(since + 1, _MOST))
