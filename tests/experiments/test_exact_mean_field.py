"""The exact cells against closed forms, and what the experiment claims from its committed results."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.exact_mean_field.cells import flow
from experiments.exact_mean_field.run import ETA, TAU, J, rest, tail

RESULTS = Path(__file__).parents[2] / "experiments/exact_mean_field/results.json"


@pytest.mark.usefixtures("x64")
def test_two_steps_are_one_of_both_lengths_and_the_spikes_add_up():
    current = jnp.asarray([-400.0, -2.0, -1e-4, 0.0, 1e-4, 1.5, 900.0, 4e4])
    v = jnp.asarray([30.0, 1.0, 12.0, 9.0, -3.0, 8.0, -2.0, 100.0])
    whole, spikes = flow(v, current, 0.3)
    half, first = flow(v, current, 0.1)
    again, second = flow(half, current, 0.2)
    np.testing.assert_allclose(again, whole, rtol=1e-8)
    np.testing.assert_array_equal(first + second, spikes)
    # a cell at I > 0 spikes every pi / sqrt(I); with |v| < sqrt(-I) it never does
    assert abs(float(spikes[-1]) - 200.0 * 0.3 / np.pi) <= 1
    assert spikes[1] == 0
    np.testing.assert_allclose(whole[3], 9.0 / (1.0 - 9.0 * 0.3))
    assert spikes[3] == 1


def test_the_start_is_the_fixed_point_of_the_equations():
    r, v = rest()
    assert v * v + ETA + J * TAU * r - (np.pi * TAU * r) ** 2 == pytest.approx(0.0, abs=1e-9)
    assert 1 / np.pi + 2 * TAU * r * v == pytest.approx(0.0, abs=1e-9)


def test_the_committed_run_holds_its_bounds_and_the_cut_tail_explains_the_steady_rate():
    results = json.loads(RESULTS.read_text())
    assert not results["quick"]
    runs = [r for r in results["runs"] if r["cells"] == "exact"]
    large = [r for r in runs if r["n"] == 100_000]
    assert {r["seed"] for r in large} == {0, 1, 2}
    assert max(r["dt_over_tau"] for r in large) == 0.005
    steady = [r for r in runs if r["drive"] == "held"]
    assert max(abs(r["steady"]) for r in steady if r["n"] == 100_000) <= results["bounds"]["steady"]
    assert max(r["rms"] for r in large if r["drive"] != "held") <= results["bounds"]["rms"]
    tails = {one["n"]: one["steady"] for one in results["tail"]}
    for r in steady:
        assert r["steady"] == pytest.approx(tails[r["n"]], abs=5e-4)
    assert tail(10_000) == pytest.approx(tails[10_000], rel=1e-6)
