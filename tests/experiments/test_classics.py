"""Published networks against NEST: the committed figures, and a quick run of the regime that tells solvers apart."""

import json
from pathlib import Path

import pytest

from experiments.classics._nest import compared
from experiments.classics.brunel2000.model import REGIMES
from experiments.classics.brunel2000.run import FIGURES, regime
from experiments.classics.microcircuit.run import run

CLASSICS = Path(__file__).parents[2] / "experiments" / "classics"


def stored(name, file):
    return json.loads((CLASSICS / name / file).read_text())


def test_every_regime_of_brunel_has_the_rates_and_cvs_of_nest():
    results, nest = stored("brunel2000", "results.json")["regimes"], stored("brunel2000", "nest.json")["regimes"]
    assert results.keys() == nest.keys() == REGIMES.keys()
    for name, found in results.items():
        assert len(found["seeds"]) >= 3
        for k in FIGURES:
            again = compared([x[k] for x in found["seeds"]], nest[name][k])
            assert again == pytest.approx(found[k])
            assert again["distance"] <= again["allowed"], (name, k)


@pytest.mark.experiment
def test_brunel_synchronous_regular_fires_at_every_second_delay():
    """333 Hz, one spike in 3.0 ms: 3.2 ms where a jump waits a step for the threshold."""
    found, _ = regime("A", 0, 100.0, 200.0)
    nest = stored("brunel2000", "nest.json")["regimes"]["A"]
    assert found["rate_e"] == pytest.approx(sum(nest["rate_e"]) / len(nest["rate_e"]), rel=0.01)
    late, _ = regime("A", 0, 100.0, 200.0, at="start")
    assert late["rate_e"] == pytest.approx(1e3 / 3.2, rel=0.01)


def test_every_population_of_the_microcircuit_has_the_rate_and_cv_of_nest():
    results, nest = stored("microcircuit", "results.json"), stored("microcircuit", "nest.json")
    assert results["scale"] == 0.1
    assert len(results["seeds"]) >= 5
    for k in ("rates", "cv"):
        for p, found in enumerate(results[k]):
            again = compared([x[k][p] for x in results["seeds"]], [x[p] for x in nest[k]])
            assert again == pytest.approx(found)
            assert again["distance"] <= again["allowed"], (k, nest["populations"][p])


@pytest.mark.experiment
def test_a_second_of_the_microcircuit_is_near_nest():
    """One seed and one second: the exponential Euler step makes the rates of layers 2/3 36 to 42 % too high."""
    found, _ = run(0.1, 0, 1500.0)
    nest = stored("microcircuit", "nest.json")
    for p, name in enumerate(nest["populations"]):
        mean = sum(x[p] for x in nest["rates"]) / len(nest["rates"])
        assert found["rates"][p] == pytest.approx(mean, rel=0.15), name
