"""Batches over devices: `shard_map` shards, `jit` of sharded arrays warns, and members have the bits of one device."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def found():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    program = [sys.executable, "-m", "tests.simulate.sharded"]
    done = subprocess.run(program, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 4
    return found


@pytest.mark.parametrize("check", [True, False])
def test_shard_map_runs_each_part_on_its_device(found, check):
    assert found[f"played, check_vma={check}"]
    assert found[f"collectives, check_vma={check}"] == []
    assert found[f"same bits, check_vma={check}"]


def test_derivatives_under_shard_map(found):
    assert found["grad"] < 1e-5
    assert found["jvp"] < 1e-5


def test_initial_values_have_the_same_bits_under_every_transformation(found):
    assert all(x == 0.0 for x in found["draws"].values()), found["draws"]


def test_a_sweep_has_the_bits_of_one_device(found):
    assert found["sweep"]
    assert found["segments"]
    assert found["segments of a member"] == [1, 2, 3, 4, 5, 6]


def test_sharded_arrays_without_shard_map_are_named(found):
    assert "bs.sweep.run" in found["warned, Auto"][0]
    assert "explicit axes ('m',)" in found["refused, Explicit"]
