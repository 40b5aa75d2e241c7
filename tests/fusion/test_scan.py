"""Scans that are played against those that XLA steps through: the same bits, whatever is read or overwritten when."""

import contextlib
import math
from unittest import mock

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import fusion
from brainsim.events import append, collect, deposit, place, propagate
from brainsim.fusion import _body, _scan, _tape, unavailable

kernels = pytest.mark.skipif(bool(unavailable()), reason=f"no kernels: {unavailable()}")
pytestmark = [kernels, pytest.mark.optimised]
N, DEPTH, ROOM, T = 70, 3, 40, 7


@pytest.fixture
def graph():
    return bs.FixedFanout(jnp.asarray(np.random.default_rng(0).integers(0, N, (N, 4)), jnp.int32), N)


@contextlib.contextmanager
def left_to_xla():
    """What is traced or compiled meanwhile is not played."""
    with mock.patch.object(_scan, "unavailable", return_value="as asked"):
        jax.clear_caches()
        yield
    jax.clear_caches()


def start():
    rng = np.random.default_rng(1)
    value = jnp.asarray(rng.random(N) < 0.1, float)
    ring = jnp.asarray(rng.normal(size=(DEPTH, N)))
    return value, ring, jnp.zeros(ROOM, jnp.int32), jnp.int32(0), jnp.int32(0)


def sends(graph, c, x):
    """Scatter and append in place; the length of the list is read after it has changed."""
    value, ring, ids, used, n = c
    ring = deposit(ring, graph, x, value, slot=jax.lax.rem(n, jnp.int32(DEPTH)))
    ids, now = append(ids, used, value)
    return (value, ring, ids, now, n + 1), (now - used, n)


def keeps_old(graph, c, x):
    """What is overwritten is also an output of the step."""
    value, ring, ids, used, n = c
    new = deposit(ring, graph, x, value, slot=jax.lax.rem(n, jnp.int32(2)))
    return (value, new, ids, used, n + 2), (ring, used)


def twice(graph, c, x):
    """Two results from one array, which is carried on as well."""
    value, ring, ids, used, n = c
    a, b = deposit(ring, graph, x, value), deposit(ring, graph, -x, value, slot=1)
    return (value, b, ids, used, n), (a, ring)


def swaps(graph, c, x):
    """A carry that goes round: none may be written before it has been read."""
    value, ring, ids, used, n = c
    ids, _ = append(ids, used, value)
    return (value, ring, ids, n, used + 3), (used, n)


def constants(graph, c, x):
    """Carries that become constants, and a row out that is the row in."""
    value, ring, ids, used, n = c
    ring = deposit(ring, graph, x, value)
    return (value, ring, ids, jnp.int32(5), n), (x, used)


