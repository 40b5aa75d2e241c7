"""A network and its parts do not change, and an assignment says what to write instead."""

import copy
import pickle

import equinox as eqx
import jax
import numpy as np
import pytest

import brainsim as bs


def network():
    cell = bs.Population(
        bs.LIF(), 2, {"exc": bs.ExpCond()}, noise=bs.WhiteNoise({"v": 0.1}), init={"v": bs.Uniform(-60.0, -55.0)}
    )
    edges = {"E": bs.Projection("P", "P.exc", bs.OneToOne(), weight=1.0)}
    return bs.Network({"P": cell}, edges)


@pytest.mark.core
@pytest.mark.parametrize(
    ("mapping", "name", "piece"),
    [
        (lambda net: net.nodes, "P", "Network.nodes['P']"),
        (lambda net: net.edges, "E", "Network.edges['E']"),
        (lambda net: net.nodes["P"].receptors, "exc", "Population.receptors['exc']"),
        (lambda net: net.nodes["P"].init_values, "v", "Population.init_values['v']"),
        (lambda net: net.nodes["P"].noise.sigma, "v", "WhiteNoise.sigma['v']"),
    ],
    ids=["nodes", "edges", "receptors", "init", "noise"],
)
def test_no_entry_can_be_set_or_removed(mapping, name, piece):
    net = network()
    entries = mapping(net)
    before = entries[name]
    for change in (
        lambda: entries.__setitem__(name, 3),
        lambda: entries.__delitem__(name),
        lambda: entries.pop(name),
        lambda: entries.update({name: 3}),
        lambda: entries.setdefault("other", 3),
        lambda: entries.__ior__({name: 3}),
        entries.clear,
        entries.popitem,
    ):
        with pytest.raises(TypeError) as e:
            change()
        assert all(x in str(e.value) for x in (piece.split("[")[0], "train.with_parameters", "eqx.tree_at", "new"))
    with pytest.raises(TypeError, match=piece.replace("[", r"\[").replace("]", r"\]")):
        entries[name] = 3
    assert entries[name] is before
    assert dict(entries) | {"other": 3} == {name: before, "other": 3}  # copies are plain dicts


def test_an_assignment_to_a_field_says_what_to_write():
    net = network()
    unit = net.nodes["P"].unit
    for owner, field in ((unit, "tau_m"), (net, "nodes"), (net.edges["E"], "weight"), (bs.Sine(1.0, 2.0), "amplitude")):
        for change in (lambda x, f: setattr(x, f, 3.0), delattr):
            with pytest.raises(AttributeError) as e:
                change(owner, field)
            text = str(e.value)
            assert f"{type(owner).__name__}.{field}" in text
            assert f"eqx.tree_at(lambda x: x.{field}, x, value)" in text
            assert "train.with_parameters" in text
    with pytest.raises(AttributeError, match=r"field .tau. does not exist\. Did you mean .tau_m."):
        unit.tau = 3.0


def test_a_frozen_network_is_the_same_tree():
    net = network()
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(net)]
    assert ".nodes['P'].unit.tau_m" in paths
    assert ".edges['E'].weight" in paths
    changed = eqx.tree_at(lambda n: n.nodes["P"].unit.tau_m, net, 10.0)
    for other in (changed, jax.tree.map(lambda x: x, net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with pytest.raises(TypeError, match="do not change"):
            other.nodes["P"] = 3
        assert jax.tree.structure(other) == jax.tree.structure(net)
    assert float(changed.nodes["P"].unit.tau_m) == 10.0
    assert float(net.nodes["P"].unit.tau_m) == 20.0
    assert np.array_equal(copy.deepcopy(net).edges["E"].weight, net.edges["E"].weight)
