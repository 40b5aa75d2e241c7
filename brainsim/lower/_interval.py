"""Bounds of u, v and every partial sum of a cell, from its weights and decays alone."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from ._arithmetic import LIMIT
from ._dialects import Dialect
from ._tables import Cells


@dataclasses.dataclass(frozen=True, eq=False)
class Bounds:
    """Intervals that hold for every input of 0 or 1 events a synapse and step, and what follows; arrays (n,)."""

    u_low: Float[np.ndarray, " n"]
    u_high: Float[np.ndarray, " n"]
    v_low: Float[np.ndarray, " n"]
    v_high: Float[np.ndarray, " n"]
    exact: Bool[np.ndarray, " n"]
    """No state leaves the integers of float32 (2^24) and no sum is rounded: the words of a run are right whatever
    comes in."""
    steady: Bool[np.ndarray, " n"]
    """Neither a wrap nor a clip can happen."""

    def __str__(self) -> str:
        n, exact = self.exact.size, int(self.exact.sum())
        watched = f" ({n - exact} may not be and are watched)" if exact < n else ""
        return f"{n} cells: exact in float32 {exact}{watched}, never wrapped or clipped {int(self.steady.sum())}"


def bounds(
    cells: Cells, dialect: Dialect, positive: Float[np.ndarray, " n"], negative: Float[np.ndarray, " n"]
) -> Bounds:
    r"""Bounds of cells whose words add up to `positive` and `negative` (both (n,), >= 0 and <= 0).

    With a = keep_u / 4096, `u <= P / (1 - a)`, as truncation only shrinks; a cell above its threshold is reset, so with
    b = keep_v / 4096 `v <= 64 threshold b + u_high + bias`, and `v >= (u_low + bias) / (1 - b)`. Where nothing decays a
    bound is infinite. A wrap by 2^24 keeps u in its range as long as `|u| a + |q|` is at most half as much again, a
    clip keeps v in its own: exactness then asks for nothing else.
    """
    a = (4096 - cells.decay_u - dialect.decay_u_offset) / 4096
    b = (4096 - cells.decay_v) / 4096
    steady = np.ones(cells.size, bool)
    # weights are multiples of 64, or small numbers that a port shifts: partial sums are exact far beyond 2^24
    exact = np.maximum(positive, -negative) < 32 * LIMIT
    q_low, q_high = negative, positive
    if dialect.q_bits is not None:
        half = 2.0 ** (dialect.q_bits - 1)
        steady &= (q_low >= -half) & (q_high < half)
        turned = (q_low < -half) | (q_high >= half)
        q_low, q_high = np.where(turned, -half, q_low), np.where(turned, half - 1, q_high)
    u_low, u_high = _geometric(q_low, a), _geometric(q_high, a)
    if dialect.u_range is not None:
        low, high = dialect.u_range
        inside = (u_low >= low) & (u_high <= high)
        exact &= inside | (np.maximum(-low, high) * a + np.maximum(q_high, -q_low) <= LIMIT + min(-low, high))
        steady &= inside
        u_low, u_high = np.where(inside, u_low, low), np.where(inside, u_high, high)
    else:
        exact &= np.maximum(u_high, -u_low) < LIMIT
    drive_low, drive_high = u_low + cells.bias, u_high + cells.bias
    if dialect.wraps_bias and dialect.u_range is not None:
        low, high = dialect.u_range
        inside = (drive_low >= low) & (drive_high <= high)
        steady &= inside
        drive_low, drive_high = np.where(inside, drive_low, low), np.where(inside, drive_high, high)
    v_low = np.minimum(_geometric(np.minimum(drive_low, 0.0), b), 0.0)
    v_high = 64.0 * cells.threshold * b + np.maximum(drive_high, 0.0)
    if dialect.v_range is not None:
        steady &= (v_low >= cells.v_min) & (v_high <= cells.v_max)
        v_low, v_high = np.maximum(v_low, cells.v_min), np.minimum(v_high, cells.v_max)
    else:
        exact &= np.maximum(v_high, -v_low) < LIMIT
    return Bounds(u_low, u_high, v_low, v_high, exact, steady)


def _geometric(x: Float[np.ndarray, " n"], keep: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The limit of `s = keep s + x`, 0 where x is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0.0, x / (1.0 - keep))
