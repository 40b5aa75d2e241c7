"""Recordings, times, rates, flags and the errors of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import balanced

KEY = jax.random.key(0)


class Diverges(bs.AbstractUnit):
    """dv/dt = v^2: infinite in finite time."""

    rate: float = 1.0

    def init(self, n, clock):
        return {"v": jnp.ones(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": self.rate * y["v"] ** 2}

    def guard(self, y, z):
        return jnp.full_like(y["v"], -1.0)

    def reset(self, y, z, s, inp, clock):
        return y, z


@pytest.fixture(scope="module")
def net():
    return balanced(50)


@pytest.fixture(scope="module")
def sol(net):
    saveat = [
        bs.Spikes("P"),
        bs.Events("P"),
        bs.Rate("P"),
        bs.Trace("P.v"),
        bs.Trace("P.exc.g", units=[3, 1], every=4),
        bs.Trace("P.refractory", units=slice(0, 10, 2), every=20),
    ]
    return bs.simulate(net, t1=100.0, dt=0.1, key=KEY, saveat=saveat)


@pytest.mark.core
def test_all_forms_of_spikes_agree(sol):
    dense = np.asarray(sol["P.events"])
    step, unit = np.nonzero(dense)
    t, i = sol.spikes("P")
    np.testing.assert_array_equal(i, unit)
    np.testing.assert_allclose(t, (step + 1) * 0.1)
    np.testing.assert_allclose(sol["P.rate"], dense.mean(1) * 1e4, rtol=1e-6)
    assert int(sol.n_events["P"]) == dense.sum() == len(t) > 20
    assert float(sol.rates["P"]) == pytest.approx(dense.sum() / 50 / 0.1)
    assert sol.stats["rate_hz"]["P"] == pytest.approx(float(sol.rates["P"]))


@pytest.mark.optimised
def test_subsampled_traces_are_rows_of_the_full_ones(net, sol):
    full = bs.simulate(net, t1=100.0, dt=0.1, key=KEY, saveat=[bs.Trace("P.exc.g"), bs.Trace("P.refractory")])
    np.testing.assert_array_equal(sol["P.exc.g"], full["P.exc.g"][3::4][:, jnp.asarray([3, 1])])
    np.testing.assert_array_equal(sol["P.refractory"], full["P.refractory"][19::20, 0:10:2])
    np.testing.assert_allclose(sol.times("P.exc.g")[:2], [0.4, 0.8])
    assert sol["P.v"].shape == (1000, 50)


@pytest.mark.optimised
def test_an_overflowing_spike_list_says_so_and_keeps_the_first(net, sol):
    with pytest.raises(bs.SimulationError, match=r"Spikes\('P'\) overflowed.*max_rate") as e:
        bs.simulate(net, t1=200.0, dt=0.1, key=KEY, saveat=[bs.Spikes("P", max_rate=1.0)])
    kept = e.value.solution.spikes("P", partial=True)
    assert len(kept.i) == 256
    np.testing.assert_array_equal(kept.i[: len(sol.spikes("P").i)], sol.spikes("P").i[:256])


@pytest.mark.core
def test_divergence_names_node_and_step():
    net = bs.Network({"good": bs.Population(bs.LIF(), 2), "bad": bs.Population(Diverges(), 3)})
    with pytest.raises(bs.SimulationError, match=r"Node 'bad' is not finite at step \d+ \(t = ") as e:
        bs.simulate(net, t1=5.0, dt=0.1, key=KEY, saveat=[bs.Trace("bad.v")])
    v = np.asarray(e.value.solution["bad.v"])
    first = int(np.flatnonzero(~np.isfinite(v).all(1))[0])
    assert f"step {first} " in str(e.value)
    sol = bs.simulate(net, t1=5.0, dt=0.1, key=KEY, throw=False)
    assert [int(x) for x in sol.flags["bad"]] == [1, first]
    assert int(sol.flags["good"][0]) == 0


def test_step_equals_simulate(net):
    state = bs.initial_state(net, dt=0.1, key=KEY)
    inputs = {"P": 30.0}
    for _ in range(20):
        state, events = bs.step(net, state, inputs)
    whole = bs.simulate(net, t1=2.0, dt=0.1, key=KEY, inputs=inputs)
    np.testing.assert_allclose(state.nodes["P"].y["unit"]["v"], whole.state.nodes["P"].y["unit"]["v"], rtol=1e-6)
    assert events["P"].value.shape == (50,)


def test_inputs_constant_per_unit_and_per_step_are_the_same_current(net):
    runs = [{"P": 50.0}, {"P": jnp.full(50, 50.0)}, {"P": jnp.full((100, 50), 50.0)}]
    v = [bs.simulate(net, t1=10.0, dt=0.1, key=KEY, inputs=i, saveat=[bs.Trace("P.v")])["P.v"] for i in runs]
    np.testing.assert_allclose(v[0], v[1], rtol=1e-6)
    np.testing.assert_allclose(v[0], v[2], rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"saveat": [bs.Spikes("Q")]}, "node 'Q' does not exist"),
        ({"saveat": [bs.Trace("P.w")]}, "state variable 'w' does not exist"),
        ({"saveat": [bs.Trace("P.exc.x")]}, "'exc.g'"),
        ({"saveat": [bs.Trace("P")]}, "node.variable"),
        ({"saveat": [bs.Trace("P.v", units=[70])]}, "70"),
        ({"saveat": [bs.Trace("P.v", every=7)]}, "does not divide"),
        ({"saveat": [bs.Trace("P.v", every=0)]}, "every"),
        ({"saveat": [bs.Trace("P.v"), bs.Trace("P.v", units=[1])]}, "twice"),
        ({"saveat": [bs.Spikes("P", max_rate=0.0)]}, "max_rate"),
        ({"inputs": {"Q": 1.0}}, "node 'Q' does not exist"),
        ({"inputs": {"P": jnp.zeros(3)}}, r"\(3,\)"),
        ({"inputs": {"P": float("nan")}}, "NaN"),
        ({"solver": {"Q": bs.ExponentialEuler()}}, "node 'Q'"),
        ({"dt": 0.0}, "dt is 0"),
        ({"dt": float("nan")}, "dt is nan"),
        ({"t1": 10.03}, "whole number"),
        ({"t1": -1.0}, "expected a later time"),
        ({"key": None}, "key="),
    ],
)
def test_bad_arguments_are_refused_before_compiling(net, change, message):
    with pytest.raises(ValueError, match=message):
        bs.simulate(net, **{"t1": 10.0, "dt": 0.1, "key": KEY, **change})


def test_wrong_kinds_of_arguments(net):
    with pytest.raises(TypeError, match="recordings such as"):
        bs.simulate(net, t1=1.0, dt=0.1, key=KEY, saveat=["P"])
    with pytest.raises(TypeError, match="inputs"):
        bs.simulate(net, t1=1.0, dt=0.1, key=KEY, inputs={"P": "much"})
    state = bs.initial_state(net, dt=0.2, key=KEY)
    with pytest.raises(ValueError, match="same dt"):
        bs.simulate(net, t1=1.0, dt=0.1, state=state)
    sol = bs.simulate(net, t1=1.0, dt=0.1, key=KEY)
    with pytest.raises(KeyError, match="saveat"):
        sol["P.v"]


def test_summary_counts_and_warns(net):
    s = bs.summary(net, dt=4.0)
    assert s.nodes[0]["units"] == 50
    assert s.edges[0]["synapses"] == net.edges["E"].connect.n_syn
    assert any("does not resolve" in w and "tau" in w for w in s.warnings)
    assert any("rounded" in w and "edge 'I'" in w for w in s.warnings)
    assert bs.summary(net, dt=0.1).warnings == []
    assert "synapses" in str(s)
    assert s.state_bytes > 50 * 4 * 4


def test_progress_is_reported(net, capfd):
    import diffrax

    bs.simulate(net, t1=10.0, dt=0.1, key=KEY, progress_meter=diffrax.TextProgressMeter())
    jax.effects_barrier()
    assert "100.00%" in "".join(capfd.readouterr())


@pytest.mark.parametrize("number", [18.0, np.float64(18.0), jnp.asarray(18.0)], ids=["float", "numpy", "weak array"])
def test_a_number_put_into_a_network_does_not_compile_again(net, number):
    import equinox as eqx

    bs.clear_caches()  # or this run may be the one after which all that is compiled is freed
    bs.simulate(net, t1=3.0, dt=0.1, key=KEY)
    other = eqx.tree_at(lambda m: m.nodes["P"].unit.tau_m, net, number)
    sol = bs.simulate(other, t1=3.0, dt=0.1, key=KEY)
    assert sol.compile_s < 0.1


def test_a_key_is_a_key(net):
    with pytest.raises(TypeError, match=r"jax.random.key"):
        bs.simulate(net, t1=1.0, dt=0.1, key=3)
