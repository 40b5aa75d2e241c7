"""Every experiment: its `--quick` run writes what its committed full run has. `make experiments`; minutes each."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"benchmarks", "ei_tuning", "elm_neuron"}
"""Those whose quick run does only part of the full one: their own tests compare the parts."""
EXPERIMENTS = sorted({p.parent.name for p in ROOT.glob("experiments/*/__main__.py")} - ELSEWHERE)
DATA = {
    "conv_nmnist": "nmnist_1k.npz",
    "gradient_noise": "mnist.npz",
    "homeostatic_learning": "mnist.npz",
    "nalsm": "mnist.npz",
    "patch_clamp_fit": "allen_patch.npz",
}
"""What is not bundled, taken where it lies beside the checkout."""


def schema(x):
    """Names of members and types of what they hold; of a list those of its first entry; whole numbers are numbers."""
    if isinstance(x, dict):
        return {k: schema(v) for k, v in x.items()}
    if isinstance(x, list):
        return [schema(x[0])] if x else []
    return "number" if isinstance(x, int | float) and not isinstance(x, bool) else type(x).__name__


def numbers(x):
    if isinstance(x, dict | list):
        for v in x.values() if isinstance(x, dict) else x:
            yield from numbers(v)
    elif isinstance(x, float):
        yield x


@pytest.mark.experiment
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_quick_run_writes_what_the_full_one_does(name, tmp_path):
    options = ["--quick", "--out", str(tmp_path / "quick.json")]
    if name in DATA:
        path = ROOT.parent / "shared" / "data" / DATA[name]
        if not path.exists():
            pytest.skip(f"{DATA[name]} is not here; experiments/{name}/README.md says where it comes from")
        options += ["--data", str(path)]
    command = [sys.executable, "-m", f"experiments.{name}", *options]
    env = os.environ | {"JAX_ENABLE_X64": "0"}
    got = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert got.returncode == 0, got.stderr[-2000:]
    quick = json.loads((tmp_path / "quick.json").read_text())
    full = json.loads((ROOT / "experiments" / name / "results.json").read_text())
    assert quick["quick"]
    assert not full["quick"]
    assert schema(quick) == schema(full)
    for results in (quick, full):
        found = list(numbers(results))
        assert len(found) > 3
        assert all(map(math.isfinite, found))
