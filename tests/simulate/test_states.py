"""A state taken into a run: fitted to the network, with its own key, its inputs and its time."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core import fitted

from ..nets import balanced, same

KEY = jax.random.key(0)
DT = 0.1


def relay(delay, times, n=2, max_delay=None):
    """`S` onto `P` with a delay (ms); what arrives is seen in the potential of `P`."""
    nodes = {
        "S": bs.Source(bs.Replay(times, np.zeros(len(times), int)), n),
        "P": bs.Population(bs.LeakyIntegrator(tau_m=1e6), n, {"in": bs.Delta()}),
    }
    edge = bs.Projection("S", "P.in", bs.OneToOne(), weight=1.0, delay=delay, max_delay=max_delay)
    return bs.Network(nodes, {"SP": edge})


def arrivals(sol, v0):
    """Times (ms) at which the potential of unit 0, `v0` before, jumps: the starts of the steps of the trace."""
    v = np.concatenate([[v0], np.asarray(sol["P.v"])[:, 0]])
    return np.round((sol.times("P.v") - DT)[np.flatnonzero(np.diff(v) > 0.5)], 3)


def run(net, t1, **kw):
    return bs.simulate(net, t1=t1, dt=DT, saveat=[bs.Trace("P.v")], **kw)


@pytest.mark.core
@pytest.mark.parametrize(("old", "new"), [(0.0, 5.0), (0.7, 5.0), (5.0, 0.7)])
def test_arrivals_under_way_keep_their_time_in_a_network_of_other_delays(old, new):
    times = [11.2, 11.8, 12.0, 12.1, 12.6]  # some before the border at 12 ms, some after it
    first, second = relay(old, times), relay(new, times)
    sol = run(first, 12.0, key=KEY)
    rest = run(second, 20.0, state=sol.state)
    before = [t + old for t in times[:3]]
    after = [t + new for t in times[3:]]
    found = [*arrivals(sol, 0.0), *arrivals(rest, float(sol["P.v"][-1, 0]))]
    assert sorted(found) == pytest.approx(sorted([*before, *after]), abs=1e-3)
    # under jit and vmap, where the step is not known, the same
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), sol.state)
    jitted = jax.jit(jax.vmap(lambda s: run(second, 20.0, t0=12.0, state=s)))(batch)
    assert all(np.array_equal(jitted["P.v"][k], rest["P.v"]) for k in range(2))


def test_a_ring_that_grows_in_the_middle_of_a_run_changes_no_bit(tmp_path):
    """Noise, delays and wrapped rings: the run goes on as if the ring had always been that deep."""
    net = balanced(80)
    deep = bs.Network(net.nodes, {**net.edges, "E": dataclasses.replace(net.edges["E"], max_delay=9.0)})
    whole = bs.simulate(net, t1=30.0, dt=DT, key=KEY)
    half = bs.simulate(net, t1=14.0, dt=DT, key=KEY)
    # streamed and resumed: the checkpoint has the rings of the run
    kw = {"dt": DT, "chunk": 8.0, "state": half.state, "progress": False}
    bs.stream(deep, t1=22.0, sink=bs.Directory(tmp_path / "run"), **kw)
    last = bs.stream(deep, t1=30.0, sink=bs.Directory(tmp_path / "run"), resume=True, **kw)
    assert last.inbox["P"]["exc"].shape[0] > whole.state.inbox["P"]["exc"].shape[0]
    assert same(last.nodes, whole.state.nodes)
    assert int(whole.n_events["P"]) > int(half.n_events["P"]) > 0


def other(**kw):
    """A network like that of `relay`, with something else."""
    given = {"size": 2, "unit": bs.LeakyIntegrator(), "ports": {"in": bs.Delta()}, "edges": {}} | kw
    nodes = {
        "S": bs.Source(bs.Replay([1.0], [0]), 2),
        "P": bs.Population(given["unit"], given["size"], given["ports"]),
    }
    edge = bs.Projection("S", "P[:2].in", bs.OneToOne(), weight=1.0, short_term=kw.get("short_term"))
    return bs.Network(nodes | given.get("nodes", {}), {"SP": edge} | given["edges"])


NAN_INPUT = bs.Projection("S", "P[:2].inh", bs.OneToOne(), weight=1.0)
UNFIT = {
    "more units": (lambda: other(size=3), ["node 'P'", "'v'", "[2]", "expected", "[3]"]),
    "another unit": (lambda: other(unit=bs.LIF()), ["node 'P'", "no variable 'refractory'"]),
    "another receptor": (lambda: other(ports={"in": bs.ExpCurr()}), ["node 'P'", "no variable 'in.i'"]),
    "one more node": (lambda: other(nodes={"Q": bs.Source(bs.Regular(1.0), 2)}), ["no node 'Q'", "['P', 'S']"]),
    "one more edge": (
        lambda: other(ports={"in": bs.Delta(), "inh": bs.Delta()}, edges={"SI": NAN_INPUT}),
        ["no edge 'SI'", "['SP']"],
    ),
    "plasticity": (lambda: other(short_term=bs.TsodyksMarkram()), ["edge 'SP'", "no variable 'u'"]),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_state_of_another_network_is_refused_with_names(what):
    build, pieces = UNFIT[what]
    state = bs.initial_state(other(), dt=DT, key=KEY)
    for take in (
        lambda net: bs.simulate(net, t1=1.0, state=state),
        lambda net: bs.step(net, state),
        lambda net: jax.jit(lambda s: bs.simulate(net, t0=0.0, t1=1.0, state=s))(state),
    ):
        with pytest.raises(ValueError, match="state") as e:
            take(build())
        for piece in [*pieces, "bs.initial_state"]:
            assert piece in str(e.value)
    with pytest.raises(ValueError, match="state"):  # the other way round too
        fitted(other(), bs.initial_state(build(), dt=DT, key=KEY), {})


def test_what_is_no_state_of_one_run_is_refused():
    net = bs.Network({"P": bs.Population(bs.LeakyIntegrator(), 2)})
    sol = bs.simulate(net, t1=1.0, key=KEY)
    with pytest.raises(TypeError, match=r"state is a Solution.*sol\.state"):
        bs.simulate(net, t1=2.0, state=sol)
    with pytest.raises(ValueError, match=r"batch of shape \(2,\).*vmap"):
        bs.simulate(net, t0=1.0, t1=2.0, state=jax.tree.map(lambda x: jnp.stack([x, x]), sol.state))
    with pytest.raises(ValueError, match=r"'v'.*expected float.*\[2\]"):
        bs.simulate(net, t1=2.0, state=eqx.tree_at(lambda s: s.nodes["P"].y["unit"]["v"], sol.state, -55.0))


@pytest.mark.core
def test_a_key_beside_a_state_is_the_key_of_the_run(tmp_path):
    net = balanced(40)
    burnt = bs.simulate(net, t1=5.0, dt=DT, key=KEY).state
    keys = jax.random.split(jax.random.key(7), 3)
    trial = lambda key: run(net, 10.0, state=burnt, key=key)  # noqa: E731
    trials = jax.vmap(trial)(keys)
    first = np.asarray(trials["P.v"])[:, 0]
    assert np.array_equal(np.asarray(trials.n0), [50] * 3)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])
    # the same key makes the same noise, whichever state it is given beside
    drawn = bs.initial_state(net, dt=DT, key=KEY)
    assert same(run(net, 5.0, state=drawn, key=KEY).state.nodes, run(net, 5.0, key=KEY).state.nodes)
    assert not same(run(net, 5.0, state=drawn, key=keys[0]).state.nodes, run(net, 5.0, key=KEY).state.nodes)
    streamed = bs.stream(
        net, t1=10.0, chunk=2.5, sink=bs.Directory(tmp_path / "run"), state=burnt, key=keys[1], progress=False
    )
    assert same(streamed, run(net, 10.0, state=burnt, key=keys[1]).state)
    with pytest.raises(TypeError, match="key is 3; expected one JAX random key"):
        bs.simulate(net, t1=10.0, state=burnt, key=3)


@pytest.mark.core
def test_the_state_of_an_input_starts_anew_with_another_kind_of_input():
    net = bs.Network({"P": bs.Population(bs.LeakyIntegrator(), 40)})
    noise, steps = bs.OUCurrent(50.0, 1.0, 1e6), bs.StepCurrent([1.0, 2.0], [0.0, 10.0])

    def then(first, second):
        half = bs.simulate(net, t1=5.0, dt=DT, key=KEY, inputs={"P": first})
        return bs.simulate(net, t1=10.0, dt=DT, state=half.state, inputs={"P": second}).state.inputs["P"]

    for first, second in ((steps, noise), (steps + noise, noise + steps), (noise, noise + steps)):
        state = then(first, second)
        assert float(jax.tree.leaves(state.z)[0].mean()) == pytest.approx(50.0, abs=1.0)  # near its mean from the start
    assert then(noise, steps).z == {}
    # the same kind goes on where it was, with other parameters too
    whole = bs.simulate(net, t1=10.0, dt=DT, key=KEY, inputs={"P": noise}).state.inputs["P"].z["x"]
    assert np.array_equal(then(noise, noise).z["x"], whole)
    assert float(then(noise, bs.OUCurrent(0.0, 1.0, 1e6)).z["x"].mean()) == pytest.approx(50.0, abs=1.0)


def test_a_resumed_stream_keeps_the_state_of_its_inputs(tmp_path):
    net = bs.Network({"P": bs.Population(bs.LeakyIntegrator(), 40)})
    inputs = {"P": bs.OUCurrent(0.0, 1.0, 20.0)}
    kw = {"chunk": 2.0, "dt": DT, "key": KEY, "inputs": inputs, "progress": False}
    bs.stream(net, t1=4.0, sink=bs.Directory(tmp_path / "run"), **kw)
    last = bs.stream(net, t1=8.0, sink=bs.Directory(tmp_path / "run"), resume=True, **kw)
    assert same(last, bs.simulate(net, t1=8.0, dt=DT, key=KEY, inputs=inputs).state)


def test_times_that_contradict_the_state_are_refused():
    net = bs.Network({"P": bs.Population(bs.LeakyIntegrator(), 1)})
    state = bs.simulate(net, t1=100.0, dt=DT, key=KEY).state
    for message, kw in {
        r"t0 is 0 ms, but the state is at 100 ms. Leave t0 out": {"t0": 0.0, "t1": 150.0, "state": state},
        r"t0 is 10 ms, but a run without state= begins at 0 ms": {"t0": 10.0, "t1": 20.0, "key": KEY},
        r"t1 is 50 ms, and the run begins at 100 ms.*not its length: for 50 ms, give t1=150": {
            "t1": 50.0,
            "state": state,
        },
        r"t1 is 0 ms, and the run begins at 0 ms; expected a later time": {"t1": 0.0, "key": KEY},
        r"t1 is nan; expected a time": {"t1": float("nan"), "key": KEY},
        r"t1 is 'five'; expected a time": {"t1": "five", "key": KEY},
        r"10\.5 steps of dt = 0\.1 ms; expected a whole number. Give t1=101, ": {"t1": 101.05, "state": state},
    }.items():
        with pytest.raises(ValueError, match=message):
            bs.simulate(net, dt=DT, **kw)
    sol = bs.simulate(net, t0=100.0, t1=101.0, dt=DT, state=state, saveat=[bs.Trace("P.v")])
    assert sol.times("P.v")[0] == pytest.approx(100.1)
    with pytest.raises(TypeError, match="t1 is traced"):
        jax.jit(lambda t: bs.simulate(net, t1=t, dt=DT, key=KEY))(1.0)


class Alone(bs.AbstractUnit):
    """A unit that reads no current."""

    def init(self, n, clock):
        return {"x": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"x": 1.0 - y["x"]}

    def guard(self, y, z):
        return y["x"] - 2.0

    def reset(self, y, z, s, inp, clock):
        return y, z


def test_an_input_without_effect_and_a_source_without_its_input_are_refused():
    sources = {"G": bs.Regular(10.0), "R": bs.Replay([1.0], [0]), "X": bs.External(), "Q": bs.Poisson(10.0)}
    net = bs.Network({k: bs.Source(p, 2) for k, p in sources.items()} | {"A": bs.Population(Alone(), 2)})
    state = bs.initial_state(net, dt=DT, key=KEY)
    for name in "GRA":
        for take in (bs.step, lambda net, state, inputs: bs.simulate(net, t1=1.0, state=state, inputs=inputs)):
            with pytest.raises(ValueError, match=rf"inputs\['{name}'\].* reads no input") as e:
                take(net, state, {name: 50.0, "X": 0.0})
            assert "bs.Poisson" in str(e.value)
    with pytest.raises(ValueError, match=r"Source 'X' emits its input.*inputs=\{'X': \.\.\.\}"):
        bs.simulate(net, t1=1.0, key=KEY)
    sol = bs.simulate(net, t1=1.0, dt=DT, key=KEY, inputs={"X": 1.0, "Q": 9e3})
    assert int(sol.n_events["X"]) == 20
    assert int(sol.n_events["Q"]) > 10
    packed = bs.pack(bs.Network({f"X{k}": bs.Source(bs.External(), 2) for k in range(2)}))
    with pytest.raises(ValueError, match="Source 'X1' emits its input"):
        bs.simulate(packed, t1=1.0, key=KEY, inputs={"X0": 1.0})


def test_one_warning_of_what_is_over_before_the_run_begins(tmp_path):
    """Times of waveforms and of replayed spikes are those of the state; rows of arrays are those of the run."""
    unit = bs.VoltageClamp(bs.LIF(), bs.Sampled(np.zeros(100), DT))
    net = bs.Network(
        {
            "P": bs.Population(bs.LeakyIntegrator(), 1),
            "S": bs.Source(bs.Replay([5.0, 10.0], [0, 0]), 1),
            "C": bs.Population(unit, 1),
        }
    )
    state = bs.simulate(net, t1=20.0, dt=DT, key=KEY).state
    x = np.zeros((100, 1))
    x[10:20] = 1.0
    past = bs.StepCurrent([1.0, 0.0], [1.0, 2.0]) + bs.Sine(0.0, 10.0)
    with pytest.warns(UserWarning, match="add 20 to them") as caught:
        silent = run(net, 30.0, state=state, inputs={"P": past})
    assert len(caught) == 1
    text = str(caught[0].message)
    for piece in ("C (Sampled, until 10 ms)", "S (Replay, until 10 ms)", "inputs['P'] (StepCurrent, until 2 ms)"):
        assert piece in text
    assert caught[0].filename == __file__  # it points at the call
    assert float(silent["P.v"].max()) == 0.0
    assert int(silent.n_events["S"]) == 0
    net = bs.Network({"P": net.nodes["P"], "S": bs.Source(bs.Replay([5.0, 25.0], [0, 0]), 1)})
    state = bs.simulate(net, t1=20.0, dt=DT, key=KEY).state
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = run(net, 30.0, state=state, inputs={"P": x})
        shifted = run(net, 30.0, state=state, inputs={"P": bs.StepCurrent([1.0, 0.0], [21.0, 22.0])})
        run(net, 30.0, state=state, inputs={"P": bs.StepCurrent([1.0], [0.0])})  # a constant is never over
        # pieces of one run, in which a table may end
        kw = {"dt": DT, "inputs": {"P": bs.StepCurrent([1.0, 0.0], [21.0, 22.0])}, "progress": False}
        bs.stream(net, t1=30.0, chunk=2.5, state=state, sink=bs.Directory(tmp_path / "run"), **kw)
    assert np.allclose(rows["P.v"], shifted["P.v"], atol=1e-6)
    assert float(rows["P.v"].max()) > 0
    assert int(rows.n_events["S"]) == 1
