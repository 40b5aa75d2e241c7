"""What every unit promises: shapes, pure and finite functions, units that do not see each other, gradients."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.base import float_dtype
from brainsim.solvers import ExponentialEuler, advance

N = 3
QUICK = {"xla_backend_optimization_level": 0}  # most of the time of these tests is compilation
UNITS = {
    "LIF": (lambda: bs.LIF(t_ref=1.0), 300.0),
    "QIF": (bs.QIF, 300.0),
    "ExponentialIF": (bs.ExponentialIF, 100.0),
    "AdEx": (bs.AdEx, 2000.0),
    "Izhikevich": (bs.Izhikevich, 10.0),
    "AdaptiveLIF": (lambda: bs.AdaptiveLIF(tau_m=5.0), 2.0),
    "AdaptiveLIF_subtract": (lambda: bs.AdaptiveLIF(tau_m=5.0, reset_by_subtraction=True), 2.0),
    "CubaLIF": (lambda: bs.CubaLIF(tau_m=5.0), 2.0),
    "CubaLIF_subtract": (lambda: bs.CubaLIF(tau_m=5.0, reset_by_subtraction=True), 2.0),
    "LeakyIntegrator": (bs.LeakyIntegrator, 1.0),
    "HodgkinHuxley": (bs.HodgkinHuxley, 10.0),
    "TraubMiles": (bs.TraubMiles, 500.0),
    "WangBuzsaki": (bs.WangBuzsaki, 3.0),
    "MorrisLecar": (bs.MorrisLecar.type_1, 60.0),
    "VoltageClamp": (lambda: bs.VoltageClamp(bs.HodgkinHuxley(), -20.0), 0.0),
}
ALL = pytest.mark.parametrize("name", sorted(UNITS))
EULER = ("HodgkinHuxley", "WangBuzsaki", "MorrisLecar", "VoltageClamp")
NEVER = ("LeakyIntegrator", "VoltageClamp")


def _clock(n=0, dt=0.05):
    return bs.Clock(jnp.asarray(n, jnp.int32), jnp.asarray(dt, float_dtype()), jax.random.key(0))


def _spread(unit):
    """The unit with every parameter an array of shape (N,)."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (N,)) + 0.0, unit)


def _calls(unit, current):
    """Every method of a unit once, and the derivatives of its field by every variable."""
    y, z = unit.init(N, _clock())
    y = {k: x + 0.01 * jnp.arange(N, dtype=x.dtype) for k, x in y.items()}
    inp = jnp.full((N,), current, float_dtype())
    field = unit.vector_field(y, z, inp)
    guard = unit.guard(y, z)
    spiked = jnp.asarray([0.0, 1.0, 0.0], float_dtype())
    after = unit.reset(y, z, spiked, inp, _clock())
    again = unit.reset(y, z, spiked, inp, _clock())
    quiet = unit.reset(y, z, jnp.zeros_like(spiked), inp, _clock())
    return {"y": y, "z": z, "field": field, "guard": guard, "after": after, "again": again, "quiet": quiet}


def _jacobian(unit, current):
    """Derivatives of the field by every variable and by the input: blocks of (N, N)."""
    y, z = unit.init(N, _clock())
    return jax.jacfwd(lambda y, inp: unit.vector_field(y, z, inp), argnums=(0, 1))(
        y, jnp.full((N,), current, float_dtype())
    )


@pytest.fixture(scope="module")
def called():
    given = {name: (make(), current) for name, (make, current) in UNITS.items()}

    def every(given):
        return {name: (_calls(u, i), _calls(_spread(u), i), _jacobian(u, i)) for name, (u, i) in given.items()}

    return eqx.filter_jit(every, compiler_options=QUICK)(given)


def _loss(nodes):
    """Something of every spike and every variable over 60 steps of every node."""
    clock = _clock()
    start = {name: node.init(clock) for name, node in nodes.items()}

    def step(state, n):
        total, counts, out = {}, {}, {}
        for name, (y, z) in state.items():
            # the default solver where it may matter, Euler where it has been seen: the trace of a step is what takes
            # time
            solver = diffrax.Euler() if name in EULER else ExponentialEuler()
            y, z, events, _ = advance(nodes[name], solver, y, z, jnp.zeros((), float_dtype()), _clock(n), None)
            scaled = [jnp.sum(jnp.tanh(0.01 * x)) for x in jax.tree.leaves(y)]
            out[name], total[name], counts[name] = (y, z), jnp.sum(events.value) + sum(scaled), jnp.sum(events.value)
        return out, (total, counts, {name: y for name, (y, _) in out.items()})

    end, (total, counts, trace) = jax.lax.scan(step, start, jnp.arange(2000, dtype=jnp.int32))
    return sum(jnp.sum(x[:300]) for x in total.values()), (
        {k: jnp.sum(c) for k, c in counts.items()},
        trace,
        end,
        start,
    )


@pytest.fixture(scope="module")
def ran():
    nodes = {name: bs.Population(make(), N, i_e=jnp.full(N, i)) for name, (make, i) in UNITS.items()}
    return eqx.filter_jit(eqx.filter_value_and_grad(_loss, has_aux=True), compiler_options=QUICK)(nodes)


@ALL
def test_shapes_and_types(called, name):
    for got in called[name][:2]:
        for leaf in jax.tree.leaves((got["y"], got["guard"])):
            assert leaf.shape == (N,)
            assert leaf.dtype == float_dtype()
        assert jax.tree.structure(got["field"]) == jax.tree.structure(got["y"])
        for a, b in zip(jax.tree.leaves(got["field"]), jax.tree.leaves(got["y"]), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert np.all(np.isfinite(a))
        same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), got["after"], (got["y"], got["z"]))
        assert all(jax.tree.leaves(same))


