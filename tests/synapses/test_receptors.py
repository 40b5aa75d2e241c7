"""Every receptor's response to one event against its closed form, its normalisation, and its current."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import replay, run

EXACT = 1e-12  # float64, some hundred roundings
T1, WEIGHT = 40.0, 1.7
RISE, DECAY, TAU = 0.7, 4.0, 2.0
NMDA_RISE, NMDA_DECAY = 2.0, 30.0


def receptors():
    """Port -> receptor and the variables whose values, summed with these signs, are its conductance or current."""
    return {
        "exp_curr": (bs.ExpCurr(tau=TAU), {"i": 1}),
        "exp_cond": (bs.ExpCond(tau=TAU), {"g": 1}),
        "dual": (bs.DualExpCond(tau_rise=RISE, tau_decay=DECAY), {"decay": 1, "rise": -1}),
        "alpha_curr": (bs.AlphaCurr(tau=TAU), {"i": 1}),
        "alpha_cond": (bs.AlphaCond(tau=TAU), {"g": 1}),
        "nmda": (bs.NMDA(tau_rise=NMDA_RISE, tau_decay=NMDA_DECAY), {"decay": 1, "rise": -1}),
    }


def dual(t, rise, decay):
    """The difference of exponentials with its peak found numerically, not by the formula under test."""
    f = lambda t: np.exp(-t / decay) - np.exp(-t / rise)  # noqa: E731
    fine = np.linspace(0.0, 5 * decay, 2_000_001)
    return f(t) / f(fine).max()


CLOSED = {
    "exp_curr": lambda t: np.exp(-t / TAU),
    "exp_cond": lambda t: np.exp(-t / TAU),
    "dual": lambda t: dual(t, RISE, DECAY),
    "alpha_curr": lambda t: t / TAU * np.exp(1 - t / TAU),
    "alpha_cond": lambda t: t / TAU * np.exp(1 - t / TAU),
    "nmda": lambda t: dual(t, NMDA_RISE, NMDA_DECAY),
}


def respond(dt, solver):
    """Times since the arrival, at the ends of steps, and every port's response to one event of weight `WEIGHT`."""
    ports = receptors()
    net = bs.Network(
        {"S": replay([(0, 0)], 1, dt), "P": bs.Population(bs.LIF(), 1, {k: r for k, (r, _) in ports.items()})},
        {k: bs.Projection("S", f"P.{k}", bs.OneToOne(), weight=WEIGHT) for k in ports},
    )
    names = {k: [f"P.{k}.{x}" for x in sign] for k, (_, sign) in ports.items()}
    sol = run(net, round(T1 / dt), dt, [bs.Trace(x) for xs in names.values() for x in xs], solver=solver)
    t = dt * np.arange(1, round(T1 / dt))  # it arrives at the start of step 1
    values = {}
    for k, (_, sign) in ports.items():
        total = sum(s * np.asarray(sol[name])[:, 0] for name, s in zip(names[k], sign.values(), strict=True))
        assert total[0] == 0.0  # nothing before the arrival
        values[k] = total[1:]
    return t, values


@pytest.fixture(scope="module")
def exponential_euler():
    with jax.enable_x64(True):
        return {dt: respond(dt, bs.ExponentialEuler()) for dt in (0.1, 0.05)}


@pytest.mark.parametrize("name", ["exp_curr", "exp_cond", "dual", "nmda"])
def test_one_event_is_exact_where_each_variable_is_on_its_own(exponential_euler, name):
    t, values = exponential_euler[0.1]
    # the reference peak of `dual` is found on a grid
    np.testing.assert_allclose(values[name], WEIGHT * CLOSED[name](t), rtol=EXACT if "exp" in name else 1e-9)


@pytest.mark.parametrize("name", ["alpha_curr", "alpha_cond"])
def test_an_alpha_function_has_its_shape_and_an_amplitude_of_order_one(exponential_euler, name):
    for dt, (t, values) in exponential_euler.items():
        a = dt / TAU
        exact = WEIGHT * CLOSED[name](t)
        np.testing.assert_allclose(values[name], exact * np.expm1(a) / a, rtol=EXACT)
    coarse, fine = (np.max(np.abs(v[name] - WEIGHT * CLOSED[name](t))) for t, v in exponential_euler.values())
    assert np.log2(coarse / fine) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", CLOSED)
def test_the_peak_is_the_weight_and_the_integral_as_documented(exponential_euler, name):
    _, values = exponential_euler[0.05]
    factor = {"dual": CLOSED["dual"](1.0) / (np.exp(-1 / DECAY) - np.exp(-1 / RISE))}
    factor["nmda"] = CLOSED["nmda"](1.0) / (np.exp(-1 / NMDA_DECAY) - np.exp(-1 / NMDA_RISE))
    integral = {
        "exp_curr": TAU,
        "exp_cond": TAU,
        "dual": factor["dual"] * (DECAY - RISE),
        "alpha_curr": np.e * TAU,
        "alpha_cond": np.e * TAU,
        "nmda": factor["nmda"] * (NMDA_DECAY - NMDA_RISE),
    }
    start = 1.0 if name.startswith("exp") else 0.0
    response = np.concatenate([[start], values[name] / WEIGHT])
    # a grid of 0.05 ms misses the peak by its curvature; alpha carries its amplitude of order one
    assert response.max() == pytest.approx(1.0, abs=0.015)
    tail = integral[name] * np.exp(-T1 / NMDA_DECAY) * 1.2 if name == "nmda" else 0.0
    assert np.trapezoid(response, dx=0.05) == pytest.approx(integral[name], rel=0.015, abs=tail)


