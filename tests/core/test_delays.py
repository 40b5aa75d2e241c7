"""The arrival step of an event, `k = 1 + round(delay / dt)`, for every way to give a delay, and INSTANT edges."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core._wiring import delay_steps, ring_depth

from .parts import DT, Tally, arrivals, arrived, replay, run, tally

N_STEPS = 130  # rings of at most 22 rows wrap around several times
rng = np.random.default_rng(3)
EVENTS = sorted({(int(m), int(i)) for m, i in zip(rng.integers(0, N_STEPS, 60), rng.integers(0, 3, 60), strict=True)})
PRE, POST = [2, 0, 1, 0, 2], [1, 0, 1, 1, 0]  # a list that is not sorted
PER_PRE, PER_SYNAPSE = [0.0, 0.1, 0.7], [2.0, 0.3, 0.0, 1.1, 0.4]
SOURCES, MATRIX = np.array([[2, 0], [1, 1]]), np.array([[1.0, 2.0], [4.0, 8.0]])  # by post unit
POWERS = [1.0, 2.0, 4.0, 8.0, 16.0]  # sums of these are exact in float32


def edges():
    coo = bs.FromCOO(PRE, POST)
    return {
        "zero": bs.Projection("S", "Zero", coo, weight=POWERS),
        "scalar": bs.Projection("S", "Scalar", coo, weight=POWERS, delay=0.5),
        "per_pre": bs.Projection("S", "PerPre", coo, weight=POWERS, delay=PER_PRE),
        "fanout": bs.Projection("S", "Fanout", bs.AllToAll(), weight=POWERS[:4] + [32.0, 64.0], delay=PER_PRE),
        "per_synapse": bs.Projection("S", "PerSynapse", coo, weight=POWERS, delay=PER_SYNAPSE),
        "fanin": bs.Projection("S", "Fanin", bs.FixedFanin(SOURCES, 3), weight=MATRIX, delay=0.1 * MATRIX),
        "drawn": bs.Projection("S", "Drawn", bs.AllToAll(), weight=2.0, delay=bs.Uniform(0.0, 2.0)),
        "long_line": bs.Projection("S", "LongLine", coo, weight=POWERS, delay=0.2, max_delay=1.0),
        "short": bs.Projection("S", "Two", coo, weight=POWERS, delay=0.3),
        "long": bs.Projection("S", "Two", bs.AllToAll(), weight=64.0, delay=bs.Uniform(0.5, 1.5)),
        "dense": bs.Projection("S", "Dense", bs.DenseMatrix(), weight=np.eye(3, 2) + 1.0, delay=0.6),
        "now": bs.Projection("S", "Now", coo, weight=POWERS, delay=bs.INSTANT),
        "gap": bs.GapJunctions("Ramp", "Coupled", bs.OneToOne(), weight=3.0, delay=0.4),
    }


@pytest.fixture(scope="module")
def case():
    targets = ["Zero", "Scalar", "PerPre", "Fanout", "PerSynapse", "Fanin", "Drawn", "LongLine", "Two", "Dense", "Now"]
    nodes = {"S": replay(EVENTS, 3)} | {name: tally(2) for name in targets}
    nodes["Ramp"] = bs.Population(Tally(slope=1.0), 2, init={"v": [5.0, 7.0]})
    nodes["Coupled"] = bs.Population(Tally(), 2, {"gap": bs.GapPort()})
    net = bs.Network(nodes, edges(), key=jax.random.key(1))
    # a delay changed after construction, within its line
    net = eqx.tree_at(lambda net: net.edges["long_line"].delay, net, jnp.asarray(1.0))
    traces = [bs.Trace(f"{name}.v") for name in targets] + [bs.Trace("Coupled.gap.g"), bs.Trace("Coupled.gap.i")]
    return net, run(net, N_STEPS, traces)


def steps(delay):
    return 1 + np.floor(np.asarray(delay) / DT + 0.5).astype(int)


def by_definition(net, name, delay=None):
    """The arrivals of an edge from the arrays it holds."""
    edge = net.edges[name]
    pre, post = edge.connect.to_coo()
    weight = np.broadcast_to(np.asarray(edge.weight), edge.connect.indices.shape).ravel()
    delay = np.broadcast_to(np.asarray(edge.delay if delay is None else delay), edge.connect.indices.shape).ravel()
    return arrivals(EVENTS, pre, post, weight, steps(delay), 2, N_STEPS)


def by_list(delay, k=None):
    """The arrivals over the list that the user wrote."""
    k = steps(np.broadcast_to(delay, 5)) if k is None else k
    return arrivals(EVENTS, PRE, POST, POWERS, k, 2, N_STEPS)


@pytest.mark.core
def test_a_scalar_delay(case):
    _, sol = case
    np.testing.assert_array_equal(arrived(sol["Zero.v"]), by_list(0.0, k=[1] * 5))
    np.testing.assert_array_equal(arrived(sol["Scalar.v"]), by_list(0.5, k=[6] * 5))


@pytest.mark.core
def test_a_delay_for_each_pre_unit(case):
    net, sol = case
    np.testing.assert_array_equal(arrived(sol["PerPre.v"]), by_list(np.asarray(PER_PRE)[PRE], k=[8, 1, 2, 1, 8]))
    np.testing.assert_array_equal(arrived(sol["Fanout.v"]), by_definition(net, "fanout"))
    np.testing.assert_allclose(net.edges["fanout"].delay, np.repeat(np.asarray(PER_PRE)[:, None], 2, 1), rtol=1e-6)


@pytest.mark.core
def test_a_delay_for_each_synapse_in_the_order_of_the_list(case):
    _, sol = case
    np.testing.assert_array_equal(arrived(sol["PerSynapse.v"]), by_list(PER_SYNAPSE, k=[21, 4, 1, 12, 5]))


def test_weights_and_delays_in_the_order_of_fixed_sources(case):
    _, sol = case
    expected = arrivals(EVENTS, SOURCES.ravel(), [0, 0, 1, 1], MATRIX.ravel(), [2, 3, 5, 9], 2, N_STEPS)
    np.testing.assert_array_equal(arrived(sol["Fanin.v"]), expected)


def test_a_drawn_delay(case):
    net, sol = case
    delay = np.asarray(net.edges["drawn"].delay)
    assert delay.shape == (3, 2)
    assert np.unique(delay).size == 6
    assert delay.min() >= 0
    assert delay.max() < 2
    np.testing.assert_array_equal(arrived(sol["Drawn.v"]), by_definition(net, "drawn"))


def test_a_line_longer_than_its_delays(case):
    net, sol = case
    assert net.edges["long_line"].depth(DT) == 11
    np.testing.assert_array_equal(arrived(sol["LongLine.v"]), by_list(1.0, k=[11] * 5))


def test_two_edges_into_one_port(case):
    net, sol = case
    both = by_list(0.3) + by_definition(net, "long")
    np.testing.assert_array_equal(arrived(sol["Two.v"]), both)


def test_a_delayed_matrix(case):
    _, sol = case
    w = np.eye(3, 2) + 1.0
    expected = arrivals(EVENTS, np.repeat([0, 1, 2], 2), [0, 1] * 3, w.ravel(), [7] * 6, 2, N_STEPS)
    np.testing.assert_array_equal(arrived(sol["Dense.v"]), expected)


@pytest.mark.core
def test_instant_events_arrive_in_the_step_they_are_emitted_in(case):
    _, sol = case
    np.testing.assert_array_equal(arrived(sol["Now.v"]), by_list(0.0, k=[0] * 5))


def test_a_delayed_gap_junction(case):
    """The port holds the potentials of k = 5 steps ago (its own are 0); before the first arrival it holds none."""
    _, sol = case
    g, i, n, k = np.asarray(sol["Coupled.gap.g"]), np.asarray(sol["Coupled.gap.i"]), np.arange(N_STEPS), 5
    np.testing.assert_array_equal(g, np.where(n < k, 0.0, 3.0)[:, None] * np.ones(2))
    v_then = np.asarray([5.0, 7.0]) + DT * (n - k + 1)[:, None]
    np.testing.assert_allclose(i, np.where((n < k)[:, None], 0.0, 3.0 * v_then), rtol=1e-5)


def test_an_instant_chain_passes_three_layers_in_one_step():
    layer = {name: bs.Population(bs.LIF(v_th=-50.0), 2, {"inp": bs.Delta()}) for name in ("A", "B", "C")}
    instant = {"weight": 20.0, "delay": bs.INSTANT}
    net = bs.Network(
        {"S": replay([(4, 0), (9, 1)], 2)} | layer,
        {
            # named against the order they must run in
            "z": bs.Projection("S", "A", bs.OneToOne(), **instant),
            "y": bs.Projection("A", "B", bs.OneToOne(), **instant),
            "x": bs.Projection("B", "C", bs.OneToOne(), **instant),
            "back": bs.Projection("C", "A", bs.FromCOO([0], [1]), weight=20.0),  # a delay of 0: one step
        },
    )
    assert net.order == ("S", "A", "B", "C")
    sol = run(net, 12, [bs.Events(name) for name in "ABC"])
    expected = np.zeros((12, 2))
    expected[4, 0] = expected[5, 1] = expected[9, 1] = 1.0
    for name in "ABC":
        np.testing.assert_array_equal(sol[f"{name}.events"], expected)


def test_half_a_step_is_rounded_up_with_a_warning_that_names_the_edge():
    net = bs.Network(
        {"S": replay([(0, 0)], 1), "B": tally(1)},
        {"slow": bs.Projection("S", "B", bs.OneToOne(), weight=1.0, delay=0.625)},
    )
    with pytest.warns(UserWarning, match=r"edge 'slow': a delay of 0.625 ms .* dt = 0.25 ms; .* rounded to 0.75 ms"):
        net.check(0.25)
    assert int(net.at(0.25).edges["slow"].taps[0][1]) == 4
    assert net.edges["slow"].depth(0.25) == 4


def test_drawn_delays_do_not_warn(recwarn):
    net = bs.Network(
        {"S": replay([(0, 0)], 3), "B": tally(2)},
        {"E": bs.Projection("S", "B", bs.AllToAll(), weight=1.0, delay=bs.Uniform(0.0, 1.0))},
        key=jax.random.key(0),
    )
    net.check(DT)
    bs.Network(net.nodes, {"E": bs.Projection("S", "B", bs.AllToAll(), weight=1.0, delay=0.3)}).check(DT)
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []


@pytest.mark.parametrize("dt", [0.1, 0.05, 0.025, 0.3])
def test_no_delay_is_longer_than_its_ring(dt):
    """Float32 rounds `delay / dt` otherwise than float64 does: the ring must hold either."""
    for d in np.concatenate([np.arange(0.0, 3.0, 0.05), np.arange(0.0, 3.0, 0.05) + dt / 2, [1500.0, 1234.5]]):
        k = delay_steps(jnp.asarray(d), dt, float(jnp.asarray(d)))
        assert 1 <= int(k) <= ring_depth(float(d), dt)
        assert abs(int(k) - 1 - d / dt) <= 0.5 + 1e-6 * d / dt + 1e-4


def test_a_delay_changed_beyond_the_line():
    net = bs.Network(
        {"S": replay([(0, 0)], 1), "B": tally(1)},
        {"E": bs.Projection("S", "B", bs.OneToOne(), weight=1.0, delay=0.5)},
    )
    longer = eqx.tree_at(lambda net: net.edges["E"].delay, net, jnp.asarray(5.0))
    with pytest.raises(ValueError, match=r"edge 'E'.delay is 5 ms, beyond the line of max_delay = 0.5 ms"):
        run(longer, 1, [])
    # a traced one cannot be looked at: it is held at the end of the line rather than wrapped around
    assert int(jax.jit(lambda d: delay_steps(d, DT, 0.5))(jnp.asarray(5.0))) == 6
