"""What the experiment on learnt delays claims, from its committed results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "experiments/learned_delays/results.json"


def run(*options):
    command = [sys.executable, "-m", "experiments.learned_delays", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"JAX_ENABLE_X64": "0"})


def test_the_claims_hold_in_the_committed_results():
    results = json.loads(COMMITTED.read_text())
    assert not results["quick"]
    for one in results["planted"]["runs"]:
        assert one["within_one_step"] > 0.95 > 0.3 > one["within_one_step_before"]
        assert one["events_that_differ"] == 0 < 100 < one["events"]
    for group in results["recordings"]:
        runs = group["runs"]
        assert {(r["kind"], r["seed"]) for r in runs} == {(k, s) for k in ("none", "fixed", "learnt") for s in range(3)}
        assert all(r["counts_that_differ"] == 0 and r["accuracy"] == r["accuracy_before_rounding"] for r in runs)
        none, fixed, learnt = ([r["accuracy"] for r in runs if r["kind"] == k] for k in ("none", "fixed", "learnt"))
        assert mean(learnt) > max(mean(none), mean(fixed))
        if group["of"] == "spoken digits":  # on Braille random delays do not help
            assert max(none) < min(fixed)
            assert max(none) < min(learnt)


def test_without_the_file_it_says_what_is_missing(tmp_path):
    done = run("--data", tmp_path / "nowhere.npz")
    assert done.returncode == 2
    assert "expected fsdd.npz" in done.stderr
