"""Recordings as events in steps: Braille letters (bundled), spoken digits (the user's file)."""

import itertools
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


def _mel_filters(bands: int, fft: int, rate: float) -> Float[np.ndarray, "bins bands"]:
    """Triangles with equal distances on the mel scale, 2595 log10(1 + f / 700), from 100 Hz to half the rate."""
    mel = np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + rate / 1400), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    f = np.fft.rfftfreq(fft, 1 / rate)[:, None]
    rise, fall = (f - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - f) / np.diff(edges)[1:]
    return np.clip(np.minimum(rise, fall), 0.0, None)


def _levels(clip: np.ndarray, rate: int, bands: int, hop: int) -> Float[np.ndarray, "frames bands"]:
    """Energy of every band in windows of 25 ms, in decibels below the loudest of the clip, no less than -40."""
    size = round(0.025 * rate)
    clip = np.pad(clip.astype(float), (size // 2, size))
    starts = np.arange(0, len(clip) - size, hop)
    windows = clip[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, 256, axis=1)) ** 2 @ _mel_filters(bands, 256, rate)
    return np.maximum(10 * np.log10(power / power.max() + 1e-12), -40.0)


def spoken_digits(
    path: Path, *, dt: float = 20.0, bands: int = 20, step: float = 6.0, longest: float = 800.0
) -> tuple[Recordings, Recordings]:
    """Training and held-out recordings of the Free Spoken Digit Dataset as events of `2 * bands` channels.

    A channel sends an event when the level of its band has risen (or, the other half, fallen) by `step` dB since its
    last event, in frames of 10 ms, counted in steps of `dt`; what is said after `longest` ms is cut off.
    """
    with np.load(path) as z:
        audio, offsets, rate = z["audio"], z["offsets"], int(z["sample_rate"])
        y, split = z["label"].astype(np.int32), z["split"]
    frames, per = round(longest / 10.0), round(dt / 10.0)
    level = np.full((len(y), frames, bands), -40.0)
    for k, (a, b) in enumerate(itertools.pairwise(offsets)):
        one = _levels(audio[a:b], rate, bands, rate // 100)[:frames]
        level[k, : len(one)] = one
    x, last = np.zeros((len(y), frames, 2 * bands), np.float32), np.full((len(y), bands), -40.0)
    for t in range(frames):
        change = np.trunc((level[:, t] - last) / step)
        last += change * step
        x[:, t] = np.concatenate([change > 0, change < 0], axis=1)
    found = Recordings(x.reshape(len(y), frames // per, per, -1).sum(2), y, dt, 10)
    return found.part(split == 0), found.part(split == 1)
