"""Malformed graphs are told apart, and repaired where that is asked for."""

import dataclasses

import numpy as np
import pytest

import brainsim as bs
from brainsim import nir

from .test_exchange import chain

GOOD = chain("LIF", 1.0, tau=0.01, r=1, v_leak=0, v_threshold=1)


def changed(name, **fields):
    node = GOOD.nodes[name]
    kept = {k: x for k, x in (node.fields | fields).items() if x is not None}
    return dataclasses.replace(GOOD, nodes=GOOD.nodes | {name: dataclasses.replace(node, fields=kept)})


def linked(*edges):
    return dataclasses.replace(GOOD, edges=[*GOOD.edges, *edges])


@pytest.mark.parametrize(
    "graph, rule, said",
    [
        (changed("n", tau=None), "NIR-ATTRIBUTE", "LIF without 'tau'"),
        (changed("n", tau=np.array([-1.0])), "NIR-ATTRIBUTE", "time constants > 0"),
        (changed("fc", weight=np.array([[np.nan]])), "NIR-ATTRIBUTE", "NaN"),
        (changed("fc", weight="heavy"), "NIR-ATTRIBUTE", "expected numbers"),
        (changed("fc", weight=np.ones((1, 2, 3))), "NIR-ATTRIBUTE", r"\(out, in\)"),
        (changed("fc", weight=np.ones((1, 3))), "NIR-SHAPE", r"takes shape \(3,\)"),
        (changed("output", shape=np.array([1, 1])), "NIR-SHAPE", "Repair"),
        (linked(("n", "m")), "NIR-EDGE", "'m' does not exist"),
        (linked(("fc", "n")), "NIR-EDGE", "more than once"),
        (linked(("n", "input")), "NIR-ENDS", "enters an Input"),
        (
            dataclasses.replace(GOOD, nodes=GOOD.nodes | {"x": nir.Node("ALIF", {})}),
            "NIR-TYPE",
            "'ALIF' does not exist",
        ),
        (
            dataclasses.replace(
                linked(("fc", "g"), ("g", "fc")), nodes=GOOD.nodes | {"g": nir.Node("Scale", {"scale": np.ones(1)})}
            ),
            "NIR-ORDER",
            "cycle without a neuron",
        ),
    ],
)
def test_what_is_wrong_is_named(graph, rule, said):
    assert nir.check(GOOD) == []
    with pytest.raises(nir.NIRError, match=said) as e:
        bs.from_nir(graph, nir.NORSE.at(1.0))
    assert rule in {p.rule for p in e.value.problems}


@pytest.mark.parametrize("graph", [changed("output", shape=np.array([1, 1])), linked(("fc", "n"))])
def test_what_can_be_repaired_is_on_request(graph):
    model = bs.from_nir(graph, nir.NORSE.at(1.0), repair=True)
    assert len(model.notes) == 1
    assert nir.check(model.graph) == []
