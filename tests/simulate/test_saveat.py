"""What is recorded: windows that count, chosen units, currents, lists that overflow, batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import io, plot
from tests.nets import balanced, same

KEY = jax.random.key(0)
N = 20
MASK = np.arange(N) % 7 == 3  # units 3, 10 and 17


@pytest.fixture(scope="module")
def net():
    return balanced(N)


SAVEAT = [
    bs.Spikes("P"),
    bs.Spikes("P[:10]"),
    bs.Spikes("P", units=[17, np.int64(3)], name="two"),
    bs.Events("P"),
    bs.Events("P", every=30, name="counted"),
    bs.Events("P", units=MASK, name="masked"),
    bs.Rate("P"),
    bs.Rate("P", every=200, name="binned"),
    bs.Rate("P[:10]", every=25),
    bs.Trace("P.v"),
    bs.Trace("P[-3:].v", every=3),
    bs.Trace("P.v", units=":5", every=1000, name="rare"),
    bs.Trace("P.v", units=[7, 2], every=8, name="listed"),
    bs.Trace("P.refractory", every=3, units=np.int32(4)),
]


@pytest.fixture(scope="module")
def sol(net):
    return bs.simulate(net, t1=300.0, key=KEY, saveat=SAVEAT)


@pytest.mark.core
def test_windows_count_every_event(sol):
    events = np.asarray(sol["P.events"])
    assert events.sum() > 50
    np.testing.assert_array_equal(sol["counted.events"], events.reshape(100, 30, N).sum(1))
    hz = events.reshape(15, 200, N).sum((1, 2)) / (N * 200 * 1e-4)
    np.testing.assert_allclose(sol["binned.rate"], hz, rtol=1e-6)
    np.testing.assert_allclose(np.mean(sol["P.rate"]), sol.rates["P"], rtol=1e-5)
    np.testing.assert_allclose(
        sol["P[:10].rate"], events[:, :10].reshape(120, 25, 10).sum((1, 2)) / (10 * 2.5e-3), rtol=1e-6
    )


@pytest.mark.core
def test_samples_of_any_every_are_rows_of_the_full_recording(sol):
    v = np.asarray(sol["P.v"])
    np.testing.assert_array_equal(sol["P[-3:].v"], v[2::3, -3:])
    np.testing.assert_array_equal(sol["rare"], v[999::1000, :5])
    np.testing.assert_array_equal(sol["listed"], v[7::8][:, [7, 2]])
    assert sol["P.refractory"].shape == (1000, 1)
    np.testing.assert_array_equal(sol["masked.events"], np.asarray(sol["P.events"])[:, MASK])
    assert sol.units_of("masked.events").tolist() == [3, 10, 17]
    assert sol.units_of("P[-3:].v").tolist() == [17, 18, 19]
    assert sol.units_of("P.v").tolist() == [*range(N)]


@pytest.mark.core
def test_spikes_of_chosen_units_are_those_of_all_that_belong_to_them(sol):
    t, i = sol.spikes("P")
    for name, units in (("P[:10]", range(10)), ("two", [3, 17])):
        train, mine = sol.spikes(name), np.isin(i, list(units))
        assert mine.sum() > 3
        np.testing.assert_array_equal(train.i, i[mine])
        np.testing.assert_array_equal(train.t, t[mine])


def test_what_records_seldom_holds_no_more_than_its_samples(net):
    """By the compiler's account: every 1,000th step beside every 3rd holds what the two hold each by itself."""
    state = bs.initial_state(net, dt=0.1, key=KEY)

    def needed(*saveat):
        run = jax.jit(lambda state: bs.simulate(net, t0=0.0, t1=900.0, state=state, saveat=saveat).recordings)
        about = run.lower(state).compile().memory_analysis()
        return about.temp_size_in_bytes + about.output_size_in_bytes

    seldom = needed(bs.Trace("P.v", every=1000), bs.Rate("P", every=3))
    assert seldom < needed(bs.Rate("P", every=3)) + 0.2 * 9000 * N * 4