@ALL
def test_arrays_of_parameters_mean_the_same(called, name):
    one, many, _ = called[name]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.optimised
@ALL
def test_reset_is_pure_and_local(called, name):
    got = called[name][0]
    for a, b in zip(jax.tree.leaves(got["after"]), jax.tree.leaves(got["again"]), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(got["after"]), jax.tree.leaves(got["quiet"]), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[[0, 2]], np.asarray(b)[[0, 2]])


@ALL
def test_units_do_not_see_each_other(called, name):
    assert UNITS[name][0]().structure is bs.Structure.DIAGONAL
    for block in jax.tree.leaves(called[name][2]):
        block = np.asarray(block)
        assert np.all(np.isfinite(block))
        np.testing.assert_array_equal(block, np.diag(np.diag(block)))


@ALL
def test_run_is_finite_and_keeps_its_types(ran, name):
    (_, (counts, trace, end, start)), _ = ran
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(trace[name]))
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), end[name], start[name])
    assert all(jax.tree.leaves(same))
    assert (float(counts[name]) == 0) == (name in NEVER)


@ALL
def test_gradients_are_finite(ran, name):
    grads = ran[1][name]
    leaves = jax.tree.leaves((grads.unit, grads.i_e))
    assert leaves
    assert all(np.all(np.isfinite(g)) for g in leaves)
    assert any(np.any(np.asarray(g) != 0) for g in leaves)


def test_no_overflow_beyond_the_cut_off():
    """A current that leaps far past the cut-off in one step leaves values and gradients finite."""
    nodes = {
        "eif": bs.Population(bs.ExponentialIF(), N, i_e=jnp.full(N, 1e5)),
        "adex": bs.Population(bs.AdEx(), N, i_e=jnp.full(N, 1e6)),
        "cut at 20 mV": bs.Population(bs.AdEx(v_peak=20.0), N, i_e=jnp.full(N, 1e5)),
        "izhikevich": bs.Population(bs.Izhikevich(), N, i_e=jnp.full(N, 1e4)),
    }
    (value, (counts, _, _, _)), grads = eqx.filter_jit(
        eqx.filter_value_and_grad(_loss, has_aux=True), compiler_options=QUICK
    )(nodes)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert all(float(c) > 100 for c in counts.values())


def test_gates_are_smooth_where_their_formula_is_not():
    """The rates of x / (exp(x) - 1) form at their removable singularities and far out: value and slope are finite."""
    v = jnp.asarray([-55.0, -40.0, -35.0, -34.0, -50.0, -48.0, -23.0, 0.0, 3000.0, -3000.0])
    units = (bs.HodgkinHuxley(), bs.TraubMiles(), bs.WangBuzsaki())

    @eqx.filter_jit(compiler_options=QUICK)
    def rates(v):
        ones = jnp.ones_like(v)
        return [jax.jvp(unit._rates, (v,), (ones,)) for unit in units]

    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(rates(v)))


def test_linoid_matches_its_series():
    from brainsim.neurons._shared import linoid

    x = jnp.asarray([-1e-3, -5e-5, 0.0, 5e-5, 1e-3, 1.0, 50.0])
    exact = [1 - x / 2 + x**2 / 12 if abs(x) < 1e-2 else x / np.expm1(x) for x in np.asarray(x, np.float64)]
    got, slopes = jax.jit(lambda x: jax.jvp(linoid, (x,), (jnp.ones_like(x),)))(x)
    np.testing.assert_allclose(got, exact, rtol=2e-6)
    np.testing.assert_allclose(slopes[:5], -0.5 + np.asarray(x[:5]) / 6, atol=2e-3)


BAD = [
    (lambda: bs.LIF(tau_m=float("nan")), ValueError, "LIF.tau_m"),
    (lambda: bs.LIF(tau_m=-1.0), ValueError, "tau_m > 0"),
    (lambda: bs.LIF(t_ref=-1.0), ValueError, "t_ref >= 0"),
    (lambda: bs.LIF(v_reset=-40.0), ValueError, "v_reset < v_th"),
    (lambda: bs.LIF(tau_m="long"), TypeError, "LIF.tau_m"),
    (lambda: bs.QIF(v_c=-70.0), ValueError, "e_l < v_c"),
    (lambda: bs.ExponentialIF(delta_t=0.0), ValueError, "delta_t > 0"),
    (lambda: bs.AdEx(v_peak=-60.0), ValueError, "v_t < v_peak"),
    (lambda: bs.Izhikevich(c=40.0), ValueError, "c < v_peak"),
    (lambda: bs.AdaptiveLIF(tau_a=0.0), ValueError, "tau_a > 0"),
    (lambda: bs.CubaLIF(tau_syn=[5.0, -5.0]), ValueError, "tau_syn > 0"),
    (lambda: bs.LeakyIntegrator(tau_m=0.0), ValueError, "tau_m > 0"),
    (lambda: bs.HodgkinHuxley(g_na=-1.0), ValueError, "g_na >= 0"),
    (lambda: bs.TraubMiles(c_m=0.0), ValueError, "c_m > 0"),
    (lambda: bs.WangBuzsaki(phi=0.0), ValueError, "phi > 0"),
    (lambda: bs.MorrisLecar(v_4=0.0), ValueError, "v_4 > 0"),
    (lambda: bs.Network({"P": bs.Population(bs.AdEx(b=[1.0, 2.0]), 3)}), ValueError, r"unit.b.*\(2,\)"),
]


@pytest.mark.parametrize("make, error, message", BAD)
def test_bad_parameters_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
