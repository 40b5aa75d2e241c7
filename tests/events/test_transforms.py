"""grad, jvp, vmap, checkpoint, scan in every order against plain dense JAX; batching; the sparse backward pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from brainsim.events import CSR, Dense, FixedFanout, backend, collect, deposit, deposit_all, propagate

from .graphs import FLOAT, array, assert_same, dense, make, pack

NEAR = 2e-5 if FLOAT.itemsize == 4 else 1e-12  # second derivatives of a few tens of terms of order 1
CASES = {
    "csr": make(11, delays=True),
    "fanout": make(12, n_pre=9, n_post=6, fanout=3, delays=False),
    "fanin": make(15, n_pre=9, n_post=6, fanin=3),
    "scalar": make(13, scalar=True),
    "view": make(14, first=9, rest=8),
}
STEPS = 4


def loss(out):
    return jnp.sum(jnp.sin(out) * jnp.cos(0.3 * out))


def losses(case):
    """The same scalar function of (inbox, weight, value) by the operator and by dense JAX."""

    def sparse(args):
        inbox, weight, value = args
        static = dict(delay=case.delay, first=case.first)
        return loss(deposit(inbox, case.topology, weight, value, slot=case.slot, **static))

    return sparse, lambda args: loss(dense(case, *args))


def losses_of_all(case):
    """Likewise for `deposit_all` of values made from `value`."""
    slots = jnp.arange(STEPS, dtype=jnp.int32) * 2

    def rows(value):
        return jnp.stack([value * (1 - 0.2 * t) for t in range(STEPS)])

    def sparse(args):
        inbox, weight, value = args
        static = dict(delay=case.delay, first=case.first)
        return loss(deposit_all(inbox, case.topology, weight, rows(value), slots=slots, **static))

    def plain(args):
        inbox, weight, value = args
        for t, row in enumerate(rows(value)):
            inbox = dense(dataclasses.replace(case, slot=2 * t), inbox, weight, row)
        return loss(inbox)

    return sparse, plain


def along(f, args, tangent):
    return jax.jvp(f, (args,), (tangent,))


def over_time(f, checkpoint):
    """Three steps, each fed with what the one before returned."""

    def step(args, t):
        inbox, weight, value = args
        out = f((inbox, weight, jnp.sin(value + t)))
        return (inbox + 0.1 * out, weight * 0.9, value + 0.2 * out), out

    step = jax.checkpoint(step) if checkpoint else step
    return lambda args: jnp.sum(lax.scan(step, args, jnp.arange(3.0, dtype=FLOAT))[1])


def stack(args, n=2):
    return jax.tree.map(lambda x: jnp.stack([x * (1 + 0.1 * b) for b in range(n)]), args)


COMBINATIONS = {
    "jvp": lambda f, a, t: along(f, a, t),
    "grad": lambda f, a, t: jax.grad(f)(a),
    "vmap": lambda f, a, t: jax.vmap(f)(stack(a)),
    "scan": lambda f, a, t: over_time(f, False)(a),
    "grad of checkpoint": lambda f, a, t: jax.grad(jax.checkpoint(f))(a),
    "jvp of grad": lambda f, a, t: along(jax.grad(f), a, t),
    "grad of jvp": lambda f, a, t: jax.grad(lambda a: along(f, a, t)[1])(a),
    "grad of grad": lambda f, a, t: jax.grad(lambda a: jnp.sum(jnp.sin(jax.grad(f)(a)[2])))(a),
    "jvp of jvp": lambda f, a, t: along(lambda a: along(f, a, t)[1], a, t),
    "vmap of grad": lambda f, a, t: jax.vmap(jax.grad(f))(stack(a)),
    "grad of vmap": lambda f, a, t: jax.grad(lambda a: jnp.sum(jax.vmap(f)(stack(a))))(a),
    "vmap of jvp": lambda f, a, t: jax.vmap(lambda a: along(f, a, t))(stack(a)),
    "jvp of vmap": lambda f, a, t: along(lambda a: jax.vmap(f)(stack(a)), a, t),
    "vmap of vmap of grad": lambda f, a, t: jax.vmap(jax.vmap(jax.grad(f)))(stack(stack(a))),
    "grad of scan": lambda f, a, t: jax.grad(over_time(f, False))(a),
    "jvp of scan": lambda f, a, t: along(over_time(f, False), a, t),
    "vmap of grad of checkpointed scan": lambda f, a, t: jax.vmap(jax.grad(over_time(f, True)))(stack(a)),
}


SOME = ("grad", "jvp of grad", "grad of vmap")
COMBINED = [(n, "csr", losses) for n in COMBINATIONS]
COMBINED += [(n, case, losses) for n in SOME for case in ("scalar", "view", "fanin")]
COMBINED += [(n, "csr", losses_of_all) for n in COMBINATIONS if "scan" not in n]
COMBINED += [(n, case, losses_of_all) for n in SOME for case in ("scalar", "view")]


CORE = ("jvp", "grad", "jvp of grad", "grad of jvp", "vmap of vmap of grad", "vmap of grad of checkpointed scan")


@pytest.mark.parametrize(
    "name, case, of",
    [pytest.param(*c, marks=pytest.mark.core) if c[0] in CORE and c[1] == "csr" else c for c in COMBINED],
)
def test_transformations_compose(name, case, of):
    case = CASES[case]
    tangent = jax.tree.map(lambda x: jnp.cos(3 * x), case.operands())

    def result(f):
        return jax.jit(lambda args: COMBINATIONS[name](f, args, tangent))(case.operands())

    mine, truth = (result(f) for f in of(case))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=NEAR, atol=10 * NEAR), mine, truth)


@pytest.mark.core
@pytest.mark.parametrize("name", ["csr", "scalar", "view"])
def test_the_cotangents_of_deposit_all_are_one_call_each(name):
    """The weight's accumulates where it lies: nothing of size steps x synapses, no partial inbox."""
    case = CASES[name]
    values = jnp.stack([jnp.roll(case.value, t) for t in range(STEPS)])
    support = jnp.stack([jnp.roll(case.support, t) for t in range(STEPS)])
    slots = jnp.arange(STEPS, dtype=jnp.int32)

    def all_at_once(inbox, weight, values, words):
        static = dict(delay=case.delay, first=case.first, support=support, words=words)
        return deposit_all(inbox, case.topology, weight, values, slots=slots, **static)

    def one_by_one(inbox, weight, values, words):
        for t in range(STEPS):
            static = dict(delay=case.delay, first=case.first, support=support[t], slot=slots[t])
            inbox = deposit(inbox, case.topology, weight, values[t], **static)
        return inbox

    def back(f, words):
        def out_and_cotangents(inbox, weight, values):
            out, pull = jax.vjp(lambda *a: f(*a, words), inbox, weight, values)
            return out, pull(jnp.cos(out))

        return out_and_cotangents

    args = (case.inbox, case.weight, values)
    truth = jax.jit(back(one_by_one, None))(*args)
    for words in (None, pack(values)):
        mine = jax.jit(back(all_at_once, words))(*args)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=NEAR, atol=NEAR), mine, truth)
    jaxpr = jax.make_jaxpr(back(all_at_once, None))(*args)
    assert count(jaxpr) == {"scatter": 1, "gather": 1, "outer": 1}
    shapes = {e.primitive.name: e.outvars[0].aval.shape for e in equations(jaxpr.jaxpr) if "brainsim" in str(e)}
    assert shapes["brainsim_outer"] == (1, case.weight.size)
    assert shapes["brainsim_scatter"] == (1, *case.inbox.shape)


