"""A function as one operation: its own derivative is kept wherever JAX moves the call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainsim.fusion import call


@jax.custom_jvp
def f(x, k):
    """3 x, whose derivative is said to be cos(x) f(x); and its other operand as it came."""
    return 3.0 * x, k


@f.defjvp
def _(primals, tangents):
    value, k = call(f, *primals)
    return (value, k), (jnp.cos(primals[0]) * value * tangents[0], np.zeros((), jax.dtypes.float0))


def steps(c, _):
    return f(*c), None


def run(x):
    """Twice f, in a scan."""
    return jax.lax.scan(steps, (x, jnp.asarray(2, jnp.int32)), None, length=2)[0][0]


def by_hand(x):
    """The derivative of `run`."""
    return jnp.cos(3.0 * x) * 9.0 * x * jnp.cos(x) * 3.0 * x


@pytest.mark.core
def test_second_derivatives_through_a_scan_take_the_derivative_that_is_said():
    x, one = jnp.asarray(0.5), jnp.asarray(1.0)
    first, second = jax.jit(lambda x: jax.jvp(jax.grad(run), (x,), (one,)))(x)
    np.testing.assert_allclose(first, by_hand(x), rtol=1e-5)
    u, v = x, 3.0 * x  # d v = cos(u) v du, d w = cos(v) w dv with w = 9 x
    dv = jnp.cos(u) * v
    w = 3.0 * v
    dw = jnp.cos(v) * w * dv
    wanted = (-jnp.sin(v) * dv * w + jnp.cos(v) * dw) * dv + jnp.cos(v) * w * (-jnp.sin(u) * v + jnp.cos(u) * dv)
    np.testing.assert_allclose(second, wanted, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(run)))(x), wanted, rtol=1e-5)
    batch = jax.jit(jax.vmap(jax.grad(jax.grad(run))))(jnp.stack([x, -x]))
    np.testing.assert_allclose(batch, jnp.stack([wanted, jax.grad(jax.grad(run))(-x)]), rtol=1e-5)


def test_what_a_batch_does_not_touch_has_none():
    value, k = jax.vmap(lambda x: call(f, x, jnp.asarray(2, jnp.int32)), out_axes=(0, None))(jnp.arange(3.0))
    assert value.shape == (3,)
    assert k.shape == ()
