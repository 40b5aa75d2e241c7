"""The bundled Braille events, and the classifier that a spiking network has to beat."""

from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

LETTERS = 7
BIN_MS = 5.0
"""Width of a bin of the recordings (ms)."""


class Letters(NamedTuple):
    """Recordings and what was read: `x` (n, 256, 12) events in bins of 5 ms on 12 sensors, `y` (n,) the letter 0..6."""

    x: Float[np.ndarray, "n t sensor"]
    y: Int[np.ndarray, " n"]


def path():
    """Where the bundled recordings are."""
    return resources.files("brainsim._demo") / "braille_events.npz"


def load() -> tuple[Letters, Letters, tuple[str, ...]]:
    """Training set (927), held-out set (231) and the names of the letters.

    Source: Mueller-Cleve et al. 2022, doi:10.3389/fnins.2022.951164; see braille_events.LICENCE.txt.
    """
    with path().open("rb") as file, np.load(file) as z:
        x, y, split = z["spikes"].astype(np.float32), z["label"].astype(np.int32), z["split"]
        names = tuple(str(name) for name in z["class_names"])
    return Letters(x[split == 0], y[split == 0]), Letters(x[split == 1], y[split == 1]), names


def rebin(x: Float[np.ndarray, "n t sensor"], bins: int) -> Float[np.ndarray, "n bin sensor"]:
    """Events counted in `bins` equal bins."""
    n, t, sensors = x.shape
    if t % bins:
        raise ValueError(f"rebin: {t} bins do not divide into {bins}; give a divisor of {t}.")
    return x.reshape(n, bins, t // bins, sensors).sum(2)


class Ridge(NamedTuple):
    """A ridge classifier: its held-out accuracy and the regularisation that was selected for it."""

    accuracy: float
    strength: float


def ridge(train: Letters, test: Letters, *, bins: int = 16, seed: int = 0) -> Ridge:
    """Linear least squares from event counts in `bins` time bins to the letters, with an L2 penalty.

    W = (A^T A + lambda I)^-1 A^T T with A the standardised counts and T = +-1 targets. lambda is the one with the best
    accuracy in five folds of the training set. Source: Hoerl & Kennard 1970.
    """
    x, y, x_test = rebin(train.x, bins), train.y, rebin(test.x, bins)
    x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    fold = np.random.default_rng(seed).permutation(len(y)) % 5
    strengths = np.geomspace(1.0, 3000.0, 15)
    right = [_solve(x[fold != k], y[fold != k], x[fold == k], strengths) == y[fold == k] for k in range(5)]
    best = strengths[np.argmax(np.mean([np.mean(r, axis=1) for r in right], axis=0))]
    return Ridge(float(np.mean(_solve(x, y, x_test, best[None]) == test.y)), float(best))


def _solve(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """The letters (strength, n_new) that ridge regression fitted to (x, y) reads in `x_new`, for every strength."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    a, b = (np.column_stack([(v - mean) / spread, np.ones(len(v))]).astype(np.float64) for v in (x, x_new))
    target = np.where(np.arange(LETTERS)[None, :] == y[:, None], 1.0, -1.0)
    # One eigendecomposition serves every strength: (A^T A + lambda I)^-1 = U (S + lambda)^-1 U^T.
    s, u = np.linalg.eigh(a.T @ a)
    projected, right_side = b @ u, u.T @ (a.T @ target)
    return np.stack([np.argmax(projected @ (right_side / (s + c)[:, None]), axis=1) for c in strengths])
