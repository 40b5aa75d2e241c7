"""Formats: good arrays round-trip, bad ones are named."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainsim.events import CSR, LARGE, Dense, FixedFanin, FixedFanout, _formats, on_huge_pages, propagate
from brainsim.events._targets import block_bits, n_blocks, stretched

from .graphs import EPS, SUMS

I32 = np.int32


def test_from_coo_sorts_stably_and_keeps_repeats():
    pre, post = np.array([2, 0, 2, 2, 0]), np.array([1, 3, 0, 1, 3])
    graph, order = CSR.from_coo(pre, post, 4, 5)
    assert (graph.n_pre, graph.n_post, graph.n_syn) == (4, 5, 5)
    np.testing.assert_array_equal(order, [1, 4, 2, 0, 3])
    np.testing.assert_array_equal(graph.indptr, [0, 2, 2, 5, 5])
    back = graph.to_coo()
    np.testing.assert_array_equal(back[0], pre[order])
    np.testing.assert_array_equal(back[1], post[order])


def test_sizes_and_pairs_of_every_format():
    fixed = FixedFanout(np.array([[1, 1], [0, 2]]), 3)
    assert (fixed.n_pre, fixed.k, fixed.n_syn, fixed.n_post) == (2, 2, 4, 3)
    np.testing.assert_array_equal(np.stack(fixed.to_coo()), [[0, 0, 1, 1], [1, 1, 0, 2]])
    fanin = FixedFanin(np.array([[3, 0], [1, 1], [0, 3]]), 4)
    assert (fanin.n_pre, fanin.k, fanin.n_syn, fanin.n_post, fanin.rows.sorted_rows) == (4, 2, 6, 3, True)
    np.testing.assert_array_equal(np.stack(fanin.to_coo()), [[3, 0, 1, 1, 0, 3], [0, 0, 1, 1, 2, 2]])
    np.testing.assert_array_equal(np.stack(fanin.rows.to_coo()), [[0, 0, 1, 1, 3, 3], [0, 2, 1, 1, 0, 2]])
    full = Dense(2, 3)
    assert full.n_syn == 6
    np.testing.assert_array_equal(np.stack(full.to_coo()), [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]])


def test_whether_the_targets_of_every_row_ascend_is_recorded():
    ascending, _ = CSR.from_coo([1, 0, 1, 3], [0, 4, 2, 0], 4, 5)  # row borders may go down, and rows be empty
    assert ascending.sorted_rows
    assert CSR([0, 0, 2, 2], [1, 1], 5).sorted_rows
    assert not CSR([0, 1, 3], [0, 4, 2], 5).sorted_rows
    assert FixedFanout(np.array([[1, 3], [0, 0]]), 4).sorted_rows
    assert not FixedFanout(np.array([[0, 1], [3, 1]]), 4).sorted_rows
    assert not jax.jit(lambda i: FixedFanout(i, 4))(jnp.array([[0, 1]], jnp.int32)).sorted_rows
    assert not CSR(ascending.indptr, ascending.indices[::-1], 5).sorted_rows


def test_empty_graphs_are_graphs():
    empty, order = CSR.from_coo([], [], 3, 0)
    assert (empty.n_pre, empty.n_syn, empty.n_post, order.size) == (3, 0, 0, 0)
    assert FixedFanout(np.zeros((3, 0), I32), 4).n_syn == 0
    assert CSR([0], [], 1).n_pre == 0


@pytest.mark.parametrize("n_post, width", [(5, 2), (2**16, 2), (2**16 + 1, 3), (2**24, 3), (2**24 + 1, 4)])
@pytest.mark.core
def test_targets_are_stored_in_as_few_bytes_as_they_need(n_post, width):
    indices = np.unique(np.random.default_rng(n_post).integers(0, n_post, 200))
    indices[-1] = n_post - 1
    indptr = [0, 0, indices.size // 3, indices.size]
    graph = CSR(indptr, indices, n_post)
    stretches = 3 * n_blocks(n_post) if stretched(3, n_post, indices.size) else 0
    assert (stretches > 0) == (n_post == 2**16 + 1)
    assert (graph.stored.nbytes, graph.n_syn) == (width * indices.size + stretches + (width == 3), indices.size)
    assert graph.indices.dtype == jnp.int32
    assert graph.sorted_rows
    np.testing.assert_array_equal(graph.indices, indices)

    def sums(weight, value):
        out = propagate(graph, weight, value)
        return jnp.vdot(out[indices], out[indices]), out[indices]

    weight, value = (jnp.asarray(np.random.default_rng(1).normal(size=n)) for n in (indices.size, 3))
    weight, value = weight.at[3].set(0.0), value.at[0].set(0.0)
    sent = value[np.repeat(np.arange(3), np.diff(indptr))] * weight
    back, out = jax.grad(sums, (0, 1), has_aux=True)(weight, value)
    np.testing.assert_allclose(out, sent, rtol=EPS)
    np.testing.assert_allclose(back[0], 2 * sent * sent / np.where(weight == 0, 1, weight), rtol=4 * EPS)
    wanted = [float(2 * np.sum(sent[a:b] * weight[a:b])) for a, b in itertools.pairwise(indptr)]
    np.testing.assert_allclose(back[1], wanted, rtol=SUMS)


def rows_of(n_pre, n_post, seed):
    """Rows of 40 to 80 targets, in order."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(40, 80, n_pre)
    post = [np.sort(rng.integers(0, n_post, n)) for n in lengths]
    return np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(post)


