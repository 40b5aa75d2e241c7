"""Gap junctions between passive cells against the closed form: steady state, time constant, order, symmetry."""

import jax
import numpy as np
import pytest

import brainsim as bs

from .parts import run

TAU, R, G = 20.0, 0.5, 3.0  # ms, GOhm, nS
REST = np.asarray([-70.0, -50.0])
T1 = 40.0


def pairs(dt, t1=T1, **kw):
    """Two pairs of passive cells, the second the mirror image of the first, from rest; times and potentials."""
    with jax.enable_x64(True):
        rest = np.concatenate([REST, REST[::-1]])
        cell = bs.LeakyIntegrator(tau_m=TAU, e_l=rest, r=R)
        pairs = bs.FromCOO([0, 1, 2, 3], [1, 0, 3, 2])
        net = bs.Network(
            {"P": bs.Population(cell, 4, {"gap": bs.GapPort()}, init={"v": rest})},
            {"G": bs.GapJunctions("P", "P", pairs, weight=G)},
        )
        n_steps = round(t1 / dt)
        sol = run(net, n_steps, dt, [bs.Trace("P.v")], **kw)
        return dt * np.arange(1, n_steps + 1), np.asarray(sol["P.v"])


def difference(t):
    """`v_1 - v_0`: from that of rest to it over 1 + 2 r g, with the time constant tau / (1 + 2 r g)."""
    k = 1 + 2 * R * G
    d = REST[1] - REST[0]
    return d / k + (d - d / k) * np.exp(-t * k / TAU)


@pytest.fixture(scope="module")
def coarse():
    return pairs(0.1)


@pytest.mark.optimised
def test_two_cells_come_to_the_steady_state_and_mirror_each_other(coarse):
    _, v = coarse
    # the difference has come to its end within exp(-8), the sum never left it
    np.testing.assert_allclose(v[-1, 1] - v[-1, 0], difference(np.inf), rtol=4 * np.exp(-8))
    np.testing.assert_allclose(v[:, 0] + v[:, 1], REST.sum() * np.ones(len(v)), rtol=1e-12)
    np.testing.assert_array_equal(v[:, 0], v[:, 3])
    np.testing.assert_array_equal(v[:, 1], v[:, 2])


def test_the_approach_has_the_closed_form_to_order_one(coarse):
    errors = []
    for t, v in (coarse, pairs(0.05)):
        errors.append(np.max(np.abs(v[:, 1] - v[:, 0] - difference(t))))
        # the time constant, between 1 and 5 ms, without the offset of the first step
        d = v[:, 1] - v[:, 0] - difference(np.inf)
        i, j = round(1.0 / t[0]), round(5.0 / t[0])
        tau = (t[j] - t[i]) / np.log(d[i] / d[j])
        assert tau == pytest.approx(TAU / (1 + 2 * R * G), rel=t[0] * 0.5)
    assert errors[0] < 0.02 * (REST[1] - REST[0])
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


STRONG = 20_000.0  # nS: dt G / C is 10


def two_cells(g, dt, rest=REST):
    cell = bs.LeakyIntegrator(tau_m=TAU, e_l=np.asarray(rest), r=0.1)  # C = 200 pF
    nodes = {"P": bs.Population(cell, 2, {"gap": bs.GapPort()}, init={"v": REST})}
    net = bs.Network(nodes, {"G": bs.GapJunctions("P", "P", bs.FromCOO([0], [1]), weight=g)})
    return np.asarray(run(net, round(2.0 / dt), dt, [bs.Trace("P.v")])["P.v"])


def test_a_strong_junction_makes_two_cells_meet_and_never_swap():
    rest = REST.mean() * np.ones(2)
    with jax.enable_x64(True):
        with pytest.warns(UserWarning, match=r"edge 'G': dt does not resolve.* up to 20;.*Take dt <= 0.005 ms"):
            v = two_cells(STRONG, 0.1, rest)
        weak = two_cells(STRONG / 2000, 0.1, rest)
    # the first arrival comes after one step; then they meet, but for the leak of a step, dt / (2 tau)
    d = np.abs(v[:, 1] - v[:, 0])
    assert np.all(d[1:] <= 0.1 / TAU * d[:-1] + 1e-9)
    t = 0.1 * np.arange(1, 21)
    exact = 20.0 * np.exp(-t / TAU - 2 * (STRONG / 2000) * (t - 0.1) / 200.0)
    np.testing.assert_allclose(weak[:, 1] - weak[:, 0], exact, rtol=0.02)  # order one: 20 steps of (2 G dt / C)^2 / 2