@pytest.mark.parametrize("body", [sends, keeps_old, twice, swaps, constants])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_as_lax_scan(graph, body, batch):
    xs = jnp.linspace(0.5, 1.5, T)
    init = start()

    def f(c, x):
        return body(graph, c, x)

    def runs(scan):
        def run(ring, xs):
            return scan(f, (init[0], ring, *init[2:]), xs, length=T)

        for _ in range(batch):
            run = jax.vmap(run, in_axes=(0, None if batch == 1 else 0))
        return jax.jit(run)

    shape = (2, 3)[:batch]
    ring = jnp.tile(init[1], (*shape, 1, 1)) * jnp.linspace(1.0, 2.0, 6)[: np.prod(shape, dtype=int)].reshape(
        *shape, 1, 1
    )
    if batch == 2:
        xs = jnp.broadcast_to(xs, (*shape, T)) * 2
    jaxpr = str(jax.make_jaxpr(runs(fusion.scan))(ring, xs))
    assert "brainsim_scan" in jaxpr, "played, not left to XLA"
    mine = runs(fusion.scan)(ring, xs)
    with left_to_xla():
        theirs = runs(jax.lax.scan)(ring, xs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_it_leaves_to_xla(graph):
    def sums(c, x):
        return c + jnp.sum(jnp.arange(3.0)) * x, c

    def f(c, x):
        return sends(graph, c, x)[0], jax.lax.cumsum(c[0])  # not one unit at a time

    for body, init in ((sums, jnp.asarray(0.0)), (f, start())):
        xs = jnp.ones(T)
        mine = fusion.scan(body, init, xs, T)
        with left_to_xla():
            theirs = jax.lax.scan(body, init, xs, length=T)
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    closed = jax.make_jaxpr(f)(start(), jnp.float32(1) if jnp.asarray(0.0).dtype == jnp.float32 else 1.0)
    body = _body.prepared(closed, len(start())).body
    assert "cumsum" in _tape.refusal(body)


def cells(n, **kw):
    ports = {"exc": bs.ExpCond(), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}
    return bs.Population(bs.LIF(), n, ports, i_e=230.0, init={"v": bs.Uniform(-60.0, -50.0)}, **kw)


def delays_and_parts():
    p = bs.FixedProbability(0.1)
    edges = dict(
        exc=bs.Projection("A", "B.exc", p, weight=bs.Uniform(0.5, 2.0), delay=bs.Uniform(0.1, 2.0)),
        inh=bs.Projection("B[10:]", "A.inh", p, weight=3.0, delay=0.4),
        own=bs.Projection("A[:40]", "A.exc", bs.FixedOutDegree(5), weight=1.0),
    )
    return bs.Network({"A": cells(100), "B": cells(77)}, edges, key=jax.random.key(3)), {}


def instant():
    now = bs.Projection("A", "B.exc", bs.FixedProbability(0.1), weight=1.0, delay=bs.INSTANT)
    net = bs.Network({"A": cells(64), "B": cells(40)}, {"now": now}, key=jax.random.key(3))
    return net, {"A": jnp.tile(jnp.linspace(0.0, 300.0, 400)[:, None], (1, 64))}


def convolved():
    """By events, and densely from units that spike in every step."""
    own, wide = bs.Convolution((5, 4, 4), 4, 3, padding=1), bs.Convolution((5, 4, 4), 12, 3, stride=2, padding=1)
    weights = [jnp.linspace(0.0, 0.5, math.prod(c.weight_shape)).reshape(c.weight_shape) for c in (own, wide)]
    one = jnp.ones((1, 1, 4, 4))
    edges = {
        "own": bs.Projection("A", "A.exc", own, weight=weights[0]),
        "on": bs.Projection("A", "B.exc", wide, weight=weights[1], delay=0.4),
        "back": bs.Projection("B[24:40]", "A[8:24].inh", bs.Convolution((2, 2, 4), 4, 1), weight=one),
        "always": bs.Projection("C", "B.exc", wide, weight=0.01 * weights[1]),
    }
    always = bs.DiscreteNeurons(80, 0.0, offset_v=2.0, v_th=1.0)
    return bs.Network({"C": always, "A": cells(80), "B": cells(72)}, edges), {}


def drawn():
    """Rows that are drawn when they are sent: every kind, every law of weights, and parts of populations."""
    rules = bs.FixedProbability(0.1), bs.FixedOutDegree(9), bs.FixedOutDegree(5, multapses=True)
    some, distinct, repeated = map(bs.Procedural, rules)
    edges = {
        "exc": bs.Projection("A", "B.exc", some, weight=bs.Uniform(0.5, 2.0), delay=0.4),
        "own": bs.Projection("A[:40]", "A[::2].exc", distinct, weight=bs.Normal(1.0, 0.2)),
        "inh": bs.Projection("B[10:]", "A.inh", repeated, weight=3.0, delay=1.0),
        "in": bs.Projection("S", "A.exc", some, weight=2.0),
    }
    nodes = {"S": bs.Source(bs.Poisson(rate=40.0), 50), "A": cells(100), "B": cells(77)}
    return bs.Network(nodes, edges, key=jax.random.key(3)), {}


def a_recording():
    """A source whose events are its input goes through no kernel of its own."""
    p = bs.FixedProbability(0.1)
    edges = {"in": bs.Projection("S", "A.exc", p, weight=2.0), "own": bs.Projection("A", "A.inh", p, weight=1.0)}
    net = bs.Network({"S": bs.Source(bs.External(), 50), "A": cells(64)}, edges, key=jax.random.key(3))
    return net, {"S": (jax.random.uniform(jax.random.key(5), (400, 50)) < 0.02).astype(float)}


def noise():
    """White noise in the units and Poisson sources."""
    nodes = {"S": bs.Source(bs.Poisson(rate=40.0), 50), "A": cells(64, noise=bs.WhiteNoise({"v": 1.0}))}
    edges = {"in": bs.Projection("S", "A.exc", bs.FixedProbability(0.3), weight=2.0)}
    return bs.Network(nodes, edges, key=jax.random.key(3)), {}


@pytest.mark.parametrize("made", [delays_and_parts, instant, convolved, drawn, a_recording, noise])
def test_a_run_is_the_same(made, monkeypatch):
    """Spikes, final state and counts, bit for bit, of a run that is played and of one that XLA steps through."""
    net, inputs = made()
    kw = dict(t1=40.0, dt=0.1, solver=diffrax.Euler(), key=jax.random.key(0), inputs=inputs)
    kw |= dict(saveat=[*(bs.Spikes(name, 1e4) for name in net.nodes), bs.Rate("A"), bs.Trace("A.v")])
    said = []
    asked = _scan.refusal
    monkeypatch.setattr(_scan, "refusal", lambda body: said.append(asked(body)) or said[-1])
    mine = bs.simulate(net, **kw)
    assert said == [""]
    with left_to_xla():
        theirs = bs.simulate(net, **kw)
    assert sum(int(x) for x in mine.n_events.values()) > 20
    for a, b in zip(jax.tree.leaves(_data(mine)), jax.tree.leaves(_data(theirs)), strict=True):
        np.testing.assert_array_equal(a, b)


def _data(sol):
    return sol.recordings, sol.n_events, sol.state.nodes, sol.state.inbox, sol.state.flags


# --- jax.lax.scan: what its body calls, backward steps, and derivatives -----------------------------------------------


def sends_back(graph, c, x):
    """What a backward pass does: cotangents gathered along the rows of a mask, and put where they were taken."""
    value, ring, n, size = c
    row, _ = collect(ring, n)
    back = jax.vjp(lambda v: deposit(jnp.zeros((size, N)), graph, x, v, support=value > 0, slot=n), value)[1]
    (pulled,) = back(ring[:size] if size == 1 else ring)
    ring = place(ring, row + pulled, n)
    return (jnp.where(pulled > 0.1, pulled, value * 0.5), ring, n + 1, size), (row, pulled)


def reads_only(graph, c, x):
    """A row that is read and left where it is, by itself and by way of taking it out and putting it back."""
    value, ring, n, size = c
    row, left = collect(ring, n)
    again, _ = collect(ring, n)
    ring = place(left, row, n)
    return (value + x, deposit(ring, graph, x, value, slot=n), n + 1, size), (row, again, value)


def repeated(graph, c, x):
    """Numbers repeated over units, for arithmetic and for kernels; what is carried changes places with it."""
    value, ring, n, size = c
    row, _ = collect(ring, n)
    ring = place(ring, jnp.full(N, x), n)
    value = jnp.where(row > 0, value, jnp.full(N, 2 * x)) - jnp.full(N, x)
    return (value, deposit(ring, graph, x, jnp.full(N, x)), n + 1, size), value


@pytest.mark.parametrize("body", [sends_back, reads_only, repeated])
@pytest.mark.parametrize("depth", [1, DEPTH])
@pytest.mark.parametrize("reverse", [False, True])
def test_lax_scan_is_played(graph, body, depth, reverse):
    value, ring, *_ = start()

    def run(value, ring, xs):
        def f(c, x):
            (value, ring, n, _), rows = body(graph, (*c, depth), x)
            return (value, ring, n), rows

        return jax.lax.scan(f, (value, ring, jnp.int32(0)), xs, reverse=reverse)

    operands = value, ring[:depth], jnp.linspace(0.5, 1.5, T)
    lowered = jax.jit(run).lower(*operands)
    assert "brainsim_scan" in lowered.as_text()
    mine = lowered.compile()(*operands)
    with left_to_xla():
        lowered = jax.jit(run).lower(*operands)
        assert "brainsim_scan" not in lowered.as_text()
        theirs = lowered.compile()(*operands)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_packed_events_of_others_are_new_in_every_step(graph):
    """Of a row in, carried from the step before, and computed in the step."""
    rng = np.random.default_rng(3)
    values = jnp.asarray(rng.random((T, N)) < 0.2, float)
    words = jnp.asarray(np.packbits(np.pad(values != 0, ((0, 0), (0, -N % 32))), 1, "little").view(np.uint32))

    def run(words, values):
        def f(c, x):
            ring, ids, used, last, last_value = c
            words, value = x
            ring = deposit(ring, graph, 1.0, value, words=words)
            ring = deposit(ring, graph, 2.0, last_value, words=last)
            ring = deposit(ring, graph, 4.0, value, words=words ^ jnp.uint32(0))
            ids, used = append(ids, used, value, words)
            return (ring, ids, used, words, value), used

        init = jnp.zeros((1, N)), jnp.zeros(200, jnp.int32), jnp.int32(0), jnp.zeros_like(words[0]), jnp.zeros(N)
        return jax.lax.scan(f, init, (words, values))

    lowered = jax.jit(run).lower(words, values)
    assert "brainsim_scan" in lowered.as_text()
    (ring, ids, used, *_), counts = lowered.compile()(words, values)
    sent = values @ jnp.asarray([jnp.bincount(row, length=N) for row in graph.indices], float)
    expected = 5 * sent.sum(0) + 2 * sent[:-1].sum(0)
    np.testing.assert_allclose(ring[0], expected)
    np.testing.assert_array_equal(ids[:used], np.nonzero(values)[1])
    np.testing.assert_array_equal(counts, np.cumsum(np.count_nonzero(values, 1)))


SUMS = 1e-5
"""Relative to the largest: a product and a sum may be one operation in one of the two, a sum have another order."""


@pytest.mark.parametrize("made", [delays_and_parts, instant, convolved, drawn, noise])
@pytest.mark.parametrize("adjoint", [bs.DirectAdjoint(), bs.CheckpointedAdjoint(segments=3)])
def test_a_gradient_is_the_same(made, adjoint):
    """Both passes are played, and give what XLA gives that steps through them."""
    net, inputs = made()
    weights = {name: edge.weight for name, edge in net.edges.items()}
    inputs = {name: x[-80:] for name, x in inputs.items()}

    def loss(weights, inputs):
        changed = eqx.tree_at(lambda m: [m.edges[k].weight for k in weights], net, list(weights.values()))
        kw = dict(t1=8.0, dt=0.1, key=jax.random.key(0), inputs=inputs, adjoint=adjoint)
        last = list(net.nodes)[-1]
        sol = bs.simulate(changed, **kw, saveat=[bs.Rate(last), bs.Trace("A.v", every=10)])
        return 1e-4 * jnp.mean(sol[f"{last}.rate"]) + 1e-3 * jnp.mean(sol["A.v"] ** 2)

    def gradient():
        lowered = jax.jit(jax.grad(loss)).lower(weights, inputs)
        counts = [lowered.as_text().count(f"@brainsim_{name}_v") for name in ("scan", "outer_add")]
        return counts, lowered.compile()(weights, inputs)

    (played, added), mine = gradient()
    with left_to_xla():
        none, theirs = gradient()
    assert played >= 2
    # with one weight per synapse, every segment adds to the sum of those before
    assert (added > 0) == (made is delays_and_parts and isinstance(adjoint, bs.CheckpointedAdjoint))
    assert none == [0, 0]
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, atol=SUMS * np.abs(b).max())


