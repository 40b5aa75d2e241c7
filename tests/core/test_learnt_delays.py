"""Delays with a derivative: an event in parts, over several steps, and whole again once it is learnt."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import same

DT = 0.25  # ms, a power of two: whole steps are whole
FD_RTOL = 1e-6  # central differences in float64; linear in d between two steps, so only rounding remains
PRE, POST = [0, 0, 1, 2, 2], [0, 1, 1, 0, 1]
D = [0.3, 1.1, 2.05, 0.6, 2.9]  # none of them whole
EACH = [[0.3, 1.1], [2.05, 0.6], [2.9, 1.8]]


class Graded(bs.AbstractProcess):
    """Emits its input."""

    def check(self, name, size):
        assert size >= 0

    def init(self, n, clock):
        return {}

    def emit(self, z, inp, clock):
        return inp, z


def chain(delay, connect=None, weight=(1.0, -0.5, 2.0, 0.7, 1.5), max_delay=3.0):
    """Graded events into units that never spike: smooth in everything."""
    cells = bs.Population(bs.LeakyIntegrator(), 2, {"exc": bs.ExpCurr(tau=2.0)})
    connect = bs.FromCOO(PRE, POST) if connect is None else connect
    edge = bs.Projection("S", "P.exc", connect, weight=jnp.asarray(weight) * 100.0, delay=delay, max_delay=max_delay)
    return bs.Network({"S": bs.Source(Graded(), 3), "P": cells}, {"SP": edge}, key=jax.random.key(0))


def drive(n=60):
    return jax.random.uniform(jax.random.key(7), (n, 3))


def trace(net, rows=None):
    rows = drive() if rows is None else rows
    t1 = len(rows) * DT
    return bs.simulate(net, t1=t1, dt=DT, key=jax.random.key(0), inputs={"S": rows}, saveat=(bs.Trace("P.v"),))["P.v"]


def with_d(net, d):
    return eqx.tree_at(lambda net: net.edges["SP"].delay.d, net, d)


@pytest.mark.optimised
@pytest.mark.parametrize("make", [bs.LinearDelay, lambda d: bs.GaussianDelay(d, 0.3)], ids=["linear", "gaussian"])
def test_hardened_is_the_plain_projection(make):
    net, rounded = chain(make(D)), chain(DT * np.floor(np.asarray(D) / DT + 0.5))
    assert same(trace(bs.hardened(net, DT)), trace(rounded))
    assert not np.allclose(trace(net), trace(rounded), rtol=1e-3)


def test_hardened_stays_within_the_line():
    net = bs.hardened(
        with_d(chain(bs.LinearDelay([1.0] * 5), max_delay=2.6), jnp.asarray([-1.0, 9.0, 2.6, 0.1, 2.49])), DT
    )
    assert net.edges["SP"].delay.tolist() == [0.0, 2.5, 2.5, 0.0, 2.5]  # 2.6 ms are 10 steps
    assert net.edges["SP"].max_delay == 2.5
    with pytest.raises(ValueError, match=r"hardened: dt is 0; expected a step > 0"):
        bs.hardened(net, 0)


def layers(delays, connect, unit=None):
    """Graded events into spiking units, part of them into others. The weights are multiples of 1/64: sums are exact."""
    unit = bs.LIF(tau_m=2.0, e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0)
    rng, edges = np.random.default_rng(0), {}
    for (name, pre, post, n), delay in zip([("SA", "S", "A", (3, 6)), ("AB", "A[1:5]", "B[::2]", (4, 2))], delays):
        weight = rng.integers(-40, 180, n) / 64
        edges[name] = bs.Projection(pre, post, connect(*n), weight=weight, delay=delay(rng, n), max_delay=3.0)
    cells = {name: bs.Population(unit, n, {"in": bs.Delta()}) for name, n in (("A", 6), ("B", 4))}
    return bs.Network({"S": bs.Source(bs.External(), 3)} | cells, edges)


def spiking(net):
    rows = (jax.random.uniform(jax.random.key(5), (120, 3)) < 0.3).astype(jnp.float32)
    saveat = [bs.Events("A"), bs.Events("B"), bs.Trace("A.v"), bs.Trace("B.v")]
    sol = bs.simulate(net, t1=120 * DT, dt=DT, key=jax.random.key(0), inputs={"S": rows}, saveat=saveat)
    assert min(float(jnp.sum(sol[name])) for name in ("A.events", "B.events")) > 20
    return {name: sol[name] for name in ("A.events", "B.events", "A.v", "B.v")}, rows


def whole(rng, n):
    return rng.integers(0, 13, n) * DT


@pytest.mark.optimised
@pytest.mark.core
def test_a_convolution_over_time_is_the_event_driven_ring_bit_for_bit():
    """Sums of multiples of 1/64 have no rounding, so their order does not matter."""
    dense = layers([whole, whole], lambda *n: bs.DenseMatrix())
    ring = layers([whole, whole], lambda *n: bs.AllToAll())
    hard = bs.hardened(dense, DT)
    assert isinstance(hard.edges["AB"].connect, bs.FixedFanout)
    (seen, rows), *others = (spiking(net) for net in (dense, ring, hard))
    assert all(same(seen, other) for other, _ in others)
    # and the same by hand: what reaches A, from the definition
    edge, v = dense.edges["SA"], np.zeros(6)
    steps, arriving = 1 + np.asarray(edge.delay / DT, int), np.zeros((140, 6))
    for t, i in zip(*np.nonzero(np.asarray(rows))):
        np.add.at(arriving, (t + steps[i], np.arange(6)), np.asarray(edge.weight)[i])
    for t in range(120):
        v = (v + arriving[t]) * np.exp(-DT / 2.0)
        fired = np.asarray(seen["A.events"][t])
        assert np.array_equal(fired, v >= 1.0)
        v = v * (1 - fired)


@pytest.mark.optimised
@pytest.mark.core
def test_a_narrow_kernel_is_the_network_that_will_run():
    """No delay is near half a step, so that with sigma = dt / 200 all shares but one underflow to 0."""

    def between(rng, n):
        return (rng.integers(0, 12, n) + rng.uniform(-0.4, 0.4, n)).clip(0) * DT

    def gaussian(sigma):
        return lambda rng, n: bs.GaussianDelay(between(rng, n), sigma, reach=3.0)

    learnt = layers([gaussian(DT / 200)] * 2, lambda *n: bs.DenseMatrix())
    assert same(spiking(learnt)[0], spiking(bs.hardened(learnt, DT))[0])


def test_annealing_begins_with_a_gradient_and_ends_with_the_plain_delay():
    """A delay far off: a wide kernel feels the planted one, a narrow one does not."""
    planted = [0.25, 3.0, 0.5, 2.75, 0.25]
    rows = (jax.random.uniform(jax.random.key(3), (160, 3)) < 0.05).astype(jnp.float32)
    wanted = trace(chain(planted), rows)
    net = chain(bs.GaussianDelay([3.0, 0.25, 2.5, 0.5, 2.75], 1.5, reach=3.0))
    where = lambda net: (net.edges["SP"].delay.d, net.edges["SP"].delay.sigma)  # noqa: E731
    f = lambda x: jnp.mean((trace(eqx.tree_at(where, net, x), rows) - wanted) ** 2)  # noqa: E731
    d, widths = where(net)[0], 1.5 * 0.5 ** jnp.arange(8.0)
    slopes = jax.lax.map(lambda s: jax.grad(f)((d, s))[0], widths)
    assert np.array_equal(np.sign(slopes[0]), np.sign(d - jnp.asarray(planted)))
    assert float(jnp.max(jnp.abs(slopes[-1]))) < 1e-6 * float(jnp.min(jnp.abs(slopes[0])))
    plain = trace(bs.hardened(net, DT), rows)
    off = [float(jnp.max(jnp.abs(trace(eqx.tree_at(where, net, (d, s)), rows) - plain))) for s in widths]
    assert np.all(np.diff(off) <= 0)
    assert off[-1] < 1e-5 < off[0]  # mV: the rounding of sums


@pytest.mark.optimised
def test_event_to_event_a_matrix_with_delays_is_its_list_of_synapses():
    cells = bs.Population(bs.LIF(tau_m=10.0, g_l=10.0), 2, {"exc": bs.ExpCurr(tau=2.0)}, i_e=[200.0, 140.0])
    delay, weight = [[0.3, 1.7], [2.2, 0.9]], [[60.0, 140.0], [-30.0, 80.0]]
    nets = [
        bs.Network({"P": cells}, {"PP": bs.Projection("P", "P.exc", rule, weight=weight, delay=delay)})
        for rule in (bs.DenseMatrix(), bs.AllToAll())
    ]
    one, other = (bs.simulate_events(net, t1=100.0, key=jax.random.key(0)) for net in nets)
    assert same(one["P"], other["P"])


@pytest.mark.core
def test_linear_delay_of_whole_steps_is_the_plain_delay():
    whole = [0.25, 0.0, 3.0, 1.5, 0.5]
    np.testing.assert_allclose(trace(chain(bs.LinearDelay(whole))), trace(chain(whole)), rtol=1e-6)


@pytest.mark.parametrize("x", [0.0, 0.2, 3.5, 6.0, 10.0, 11.9, 12.0])
@pytest.mark.parametrize(
    "delay",
    [bs.LinearDelay(0.0), bs.GaussianDelay(0.0, 0.2), bs.GaussianDelay(0.0, 2.0)],
    ids=["linear", "narrow", "wide"],
)
def test_shares_sum_to_one_within_the_line(delay, x):
    line = 12
    parts = delay.parts(jnp.asarray(x), DT, line)
    steps = [int(k) for _, k in parts]
    np.testing.assert_allclose(sum(share for share, _ in parts), 1.0, rtol=1e-6)
    assert min(steps) >= 0
    assert max(steps) <= line
    assert min(steps) <= x <= max(steps)
    if isinstance(delay, bs.LinearDelay) or (delay.reach < 1.0 and x == 6.0):  # nothing cut off: the mean is the delay
        np.testing.assert_allclose(sum(share * k.astype(share.dtype) for share, k in parts), x, rtol=1e-6)
    if isinstance(delay, bs.GaussianDelay):
        wide = delay.reach > 0.5 * line * DT
        assert steps == list(range(line + 1)) if wide else len(steps) == 7  # 3 sigma = 2.4 steps
        shares = np.asarray([share for share, _ in parts])
        kernel = np.exp(-0.5 * ((np.asarray(steps) - x) * DT / np.asarray(delay.sigma)) ** 2)
        np.testing.assert_allclose(shares, kernel / kernel.sum(), rtol=2e-5, atol=1e-12)


CASES = {
    "per synapse": (bs.LinearDelay(D), None, (1.0, -0.5, 2.0, 0.7, 1.5)),
    "one": (bs.LinearDelay(0.7), None, (1.0, -0.5, 2.0, 0.7, 1.5)),
    "one weight": (bs.LinearDelay(D), None, 1.3),
    "per pre unit, fixed fan-out": (bs.LinearDelay([0.4, 1.2, 0.1]), bs.FixedOutDegree(2), 1.1),
    "gaussian": (bs.GaussianDelay(D, 0.4), None, (1.0, -0.5, 2.0, 0.7, 1.5)),
    "dense": (bs.LinearDelay(0.7), bs.DenseMatrix(), np.arange(6.0).reshape(3, 2)),
    "dense, per synapse": (bs.LinearDelay(EACH), bs.DenseMatrix(), np.arange(1.0, 7.0).reshape(3, 2)),
    "dense, gaussian": (bs.GaussianDelay(EACH, 0.4), bs.DenseMatrix(), np.arange(1.0, 7.0).reshape(3, 2)),
    "dense, the whole line": (bs.GaussianDelay(EACH, 2.0), bs.DenseMatrix(), np.arange(1.0, 7.0).reshape(3, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_equals_finite_differences(x64, case):
    delay, connect, weight = CASES[case]
    delay = jax.tree.map(lambda x: jnp.asarray(x, float), delay)  # made in single precision
    net = chain(delay, connect, weight)
    d = net.edges["SP"].delay.d
    both, h = jax.jit(jax.value_and_grad(lambda d: jnp.mean(jnp.sin(trace(with_d(net, d)))))), 2e-6
    g = both(d)[1]
    for k in np.ndindex(d.shape):
        wanted = (both(d.at[k].add(h))[0] - both(d.at[k].add(-h))[0]) / (2 * h)
        np.testing.assert_allclose(g[k], wanted, rtol=FD_RTOL, atol=1e-9)
    assert float(jnp.min(jnp.abs(g))) > 0


@pytest.mark.core
def test_gradient_of_sigma_is_finite_at_the_ends_of_the_line(x64):
    net = chain(bs.GaussianDelay([0.0, 3.0, 0.1, 2.9, 1.0], 0.4))
    where = lambda net: (net.edges["SP"].delay.d, net.edges["SP"].delay.sigma)  # noqa: E731
    f = lambda x: jnp.mean(trace(eqx.tree_at(where, net, x)) ** 2)  # noqa: E731
    d, sigma = jax.grad(f)(where(net))
    assert bool(jnp.all(jnp.isfinite(d)) & jnp.all(d != 0))
    assert float(sigma) != 0


@pytest.mark.optimised
def test_beyond_the_line_counts_as_its_end_and_keeps_a_derivative():
    net = chain(bs.LinearDelay(D))
    beyond, end = jnp.asarray([-1.0, 9.0, 1.0, 1.0, 1.0]), jnp.asarray([0.0, 3.0, 1.0, 1.0, 1.0])
    f = lambda d: jnp.mean(trace(with_d(net, d)) ** 2)  # noqa: E731
    assert f(beyond) == f(end)
    np.testing.assert_array_equal(jax.grad(f)(beyond), jax.grad(f)(end))
    assert bool(jnp.all(jax.grad(f)(beyond) != 0))


@pytest.mark.parametrize("make", [bs.LinearDelay, lambda d: bs.GaussianDelay(d, 0.3)], ids=["linear", "gaussian"])
def test_a_planted_delay_is_recovered(make):
    """Events of a few units, sparse in time; membrane and synapse are all the smoothness there is."""
    planted = jnp.asarray([2.5, 0.5, 1.25, 2.0, 0.25])
    rows = (jax.random.uniform(jax.random.key(3), (160, 3)) < 0.08).astype(jnp.float32)
    net, wanted = chain(make([1.5] * 5)), trace(chain(planted), rows)
    slope = jax.grad(lambda d: jnp.mean((trace(with_d(net, d), rows) - wanted) ** 2))

    def update(carry, rate):
        """Adam without its corrections of the start."""
        d, m, v = carry
        g = slope(d)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        return (d - rate * m / (jnp.sqrt(v) + 1e-12), m, v), None

    d = net.edges["SP"].delay.d
    rates = jnp.linspace(0.05, 0.0, 300)
    (d, *_), _ = jax.jit(lambda d: jax.lax.scan(update, (d, 0.0 * d, 0.0 * d), rates))(d)
    np.testing.assert_array_equal(with_d(net, d).edges["SP"].delay.hardened(DT), planted)


def test_bad_delays_are_refused():
    with pytest.raises(ValueError, match=r"edge 'SP'.delay is to be learnt; give max_delay"):
        chain(bs.LinearDelay(D), max_delay=None)
    with pytest.raises(ValueError, match=r"edge 'SP'.delay is 4 ms, beyond the line of max_delay = 3 ms"):
        chain(bs.LinearDelay([4.0] * 5))
    with pytest.raises(ValueError, match=r"edge 'SP'.delay is -1 ms"):
        chain(bs.LinearDelay([-1.0] * 5))
    with pytest.raises(ValueError, match=r"GaussianDelay.sigma is 0.0; expected one number > 0"):
        bs.GaussianDelay(D, 0.0)
    with pytest.raises(ValueError, match=r"GaussianDelay.reach is -1"):
        bs.GaussianDelay(D, 0.5, reach=-1)
    cells = bs.Population(bs.LIF(), 2, {"gap": bs.GapPort()})
    gap = bs.GapJunctions("P", "P.gap", bs.AllToAll(), weight=1.0, delay=bs.LinearDelay(0.5), max_delay=1.0)
    with pytest.raises(ValueError, match=r"expected one number >= 0 \(ms\) for gap junctions"):
        bs.Network({"P": cells}, {"G": gap})
