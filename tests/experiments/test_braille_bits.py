"""The claims of experiments/braille_bits, on its committed results."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments" / "braille_bits"


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text())


def read(results, bits, scales, synapses):
    """Letters read (%), of all recordings."""
    keys = ("bits", "scales", "bias_synapses")
    (row,) = [r for r in results["post_training"] if tuple(r[k] for k in keys) == (bits, scales, synapses)]
    return row["all"]


def test_few_bits_keep_the_accuracy(results):
    floating = results["float"]["all"]
    assert not results["quick"]
    assert results["recordings"] == 1158
    assert read(results, 8, "output", 1) > floating - 1
    assert read(results, 6, "output", 1) > floating - 2
    assert read(results, 3, "output", 1) > 80


def test_scales_chosen_by_output_make_the_difference_at_few_bits(results):
    for synapses in (0, 1):
        assert read(results, 3, "output", synapses) > read(results, 3, "largest", synapses) + 40
        assert read(results, 6, "output", synapses) > read(results, 6, "largest", synapses)


def test_an_axon_is_worth_its_events_at_few_bits(results):
    assert read(results, 3, "output", 1) > read(results, 3, "output", 0) + 3
    text = (FOLDER / "README.md").read_text()
    for row in results["post_training"]:
        assert f"| {row['all']:.1f} | {row['held_out']:.1f} | {row['cores']} |" in text


def test_training_through_the_rounding_gains_at_three_bits():
    found = json.loads((FOLDER / "aware.json").read_text())
    assert not found["quick"]
    rows = found["seeds"]
    assert [r["seed"] for r in rows] == [0, 1, 2]
    gain = [r["aware"]["held_out"] - r["post_training"]["held_out"] for r in rows]
    assert found["gain"]["mean"] == pytest.approx(sum(gain) / 3)
    assert found["gain"]["mean"] >= 5
    assert all(r["proved"] for r in rows)
    text = (FOLDER / "README.md").read_text()
    for r in rows:
        assert f"| {r['seed']} | {r['post_training']['held_out']:.1f} | {r['aware']['held_out']:.1f} |" in text