def test_a_scan_that_jax_calls_otherwise_stays_with_xla(graph):
    """As a later JAX may: a name that has changed costs speed, never the run."""
    value, ring, *_ = start()

    def run(value, ring, xs):
        def f(c, x):
            (value, ring, n, _), rows = reads_only(graph, (*c, DEPTH), x)
            return (value, ring, n), rows

        return jax.lax.scan(f, (value, ring, jnp.int32(0)), xs)

    operands = value, ring, jnp.linspace(0.5, 1.5, T)
    played = jax.jit(run).lower(*operands).compile()(*operands)
    jax.clear_caches()
    with mock.patch.object(_scan, "scan_sizes", return_value=None):
        lowered = jax.jit(run).lower(*operands)
    assert "brainsim_scan" not in lowered.as_text()
    jax.tree.map(np.testing.assert_array_equal, lowered.compile()(*operands), played)


def test_a_users_scan_is_played():
    """A loop of `bs.step` that a user writes runs as fast as `simulate`."""
    net, _ = delays_and_parts()
    state = bs.initial_state(net, dt=0.1, key=jax.random.key(0))

    def run(state):
        def one(state, _):
            state, events = bs.step(net, state)
            return state, events["A"].value

        return jax.lax.scan(one, state, None, length=200)

    lowered = jax.jit(run).lower(state)
    assert "brainsim_scan" in lowered.as_text()
    mine = lowered.compile()(state)
    with left_to_xla():
        theirs = jax.jit(run)(state)
    assert mine[1].sum() > 0
    for a, b in zip(jax.tree.leaves((mine[0].nodes, mine[1])), jax.tree.leaves((theirs[0].nodes, theirs[1]))):
        np.testing.assert_array_equal(a, b)


