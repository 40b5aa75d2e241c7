"""Rules of plasticity: what an event on either side of a synapse does to it."""

import abc
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import float_dtype
from ..core import Parametrised
from ._traces import Spec, flowed


class AbstractPlasticity(Parametrised):
    """A rule by which synapses change: traces of the units, a part for pre events, a part for post events, bounds.

    `on_pre` is applied to all synapses of a unit that emits an event, `on_post` to all synapses onto one. Both are
    functions of numbers: `syn` has the values of the synapse (`syn.w`), `pre` and `post` the traces of its two ends,
    `mod` is the modulator of the edge (None without one). They return the values that change. Traces are seen as they
    were before the events of the step. `value` of an end is that of its event; of the other end it is 0 unless that
    end has an event too, whose part has acted before. After each part `w` is clipped to `[w_min, w_max]`, where the
    rule has such fields.

    Fields are parameters: numbers, or arrays with one value per post unit; a field may also be a module, such as a
    `bs.AbstractBound`.

    !!! Example
        ```python
        class Hebb(bs.AbstractPlasticity):
            tau: float = 20.0  # ms
            rate: float = 0.01
            w_max: float = 1.0

            def traces(self):
                return {"x": bs.SpikeTrace("pre", self.tau)}

            def on_post(self, syn, pre, post, mod):
                return {"w": syn.w + self.rate * (pre.x - syn.w)}
        ```
    """

    @abc.abstractmethod
    def traces(self) -> dict[str, Spec]:
        """The traces by name: `SpikeTrace`, `LowPass` or `Integral`; one may read those above it."""

    def synapse(self) -> dict[str, Any]:
        """Values of every synapse beside its weight, by name, with what they begin with."""
        return {}

    def on_pre(self, syn: SimpleNamespace, pre: SimpleNamespace, post: SimpleNamespace, mod: Any) -> dict[str, Any]:
        """What changes at a pre event."""
        del syn, pre, post, mod
        return {}

    def on_post(self, syn: SimpleNamespace, pre: SimpleNamespace, post: SimpleNamespace, mod: Any) -> dict[str, Any]:
        """What changes at a post event."""
        del syn, pre, post, mod
        return {}

    def post_events(self, value: Array, post: SimpleNamespace, dt: Array) -> Array:
        """Where `on_post` is due, and its `post.value`: by default at the spikes. `post` has the variables of the unit
        and its traces, `dt` is the step (ms). For rules that follow the membrane potential."""
        del post, dt
        return value

    def totals(self) -> tuple[Any, float] | None:
        """`(total, every)`: the weights onto each post unit are scaled to this sum every so many ms; None: never."""
        return None

    def bounded(self, w: Array) -> Array:
        """`w` within the bounds."""
        low, high = self.bounds
        w = w if low is None else jnp.maximum(w, low)
        return w if high is None else jnp.minimum(w, high)

    @property
    def bounds(self) -> tuple[Any, Any]:
        """`(w_min, w_max)`, None where there is none."""
        return getattr(self, "w_min", None), getattr(self, "w_max", None)


class AbstractBound(Parametrised):
    """How much of a change is left near a bound: factors of potentiation and depression."""

    @abc.abstractmethod
    def up(self, w: Array, low: Any, high: Any) -> Any:
        """The factor of a potentiation."""

    @abc.abstractmethod
    def down(self, w: Array, low: Any, high: Any) -> Any:
        """The factor of a depression."""


class Additive(AbstractBound):
    """Changes do not depend on the weight, which is clipped at its bounds. Source: Song, Miller & Abbott 2000,
    doi:10.1038/78829."""

    def up(self, w, low, high):
        return 1.0

    def down(self, w, low, high):
        return 1.0


_NEAREST = 1e-6  # of the range: nearer to a bound, a power below 1 has no finite derivative


