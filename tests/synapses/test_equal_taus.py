"""Receptors of two exponentials whose time constants come together: the alpha function, with finite derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import replay, run

DECAY, DT, STEPS = 5.0, 0.1, 300
VALUE = {jnp.float32: 1e-4, jnp.float64: 1e-8}
"""The documented distance from the closed form at a peak of 1, and 10 times that for rounding in float64."""
RISES = [4.0, 4.8, 4.9, 4.95, 4.99, 4.9999, 4.9999995, 5.0]


@pytest.fixture(scope="module")
def response():
    """Conductance after one event of weight 1, as a function of tau_rise of either receptor, compiled once."""
    ports = {"dual": bs.DualExpCond(1.0, DECAY), "nmda": bs.NMDA(1.0, DECAY)}
    net = bs.Network(
        {"S": replay([(0, 0)], 1, DT), "P": bs.Population(bs.LIF(v_th=1e6), 1, ports)},
        {k: bs.Projection("S", f"P.{k}", bs.OneToOne(), weight=1.0) for k in ports},
    )
    saved = [bs.Trace(f"P.{k}.{x}") for k in ports for x in ("rise", "decay")]

    def g(rise):
        where = lambda n: [n.nodes["P"].receptors[k].tau_rise for k in ports]  # noqa: E731
        sol = run(eqx.tree_at(where, net, [rise, rise]), STEPS, DT, saved)
        return jnp.stack([sol[f"P.{k}.decay"][1:, 0] - sol[f"P.{k}.rise"][1:, 0] for k in ports])

    return jax.jit(lambda rise: jax.jvp(g, (rise,), (jnp.ones_like(rise),)))


def closed(rise):
    t = DT * np.arange(1, STEPS)
    if abs(DECAY - rise) < 1e-3:  # the alpha function, and its change by half the difference of the rates, squared
        tau = 0.5 * (rise + DECAY)
        return t / tau * np.exp(1 - t / tau)
    peak = rise * DECAY / (DECAY - rise) * np.log(DECAY / rise)
    f = lambda t: np.exp(-t / DECAY) - np.exp(-t / rise)  # noqa: E731
    return f(t) / f(peak)


@pytest.mark.core
def test_the_response_is_that_of_the_closed_form_up_to_equality_and_beyond(response):
    kind = jnp.zeros(()).dtype.type
    for rise in [*RISES, DECAY * DECAY / RISES[3]]:  # the last beyond: the response is even in the difference
        value, change = response(jnp.asarray(rise))
        assert np.all(np.isfinite(change)), rise
        for one in np.asarray(value):
            np.testing.assert_allclose(one, closed(rise), atol=VALUE[kind], err_msg=str(rise))


def test_the_derivative_at_equality_is_that_of_the_closed_form(response):
    h = 1e-2  # central difference of second order: 1e-4 of the third derivative
    _, change = response(jnp.asarray(DECAY))
    expected = (closed(DECAY + h) - closed(DECAY - h)) / (2 * h)
    for one in np.asarray(change):
        np.testing.assert_allclose(one, expected, atol=1e-3 * np.abs(expected).max())


def test_equal_constants_are_a_model_and_exchanged_ones_are_not():
    assert float(bs.DualExpCond(5.0, 5.0).tau_rise) == 5.0
    for receptor in (bs.DualExpCond, bs.NMDA):
        with pytest.raises(ValueError, match=f"{receptor.__name__}: tau_rise = 6.*tau_rise <= tau_decay. Swap"):
            receptor(6.0, 5.0)
