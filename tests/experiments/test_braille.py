"""What the Braille experiment claims, from its committed results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.braille.run import FOLDS, SEED, folds, recordings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/braille/results.json"


def test_every_fold_has_every_letter_and_every_recording_is_tested_once():
    data, names = recordings()
    fold = folds(data.y, FOLDS, SEED)
    counts = np.asarray([np.bincount(data.y[fold == k], minlength=len(names)) for k in range(FOLDS)])
    assert counts.sum() == len(data.y) == 1158
    assert np.all(np.ptp(counts, axis=0) <= 1)


def test_the_committed_run_is_as_good_as_it_says():
    results = json.loads(RESULTS.read_text())
    made = results["folds"]
    assert not results["quick"]
    assert len(made) == FOLDS
    confusion = np.asarray([f["confusion"] for f in made])
    assert confusion.sum() == 1158
    accuracies = np.trace(confusion, axis1=1, axis2=2) / confusion.sum((1, 2))
    np.testing.assert_allclose(accuracies, [f["accuracy"] for f in made], rtol=1e-6)
    assert np.mean(accuracies) >= 0.93
    assert np.mean(accuracies) == pytest.approx(results["summary"]["accuracy"])
    for f in made:
        assert f["chosen"] == min(f["validation"], key=lambda name: f["validation"][name]["cross_entropy"])
