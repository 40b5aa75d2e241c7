"""Rows drawn when needed: the matrix is that of `to_csr` on every path, bit for bit; its law; transformations."""

import dataclasses
import itertools
import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy import stats

import brainsim as bs
from brainsim.core import drawn_weight
from brainsim.events import DrawnRows, _draws, _primitives, backend, deposit, deposit_all, propagate

from .graphs import EPS, FLOAT, array, assert_same, pack
from .test_transforms import COMBINATIONS, NEAR, count, equations, loss

LEAST_P = 1e-4  # a sound law fails one of the tests below, with fixed seeds, once in hundreds of choices of them
SUMS = 2**7 * EPS  # sums of some tens of terms of order 1, added in another order
SEED = np.array([3, 9], np.uint32)

some, degree = DrawnRows.fixed_probability, DrawnRows.fixed_out_degree
SHAPES = {
    "p": partial(some, n_pre=17, n_post=40, p=0.1),
    "p, segments": partial(some, n_pre=3, n_post=977, p=0.3, twin=5),
    "p = 1": partial(some, n_pre=5, n_post=3, p=1.0, twin=0),
    "p = 0": partial(some, n_pre=5, n_post=3, p=0.0),
    "one pair": partial(some, n_pre=1, n_post=1, p=0.5),
    "no rows": partial(some, n_pre=0, n_post=4, p=0.5),
    "no targets": partial(some, n_pre=4, n_post=0, p=0.5),
    "k": partial(degree, n_pre=17, n_post=41, k=7),
    "k, batches": partial(degree, n_pre=5, n_post=100, k=99, twin=-2),
    "k = n": partial(degree, n_pre=4, n_post=5, k=5),
    "k = 0": partial(degree, n_pre=4, n_post=5, k=0),
    "multapses": partial(degree, n_pre=7, n_post=5, k=70, multapses=True, twin=1),
}
shape = pytest.mark.parametrize("name", SHAPES)


def matrix(topology, weight=1.0):
    """The dense matrix of `to_csr`, float64."""
    csr, w = topology.to_csr(array(weight))
    out = np.zeros((topology.n_pre, topology.n_post))
    np.add.at(out, csr.to_coo(), np.asarray(w, np.float64))
    return out


def operands(topology, weight, value, inbox):
    tables = jnp.asarray(topology.plan.tables())
    none = jnp.zeros((0,), bool), jnp.zeros((0,), jnp.uint32)
    return inbox, value, topology.theta(weight), *none, jnp.int32(0), topology.seed, tables


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.core) if n in ("p", "multapses") else n for n in SHAPES]
)
def test_kernel_and_twin_draw_the_matrix_of_to_csr(name):
    """Every unit alone: sums of ones are exact, so equality is that of the synapses."""
    topology, one = SHAPES[name](SEED), array(1.0)
    truth = matrix(topology)
    units = jnp.eye(topology.n_pre, dtype=FLOAT)
    np.testing.assert_array_equal(jax.vmap(partial(propagate, topology, one))(units), truth)
    pure = jax.jit(jax.vmap(partial(_draws.scatter, plan=topology.plan, first=0), (None, 0, *[None] * 6)))
    empty = jnp.zeros((1, topology.n_post), FLOAT)
    np.testing.assert_array_equal(pure(*operands(topology, one, units, empty))[:, 0], truth)


@pytest.mark.parametrize("name", ["p", "p, segments", "k, batches", "multapses"])
@pytest.mark.parametrize("law", ["uniform", "normal"])
def test_drawn_weights_are_those_of_to_csr(name, law):
    topology, weight = SHAPES[name](SEED, law=law), array([0.5, 2.0])
    out = jax.vmap(partial(propagate, topology, weight))(jnp.eye(topology.n_pre, dtype=FLOAT))
    np.testing.assert_allclose(out, matrix(topology, weight), rtol=0, atol=SUMS)