def call(inbox, topology, weight, value, slot, delay, support, words):
    """The deposit and its two cotangents: all three primitives."""

    def f(weight, value):
        return deposit(inbox, topology, weight, value, slot=slot, delay=delay, support=support, words=words)

    out, back = jax.vjp(f, weight, value)
    return out, back(jnp.cos(out))


def batchable(name):
    """The eight operands of `call`, and three versions of each."""
    if name == "csr":
        cases = [make(s, n_pre=17, n_post=5, n_syn=40) for s in (1, 2, 3)]
    else:
        cases = [make(s, n_pre=17, n_post=5, fanout=3) for s in (1, 2, 3)]
    one = [(c.inbox, c.topology, c.weight, c.value, c.slot, c.delay, c.support, c.words) for c in cases]
    return one, jax.tree.map(lambda *x: jnp.stack(x), *one)


MAPPED = [(0,), (1,), (2,), (3,), (4,), (5,), (6,), (2, 3), (1, 2, 5), tuple(range(8))]


@pytest.mark.optimised
@pytest.mark.parametrize("name", ["csr", "fanout"])
@pytest.mark.parametrize("mapped", [pytest.param(m, marks=pytest.mark.core) if len(m) != 1 else m for m in MAPPED])
def test_vmap_is_the_loop_bit_for_bit_and_one_call(name, mapped):
    mapped = {*mapped, *({7} if 3 in mapped else ())}  # the words are those of the values
    one, stacked = batchable(name)
    axes = tuple(0 if i in mapped else None for i in range(8))
    args = [stacked[i] if i in mapped else one[0][i] for i in range(8)]
    batched = jax.jit(jax.vmap(call, in_axes=axes))
    loop = jax.jit(call)
    out = batched(*args)
    for b in range(3):
        single = loop(*(one[b][i] if i in mapped else one[0][i] for i in range(8)))
        jax.tree.map(lambda x, y: assert_same(x[b], y), out, single)  # noqa: B023
    assert count(jax.make_jaxpr(jax.vmap(call, in_axes=axes))(*args)) == {"scatter": 1, "gather": 1, "outer": 1}
    if backend() == "kernels":
        text = batched.lower(*args).compile().as_text()
        assert "while(" not in text
        assert sum('custom_call_target="brainsim_' in line for line in text.splitlines()) == 3


