"""What `experiments/elm_neuron` claims, from its committed results; and that its quick run writes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments/elm_neuron"


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text())


def of(results, name, key):
    (model,) = (m for m in results["models"] if m["name"] == name)
    return np.mean([t[key] for t in model["test"]])


def test_an_elm_of_few_parameters_predicts_spikes_and_potential(results):
    assert not results["quick"]
    (best,) = (m for m in results["models"] if m["name"] == "ELM 20")
    assert best["parameters"] < 10_000
    assert len(best["test"]) == 3
    assert of(results, "ELM 20", "auc") > 0.95
    assert of(results, "ELM 20", "explained_variance") > 0.9
    assert 1.0 - of(results, "ELM 20", "auc") < 0.5 * (1.0 - of(results, "linear", "auc"))
    assert of(results, "ELM 20", "rmse_mv") < of(results, "linear", "rmse_mv")


def test_one_memory_unit_or_none_that_is_slow_is_worse(results):
    for less in ("ELM 1", "ELM 20, tau_m = 1 ms"):
        assert of(results, less, "auc") < of(results, "ELM 20", "auc"), less
        assert of(results, less, "explained_variance") < of(results, "ELM 20", "explained_variance"), less


@pytest.mark.experiment
def test_the_quick_run_writes_what_the_full_one_does(tmp_path, results):
    out = tmp_path / "quick.json"
    env = os.environ | {"JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-m", "experiments.elm_neuron", "--quick", "--out", str(out)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env).stdout
    assert "SKIPPED: no released weights" in said
    quick = json.loads(out.read_text())
    assert quick["quick"]
    assert quick["released"] is None
    assert quick.keys() == results.keys()
    assert quick["models"][0].keys() == results["models"][0].keys()
    assert quick["models"][0]["test"][0].keys() == results["models"][0]["test"][0].keys()
    assert of(quick, "ELM 10", "auc") > 0.85 > of(quick, "linear", "auc")
    assert 0.8 < of(quick, "ELM 10", "explained_variance") < 1.0
