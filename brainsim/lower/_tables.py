"""What the registers and the synaptic memory of a chip hold: tables of integers."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Int

from ._dialects import Dialect

DELAY_MAX = 62
"""Largest delay of a synapse (steps)."""
_BIAS_MANTISSA, _BIAS_EXPONENT = 2**12, 7


def integers(owner: str, name: str, x: Any, low: int, high: int) -> Int[np.ndarray, "..."]:
    """`x` as int64, all from `low` to `high`; raises TypeError or ValueError with `owner.name`."""
    a = np.asarray(x)
    if a.size == 0:
        a = a.astype(np.int64)
    if a.dtype == bool or not np.issubdtype(a.dtype, np.integer):
        raise TypeError(f"{owner}.{name} is of type {a.dtype}; expected integers. Round what is given, then convert.")
    bad = a[(a < low) | (a > high)]
    if bad.size:
        raise ValueError(f"{owner}.{name} contains {bad.flat[0]}; expected {low} to {high}. Mend the value given.")
    return a.astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """Registers of a group of CUBA LIF cells; each field one number, or one for every cell.

    Time constants are registers d of 12 bits: a state keeps `(4096 - d - offset) / 4096` a step. Raises TypeError for
    numbers that are no integers and ValueError for those outside of their register.
    """

    size: int
    """Number of cells."""
    threshold: Any
    """Mantissa of 17 bits; the cell spikes where v > 64 threshold."""
    decay_u: Any = 4095
    """Register of the decay of the current, 12 bits (brian2-loihi: 0 to 4096)."""
    decay_v: Any = 0
    """Register of the decay of the voltage, 12 bits (brian2-loihi: 0 to 4096)."""
    bias: Any = 0
    """Added to v in every step; a mantissa of 13 bits, sign included, times 2^0 to 2^7."""
    refractory: Any = 1
    """Steps from a spike to the first that can be another: 1 to 64."""
    v_min: Any = 1 - 2**23
    """Smallest v, where the dialect has limits for every cell: `1 - 2^e`."""
    v_max: Any = 2**23 - 1
    """Largest v, likewise: `2^(9 + 2 e) - 1`."""

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int | np.integer) or self.size < 1:
            raise ValueError(f"Cells.size is {self.size!r}; expected a whole number of cells >= 1.")
        ranges = {
            "threshold": (0, 2**17 - 1),
            "decay_u": (0, 4096),
            "decay_v": (0, 4096),
            "bias": (-_BIAS_MANTISSA << _BIAS_EXPONENT, (_BIAS_MANTISSA - 1) << _BIAS_EXPONENT),
            "refractory": (1, 64),
            "v_min": (1 - 2**23, 0),
            "v_max": (0, 2**23 - 1),
        }
        for name, (low, high) in ranges.items():
            a = integers("Cells", name, getattr(self, name), low, high)
            if a.shape not in ((), (self.size,)):
                raise ValueError(f"Cells.{name} has shape {a.shape}; expected () or ({self.size},), one for each cell.")
            object.__setattr__(self, name, np.broadcast_to(a, (self.size,)))
        mantissa, exponent = bias_registers(self.bias)
        if np.any(mantissa << exponent != self.bias):
            bad = self.bias[mantissa << exponent != self.bias][0]
            raise ValueError(
                f"Cells.bias contains {bad}; expected a mantissa from {-_BIAS_MANTISSA} to {_BIAS_MANTISSA - 1} times "
                f"2^0 to 2^{_BIAS_EXPONENT}, such as {nearest_bias(bad)}."
            )

    def check(self, name: str, dialect: Dialect) -> None:
        """Raise ValueError on what `dialect` does not have; `name` is that of the group."""
        for field, top in (("decay_u", dialect.decay_u_max), ("decay_v", dialect.decay_u_max)):
            integers(f"cells {name!r}: Cells", field, getattr(self, field), 0, top)
        if not dialect.bias and np.any(self.bias):
            raise ValueError(f"cells {name!r}: {dialect.name} has no bias; expected Cells.bias = 0.")
        if not dialect.refractory and np.any(self.refractory != 1):
            raise ValueError(f"cells {name!r}: {dialect.name} has no refractory period; expected Cells.refractory = 1.")


def bias_registers(bias: Any) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The mantissa (13 bits, sign included) and the exponent (0 to 7) of a bias, the smallest that holds it; what the
    exponent leaves over is cut off."""
    bias = np.asarray(bias, np.int64)
    exponent = np.zeros_like(bias)
    for e in range(_BIAS_EXPONENT):
        low, high = -_BIAS_MANTISSA << e, ((_BIAS_MANTISSA - 1) << e) + (1 << e) - 1
        exponent = np.where((bias < low) | (bias > high), e + 1, exponent)
    return bias >> exponent, exponent