CACHE: dict = {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**64 - 1),
    st.sampled_from(["p", "p, segments", "k", "multapses"]),
    st.sampled_from(["one", "normal"]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_kernels_equal_their_pure_twins(seed, name, law, active):
    topology = SHAPES[name](np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32), law=law)
    rng, n_pre = np.random.default_rng(seed), topology.n_pre
    weight = array(rng.normal(size=() if law == "one" else 2))
    value = array(rng.normal(size=n_pre) * (rng.random(n_pre) < active))
    inbox = array(rng.normal(size=(1, topology.n_post)))
    base, value, theta, none, words, *tail = operands(topology, weight, value, inbox)
    rows = jnp.asarray(rng.random(n_pre) < 0.5)
    static = dict(plan=topology.plan, first=0)
    wide, long = dict(static, n_value=n_pre), dict(static, n_weight=theta.shape[0], batch=())
    for i, (args, params) in enumerate(
        [
            ((base, value, theta, none, words, *tail), static),
            ((base, theta, none, *tail), wide),
            ((base, theta, rows, *tail), wide),
            ((value, base, none, words, *tail), long),
        ]
    ):
        which = ("scatter", "gather", "gather", "outer")[i]
        key = (which, i, topology.plan)
        twin = CACHE.setdefault(key, jax.jit(partial(getattr(_draws, which), **params)))
        kernel = getattr(_primitives.DRAWN, which).bind(*args, **params)
        assert kernel.dtype == FLOAT
        np.testing.assert_allclose(kernel, twin(*args), rtol=SUMS, atol=4 * SUMS, err_msg=which)


# --- the law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p, n", [(0.02, 1000), (0.5, 37), (0.97, 64), (1e-4, 30_000)])
def test_fixed_probability_is_a_bernoulli_trial_per_pair(p, n):
    rows = 4000
    csr, _ = some(SEED, rows, n, p).to_csr()
    pre, post = csr.to_coo()
    assert np.unique(pre.astype(np.int64) * n + post).size == pre.size  # no multapses
    for degrees, trials in ((np.bincount(pre, minlength=rows), n), (np.bincount(post, minlength=n), rows)):
        mean, variance = trials * p, trials * p * (1 - p)
        assert abs(degrees.mean() - mean) < 4 * math.sqrt(variance / degrees.size)
        kurtosis = 3 + (1 - 6 * p * (1 - p)) / variance
        error = math.sqrt((kurtosis - 1) / degrees.size)
        np.testing.assert_allclose(degrees.var(), variance, rtol=4 * error)
    law = np.bincount(np.bincount(pre, minlength=rows))
    wanted = rows * stats.binom.pmf(np.arange(law.size), n, p)
    often = wanted > 5
    both = [np.append(x[often], max(rows - x[often].sum(), 1e-9)) for x in (law, wanted)]
    assert stats.chisquare(*both, sum_check=False).pvalue > LEAST_P


def test_places_in_a_row_are_independent():
    """All 2^7 rows of seven targets with their probabilities: nothing but independence has these."""
    rows, n, p = 100_000, 7, 0.3
    csr, _ = some(SEED, rows, n, p).to_csr()
    pre, post = csr.to_coo()
    code = np.zeros(rows, np.int64)
    np.add.at(code, pre, 1 << post)
    ones = np.array([bin(c).count("1") for c in range(2**n)])
    assert stats.chisquare(np.bincount(code, minlength=2**n), rows * p**ones * (1 - p) ** (n - ones)).pvalue > LEAST_P


@pytest.mark.optimised  # millions of draws: here running is what takes time
@pytest.mark.parametrize("n, k", [(7, 3), (10, 5), (33, 2), (300, 1)])
def test_fixed_out_degree_gives_every_subset_the_same_chance(n, k):
    rows = 20_000
    csr, _ = degree(SEED, rows, n, k).to_csr()
    np.testing.assert_array_equal(np.diff(csr.indptr), k)
    code = np.asarray(csr.indices).reshape(rows, k) @ n ** np.arange(k, dtype=np.int64)
    every = [sum(t * n**i for i, t in enumerate(subset)) for subset in itertools.combinations(range(n), k)]
    drawn, times = np.unique(code, return_counts=True)
    assert set(drawn) <= set(every)  # all different
    times = np.append(times, np.zeros(len(every) - times.size))
    assert stats.chisquare(times).pvalue > LEAST_P


def test_multapses_are_independent_draws():
    rows, n = 20_000, 9
    csr, _ = degree(SEED, rows, n, 2, multapses=True).to_csr()
    pairs = np.asarray(csr.indices).reshape(rows, 2)
    wanted = np.array([rows / n**2 * (1 if a == b else 2) for a in range(n) for b in range(a, n)])
    times = np.array([np.sum((pairs[:, 0] == a) & (pairs[:, 1] == b)) for a in range(n) for b in range(a, n)])
    assert stats.chisquare(times, wanted).pvalue > LEAST_P


@pytest.mark.parametrize("twin", [0, 3, -4])
def test_no_row_reaches_its_twin(twin):
    for make in (partial(some, p=0.9), partial(degree, k=9), partial(degree, k=30, multapses=True)):
        topology = make(SEED, n_pre=12, n_post=10, twin=twin)
        pre, post = topology.to_csr()[0].to_coo()
        assert pre.size > 80
        assert not np.any(post == pre + twin)
    assert some(SEED, 12, 10, 1.0, twin=twin).n_syn == some(SEED, 12, 10, 1.0, twin=twin).to_csr()[0].n_syn