@pytest.mark.optimised
def test_a_chunked_run_counts_the_same_windows(net, sol, tmp_path):
    saveat = [r for r in SAVEAT if r.key != "rare"]
    bs.stream(net, t1=300.0, chunk=60.0, key=KEY, saveat=saveat, sink=io.Directory(tmp_path), progress=False)
    run = io.StoredRun(tmp_path)
    for r in saveat:
        if isinstance(r, bs.Spikes):
            name = r.key.removesuffix(".spikes")
            np.testing.assert_array_equal(run.spikes(name).i, sol.spikes(name).i)
        else:
            np.testing.assert_array_equal(run[r.key], sol[r.key], err_msg=r.key)
    for r in saveat:
        assert run.origins[r.key][:3] == sol.origins[r.key][:3]
        np.testing.assert_array_equal(run.units_of(r.key), sol.units_of(r.key))
    assert run.units_of("two.spikes").tolist() == [3, 17]


@pytest.mark.parametrize("adjoint", [bs.CheckpointedAdjoint(7), bs.DirectAdjoint(), bs.TruncatedAdjoint(1000)], ids=str)
def test_the_derivative_of_a_window_is_that_of_its_steps(adjoint):
    net = bs.Network({"P": bs.Population(bs.LIF(), 3, i_e=jnp.array([190.0, 210.0, 260.0]))})
    wide = jnp.linspace(0.5, 1.5, 20)[:, None]

    def loss(i, saveat, per):
        one = bs.simulate(net, t1=40.0, dt=0.1, key=KEY, inputs={"P": i}, saveat=saveat, adjoint=adjoint)
        return jnp.sum(wide * one["P.events"].reshape(20, per, 3).sum(1)) + jnp.sum(
            one["v"].reshape(-1, per, 3)[-1, -1]
        )

    each = [bs.Events("P"), bs.Trace("P.v", name="v")]
    window = [bs.Events("P", every=20), bs.Trace("P.v", every=20, name="v")]
    wanted = jax.grad(loss)(jnp.array(30.0), each, 20)
    got = jax.grad(lambda i: loss(i, window, 1))(jnp.array(30.0))
    assert abs(float(wanted)) > 0
    np.testing.assert_allclose(got, wanted, rtol=1e-4)  # float32, summed in another order


@pytest.mark.core
def test_currents_by_port_add_up_to_the_total():
    net = balanced(N, noise=0.0)
    rows = np.linspace(0.0, 50.0, 500 * N).reshape(500, N)
    variables = [bs.Trace(f"P.{x}") for x in ("v", "exc.g", "inh.g")]
    currents = [bs.Current("P"), bs.Current("P.exc"), bs.Current("P.inh"), bs.Current("P[3].exc", every=100)]
    sol = bs.simulate(net, t1=50.0, key=KEY, inputs={"P": rows}, saveat=[*variables, *currents])
    v = np.asarray(sol["P.v"], float)
    exc = np.asarray(sol["P.exc.g"]) * (0.0 - v)
    inh = np.asarray(sol["P.inh.g"]) * (-80.0 - v)
    assert np.abs(exc).max() > 10
    assert np.abs(inh).max() > 10
    tolerance = dict(rtol=1e-4, atol=1e-2)  # pA, of float32 sums of some hundred pA
    np.testing.assert_allclose(sol["P.exc.current"], exc, **tolerance)
    np.testing.assert_allclose(sol["P.inh.current"], inh, **tolerance)
    np.testing.assert_allclose(sol["P.current"], 200.0 + rows + exc + inh, **tolerance)
    np.testing.assert_array_equal(sol["P[3].exc.current"], np.asarray(sol["P.exc.current"])[99::100, 3:4])


