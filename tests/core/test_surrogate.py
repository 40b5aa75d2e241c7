"""Every surrogate through one protocol, and what detaching the reset means."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

ALL = [
    bs.Triangular,
    bs.Rectangular,
    bs.PiecewiseExponential,
    bs.SuperSpike,
    bs.ArcTan,
    bs.Sigmoid,
    bs.Gaussian,
]
COMPACT = {bs.Triangular, bs.Rectangular}
WIDTHS = [0.3, 1.0, 2.5]
ROUNDING = 1e-6  # float32
MIDPOINT = 5e-5  # of the quadrature, at the edges of Rectangular


def at_points(width):
    """Guards on both sides of the edge of the support, symmetric about 0."""
    return jnp.asarray(np.array([-50.0, -1.0, -0.999, -0.4, -1e-3, 0.0, 1e-3, 0.4, 0.999, 1.0, 50.0]) * width)


@pytest.mark.core
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ALL)
def test_the_value_is_a_step_and_the_derivative_the_slope(kind, width):
    h, x = kind(width=width), at_points(width)
    value, tangent = jax.jvp(h, (x,), (jnp.full_like(x, 2.0),))
    assert value.dtype == x.dtype
    np.testing.assert_array_equal(value, np.asarray(x) > 0)
    slope = np.asarray(h.slope(x))
    close = {"rtol": 10 * ROUNDING, "atol": ROUNDING / width}
    np.testing.assert_allclose(tangent, 2.0 * slope, **close)
    np.testing.assert_allclose(jax.vjp(h, x)[1](jnp.ones_like(x))[0], slope, **close)
    np.testing.assert_allclose(slope, slope[::-1], **close)
    assert np.all(slope >= 0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ALL)
def test_the_support_is_where_the_slope_is_not_zero(kind, width):
    h = kind(width=width)
    edge = jnp.asarray(width)
    x = jnp.concatenate([at_points(width), jnp.stack([jnp.nextafter(edge, 0 * edge), jnp.nextafter(edge, 2 * edge)])])
    support = h.support(x)
    if kind in COMPACT:
        np.testing.assert_array_equal(support, np.asarray(h.slope(x)) != 0)
        assert not bool(support[0])
    else:
        assert support is None
        assert jnp.all(h.slope(at_points(width)[1:-1]) > 0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ALL)
def test_the_slope_integrates_to_one(kind, width, x64):
    h = kind(width=width)
    # the whole line through x = width tan(theta), by the midpoint rule
    d = np.pi / 200_000
    theta = -np.pi / 2 + d * (np.arange(200_000) + 0.5)
    x = jnp.asarray(width * np.tan(theta))
    total = float(np.sum(np.asarray(h.slope(x)) * width / np.cos(theta) ** 2) * d)
    # SuperSpike is the derivative of the fast sigmoid x / (1 + |x|), which runs from -1 to 1
    expected = 2.0 if kind is bs.SuperSpike else 1.0
    assert total == pytest.approx(expected, abs=MIDPOINT)


def test_widths_may_differ_by_unit():
    h = bs.Triangular(width=jnp.asarray([1.0, 2.0]))
    np.testing.assert_allclose(h.slope(jnp.asarray([0.5, 0.5])), [0.5, 0.375], rtol=ROUNDING)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("v", [-50.6, -49.7])
def test_a_reset_is_differentiable_or_detached(detach, v):
    """`v' = v + s (v_reset - v)`: the derivative is `1 - s`, and with the reset attached also `slope (v_reset - v)`."""
    pop = bs.Population(bs.LIF(v_th=-50.0, v_reset=-60.0), 1, surrogate=bs.Triangular(1.0), detach_reset=detach)
    clock = bs.Clock.of("P", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0))
    y, z = pop.init(clock)

    def after(v):
        out, _, events = pop.jump(eqx.tree_at(lambda y: y["unit"]["v"], y, v), z, jnp.zeros(()), clock)
        return out["unit"]["v"], events.value

    (_, s), (dv, ds) = jax.jvp(after, (jnp.asarray([v]),), (jnp.ones(1),))
    slope = 1.0 - abs(v + 50.0)
    assert float(s[0]) == float(v > -50.0)
    assert float(ds[0]) == pytest.approx(slope, abs=1e-5)  # what goes out differentiates either way
    by_hand = 1.0 - float(v > -50.0) + (0.0 if detach else slope * (-60.0 - v))
    assert float(dv[0]) == pytest.approx(by_hand, abs=1e-4)


def test_the_reset_of_a_run_by_hand():
    """Two steps of `v <- e^-a v + (1 - e^-a) I / g_l` with a spike in the first: d v_2 / d I by the chain rule."""
    unit = bs.LIF(tau_m=1.0, e_l=0.0, v_th=1.0, v_reset=-1.0, g_l=1.0)

    def v2(i_e, detach):
        net = bs.Network({"P": bs.Population(unit, 1, i_e=i_e, surrogate=bs.Triangular(1.0), detach_reset=detach)})
        sol = bs.simulate(net, t1=2.0, dt=1.0, key=jax.random.key(0), saveat=[bs.Trace("P.v"), bs.Events("P")])
        return sol["P.v"][-1, 0], sol["P.events"][:, 0]

    drive, a = 2.0, np.exp(-1.0)
    for detach in (False, True):
        grad, s = jax.jit(jax.grad(v2, has_aux=True), static_argnums=1)(jnp.asarray(drive), detach)
        v1 = (1 - a) * drive  # 1.264: a spike
        slope = 1 - abs(v1 - 1.0)
        reset = 0.0 if detach else slope * (-1.0 - v1)
        # the second step ends below threshold, within the support of the surrogate or not
        v2_before = a * -1.0 + (1 - a) * drive
        slope2 = max(0.0, 1 - abs(v2_before - 1.0))
        after = 1.0 if detach else 1.0 + slope2 * (-1.0 - v2_before)
        np.testing.assert_array_equal(s, [1.0, 0.0])
        assert float(grad) == pytest.approx(((1 - a) + a * (1 - a) * reset) * after, rel=1e-5)
