"""The projection under transformations, its graphs, its order of things, and what it refuses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import DT, run, told

RNG = np.random.default_rng(0)
PRE = [sorted(RNG.choice(300, 12, replace=False)) for _ in range(5)]
POST = [sorted(RNG.choice(300, 12, replace=False)) for _ in range(4)]
PAIR = dict(a_plus=0.05, a_minus=0.06, w_max=1.0)


def plastic(connect=None, pre="A", post="B.syn", **kw):
    kw = {"weight": 0.5, "delay": 0.3, "rule": bs.PairSTDP(**PAIR), **kw}
    return bs.PlasticProjection(pre, post, bs.AllToAll() if connect is None else connect, **kw)


def final(edge, n_steps=300):
    sol = run(told(PRE, POST, {"S": edge}), n_steps)
    return np.asarray(sol.state.edges["S"]["w"])


def by_hand(w, delay, a_plus=0.05, a_minus=0.06, tau=20.0, n_steps=300):
    """Pair STDP step by step, of dense weights and one delay in steps; NEST's order."""
    x, y = np.zeros(len(PRE)), np.zeros((delay + 1, len(POST)))
    fired = np.zeros((delay + 1, len(POST)))
    now = np.zeros(len(POST))
    w = w.copy()
    for n in range(n_steps):
        x, now = x * np.exp(-DT / tau), now * np.exp(-DT / tau)
        s = np.array([n in t for t in PRE], float)
        f = np.array([n in t for t in POST], float)
        y, fired = np.roll(y, 1, 0), np.roll(fired, 1, 0)
        y[0], fired[0] = now, f
        w = np.clip(w + a_plus * x[:, None] * fired[-1], 0, 1)
        w = np.where(s[:, None] > 0, np.clip(w - a_minus * y[-1], 0, 1), w)
        x, now = x + s, now + f
    return w


@pytest.mark.parametrize("delay", [0, 3])
def test_pairs_by_hand(delay):
    w = final(plastic(delay=delay * DT)).reshape(5, 4)
    np.testing.assert_allclose(w, by_hand(np.full((5, 4), 0.5), delay), atol=2e-6)


def test_graphs_of_all_kinds_learn_the_same():
    w0 = RNG.uniform(0.2, 0.8, (5, 4)).astype(np.float32)
    expected = by_hand(w0, 3)
    dense = plastic(bs.Dense(5, 4), weight=w0)
    fanout = plastic(bs.FixedFanout(np.tile(np.arange(4), (5, 1)), 4), weight=w0)
    fanin = plastic(bs.FixedFanin(np.tile(np.arange(5), (4, 1)), 5), weight=w0.T)
    one = plastic(bs.Dense(2, 2), "A[1:5:2]", "B[2:].syn", weight=w0[1:5:2, 2:])
    net = told(PRE, POST, {"D": dense, "O": fanout, "I": fanin, "P": one})
    state = run(net, 300).state
    for name in "DOI":
        found = bs.synapses_of(net, name, state=state)
        np.testing.assert_allclose(found.weight, expected[found.pre, found.post], atol=2e-6)
    listed = plastic(bs.FromCOO([4, 0, 2, 0], [1, 3, 0, 0]), weight=[0.1, 0.2, 0.3, 0.4])
    found = bs.synapses_of(told(PRE, POST, {"L": listed}), "L", pre=[0])
    np.testing.assert_allclose(found.weight, [0.4, 0.2])
    np.testing.assert_array_equal(found.index, [0, 1])
    found = bs.synapses_of(net, "P", state=state)
    assert ({*found.pre}, {*found.post}) == ({1, 3}, {2, 3})
    np.testing.assert_allclose(found.weight, expected[found.pre, found.post], atol=2e-6)


def test_a_delay_per_synapse_is_that_of_its_own_projection():
    late = RNG.integers(0, 6, 20)
    mixed = final(plastic(delay=late.reshape(5, 4) * DT))
    for d in np.unique(late):
        alone = final(plastic(delay=d * DT))
        np.testing.assert_allclose(mixed[late == d], alone[late == d], atol=2e-7)


def test_what_is_delivered_is_the_weight_before_or_after():
    rule = bs.PairSTDP(a_plus=0.0, a_minus=0.25)
    got = {}
    for deliver in ("before", "after"):
        edge = plastic(rule=rule, delay=0.0, deliver=deliver, weight=0.75)
        sol = run(told([[10]], [[9]], {"S": edge}), 20, [bs.Trace("B.syn.i")])
        got[deliver] = float(np.max(np.asarray(sol["B.syn.i"])))
    lost = 0.25 * np.exp(-DT / 20.0)
    np.testing.assert_allclose(got["after"] / got["before"], (0.75 - lost) / 0.75, rtol=1e-5)