def test_currents_of_packed_populations_go_by_their_names():
    cell = lambda i: bs.Population(bs.LIF(), 4, {"exc": bs.ExpCond(tau=5.0)}, i_e=i)  # noqa: E731
    rule = bs.FixedProbability(0.9)
    edges = {n: bs.Projection("AB"[k], f"{'BA'[k]}.exc", rule, weight=2.0) for k, n in enumerate(("x", "y"))}
    net = bs.Network({"A": cell(300.0), "B": cell(350.0)}, edges, key=KEY)
    saveat = [
        bs.Current("A"),
        bs.Current("B.exc"),
        bs.Current("B[1:3]", every=5),
        bs.Rate("B[:2]", every=10),
        bs.Spikes("B[:2]"),
    ]
    packed = bs.pack(net)
    assert [*packed.nodes] == ["LIF"]
    a, b = (bs.simulate(x, t1=50.0, key=KEY, inputs={"B": 20.0}, saveat=saveat) for x in (net, packed))
    for key in ("A.current", "B.exc.current", "B[1:3].current", "B[:2].rate"):
        np.testing.assert_allclose(a[key], b[key], rtol=1e-5, atol=1e-3, err_msg=key)
    np.testing.assert_array_equal(a.spikes("B[:2]").i, b.spikes("B[:2]").i)
    assert a.spikes("B[:2]").i.size


@pytest.mark.core
def test_a_smoothed_rate_keeps_constants_spikes_and_derivatives():
    x = jnp.zeros(400).at[200].set(7.0)
    y = bs.smoothed(x, dt=0.5, width=10.0)
    t = (np.arange(400) - 200) * 0.5
    # cut off at 4 sigma
    np.testing.assert_allclose(y, 7.0 * 0.5 * np.exp(-0.5 * (t / 10) ** 2) / (10 * np.sqrt(2 * np.pi)), atol=5e-5)
    np.testing.assert_allclose(bs.smoothed(jnp.full((50, 2), 3.0), dt=0.5, width=100.0), 3.0, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda x: bs.smoothed(x, dt=0.5, width=10.0)[200])(x), y / 7, atol=1e-6)
    with pytest.raises(ValueError, match="width is 0"):
        bs.smoothed(x, dt=0.1, width=0.0)


def test_graded_events_have_no_rate(tmp_path):
    net = bs.Network({"X": bs.Source(bs.External(), 3), "S": bs.Source(bs.External(), 2)})
    inputs = {"X": np.linspace(0.0, 1.0, 30).reshape(10, 3), "S": np.eye(10, 2)}
    sol = bs.simulate(net, t1=1.0, key=KEY, inputs=inputs)
    assert np.isnan(float(sol.rates["X"]))
    assert float(sol.rates["S"]) == pytest.approx(1000.0)
    assert "graded" in str(sol.stats)
    wave = bs.simulate(net, t1=1.0, key=KEY, inputs={"X": bs.Ramp(0.0, 1.0, 0.0, 1.0), "S": inputs["S"]})
    assert np.isnan(float(wave.rates["X"]))
    batch = jax.vmap(lambda x: bs.simulate(net, t1=1.0, key=KEY, inputs=inputs | {"X": x}).rates["X"])(
        jnp.stack([jnp.asarray(inputs["X"], float), jnp.ones((10, 3))])
    )
    assert np.isnan(batch).tolist() == [True, False]
    sink = io.Directory(tmp_path)
    bs.stream(net, t1=1.0, chunk=0.5, key=KEY, inputs=inputs, sink=sink, progress=False)
    rates = io.StoredRun(tmp_path).rates
    assert np.isnan(rates["X"])
    assert rates["S"] == pytest.approx(1000.0)


# --- lists that overflow ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fast():
    """Ten units at about 300 Hz."""
    return bs.Network({"S": bs.Source(bs.Regular(3.0), 10)})


def run(net, key=KEY, **kw):
    return bs.simulate(net, t1=100.0, key=key, **{"saveat": [bs.Spikes("S", max_rate=100.0)], "throw": False, **kw})


