"""What the experiments on fits claim, from their committed results; and that they run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HH = ROOT / "experiments/hh_recovery"


def run(name, *options):
    env = os.environ | {"JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-m", f"experiments.{name}", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env)


def keys(x):
    """The nested keys of a JSON object, with lists as one of their members."""
    if isinstance(x, dict):
        return {k: keys(v) for k, v in x.items()}
    return keys(x[0]) if isinstance(x, list) and x and isinstance(x[0], dict) else None


def test_at_least_70_percent_of_the_starts_find_the_cell():
    results = json.loads((HH / "results.json").read_text())
    assert not results["quick"]
    bounds = np.asarray([results["relative_bound"][name] for name in results["true"]])
    errors = np.asarray(results["fits"]["then one run"]["relative_errors"])
    assert errors.shape == (20, len(bounds))
    assert results["settings"]["start_range"] == [0.5, 1.5]
    assert (bounds < 0.01).sum() >= 5
    assert np.mean(np.all(errors[:, bounds < 0.01] < 0.05, axis=1)) >= 0.7


def test_without_recordings_it_says_so():
    said = run("patch_clamp_fit").stdout
    assert "SKIPPED" in said
    assert "README.md" in said


@pytest.mark.slow
def test_the_quick_recovery_writes_what_the_full_one_does(tmp_path):
    run("hh_recovery", "--quick", "--out", tmp_path / "quick.json")
    quick = json.loads((tmp_path / "quick.json").read_text())
    assert quick["quick"]
    assert keys(quick) == keys(json.loads((HH / "results.json").read_text()))
