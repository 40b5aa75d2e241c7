"""The points on which chips and their emulators disagree, each a field with a meaning of its own."""

import dataclasses
import enum

import numpy as np
from jaxtyping import Float, Int


class Rounding(enum.Enum):
    """How a number between two steps of a grid becomes one of them."""

    DOWN = "down"
    TOWARD_ZERO = "toward zero"
    NEAREST = "nearest, halves to the even step"
    NONE = "refused: it must lie on the grid"

    def __call__(self, x: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """`x` as int64; ValueError under `NONE` where there is something to round."""
        if self is Rounding.NONE and np.any(x != np.rint(x)):
            bad = np.asarray(x)[np.asarray(x) != np.rint(x)][0]
            raise ValueError(f"{bad:g} lies between two steps of the grid, and how the chip rounds it is not known")
        f = {Rounding.DOWN: np.floor, Rounding.TOWARD_ZERO: np.trunc}.get(self, np.rint)
        return f(x).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Dialect:
    r"""Integer rules of a CUBA LIF cell, as one chip or emulator has them.

    All share the step (Davies et al. 2018, doi:10.1109/MM.2018.112130359), with q what arrived in this step and
    `decay(x, k) = sign(x) floor(|x| k / 4096)`:

        u = decay(u, 4096 - decay_u - decay_u_offset) + q;  v = decay(v, 4096 - decay_v) + u + bias
        spike where v > 64 threshold; then v = 0, and for refractory - 1 steps v stays 0 while u goes on

    A synapse of mantissa m and exponent e adds `64 round(m 2^e)` to q, 1 + delay steps after the spike.
    """

    name: str
    source: str
    """Where the rules were read, and what they were compared with."""
    decay_u_offset: int
    """Added to the register of the decay of u."""
    mantissa: Rounding
    """Rounding of mantissas to their grid, whose step is twice as wide where a list holds both signs; of their
    magnitude where it holds one."""
    exponent: Rounding
    """Rounding of `m 2^e` where e < 0."""
    symmetric: bool = False
    """The grid of both signs ends at minus its largest mantissa, not a step below (-256)."""
    shifts_sum: bool = False
    """A negative exponent shifts the sum of what arrives over a connection, not every weight."""
    exponents: tuple[int, int] = (-8, 7)
    """Smallest and largest exponent of a weight."""
    decay_u_max: int = 4095
    """Largest value of the register of the decay of u; that of v goes to 4095, or to 4096 where this does."""
    weight_limit: int | None = None
    """Largest magnitude of `64 round(m 2^e)`; beyond, it is clipped."""
    q_bits: int | None = None
    """Two's complement bits of q, sign included, that wrap around any number of turns; None: no wrap."""
    u_range: tuple[int, int] | None = None
    """Range of u, which wraps around by 2^24 beyond either end; None: no wrap."""
    wraps_bias: bool = False
    """`u + bias` wraps as u does."""
    v_range: tuple[int, int] | None = None
    """Range that v is clipped to, where the cells have no limits of their own; None: v is not clipped."""
    refractory: bool = True
    """Cells have a refractory period."""
    bias: bool = True
    """Cells have a bias."""
    marker: int = 0
    """What v reads in the step of a spike; the next step starts from 0 all the same."""


_HALF = 2**23

NENGO_LOIHI = Dialect(
    "nengo-loihi",
    "nengo-loihi 1.1.0, emulator/interface.py and builder/discretize.py",
    decay_u_offset=1,
    mantissa=Rounding.NEAREST,
    exponent=Rounding.NEAREST,
    symmetric=True,
    exponents=(-7, 7),
    q_bits=22,
    u_range=(-_HALF, _HALF - 1),
    wraps_bias=True,
    v_range=(1 - _HALF, _HALF - 1),
)
"""The emulator of nengo-loihi 1.1: q wraps at 22 bits, u and u + bias at 24, v is clipped to the limits of the cell."""

BRIAN2_LOIHI = Dialect(
    "brian2-loihi",
    "brian2-loihi 0.5.2, loihi_neuron_group.py and loihi_synapses.py",
    decay_u_offset=0,
    mantissa=Rounding.TOWARD_ZERO,
    exponent=Rounding.DOWN,
    decay_u_max=4096,
    weight_limit=2**21 - 2**6,
    bias=False,
)
"""brian2-loihi 0.5: no wrap and no clip of a state, decays of 0 to 4096 without offset, no bias."""

LAVA = Dialect(
    "lava",
    "lava-nc 0.10.0, proc/lif/models.py and proc/dense/models.py",
    decay_u_offset=1,
    mantissa=Rounding.DOWN,
    exponent=Rounding.DOWN,
    shifts_sum=True,
    u_range=(1 - _HALF, _HALF),
    v_range=(1 - _HALF, _HALF - 1),
    refractory=False,
)
"""The bit-accurate models of Lava 0.10: u reaches +2^23 before it wraps, no refractory period."""

LOIHI = Dialect(
    "loihi-chip",
    "Davies et al. 2018; the recorded board trace of NIR's single LIF (paper/01_lif): decay_u 4095 holds no current, v "
    "reads 128 in the step of a spike. No recording decides odd mantissas of both signs and negative exponents that "
    "leave a fraction, so they are refused, nor what happens beyond 24 bits: u wraps, v is clipped, as in nengo-loihi.",
    decay_u_offset=1,
    mantissa=Rounding.NONE,
    exponent=Rounding.NONE,
    u_range=(-_HALF, _HALF - 1),
    v_range=(1 - _HALF, _HALF - 1),
    marker=128,
)
"""What recordings of chips say; what they leave open is refused or stated in `source`."""

DIALECTS = {d.name: d for d in (NENGO_LOIHI, BRIAN2_LOIHI, LAVA, LOIHI)}
"""Dialects by name."""
