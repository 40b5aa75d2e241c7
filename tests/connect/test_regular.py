"""Fixed patterns and the user's own arrays."""

import jax
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings, strategies as st

from brainsim.connect import AllToAll, DenseMatrix, FromCOO, FromCSR, OneToOne, from_sparse
from brainsim.events import Dense


def matrix(topology, values, n_pre, n_post):
    """The weight matrix of a topology, repeats summed."""
    out = np.zeros((n_pre, n_post))
    np.add.at(out, topology.to_coo(), values)
    return out


def test_one_to_one():
    topology = OneToOne().build(4, 4, same=False, key=None).topology
    np.testing.assert_array_equal(matrix(topology, 1.0, 4, 4), np.eye(4))


def test_all_to_all():
    topology = AllToAll().build(3, 5, same=False, key=None).topology
    np.testing.assert_array_equal(matrix(topology, 1.0, 3, 5), np.ones((3, 5)))
    topology = AllToAll(autapses=False).build(4, 4, same=True, key=None).topology
    np.testing.assert_array_equal(matrix(topology, 1.0, 4, 4), 1 - np.eye(4))
    topology = AllToAll(autapses=False).build(2, 4, same=np.array([3, 0]), key=None).topology
    np.testing.assert_array_equal(topology.indices, [[0, 1, 2], [1, 2, 3]])
    with pytest.raises(ValueError, match="1 of 2 pre units are not among the post units"):
        AllToAll(autapses=False).build(2, 4, same=np.array([3, -1]), key=None)


def test_dense():
    topology = DenseMatrix().build(3, 5, same=False, key=None).topology
    assert isinstance(topology, Dense)
    assert (topology.n_pre, topology.n_post) == (3, 5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 40), st.integers(0, 10**6))
def test_weights_in_the_order_of_the_list_line_up(n_pre, n_post, n_syn, seed):
    rng = np.random.default_rng(seed)
    pre, post, weight = rng.integers(0, n_pre, n_syn), rng.integers(0, n_post, n_syn), rng.normal(size=n_syn)
    wanted = np.zeros((n_pre, n_post))
    np.add.at(wanted, (pre, post), weight)
    topology, order = FromCOO(pre, post).build(n_pre, n_post, same=False, key=None)
    assert order is not None
    assert topology.n_syn == n_syn
    np.testing.assert_array_equal(np.sort(order), np.arange(n_syn))
    np.testing.assert_allclose(matrix(topology, weight[order], n_pre, n_post), wanted, atol=1e-12)
    np.testing.assert_array_equal(np.lexsort((topology.to_coo()[1], topology.to_coo()[0])), np.arange(n_syn))


def test_rows_keep_their_order():
    rule = FromCSR([0, 3, 3, 5], [4, 0, 4, 2, 1])
    topology, order = rule.build(3, 5, same=False, key=None)
    assert order is None
    np.testing.assert_array_equal(topology.indices, [4, 0, 4, 2, 1])
    np.testing.assert_array_equal(topology.indptr, [0, 3, 3, 5])


@pytest.mark.parametrize("form", ["coo", "csr", "csc", "lil"])
def test_scipy_matrices(form):
    dense = np.array([[0.0, 1.5, 0.0], [2.5, 0.0, -1.0]])
    rule, weight = from_sparse(scipy.sparse.csr_array(dense).asformat(form))
    topology, order = rule.build(2, 3, same=False, key=jax.random.key(0))
    np.testing.assert_array_equal(matrix(topology, weight[order], 2, 3), dense)
    with pytest.raises(ValueError, match=r"\(2, 3\) and joins populations of \(3, 2\)"):
        rule.build(3, 2, same=False, key=None)


def test_scipy_repeats_and_zeros_are_synapses():
    repeats = scipy.sparse.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    rule, weight = from_sparse(repeats)
    topology, order = rule.build(2, 2, same=False, key=None)
    assert topology.n_syn == 3
    np.testing.assert_array_equal(weight[order], [1.0, 2.0, 0.0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FromCOO([0, 1], [0]), ValueError, "2 pre and 1 post"),
        (lambda: FromCOO([0.0], [1.0]), TypeError, "FromCOO.pre is an array of float64"),
        (lambda: FromCOO([[0]], [[1]]), TypeError, r"shape \(1, 1\)"),
        (lambda: FromCSR([0, 2], [0]), ValueError, "0 .. 2 with 1 indices"),
        (lambda: FromCSR([1, 1], [0]), ValueError, "starts at 0"),
        (lambda: FromCSR([0, 2, 1], [0]), ValueError, "never falls"),
        (lambda: FromCSR([], []), ValueError, "n_pre \\+ 1"),
        (lambda: from_sparse(np.eye(3)), TypeError, "scipy.sparse matrix"),
        (lambda: FromCOO([0], [5]).build(3, 5, same=False, key=None), ValueError, "FromCOO.post runs over 5 .. 5"),
        (lambda: FromCOO([-1], [0]).build(3, 5, same=False, key=None), ValueError, "FromCOO.pre runs over -1"),
        (
            lambda: FromCSR([0, 1], [0]).build(2, 2, same=False, key=None),
            ValueError,
            "1 rows and there are 2 pre units",
        ),
        (lambda: FromCSR([0, 1], [2]).build(1, 2, same=False, key=None), ValueError, "FromCSR.indices runs over 2"),
    ],
)
def test_bad_arrays(make, error, message):
    with pytest.raises(error, match=message):
        make()
