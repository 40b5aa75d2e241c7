"""What `experiments/ei_tuning` claims, from its committed results; and that its quick run writes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments/ei_tuning"


def keys(x):
    """The nested keys of a JSON object, with lists as one of their members."""
    if isinstance(x, dict):
        return {k: keys(v) for k, v in x.items()}
    return keys(x[0]) if isinstance(x, list) and x and isinstance(x[0], dict) else None


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text())


def held_out(one, method, key):
    return np.median([x[key] for x in one[method]["held_out"]])


def test_with_many_parameters_the_gradient_is_ten_times_faster_than_cma_es(results):
    large = results["sizes"][1]
    assert not results["quick"]
    assert large["parameters"] == 254
    assert len(large["gradient"]["final"]) == 5
    assert max(large["gradient"]["final"]) < 0.25 * min(large["CMA-ES"]["final"])
    assert 10.0 * large["levels"]["gradient"]["cpu_s"] < large["levels"]["CMA-ES"]["cpu_s"]
    assert 10 * large["levels"]["gradient"]["evaluations"] < large["levels"]["CMA-ES"]["evaluations"]


def test_the_tuned_network_has_the_rates_on_noise_it_has_not_seen(results):
    large, wanted = results["sizes"][1], results["targets"]
    assert held_out(large, "gradient", "correlation") > 0.9 > 2 * held_out(large, "CMA-ES", "correlation")
    for key, close in (("rate_e", 0.2), ("rate_i", 0.1), ("synchrony", 0.2)):
        assert abs(held_out(large, "gradient", key) / wanted[key] - 1.0) < close, key


def test_with_few_parameters_cma_es_wins_and_undamped_nothing_is_learnt(results):
    small, large = results["sizes"]
    assert np.median(small["CMA-ES"]["final"]) < np.median(small["gradient"]["final"])
    assert min(results["ablations"]["undamped"]["final"]) > 10 * max(large["gradient"]["final"])


def test_damped_the_gradient_points_where_differences_do(results):
    of = lambda factor: [d["cosine"] for d in results["directions"] if d["factor"] == factor]  # noqa: E731
    assert len(of(0.03)) == 3
    for cosine in of(0.03):
        assert cosine[0] > 0.9  # rate of the excitatory units
        assert cosine[2] > 0.8  # synchrony
    assert not any(c is not None and c > 0.7 for row in of(1.0) for c in row)


@pytest.mark.experiment
def test_the_quick_run_writes_what_the_full_one_does(tmp_path, results):
    out = tmp_path / "quick.json"
    env = os.environ | {"JAX_ENABLE_X64": "0"}
    command = [sys.executable, "-m", "experiments.ei_tuning", "--quick", "--out", str(out)]
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    quick = json.loads(out.read_text())
    assert quick["quick"]
    assert keys(quick).keys() == keys(results).keys()
    assert keys(quick["sizes"][0]) == keys(results["sizes"][1])
    assert keys(quick["directions"]) == keys(results["directions"])
    one = quick["sizes"][0]
    assert max(one["gradient"]["final"]) < min(one["random search"]["final"])
    for method in ("gradient", "CMA-ES", "random search"):
        loss = np.asarray(one[method]["loss"], float)
        assert np.all(np.isfinite(loss))
        assert np.all(np.diff(loss, axis=0) <= 0)
    cosine = quick["directions"][0]["cosine"]
    assert cosine[0] > 0.9
    assert cosine[2] > 0.8
