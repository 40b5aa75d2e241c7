"""Neurons in discrete time, as the libraries of deep learning and chips update them."""

import enum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import FrozenDict, Param, check_parameter, float_dtype, parameter, unknown
from ..core import AbstractNode, AbstractSurrogate, Emitted, HalfDrop, Structure, Triangular


class Reset(enum.Enum):
    """What a spike does to v."""

    NONE = "none"
    """Nothing."""
    ZERO = "zero"
    """v goes to `v_reset`."""
    SUBTRACT = "subtract"
    """v loses `v_th` for every spike."""
    RESIDUE = "residue"
    """As SUBTRACT; where v lay above threshold already, the spike is that of v less `v_th` (snnTorch)."""
    LATE_ZERO = "late zero"
    """v goes to 0 in the step after the spike."""
    LATE_SUBTRACT = "late subtract"
    """v loses `v_th` in the step after the spike, once it has decayed."""


_REMEMBERS = (Reset.RESIDUE, Reset.LATE_ZERO, Reset.LATE_SUBTRACT)


def _optional(x: Any) -> Any:
    return None if x is None else parameter(x)


class DiscreteNeurons(AbstractNode):
    r"""`size` neurons that are updated once a step; with x what arrives in the step,

    $$i \leftarrow \alpha\, i + g_i (x + b), \qquad v \leftarrow \beta\, v + g_v\, i + c, \qquad
    s = [v > v_\mathrm{th}],$$

    and then the reset. Without `alpha` there is no i, and $g_v (x + b)$ enters v. Without `v_th` nothing spikes and v
    itself is sent on in every step. The numbers need no unit; a step is that of the run. Units of this kind are exact
    where `LIF` under a solver is exact to rounding: with weights and decays that are sums of few powers of two a unit
    can lie on its threshold, and `at_threshold` decides.

    **Arguments:**

    - `size`: number of neurons.
    - `alpha`: what i keeps in a step; None: there is no i.
    - `beta`: what v keeps in a step, 1 for a perfect integrator, 0 for none.
    - `gain_i`, `gain_v`: $g_i$ and $g_v$.
    - `bias`: $b$ as a sum: name -> number or array (size,). `late`: names of those that are absent in step 0.
    - `offset_i`, `offset_v`: constants added to i and v in every step.
    - `v_th`: threshold; None: v is sent on.
    - `reset`: a `Reset`. `v_reset`: where `Reset.ZERO` goes.
    - `at_threshold`: whether v = v_th is a spike.
    - `several`: whether a neuron emits `trunc(v / v_th)` spikes in a step.
    - `v_min`: lower bound of v, or None.
    - `i_start`, `v_start`: values before the first step.
    - `surrogate`: derivative of the spike; None: the default of `Population` for a reset from v_th to 0.

    Port `x` takes what arrives, and `inputs` adds to it.

    Source: Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9 (NIR); Eshraghian et al. 2023,
    doi:10.1109/JPROC.2023.3308088 (alpha, beta, resets).
    """

    size: int = eqx.field(static=True)
    beta: Param = eqx.field(converter=parameter, default=1.0)
    alpha: Param | None = eqx.field(converter=_optional, default=None, kw_only=True)
    gain_i: Param = eqx.field(converter=parameter, default=1.0, kw_only=True)
    gain_v: Param = eqx.field(converter=parameter, default=1.0, kw_only=True)
    bias: dict[str, Param] = eqx.field(default_factory=dict, kw_only=True)
    late: tuple[str, ...] = eqx.field(static=True, default=(), kw_only=True)
    offset_i: Param = eqx.field(converter=parameter, default=0.0, kw_only=True)
    offset_v: Param = eqx.field(converter=parameter, default=0.0, kw_only=True)
    v_th: Param | None = eqx.field(converter=_optional, default=None, kw_only=True)
    v_reset: Param = eqx.field(converter=parameter, default=0.0, kw_only=True)
    v_min: Param | None = eqx.field(converter=_optional, default=None, kw_only=True)
    i_start: Param = eqx.field(converter=parameter, default=0.0, kw_only=True)
    v_start: Param = eqx.field(converter=parameter, default=0.0, kw_only=True)
    reset: Reset = eqx.field(static=True, default=Reset.ZERO, kw_only=True)
    at_threshold: bool = eqx.field(static=True, default=False, kw_only=True)
    several: bool = eqx.field(static=True, default=False, kw_only=True)
    surrogate: AbstractSurrogate | None = eqx.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 0:
            raise ValueError(f"DiscreteNeurons.size is {self.size!r}; expected a whole number >= 0. Pass an int.")
        if not isinstance(self.reset, Reset):
            raise TypeError(f"DiscreteNeurons.reset is {self.reset!r}; expected one of {[str(r) for r in Reset]}.")
        if not isinstance(self.surrogate, AbstractSurrogate | None):
            raise TypeError(
                f"DiscreteNeurons.surrogate is {self.surrogate!r}; expected one such as bs.Triangular(). "
                "Pass an instance."
            )
        for name in self.late:
            if name not in self.bias:
                raise ValueError(f"DiscreteNeurons.late: {unknown('bias', name, self.bias)}")
        bias = {name: parameter(b) for name, b in self.bias.items()}
        self.bias = FrozenDict(bias, "DiscreteNeurons.bias")

    def _parameters(self) -> dict[str, Any]:
        names = ("beta", "alpha", "gain_i", "gain_v", "offset_i", "offset_v", "v_th", "v_reset", "v_min")
        own = {name: getattr(self, name) for name in (*names, "i_start", "v_start")}
        return {k: x for k, x in own.items() if x is not None} | {f"bias[{k!r}]": b for k, b in self.bias.items()}

    @property
    def structure(self) -> Structure:
        return Structure.DIAGONAL

    @property
    def spiking(self) -> bool:
        return self.v_th is not None

    @property
    def ports(self) -> dict[str, int]:
        return {"x": self.size}

    def check(self, name: str) -> None:
        for field, x in self._parameters().items():
            check_parameter(f"DiscreteNeurons {name!r}", field, x)
            if jnp.shape(x) not in ((), (self.size,)):
                raise ValueError(
                    f"DiscreteNeurons {name!r}: {field} has shape {jnp.shape(x)}; expected () or ({self.size},). "
                    "Pass a number or an array of one value per neuron."
                )

    def init(self, clock):
        def full(x):
            return jnp.broadcast_to(jnp.asarray(x, float_dtype()), (self.size,))

        y = {"v": full(self.v_start)} | ({} if self.alpha is None else {"i": full(self.i_start)})
        z = {"x": full(0.0)}
        if self.v_th is not None and self.reset in _REMEMBERS:
            z["spiked"] = full(0.0)
        return y, z

    def arrive(self, y, z, arrivals):
        return y, z | {"x": arrivals["x"]} if "x" in arrivals else z

    def vector_field(self, y, z, inp):
        return jax.tree.map(jnp.zeros_like, y)

    def diffusion(self, y, z):
        return None

    def _input(self, x: Array, clock: Any) -> Array:
        for name in sorted(self.bias):
            there = jnp.where(clock.n > 0, self.bias[name], jnp.zeros_like(self.bias[name]))
            x = x + (there if name in self.late else self.bias[name])
        return x

    @property
    def derivative(self) -> AbstractSurrogate:
        """The derivative of the spike: the surrogate given, or the default."""
        if self.surrogate is not None:
            return self.surrogate
        if self.reset is Reset.NONE or self.v_th is None:
            return Triangular()
        drop = self.v_th - self.v_reset if self.reset is Reset.ZERO else self.v_th
        return HalfDrop(jnp.where(drop > 0, drop, jnp.ones_like(drop)))  # pyright: ignore[reportCallIssue]

    def _spikes(self, v: Array) -> tuple[Array, Any]:
        """`(s, support)` of units at `v`."""
        assert self.v_th is not None
        guard, derivative = v - self.v_th, self.derivative
        if self.at_threshold:
            least = jnp.asarray(jnp.finfo(v.dtype).tiny, v.dtype)
            guard = guard + jax.lax.stop_gradient(jnp.where(guard == 0, least, jnp.zeros_like(guard)))
        s = derivative(guard)
        if self.several:
            many = jnp.where(v > 0, jnp.trunc(v / self.v_th), jnp.zeros_like(v))
            s = s + jax.lax.stop_gradient(many - s)
        return s, derivative.support(guard)

    def jump(self, y, z, inp, clock):
        x = self._input(z["x"] + inp, clock)
        after = dict(y)
        if self.alpha is not None:
            x = after["i"] = self.alpha * y["i"] + self.gain_i * x + self.offset_i
        v = self.beta * y["v"] + self.gain_v * x + self.offset_v
        if self.v_th is None:
            return after | {"v": v}, z, Emitted(v)
        before = z.get("spiked")
        if self.reset is Reset.LATE_ZERO:
            v = v - before * v
        elif self.reset in (Reset.LATE_SUBTRACT, Reset.RESIDUE):
            v = v - before * self.v_th
        s, support = self._spikes(v)
        spiked = s
        if self.reset is Reset.ZERO:
            v = v + s * (self.v_reset - v)
        elif self.reset is Reset.SUBTRACT:
            v = v - s * self.v_th
        elif self.reset is Reset.RESIDUE:
            v = v - (s - before) * self.v_th
            spiked = self._spikes(v)[0]
        if self.v_min is not None:
            v = jnp.maximum(v, self.v_min)
        z = z if before is None else z | {"spiked": spiked}
        return after | {"v": v}, z, Emitted(s, support, single=not self.several)

    def find(self, y, z, variable):
        if variable not in (known := y | z):
            raise KeyError(unknown("state variable", variable, known))
        return known[variable]
