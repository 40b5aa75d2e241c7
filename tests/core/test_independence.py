"""Names seed randomness and order does not: what an edge or a node is does not depend on the others."""

import jax
import numpy as np
import pytest

import brainsim as bs

from .parts import run

N_STEPS = 300
PORTS = {"exc": bs.ExpCond(tau=5.0, e_rev=0.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}


def population(n, **kw):
    init = {"v": bs.Uniform(-60.0, -50.0)}
    return bs.Population(bs.LIF(t_ref=1.0), n, PORTS, i_e=150.0, init=init, noise=bs.WhiteNoise({"v": 1.0}), **kw)


def network(other="O", *, backwards=False, more=False):
    nodes = {"P": population(40), "Q": population(20), other: population(30)}
    law = {"weight": bs.LogNormal(0.0, 0.5), "delay": bs.Uniform(0.0, 1.0)}
    edges = {
        "PP": bs.Projection("P", "P.exc", bs.FixedProbability(0.2, autapses=False), **law),
        "QP": bs.Projection("Q", "P.inh", bs.FixedInDegree(5), **law),
        "PQ": bs.Projection("P[:30]", "Q.exc", bs.FixedOutDegree(4), **law),
        "ZP": bs.Projection(other, "P.exc", bs.FixedTotalNumber(100), weight=0.0),
    }
    if more:
        edges["A"] = bs.Projection("Q", f"{other}.inh", bs.FixedProbability(0.5), **law)
    if backwards:
        nodes, edges = dict(reversed(nodes.items())), dict(reversed(edges.items()))
    return bs.Network(nodes, edges, key=jax.random.key(7))


@pytest.fixture(scope="module")
def reference():
    net = network()
    return net, results(net)


def results(net):
    sol = run(net, N_STEPS, [bs.Trace("P.v"), bs.Trace("Q.exc.g"), bs.Spikes("P"), bs.Spikes("Q")])
    p, q = sol.spikes("P"), sol.spikes("Q")
    assert p.i.size > 20
    assert q.i.size > 10
    return sol["P.v"], sol["Q.exc.g"], p.t, p.i, q.t, q.i


@pytest.mark.optimised
@pytest.mark.parametrize("change", [{"other": "AAA", "backwards": True}, {"more": True}])
def test_the_same_network_in_other_words_gives_the_same_bits(reference, change):
    net, before = reference
    changed = network(**change)
    for name in ("PP", "QP", "PQ"):
        for a, b in zip(jax.tree.leaves(net.edges[name]), jax.tree.leaves(changed.edges[name]), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(before, results(changed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_edges_of_equal_words_and_other_names_differ():
    twice = {name: bs.Projection("P", "P.exc", bs.FixedProbability(0.2), weight=bs.Normal(1.0, 0.1)) for name in "ab"}
    net = bs.Network({"P": population(40)}, twice, key=jax.random.key(7))
    a, b = (set(zip(*map(np.ndarray.tolist, net.edges[k].connect.to_coo()), strict=True)) for k in "ab")
    assert a != b
    overlap = len(a & b) / len(a | b)
    assert overlap < 0.2  # 0.11 expected of independent graphs
