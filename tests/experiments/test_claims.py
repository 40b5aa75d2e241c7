"""What the experiments claim, from their committed results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
HH = ROOT / "experiments/hh_recovery"


def run(name, *options):
    env = os.environ | {"JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-m", f"experiments.{name}", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env)


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
