"""Recordings as events in steps: Braille letters (bundled), spoken digits (the user's file)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

import brainsim as bs

BRAILLE = Path(bs.__file__).parent / "_demo" / "braille_events.npz"


class Recordings(NamedTuple):
    """`x` events of every channel in every step of `dt` ms, `y` what was written or said."""

    x: Float[np.ndarray, "n t channel"]
    y: Int[np.ndarray, " n"]
    dt: float
    classes: int

    def part(self, chosen: np.ndarray) -> "Recordings":
        return self._replace(x=self.x[chosen], y=self.y[chosen])


def braille(dt: float = 20.0) -> tuple[Recordings, Recordings]:
    """Training and held-out recordings of 12 tactile sensors, 1.28 s each. Source: Mueller-Cleve et al. 2022."""
    with np.load(BRAILLE) as z:
        x, y, split = z["spikes"].astype(np.float32), z["label"].astype(np.int32), z["split"]
    n, t, sensors = x.shape
    per = round(dt / 5.0)
    all_ = Recordings(x.reshape(n, t // per, per, sensors).sum(2), y, dt, 7)
    return all_.part(split == 0), all_.part(split == 1)