def test_support_changes_no_bit():
    """A backward pass steps through the run once more, with the support; it must be the same run."""
    net, _ = delays_and_parts()
    start = bs.initial_state(net, dt=0.1, key=jax.random.key(0))

    def run(state, wanted):
        def one(state, _):
            state, events = bs.step(net, state)
            return state, events["A"].support if wanted else None

        return jax.lax.scan(one, state, None, length=300)

    with_support, support = jax.jit(run, static_argnums=1)(start, True)
    without, _ = jax.jit(run, static_argnums=1)(start, False)
    assert support.any()
    for a, b in zip(jax.tree.leaves(with_support.nodes), jax.tree.leaves(without.nodes), strict=True):
        np.testing.assert_array_equal(a, b)


# --- what users write -------------------------------------------------------------------------------------------------


def sends_itself(graph, c, x):
    """What is sent lies where it arrives."""
    return deposit(c[None], graph, x, c)[0], None


def a_constant_row(graph, c, x):
    return c + propagate(graph, x, c), 1.0


def shapes_of_a_number(graph, c, x):
    return c + propagate(graph, x, c) * (2 * (x + 1)[None][0]), x


def a_barrier(graph, c, x):
    x, y = jax.lax.optimization_barrier((x, x + 1))
    return c + propagate(graph, x, c) * y, x