def test_frozen_weights_stay_and_nothing_is_compiled_again():
    net = told(PRE, POST, {"S": plastic()})
    frozen = eqx.tree_at(lambda net: net.edges["S"].frozen, net, jnp.asarray(True))
    traced = []

    @eqx.filter_jit
    def last(net):
        traced.append(1)
        return run(net, 300).state.edges["S"]

    moved, still = last(net), last(frozen)
    assert len(traced) == 1
    assert np.all(np.asarray(still["w"]) == 0.5)
    assert not np.any(np.asarray(moved["w"]) == 0.5)
    np.testing.assert_array_equal(moved["x"], still["x"])


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_frozen_weights_stay_where_the_events_are_packed(delay):
    cells = bs.Population(bs.LIF(), 40, {"exc": bs.ExpCurr(tau=3.0)}, i_e=280.0)
    edge = dict(weight=0.5, delay=delay, rule=bs.PairSTDP(), frozen=True)
    edges = {
        "all": bs.PlasticProjection("B", "B.exc", bs.FixedProbability(0.2), **edge),
        "part": bs.PlasticProjection("B[10:20]", "B.exc", bs.FixedProbability(0.5), **edge),
    }
    sol = run(bs.Network({"B": cells}, edges, key=jax.random.key(1)), 1000)
    assert sol.n_events["B"] > 400
    assert all(np.all(np.asarray(z["w"]) == 0.5) for z in sol.state.edges.values())


def test_part_of_a_population_learns_as_a_population_of_its_own():
    """Events of a part are those of the whole from its first unit on; in a gradient, in the log too."""
    cell = bs.Population(bs.LIF(), 6, {"exc": bs.ExpCurr(tau=3.0)}, i_e=280.0, init={"v": bs.Uniform(-65.0, -55.0)})
    part = bs.FromCOO([0, 1, 1, 2], [5, 0, 3, 1])
    whole = bs.FromCOO([2, 3, 3, 4], [5, 0, 3, 1])
    ends = []
    for pre, connect in (("B[2:5]", part), ("B", whole)):
        edge = bs.PlasticProjection(pre, "B.exc", connect, weight=0.5, rule=bs.PairSTDP(a_plus=0.1, a_minus=0.11))
        net = bs.Network({"B": cell}, {"S": edge}, key=jax.random.key(1))

        def f(weight, net=net):
            changed = eqx.tree_at(lambda net: net.edges["S"].weight, net, weight)
            return jnp.sum(run(changed, 300).state.edges["S"]["w"] ** 2)

        ends.append(jax.value_and_grad(f)(jnp.full(4, 0.5)))
    assert np.any(np.asarray(ends[0][1]) != 1.0)
    jax.tree.map(np.testing.assert_array_equal, *ends)


def network(rate=40.0):
    """A recurrent network with everything: drawn delays, noise, short-term plasticity."""
    cells = bs.Population(bs.LIF(), 40, {"exc": bs.ExpCurr(tau=3.0)}, i_e=280.0, noise=bs.WhiteNoise({"v": 0.5}))
    kw = dict(weight=bs.Uniform(0.2, 0.8), delay=bs.Uniform(0.0, 1.0), rule=bs.PairSTDP(**PAIR))
    release = bs.TsodyksMarkram(0.5, 0.0, 100.0)
    edges = {
        "S": bs.PlasticProjection("A", "B.exc", bs.FixedProbability(0.3), short_term=release, **kw),
        "R": bs.PlasticProjection("B", "B.exc", bs.FixedProbability(0.2), axonal=0.0, **kw),
    }
    return bs.Network({"A": bs.Source(bs.Poisson(rate=rate), 30), "B": cells}, edges, key=jax.random.key(1))


def test_a_run_in_two_parts_is_the_whole_run(tmp_path):
    net = network()
    go = lambda t1, **kw: bs.simulate(net, t1=t1, dt=DT, key=jax.random.key(2), **kw)  # noqa: E731
    whole, half = go(60.0).state, go(30.0).state
    bs.save(tmp_path / "half", net, half)
    net, half, _ = bs.load(tmp_path / "half", like=net)
    jax.tree.map(np.testing.assert_array_equal, go(60.0, state=half).state.edges, whole.edges)


