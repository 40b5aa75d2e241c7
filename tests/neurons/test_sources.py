"""Sources: the statistics they promise, the steps they promise, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import brainsim as bs
from brainsim.neurons._poisson import counts_below, poisson_counts, thresholds

DT = 0.1


def _run(nodes, t1, *, record, inputs=None, edges=None, dt=DT, seed=0):
    net = bs.Network(nodes, edges, key=jax.random.key(1))
    return bs.simulate(net, t1=t1, dt=dt, key=jax.random.key(seed), inputs=inputs, saveat=record)


@pytest.fixture(scope="module")
def sol():
    """One run of 1 s with every kind of source."""
    nodes = {
        "poisson": bs.Source(bs.Poisson(50.0), 400),
        "rates": bs.Source(bs.Poisson(jnp.asarray([0.0, 100.0, 1e4])), 3),
        "wave": bs.Source(bs.Poisson(bs.Sine(60.0, 2.0, offset=30.0)), 400),
        "driven": bs.Source(bs.Poisson(20.0), 400),
        "regular": bs.Source(bs.Regular([3.0, 0.35, 10.0, 0.05], [0.0, 0.2, 7.04, 0.0]), 4),
        "rate": bs.Source(bs.Regular.of_rate(40.0, phase=5.0), 1),
        "replay": bs.Source(bs.Replay([3.3, 1.0, 1.0, 0.04, 5e3, 999.98], [2, 0, 0, 1, 1, 1]), 3),
        "none": bs.Source(bs.Replay([], []), 2),
    }
    record = [bs.Events(k) for k in nodes] + [bs.Spikes("poisson"), bs.Spikes("regular", max_rate=1e5)]
    return _run(nodes, 1000.0, record=record, inputs={"driven": bs.StepCurrent([100.0, -50.0], [300.0, 600.0])})


def test_poisson_rate_and_intervals(sol):
    """Mean within 4 standard errors; CV of the intervals 1; counts per unit have the variance of a binomial."""
    x = np.asarray(sol["poisson.events"])
    assert set(np.unique(x)) == {0.0, 1.0}
    n, p = x.size, 0.005
    assert abs(x.sum() - n * p) < 4 * np.sqrt(n * p * (1 - p))
    train = sol.spikes("poisson")
    isi = np.concatenate([np.diff(train.t[train.i == k]) for k in range(400)])
    assert abs(isi.std() / isi.mean() - 1) < 0.05
    # windows of 100 ms, pooled over units: Poisson(5) by a chi-squared test
    counts = x.reshape(10, 1000, 400).sum(1).ravel().astype(int)
    observed = np.bincount(np.minimum(counts, 12), minlength=13)
    law = stats.binom(1000, p)
    expected = counts.size * np.append(law.pmf(np.arange(12)), law.sf(11))
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.05


def test_poisson_rates_by_unit(sol):
    silent, hundred, certain = np.asarray(sol["rates.events"]).sum(0)
    assert silent == 0
    assert 60 < hundred < 140
    assert certain == 10_000  # 10 kHz: every step


def test_inhomogeneous_poisson(sol):
    """Rectified: by window the counts follow the mean of max(0, 30 + 60 sin), given as a waveform; inputs add to the
    rate.
    """
    t = (np.arange(10_000) + 0.5) * DT
    wanted = np.maximum(0, 30 + 60 * np.sin(2 * np.pi * 2e-3 * t)).reshape(20, 500).sum(1) * DT * 1e-3 * 400
    got = np.asarray(sol["wave.events"]).sum(1).reshape(20, 500).sum(1)
    assert np.all(np.abs(got - wanted) < 4.5 * np.sqrt(wanted + 1e-9))
    assert got[wanted == 0].sum() == 0
    got = np.asarray(sol["driven.events"]).sum(1)
    for part, rate in ((slice(0, 3000), 20.0), (slice(3000, 6000), 120.0), (slice(6000, None), 0.0)):
        n = got[part].size * 400
        assert abs(got[part].sum() - n * rate * DT * 1e-3) <= 4 * np.sqrt(n * rate * DT * 1e-3)


def test_regular_is_on_time(sol):
    """Each spike lies in the step whose end is nearest; several in a step count; no drift."""
    x = np.asarray(sol["regular.events"])
    for k, (period, phase) in enumerate([(3.0, 0.0), (0.35, 0.2), (10.0, 7.04)]):
        t = phase + period * np.arange(3000)
        t = t[(t > DT / 2) & (t < 1000.0)]
        steps = np.round(t / DT - 1e-7).astype(int) - 1
        wanted = np.bincount(steps, minlength=10_000)[:10_000]
        # ties at half a step may fall on either side
        assert np.abs(np.cumsum(x[:, k]) - np.cumsum(wanted)).max() <= (1 if period == 0.35 else 0)
    assert np.all(x[1:, 3] == 2)
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(sol["rate.events"])[:, 0]), 49 + 250 * np.arange(40))


def test_replay_emits_in_the_nearest_step(sol):
    x = np.asarray(sol["replay.events"])
    assert {(int(n), int(i)): float(x[n, i]) for n, i in np.argwhere(x)} == {
        (0, 1): 1.0,
        (9, 0): 2.0,
        (32, 2): 1.0,
        (9999, 1): 1.0,
    }
    assert not np.asarray(sol["none.events"]).any()


def test_replay_of_a_recording_is_the_recording(sol):
    """Step for step over 10,000 steps, of units too that emit 2 in a step."""
    nodes = {
        "a": bs.Source(bs.Replay(*sol.spikes("poisson")), 400),
        "b": bs.Source(bs.Replay(*sol.spikes("regular")), 4),
    }
    again = _run(nodes, 1000.0, record=[bs.Events("a"), bs.Events("b")])
    np.testing.assert_array_equal(again["a.events"], sol["poisson.events"])
    np.testing.assert_array_equal(again["b.events"], sol["regular.events"])


def test_replay_far_from_zero_and_at_other_steps():
    """At steps near a million of a dt that is no binary fraction."""
    times = np.array([100_000.0, 100_000.1, 100_003.7])
    source = bs.Replay(times, [0, 1, 0])
    for n, want in (
        (999_998, [0, 0]),
        (999_999, [1, 0]),
        (1_000_000, [0, 1]),
        (1_000_036, [1, 0]),
        (1_000_037, [0, 0]),
    ):
        clock = bs.Clock.of("S", jnp.asarray(n, jnp.int32), 0.1, jax.random.key(0))
        value, _ = source.emit({}, jnp.zeros(2), clock)
        np.testing.assert_array_equal(value, want)


def test_external_passes_values_and_gradients():
    """Rows of the input are the events, and what a loss on the far side asks for comes back; a replay beside it is
    harmless.
    """
    net = bs.Network(
        {
            "X": bs.Source(bs.External(), 2),
            "S": bs.Source(bs.Replay([0.2], [0]), 1),
            "P": bs.Population(bs.LeakyIntegrator(tau_m=10.0), 2, {"in": bs.Delta()}),
        },
        {
            "XP": bs.Projection("X", "P", bs.OneToOne(), weight=2.0),
            "SP": bs.Projection("S", "P", bs.AllToAll(), weight=1.0),
            "NP": bs.PoissonInput("P", 10, 100.0, 0.5),
        },
    )
    rows = jnp.asarray([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])

    def loss(rows):
        sol = bs.simulate(
            net, t1=0.3, dt=0.1, key=jax.random.key(0), inputs={"X": rows}, saveat=[bs.Events("X"), bs.Trace("P.v")]
        )
        return jnp.sum(sol["P.v"][-1]), sol["X.events"]

    (_, events), grad = jax.value_and_grad(loss, has_aux=True)(rows)
    np.testing.assert_array_equal(events, rows)
    wanted = 2.0 * np.exp(-0.01 * np.array([[2.0, 2.0], [1.0, 1.0], [np.inf, np.inf]]))
    np.testing.assert_allclose(grad, wanted, rtol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.3, 1.0, 5.0, 40.0, 200.0])
def test_poisson_counts_have_their_law(mean):
    """Mean and variance within 5 standard errors, and a chi-squared test of the law."""
    x = np.asarray(_COUNTS(jax.random.key(7), jnp.full(200_000, mean))).astype(int)
    if mean == 0:
        assert not x.any()
        return
    assert abs(x.mean() - mean) < 5 * np.sqrt(mean / x.size)
    assert abs(x.var() - mean) < 5 * np.sqrt((mean + 2 * mean**2) / x.size)
    law = stats.poisson(mean)
    low, high = int(law.ppf(1e-4)), max(int(law.ppf(1 - 1e-4)), 1)
    observed = np.bincount(np.clip(x, low, high) - low, minlength=high - low + 1)
    expected = law.pmf(np.arange(low, high + 1)) * x.size
    expected[0] += law.cdf(low - 1) * x.size
    expected[-1] += law.sf(high) * x.size
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def excess(counts, mean):
    """How far chi-square of the counts lies above its mean, in standard deviations; bins of 20 expected and more."""
    k = np.arange(int(counts.max()) + 2)
    p = stats.poisson.pmf(k, mean)
    wide = p * counts.size >= 20
    expected = np.append(p[wide], 1 - p[wide].sum()) * counts.size
    found = np.bincount(counts, minlength=k.size)[k[wide]]
    found = np.append(found, counts.size - found.sum())
    keep = expected > 1
    return (np.sum((found - expected)[keep] ** 2 / expected[keep]) - (keep.sum() - 1)) / np.sqrt(2 * (keep.sum() - 1))


@pytest.mark.parametrize("mean", [0.0, 1e-4, 0.16, 1.0, 2.3, 10.0, 25.0])
def test_counts_from_thresholds_have_their_law(mean):
    n = 10**6
    table = thresholds(np.asarray(mean))
    counts = np.asarray(jax.jit(counts_below, static_argnums=2)(jax.random.key(3), table, n)).astype(int)
    if mean == 0.0:
        assert not counts.any()
        return
    assert abs(counts.mean() - mean) < 4 * np.sqrt(mean / n)
    assert excess(counts, mean) < 4


def test_thresholds_are_one_column_a_unit_and_none_of_what_a_word_cannot_hold():
    table = thresholds(np.asarray([0.2, 0.0, 5.0]))
    for k, mean in enumerate((0.2, 0.0, 5.0)):
        own = np.asarray(thresholds(np.asarray(mean)))
        np.testing.assert_array_equal(table[: own.size, k], own)
        assert not np.any(np.asarray(table[own.size :, k]) > 1)
    assert thresholds(np.asarray(100.0)) is None
    assert thresholds(np.asarray([1.0, np.nan])) is None


def driven(rate, delay=0.0, n=64, **kw):
    p = bs.Population(bs.LIF(v_th=1e6), n, {"in": bs.Delta()})
    net = bs.Network({"P": p}, {"X": bs.PoissonInput("P", 100, rate, 0.5, delay=delay)})
    return net, lambda key: bs.simulate(net, t1=2.0, dt=0.1, key=key, saveat=[bs.Trace("P.v")], **kw)["P.v"]


def test_a_poisson_input_is_played_and_has_the_same_bits_in_pieces_batches_and_steps():
    net, run = driven(np.full(64, 30.0))
    assert bs.summary(net, dt=0.1).steps == "one call"
    keys = jax.random.split(jax.random.key(0), 2)
    whole = np.stack([run(key) for key in keys])
    assert np.unique(whole).size > 100
    np.testing.assert_array_equal(jax.vmap(run)(keys), whole)
    state = bs.simulate(net, t1=1.9, dt=0.1, key=keys[0]).state
    np.testing.assert_array_equal(bs.step(net, state)[0].nodes["P"].y["unit"]["v"], whole[0, -1])


def test_a_poisson_input_waits_for_its_delay():
    (_, now), (_, late) = driven(30.0), driven(30.0, delay=0.5)
    a, b = now(jax.random.key(0)), late(jax.random.key(0))
    np.testing.assert_array_equal(b[5:], a[:-5])
    np.testing.assert_array_equal(b[:6], np.full_like(b[:6], -60.0))
    with pytest.raises(ValueError, match=r"PoissonInput\.delay is -1"):
        driven(30.0, delay=-1.0)
    with pytest.warns(UserWarning, match="a delay of 0.25 ms is not a whole number"):
        driven(30.0, delay=0.25)[1](jax.random.key(0))


_COUNTS = jax.jit(lambda key, mean: poisson_counts(key, mean, mean.size))


def test_poisson_input_is_the_sum_of_its_sources():
    """Mean and variance per step n rate dt, times the weight, on the named units only, independent by unit and step."""
    nodes = {"P": bs.Population(bs.LeakyIntegrator(tau_m=1e9), 60, {"in": bs.Delta(), "other": bs.Delta()})}
    edges = {
        "a": bs.PoissonInput("P[:40].in", 200, 30.0, jnp.full(40, 0.5)),
        "b": bs.PoissonInput("P[40:50].other", 1000, bs.StepCurrent([10.0], [50.0]), bs.Normal(2.0, 0.1)),
    }
    sol = _run(nodes, 100.0, record=[bs.Trace("P.v")], edges=edges)
    v = np.asarray(sol["P.v"], np.float64)
    jumps = np.diff(v, axis=0)
    first, late, none = jumps[:, :40] / 0.5, v[:, 40:50], v[:, 50:]
    mean, n = 0.6, first.size
    assert abs(first.mean() - mean) < 4.5 * np.sqrt(mean / n)
    assert abs(first.var() - mean) < 4.5 * np.sqrt((mean + 2 * mean**2) / n)
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.15
    assert abs(np.corrcoef(first[:-1, 0], first[1:, 0])[0, 1]) < 0.15
    assert not late[:501].any()  # the rate is 0 until 50 ms, and a draw arrives a step later
    assert abs(late[-1].mean() - 1000.0) < 120.0
    assert not none.any()


BAD = [
    (lambda: bs.Poisson(-1.0), ValueError, "rates >= 0"),
    (lambda: bs.Poisson(float("nan")), ValueError, "Poisson.rate contains NaN"),
    (lambda: bs.Network({"S": bs.Source(bs.Poisson([1.0, 2.0]), 3)}), ValueError, r"Source 'S'.*\(2,\).*\(3,\)"),
    (lambda: bs.Network({"S": bs.Source(bs.Poisson(bs.Sine([1.0, 2.0], 1.0)), 3)}), ValueError, "'S'.*amplitude"),
    (lambda: bs.Regular(0.0), ValueError, "period > 0"),
    (lambda: bs.Regular(1.0, -1.0), ValueError, "phase >= 0"),
    (lambda: bs.Regular.of_rate(0.0), ValueError, "rates > 0"),
    (lambda: bs.Network({"S": bs.Source(bs.Regular([1.0, 2.0]), 3)}), ValueError, "Regular.period"),
    (lambda: bs.Replay([1.0], [0, 1]), ValueError, "two lists of one length"),
    (lambda: bs.Replay([1.0], [0.0]), TypeError, "astype"),
    (lambda: bs.Replay([-1.0], [0]), ValueError, "negative times"),
    (lambda: bs.Replay([np.nan], [0]), ValueError, "NaN"),
    (lambda: bs.Replay([1.0], [-1]), ValueError, "contains -1"),
    (lambda: bs.Network({"S": bs.Source(bs.Replay([1.0], [5]), 5)}), ValueError, "unit 5; the source has 5"),
    (lambda: bs.PoissonInput("P", -1, 1.0, 1.0), ValueError, "PoissonInput.n"),
    (lambda: bs.PoissonInput("P", 10, -1.0, 1.0), ValueError, "PoissonInput.rate"),
    (lambda: bs.PoissonInput("P", 10, 1.0, np.inf), ValueError, "PoissonInput.weight"),
]


@pytest.mark.parametrize("make, error, message", BAD)
def test_bad_sources_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "post, kwargs, message",
    [
        ("Q.in", {}, "node 'Q' does not exist"),
        ("P.out", {}, "'out' does not exist"),
        ("P", {"weight": jnp.ones(3)}, r"\(3,\).*\(2,\)"),
        ("P", {"rate": jnp.ones(3)}, r"\(3,\).*\(2,\)"),
        ("P", {"weight": bs.Normal(1.0, 0.1)}, "key="),
    ],
)
def test_bad_poisson_inputs_name_the_edge(post, kwargs, message):
    edge = bs.PoissonInput(post, 10, **({"rate": 1.0, "weight": 1.0} | kwargs))
    with pytest.raises(ValueError, match="edge 'drive'.*" + message):
        bs.Network({"P": bs.Population(bs.LIF(), 2, {"in": bs.ExpCond()})}, {"drive": edge})