def equations(jaxpr):
    """All equations, those of inner jaxprs too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr)
            elif hasattr(inner, "eqns"):
                yield from equations(inner)


def count(closed):
    names = [
        e.primitive.name.removeprefix("brainsim_") for e in equations(closed.jaxpr) if "brainsim" in e.primitive.name
    ]
    assert "while" not in {e.primitive.name for e in equations(closed.jaxpr)}
    return {name: names.count(name) for name in set(names)}


def test_nested_vmap_shares_what_it_does_not_map():
    """Weights by the outer axis, values by the inner one: no weight is copied over the inner axis."""
    case = CASES["csr"]
    weights, values = stack(case.weight, 3), stack(case.value, 2)

    def total(weights):
        def send(w, v):
            return propagate(case.topology, w, v)

        return jnp.sum(jnp.sin(jax.vmap(jax.vmap(send, (None, 0)), (0, None))(weights, values)))

    def slow(weights):
        rows = [[dense(case, case.inbox * 0, w, v).sum(0) for v in values] for w in weights]
        return jnp.sum(jnp.sin(jnp.stack([jnp.stack(r) for r in rows])))

    mine, truth = (jax.jit(jax.grad(f))(weights) for f in (total, slow))
    np.testing.assert_allclose(mine, truth, rtol=NEAR, atol=NEAR)
    shapes = [
        e.outvars[0].aval.shape
        for e in equations(jax.make_jaxpr(jax.grad(total))(weights).jaxpr)
        if e.primitive.name == "brainsim_outer"
    ]
    assert shapes == [(3, 1, case.topology.n_syn)]


def test_the_gradient_of_shared_weights_is_never_batched():
    case = CASES["fanout"]
    values = stack(case.value, 5)

    def total(w):
        return jnp.sum(jax.vmap(lambda v: propagate(case.topology, w, v))(values) ** 2)

    jaxpr = jax.make_jaxpr(jax.grad(total))(case.weight)
    sizes = [v.aval.size for e in equations(jaxpr.jaxpr) for v in e.outvars if hasattr(v.aval, "size")]
    assert max(sizes) < 5 * case.topology.n_syn

    def slow(w):
        return jnp.sum(jnp.stack([propagate(case.topology, w, v) for v in values]) ** 2)

    mine, truth = (jax.jit(jax.grad(f))(case.weight) for f in (total, slow))
    np.testing.assert_allclose(mine, truth, rtol=NEAR, atol=NEAR)


@pytest.mark.optimised
@pytest.mark.core
@pytest.mark.parametrize("name", ["csr", "fanout", "dense"])
def test_the_backward_pass_is_confined_to_the_support(name):
    if name == "dense":
        rng = np.random.default_rng(0)
        topology, weight = Dense(17, 5), array(rng.normal(size=(17, 5)))
        value, support = array(rng.normal(size=17) * (np.arange(17) % 3 == 0)), jnp.asarray(np.arange(17) % 4 == 1)
    else:
        case = CASES[name]
        topology, weight, value, support = case.topology, case.weight, case.value, case.support

    def send(v, s):
        return jnp.sum(jnp.sin(propagate(topology, weight, v, s)))

    grad = jax.jit(jax.grad(send))
    full, part = grad(value, None), grad(value, support)
    inside = np.asarray(support | (value != 0))
    assert 0 < inside.sum() < inside.size
    assert_same(part, np.where(inside, full, 0.0))
    tangent = jnp.cos(value)

    def along(v):
        return jax.jvp(lambda v: send(v, support), (v,), (tangent,))[1]

    forward, twice = jax.jit(jax.value_and_grad(along))(value)
    np.testing.assert_allclose(forward, jnp.vdot(part, tangent), rtol=NEAR, atol=NEAR)
    assert np.any(twice != 0)
    np.testing.assert_array_equal(np.asarray(twice)[~inside], 0.0)


@pytest.mark.core
def test_collect_differentiates_and_batches():
    inbox = array(np.random.default_rng(2).normal(size=(2, 3, 4)))

    def f(inbox, slot):
        row, rest = collect(inbox, slot)
        return jnp.sum(jnp.sin(row) * 2) + jnp.sum(jnp.cos(rest))

    def plain(inbox, slot):
        return jnp.sum(jnp.sin(inbox[slot]) * 2) + jnp.sum(jnp.cos(inbox.at[slot].set(0.0)))

    slots = jnp.array([2, 0], jnp.int32)
    for transform in (jax.grad, lambda f: lambda x, s: jax.jvp(lambda x: f(x, s), (x,), (jnp.cos(x),))):
        for axes, args in (((None, 0), (inbox[0], slots)), ((0, None), (inbox, slots[0]))):
            mine, truth = (jax.jit(jax.vmap(transform(g), in_axes=axes))(*args) for g in (f, plain))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=NEAR, atol=NEAR), mine, truth)


def test_a_ring_in_a_scan_is_never_copied():
    """Collect, deposit twice, go on: the compiled loop holds no copy of the ring, only in-place calls."""
    depth, n = 3, 977
    rng = np.random.default_rng(0)
    graph = FixedFanout(rng.integers(0, n, (n, 5)), n)
    delay = jnp.asarray(rng.integers(0, depth, (n, 5)), jnp.int32)

    def step(inbox, n):
        row, inbox = collect(inbox, n)
        value = jnp.where(row > 0.5, row, jnp.zeros((), row.dtype))
        inbox = deposit(inbox, graph, 0.3, value, slot=n, delay=delay)
        return deposit(inbox, graph, -0.1, value, slot=n + 1), jnp.sum(row)

    def plain(inbox, n):
        row, inbox = inbox[n % depth], inbox.at[n % depth].set(0.0)
        value = jnp.where(row > 0.5, row, jnp.zeros((), row.dtype))
        rows = (n + delay.reshape(-1)) % depth
        sent = jnp.repeat(value, 5)
        inbox = inbox.at[rows, graph.indices.reshape(-1)].add(0.3 * sent)
        return inbox.at[(n + 1) % depth, graph.indices.reshape(-1)].add(-0.1 * sent), jnp.sum(row)

    start, steps = array(rng.random((depth, n))), jnp.arange(6, dtype=jnp.int32)
    run = jax.jit(lambda x: lax.scan(step, x, steps)).lower(start).compile()
    for mine, truth in zip(run(start), lax.scan(plain, start, steps), strict=True):
        np.testing.assert_allclose(mine, truth, rtol=1e-4, atol=1e-4)
    if backend() == "kernels":
        bodies = [part for part in run.as_text().split("\n\n") if 'custom_call_target="brainsim_scatter' in part]
        assert len(bodies) == 1
        ring = f"[{depth},{n}]"
        assert not [line for line in bodies[0].splitlines() if ring in line.split("=")[-1] and " copy(" in line]


def test_a_batched_topology_may_differ_in_every_row():
    """Topologies of one shape stack into a pytree with a leading axis."""
    pairs = [(np.array([0, 0, 1]), np.array([1, 2, 0])), (np.array([1, 1, 1]), np.array([2, 2, 2]))]
    made = [CSR.from_coo(*p, 2, 3)[0] for p in pairs]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *made)
    value = array([1.0, 10.0])
    out = jax.vmap(lambda g: propagate(g, 1.0, value))(stacked)
    np.testing.assert_array_equal(out, [[10.0, 1.0, 1.0], [0.0, 0.0, 30.0]])
