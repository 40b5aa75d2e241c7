"""Tsodyks-Markram release against its closed forms: a regular train, a pair of spikes, recovery."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import replay, run

DT, PERIOD, N_SPIKES = 0.5, 20.0, 60  # ms, ms
WEIGHT = 3.0
U = np.asarray([0.5, 0.15, 0.2, 1.0])
FACIL = np.asarray([0.0, 500.0, 60.0, 0.0])
REC = np.asarray([150.0, 5.0, 100.0, 80.0])
CLOSE = 1e-10  # float64, a hundred steps between spikes
FADED = 1e-4  # of the approach to the steady state
LATE = 2000  # steps of silence before the last spike


@pytest.fixture(scope="module")
def trains():
    """u and x after each spike and what arrived, (n_spikes + 1, 4) each: a train and, much later, one more spike."""
    with jax.enable_x64(True):
        every = round(PERIOD / DT)
        at = [3 + every * k for k in range(N_SPIKES)]
        at.append(at[-1] + LATE)
        n = U.size
        plastic = bs.TsodyksMarkram(U=U, tau_facil=FACIL, tau_rec=REC)
        net = bs.Network(
            {
                "S": replay([(m, i) for m in at for i in range(n)], n, DT),
                "T": bs.Population(bs.LIF(), n, {"exc": bs.ExpCurr(tau=1.0)}),
            },
            {"E": bs.Projection("S", "T.exc", bs.OneToOne(), weight=WEIGHT, short_term=plastic)},
        )
        sol = run(net, at[-1] + 3, DT, [bs.Trace("E.u"), bs.Trace("E.x"), bs.Trace("T.exc.i")])
        u, x, i = (np.asarray(sol[key]) for key in ("E.u", "E.x", "T.exc.i"))
        at = np.asarray(at)
        decay = np.exp(-DT)
        return u[at], x[at], i[at + 1] / decay - i[at]


def steady_state():
    with np.errstate(divide="ignore"):
        e_facil, e_rec = np.exp(-PERIOD / FACIL), np.exp(-PERIOD / REC)
    u = U / (1 - (1 - U) * e_facil)
    x = (1 - e_rec) / (1 - (1 - u) * e_rec)
    return u, x


def test_the_first_spike_releases_u_of_rest(trains):
    u, x, arrived = trains
    np.testing.assert_allclose(u[0], U, rtol=CLOSE)
    np.testing.assert_allclose(x[0], 1 - U, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_allclose(arrived[0], WEIGHT * U, rtol=CLOSE)


def test_the_paired_pulse_ratio(trains):
    """The second release over the first: depression, facilitation, and both."""
    _, _, arrived = trains
    with np.errstate(divide="ignore"):
        e_facil, e_rec = np.exp(-PERIOD / FACIL), np.exp(-PERIOD / REC)
    u2 = U * e_facil + U * (1 - U * e_facil)
    x2 = 1 - U * e_rec
    ratio = arrived[1] / arrived[0]
    np.testing.assert_allclose(ratio, u2 * x2 / U, rtol=CLOSE)
    assert ratio[0] < 1 < ratio[1]


def test_the_steady_state_of_a_regular_train(trains):
    u, x, arrived = trains
    u_end, x_end = steady_state()
    # the slowest memory, u of unit 1, has faded by ((1 - U) exp(-20 / 500))^59 = 6e-6 after the train
    np.testing.assert_allclose(u[N_SPIKES - 1], u_end, rtol=FADED)
    np.testing.assert_allclose(arrived[N_SPIKES - 1], WEIGHT * u_end * x_end, rtol=FADED)
    np.testing.assert_allclose(x[N_SPIKES - 1], x_end * (1 - u_end), rtol=FADED, atol=CLOSE)


def test_recovery_is_exponential(trains):
    u, x, arrived = trains
    gap = LATE * DT
    with np.errstate(divide="ignore"):
        u_then = u[-2] * np.exp(-gap / FACIL)
    u_then = u_then + U * (1 - u_then)
    x_then = 1 - (1 - x[-2]) * np.exp(-gap / REC)
    np.testing.assert_allclose(u[-1], u_then, rtol=CLOSE)
    np.testing.assert_allclose(arrived[-1], WEIGHT * u_then * x_then, rtol=CLOSE)


def test_what_is_released_differentiates():
    """Against finite differences, and without NaN at tau_facil = 0."""
    spikes = np.zeros((30, 2))
    spikes[[2, 9, 15, 16], :] = 1.0

    def released(U, tau_facil, tau_rec):
        plastic = bs.TsodyksMarkram(U=U, tau_facil=tau_facil, tau_rec=tau_rec)
        clock = bs.Clock.of("E", jnp.asarray(0, jnp.int32), 1.0, jax.random.key(0))

        def step(z, value):
            out, z = plastic.release(z, value, clock)
            return z, out

        return jnp.sum(jax.lax.scan(step, plastic.init(2, clock), jnp.asarray(spikes))[1] ** 2)

    with jax.enable_x64(True):
        args = [jnp.asarray([0.4, 0.3]), jnp.asarray([20.0, 0.0]), jnp.asarray([30.0, 100.0])]
        grads = jax.jit(jax.grad(released, argnums=(0, 1, 2)))(*args)
        value = jax.jit(released)
        for k, grad in enumerate(grads):
            assert np.all(np.isfinite(grad))
            for i in range(2):
                if k == 1 and i == 1:
                    assert float(grad[i]) == 0.0  # at tau_facil = 0, where there is nothing to its left
                    continue
                by = jnp.zeros(2).at[i].set(1e-5)
                up, down = ([a + s * by if j == k else a for j, a in enumerate(args)] for s in (1, -1))
                assert float(grad[i]) == pytest.approx(float(value(*up) - value(*down)) / 2e-5, rel=1e-6)


def test_the_state_is_that_of_the_units_of_the_view():
    net = bs.Network(
        {"S": replay([(1, 4), (1, 0)], 6, DT), "T": bs.Population(bs.LIF(), 3, {"exc": bs.ExpCurr()})},
        {
            "E": bs.Projection(
                "S[3:]", "T", bs.AllToAll(), weight=1.0, short_term=bs.TsodyksMarkram(U=[0.1, 0.2, 0.3], tau_rec=50.0)
            )
        },
    )
    sol = run(net, 3, DT, [bs.Trace("E.u"), bs.Trace("T.exc.i")])
    np.testing.assert_allclose(sol["E.u"][1], [0.0, 0.2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(sol["T.exc.i"][2], 0.2 * np.exp(-DT / 5.0) * np.ones(3), rtol=1e-5)


def test_a_spike_that_did_not_come_has_the_derivative_of_one_that_did():
    plastic = bs.TsodyksMarkram(U=0.3, tau_facil=50.0, tau_rec=80.0)
    clock = bs.Clock.of("E", jnp.asarray(0, jnp.int32), 1.0, jax.random.key(0))
    rest = plastic.init(3, clock)
    value = jnp.asarray([0.0, 1.0, 0.5])
    (released, z), (slope, _) = jax.jvp(lambda v: plastic.release(rest, v, clock), (value,), (jnp.ones(3),))
    np.testing.assert_allclose(slope, [0.3, 0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(released, [0.0, 0.3, 0.15], rtol=1e-6)
    np.testing.assert_allclose(z["u"], [0.0, 0.3, 0.15], rtol=1e-6)
    np.testing.assert_allclose(z["x"], [1.0, 0.7, 0.85], rtol=1e-6)
