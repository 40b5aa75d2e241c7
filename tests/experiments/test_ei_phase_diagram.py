"""The measures of the phase diagram on trains that are known, and what it claims from its committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.ei_phase_diagram.run import CE, CI, POINTS, irregularity, synchrony

RESULTS = Path(__file__).parents[2] / "experiments/ei_phase_diagram/results.json"


def test_measures_of_regular_random_and_common_trains():
    rng = np.random.default_rng(0)
    regular = np.zeros((4000, 50), np.float32)
    for k in range(50):
        regular[k::80, k] = 1.0
    random = (rng.random((40_000, 50)) < 0.02).astype(np.float32)
    assert float(irregularity(regular)) < 1e-3
    assert float(irregularity(random)) == pytest.approx(1.0, abs=0.03)  # geometric: sqrt(1 - p)
    assert float(irregularity(np.zeros((100, 5), np.float32))) == 0.0
    assert float(synchrony(np.repeat(random[:, :1], 50, 1))) == pytest.approx(1.0, abs=1e-3)
    assert float(synchrony(random)) == pytest.approx(50**-0.5, abs=0.02)


def test_the_committed_run_is_a_full_grid_with_the_borders_of_the_source():
    results = json.loads(RESULTS.read_text())
    assert not results["quick"]
    assert results["flagged"] == 0
    assert set(results["points"]) == set(POINTS)
    g, eta = np.asarray(results["g"]), np.asarray(results["eta"])
    rate, cv = np.asarray(results["rate"]), np.asarray(results["cv"])
    balance = CE / CI
    assert rate.shape == cv.shape == (len(g), len(eta))
    assert np.max(rate[g > balance][:, eta < 0.55]) < 1.0
    driven = eta > 1.2
    assert np.min(rate[g < balance - 1.0][:, driven]) > 2 * np.max(rate[g > balance + 1.0][:, driven & (eta < 1.6)])
    assert np.max(cv[g < balance - 1.0][:, driven]) < np.min(cv[g > balance + 1.0][:, driven])
