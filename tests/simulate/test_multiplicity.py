"""Several events of a unit in one step: one meaning in lists, counts, rates and plasticity, and back into `Replay`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.events import _pure, append, multiplicity, tally

K = jax.random.key


@pytest.mark.core
def test_a_list_holds_an_index_as_often_as_its_value_says():
    """On the kernels and their twins: whole numbers above 1 repeat, all other values but 0 are one event."""
    value = jnp.asarray([0.0, 3.0, -2.0, 0.5, 1.0, 2.5, 2.0, jnp.inf, 0.0, jnp.nan])
    want = [1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 9]
    np.testing.assert_array_equal(np.repeat(np.arange(10), multiplicity(value)), want)
    for room, one in ((20, append), (20, _pure.append), (6, append), (6, _pure.append)):
        ids, count = one(jnp.full(room, -1, jnp.int32), jnp.int32(1), value, None, many=True)
        assert int(count) == 1 + len(want)
        np.testing.assert_array_equal(ids, np.r_[-1, want, np.full(20, -1)][:room])
    assert int(tally(value, (), many=True)[0]) == len(want)
    assert int(tally(value, (), many=False)[0]) == 8
    rows = jnp.stack([value, jnp.roll(value, 1)])
    ids, count = jax.vmap(lambda v: append(jnp.zeros(20, jnp.int32), jnp.int32(0), v, many=True))(rows)
    np.testing.assert_array_equal(count, [len(want)] * 2)
    np.testing.assert_array_equal(ids[1, : len(want)], np.sort((np.asarray(want) + 1) % 10))


@pytest.mark.core
@pytest.mark.parametrize("n", [2, 40])  # by XLA, and as one fused pass
def test_every_count_of_a_run_agrees(n):
    """Two units that emit 2 and 3 a step among silent ones: the list, the rate, the number of events, their sum."""
    period = np.full(n, 1e6)
    period[:2] = 0.05, 0.1 / 3
    net = bs.Network({"S": bs.Source(bs.Regular(period), n)})
    record = [bs.Spikes("S", max_rate=1e5), bs.Rate("S"), bs.Events("S")]
    sol = bs.simulate(net, t1=1.0, dt=0.1, key=K(0), saveat=record)
    emitted = np.asarray(sol["S.events"])
    np.testing.assert_array_equal(emitted[1:, :2], np.tile([2, 3], (9, 1)))
    assert not emitted[:, 2:].any()
    train = sol.spikes("S")
    assert len(train.i) == emitted.sum() == int(sol.n_events["S"])
    np.testing.assert_allclose(sol.rates["S"], emitted.sum() / n / 1e-3, rtol=1e-6)
    np.testing.assert_allclose(np.mean(sol["S.rate"]), emitted.sum() / n / 1e-3, rtol=1e-6)
    again = bs.Network({"S": bs.Source(bs.Replay(*train), n)})
    back = bs.simulate(again, t1=1.0, dt=0.1, key=K(0), saveat=[bs.Events("S"), bs.Spikes("S", max_rate=1e5)])
    np.testing.assert_array_equal(back["S.events"], emitted)
    np.testing.assert_array_equal(back.spikes("S").i, train.i)
    np.testing.assert_array_equal(back.spikes("S").t, train.t)


def test_events_of_packed_sources_are_counted_by_source():
    """The members of a merged source know their own numbers of events."""
    nodes = {f"S{k}": bs.Source(bs.Regular(0.1 / k), 3) for k in (1, 2, 4)}
    net = bs.pack(bs.Network(nodes))
    assert len(net.nodes) == 1
    sol = bs.simulate(net, t1=1.0, dt=0.1, key=K(0))
    one = bs.simulate(bs.Network(nodes), t1=1.0, dt=0.1, key=K(0))
    assert {k: int(x) for k, x in sol.n_events.items()} == {k: int(x) for k, x in one.n_events.items()}
    assert int(sol.n_events["S4"]) > 3 * 36


def _released(times, U, tau_facil=0.0):
    net = bs.Network(
        {
            "S": bs.Source(bs.Replay(times, np.zeros(len(times), int)), 1),
            "P": bs.Population(bs.LeakyIntegrator(tau_m=1e9), 1, {"e": bs.Delta()}),
        },
        {"SP": bs.Projection("S", "P.e", bs.OneToOne(), weight=1.0, short_term=bs.TsodyksMarkram(U, tau_facil, 1e9))},
    )
    sol = bs.simulate(net, t1=3.0, dt=0.1, key=K(0), saveat=[bs.Trace("P.v"), bs.Trace("SP.x"), bs.Trace("SP.u")])
    v = np.asarray(sol["P.v"])[:, 0]
    return v[10] - v[9], v[-1] - v[10], np.asarray(sol["SP.x"])[:, 0], np.asarray(sol["SP.u"])[:, 0]


@pytest.mark.parametrize("U", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("k", [2, 3])
def test_spikes_of_one_step_release_one_after_the_other(U, k):
    """Without facilitation each of k spikes takes U of what is left, and x never leaves [0, 1]."""
    first, last, x, _ = _released([1.0] * k + [2.0], U)
    np.testing.assert_allclose(first, 1 - (1 - U) ** k, rtol=1e-5)
    np.testing.assert_allclose(last, U * (1 - U) ** k, rtol=1e-4, atol=1e-5)
    assert 0 <= x.min() <= x.max() <= 1


def test_facilitation_between_spikes_of_one_step():
    """As at a step so small that each has its own."""
    U = 0.3
    u = 1 - (1 - U) ** np.arange(1, 4)
    x = np.cumprod(np.r_[1.0, 1 - u])
    first, _, got_x, got_u = _released([1.0] * 3, U, tau_facil=1e9)
    np.testing.assert_allclose(first, (u * x[:3]).sum(), rtol=1e-5)
    np.testing.assert_allclose((got_x[-1], got_u[-1]), (x[3], u[2]), rtol=1e-5)