@pytest.mark.parametrize("body", [sends_itself, a_constant_row, shapes_of_a_number, a_barrier])
def test_any_scan_is_what_it_was(graph, body):
    def run(c, xs):
        return jax.lax.scan(lambda c, x: body(graph, c, x), c, xs)

    operands = jnp.linspace(0.1, 1.0, N), jnp.linspace(0.01, 0.05, T)
    lowered = jax.jit(run).lower(*operands)
    assert ("brainsim_scan" in lowered.as_text()) == (body is not a_barrier)
    mine = lowered.compile()(*operands)
    with left_to_xla():
        theirs = jax.jit(run)(*operands)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=SUMS)


def test_constants_of_a_rule_come_with_the_scan(graph):
    slope = np.linspace(1.0, 2.0, N)

    @jax.custom_jvp
    def doubled(x):
        return 2 * x

    @doubled.defjvp
    def _(primals, tangents):
        return doubled(*primals), tangents[0] * jnp.asarray(slope, primals[0].dtype)

    def run(v):
        return jax.lax.scan(lambda c, x: (deposit(c, graph, x, doubled(v)), None), jnp.zeros((1, N)), jnp.ones(T))[0]

    v = jnp.linspace(0.1, 1.0, N)
    expected = T * np.bincount(np.asarray(graph.indices).ravel(), np.repeat(np.asarray(v) * slope, 4), N)
    np.testing.assert_allclose(jax.jvp(run, (v,), (v,))[1][0], expected, rtol=SUMS)


def test_a_batch_of_one_gradient(graph):
    def loss(w, v):
        def f(ring, x):
            return deposit(ring, graph, w, v * x + collect(ring, 1)[0]), None

        return jnp.sum(jax.lax.scan(f, jnp.ones((DEPTH, N)), jnp.linspace(0.5, 1.5, T))[0] ** 2)

    w, v = jnp.full(4 * N, 0.1), jnp.linspace(0.1, 1.0, N)
    batched = jax.vmap(jax.grad(loss), (None, 0))(w, v[None])
    np.testing.assert_allclose(batched[0], jax.grad(loss)(w, v), rtol=SUMS)
