"""The integer cell of Loihi as a unit, and the port through which its synapses add up."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Param, check_parameter, float_dtype, is_traced
from ..core import AbstractReceptor, AbstractUnit
from ._arithmetic import LIMIT, decay, shift_down, wrap_turns
from ._dialects import Dialect

_REFRACTORY_GUARD = -(2.0**23)
_SCALE = 64.0


def check_integers(owner: str, name: str, x: Any, low: float, high: float) -> None:
    """Raise unless all of `x` are whole numbers from `low` to `high`."""
    check_parameter(owner, name, x)
    if is_traced(x):
        return
    a = np.asarray(x)
    bad = a[(a != np.rint(a)) | (a < low) | (a > high)]
    if bad.size:
        raise ValueError(
            f"{owner}.{name} contains {bad.flat[0]:g}; expected whole numbers from {low:.0f} to {high:.0f}. "
            f"Build the cells by bs.lower.Image.of, which checks registers."
        )


def _exact(x: Float[Array, " n"], checked: bool) -> Float[Array, " n"]:
    """`x`, or NaN where it left the integers of float32 and `checked`: the run then stops with the name of the node."""
    return jnp.where(jnp.abs(x) < LIMIT, x, jnp.nan) if checked else x


def _turned(x: Float[Array, " n"], more: Float[Array, " n"], ends: tuple[int, int]) -> Float[Array, " n"]:
    """`x + more` wrapped once by 2^24 into `ends`, with the derivative of the identity.

    `x` is an integer below 2^24, `more` a multiple of 64 below 2^30. Their sum may be rounded, but only beyond 2^24,
    where it is outside of `ends` all the same; so the turn is known, and it is added to `more`, where it is exact.
    """
    (low, high), total = ends, x + more
    return x + (more - jnp.where(total > high, LIMIT, jnp.where(total < low, -LIMIT, 0.0)))


class ChipLIF(AbstractUnit):
    r"""CUBA LIF of Loihi in integers, carried exactly in floats: one step of 1 under `diffrax.Euler()`.

        u = wrap(decay(u, keep_u) + q);  v = clip(decay(v, keep_v) + u + bias, v_min, v_max);  spike where v > v_th

    with `decay(x, k) = sign(x) floor(|x| k / 4096)`; what of it a `Dialect` leaves out is not computed. After a spike
    v = 0 for `refractory - 1` more steps, while u goes on. q is the input of the unit: the sum of its `ChipPort`s.

    States and parameters are integers: u and v of 24 bits, keep of 0 to 4096 = no decay. float32 holds all of them and
    every intermediate; the vector field is the difference to the next state, which forward Euler with `dt = 1` adds
    back without rounding. Any other solver gives wrong numbers in silence: run it by an `Image`, which owns both.

    Derivatives are those of the relaxation `u' = keep_u u / 4096 + q`, `v' = keep_v v / 4096 + u' + bias` and v (1 - s)
    after it, taken at the integer states; a wrap passes them on, the clip of v does so inside its limits.

    `checked`: turn what leaves the integers of float32 (2^24) into NaN, which stops the run; for cells of which
    `Image` cannot prove that they stay inside.

    Source: Davies et al. 2018, doi:10.1109/MM.2018.112130359, and the `source` of the dialect.
    """

    keep_u: Param = 0.0
    """4096 less the decay of u, offset included (1/4096)."""
    keep_v: Param = 0.0
    """4096 less the decay of v (1/4096)."""
    v_th: Param = 6400.0
    """Threshold: 64 times its mantissa of 17 bits."""
    bias: Param = 0.0
    """Added to v in every step: a mantissa of 13 bits, sign included, times 2^0 to 2^7."""
    v_min: Param = float(1 - 2**23)
    """Smallest v, where the dialect clips."""
    v_max: Param = float(2**23 - 1)
    """Largest v, where the dialect clips."""
    refractory: Param = 1.0
    """Steps from a spike to the first that can be another: 1 to 64."""
    dialect: Dialect = eqx.field(static=True, kw_only=True)
    """The integer rules."""
    checked: bool = eqx.field(static=True, default=False)
    """Whether what leaves float32's integers becomes NaN."""

    def __check_init__(self) -> None:
        for name, low, high in (
            ("keep_u", 0, 4096),
            ("keep_v", 0, 4096),
            ("v_th", 0, 2**23 - 1),
            ("bias", -(2**19), 2**19),
            ("v_min", 1 - 2**23, 0),
            ("v_max", 0, 2**23 - 1),
            ("refractory", 1, 64),
        ):
            check_integers("ChipLIF", name, getattr(self, name), low, high)

    def init(self, n, clock):
        zero = jnp.zeros(n, float_dtype())
        return {"u": zero, "v": zero}, {"wait": zero} if self.dialect.refractory else {}

    def vector_field(self, y, z, inp):
        d = self.dialect
        kept = decay(y["u"], self.keep_u)
        u = kept + inp if d.u_range is None else _turned(kept, inp, d.u_range)
        u = _exact(u, self.checked)
        drive = u + self.bias if d.bias else u
        if d.wraps_bias and d.u_range is not None:
            drive = _turned(drive, jnp.zeros_like(drive), d.u_range)
        before = y["v"]
        if d.marker:
            before = jnp.where(z["wait"] > 0, 0.0, before)
        v = decay(before, self.keep_v) + drive
        if d.v_range is not None:
            v = jnp.clip(v, self.v_min, self.v_max)
        else:
            v = _exact(v, self.checked)
        if d.refractory:
            v = jnp.where(self._silent(z), jnp.zeros_like(v), v)
        return {"u": u - y["u"], "v": v - y["v"]}

    def _silent(self, z):
        """Where v is held at 0: `wait` counts the steps left, that of the spike included."""
        return z["wait"] > 1.0

    def guard(self, y, z):
        x = y["v"] - self.v_th
        return jnp.where(self._silent(z), _REFRACTORY_GUARD, x) if self.dialect.refractory else x

    def reset(self, y, z, s, inp, clock):
        v = y["v"] * (1.0 - s)
        if self.dialect.marker:
            v = v + self.dialect.marker * s
        if not self.dialect.refractory:
            return {"u": y["u"], "v": v}, {}
        wait = jnp.where(s > 0, self.refractory, jnp.maximum(z["wait"] - 1.0, 0.0))
        return {"u": y["u"], "v": v}, {"wait": wait}


class ChipPort(AbstractReceptor):
    r"""Where synapses of integer weights add up: q is what arrived in this step, and nothing of the step before.

    `q = 64 floor(x 2^shift)` of the arriving sum x where `shift < 0` (Lava's negative exponents), else x itself;
    `bits`: q wraps as a two's complement number of so many bits (nengo-loihi: 22).
    """

    shift: int = eqx.field(static=True, default=0)
    """Exponent, at most 0, that the sum is shifted by."""
    bits: int | None = eqx.field(static=True, default=None)
    """Bits of q, sign included; None: it does not wrap."""

    def init(self, n):
        return {"q": jnp.zeros(n, float_dtype())}

    def current(self, g, v):
        return g["q"]

    def vector_field(self, g):
        return {"q": jnp.zeros_like(g["q"])}

    def arrive(self, g, dg, y_unit):
        q = dg
        if self.shift < 0:
            q = shift_down(q * 2.0**self.shift) * _SCALE
        if self.bits is not None:
            q = wrap_turns(q, self.bits)
        return {"q": q}, y_unit
