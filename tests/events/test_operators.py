"""The operators compute what they say: numpy oracle, kernel against pure twin, bad input."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import brainsim as bs
from brainsim.events import (
    CSR,
    Dense,
    FixedFanout,
    _ffi,
    _primitives,
    _pure,
    append,
    backend,
    collect,
    deposit,
    deposit_all,
    propagate,
    room,
)

from .graphs import EPS, FLOAT, SUMS, array, assert_same, dense, expected, make, pack

SHAPES = (  # few, because each compiles: sizes 0 and 1, below, at and above the width of a vector
    dict(n_pre=17, n_post=5, n_syn=40),
    dict(n_pre=33, n_post=64, n_syn=50, depth=1),
    dict(n_pre=16, n_post=1, n_syn=3, delays=False),
    dict(n_pre=1, n_post=1, n_syn=1),
    dict(n_pre=0, n_post=4, n_syn=0),
    dict(n_pre=6, n_post=4, n_syn=0, scalar=True),
    dict(n_pre=40, n_post=7, n_syn=90, scalar=True),
    dict(n_pre=19, n_post=6, fanout=3),
    dict(n_pre=19, n_post=6, fanout=3, scalar=True, delays=False),
    dict(n_pre=5, n_post=6, fanout=0),
    dict(n_pre=17, n_post=5, n_syn=40, first=33, rest=14),
    dict(n_pre=40, n_post=6, fanout=3, scalar=True, first=7, rest=150),
    dict(n_pre=0, n_post=4, n_syn=0, first=2),
    dict(n_pre=18, n_post=7, fanin=3, first=5),
    dict(n_pre=3, n_post=1, fanin=1, scalar=True),
    dict(n_pre=6, n_post=5, fanin=0),
)
graphs = given(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES), st.sampled_from([0.0, 0.3, 1.0]))
twins = given(
    st.integers(0, 2**32 - 1), st.sampled_from((*SHAPES[6:8], *SHAPES[10:12])), st.sampled_from([0.0, 0.3, 1.0])
)
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@partial(jax.jit, static_argnames="first")
def send(case_arrays, topology, delay, words, first):
    inbox, weight, value, slot = case_arrays
    return deposit(inbox, topology, weight, value, slot=slot, delay=delay, words=words, first=first)


def run(case, words=None):
    return send((*case.operands(), case.slot), case.topology, case.delay, words, case.first)


@pytest.mark.optimised
@pytest.mark.core
@few
@graphs
def test_deposit_is_the_sum_over_the_synapses(seed, shape, active):
    case = make(seed, active=active, **shape)
    out = run(case)
    np.testing.assert_allclose(out, expected(case), rtol=0, atol=SUMS)
    assert_same(run(case, case.words), out)


def operands(case):
    """The operands of the primitives, without batch axes."""
    indptr = case.topology.indptr if isinstance(case.topology, CSR) else jnp.zeros((0,), jnp.int32)
    fanout = -1 if isinstance(case.topology, CSR) else case.topology.k
    delay = jnp.zeros((0,), jnp.int32) if case.delay is None else case.delay.reshape(-1)
    tail = (case.slot, delay, indptr, case.topology.indices.reshape(-1))
    static = dict(n_pre=case.topology.n_pre, fanout=fanout, first=case.first, sorted_rows=case.topology.sorted_rows)
    return case.weight.reshape(-1), tail, static


@pytest.mark.core
@few
@twins
def test_kernels_equal_their_pure_twins(seed, shape, active):
    case = make(seed, active=active, **shape)
    weight, tail, static = operands(case)
    rows, every = case.support, jnp.zeros((0,), bool)
    words, none = case.words, jnp.zeros((0,), jnp.uint32)
    outer = dict(static, n_weight=weight.shape[0], batch=())
    gather = dict(static, n_value=case.value.shape[0])
    pairs = [
        (_primitives.scatter_p, _pure.scatter, (case.inbox, case.value, weight, rows, words, *tail), static),
        (_primitives.scatter_p, _pure.scatter, (case.inbox, case.value, weight, rows, none, *tail), static),
        (_primitives.gather_p, _pure.gather, (case.inbox, weight, rows, *tail), gather),
        (_primitives.gather_p, _pure.gather, (case.inbox, weight, every, *tail), gather),
        (_primitives.outer_p, _pure.outer, (case.value, case.inbox, rows, words, *tail), outer),
        (_primitives.outer_p, _pure.outer, (case.value, case.inbox, rows, none, *tail), outer),
    ]
    for primitive, pure, args, params in pairs:
        kernel = primitive.bind(*args, **params)
        twin = jitted(pure, tuple(params.items()))(*args)
        assert kernel.dtype == twin.dtype == FLOAT
        np.testing.assert_allclose(kernel, twin, rtol=0, atol=SUMS, err_msg=primitive.name)


CACHE: dict = {}


def jitted(pure, params):
    return CACHE.setdefault((pure, params), jax.jit(partial(pure, **dict(params))))


def test_nan_and_negative_zero_values():
    graph = FixedFanout(np.arange(20).reshape(20, 1), 20)
    value = array(np.where(np.arange(20) == 7, np.nan, -0.0))
    for words in (None, pack(value)):
        out = propagate(graph, array(1.0), value, words=words)
        assert np.isnan(out[7])
        np.testing.assert_array_equal(np.delete(out, 7), 0.0)


def test_traced_indices_out_of_range_are_dropped():
    """Nothing can look at traced indices: a bad one must neither write elsewhere nor crash."""
    bad = jnp.array([[0, 99], [-1, 1]], jnp.int32)
    out = jax.jit(lambda i: propagate(FixedFanout(i, 3), array(1.0), array([1.0, 1.0])))(bad)
    np.testing.assert_array_equal(out, [1.0, 1.0, 0.0])
    grad = jax.jit(jax.grad(lambda v, i: jnp.sum(propagate(FixedFanout(i, 3), array(2.0), v))))(array([1.0, 1.0]), bad)
    np.testing.assert_array_equal(grad, [2.0, 2.0])
    out = jax.jit(lambda p: propagate(CSR(p, jnp.array([0, 1]).astype(jnp.int32), 3), array(1.0), array([1.0, 1.0])))(
        jnp.array([-5, 2, 77], jnp.int32)
    )
    np.testing.assert_array_equal(out, [1.0, 1.0, 0.0])


def test_slots_and_delays_wrap_around_the_ring():
    graph = FixedFanout(np.zeros((1, 4), np.int32), 1)
    delay = jnp.array([[0, 1, 7, -1]], jnp.int32)
    out = deposit(jnp.zeros((5, 1), FLOAT), graph, array([[1.0, 2.0, 4.0, 8.0]]), array([1.0]), slot=9, delay=delay)
    np.testing.assert_array_equal(out[:, 0], [2.0, 4.0, 0.0, 8.0, 1.0])


def test_dense_is_the_matrix_product_in_its_slot():
    rng = np.random.default_rng(0)
    weight, value, inbox = (array(rng.normal(size=s)) for s in ((6, 4), 6, (3, 4)))
    out = deposit(inbox, Dense(6, 4), weight, value, slot=4)
    np.testing.assert_allclose(out, inbox.at[1].add(value @ weight), rtol=0, atol=SUMS)
    np.testing.assert_allclose(propagate(Dense(6, 4), 0.5, value), np.full(4, 0.5 * value.sum()), rtol=0, atol=SUMS)
    part = propagate(Dense(3, 4), weight[:3], value, words=pack(value), first=2)
    np.testing.assert_allclose(part, value[2:5] @ weight[:3], rtol=0, atol=SUMS)


def test_half_precision_takes_the_pure_path():
    case = make(3, n_pre=17, n_post=5, n_syn=40, delays=False, depth=1)
    half = [x.astype(jnp.bfloat16) for x in (case.weight, case.value)]
    out = propagate(case.topology, *half)
    assert out.dtype == jnp.bfloat16
    exact = propagate(case.topology, *(x.astype(FLOAT) for x in half))
    np.testing.assert_allclose(out.astype(FLOAT), exact, rtol=0, atol=0.1)


@pytest.mark.core
def test_collect_takes_one_row_and_clears_it():
    inbox = array(np.arange(1.0, 13.0).reshape(3, 4))
    row, rest = jax.jit(collect)(inbox, jnp.int32(4))
    np.testing.assert_array_equal(row, inbox[1])
    np.testing.assert_array_equal(rest, inbox.at[1].set(0.0))
    np.testing.assert_array_equal(inbox[1], [5.0, 6.0, 7.0, 8.0])
    twin = _pure.collect(inbox, jnp.int32(-2))
    for a, b in zip(collect(inbox, -2), twin, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.core
@pytest.mark.parametrize("n", [0, 1, 15, 16, 37])
def test_append_lists_the_events_and_counts_the_overflow(n):
    value = array(np.random.default_rng(n).normal(size=n) * (np.arange(n) % 3 == 0))
    where = np.flatnonzero(value)
    buffer = jnp.full((6,), -1, jnp.int32)
    out, count = jax.jit(append)(buffer, jnp.int32(2), value)
    assert int(count) == 2 + where.size
    np.testing.assert_array_equal(out, np.concatenate([[-1, -1], where, np.full(6, -1)])[:6])
    packed = append(buffer, jnp.int32(2), value, pack(value))
    for a, b in zip((out, count) * 2, (*_pure.append(buffer, jnp.int32(2), value, None), *packed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_append_at_and_past_the_end_writes_nothing():
    buffer = jnp.arange(4, dtype=jnp.int32)
    for count in (4, 9, 2**31 - 2):
        for step in (append, _pure.append):
            out, after = step(buffer, jnp.int32(count), array([1.0, 0.0, 2.0, 3.0]), None)
            np.testing.assert_array_equal(out, buffer)
            assert int(after) == min(count + 3, 2**31 - 1)


@pytest.mark.parametrize("n", [0, 1, 1023, 1 << 20, (1 << 20) + 77])
@pytest.mark.core
def test_room_is_zeros_also_where_memory_was_used_before(n):
    jnp.full(n + 4096, 7, jnp.int32).block_until_ready()
    assert not np.asarray(jax.jit(room, static_argnums=0)(n)).any()
    assert room(n).shape == (n,)


@pytest.mark.skipif(not Path("/proc/self/status").exists() or backend() != "kernels", reason="Linux, with kernels")
def test_room_takes_memory_only_as_it_is_written_to():
    def resident():
        status = Path("/proc/self/status").read_text()
        return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("RssAnon")) * 1024

    value = (jnp.arange(1000) % 3 == 0).astype(FLOAT)
    fill = jax.jit(lambda: append(room(1 << 26), jnp.int32(0), value))
    fill.lower().compile()
    before = resident()
    buffer, count = jax.block_until_ready(fill())
    assert (int(count), int(buffer[333])) == (334, 999)
    assert resident() - before < buffer.nbytes / 4


def test_append_batches_like_a_loop_and_takes_flags():
    value = jnp.asarray(np.random.default_rng(1).random((3, 20)) < 0.3)
    buffer = jnp.full((8,), -1, jnp.int32)
    outs, counts = jax.vmap(append, in_axes=(None, None, 0))(buffer, jnp.int32(0), value)
    for b in range(3):
        out, count = append(buffer, jnp.int32(0), value[b])
        np.testing.assert_array_equal(outs[b], out)
        assert int(counts[b]) == int(count)


GRAPH = FixedFanout(np.array([[0, 1], [1, 2]]), 3)
INBOX, VALUE = jnp.zeros((2, 3), FLOAT), jnp.ones((2,), FLOAT)
OTHER = jnp.float16


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: deposit(INBOX[0], GRAPH, 1.0, VALUE), ValueError, r"inbox has shape \(3,\)"),
        (lambda: deposit(INBOX[:, :2], GRAPH, 1.0, VALUE), ValueError, "n_post = 3"),
        (lambda: deposit(INBOX.astype(jnp.int32), GRAPH, 1.0, VALUE), TypeError, "inbox has dtype int32"),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE[:1]), ValueError, r"value has shape \(1,\); expected \(n >= 2\)"),
        (
            lambda: deposit(INBOX, GRAPH, 1.0, VALUE, first=1),
            ValueError,
            r"expected \(n >= 3\): first = 1 and n_pre = 2",
        ),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE, first=-1), ValueError, "first is -1; expected the number of a unit"),
        (
            lambda: deposit(INBOX, GRAPH, 1.0, VALUE, words=jnp.zeros((2,), jnp.uint32)),
            ValueError,
            r"words has shape \(2,\); expected \(1,\)",
        ),
        (
            lambda: deposit(INBOX, GRAPH, 1.0, VALUE, words=jnp.zeros((1,), jnp.int32)),
            TypeError,
            "words has dtype int32",
        ),
        (
            lambda: deposit_all(INBOX, GRAPH, 1.0, VALUE, slots=jnp.zeros(2, jnp.int32)),
            ValueError,
            r"deposit_all: value has shape \(2,\); expected \(2, n >= 2\)",
        ),
        (lambda: deposit_all(INBOX, GRAPH, 1.0, VALUE[None], slots=0), TypeError, "expected 1 whole numbers"),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE > 0), TypeError, "value has dtype bool"),
        (
            lambda: deposit(INBOX, GRAPH, jnp.ones((3,), FLOAT), VALUE),
            ValueError,
            r"weight has shape \(3,\); expected \(\) or \(2, 2\)",
        ),
        (lambda: deposit(INBOX, GRAPH, jnp.ones((), OTHER), VALUE), TypeError, "weight has dtype float16"),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE, support=VALUE), TypeError, "support has dtype float"),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE, slot=1.5), TypeError, "slot has shape"),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE, delay=jnp.zeros((4, 1), jnp.int32)), ValueError, "delay has shape"),
        (lambda: deposit(INBOX, GRAPH, 1.0, VALUE, delay=jnp.zeros((2, 2), FLOAT)), TypeError, "delay has dtype"),
        (
            lambda: deposit(INBOX, Dense(2, 3), 1.0, VALUE, delay=jnp.zeros((2, 3), jnp.int32)),
            ValueError,
            "Dense has no delays per synapse",
        ),
        (lambda: propagate(GRAPH, 1.0, VALUE.astype(jnp.int32)), TypeError, "value has dtype int32"),
        (lambda: collect(INBOX[0]), ValueError, "inbox has shape"),
        (lambda: append(jnp.zeros((2,), FLOAT), jnp.int32(0), VALUE), TypeError, "buffer is float"),
        (lambda: append(jnp.zeros((2,), jnp.int32), jnp.int32(0), INBOX), ValueError, "value has shape"),
        (lambda: jax.grad(record)(VALUE), TypeError, "compact spike recording is not differentiable"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def record(value):
    append(jnp.zeros((2,), jnp.int32), jnp.int32(0), value)
    return jnp.sum(value)


def test_the_reason_for_the_pure_path_is_kept(monkeypatch, tmp_path):
    assert backend() == "kernels" or backend().startswith("pure (")
    monkeypatch.setenv("BRAINSIM_KERNELS", "off")
    assert _ffi._load() == "BRAINSIM_KERNELS=off"
    monkeypatch.setenv("BRAINSIM_KERNELS", "on")
    with pytest.raises(ValueError, match="expected 'auto'"):
        _ffi._load()
    monkeypatch.setenv("BRAINSIM_KERNELS", "auto")
    broken = tmp_path / "libbrainsim_ops.so"
    monkeypatch.setattr(_ffi, "_library", lambda name: broken)
    assert "no kernel library" in _ffi._load()
    assert "BRAINSIM_CUDA=ON" in _ffi._load_cuda()
    broken.write_text("not a library")
    assert "cannot be used" in _ffi._load()
    assert "cannot be used" in _ffi._load_cuda()
    with pytest.raises(ValueError, match="platform is 'tpu'"):
        backend("tpu")


@pytest.mark.parametrize("built", [True, False])
def test_a_gpu_gets_the_kernels_if_their_library_is_there(monkeypatch, built):
    """Lowered for a GPU, which nothing here has; forward and backward."""
    monkeypatch.setitem(_ffi._reasons, "cuda", "" if built else "not built")
    assert backend("cuda") == ("kernels" if built else "pure (not built)")
    both = jax.jit(jax.grad(lambda w, v: jnp.sum(propagate(GRAPH, w, v) ** 2), (0, 1)))
    text = both.trace(jnp.ones((2, 2), FLOAT), VALUE).lower(lowering_platforms=("cuda",)).as_text()
    for name in ("scatter", "gather", "outer"):
        assert (_ffi.target(name) in text) == built
    assert ("stablehlo.while" in text) != built
    drawn = bs.DrawnRows.fixed_probability(jnp.asarray([1, 2], jnp.uint32), 2, 2, 0.5)
    both = jax.jit(jax.grad(lambda w, v: jnp.sum(propagate(drawn, w, v) ** 2), (0, 1)))
    text = both.trace(jnp.ones((), FLOAT), VALUE).lower(lowering_platforms=("cuda",)).as_text()
    listed = jax.jit(partial(append)).trace(jnp.zeros(9, jnp.int32), jnp.int32(0), VALUE)
    text += listed.lower(lowering_platforms=("cuda",)).as_text()
    for name in ("drawn_scatter", "drawn_gather", "drawn_outer", "append"):
        assert (_ffi.target(name) in text) == built


def test_oracles_agree():
    """The two oracles of these tests are one."""
    case = make(5)
    np.testing.assert_allclose(dense(case, *case.operands()), expected(case), rtol=0, atol=8 * EPS)
