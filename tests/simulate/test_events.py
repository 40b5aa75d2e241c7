"""Event-driven runs: closed forms, finite differences through every leaf, the limit dt -> 0 of the clock-driven run."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

FD_RTOL = 1e-4  # central differences of spike times, step 1e-6: rounding of the difference is 1e-9 of the times
KEY = jax.random.key(0)


def with_(net, where, x):
    return eqx.tree_at(where, net, x)


def one(unit=None, **kw):
    return bs.Network({"P": bs.Population(bs.LIF() if unit is None else unit, 1, **kw)})


def test_constant_current_has_the_closed_form_and_its_gradient(x64):
    tau, rest, threshold, g_l, t_ref = 20.0, -60.0, -50.0, 10.0, 2.0
    net = one(bs.LIF(tau_m=tau, e_l=rest, v_th=threshold, v_reset=rest, g_l=g_l, t_ref=t_ref))
    places = lambda net: (net.nodes["P"].i_e, net.nodes["P"].unit.tau_m, net.nodes["P"].unit.t_ref)  # noqa: E731

    def times(x):
        return bs.simulate_events(with_(net, places, x), t1=100.0, key=KEY)["P"][0, :4]

    def closed(x):
        i, tau, t_ref = x
        first = tau * jnp.log((i / g_l) / (i / g_l + rest - threshold))
        return first + jnp.arange(4.0) * (first + t_ref)

    x = (jnp.asarray(200.0), jnp.asarray(tau), jnp.asarray(t_ref))
    np.testing.assert_allclose(times(x), closed(x), rtol=1e-12)
    for got, wanted in zip(jax.jacrev(times)(x), jax.jacfwd(closed)(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10)
    for got, wanted in zip(jax.jacfwd(times)(x), jax.jacfwd(closed)(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10)


@pytest.mark.core
def test_silent_and_lifted_units(x64):
    assert not np.isfinite(bs.simulate_events(one(i_e=99.0), t1=500.0, key=KEY)["P"]).any()  # ends below threshold
    # an arrival that lifts v above threshold: the spike is at the arrival, whose delay is all it depends on
    net = bs.Network(
        {"S": bs.Source(bs.Replay([3.0], [0]), 1), "P": bs.Population(bs.LIF(), 1, {"d": bs.Delta()})},
        {"SP": bs.Projection("S", "P", bs.AllToAll(), weight=11.0, delay=1.25)},
    )
    d = lambda net: (net.edges["SP"].delay, net.edges["SP"].weight)  # noqa: E731
    first = lambda x: bs.simulate_events(with_(net, d, x), t1=10.0, key=KEY)["P"][0, 0]  # noqa: E731
    t, (by_delay, by_weight) = jax.value_and_grad(first)(d(net))
    assert (float(t), float(by_delay), float(by_weight)) == (4.25, 1.0, 0.0)


def test_a_crossing_however_brief_is_found(x64):
    """A brief current that lifts the membrane to 1e-9 mV above threshold, then lets it fall."""
    net = bs.Network(
        {
            "S": bs.Source(bs.Replay([1.0], [0]), 1),
            "P": bs.Population(bs.LIF(tau_m=10.0, e_l=0.0, v_reset=-5.0, v_th=1.0, g_l=1.0), 1, {"s": bs.ExpCurr(2.0)}),
        },
        {"SP": bs.Projection("S", "P", bs.AllToAll(), weight=1.0)},
    )
    peak = 2.0 * 10.0 / 8.0 * np.log(5.0)  # time of the maximum of exp(-t / 10) - exp(-t / 2)
    height = 2.0 / 8.0 * (np.exp(-peak / 10.0) - np.exp(-peak / 2.0))
    for above, spikes in ((1e-9, 1), (-1e-9, 0)):
        loud = with_(net, lambda net: net.edges["SP"].weight, jnp.asarray((1.0 + above) / height))
        sol = bs.simulate_events(loud, t1=50.0, key=KEY)
        assert int(sol.counts["P"][0]) == spikes
        if spikes:
            np.testing.assert_allclose(sol["P"][0, 0], 1.0 + peak, atol=1e-3)


def test_two_coupled_units_with_a_delay(x64):
    """Unit 0 drives unit 1 by a jump that comes `d` later and shortens its way to threshold."""
    cells = bs.Population(bs.LIF(e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0), 2, {"d": bs.Delta()}, i_e=[2.0, 1.2])
    edge = bs.Projection("P", "P", bs.FromCOO([0], [1]), weight=0.2, delay=1.5)
    net = bs.Network({"P": cells}, {"E": edge})
    where = lambda net: (net.edges["E"].weight, net.edges["E"].delay, net.nodes["P"].i_e)  # noqa: E731
    second = lambda x: bs.simulate_events(with_(net, where, x), t1=30.0, key=KEY)["P"][1, 0]  # noqa: E731

    def closed(x):
        w, d, i = x
        arrival = 20.0 * jnp.log(i[0] / (i[0] - 1.0)) + d.reshape(())
        v = i[1] * (1.0 - jnp.exp(-arrival / 20.0)) + w.reshape(())
        return arrival + 20.0 * jnp.log((i[1] - v) / (i[1] - 1.0))

    x = where(net)
    np.testing.assert_allclose(second(x), closed(x), rtol=1e-12)
    for got, wanted in zip(jax.grad(second)(x), jax.grad(closed)(x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9)


def recurrent(unit, receptors, excite, inhibit, i_e, v0, n=20):
    """Random excitation and inhibition, a delay of its own for every excitatory synapse, a source."""
    e = 4 * n // 5
    cells = bs.Population(unit, n, receptors, i_e=i_e.sample(jax.random.key(3), (n,)), init={"v": v0})
    exc, *inh = receptors
    inh = inh[0] if inh else exc
    edges = {
        "E": bs.Projection(f"P[:{e}]", f"P.{exc}", bs.FixedProbability(0.3), weight=excite, delay=bs.Uniform(0.5, 3.0)),
        "I": bs.Projection(f"P[{e}:]", f"P.{inh}", bs.FixedProbability(0.5), weight=inhibit, delay=1.5),
        "SP": bs.Projection("S", f"P.{exc}", bs.AllToAll(), weight=excite, delay=bs.INSTANT),
    }
    return bs.Network({"P": cells, "S": bs.Source(bs.Regular([7.0, 11.0], 3.0), 2)}, edges, key=jax.random.key(1))


def lif():
    ports = {"exc": bs.ExpCurr(tau=5.0), "inh": bs.ExpCurr(tau=8.0)}
    unit = bs.LIF(t_ref=2.0, v_reset=-65.0)
    return recurrent(unit, ports, bs.Uniform(10.0, 40.0), -40.0, bs.Normal(200.0, 20.0), bs.Uniform(-65.0, -50.0))


def cuba():
    ports = {"i": bs.Delta(variable="i")}
    unit = bs.CubaLIF(t_ref=1.0, tau_m=10.0)
    return recurrent(unit, ports, bs.Uniform(0.1, 0.4), -0.4, bs.Normal(1.8, 0.2), bs.Uniform(0.0, 0.9))


def equal_constants():
    """Membrane and synapse alike, where the usual closed form divides by zero; jumps of v; reset by subtraction."""
    ports = {"v": bs.Delta()}
    unit = bs.CubaLIF(tau_m=7.0, tau_syn=7.0, reset_by_subtraction=True)
    return recurrent(unit, ports, bs.Uniform(0.01, 0.1), -0.05, bs.Normal(1.2, 0.2), bs.Uniform(0.0, 0.9))


NETS = {"LIF": lif, "CubaLIF": cuba, "equal constants": equal_constants}
LEAVES = {
    "weights": lambda net: net.edges["E"].weight,
    "one weight": lambda net: net.edges["I"].weight,
    "instant weights": lambda net: net.edges["SP"].weight,
    "delays": lambda net: net.edges["E"].delay,
    "one delay": lambda net: net.edges["I"].delay,
    "tau_m": lambda net: net.nodes["P"].unit.tau_m,
    "threshold": lambda net: net.nodes["P"].unit.v_th,
    "reset": lambda net: net.nodes["P"].unit.v_reset,
    "refractory": lambda net: net.nodes["P"].unit.t_ref,
    "current": lambda net: net.nodes["P"].i_e,
    "source": lambda net: net.nodes["S"].process.phase,
}
SYNAPTIC = {"LIF": lambda net: net.nodes["P"].receptors["exc"].tau, "CubaLIF": lambda net: net.nodes["P"].unit.tau_syn}
SYNAPTIC["equal constants"] = SYNAPTIC["CubaLIF"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "LIF")) for name in NETS])
def test_gradients_of_spike_times_equal_finite_differences(x64, name):
    net = NETS[name]()
    leaves = [*LEAVES.values(), SYNAPTIC[name]]
    places = lambda net: [where(net) for where in leaves]  # noqa: E731
    state = bs.initial_state(net, dt=1.0, key=KEY)
    v = lambda s: s.nodes["P"].y["unit"]["v"]  # noqa: E731
    pulse = jnp.asarray([0.0, 0.2, -0.1]) * (100.0 if name == "LIF" else 1.0)

    @jax.jit
    def f(x):
        leaves, v0, amplitudes = x
        given = {"P": bs.StepCurrent(amplitudes, [0.0, 8.0, 16.0])}
        begun = eqx.tree_at(v, state, v0)
        sol = bs.simulate_events(with_(net, places, leaves), t1=30.0, state=begun, inputs=given, max_spikes=20)
        there = jnp.isfinite(sol["P"])
        t = jnp.where(there, sol["P"], 0.0)
        return jnp.sum(jnp.where(there, jnp.sin(t), 0.0)), (sol.counts["P"], sol.overflow)

    x = (places(net), v(state), pulse)
    g, (counts, lost) = jax.jit(jax.grad(f, has_aux=True))(x)
    assert int(counts.sum()) > 15
    assert not bool(lost)
    flat, tree = jax.tree.flatten(x)
    rng = np.random.default_rng(0)
    for k, slope in enumerate(jax.tree.leaves(g)):
        if name == "equal constants" and k == list(LEAVES).index("refractory"):
            continue  # it is 0, the end of its line
        assert np.any(slope)
        way = rng.normal(size=flat[k].shape) / np.sqrt(max(flat[k].size, 1))  # all entries of a leaf at once
        h = 1e-6 * max(1.0, float(np.max(np.abs(flat[k]))))
        values = []
        for sign in (1, -1):
            value, (others, _) = f(
                jax.tree.unflatten(tree, [y + sign * h * way if i == k else y for i, y in enumerate(flat)])
            )
            assert bool(jnp.all(others == counts))
            values.append(float(value))
        wanted = (values[0] - values[1]) / (2 * h)
        np.testing.assert_allclose(np.sum(slope * way), wanted, rtol=FD_RTOL, atol=1e-7)


@pytest.mark.parametrize("name", ["LIF", pytest.param("CubaLIF", marks=pytest.mark.slow)])
def test_clock_driven_spike_times_converge_to_it(x64, name):
    net, t1 = NETS[name](), 16.0
    exact = bs.simulate_events(net, t1=t1, key=KEY)
    errors = []
    for dt in (1 / 16, 1 / 32, 1 / 64, 1 / 128):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the delays are no multiples of dt: rounding them is part of the error
            sol = bs.simulate(net, t1=t1, dt=dt, key=KEY, saveat=[bs.Spikes("P", max_rate=1000.0)])
        t, i = sol.spikes("P")
        late = []
        for unit in range(20):
            here = np.asarray(exact["P"][unit])
            here = here[here < t1 - 1.0]
            assert (t[i == unit] < t1 - 1.0).sum() in (here.size, here.size + 1, here.size - 1)
            pairs = min(here.size, int((i == unit).sum()))
            late.extend(np.abs(t[i == unit][:pairs] - here[:pairs]))
        errors.append(np.mean(late))
    order = np.polyfit(np.log(2.0) * np.arange(4), -np.log(errors), 1)[0]
    assert 0.8 < order < 1.3, (order, errors)  # first order: spikes and delays are rounded to steps
    assert errors[-1] < 0.05


@pytest.mark.core
def test_vmap_equals_the_loop_and_rooms_that_are_too_small():
    net = NETS["CubaLIF"]()
    w = lambda net: net.edges["I"].weight  # noqa: E731
    first = jax.jit(lambda x: bs.simulate_events(with_(net, w, x), t1=12.0, key=KEY, max_events=400, max_spikes=9)["P"])
    ws = jnp.asarray([-0.4, -0.1])
    np.testing.assert_allclose(jax.vmap(first)(ws), jnp.stack([first(x) for x in ws]), rtol=1e-4)
    with pytest.raises(RuntimeError, match=r"of 12 ms fit max_events = 20"):
        bs.simulate_events(net, t1=12.0, key=KEY, max_events=20)
    assert bool(bs.simulate_events(net, t1=12.0, key=KEY, max_spikes=1, throw=False).overflow)


def test_a_packed_network_has_the_same_spikes(x64):
    cell = lambda n, i: bs.Population(bs.LIF(), n, {"d": bs.Delta()}, i_e=i)  # noqa: E731
    edges = {"AB": bs.Projection("A", "B", bs.AllToAll(), weight=0.5, delay=1.0)}
    net = bs.Network({"A": cell(3, [150.0, 160.0, 170.0]), "B": cell(2, 120.0)}, edges)
    whole, packed = (bs.simulate_events(n, t1=60.0, key=KEY) for n in (net, bs.pack(net)))
    for name in net.nodes:
        np.testing.assert_allclose(whole[name], packed[name], rtol=1e-14)
        assert int(whole.counts[name].sum()) > 0


def test_spikes_are_listed_in_the_order_of_time(x64):
    sol = bs.simulate_events(NETS["LIF"](), t1=16.0, key=KEY)
    t, i = sol.spikes("P")
    assert np.all(np.diff(t) >= 0)
    assert i.size == int(sol.counts["P"].sum())
    with pytest.raises(KeyError, match="Did you mean 'P'"):
        sol["PP"]


@pytest.mark.core
def test_what_has_no_closed_form_is_refused():
    def run(population, edge=None, **kw):
        nodes = {"P": population, "S": bs.Source(bs.Regular(5.0), 1)}
        return bs.simulate_events(bs.Network(nodes, edge or {}, key=KEY), t1=10.0, key=KEY, **kw)

    lif = bs.LIF()
    with pytest.raises(ValueError, match=r"population 'P' \(QIF .*not linear in the state.*Use LIF"):
        run(bs.Population(bs.QIF(), 1))
    with pytest.raises(ValueError, match=r"'P' \(LIF with ExpCond\) has no closed form: .*not linear"):
        run(bs.Population(lif, 1, {"exc": bs.ExpCond()}))
    with pytest.raises(ValueError, match=r"AlphaCurr.*driven through two others in a row"):
        run(bs.Population(lif, 1, {"exc": bs.AlphaCurr()}))
    with pytest.raises(ValueError, match=r"AdaptiveLIF|has the state|no closed form"):
        run(bs.Population(bs.AdEx(), 1))
    with pytest.raises(ValueError, match=r"population 'P' has noise"):
        run(bs.Population(lif, 1, noise=bs.WhiteNoise({"v": 1.0})))
    with pytest.raises(TypeError, match=r"input of 'P' is a Sine.*StepCurrent"):
        run(bs.Population(lif, 1), inputs={"P": bs.Sine(1.0, 10.0)})
    with pytest.raises(ValueError, match=r"max_events is 0"):
        run(bs.Population(lif, 1), max_events=0)
    cells = bs.Population(lif, 1, {"d": bs.Delta()})
    with pytest.raises(ValueError, match=r"edge 'E' has short-term plasticity"):
        run(cells, {"E": bs.Projection("S", "P", bs.AllToAll(), weight=1.0, short_term=bs.TsodyksMarkram())})
    with pytest.raises(TypeError, match=r"source 'S' is Poisson.*Replay"):
        bs.simulate_events(bs.Network({"S": bs.Source(bs.Poisson(rate=5.0), 1)}), t1=10.0, key=KEY)


def test_simultaneous_events_keep_their_own_derivatives(x64):
    """Two sources fire at one time, and two units alike cross at one time: each follows its own parameters."""
    net = bs.Network(
        {"S": bs.Source(bs.Regular(5.0, [3.0, 3.0]), 2), "P": bs.Population(bs.LIF(), 2, {"d": bs.Delta()}, i_e=200.0)},
        {"SP": bs.Projection("S", "P", bs.OneToOne(), weight=1.0, delay=[0.5, 0.5])},
    )
    where = lambda net: net.edges["SP"].delay  # noqa: E731
    times = lambda d: bs.simulate_events(with_(net, where, d), t1=20.0, key=KEY)["P"][:, 0]  # noqa: E731
    d = where(net)
    slope, h = jax.jit(jax.jacfwd(times))(d), 1e-4
    assert abs(slope[0, 1]) + abs(slope[1, 0]) < 1e-12
    for k in range(2):
        wanted = (times(d.at[k].add(h))[k] - times(d.at[k].add(-h))[k]) / (2 * h)
        np.testing.assert_allclose(slope[k, k], wanted, rtol=1e-5)
