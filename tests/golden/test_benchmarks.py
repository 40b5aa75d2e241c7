"""The harness: runs a simulator in its own process, names what it skips, marks a wrong rate, writes no paths."""

import json
import sys

import pytest
from typer.testing import CliRunner

from experiments.benchmarks import networks, run
from experiments.benchmarks._simulators import SIMULATORS, Simulator, Worker, WorkerError, find


def harness(tmp_path, *options):
    result = CliRunner().invoke(run.app, [*options, "--out", str(tmp_path / "results.json")])
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "results.json").read_text())


def test_a_network_in_its_own_process(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINSIM_BENCH_ALLOW_PURE", "1")
    monkeypatch.setitem(networks.REFERENCE_RATE_HZ, ("coba_lif", 1000), 1e4)  # which no unit with t_ref 5 ms can reach
    options = ("--simulators", "brainsim,nest", "--nest-python", "no-such-python", "--networks", "coba_lif")
    results = harness(tmp_path, *options, "--sizes", "1000", "--t-ms", "600", "--repeats", "2")
    (record,) = results["results"]
    assert record["rate_hz"] > 0
    assert record["valid"] is False
    assert len(record["run_s"]) == len(record["cpu_s"]) == len(record["rates_hz"]) == 2
    assert record["x_brainsim"] == 1.0
    assert record["rates_hz"][0] != record["rates_hz"][1]  # each repeat draws its own graph and state
    assert "--nest-python" in results["skipped"]["nest"]
    assert "/" not in json.dumps([results["machine"], results["skipped"], record["backend"]])


def test_a_worker_that_fails_says_why(monkeypatch):
    python, env, why_not = find("brainsim", "brainsim", None)
    assert why_not is None
    options = dict(n=1000, threads=1, t_ms=600.0, timeout_s=1200.0)
    with pytest.raises(WorkerError, match="no_such_network"):
        Worker("brainsim", python, env, network="no_such_network", **options).run(0)


def test_a_peer_that_is_not_there_is_skipped_with_the_reason():
    *_, why_not = find("nest", "a_module_that_does_not_exist", sys.executable)
    assert "not installed" in why_not
    assert "BRAINSIM_BENCH_NEST_PYTHON" in why_not


def test_names_are_checked():
    assert "there are brainsim" in CliRunner().invoke(run.app, ["--simulators", "brain"]).output.replace("\n", " ")
    assert all(isinstance(simulator, Simulator) for simulator in SIMULATORS.values())


def test_a_rate_off_by_more_than_ten_percent_is_invalid():
    record = {"network": "coba_lif", "n": 4000, "rate_hz": 1.09 * networks.REFERENCE_RATE_HZ["coba_lif", 4000]}
    assert run.valid(record) is True
    assert run.valid({**record, "rate_hz": 1.02 * record["rate_hz"]}) is False
    assert run.valid({**record, "n": 5}) is None