class PowerLaw(AbstractBound):
    r"""Changes shrink near the bounds: `((w_max - w) / r)^{mu_plus}` up, `((w - w_min) / r)^{mu_minus}` down, with
    `r = w_max - w_min`.

    Exponents 1 are the multiplicative rule, 0 the additive one. Within 1e-6 of the range from a bound the factor is
    that at this distance, so that its derivative is finite. Source: Gütig, Aharonov, Rotter & Sompolinsky 2003,
    doi:10.1523/JNEUROSCI.23-09-03697.2003.
    """

    mu_plus: Any = 0.4
    mu_minus: Any = 0.4

    def up(self, w, low, high):
        return jnp.maximum((high - w) / (high - low), _NEAREST) ** self.mu_plus

    def down(self, w, low, high):
        return jnp.maximum((w - low) / (high - low), _NEAREST) ** self.mu_minus


class Multiplicative(AbstractBound):
    """Changes in proportion to the distance from the bound that they lead to: `(w_max - w) / r` up, `(w - w_min) / r`
    down, with `r = w_max - w_min`. Source: van Rossum, Bi & Turrigiano 2000, doi:10.1523/JNEUROSCI.20-23-08812.2000."""

    def up(self, w, low, high):
        return (high - w) / (high - low)

    def down(self, w, low, high):
        return (w - low) / (high - low)


RESERVED = ("w", "value", "s")


def check_rule(where: str, rule: Any, variables: list[str], modulated: bool) -> None:
    """Raise unless the parts of a rule fit each other and the `variables` of the post unit."""
    kind = type(rule).__name__
    specs, extra = rule.traces(), rule.synapse()
    if not isinstance(specs, dict) or not all(isinstance(x, Spec) for x in specs.values()):
        raise TypeError(
            f"{where}.rule: {kind}.traces() returned {specs!r}; expected a dict of bs.SpikeTrace, bs.LowPass or "
            "bs.Integral by name."
        )
    for name in (*specs, *extra):
        if name in RESERVED or (name in specs and name in extra) or not name.isidentifier():
            raise ValueError(
                f"{where}.rule: {kind} has a trace or a value of synapses called {name!r}; expected names used once, "
                f"other than {', '.join(RESERVED)}. Rename it."
            )
        if name in specs and specs[name].side not in ("pre", "post"):
            raise ValueError(f"{where}.rule: the side of trace {name!r} is {specs[name].side!r}; expected pre or post.")
    number = jax.ShapeDtypeStruct((), float_dtype())
    mod = number if modulated else None
    hint = "" if modulated else " The edge has no modulator, so that `mod` is None: name one with modulator=."
    ends = {side: {k: number for k, x in specs.items() if x.side == side} for side in ("pre", "post")}
    unit = {"pre": {}, "post": dict.fromkeys(variables, number)}
    for side, names in ends.items():
        own = {k: specs[k] for k in names}
        try:
            jax.eval_shape(
                lambda z, unit, mod, dt, own=own: flowed(own, z, unit, mod, dt), names, unit[side], mod, number
            )
        except Exception as e:
            raise TypeError(
                f"{where}.rule: the traces of {kind} fail with {type(e).__name__}: {e}. The {side} unit has "
                f"{', '.join(unit[side]) or 'no variables'}.{hint}"
            ) from e
    syn = dict.fromkeys(("w", *extra), number)
    given = {side: x | {"value": number} for side, x in ends.items()}
    for part in ("on_pre", "on_post"):

        def call(syn, pre, post, mod, part=part):
            return getattr(rule, part)(*(SimpleNamespace(**x) for x in (syn, pre, post)), mod)

        try:
            made = jax.eval_shape(call, syn, given["pre"], given["post"], mod)
        except Exception as e:
            known = [f"{side}.{k}" for side, x in given.items() for k in x] + [f"syn.{k}" for k in syn]
            text = f"{where}.rule: {kind}.{part} fails with {type(e).__name__}: {e}. It is given {', '.join(known)}."
            raise TypeError(text + hint) from e
        if not isinstance(made, dict) or not set(made) <= set(syn):
            raise TypeError(
                f"{where}.rule: {kind}.{part} returned {made!r}; expected a dict with some of {', '.join(syn)}."
            )