@pytest.mark.parametrize("n_post", [2**16 + 1, 200_000, 2**20])
@pytest.mark.core
def test_lengths_of_stretches_follow_the_targets(monkeypatch, n_post):
    monkeypatch.setattr(_formats, "_PIECE", 7)  # most stretches are counted in two pieces
    n_pre, blocks = 70, n_blocks(n_post)
    indptr, indices = rows_of(n_pre, n_post, 0)
    graph = CSR(indptr, indices, n_post)
    pre, post = graph.to_coo()
    np.testing.assert_array_equal(post, indices)
    wanted = np.zeros((n_pre, blocks), int)
    np.add.at(wanted, (pre, post >> block_bits(n_post)), 1)
    got = np.asarray(graph.stored)[3 * graph.n_syn : -1].view(np.uint8)
    np.testing.assert_array_equal(got.reshape(n_pre, blocks), wanted)
    # the kernels know where they begin, of each graph of a batch too
    other = CSR(indptr, np.concatenate([x[::-1] for x in np.split(n_post - 1 - indices, indptr[1:-1])]), n_post)
    both = jax.tree.map(lambda *x: jnp.stack(x), graph, other)
    value = jnp.asarray(np.random.default_rng(2).normal(size=n_pre))
    sums = jax.vmap(lambda graph: propagate(graph, jnp.asarray(0.5, value.dtype), value))(both)
    sent = 0.5 * np.asarray(value)[pre]
    np.testing.assert_allclose(sums[0], np.bincount(indices, sent, n_post), rtol=SUMS, atol=EPS)
    np.testing.assert_allclose(sums[1], sums[0][::-1], rtol=SUMS, atol=EPS)


def test_stretches_are_left_out_where_they_are_of_no_use():
    indptr, indices = rows_of(70, 100_000, 1)
    assert CSR(indptr, indices, 100_000).stored.dtype == np.int8
    down = CSR(indptr, indices[::-1], 100_000)  # rows that do not ascend
    crowd = CSR(indptr, indices % 50_000, 50_000)  # two bytes each
    few = CSR([0, 20], np.sort(indices[:20]), 100_000)
    for graph in (down, crowd, few):
        assert graph.stored.dtype != np.int8
    np.testing.assert_array_equal(down.indices, indices[::-1])


def test_a_row_with_too_long_a_stretch_is_marked():
    indptr = [0, 300, *range(301, 900, 100)]
    long, alike = (CSR(indptr, post, 100_000) for post in (np.zeros(801, I32), np.sort(np.arange(801) % 9 * 10_000)))
    lengths = np.asarray(long.stored)[3 * 801 : -1].view(np.uint8).reshape(7, -1)
    np.testing.assert_array_equal(lengths[:, 0], [255, 1, 100, 100, 100, 100, 100])
    assert not np.any(long.indices)
    assert long.stored.shape == alike.stored.shape  # whatever the targets: graphs of equal sizes can be stacked
    assert long.stored.dtype == alike.stored.dtype


def test_wide_integers_become_int32_when_they_fit():
    graph = CSR(np.array([0, 1], np.int64), np.array([0], np.uint8), 1)
    assert graph.indptr.dtype == graph.indices.dtype == jnp.int32


