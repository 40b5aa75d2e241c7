"""Facts about chips: complete, and printed."""

import pytest
from typer.testing import CliRunner

from brainsim.cli import app
from brainsim.lower import TARGETS, Fact, Grade

FACTS = {
    f"{target.name} {name}": fact
    for target in TARGETS.values()
    for group in (target.limits, target.widths, target.grid, *target.energy.values(), *target.latency.values())
    for name, fact in group.items()
}


def test_every_figure_has_a_source_and_a_grade():
    assert all(isinstance(f, Fact) and f.value > 0 and f.source and isinstance(f.grade, Grade) for f in FACTS.values())
    assert len(FACTS) > 40


def test_what_sources_disagree_on_is_unverified_and_the_safe_value():
    for rule in ("L1-VTH", "L1-FMT"):
        fact = TARGETS["loihi1"].limits[rule]
        assert fact.grade is Grade.UNVERIFIED
        assert fact.value == 8
        assert "16 in" in fact.source


@pytest.mark.core
def test_targets_are_printed_with_unit_grade_and_source():
    result = CliRunner().invoke(app, ["targets"])
    assert result.exit_code == 0
    for name, fact in FACTS.items():
        assert name.split(" ", 1)[1] in result.output
        assert f"{fact.value:,.10g}" in result.output
        assert fact.source in result.output
    one = CliRunner().invoke(app, ["targets", "loihi1"]).output
    assert "L1-VTH" in one
    assert "spinnaker2" not in one
    wrong = CliRunner().invoke(app, ["targets", "loihi3"])
    assert wrong.exit_code == 1
    assert "Did you mean 'loihi2' or 'loihi1'" in wrong.output
