"""Files written by versions in which an edge was one class load as ever."""

from pathlib import Path

import jax
import numpy as np

import brainsim as bs
from brainsim.io._older import upgraded
from brainsim.simulate import describe

PATH = Path(__file__).with_name("one_class_an_edge.npz")
KEY = jax.random.key(0)


def network():
    """That of the file, of which its weights are 1, 2, 3."""
    nodes = {
        "P": bs.Population(bs.LIF(), 6, {"exc": bs.ExpCurr(), "gap": bs.GapPort()}, i_e=400.0),
        "M": bs.Population(bs.WilsonCowan(), 3, {"c": bs.CouplingPort()}),
        "K": bs.Population(bs.Kuramoto(), 3, {"c": bs.PairPort("theta")}),
    }
    rule, some = bs.FromCOO(np.array([0, 1]), np.array([1, 2])), bs.FixedProbability(0.3)
    listed = bs.FromCOO(np.array([2, 0, 1]), np.array([1, 2, 0]))
    release = bs.TsodyksMarkram()
    edges = {
        "E": bs.Projection("P[:4]", "P.exc", listed, weight=np.zeros(3), delay=0.5, short_term=release),
        "I": bs.PoissonInput("P.exc", 10, 10.0, 1.0),
        "G": bs.GapJunctions("P", "P.gap", some, weight=0.1),
        "S": bs.PlasticProjection("P", "P.exc", some, rule=bs.PairSTDP(), weight=0.5, delay=1.0),
        "K2": bs.PairCoupling("K", "K.c", rule, weight=0.5, delay=1.0, function=bs.sinusoidal),
        "C": bs.Coupling("M", "M.c", rule, weight=0.5, lengths=np.array([3.0, 4.0]), speed=5.0),
    }
    return bs.Network(nodes, edges, key=KEY)


def test_a_file_of_before_loads():
    net, state, _ = bs.load(PATH, network())
    np.testing.assert_array_equal(net.edges["E"].weight, [1.0, 2.0, 3.0])
    assert state is not None
    assert int(state.n) == 0


def test_what_is_written_now_stays():
    described = describe(network(), values=False)
    assert upgraded(described) == described


def test_a_jump_of_before_is_one_at_the_start_of_a_step():
    described = {".nodes['P'].receptors['d']": "Delta", ".nodes['P'].receptors['d'].variable": "'v'"}
    assert upgraded(described) == described | {".nodes['P'].receptors['d'].at": "'start'"}
    ended = described | {".nodes['P'].receptors['d'].at": "'end'"}
    assert upgraded(ended) == ended