def test_laws_of_the_weights():
    for law, exact in (("uniform", stats.uniform(-1.0, 3.0)), ("normal", stats.norm(-1.0, 2.0))):
        _, w = some(SEED, 300, 1000, 0.2, law=law).to_csr(array([-1.0, 2.0]))
        assert stats.kstest(np.asarray(w, np.float64), exact.cdf).pvalue > LEAST_P


def test_rows_and_seeds_are_independent():
    rows = np.concatenate([matrix(some(np.array([s, 0], np.uint32), 8, 5000, 0.3)) for s in range(4)])
    z = np.corrcoef(rows)[np.triu_indices(32, 1)] * math.sqrt(5000)
    assert stats.kstest(z, "norm").pvalue > LEAST_P


# --- transformations --------------------------------------------------------------------------------------------------


def losses(law, name="p, segments"):
    topology = SHAPES[name](SEED, law=law)
    start = {"one": 1.0, "uniform": [0.0, 1.0], "normal": [0.0, 1.0]}[law]
    zeros, ones = (jnp.asarray(matrix(topology, s), FLOAT) for s in (np.zeros_like(start), start))
    if law != "one":
        zeros = jnp.asarray(matrix(topology, [1.0, 1.0] if law == "uniform" else [1.0, 0.0]), FLOAT)

    def sparse(args):
        inbox, weight, value = args
        return loss(deposit(inbox, topology, weight, value, slot=4))

    def dense(args):
        inbox, weight, value = args
        if law == "one":
            w = weight * ones
        elif law == "uniform":
            w = weight[0] * (zeros - ones) + weight[1] * ones
        else:
            w = weight[0] * zeros + weight[1] * ones
        return loss(inbox.at[1].add(jnp.dot(value, w, precision="highest")))

    rng = np.random.default_rng(0)
    value = array(rng.normal(size=topology.n_pre))
    args = array(rng.normal(size=(3, topology.n_post))), array(0.3 if law == "one" else [0.2, 0.5]), value
    return sparse, dense, args


CORE = [pytest.param(n, "normal", marks=pytest.mark.core) for n in ("jvp of grad", "vmap of grad of checkpointed scan")]
REST = [(n, "normal") for n in COMBINATIONS if n not in ("jvp of grad", "vmap of grad of checkpointed scan")]
LAWS = [(n, law) for n in ("grad", "jvp") for law in ("one", "uniform")]


@pytest.mark.parametrize("name, law", CORE + REST + LAWS)
def test_transformations_compose(name, law):
    sparse, dense, args = losses(law)
    tangent = jax.tree.map(lambda x: jnp.cos(3 * x), args)
    mine, truth = (jax.jit(lambda a, f=f: COMBINATIONS[name](f, a, tangent))(args) for f in (sparse, dense))
    # sums over a thousand targets, of which second derivatives take products
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=30 * NEAR, atol=300 * NEAR), mine, truth)


def call(inbox, topology, weight, value, words, slot, support):
    def f(weight, value):
        return deposit(inbox, topology, weight, value, slot=slot, support=support, words=words)

    out, back = jax.vjp(f, weight, value)
    return out, back(jnp.cos(out))


@pytest.mark.optimised
@pytest.mark.parametrize("name", ["p, segments", "k", "multapses"])
@pytest.mark.parametrize(
    "mapped", [(0,), pytest.param((1,), marks=pytest.mark.core), (2,), (3, 4), (5,), (6,), (1, 2), tuple(range(7))]
)
def test_vmap_is_the_loop_bit_for_bit_and_one_call(name, mapped):
    """Over inboxes, seeds, the parameters of the weights, events, slots and supports."""
    one = []
    for s in range(3):
        rng, topology = np.random.default_rng(s), SHAPES[name](np.array([s, 5], np.uint32), law="normal")
        value = array(rng.normal(size=topology.n_pre) * (rng.random(topology.n_pre) < 0.6))
        inbox, slot = array(rng.normal(size=(2, topology.n_post))), jnp.int32(s)
        support = jnp.asarray(rng.random(topology.n_pre) < 0.3)
        one.append((inbox, topology, array(rng.normal(size=2)), value, jnp.asarray(pack(value)), slot, support))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *one)
    axes = tuple(0 if i in mapped else None for i in range(7))
    args = [stacked[i] if i in mapped else one[0][i] for i in range(7)]
    batched, loop = jax.jit(jax.vmap(call, in_axes=axes)), jax.jit(call)
    out = batched(*args)
    for b in range(3):
        single = loop(*(one[b][i] if i in mapped else one[0][i] for i in range(7)))
        jax.tree.map(lambda x, y: assert_same(x[b], y), out, single)  # noqa: B023
    calls = count(jax.make_jaxpr(jax.vmap(call, in_axes=axes))(*args))
    assert calls == {"drawn_scatter": 1, "drawn_gather": 1, "drawn_outer": 1}
    if backend() == "kernels":
        text = batched.lower(*args).compile().as_text()
        assert "while(" not in text
        assert sum('custom_call_target="brainsim_' in line for line in text.splitlines()) == 3