def nearest_bias(bias: Any) -> Int[np.ndarray, "..."]:
    """The bias nearest to `bias` that the registers hold, halves to the even mantissa."""
    bias = np.asarray(bias, np.float64)
    best = np.clip(np.rint(bias), -_BIAS_MANTISSA, _BIAS_MANTISSA - 1)
    for e in range(1, _BIAS_EXPONENT + 1):
        other = np.clip(np.rint(bias / 2**e), -_BIAS_MANTISSA, _BIAS_MANTISSA - 1) * 2**e
        best = np.where(np.abs(other - bias) < np.abs(best - bias), other, best)
    return best.astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Synapses:
    """Synapses from the cells or inputs `pre` to the cells `post`: synapse j goes from `sources[j]` to `targets[j]`.

    An event adds `64 round(m 2^exponent)` to q of its target, m the mantissa on the grid of `bits` bits: steps of
    `2^(8 - bits)`, and where `mixed`, of twice that, as one bit is the sign's. The dialect says how it rounds. It
    arrives `1 + delay` steps after it was sent. Raises TypeError and ValueError as `Cells` does.
    """

    pre: str
    post: str
    sources: Any
    """Number of the sending unit of every synapse, (n_syn,)."""
    targets: Any
    """Number of the receiving cell of every synapse, (n_syn,)."""
    mantissa: Any
    """Weights, -256 to 255: one, or one for every synapse."""
    exponent: int = 0
    """Exponent of the weights."""
    bits: int = 8
    """Bits of a weight, 1 to 8."""
    mixed: bool = True
    """Whether weights of both signs share a list."""
    delay: Any = 0
    """Steps, 0 to 62: one, or one for every synapse."""

    def __post_init__(self) -> None:
        for name, high in (("sources", 2**31 - 1), ("targets", 2**31 - 1)):
            object.__setattr__(self, name, integers("Synapses", name, getattr(self, name), 0, high))
        n = np.shape(self.sources)
        if len(n) != 1 or np.shape(self.targets) != n:
            raise ValueError(
                f"Synapses: sources of shape {n} and targets of shape {np.shape(self.targets)}; expected two lists of "
                "one length."
            )
        low, high = (-256, 255) if self.mixed else (-255, 255)
        for name, ends in (("mantissa", (low, high)), ("delay", (0, DELAY_MAX))):
            a = integers("Synapses", name, getattr(self, name), *ends)
            if a.shape not in ((), n):
                raise ValueError(f"Synapses.{name} has shape {a.shape}; expected () or {n}, one for each synapse.")
            object.__setattr__(self, name, np.broadcast_to(a, n))
        integers("Synapses", "exponent", self.exponent, -8, 7)
        integers("Synapses", "bits", self.bits, 1, 8)
        if not self.mixed and np.any(self.mantissa > 0) and np.any(self.mantissa < 0):
            raise ValueError("Synapses.mantissa has both signs; expected one, or mixed=True.")

    @property
    def step(self) -> int:
        """The distance of two mantissas on the grid."""
        return 2 ** (8 - self.bits + self.mixed)

    def on_grid(self, name: str, dialect: Dialect) -> Int[np.ndarray, " n_syn"]:
        """The mantissas as the dialect rounds them to the grid; `name` is that of the synapses in its errors."""
        sign = np.ones_like(self.mantissa) if self.mixed else np.sign(self.mantissa)
        try:
            grid = sign * dialect.mantissa(sign * self.mantissa / self.step)
        except ValueError as e:
            raise ValueError(
                f"synapses {name!r}: mantissa / {self.step} = {e}. Give mantissas that {self.step} divides."
            ) from None
        top = 255 // self.step
        low = -top - 1 if self.mixed and not dialect.symmetric else -top
        return np.clip(grid, low, top) * self.step

    def words(self, name: str, dialect: Dialect) -> Int[np.ndarray, " n_syn"]:
        """What every synapse adds to q; where the dialect shifts the sum, what it adds before the shift."""
        low, high = dialect.exponents
        integers(f"synapses {name!r}: Synapses", "exponent", self.exponent, low, high)
        grid = self.on_grid(name, dialect)
        if self.shifts_sum(dialect):
            return grid
        try:
            rounded = dialect.exponent(grid * 2.0**self.exponent)
        except ValueError as e:
            raise ValueError(f"synapses {name!r}: mantissa 2^{self.exponent} = {e}. Raise the exponent.") from None
        largest = (255 // self.step) * self.step  # what is rounded stays within the grid
        words = np.minimum(rounded, math.floor(largest * 2.0**self.exponent)) * 64
        limit = dialect.weight_limit
        return words if limit is None else np.clip(words, -limit, limit)

    def shifts_sum(self, dialect: Dialect) -> bool:
        """Whether these synapses need a port of their own, whose sum is shifted down."""
        return dialect.shifts_sum and self.exponent < 0
