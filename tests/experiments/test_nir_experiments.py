"""The claims of experiments/nir_exchange and experiments/conv_nmnist, on their committed results."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[2] / "experiments"


def results(name):
    found = json.loads((FOLDER / name / "results.json").read_text())
    assert not found["quick"]
    return found


def test_every_library_sends_other_spikes_and_a_rule_says_why():
    rows = {r["dialect"]: r for r in results("nir_exchange")["dialects"]}
    assert rows["snnTorch"]["differing"] == 0
    assert rows["snnTorch"]["read"] > 90
    for name, row in rows.items():
        if name != "snnTorch":
            assert row["differing"] > 0
            assert max(rule["differing"] for rule in row["rules"].values()) > 0
    text = (FOLDER / "nir_exchange/README.md").read_text()
    for row in rows.values():
        assert f"| {row['dialect']} | {row['read']:.1f} |" in text


def test_a_convolutional_network_reads_digits_as_well_and_as_fast_as_a_peer():
    found = results("conv_nmnist") | json.loads((FOLDER / "conv_nmnist/spikingjelly.json").read_text())
    mean = lambda name, key: float(np.mean([r[key] for r in found[name]]))  # noqa: E731
    assert [r["seed"] for r in found["trained"]] == [0, 1, 2]
    assert mean("trained", "accuracy") > 0.9499
    assert mean("trained", "update_cpu_s") < mean("spikingjelly", "update_cpu_s")
    for name in ("trained", "quiet"):
        for row in found[f"{name}_edges"]:
            assert row["events_us"] < row["dense_us"]
    assert f"{100 * mean('trained', 'accuracy'):.1f} %" in (FOLDER / "conv_nmnist/README.md").read_text()