@pytest.mark.optimised
@pytest.mark.core
def test_parts_words_and_many_steps():
    """Rows of a longer value, packed words, and `deposit_all`: the same sums."""
    topology, rng = SHAPES["k"](SEED), np.random.default_rng(1)
    values = array(rng.normal(size=(4, 50)) * (rng.random((4, 50)) < 0.5))
    inbox, slots = array(rng.normal(size=(3, 41))), jnp.arange(4, dtype=jnp.int32)
    truth = inbox
    for t in range(4):
        truth = deposit(truth, topology, 0.5, values[t, 20:37], slot=t)
    for words in (None, pack(values)):
        out = deposit_all(inbox, topology, 0.5, values, slots=slots, first=20, words=words)
        np.testing.assert_allclose(out, truth, rtol=0, atol=SUMS)
    grads = [
        jax.grad(lambda v: loss(deposit(inbox, topology, 0.5, v, first=20)))(values[0])[20:37],
        jax.grad(lambda v: loss(deposit(inbox, topology, 0.5, v)))(values[0, 20:37]),
    ]
    assert_same(*grads)


@pytest.mark.optimised
def test_the_backward_pass_is_confined_to_the_support():
    topology, rng = SHAPES["p"](SEED), np.random.default_rng(0)
    value, support = array(rng.normal(size=17) * (np.arange(17) % 3 == 0)), jnp.asarray(np.arange(17) % 4 == 1)

    def send(v, s):
        return jnp.sum(jnp.sin(propagate(topology, 0.5, v, s)))

    full, part = (jax.jit(jax.grad(send))(value, s) for s in (None, support))
    inside = np.asarray(support | (value != 0))
    assert_same(part, np.where(inside, full, 0.0))


def test_nothing_grows_with_the_synapses():
    """10^10 synapses: neither the topology nor any array of the pure path is of their order."""
    topology = some(SEED, 100_000, 1_000_000, 0.1)
    assert sum(x.nbytes for x in jax.tree.leaves(topology)) == 8
    assert topology.n_syn == 10**10
    value, inbox = jnp.zeros(100_000, FLOAT), jnp.zeros((1, 1_000_000), FLOAT)
    args = operands(topology, array(1.0), value, inbox)
    jaxpr = jax.make_jaxpr(partial(_draws.scatter, plan=topology.plan, first=0))(*args)
    sizes = [v.aval.size for e in equations(jaxpr.jaxpr) for v in e.outvars if hasattr(v.aval, "size")]
    assert max(sizes) <= inbox.size


def test_the_cost_follows_the_events():
    """A silent million sends nothing; of a row of a thousand synapses one batch a segment is drawn."""
    topology = some(SEED, 10**6, 10**6, 1e-3)
    value = jnp.zeros(10**6, FLOAT).at[77].set(1.0)
    row = np.asarray(propagate(topology, 1.0, value))
    assert 850 < row.sum() < 1150
    assert set(row) == {0.0, 1.0}
    assert topology.plan.segments == 20


@pytest.mark.parametrize("make", [partial(some, p=0.2), partial(degree, k=600)])
def test_shared_between_threads(make):
    """Calls large enough for threads, whose sums of ones are exact."""
    topology = make(SEED, n_pre=400, n_post=3000)
    pre, post = topology.to_csr()[0].to_coo()

    def total(weight, value):
        return jnp.sum(propagate(topology, weight, value))

    ones = jnp.ones(400, FLOAT)
    np.testing.assert_array_equal(propagate(topology, 1.0, ones), np.bincount(post, minlength=3000))
    weight, value = jax.grad(total, (0, 1))(array(1.0), ones)
    np.testing.assert_array_equal(value, np.bincount(pre, minlength=400))
    assert int(weight) == pre.size


# --- in a network -----------------------------------------------------------------------------------------------------


