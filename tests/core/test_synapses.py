"""The synapses of an edge as a list, counted in whole populations."""

import jax
import numpy as np
import pytest

import brainsim as bs
from brainsim.events import Dense

PRE, POST, VALUES = np.array([3, 0, 2, 0, 3]), np.array([1, 4, 0, 0, 2]), np.arange(1.0, 6.0)


@pytest.fixture(scope="module")
def net():
    cells = lambda n: bs.Population(bs.LIF(), n, {"e": bs.ExpCond(5.0)})  # noqa: E731
    edges = {
        "listed": bs.Projection("A[2:8]", "B[1:11:2].e", bs.FromCOO(PRE, POST), weight=VALUES, delay=VALUES),
        "dense": bs.Projection("A[2:8]", "B[1:11:2].e", Dense(6, 5), weight=np.arange(30.0).reshape(6, 5)),
        "drawn": bs.Projection("A", "B.e", bs.FixedInDegree(3), weight=bs.Uniform(0, 1), delay=bs.Uniform(0, 2)),
        "now": bs.Projection("A", "B.e", bs.FixedProbability(0.5), weight=1.0, delay=bs.INSTANT),
        "anew": bs.Projection("A", "B.e", bs.Procedural(bs.FixedProbability(0.5)), weight=bs.Uniform(0, 1)),
    }
    return bs.Network({"A": cells(10), "B": cells(12)}, edges, key=jax.random.key(0))


def test_a_list_comes_back_in_its_order(net):
    found = bs.synapses_of(net, "listed")
    for got, wanted in zip(found, (2 + PRE, 1 + 2 * POST, VALUES, VALUES, np.arange(5)), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_chosen_synapses_are_places_in_the_arrays_of_the_edge(net):
    found = bs.synapses_of(net, "drawn", post=[5])
    assert found.post.tolist() == [5, 5, 5]
    for name in ("weight", "delay"):
        values = np.asarray(getattr(net.edges["drawn"], name)).reshape(-1)
        np.testing.assert_array_equal(values[found.index], getattr(found, name))
    dense = bs.synapses_of(net, "dense", pre=[3], post=":4")
    assert (dense.pre.tolist(), dense.post.tolist(), dense.weight.tolist()) == ([3, 3], [1, 3], [5.0, 6.0])
    assert np.isnan(bs.synapses_of(net, "now", pre="0").delay).all()
    anew = bs.synapses_of(net, "anew")
    assert anew.weight.size == net.edges["anew"].connect.to_csr(jax.numpy.array([0.0, 1.0]))[0].n_syn
    assert 0 < anew.weight.std() < 1


def test_what_does_not_exist_is_named(net):
    with pytest.raises(ValueError, match=r"edge 'list' does not exist. Did you mean 'listed'"):
        bs.synapses_of(net, "list")
    with pytest.raises(ValueError, match="pre contains 10; 'A' has 10 values"):
        bs.synapses_of(net, "listed", pre=[10])
    with pytest.raises(ValueError, match=r"bs.synapses_of reads it"):
        bs.Trace("listed.weight").check(net)
