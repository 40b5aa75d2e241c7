"""Connection by distance: exact probabilities, whatever the boxes."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from brainsim.connect import (
    AbstractKernel,
    DifferenceOfGaussiansKernel,
    DiscKernel,
    DistanceDependent,
    ExponentialKernel,
    FixedOutDegree,
    GaussianKernel,
    grid_positions,
    synapse_lengths,
)
from brainsim.events import FixedFanin

P_MIN = 1e-4  # a fixed seed fails a right law with this probability, once, when the test is written
KERNELS = [
    GaussianKernel(0.1, 0.6),
    ExponentialKernel(0.1, 0.9),
    DiscKernel(0.2, 0.5),
    DifferenceOfGaussiansKernel(0.2, 0.1, 0.8, 0.8),
    GaussianKernel(5.0, 0.02),
]


def distances(a, b, extent):
    """All distances at once, the plain way."""
    delta = np.abs(a[:, None, :] - b[None, :, :])
    if extent is not None:
        delta = np.minimum(delta, np.asarray(extent) - delta)
    return np.sqrt(np.sum(delta**2, axis=-1))


def build(rule, n_pre, n_post, same=False, seed=0):
    topology, order = rule.build(n_pre, n_post, same=same, key=jax.random.key(seed))
    assert order is None
    pre, post = (np.asarray(x, np.int64) for x in topology.to_coo())
    return pre, post, topology


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("closed", [False, True])
def test_pairs_are_independent_with_the_probability_of_their_distance(kernel, dims, closed):
    rng = np.random.default_rng(5)
    x, y = rng.random((500, dims)), rng.random((700, dims))
    extent = (1.0,) * dims if closed else None
    pre, post, _ = build(DistanceDependent(kernel, x, y, extent=extent), 500, 700)
    assert np.all(np.diff(pre * 700 + post) > 0)
    p = kernel(distances(x, y, extent))
    hit = np.zeros(p.shape)
    hit[pre, post] = 1
    assert np.all(hit[p == 0] == 0)
    # hits are as many as expected in each tenth of the probabilities, and neighbours are uncorrelated
    real = p > 0
    score = np.where(real, (hit - p) / np.sqrt(np.where(real, p * (1 - p), 1.0)), 0.0)
    for low, high in zip(
        np.quantile(p[real], np.arange(0, 1, 0.1)), np.quantile(p[real], np.arange(0.1, 1.05, 0.1)), strict=True
    ):
        band = real & (p >= low) & (p <= high)
        if p[band].sum() > 20:
            z = (hit[band].sum() - p[band].sum()) / np.sqrt(np.sum(p[band] * (1 - p[band])))
            assert abs(z) < stats.norm.isf(P_MIN / 20)
    common = p > 0.005  # faint pairs have heavy-tailed scores
    score = np.where(common, score, 0.0)
    assert abs(np.sum(score[1:] * score[:-1])) < 4.5 * np.sqrt(max(common.sum(), 1))


def test_every_graph_of_four_pairs_is_as_likely_as_it_should():
    x = np.array([0.0, 0.3])
    kernel = GaussianKernel(0.3, 0.7)
    rule = DistanceDependent(kernel, x)
    p = kernel(np.array([0.0, 0.3, 0.3, 0.0]))
    codes = []
    for seed in range(500):
        pre, post, _ = build(rule, 2, 2, same=True, seed=seed)
        codes.append(int(np.sum(2 ** (2 * pre + post))))
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    expected = np.prod(np.where(bits, p, 1 - p), axis=1)
    assert stats.chisquare(np.bincount(codes, minlength=16), 500 * expected).pvalue > P_MIN


def test_large_space_without_a_matrix():
    n = 100_000  # 1e10 pairs: a matrix of bytes would need 10 GB
    side = np.sqrt(n)
    x = np.random.default_rng(0).random((n, 2)) * side
    pre, post, _ = build(DistanceDependent(DiscKernel(1.0), x, extent=(side, side), autapses=False), n, n, same=True)
    # Poisson points of density 1 have pi neighbours within distance 1; pairs come twice, so the variance doubles
    assert abs(pre.size - n * np.pi) < 5 * np.sqrt(2 * n * np.pi)
    np.testing.assert_array_equal(np.sort(pre * n + post), np.sort(post * n + pre))


def test_disc_on_a_grid_reaches_its_rim():
    x = grid_positions((20, 20))
    pre, post, _ = build(
        DistanceDependent(DiscKernel(1.0), x, extent=(20.0, 20.0), autapses=False), 400, 400, same=True
    )
    assert np.all(np.bincount(pre) == 4)
    assert np.all(np.bincount(post) == 4)
    pre, post, _ = build(DistanceDependent(DiscKernel(1.0), x), 400, 400, same=True)
    assert pre.size == 400 + 4 * 20 * 19
    assert np.sum(pre == post) == 400


def test_positions_outside_a_period_are_wrapped_and_open_dimensions_are_not():
    x = np.array([[0.05, 0.05], [2.95, 0.05], [0.05, 0.95]])
    rule = DistanceDependent(DiscKernel(0.15), x, extent=(1.0, np.inf), autapses=False)
    pre, post, _ = build(rule, 3, 3, same=True)
    assert sorted(zip(pre.tolist(), post.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_same_key_same_graph():
    rule = DistanceDependent(GaussianKernel(0.2, 0.5), np.random.default_rng(1).random((80, 2)))
    a, b, c = (build(rule, 80, 80, seed=s)[1] for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert a.size != c.size or np.any(a != c)


@settings(max_examples=40, deadline=None)
@given(
    near=st.floats(0, 3),
    step=st.floats(0, 3),
    part=st.floats(0, 1),
    which=st.integers(0, len(KERNELS) - 1),
    by=st.floats(0.1, 3),
)
def test_bounds_hold(near, step, part, which, by):
    kernel = KERNELS[which]
    d = np.array([near, near + part * step, near + step]) * by
    p = kernel(d)
    assert np.all((p >= 0) & (p <= 1))
    assert p[1] <= kernel.bound(d[0], d[2]) * (1 + 1e-12)


class Wrong(AbstractKernel):
    """Rises with distance, but is bounded as if it fell."""

    def __call__(self, distance):
        return np.minimum(distance, 1.0)

    def bound(self, near, far):
        return np.minimum(near, 1.0) + 0.01


class Ring(AbstractKernel):
    """A kernel of a user's own."""

    def __call__(self, distance):
        return np.where((distance > 0.3) & (distance < 0.4), 1.0, 0.0)

    def bound(self, near, far):
        return np.where((far > 0.3) & (near < 0.4), 1.0, 0.0)


