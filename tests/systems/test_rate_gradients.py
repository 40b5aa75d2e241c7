"""The gradient of a firing rate against its slope with common random numbers, by default and by parameter."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from . import rate_gradients as table
from .rate_gradients import LIF

FACTOR = 2.0  # within which a gradient estimates a slope
GROWTH = 1.5  # from dt 0.1 to 0.025 ms, at most
WEAK = 0.15  # of the strongest effect of a standard step: slopes below are known too badly to compare with
EXCEPTIONS = {("AdEx", "P.unit.v_reset")}  # docs/gradients.md; a run warns of these and of steps as coarse as here
COARSE = {("MCurrent", 0.1)}


@pytest.mark.slow
@pytest.mark.parametrize("name", table.CASES)
def test_gradients_are_slopes_within_a_factor(name):
    case = table.CASES[name]
    ratios = []
    for dt in (0.1, 0.025):
        _, gradient = table.gradient(case, 100, dt, 600.0)
        slope = table.slopes(case, 300, dt, 600.0)
        effect = {k: abs(slope[k]) * h for k, h in case.steps.items()}
        known = [k for k in case.steps if effect[k] > WEAK * max(effect.values()) and (name, k) not in EXCEPTIONS]
        assert table.CURRENT in known
        ratios.append({k: gradient[k] / slope[k] for k in known})
        factor = 5.0 if (name, dt) in COARSE else FACTOR
        assert all(1 / factor < x < factor for x in ratios[-1].values()), (dt, ratios[-1])
    for k in ratios[0].keys() & ratios[1].keys() if name not in ("MCurrent", "TraubMiles") else ():
        assert max(ratios[0][k] / ratios[1][k], ratios[1][k] / ratios[0][k]) < GROWTH, (k, ratios)


def regular(unit, i_e, values, dt, t1):
    """Rate (Hz) of a cell under constant current, by interval: exact, and smooth in every parameter."""
    pop = bs.Population(unit, 1, i_e=i_e)
    net = bs.Network({"P": pop})

    def rate(values):
        sol = bs.simulate(
            bs.train.with_parameters(net, values), t1=t1, dt=dt, key=jax.random.key(0), saveat=[bs.Events("P")]
        )
        return jnp.sum(sol["P.events"]) / (1e-3 * t1)

    return rate


def by_interval(unit, i_e, name, h, dt, t1):
    """The slope of the rate by the mean interval of a long run."""

    def rate(x):
        pop = bs.train.with_parameters(bs.Network({"P": bs.Population(unit, 1, i_e=i_e)}), {name: x})
        sol = bs.simulate(pop, t1=t1, dt=dt, key=jax.random.key(0), saveat=[bs.Spikes("P", max_rate=1000.0)])
        times, _ = sol.spikes("P")
        return 1e3 * (len(times) - 2) / float(times[-1] - times[1])

    start = bs.train.parameters(bs.Network({"P": bs.Population(unit, 1, i_e=i_e)}))[name]
    return (rate(start + h) - rate(start - h)) / (2 * h)


@pytest.mark.parametrize(
    ("unit", "i_e", "steps"),
    [
        (bs.TraubMiles(), 300.0, {"P.i_e": 30.0}),
        (bs.AdEx(), 900.0, {"P.i_e": 60.0, "P.unit.v_t": 2.0}),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, bs.AbstractUnit) else "",
)
def test_a_regular_cell_has_the_gradient_of_its_interval(unit, i_e, steps):
    """A bump on these cells is wrong by factors of 100 and more."""
    start = {k: bs.train.parameters(bs.Network({"P": bs.Population(unit, 1, i_e=i_e)}))[k] for k in steps}
    gradient = jax.grad(regular(unit, i_e, start, 0.05, 1200.0))(start)
    for name, h in steps.items():
        slope = by_interval(unit, i_e, name, h, 0.05, 2000.0)
        assert 0.6 < float(gradient[name]) / slope < 1.5, (name, float(gradient[name]), slope)


def test_the_default_of_a_driven_leaky_integrator_has_the_right_size():
    """With a bump of 1 mV this is NaN, with detach_reset 100 times too large."""
    case = table.CASES["LIF"]._replace(steps={table.CURRENT: 5.0, table.WEIGHT: 1.0})
    _, gradient = table.gradient(case, 40, 0.1, 300.0)
    slope = table.slopes(case, 200, 0.1, 300.0)
    assert all(0.4 < gradient[k] / slope[k] < 2.0 for k in slope), (gradient, slope)


@pytest.mark.parametrize(
    ("i_e", "kind", "said"),
    [
        (120.0, bs.Events, r"irregular.*variation.*0\.\d"),
        (0.0, bs.Rate, "over 0 spikes a unit"),
        (400.0, bs.Events, None),
    ],
)
def test_a_gradient_of_spikes_that_come_and_go_warns(i_e, kind, said):
    noise = bs.WhiteNoise({"v": 2.0 if i_e else 0.0})
    net = bs.Network({"P": bs.Population(LIF, 30, noise=noise)})

    def spikes(i):
        driven = bs.train.with_parameters(net, {"P.i_e": i})
        sol = bs.simulate(driven, t1=300.0, dt=0.1, key=jax.random.key(0), saveat=[kind("P")])
        return jnp.mean(sol[f"P.{kind.__name__.lower()}"])

    def differentiated():
        jax.block_until_ready(jax.grad(spikes)(i_e))
        jax.effects_barrier()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        differentiated()
    found = [str(w.message) for w in told if "gradient of the spikes of 'P'" in str(w.message)]
    assert len(found) == (said is not None)
    assert said is None or re.search(said, found[0])


@pytest.mark.parametrize(("name", "told"), [("P.unit.v_reset", True), ("P.i_e", False)])
def test_a_rate_differentiated_in_a_parameter_whose_slope_is_off_warns(name, told):
    net = bs.Network({"P": bs.Population(bs.AdEx(), 1, i_e=900.0)})

    def rate(x):
        cell = bs.train.with_parameters(net, {name: x})
        return jnp.mean(bs.simulate(cell, t1=100.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Rate("P")])["P.rate"])

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        jax.grad(rate)(bs.train.parameters(net)[name])
    assert any("'P.unit.v_reset' has the right sign" in str(w.message) for w in said) == told


def test_errors_of_a_coarse_step_do_not_multiply_from_spike_to_spike():
    """With what a fast gate was before a spike kept, the derivative is 10^5 times too large. The run warns."""
    case = table.CASES["TraubMiles"]._replace(steps={table.CURRENT: 20.0})

    def gradient():
        found = table.gradient(case, 20, 0.1, 600.0)[1]
        jax.effects_barrier()
        return found[table.CURRENT]

    with pytest.warns(UserWarning, match=r"steps of 0.1 ms, which do not resolve a gate"):
        got = gradient()
    slope = table.slopes(case, 60, 0.1, 600.0)
    assert 0.5 < got / slope[table.CURRENT] < 3.0


@pytest.mark.parametrize("at_end", [False, True])
def test_a_variable_of_any_name_is_the_units_own(at_end):
    """Also where arrivals wait in the discrete state for the end of the step."""

    class Late(bs.LIF):
        def init(self, n, clock):
            y, z = super().init(n, clock)
            return y, z | {"late": jnp.zeros(n), "arrived": jnp.zeros(n)}

        def reset(self, y, z, s, inp, clock):
            own = {k: z[k] + 1.0 for k in ("late", "arrived")}
            y, z = super().reset(y, z, s, inp, clock)
            return y, z | own

    port = {"d": bs.Delta(at="end" if at_end else "start")}
    nodes = {"S": bs.Source(bs.Regular(period=2.0), 1), "P": bs.Population(Late(), 1, port)}
    net = bs.Network(nodes, {"E": bs.Projection("S", "P.d", bs.OneToOne(), weight=1.0, delay=0.1)})
    state = bs.simulate(net, t1=5.0, dt=0.1, key=jax.random.key(0)).state
    assert float(state.nodes["P"].z["late"][0]) == 50.0


def product(v, s):
    return v * (1 - s)


def choice(v, s):
    return jnp.where(s > 0, jnp.zeros_like(v), v)


def own(reset_v, guard):
    class Own(bs.AbstractUnit):
        def init(self, n, clock):
            return {"v": jnp.zeros(n)}, {}

        def vector_field(self, y, z, inp):
            return {"v": (inp - y["v"]) * (1.0 / 20.0)}

        def guard(self, y, z):
            return guard(y["v"])

        def reset(self, y, z, s, inp, clock):
            return {"v": reset_v(y["v"], s)}, z

    return Own()


def test_a_reset_by_comparison_has_the_gradient_of_the_product_form():
    def count(i, reset_v):
        net = bs.Network({"P": bs.Population(own(reset_v, lambda v: v - 1.0), 1, i_e=i)})
        return bs.simulate(net, t1=200.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Events("P")])["P.events"].sum()

    two = [float(jax.grad(count)(jnp.asarray(1.5), reset_v)) for reset_v in (product, choice)]
    np.testing.assert_allclose(two[1], two[0], rtol=1e-4)  # rounding
    assert 0.5 < two[0] / 10.95 < 2.0  # the slope by interval


def test_a_guard_that_compares_is_refused():
    with pytest.raises(TypeError, match=r"'P'.*guard returns bool.*difference"):
        bs.Network({"P": bs.Population(own(product, lambda v: v > 1.0), 2)})


def test_a_surrogate_too_narrow_for_the_reset_is_named():
    with pytest.warns(UserWarning, match="SuperSpike.*lowers the guard by 10.*infinity and NaN"):
        bs.Population(bs.LIF(), 1, surrogate=bs.SuperSpike())


def smooth_slope(saveat, warned=False):
    net = bs.Network({"P": bs.Population(bs.TraubMiles(), 1, i_e=300.0)})

    def last(i):
        changed = bs.train.with_parameters(net, {"P.i_e": i})
        return bs.simulate(changed, t1=20.0, dt=0.05, key=jax.random.key(0), saveat=saveat)["P.v"][-1, 0]

    i = jnp.asarray(300.0)
    return float(jax.grad(last)(i)), float(last(i + 0.5) - last(i - 0.5))


def test_a_recorded_voltage_is_differentiated_in_the_time_of_the_run():
    gradient, slope = smooth_slope([bs.Trace("P.v")])
    np.testing.assert_allclose(gradient, slope, rtol=0.05)  # central differences of 0.5 pA in float32
    with pytest.warns(UserWarning, match=r"exact_flow"):
        smooth_slope([bs.Trace("P.v"), bs.Events("P")])
