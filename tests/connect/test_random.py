"""Random rules keep, exactly, the statistics they promise."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from brainsim.connect import (
    FixedInDegree,
    FixedOutDegree,
    FixedProbability,
    FixedTotalNumber,
    OneToOne,
    SmallWorld,
)

P_MIN = 1e-4  # a fixed seed fails a right law with this probability, once, when the test is written


def pairs(rule, n_pre, n_post, same=False, seed=0):
    """The pairs of the built graph, and its topology."""
    topology, order = rule.build(n_pre, n_post, same=same, key=jax.random.key(seed))
    assert order is None
    pre, post = topology.to_coo()
    return np.asarray(pre, np.int64), np.asarray(post, np.int64), topology


def uniform(counts):
    """The p-value of equal expected counts."""
    return stats.chisquare(np.asarray(counts).ravel()).pvalue


RANDOM = [
    FixedProbability(0.3),
    FixedInDegree(4),
    FixedOutDegree(4),
    FixedTotalNumber(40),
    FixedInDegree(4, multapses=True),
    FixedOutDegree(4, multapses=True),
    FixedTotalNumber(40, multapses=True),
]


@pytest.mark.parametrize("rule", [*RANDOM, SmallWorld(4, 0.5)], ids=repr)
def test_same_key_same_graph(rule):
    a, b, c = (pairs(rule, 12, 12, same=True, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert a[0].shape != c[0].shape or np.any(a[1] != c[1]) or np.any(a[0] != c[0])
    old = rule.build(12, 12, same=True, key=jax.random.PRNGKey(3)).topology
    np.testing.assert_array_equal(old.to_coo()[1], a[1])


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.97, 1.0])
def test_fixed_probability_pairs_are_bernoulli(p):
    n = 120
    pre, post, _ = pairs(FixedProbability(p), n, n, same=True)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (pre, post), 1)
    assert matrix.max(initial=0) <= 1
    if p in (0.0, 1.0):
        assert np.all(matrix == p)
        return
    assert stats.binomtest(pre.size, n * n, p).pvalue > P_MIN
    # neighbours along rows and columns are uncorrelated, and degrees vary as a binomial does
    for a, b in ((matrix[:, 1:], matrix[:, :-1]), (matrix[1:], matrix[:-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / n
    for axis in (0, 1):
        spread = np.sum((matrix.sum(axis) - n * p) ** 2) / (n * p * (1 - p))
        assert P_MIN < stats.chi2(n).cdf(spread) < 1 - P_MIN


def test_fixed_probability_of_every_graph_of_three_pairs():
    graphs = []
    for seed in range(800):
        pre, post, _ = pairs(FixedProbability(0.4), 1, 3, seed=seed)
        assert np.all(pre == 0)
        graphs.append(int(np.sum(2**post)))
    expected = [0.4 ** g.bit_count() * 0.6 ** (3 - g.bit_count()) for g in range(8)]
    seen = np.bincount(graphs, minlength=8)
    assert stats.chisquare(seen, 800 * np.array(expected)).pvalue > P_MIN


@pytest.mark.parametrize("rule", [FixedInDegree(2), FixedOutDegree(2), FixedInDegree(3), FixedOutDegree(1)], ids=repr)
def test_every_subset_is_as_likely(rule):
    pre, post, _ = pairs(rule, *((5, 20_000) if isinstance(rule, FixedInDegree) else (20_000, 5)))
    unit, chosen = (post, pre) if isinstance(rule, FixedInDegree) else (pre, post)
    code = np.bincount(unit, weights=2.0**chosen).astype(int)
    subsets = [sum(2**i for i in s) for s in itertools.combinations(range(5), rule.k)]
    seen = np.bincount(code, minlength=32)
    assert seen.sum() == seen[subsets].sum() == 20_000
    assert uniform(seen[subsets]) > P_MIN


def test_every_pair_is_as_likely_where_repeats_are_redrawn_by_sorting():
    indices = np.asarray(pairs(FixedOutDegree(2), 40_000, 16)[2].indices)
    seen = np.bincount(indices[:, 0] * 16 + indices[:, 1], minlength=256).reshape(16, 16)
    assert uniform(seen[np.triu_indices(16, 1)]) > P_MIN


@pytest.mark.parametrize(("k", "n"), [(3, 400), (40, 400), (60, 400), (350, 400), (400, 400)])
def test_subsets_are_uniform_by_sorting_bitmap_and_complement(k, n):
    _, post, topology = pairs(FixedOutDegree(k), 4000, n)
    indices = np.asarray(topology.indices)
    assert indices.shape == (4000, k)
    assert np.all(np.diff(indices, axis=1) > 0)
    counts = np.bincount(post, minlength=n)
    if k == n:
        assert np.all(counts == 4000)
        return
    # in subsets counts vary less than in independent draws: by 1 - k/n, with n - 1 degrees of freedom
    chi2 = np.sum((counts - 4000 * k / n) ** 2) / (4000 * k / n * (1 - k / n)) * (n - 1) / n
    assert P_MIN < stats.chi2(n - 1).cdf(chi2) < 1 - P_MIN
    # two given units are both chosen as often as in a subset without replacement
    both = np.sum(np.any(indices == 0, axis=1) & np.any(indices == n - 1, axis=1))
    assert stats.binomtest(int(both), 4000, k * (k - 1) / (n * (n - 1))).pvalue > P_MIN


def test_fixed_total_number_over_every_graph():
    codes = []
    for seed in range(800):
        pre, post, _ = pairs(FixedTotalNumber(2, autapses=False), 3, 3, same=True, seed=seed)
        codes.append(int(np.sum(2 ** (3 * pre + post))))
    allowed = [2 ** (3 * i + j) for i in range(3) for j in range(3) if i != j]
    graphs = [a + b for a, b in itertools.combinations(allowed, 2)]
    seen = np.bincount(codes, minlength=512)[graphs]
    assert seen.sum() == 800
    assert uniform(seen) > P_MIN


@pytest.mark.parametrize("n", [1000, 30_000, 85_000])
def test_fixed_total_number_is_uniform_and_exact(n):
    pre, post, topology = pairs(FixedTotalNumber(n), 300, 300)
    assert topology.n_syn == n
    assert np.unique(pre * 300 + post).size == n
    for side in (pre, post):
        counts = np.bincount(side, minlength=300)
        chi2 = np.sum((counts - n / 300) ** 2) / (n / 300 * (1 - n / 90_000)) * 299 / 300
        assert P_MIN < stats.chi2(299).cdf(chi2) < 1 - P_MIN


def test_degrees_are_exact():
    _, post, _ = pairs(FixedInDegree(7), 50, 80)
    assert np.all(np.bincount(post, minlength=80) == 7)
    _, post, _ = pairs(FixedInDegree(70, multapses=True), 50, 80)
    assert np.all(np.bincount(post, minlength=80) == 70)
    pre, _, topology = pairs(FixedOutDegree(7), 50, 80)
    assert topology.k == 7
    assert np.all(np.bincount(pre, minlength=50) == 7)


@pytest.mark.parametrize("cls", [FixedInDegree, FixedOutDegree, FixedTotalNumber])
def test_multapses_come_when_allowed_as_often_as_by_chance(cls):
    n, k = 100, 30
    rule = cls(k * n if cls is FixedTotalNumber else k, multapses=True)
    pre, post, _ = pairs(rule, n, n)
    counts = np.bincount(pre * n + post, minlength=n * n)
    mean = k / n
    expected = n * n * stats.poisson(mean).pmf([0, 1, 2])
    expected = np.append(expected, n * n - expected.sum())
    seen = np.append(np.bincount(counts, minlength=3)[:3], np.sum(counts > 2))
    # counts per pair are binomial, Poisson to one part in a hundred, and k of them are bound together: a wide margin
    np.testing.assert_allclose(seen, expected, atol=5 * np.sqrt(expected.max()) / 2)
    assert counts.max() > 1
    assert np.all(np.bincount(pairs(cls(rule.n if cls is FixedTotalNumber else k), n, n)[0]) >= 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: FixedProbability(0.3, autapses=a),
        lambda a: FixedInDegree(60, autapses=a),
        lambda a: FixedOutDegree(60, autapses=a),
        lambda a: FixedTotalNumber(12_000, autapses=a),
        lambda a: FixedInDegree(60, autapses=a, multapses=True),
        lambda a: FixedTotalNumber(12_000, autapses=a, multapses=True),
    ],
)
def test_autapses(make):
    n = 200
    pre, post, _ = pairs(make(False), n, n, same=True)
    assert not np.any(pre == post)
    # the others are used evenly, the last unit and the first included
    refused = np.bincount((post - pre) % n, minlength=n)[1:]
    assert uniform(refused) > P_MIN
    pre, post, _ = pairs(make(True), n, n, same=True)
    assert stats.binomtest(int(np.sum(pre == post)), n, 0.3).pvalue > P_MIN or "multapses=True" in repr(make(True))
    assert 20 < np.sum(pre == post) < 110
    pre, post, _ = pairs(make(False), n, n, same=False)
    assert 20 < np.sum(pre == post) < 110


@pytest.mark.parametrize(
    "rule",
    [FixedProbability(0.9, False), FixedInDegree(9, False), FixedOutDegree(19, False), FixedTotalNumber(185, False)],
    ids=repr,
)
def test_autapses_of_overlapping_views(rule):
    twin = np.concatenate([np.arange(15, 20), np.full(5, -1)])  # pre units 0..4 are post units 15..19
    pre, post, _ = pairs(rule, 10, 20, same=twin)
    assert not np.any(post == twin[pre])
    assert np.unique(pre * 20 + post).size == pre.size
    if isinstance(rule, FixedInDegree):
        assert np.all(np.bincount(post, minlength=20) == 9)
        assert np.all(np.bincount(pre, minlength=10)[:5] < 20)


def test_small_world_ring_and_random_limits():
    n, k = 60, 6
    pre, post, _ = pairs(SmallWorld(k, 0.0), n, n, same=True)
    away = (post - pre) % n
    assert set(away) == {1, 2, 3, n - 1, n - 2, n - 3}
    assert pre.size == n * k
    matrix = np.zeros((n, n))
    matrix[pre, post] = 1
    # clustering of the ring, Watts and Strogatz 1998
    assert np.trace(matrix @ matrix @ matrix) / (n * k * (k - 1)) == pytest.approx(3 * (k - 2) / (4 * (k - 1)))
    pre, post, _ = pairs(SmallWorld(6, 1.0), 400, 400, same=True)
    assert np.all(pre != post)
    assert np.all(np.bincount(pre) == 6)
    assert uniform(np.bincount((post - pre) % 400, minlength=400)[1:]) > P_MIN


def test_small_world_rewires_the_fraction_it_says():
    n, k, p = 2000, 10, 0.2
    pre, post, topology = pairs(SmallWorld(k, p), n, n, same=True)
    assert np.all(np.diff(np.asarray(topology.indices), axis=1) > 0)
    assert not np.any(pre == post)
    away = (post - pre) % n
    near = (away <= k // 2) | (away >= n - k // 2)
    # a rewired synapse falls back among the k nearest in about p * k / n of cases
    assert stats.binomtest(int(np.sum(~near)), n * k, p * (1 - p * k / n)).pvalue > P_MIN
    assert uniform(np.histogram(away[~near], bins=20, range=(k // 2 + 0.5, n - k // 2 - 0.5))[0]) > P_MIN


sizes = st.integers(1, 30)


@settings(max_examples=60, deadline=None)
@given(
    n_pre=sizes, n_post=sizes, seed=st.integers(0, 2**31), which=st.integers(0, 3), part=st.floats(0, 1), data=st.data()
)
def test_topologies_are_well_formed(n_pre, n_post, seed, which, part, data):
    same = n_pre == n_post and data.draw(st.booleans())
    autapses, multapses = data.draw(st.booleans()), data.draw(st.booleans())
    less = int(same and not autapses)
    k_in, k_out = int(part * (n_pre - less)), int(part * (n_post - less))
    total = int(part * (n_pre * n_post - less * n_pre))
    rule = (
        FixedProbability(part, autapses),
        FixedInDegree(k_in, autapses, multapses),
        FixedOutDegree(k_out, autapses, multapses),
        FixedTotalNumber(total, autapses, multapses),
    )[which]
    pre, post, topology = pairs(rule, n_pre, n_post, same=same, seed=seed)
    assert (topology.n_pre, topology.n_post, topology.n_syn) == (n_pre, n_post, pre.size)
    assert topology.indices.dtype == np.int32
    assert np.all((pre >= 0) & (pre < n_pre) & (post >= 0) & (post < n_post))
    assert pre.size == (pre.size, k_in * n_post, k_out * n_pre, total)[which]
    codes = pre * n_post + post
    assert np.all(np.diff(codes) >= (0 if multapses and which else 1))
    assert not (less and np.any(pre == post))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedProbability(1.5), r"FixedProbability.p is 1.5; expected a probability"),
        (lambda: FixedProbability(-0.1), r"FixedProbability.p is -0.1"),
        (lambda: FixedProbability(float("nan")), r"FixedProbability.p is nan"),
        (lambda: FixedInDegree(-1), r"FixedInDegree.k is -1; expected k >= 0"),
        (lambda: FixedTotalNumber(-5), r"FixedTotalNumber.n is -5"),
        (lambda: SmallWorld(3, 0.1), r"SmallWorld.k is 3; expected an even number"),
        (lambda: SmallWorld(4, 2), r"SmallWorld.p is 2"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedProbability("0.1"),
        lambda: FixedProbability(None),
        lambda: FixedProbability(True),
        lambda: FixedProbability([0.1, 0.2]),
        lambda: FixedInDegree(2.0),
        lambda: FixedOutDegree(True),
        lambda: FixedOutDegree(2, autapses="no"),
        lambda: FixedTotalNumber("7"),
    ],
)
def test_bad_types(make):
    with pytest.raises(TypeError, match="expected"):
        make()


@pytest.mark.parametrize(
    ("rule", "sizes", "same", "message"),
    [
        (FixedInDegree(5), (4, 9), False, r"k = 5 .* 4 to choose from \(n_pre = 4\).*k <= 4.*multapses=True"),
        (FixedInDegree(4, autapses=False), (4, 4), True, r"3 to choose from .*autapses are refused"),
        (FixedOutDegree(5), (9, 4), False, r"n_post = 4"),
        (FixedOutDegree(1, autapses=False, multapses=True), (1, 1), True, r"0 to choose from.*Lower k\."),
        (FixedTotalNumber(17), (4, 4), False, r"16 pairs to choose from.*n <= 16"),
        (FixedTotalNumber(13, autapses=False), (4, 4), True, r"12 pairs .*less 4 autapses"),
        (FixedProbability(0.5), (4, 5), True, r"4 and 5; expected equal sizes"),
        (FixedProbability(0.5), (4, 5), np.array([0, 1]), r"shape \(4,\)"),
        (FixedProbability(0.5), (2, 5), np.array([3, 3]), r"once at most"),
        (FixedProbability(0.9), (10**5, 10**5), False, r"fewer than 2\*\*31"),
        (SmallWorld(4, 0.1), (4, 4), True, r"k < 4"),
        (SmallWorld(4, 0.1), (9, 9), False, r"ring of one population"),
        (OneToOne(), (4, 5), False, r"4 pre and 5 post units"),
    ],
)
def test_impossible_requests(rule, sizes, same, message):
    with pytest.raises(ValueError, match=message) as error:
        rule.build(*sizes, same=same, key=jax.random.key(0))
    assert type(rule).__name__ in str(error.value)


def test_keys_are_checked():
    rule = FixedProbability(0.5)
    with pytest.raises(ValueError, match="key=None"):
        rule.build(3, 3, same=False, key=None)
    with pytest.raises(ValueError, match="expected one key"):
        rule.build(3, 3, same=False, key=jax.random.split(jax.random.key(0)))
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda key: rule.build(3, 3, same=False, key=key).topology)(jax.random.key(0))


def test_empty_populations_and_no_synapses():
    for rule in (FixedProbability(0.5), FixedInDegree(0), FixedOutDegree(0), FixedTotalNumber(0)):
        for sizes in ((0, 4), (4, 0), (0, 0)):
            assert pairs(rule, *sizes)[0].size == 0
    assert pairs(FixedOutDegree(0), 5, 5)[2].n_syn == 0