def test_own_kernels():
    x = np.random.default_rng(2).random((300, 2))
    pre, post, _ = build(DistanceDependent(Ring(), x), 300, 300)
    d = distances(x, x, None)
    assert pre.size == np.sum((d > 0.3) & (d < 0.4))
    assert np.all((d[pre, post] > 0.3) & (d[pre, post] < 0.4))
    with pytest.raises(ValueError, match="Mend the kernel or its bound"):
        build(DistanceDependent(Wrong(), x), 300, 300)


def test_grid_positions():
    np.testing.assert_allclose(grid_positions((2, 2), 0.5), [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
    np.testing.assert_allclose(grid_positions(3), [[0.5], [1.5], [2.5]])
    np.testing.assert_allclose(grid_positions((1, 2), (1.0, 2.0)), [[0.5, 1.0], [0.5, 3.0]])


def test_synapse_lengths_have_the_shape_of_the_weights():
    x, y = np.random.default_rng(0).random((2, 30, 2))
    for rule in (DistanceDependent(GaussianKernel(0.3), x, y, extent=(1.0, 1.0)), FixedOutDegree(4)):
        pre, post, topology = build(rule, 30, 30)
        length = synapse_lengths(topology, x, y, extent=(1.0, 1.0))
        assert length.shape == topology.indices.shape
        np.testing.assert_allclose(length.ravel(), distances(x, y, (1.0, 1.0))[pre, post], rtol=1e-12)
    fanin = FixedFanin(np.random.default_rng(1).integers(0, 30, (30, 3)), 30)
    length = synapse_lengths(fanin, x, y, extent=(1.0, 1.0))
    pre, post = fanin.to_coo()
    np.testing.assert_allclose(length, distances(x, y, (1.0, 1.0))[pre, post].reshape(30, 3), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GaussianKernel(0.0), ValueError, "GaussianKernel.sigma is 0.0; expected a finite number above 0"),
        (lambda: GaussianKernel(1.0, 1.2), ValueError, "GaussianKernel.p_max is 1.2"),
        (lambda: DiscKernel(np.nan), ValueError, "DiscKernel.radius is nan"),
        (lambda: ExponentialKernel("1"), TypeError, "ExponentialKernel.scale"),
        (lambda: DifferenceOfGaussiansKernel(1.0, 2.0, -1.0), ValueError, "p_centre is -1.0"),
        (lambda: DistanceDependent(np.exp, np.zeros((2, 2))), TypeError, "expected a kernel"),
        (lambda: DistanceDependent(DiscKernel(1.0), [[0.0, np.nan]]), ValueError, "NaN"),
        (
            lambda: DistanceDependent(DiscKernel(1.0), np.zeros((2, 2)), np.zeros((2, 3))),
            ValueError,
            "2 and 3 dimensions",
        ),
        (lambda: DistanceDependent(DiscKernel(1.0), np.zeros((2, 2)), extent=(1.0,)), ValueError, "2 positive periods"),
        (
            lambda: DistanceDependent(DiscKernel(1.0), np.zeros((2, 2)), extent=(1.0, 0.0)),
            ValueError,
            "2 positive periods",
        ),
        (lambda: DistanceDependent(DiscKernel(1.0), np.array(["a"])), ValueError, "expected real numbers"),
        (lambda: grid_positions((2, 2), (1.0,)), ValueError, "1 spacings"),
        (lambda: grid_positions((2, -1)), ValueError, "shape is -1"),
        (
            lambda: build(DistanceDependent(DiscKernel(1.0), np.zeros((2, 2))), 2, 3),
            ValueError,
            "places 2 units and there are 3",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_empty_and_coincident_units():
    assert build(DistanceDependent(DiscKernel(1.0), np.zeros((0, 2)), np.zeros((4, 2))), 0, 4)[0].size == 0
    assert build(DistanceDependent(DiscKernel(1.0), np.zeros((50, 2))), 50, 50)[0].size == 2500