@pytest.mark.parametrize(
    "build, error, message",
    [
        (
            lambda: CSR(np.array([0, 2]), np.array([0, 5]), 5),
            ValueError,
            r"indices\[1\] is 5; expected 0 <= indices < n_post = 5",
        ),
        (lambda: CSR(np.array([0, 2]), np.array([0, -1]), 5), ValueError, r"indices\[1\] is -1"),
        (lambda: CSR(np.array([0, 2, 1, 3]), np.zeros(3, I32), 1), ValueError, "decreases from 2 to 1 at row 1"),
        (lambda: CSR(np.array([0, 2]), np.zeros(3, I32), 1), ValueError, "ends at 2 and indices has 3"),
        (lambda: CSR(np.array([1, 3]), np.zeros(3, I32), 1), ValueError, "starts at 1"),
        (lambda: CSR(np.zeros(0, I32), np.zeros(0, I32), 1), ValueError, "indptr is empty"),
        (
            lambda: CSR(np.array([0.0, 1.0]), np.zeros(1, I32), 1),
            TypeError,
            "indptr has dtype float64; expected integers",
        ),
        (lambda: CSR(np.array([0, 1]), np.zeros((1, 1), I32), 1), ValueError, "indices has shape"),
        (lambda: CSR(np.array([0, 1]), np.array([2**40]), 2**30), ValueError, "fit in int32"),
        (lambda: CSR(np.array([0, 1]), np.zeros(1, I32), -1), ValueError, "n_post is -1"),
        (lambda: CSR(np.array([0, 1]), np.zeros(1, I32), 1.0), TypeError, "n_post is 1.0 of type float"),
        (lambda: CSR.from_coo([0, 1], [0], 2, 2), ValueError, "pre has 2 entries, post 1"),
        (lambda: CSR.from_coo([0, 2], [0, 0], 2, 2), ValueError, r"pre\[1\] is 2; expected 0 <= pre < n_pre = 2"),
        (lambda: CSR.from_coo([0, 1], [0, 9], 2, 2), ValueError, r"post\[1\] is 9"),
        (lambda: FixedFanout(np.array([[0, 1], [2, 3]]), 3), ValueError, r"indices\[1, 1\] is 3"),
        (lambda: FixedFanout(np.array([0, 1]), 3), ValueError, "indices has shape"),
        (lambda: FixedFanout(np.array([[True]]), 3), TypeError, "dtype bool"),
        (
            lambda: FixedFanin(np.array([[0], [3]]), 3),
            ValueError,
            r"indices\[1, 0\] is 3; expected 0 <= indices < n_pre",
        ),
        (lambda: jax.eval_shape(lambda i: FixedFanin(i, 3), np.zeros((2, 2), I32)), TypeError, "outside of jit"),
        (lambda: Dense(-1, 2), ValueError, "n_pre is -1"),
        (lambda: Dense(True, 2), TypeError, "n_pre is True"),
    ],
)
def test_bad_arrays_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_graph_made_from_traced_arrays_is_checked_for_shape_only():
    with pytest.raises(ValueError, match="indices has shape"):
        jax.eval_shape(lambda i: FixedFanout(i, 3), jnp.zeros(4, jnp.int32))
    made = jax.jit(lambda i: FixedFanout(i, 3))(jnp.full((2, 2), 7, jnp.int32))
    assert made.n_pre == 2


def test_ten_million_synapses_are_checked_in_a_moment():
    n_pre, k = 10_000, 1_000
    indptr, indices = np.arange(0, n_pre * k + 1, k, dtype=I32), np.zeros(n_pre * k, I32)
    start = time.perf_counter()
    assert CSR(indptr, indices, n_pre).n_syn == 10**7
    assert time.perf_counter() - start < 20.0  # a check in Python, synapse by synapse, takes minutes


def test_huge_pages_change_nothing():
    """A large array stays where it is and what it is; small and traced ones are left alone."""
    x = jnp.arange(LARGE // 4 + 12_345, dtype=jnp.int32)
    before, where = np.asarray(x).copy(), x.unsafe_buffer_pointer()
    assert on_huge_pages(x) is x
    assert x.unsafe_buffer_pointer() == where
    np.testing.assert_array_equal(x, before)
    assert jax.jit(lambda x: on_huge_pages(x)[-1])(x) == before[-1]
    assert on_huge_pages(3.0) == 3.0