def test_a_batch_of_seeds_is_every_seed_alone():
    net = network()

    def last(key):
        return bs.simulate(net, t1=20.0, dt=DT, key=key).state.edges

    keys = jax.random.split(jax.random.key(3), 3)
    batch = jax.vmap(last)(keys)
    for k in range(3):
        one = jax.tree.map(lambda x, k=k: x[k], batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, last(keys[k]))


def test_gradients_are_those_of_differences():
    with jax.enable_x64(True):
        loss_of = np.linspace(-1.0, 1.0, 20)

        def loss(x):
            rule = bs.PairSTDP(tau_plus=x["tau"], a_plus=x["a"], a_minus=0.06, bound=bs.PowerLaw(x["mu"], 0.5))
            edge = plastic(weight=x["w"], rule=rule, max_delay=0.3)
            sol = run(told(PRE, POST, {"S": edge}), 300, [bs.Trace("B.syn.i", every=10)])
            return jnp.sum(loss_of * sol.state.edges["S"]["w"]) + jnp.sum(sol["B.syn.i"] ** 2)

        x = {"tau": 18.0, "a": 0.05, "mu": 0.4, "w": RNG.uniform(0.2, 0.8, 20)}
        x = jax.tree.map(jnp.asarray, x)
        loss = jax.jit(loss)
        grad = jax.grad(loss)(x)
        for name, way in (("tau", 1.0), ("a", 1.0), ("mu", 1.0), ("w", RNG.normal(size=20))):
            h = 1e-6
            plus, minus = (loss(x | {name: x[name] + s * h * way}) for s in (1, -1))
            np.testing.assert_allclose((plus - minus) / (2 * h), np.sum(grad[name] * way), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(connect=bs.Procedural(bs.FixedProbability(0.5))), "stored synapses"),
        (dict(weight=1.5), "begins with 1.5; expected weights <= 1"),
        (dict(weight=-0.1), "begins with -0.1; expected weights >= 0"),
        (dict(rule=[bs.PairSTDP(), bs.PairSTDP()]), "A weight has one rule"),
        (dict(delay=bs.INSTANT), "expected ms"),
        (dict(axonal=0.5), "the shortest delay 0.3"),
        (dict(deliver="later"), "'after' or 'before'"),
        (dict(first="both"), "'post' or 'pre'"),
        (dict(modulator="Q"), "node 'Q' does not exist"),
        (dict(rule=bs.RewardSTDP()), "no modulator"),
    ],
)
def test_bad_input(wrong, message):
    nodes = dict(told(PRE, POST, {}).nodes)
    with pytest.raises((ValueError, TypeError), match=message):
        bs.Network(nodes, {"S": plastic(**wrong)}, key=jax.random.key(0))


def test_rules_refuse_what_cannot_be():
    with pytest.raises(ValueError, match=r"rate is -1.0; expected rate >= 0"):
        bs.VogelsSprekeler(rate=-1.0)
    with pytest.raises(ValueError, match=r"tau_plus is 0.0; expected tau_plus > 0"):
        bs.PairSTDP(tau_plus=0.0)
    with pytest.raises(ValueError, match=r"w_min is 2.0 and w_max 1.0"):
        bs.TripletSTDP(w_min=2.0)


def test_weights_onto_a_unit_are_scaled_to_their_sum():
    late = RNG.integers(0, 3, (5, 4)) * DT
    pair = bs.PairSTDP(a_plus=0.02, a_minus=0.01)
    rule = bs.Normalised(pair, total=np.array([0.5, 0.8, 0.6, 9.0]), every=30 * DT)
    free, held = plastic(delay=late, rule=rule), plastic(delay=late, rule=pair)
    net = told(PRE, POST, {"S": free, "T": held})
    w = np.asarray(run(net, 300).state.edges["S"]["w"]).reshape(5, 4)
    np.testing.assert_allclose(w.sum(0)[:3], [0.5, 0.8, 0.6], rtol=1e-5)
    assert np.max(w) <= 1.0
    early = run(net, 29).state.edges
    np.testing.assert_array_equal(early["S"]["w"], early["T"]["w"])
    later = np.asarray(run(net, 31).state.edges["S"]["w"]).reshape(5, 4)
    assert abs(later.sum(0)[0] - 0.5) < 0.2
    assert bs.summary(net).steps == bs.summary(told(PRE, POST, {"T": held})).steps
