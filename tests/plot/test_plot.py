"""Every plot draws, and what it draws is what was recorded."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import brainsim as bs
from brainsim import plot

mpl.use("Agg")

N, STEPS, DT = 10, 400, 0.5


@pytest.fixture(scope="module")
def net():
    cells = bs.Population(
        bs.LIF(), N, {"exc": bs.ExpCond(tau=5.0), "any": bs.ExpCurr()}, i_e=150.0, init={"v": bs.Uniform(-60.0, -50.0)}
    )
    edges = {
        "half": bs.Projection("P[:5]", "P[5:].exc", bs.AllToAll(), weight=0.5),
        "matrix": bs.Projection("P", "P.any", bs.Dense(N, N), weight=np.linspace(-1.0, 1.0, N * N).reshape(N, N)),
    }
    return bs.Network(nodes={"P": cells}, edges=edges, key=jax.random.key(0))


@pytest.fixture(scope="module")
def sol(net):
    saveat = [bs.Spikes("P", max_rate=1000.0), bs.Trace("P.v", units=(0, 3)), bs.Rate("P")]
    return bs.simulate(net, t1=STEPS * DT, dt=DT, key=jax.random.key(1), saveat=saveat)


@pytest.fixture
def ax():
    return Figure().subplots()


def test_raster_shows_every_spike(sol, ax):
    assert plot.raster(sol, "P", ax=ax) is ax
    train = sol.spikes("P")
    assert train.t.size > 20
    np.testing.assert_array_equal(np.stack(ax.lines[0].get_data()), np.stack([train.t, train.i]))
    assert ax.get_xlim() == (0.0, STEPS * DT)
    assert ax.get_xlabel() == "time (ms)"


def test_raster_of_groups_units_and_times(sol, ax):
    plot.raster(sol, "P", groups={"a": slice(5), "b": slice(5, None)}, t=(50.0, 150.0), ax=ax)
    train = sol.spikes("P")
    inside = (train.t >= 50.0) & (train.t <= 150.0)
    for line, member in zip(ax.lines, (train.i < 5, train.i >= 5), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), train.t[inside & member])
    assert [line.get_label() for line in ax.lines] == ["a", "b"]


@pytest.fixture(scope="module")
def pair():
    cells = {
        name: bs.Population(bs.LIF(), n, i_e=200.0, init={"v": v}) for name, n, v in (("E", 5, -55.0), ("I", 3, -52.0))
    }
    saveat = [bs.Spikes("E", max_rate=1000.0), bs.Spikes("I", max_rate=1000.0)]
    return bs.simulate(bs.Network(cells), t1=50.0, dt=DT, key=jax.random.key(1), saveat=saveat)


def test_raster_of_populations_stacks_them(pair, ax):
    plot.raster(pair, ["E", "I"], ax=ax)
    for line, name, bottom in zip(ax.lines, "EI", (0, 5), strict=True):
        train = pair.spikes(name)
        assert train.t.size
        np.testing.assert_array_equal(np.stack(line.get_data()), np.stack([train.t, bottom + train.i]))
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["E", "I"]
    assert ax.get_ylim() == (-0.5, 7.5)
    plot.raster(pair, ["E", "I"], units=[2], ax=(other := Figure().subplots()))
    assert [set(line.get_ydata()) for line in other.lines] == [{0}, {1}]


def test_rates_of_populations_share_axes_that_show_all(pair, ax):
    plot.rates(pair, ["E", "I"], bin_ms=10.0, ax=ax)
    for patch, name, size in zip(ax.patches, "EI", (5, 3), strict=True):
        np.testing.assert_allclose(patch.get_data()[0].sum() * 0.01 * size, pair.spikes(name).t.size)
        assert patch.get_data()[0].max() <= ax.get_ylim()[1]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["E", "I"]


def test_groups_are_parts_of_one_population(pair, ax):
    with pytest.raises(ValueError, match=r"populations \['E', 'I'\]"):
        plot.rates(pair, ["E", "I"], groups={"first": slice(1)}, ax=ax)


def test_raster_of_units_by_number_stacks_them(sol, ax):
    plot.raster(sol, "P", units=[7, 2], ax=ax)
    train = sol.spikes("P")
    x, row = ax.lines[0].get_data()
    np.testing.assert_array_equal(np.sort(x[row == 0]), train.t[train.i == 7])
    np.testing.assert_array_equal(np.sort(x[row == 1]), train.t[train.i == 2])


def test_traces_show_the_recording_and_the_threshold(sol, ax):
    plot.traces(sol, "P.v", columns=[1], threshold=-50.0, t=(10.0, 20.0), ax=ax)
    times = sol.times("P.v")
    inside = (times >= 10.0) & (times <= 20.0)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), times[inside])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.asarray(sol["P.v"])[inside, 1])
    assert list(ax.lines[1].get_ydata()) == [-50.0, -50.0]
    assert ax.get_ylabel() == "membrane potential (mV)"


def test_offset_traces_lie_apart(sol, ax):
    plot.traces(sol, "P.v", offset=25.0, ax=ax)
    apart = ax.lines[1].get_ydata() - np.asarray(sol["P.v"])[:, 1]
    np.testing.assert_allclose(apart, 25.0, rtol=1e-5)


def test_rates_count_all_spikes(sol, ax):
    plot.rates(sol, "P", bin_ms=10.0, ax=ax)
    values, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(edges, np.arange(21) * 10.0)
    np.testing.assert_allclose(values.sum() * 0.01 * N, sol.spikes("P").t.size)


def test_rates_of_a_window_are_those_of_the_bins_in_it(sol, ax):
    plot.rates(sol, "P", bin_ms=10.0, t=(55.0, 90.0), ax=ax)
    train = sol.spikes("P")
    values, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(edges, [50.0, 60.0, 70.0, 80.0, 90.0])
    np.testing.assert_allclose(values * 0.01 * N, [np.sum((train.t > a) & (train.t <= a + 10)) for a in edges[:-1]])


def test_rates_from_spikes_and_from_the_rate_recording_agree(sol, ax):
    plot.rates(sol, "P", bin_ms=7.0, ax=ax)
    other = Figure().subplots()
    recordings = {k: v for k, v in sol.recordings.items() if k != "P.spikes"}
    plot.rates(dataclasses.replace(sol, recordings=recordings), "P", bin_ms=7.0, ax=other)
    np.testing.assert_allclose(other.patches[0].get_data()[0], ax.patches[0].get_data()[0], rtol=1e-5)


def test_rates_without_a_recording_say_what_to_record(sol, ax):
    unrecorded = dataclasses.replace(sol, recordings={"P.v": sol["P.v"]})
    with pytest.raises(ValueError, match=r"Spikes\('P'\)"):
        plot.rates(unrecorded, "P", ax=ax)


def test_an_empty_window_is_an_error(sol, ax):
    with pytest.raises(ValueError, match="start < stop"):
        plot.raster(sol, "P", t=(5.0, 5.0), ax=ax)


def test_connectivity_shows_the_weights(net, ax):
    plot.connectivity(net.edges["matrix"], ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), net.edges["matrix"].weight, rtol=1e-6)
    assert ax.images[0].get_clim() == (-1.0, 1.0)


def test_connectivity_of_a_view_shows_the_view(net, ax):
    plot.connectivity(net.edges["half"], ax=ax)
    np.testing.assert_allclose(ax.images[0].get_array(), np.full((5, 5), 0.5))


def test_large_connectivity_shows_densities(ax):
    n, p = 1200, 0.05
    nodes = {"P": bs.Population(bs.LIF(), n, {"exc": bs.ExpCond()})}
    edge = bs.Network(
        nodes, {"E": bs.Projection("P", "P", bs.FixedProbability(p), weight=1.0)}, key=jax.random.key(0)
    ).edges["E"]
    plot.connectivity(edge, ax=ax)
    image = np.asarray(ax.images[0].get_array())
    assert image.shape == (400, 400)
    np.testing.assert_allclose(image.mean(), edge.connect.n_syn / n**2, rtol=1e-6)


def test_connectivity_needs_an_edge_of_a_network(ax):
    with pytest.raises(TypeError, match="edge of a network"):
        plot.connectivity(bs.Projection("P", "P", bs.AllToAll(), weight=1.0), ax=ax)


def test_degrees_are_counted(ax):
    nodes = {"P": bs.Population(bs.LIF(), 50, {"exc": bs.ExpCond()})}
    net = bs.Network(nodes, {"E": bs.Projection("P", "P", bs.FixedInDegree(7), weight=1.0)}, key=jax.random.key(0))
    plot.degrees(net.edges["E"], ax=ax)
    for patch, label in zip(ax.patches, ("out-degree, mean 7", "in-degree, mean 7"), strict=True):
        assert patch.get_label() == label
        assert patch.get_data()[0].sum() == 50
    values, edges, _ = ax.patches[1].get_data()
    np.testing.assert_array_equal(values[values > 0], [50])
    np.testing.assert_array_equal(edges, [6.5, 7.5])


class Oscillator(bs.AbstractUnit):
    """dx/dt = w, dw/dt = -x + I: nullclines are the axes, shifted by I; every trajectory is a circle."""

    def init(self, n, clock):
        return {"x": jnp.ones(n), "w": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"x": y["w"], "w": inp - y["x"]}

    def guard(self, y, z):
        return jnp.full_like(y["x"], -1.0)

    def reset(self, y, z, s, inp, clock):
        return y, z


def test_phase_plane_nullclines_are_the_zeros_of_the_field(ax):
    plot.phase_plane(Oscillator(), "x", "w", xlim=(-2.0, 2.0), ylim=(-2.0, 2.0), inp=0.5, points=81, ax=ax)
    contours = [c for c in ax.collections if hasattr(c, "levels")]
    paths = [c.get_paths()[0].vertices for c in contours]
    np.testing.assert_allclose(paths[0][:, 1], 0.0, atol=1e-6)  # dx/dt = 0 where w = 0
    np.testing.assert_allclose(paths[1][:, 0], 0.5, atol=1e-6)  # dw/dt = 0 where x = I


def test_phase_plane_draws_the_recorded_trajectory(ax):
    net = bs.Network({"P": bs.Population(Oscillator(), 2)})
    sol = bs.simulate(net, t1=6.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Trace("P.x"), bs.Trace("P.w")])
    plot.phase_plane(Oscillator(), "x", "w", xlim=(-2, 2), ylim=(-2, 2), sol=sol, node="P", column=1, points=41, ax=ax)
    path = next(line for line in ax.lines if line.get_label() == "trajectory")
    np.testing.assert_array_equal(np.stack(path.get_data()), np.stack([sol["P.x"][:, 1], sol["P.w"][:, 1]]))


def test_phase_plane_names_an_unknown_variable(ax):
    with pytest.raises(ValueError, match="'u' does not exist"):
        plot.phase_plane(Oscillator(), "u", "w", xlim=(-1, 1), ylim=(-1, 1), ax=ax)


def test_without_axes_a_new_figure_is_made(sol):
    first, second = plot.raster(sol, "P"), plot.traces(sol, "P.v")
    assert first.figure is not second.figure
    plt.close("all")