def test_a_solver_of_second_order_resolves_all_of_them():
    with jax.enable_x64(True):
        errors = []
        for dt in (0.1, 0.05):
            t, values = respond(dt, diffrax.Heun())
            errors.append({k: np.max(np.abs(v - WEIGHT * CLOSED[k](t))) for k, v in values.items()})
    for name in CLOSED:
        assert np.log2(errors[0][name] / errors[1][name]) == pytest.approx(2.0, abs=0.15), name


@pytest.mark.core
def test_delta_jumps_the_variable_it_names():
    dt, unit = 0.1, bs.CubaLIF(tau_syn=5.0, tau_m=20.0, v_th=1e3)
    net = bs.Network(
        {
            "S": replay([(0, 0), (3, 0)], 1, dt),
            "V": bs.Population(unit, 1, {"inp": bs.Delta()}),
            "I": bs.Population(unit, 1, {"inp": bs.Delta("i")}),
        },
        {f"S{k}": bs.Projection("S", k, bs.OneToOne(), weight=2.0) for k in "VI"},
    )
    sol = run(net, 6, dt, [bs.Trace(x) for x in ("V.v", "V.i", "I.v", "I.i")])
    n = np.arange(6)

    def train(tau):
        return sum(np.where(n >= m, 2.0 * np.exp(-(n - m + 1) * dt / tau), 0.0) for m in (1, 4))[:, None]

    np.testing.assert_allclose(sol["V.v"], train(20.0), rtol=1e-5)
    np.testing.assert_array_equal(sol["V.i"], np.zeros((6, 1)))
    np.testing.assert_allclose(sol["I.i"], train(5.0), rtol=1e-5)
    assert float(sol["I.v"][1, 0]) > 0  # the current flows on into v
    assert float(sol["I.v"][0, 0]) == 0


def test_currents_and_reversal():
    v = jnp.asarray([-80.0, -60.0, 0.0])
    one = jnp.ones(3)
    zero = jnp.zeros(3)
    np.testing.assert_allclose(bs.ExpCurr().current({"i": 5 * one}, v), [5.0, 5.0, 5.0])
    np.testing.assert_allclose(bs.ExpCond(e_rev=-70.0).current({"g": 2 * one}, v), [20.0, -20.0, -140.0])
    np.testing.assert_allclose(bs.AlphaCond(e_rev=-70.0).current({"g": 2 * one, "x": one}, v), [20.0, -20.0, -140.0])
    np.testing.assert_allclose(bs.AlphaCurr().current({"i": 5 * one, "x": one}, v), [5.0, 5.0, 5.0])
    opened = {"decay": 3 * one, "rise": one}
    np.testing.assert_allclose(bs.DualExpCond(e_rev=-70.0).current(opened, v), [20.0, -20.0, -140.0])
    gap, _ = bs.GapPort().arrive({}, jnp.stack([2 * one, -100 * one]), {"v": v})
    np.testing.assert_allclose(bs.GapPort().current(gap, zero), [60.0, 20.0, -100.0])  # with v at the arrival
    np.testing.assert_allclose(bs.Delta().current({}, v), zero)


def test_the_magnesium_block():
    """Jahr & Stevens 1990, eq. 4a, worked out by hand; at 1 mM half are blocked at -ln(3.57) / 0.062 mV."""
    one = jnp.ones(5)
    v = jnp.asarray([-80.0, -60.0, -20.5251, 0.0, 40.0])
    block = bs.NMDA(mg=1.0, e_rev=50.0).current({"decay": one, "rise": 0 * one}, v) / (50.0 - v)
    np.testing.assert_allclose(block, [0.024425, 0.079626, 0.5, 0.781182, 0.977080], atol=5e-6)
    free = bs.NMDA(mg=0.0, e_rev=50.0).current({"decay": one, "rise": 0 * one}, v)
    np.testing.assert_allclose(free, 50.0 - np.asarray(v), rtol=1e-6)
    half = bs.NMDA(mg=3.57, e_rev=50.0).current({"decay": one, "rise": 0 * one}, 0 * one)
    np.testing.assert_allclose(half, 25.0 * np.ones(5), rtol=1e-6)
    # far below any membrane potential neither the value nor the derivative overflows
    far = jax.value_and_grad(lambda v: jnp.sum(bs.NMDA().current({"decay": one[:1], "rise": 0 * one[:1]}, v)))
    value, slope = far(jnp.asarray([-5000.0]))
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("receptor", [bs.DualExpCond, bs.NMDA])
def test_time_constants_differ_by_unit_and_have_a_gradient(receptor):
    def peak(decay):
        r = receptor(tau_rise=jnp.asarray([1.0, 2.0]), tau_decay=decay)
        g, _ = r.arrive(r.init(2), jnp.ones(2), {})
        return g["decay"]

    decay, eps = jnp.asarray([4.0, 5.0]), 1e-2
    rise = np.asarray([1.0, 2.0])
    t = rise * np.asarray(decay) / (np.asarray(decay) - rise) * np.log(np.asarray(decay) / rise)
    np.testing.assert_allclose(peak(decay), 1 / (np.exp(-t / np.asarray(decay)) - np.exp(-t / rise)), rtol=1e-5)
    slope = (peak(decay + eps) - peak(decay - eps)) / (2 * eps)
    np.testing.assert_allclose(jax.grad(lambda d: jnp.sum(peak(d)))(decay), slope, rtol=2e-3)