def test_an_overflow_is_flagged_in_every_transformation_and_refused_by_readers(fast, tmp_path):
    eager, jitted = run(fast), jax.jit(lambda key: run(fast, key))(KEY)
    batch = jax.vmap(lambda key: run(fast, key))(jax.random.split(KEY, 2))
    needed = int(np.asarray(eager["S.spikes"].counts).sum())
    assert needed > 256 == eager["S.spikes"].ids.shape[0]
    first = int(np.argmax(np.cumsum(eager["S.spikes"].counts) > 256))
    one = jax.tree.map(lambda x: x[1], batch)
    for sol in (eager, jitted, one):
        assert [int(x) for x in sol.flags["S.spikes"]] == [3, first]
        assert int(sol.flags["S"][0]) == 0
        for read in (lambda s: s.spikes("S"), lambda s: plot.raster(s, "S"), lambda s: plot.rates(s, "S"), io.to_neo):
            with pytest.raises(ValueError, match=rf"Spikes\('S'\) overflowed: {needed} spikes for a list of 256"):
                read(sol)
        assert sol.spikes("S", partial=True).i.size == 256
        assert sol.stats["flags"] == {"S.spikes": f"overflowed at step {first}"}
        assert "overflowed" in str(sol.stats)
    assert batch.flags["S.spikes"][0].tolist() == [3, 3]
    with pytest.raises(bs.SimulationError, match="overflowed"):
        run(fast, throw=True)


def test_without_a_rate_there_is_room_for_all_spikes(fast):
    sol = run(fast, saveat=[bs.Spikes("S")], throw=True)
    assert sol.spikes("S").i.size == int(sol.n_events["S"]) > 300
    assert int(sol.flags["S.spikes"][0]) == 0
    assert sol.stats["flags"] == {}


# --- choosing units ---------------------------------------------------------------------------------------------------

CHOICES = {
    "mask": ([True, False, True, False], [0, 2]),
    "array": (np.array([3, 1], np.int16), [3, 1]),
    "negative": ([-1], [3]),
    "number": (np.int64(2), [2]),
    "slice": (slice(1, None, 2), [1, 3]),
    "numpy slice": (slice(np.int32(1), np.int32(3)), [1, 2]),
    "range": (range(1, 3), [1, 2]),
    "text": (":2", [0, 1]),
    "bracketed text": ("[1:4:2]", [1, 3]),
    "one in text": ("-1", [3]),
}