PORTS = {"exc": bs.ExpCond(tau=5.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}


def small(weight=None, **change):
    cells = bs.Population(bs.LIF(t_ref=5.0), 101, PORTS, i_e=300.0, init={"v": bs.Uniform(-65.0, -50.0)})
    rule = bs.Procedural(bs.FixedProbability(0.1, autapses=False))
    edge = dict(pre="P[:80]", post="P[1:].exc", connect=rule, weight=bs.Normal(2.0, 0.5) if weight is None else weight)
    inhibition = bs.Projection("P[80:]", "P.inh", bs.Procedural(bs.FixedOutDegree(9)), weight=5.0)
    edges = {"E": bs.Projection(**(edge | dict(delay=1.0) | change)), "I": inhibition}
    return bs.Network({"P": cells}, edges, key=jax.random.key(0))


def test_a_network_runs_as_with_the_stored_graph():
    net = small()
    stored = net
    for name in ("E", "I"):
        edge = net.edges[name]
        graph, weight = edge.connect.to_csr(drawn_weight(edge.weight))
        pre, post = graph.to_coo()
        assert not np.any(name == "E" and pre == post)
        edge = dataclasses.replace(edge, connect=graph, weight=weight if name == "E" else edge.weight)
        stored = eqx.tree_at(lambda n, k=name: n.edges[k], stored, edge)
    run = partial(bs.simulate, t1=60.0, dt=0.1, key=jax.random.key(1), saveat=[bs.Trace("P.v")])
    mine, truth = run(net), run(stored)
    assert 100 < mine.stats["n_events"]["P"] < 10_000
    np.testing.assert_allclose(mine["P.v"], truth["P.v"], rtol=0, atol=1e-3 if FLOAT.itemsize == 4 else 1e-9)


def test_the_law_of_the_weights_is_learned():
    start = small()

    def rate(mean):
        net = eqx.tree_at(lambda n: n.edges["E"].weight.mean, start, mean)
        sol = bs.simulate(net, t1=3.0, dt=0.1, key=jax.random.key(1), saveat=[bs.Trace("P.exc.g")])
        return jnp.sum(sol["P.exc.g"])

    assert np.isfinite(jax.jit(jax.grad(rate))(array(2.0)))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: some(SEED, 3, 3, 1.5), ValueError, r"p is 1.5; expected a probability"),
        (lambda: some(SEED, 3, 3, 1e-12), ValueError, r"from 2\*\*-26 to 1"),
        (lambda: some(SEED, 3, 3, 0.5, law="gamma"), ValueError, "law is 'gamma'; expected one of"),
        (lambda: some(SEED, 3, 3, 0.5, twin=0.5), TypeError, "twin is 0.5"),
        (lambda: some(SEED[:1], 3, 3, 0.5), TypeError, "seed is uint32"),
        (lambda: some(SEED, 2**31 - 1, 2**31 - 1, 0.5), ValueError, "fewer than 2"),
        (lambda: degree(SEED, 3, 3, 4), ValueError, "k = 4 targets are asked for and there are 3"),
        (lambda: degree(SEED, 3, 3, 3, twin=0), ValueError, "there are 2"),
        (lambda: degree(SEED, 3, 0, 1, multapses=True), ValueError, "there are 0"),
        (lambda: some(SEED, 3, 3, 0.5).into(5, 3, 1), ValueError, "3 targets from 3 by 1 do not fit into 5"),
        (
            lambda: propagate(some(SEED, 3, 3, 0.5), jnp.ones(2, FLOAT), jnp.ones(3, FLOAT)),
            ValueError,
            r"expected \(\)",
        ),
        (
            lambda: deposit(
                jnp.zeros((2, 3), FLOAT), some(SEED, 3, 3, 0.5), 1.0, jnp.ones(3, FLOAT), delay=jnp.zeros(3, jnp.int32)
            ),
            ValueError,
            "DrawnRows has no delays per synapse",
        ),
        (
            lambda: jax.vmap(lambda s: some(s, 3, 3, 0.5).to_csr()[1])(jnp.zeros((2, 2), jnp.uint32)),
            ValueError,
            "outside of",
        ),
        (lambda: bs.Procedural(bs.FixedInDegree(3)), TypeError, "without looking at other rows"),
        (lambda: small(delay=bs.Uniform(0.0, 1.0)), ValueError, "no delay per synapse is kept"),
        (lambda: small(jnp.ones(640)), ValueError, "no weight per synapse is kept"),
        (lambda: small(bs.Normal(1.0, 1.0, low=0.0)), ValueError, "linear in their parameters"),
        (lambda: small(bs.Gamma(1.0, 1.0)), ValueError, "linear in their parameters"),
        (lambda: small(post="P[::2].exc"), ValueError, "different strides"),
    ],
)
def test_what_it_cannot_do_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
