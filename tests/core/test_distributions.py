"""Named distributions: their laws, their derivatives and their checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from brainsim.base import float_dtype
from brainsim.core import _distributions as distributions
from brainsim.core._distributions import Exponential, Gamma, LogNormal, Normal, Uniform, draw

P_MIN = 1e-4  # a fixed seed fails a right law with this probability, once, when the test is written
N = 20_000  # enough to see a per cent of shape; float32 rounding (1e-7) is far below the resolution of the test
KEY = jax.random.key(11)

LAWS = [
    (Normal(-3.0, 2.0), stats.norm(-3.0, 2.0)),
    (Normal(0.5, 0.4, low=0.0), stats.truncnorm(-1.25, np.inf, 0.5, 0.4)),
    (Normal(0.5, 0.4, high=0.6), stats.truncnorm(-np.inf, 0.25, 0.5, 0.4)),
    (Normal(0.0, 1.0, low=-0.5, high=2.0), stats.truncnorm(-0.5, 2.0)),
    (Normal(0.0, 1.0, low=7.0), stats.truncnorm(7.0, np.inf)),
    (Normal(0.0, 1.0, high=-7.0), stats.truncnorm(-np.inf, -7.0)),
    (Uniform(-60.0, -50.0), stats.uniform(-60.0, 10.0)),
    (LogNormal(-0.7, 0.9), stats.lognorm(0.9, scale=np.exp(-0.7))),
    (Exponential(2.5), stats.expon(scale=2.5)),
    (Gamma(4.0, 0.5), stats.gamma(4.0, scale=0.5)),
    (Gamma(1.0, 2.0), stats.gamma(1.0, scale=2.0)),
    (Gamma(0.4, 2.0), stats.gamma(0.4, scale=2.0)),
]


@pytest.mark.parametrize(("law", "reference"), LAWS, ids=lambda x: repr(x) if hasattr(x, "sample") else "")
def test_laws(law, reference):
    x = law.sample(KEY, (N // 2, 2))
    assert x.shape == (N // 2, 2)
    assert x.dtype == float_dtype()
    assert bool(jnp.all(jnp.isfinite(x)))
    assert stats.kstest(np.asarray(x, np.float64).ravel(), reference.cdf).pvalue > P_MIN
    np.testing.assert_array_equal(x, law.sample(KEY, (N // 2, 2)))
    assert not np.array_equal(x, law.sample(jax.random.key(12), (N // 2, 2)))


def test_truncated_values_stay_inside():
    for mean in (-50.0, 0.3, 1.0, 90.0):
        x = Normal(mean, 0.5, low=0.1, high=0.7).sample(KEY, (1000,))
        assert float(x.min()) >= np.asarray(0.1, x.dtype)
        assert float(x.max()) <= np.asarray(0.7, x.dtype)


def test_width_zero_is_the_mean():
    np.testing.assert_array_equal(Normal(2.0, 0.0).sample(KEY, (5,)), jnp.full(5, 2.0))
    np.testing.assert_array_equal(Normal(2.0, 0.0, low=0.0).sample(KEY, (5,)), jnp.full(5, 2.0))


def test_lognormal_from_moments():
    law = LogNormal.from_moments(3.0, 1.5)
    reference = stats.lognorm(float(law.sigma), scale=np.exp(float(law.mu)))
    np.testing.assert_allclose([reference.mean(), reference.std()], [3.0, 1.5], rtol=1e-5)  # float32


def test_one_parameter_per_unit():
    mean = np.arange(4.0)
    np.testing.assert_allclose(Normal(mean, 1e-6).sample(KEY, (4,)), mean, atol=1e-4)
    low = Normal(mean, 1e-3, low=-1.0).sample(KEY, (4,))
    np.testing.assert_allclose(low, mean, atol=1e-2)
    with pytest.raises(ValueError, match=r"Normal.mean has shape \(4,\) but values of shape \(5,\)"):
        Normal(mean, 1.0).sample(KEY, (5,))


@pytest.mark.parametrize(
    "law",
    [
        Normal(0.5, 0.4),
        Normal(0.5, 0.4, low=0.0),
        Uniform(1.0, 2.0),
        LogNormal(0.1, 0.2),
        Exponential(2.0),
        Gamma(2.0, 0.7),
    ],
    ids=repr,
)
def test_samples_are_differentiable_in_the_parameters(law):
    @jax.jit
    def mean(law):
        return jnp.mean(law.sample(KEY, (200,)))

    slope = jax.jit(jax.grad(mean))(law)
    h = 1e-2  # samples are smooth in the parameters: the error is h^2, and rounding 1e-7 / h
    for i, leaf in enumerate(jax.tree.leaves(law)):
        leaves, treedef = jax.tree.flatten(law)
        up, down = (mean(treedef.unflatten([*leaves[:i], leaf + s, *leaves[i + 1 :]])) for s in (h, -h))
        np.testing.assert_allclose(jax.tree.leaves(slope)[i], (up - down) / (2 * h), rtol=5e-3, atol=1e-3)


def test_under_jit_and_vmap():
    laws = jax.vmap(lambda m: Normal(m, 0.1, low=0.0))(jnp.array([1.0, 2.0]))
    x = jax.jit(jax.vmap(lambda law, key: law.sample(key, (50,))))(laws, jax.random.split(KEY))
    np.testing.assert_allclose(jnp.mean(x, axis=1), [1.0, 2.0], atol=0.1)
    x = jax.vmap(lambda a, key: Gamma(a, 1.0).sample(key, (500,)))(jnp.array([2.0, 9.0]), jax.random.split(KEY))
    np.testing.assert_allclose(jnp.mean(x, axis=1), [2.0, 9.0], rtol=0.15)


def test_draw():
    assert draw(2, None, (3,)).shape == ()
    assert draw(2, None, (3,)).dtype == float_dtype()
    np.testing.assert_array_equal(draw([1, 2, 3], None, (3,)), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(draw(Normal(1.0, 2.0), KEY, (3,)), Normal(1.0, 2.0).sample(KEY, (3,)))
    assert jax.jit(lambda x: draw(x, None, (3,)))(jnp.ones(3)).shape == (3,)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Normal(0.0, -1.0), ValueError, r"Normal.std is -1.0; expected std >= 0"),
        (lambda: Normal(np.nan, 1.0), ValueError, "Normal.mean contains NaN"),
        (lambda: Normal(0.0, np.inf), ValueError, "Normal.std contains NaN or infinity"),
        (lambda: Normal(0.0, 1.0, low=2.0, high=1.0), ValueError, "expected low < high"),
        (lambda: Normal(0.0, 1.0, low=np.nan), ValueError, "expected low < high"),
        (lambda: Normal(0.0, 0.0, low=1.0), ValueError, "no value inside its bounds"),
        (lambda: Normal("a", 1.0), TypeError, "Normal.mean is 'a'"),
        (lambda: Uniform(1.0, 1.0), ValueError, "is empty; expected low < high"),
        (lambda: Uniform(0.0, np.inf), ValueError, "Uniform.high"),
        (lambda: LogNormal(0.0, -0.1), ValueError, "LogNormal.sigma is -0.1"),
        (lambda: LogNormal.from_moments(-1.0, 0.1), ValueError, "mean > 0"),
        (lambda: LogNormal.from_moments(1.0, -0.1), ValueError, "std >= 0"),
        (lambda: Exponential(0.0), ValueError, "Exponential.scale is 0.0; expected scale > 0"),
        (lambda: Gamma(0.0, 1.0), ValueError, "Gamma.shape is 0.0"),
        (lambda: Gamma(1.0, -1.0), ValueError, "Gamma.scale is -1.0"),
        (
            lambda: draw([1.0, 2.0], None, (3,), owner="E->I", name="weight"),
            ValueError,
            r"E->I.weight has shape \(2,\)",
        ),
        (lambda: draw(np.nan, None, (3,), owner="E->I", name="weight"), ValueError, "E->I.weight contains NaN"),
        (lambda: draw("1", None, (3,)), TypeError, "draw.value is '1'"),
        (lambda: draw(Normal(0.0, 1.0), None, (3,)), ValueError, "needs a key"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_values_drawn_in_pieces_have_their_law_and_one_program(monkeypatch):
    """One program for all lengths and bounds; the first values do not depend on how many there are."""
    monkeypatch.setattr(distributions, "PIECE", 512)
    traced = []
    law = distributions._truncated
    monkeypatch.setattr(distributions, "_truncated", lambda *args: traced.append(1) or law(*args))
    key = jax.random.key(0)
    drawn = {}
    for n, low in ((40, 0.0), (512, 0.2), (1300, 0.0), (0, 0.0)):
        x = drawn[n] = np.asarray(distributions.drawn_in_pieces(Normal(0.5, 0.3, low=low), key, (n,)))
        assert x.shape == (n,)
        assert np.all(x >= low)
    assert len(traced) == 1
    np.testing.assert_array_equal(drawn[40], drawn[1300][:40])
    assert np.unique(drawn[1300]).size > 1290
    a, b = ((e - 0.5) / 0.3 for e in (0.0, np.inf))
    assert stats.kstest(drawn[1300], stats.truncnorm(a, b, 0.5, 0.3).cdf).pvalue > 1e-3
    shaped = distributions.drawn_in_pieces(Uniform(0.0, 1.0), key, (3, 4))
    assert shaped.shape == (3, 4)
    by = jax.grad(lambda m: jnp.sum(distributions.drawn_in_pieces(Normal(m, 0.3), key, (700,))))(0.5)
    np.testing.assert_allclose(by, 700.0, rtol=1e-6)