@pytest.mark.parametrize("given, wanted", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize(
    "recording", [bs.Spikes, bs.Events, bs.Rate, lambda _, **kw: bs.Trace("P.v", **kw), bs.Current]
)
def test_units_are_read_in_one_way(recording, given, wanted):
    net = bs.Network({"P": bs.Population(bs.LIF(), 4)})
    found = recording("P", units=given).origin(net).units
    assert list(found) == (sorted(wanted) if recording is bs.Spikes else wanted)


@pytest.mark.parametrize(
    "given, error, message",
    [
        (True, TypeError, "units is True; expected unit numbers, a slice"),
        (np.True_, TypeError, "expected unit numbers"),
        ([0.5], TypeError, "expected unit numbers"),
        ([[0, 1]], TypeError, "expected unit numbers"),
        ({1, 2}, TypeError, "expected unit numbers"),
        (slice(0.0, 2.0), TypeError, "slice of whole numbers"),
        ("a:b", ValueError, "bad range"),
        ([True, False], ValueError, r"mask of 2 values; expected one for each of the 4 of 'P'"),
        ([4], ValueError, "contains 4; 'P' has 4 values"),
        ([], ValueError, "names no unit of 'P'"),
        ([False] * 4, ValueError, "names no unit of 'P'"),
        (slice(0, 9), ValueError, "reaches beyond"),
        (slice(2, 2), ValueError, "names no unit"),
    ],
)
def test_other_units_are_refused(given, error, message):
    net = bs.Network({"P": bs.Population(bs.LIF(), 4)})
    with pytest.raises(error, match=message):
        bs.Trace("P.v", units=given).check(net)


def test_masks_and_numbers_that_are_equal_in_python_are_not_the_same_recording():
    net = bs.Network({"P": bs.Population(bs.LIF(), 2, init={"v": [-60.0, -50.0]})})
    first = [
        bs.simulate(net, t1=1.0, key=KEY, saveat=[bs.Trace("P.v", units=u)])["P.v"] for u in ([1, 0], [True, False])
    ]
    assert [x.shape[1] for x in first] == [2, 1]


@pytest.mark.parametrize(
    "record, message",
    [
        (bs.Spikes("P[:99]"), "P.:99. reaches beyond"),
        (bs.Rate("P[2:2]"), "names no unit"),
        (bs.Events("P.v"), "expected a node such as 'P'"),
        (bs.Trace("P[:3].v", units=[1]), "chooses units twice"),
        (bs.Current("P.ex"), "port 'ex' does not exist. Did you mean 'exc'"),
        (bs.Current("Q"), "node 'Q' does not exist"),
        (bs.Current("E"), "node 'E' does not exist"),
    ],
    ids=str,
)
def test_targets_that_do_not_exist_are_named(net, record, message):
    with pytest.raises(ValueError, match=message):
        bs.simulate(net, t1=1.0, key=KEY, saveat=[record])


def test_plots_and_exports_know_the_units_that_were_recorded(sol):
    from matplotlib.figure import Figure

    ax = plot.raster(sol, "two", ax=Figure().subplots())
    assert {*ax.lines[0].get_ydata()} <= {3, 17}
    np.testing.assert_allclose(
        plot.rates(sol, "two", bin_ms=300.0, ax=Figure().subplots()).patches[0].get_data()[0],
        sol.spikes("two").t.size / (2 * 0.3),
    )
    shown = plot.raster(sol, "P", units=MASK, ax=Figure().subplots()).lines[0].get_ydata()
    assert shown.size == np.isin(sol.spikes("P").i, np.flatnonzero(MASK)).sum()
    for units, message in (([5], "unit 5 of 'two' was not recorded"), ([99], "contains 99")):
        with pytest.raises(ValueError, match=message):
            plot.raster(sol, "two", units=units, ax=Figure().subplots())
    segment = io.to_neo(sol, nodes=["two"], traces=["listed"]).segments[0]
    assert [t.name for t in segment.spiketrains] == ["P[3]", "P[17]"]
    assert segment.analogsignals[0].array_annotations["unit"].tolist() == [7, 2]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_has_times_and_says_what_to_index(net, tmp_path):
    saveat = [bs.Spikes("P"), bs.Trace("P.v", every=10)]
    batch = jax.vmap(lambda key: bs.simulate(net, t1=20.0, key=key, saveat=saveat))(jax.random.split(KEY, 3))
    one = jax.tree.map(lambda x: x[1], batch)
    np.testing.assert_array_equal(batch.times("P.v"), one.times("P.v"))
    assert batch.rates["P"].shape == (3,)
    for read in (lambda s: s.spikes("P"), lambda s: plot.raster(s, "P"), io.to_neo):
        with pytest.raises(ValueError, match=r"one run of the batch first: jax.tree.map\(lambda x: x\[k\], sol\)"):
            read(batch)
    with pytest.raises(ValueError, match=r"begin at steps \[0, 50\].*one run of the batch"):
        dataclasses.replace(batch, n0=jnp.array([0, 0, 50])).times("P.v")
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda key: bs.simulate(net, t1=20.0, key=key, saveat=saveat).times("P.v"))(KEY)
    io.save(tmp_path / "batch.npz", net, batch.state)
    assert same(io.load(tmp_path / "batch.npz", net)[1], batch.state)
