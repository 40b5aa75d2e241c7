"""The claims of experiments/ca3_memory, on its committed results; and its rule in plain loops."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.ca3_memory.model import GAIN, MARGIN, UNITS, WAVES, Memory

FOLDER = Path(__file__).parents[2] / "experiments" / "ca3_memory"


@pytest.fixture(scope="module")
def results():
    return json.loads((FOLDER / "results.json").read_text())


def test_the_table_is_that_of_plain_loops():
    memory = Memory.of(20, 1)
    cue = memory.cues(4, 1, 0)
    got = memory.recall(cue)
    assert got.shape == (WAVES, 1, UNITS)
    assert np.array_equal(cue.sum(1), [4])
    for wave, after in itertools.pairwise(got):
        for row, want in zip(wave, after, strict=True):
            active = [i for i in range(UNITS) if row[i]]
            for j in range(UNITS):
                others = [i for i in active if i != j]
                missing = sum(not any(p[i] and p[j] for p in memory.patterns) for i in others)
                assert want[j] == (len(others) - GAIN * missing > MARGIN)


def test_float_spikes_are_the_table(results):
    assert not results["quick"]
    rows = results["table"]
    assert len(rows) == 48
    assert sum(r["cells"] for r in rows) > 3_000_000
    assert sum(r["wrong"] + r["outside"] for r in rows) == 0


def test_spikes_on_loihi_are_those_in_float(results):
    grid = {8: "loihi, on the grid", 6: "loihi, on the grid", 5: "loihi"}
    rows = results["chips"]
    exact = [r for r in rows if r["target"] == grid.get(r["bits"])]
    assert sum(r["spikes"] for r in exact) == 3 * 60_828
    assert sum(r["differ"] for r in exact) == 0
    assert all(r["differ"] > 0.5 * r["spikes"] for r in rows if r["bits"] == 4)
    for bits in (8, 6):
        for target in ("loihi", "ideal"):
            assert sum(r["differ"] for r in rows if (r["target"], r["bits"]) == (target, bits)) == 68
    assert results["cost"]["same_spikes"] == 1.0


def test_inhibition_lets_parts_recall_the_whole(results):
    def exact(stored, known, inhibition):
        (row,) = [
            r for r in results["table"] if (r["stored"], r["known"], r["inhibition"]) == (stored, known, inhibition)
        ]
        return row["exact"]

    assert exact(200, 8, True) > 0.95
    assert exact(300, 12, True) == 1.0
    assert exact(200, 8, False) == exact(300, 12, False) == 0.0
    text = (FOLDER / "README.md").read_text()
    for stored in (50, 100, 200, 300, 400, 600):
        share = [f"{100 * exact(stored, known, True):.0f}" for known in (4, 8, 12, 16)]
        assert f"| {stored} | {' | '.join(share)} |" in text