def test_the_coupling_is_stable_in_any_graph():
    """A hub of 20,000 nS among weak pairs: the extent of the potentials never grows, and their mean stays."""
    n = 12
    rng = np.random.default_rng(0)
    pre, post = [
        np.concatenate(x) for x in (([0] * (n - 1), rng.integers(1, n, 20)), (np.arange(1, n), rng.integers(1, n, 20)))
    ]
    keep = pre <= post
    weight = np.where(pre == 0, STRONG, rng.uniform(0.1, 300.0, pre.size))[keep]
    edges = {"G": bs.GapJunctions("P", "P", bs.FromCOO(pre[keep], post[keep]), weight=weight)}
    with jax.enable_x64(True):
        cell = bs.LeakyIntegrator(tau_m=1e15, r=1e15 / 200.0)  # no leak, 200 pF
        start = {"v": np.linspace(-70.0, -50.0, n)}
        net = bs.Network({"P": bs.Population(cell, n, {"gap": bs.GapPort()}, init=start)}, edges)
        with pytest.warns(UserWarning, match="does not resolve"):
            v = np.asarray(run(net, 60, 0.1, [bs.Trace("P.v")])["P.v"])
    spread = np.sum((v - v.mean(1, keepdims=True)) ** 2, axis=1)
    assert np.all(np.diff(spread) <= 1e-9)
    assert spread[-1] < 1e-3 * spread[0]
    np.testing.assert_allclose(v.mean(1), v[0].mean(), rtol=1e-12)


@pytest.mark.core
@pytest.mark.parametrize(
    "rule", [bs.FixedProbability(0.1), bs.FixedOutDegree(5), bs.FixedInDegree(5, multapses=True)], ids=str
)
def test_a_random_rule_makes_junctions_that_conduct_both_ways(rule):
    n = 60
    nodes = {"P": bs.Population(bs.LIF(), n, {"gap": bs.GapPort()})}
    net = bs.Network(nodes, {"G": bs.GapJunctions("P", "P", rule, weight=bs.Uniform(1.0, 2.0))}, key=jax.random.key(0))
    edge = net.edges["G"].by_synapse("G")
    matrix = np.zeros((n, n))
    np.add.at(matrix, edge.connect.to_coo(), np.asarray(edge.weight))
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.trace(matrix) == 0
    assert edge.connect.n_syn == 2 * net.edges["G"].weight.size  # one draw a junction
    p = 0.1 if isinstance(rule, bs.FixedProbability) else 5 / n
    mean = p * n * (n - 1)  # as many as the rule alone has, without autapses; a junction is two of them
    assert edge.connect.n_syn == pytest.approx(mean, abs=4 * np.sqrt(2 * mean))


def gap(rule, weight, pre="P"):
    nodes = {"P": bs.Population(bs.LIF(), 3, {"gap": bs.GapPort()})}
    edge = bs.Network(nodes, {"G": bs.GapJunctions(pre, "P", rule, weight=weight)}).edges["G"].by_synapse("G")
    matrix = np.zeros((3, 3))
    np.add.at(matrix, edge.connect.to_coo(), np.broadcast_to(edge.weight, edge.connect.n_syn))
    return matrix


def test_a_pair_is_one_junction_however_it_is_named():
    path = np.asarray([[0.0, 2.0, 0.0], [2.0, 0.0, 3.0], [0.0, 3.0, 0.0]])
    np.testing.assert_array_equal(gap(bs.FromCOO([1, 2], [0, 1]), [2.0, 3.0]), path)
    np.testing.assert_array_equal(gap(bs.FromCOO([1, 2, 0, 1], [0, 1, 1, 2]), [2.0, 3.0, 2.0, 3.0]), path)
    np.testing.assert_array_equal(gap(bs.FromCOO([1, 2, 2], [0, 1, 2]), [2.0, 3.0, 9.0]), path)  # an autapse
    np.testing.assert_array_equal(gap(bs.DenseMatrix(), path), path)
    np.testing.assert_array_equal(gap(bs.FromCOO([0, 1], [0, 1]), [2.0, 3.0], "P[1:]"), path)  # 1 -> 0, 2 -> 1
    assert gap(bs.FromCOO([0, 0], [1, 1]), 2.0)[1, 0] == 4.0  # two junctions of one pair
    with pytest.raises(ValueError, match=r"edge 'G'.weight is 3 nS from unit 0 to 1 and 2 nS back.*symmetric"):
        gap(bs.FromCOO([1, 0], [0, 1]), [2.0, 3.0])
    with pytest.raises(ValueError, match=r"edge 'G'.connect names the pair of units 0 and 1 2 and 1 times"):
        gap(bs.FromCOO([0, 0, 1], [1, 1, 0]), 2.0)


def test_conductances_of_a_cell_add_up_over_synapses_and_views():
    net = bs.Network(
        {
            "A": bs.Population(bs.LeakyIntegrator(e_l=[1.0, 2.0, 3.0]), 3),
            "B": bs.Population(bs.LeakyIntegrator(), 2, {"gap": bs.GapPort()}),
        },
        {"G": bs.GapJunctions("A[1:]", "B", bs.FromCOO([0, 1, 1], [0, 0, 1]), weight=[1.0, 2.0, 4.0])},
    )
    with pytest.warns(
        UserWarning, match=r"edge 'G': gap junctions carry current from 'A' into 'B' and none leaves 'A'"
    ):
        sol = run(net, 3, 0.1, [bs.Trace("B.gap.g"), bs.Trace("B.gap.i"), bs.Trace("B.v")])
    np.testing.assert_allclose(sol["B.gap.g"], [[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    v = np.concatenate([np.zeros((1, 2)), np.asarray(sol["B.v"])[:2]])  # at the start of each step
    expected = np.asarray([[0.0, 0.0], [8.0, 12.0], [8.0, 12.0]]) - np.asarray(sol["B.gap.g"]) * v
    np.testing.assert_allclose(sol["B.gap.i"], expected, rtol=1e-6)
