"""What the Braille experiment claims, from its committed results; and that its quick run writes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.braille.run import FOLDS, SEED, folds, recordings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/braille/results.json"


def keys(x):
    """The nested keys of a JSON object, with lists as one of their members and variants as one of theirs."""
    if isinstance(x, dict):
        return {k: keys(next(iter(v.values()))) if k in NAMED else keys(v) for k, v in x.items()}
    return keys(x[0]) if isinstance(x, list) and x else type(x).__name__


NAMED = ("settings", "validation", "ablation")
"""Objects whose keys are names of variants."""


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


@pytest.mark.slow
def test_the_quick_run_writes_what_the_full_one_does(tmp_path):
    out = tmp_path / "quick.json"
    command = [sys.executable, "-m", "experiments.braille", "--quick", "--out", str(out)]
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=os.environ | {"JAX_ENABLE_X64": "0"})
    quick = json.loads(out.read_text())
    assert quick["quick"]
    assert keys(quick) == keys(json.loads(RESULTS.read_text()))
    (fold,) = quick["folds"]
    assert np.all(np.isfinite([v["cross_entropy"] for v in fold["validation"].values()]))
    assert 2.0 / 7.0 < fold["accuracy"] <= 1.0  # twice chance
    assert sum(map(sum, fold["confusion"])) == fold["samples"]
    assert fold["wall_s"] < 300.0
