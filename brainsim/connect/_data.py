"""Graphs that the user has: lists of pairs, compressed rows, scipy matrices."""

from typing import Any

import numpy as np
from jaxtyping import Int

from ..base import Key
from ..events import CSR
from ._rule import AbstractRule, Built, Same


class FromCOO(AbstractRule):
    """The listed pairs: synapse j goes from `pre[j]` to `post[j]`; repeated pairs are multapses, all are kept.

    The topology is sorted by (pre, post), and `Built.order` says how: weights and delays given in the order of the list
    line up as `values[order]`.

    **Arguments:** `pre`, `post`: integers (n_syn,); `shape`: (n_pre, n_post) that the list was made for, checked if
    given.
    **Builds** a CSR and its order. **Raises** ValueError for unequal lengths or indices beyond the populations.

    **Example**

    >>> topology, order = FromCOO([1, 0], [0, 2]).build(2, 3, same=False, key=None)
    >>> topology.indices.tolist(), order.tolist()
    ([2, 0], [1, 0])
    """

    pre: Int[np.ndarray, " n_syn"]
    post: Int[np.ndarray, " n_syn"]
    shape: tuple[int, int] | None = None

    def __init__(self, pre: Any, post: Any, shape: tuple[int, int] | None = None):
        self.pre = _indices("FromCOO", "pre", pre)
        self.post = _indices("FromCOO", "post", post)
        self.shape = None if shape is None else (int(shape[0]), int(shape[1]))
        if self.pre.size != self.post.size:
            raise ValueError(
                f"FromCOO got {self.pre.size} pre and {self.post.size} post indices; expected one pair for each "
                f"synapse."
            )

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        if self.shape is not None:
            _check_sizes("FromCOO", self.shape, (n_pre, n_post))
        _check_within("FromCOO", "pre", self.pre, n_pre)
        _check_within("FromCOO", "post", self.post, n_post)
        return Built(*CSR.from_coo(self.pre, self.post, n_pre, n_post))


class FromCSR(AbstractRule):
    """The listed rows: pre unit i sends to `indices[indptr[i]:indptr[i + 1]]`; repeated targets are multapses, all are
    kept.

    The topology keeps the order of the list, so weights and delays line up as given (`Built.order` is None).

    **Arguments:** `indptr`: integers (n_pre + 1,), from 0 upward to n_syn; `indices`: post indices (n_syn,).
    **Builds** a CSR. **Raises** ValueError for arrays that do not fit each other or the populations.

    **Example**

    >>> FromCSR([0, 2, 3], [0, 2, 1]).build(2, 3, same=False, key=None).topology.n_syn
    3
    """

    indptr: Int[np.ndarray, " n_pre_plus_1"]
    indices: Int[np.ndarray, " n_syn"]

    def __init__(self, indptr: Any, indices: Any):
        self.indptr = _indices("FromCSR", "indptr", indptr)
        self.indices = _indices("FromCSR", "indices", indices)
        p, n = self.indptr, self.indices.size
        if p.size == 0 or p[0] != 0 or p[-1] != n or np.any(np.diff(p) < 0):
            ends = f"{p[0]} .. {p[-1]}" if p.size else "nothing"
            raise ValueError(
                f"FromCSR.indptr runs over {ends} with {n} indices; expected a list of n_pre + 1 numbers that starts "
                f"at 0, "
                f"never falls and ends at {n}. Row i is indices[indptr[i]:indptr[i + 1]]."
            )

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        if self.indptr.size - 1 != n_pre:
            raise ValueError(
                f"FromCSR has {self.indptr.size - 1} rows and there are {n_pre} pre units; expected one row for each. "
                f"Check the populations, or transpose the matrix: rows are pre units."
            )
        _check_within("FromCSR", "indices", self.indices, n_post)
        return Built(CSR(self.indptr, self.indices, n_post))


def from_sparse(matrix: Any) -> tuple[FromCOO, np.ndarray]:
    """The rule and the weights of a scipy.sparse matrix W, W[i, j] from pre unit i to post unit j.

    Every stored entry is a synapse, also a stored zero and repeats of a COO matrix. The weights (n_syn,) are in the
    order of the rule's list, as a projection expects them: `rule, weight = from_sparse(W); Projection(...,
    connect=rule, weight=weight)`.
    **Raises** TypeError for anything but a scipy.sparse matrix or array.
    """
    try:
        coo = matrix.tocoo()
        n_pre, n_post = coo.shape
        return FromCOO(coo.row, coo.col, (n_pre, n_post)), np.asarray(coo.data)
    except (AttributeError, ValueError) as e:
        if isinstance(e, ValueError) and "FromCOO" in str(e):
            raise
        raise TypeError(
            f"from_sparse got {type(matrix).__name__}; expected a scipy.sparse matrix of two dimensions. Wrap a dense "
            f"array "
            f"in scipy.sparse.csr_array, or use DenseMatrix with the array as the weight."
        ) from e


def _indices(owner: str, name: str, x: Any) -> np.ndarray:
    a = np.asarray(x)
    if a.size == 0 and not isinstance(x, np.ndarray):
        a = a.astype(np.int32)
    if a.ndim != 1 or not np.issubdtype(a.dtype, np.integer):
        raise TypeError(
            f"{owner}.{name} is an array of {a.dtype} of shape {a.shape}; expected a list of integers. "
            f"Convert with numpy.asarray({name}).astype(int)."
        )
    return a


def _check_sizes(owner: str, given: tuple[int, int], wanted: tuple[int, int]) -> None:
    if given != wanted:
        raise ValueError(
            f"{owner} was made for (n_pre, n_post) = {given} and joins populations of {wanted} units; expected the "
            f"same. "
            f"Check the populations, or transpose the matrix: rows are pre units."
        )


def _check_within(owner: str, name: str, a: np.ndarray, n: int) -> None:
    if a.size and (a.min() < 0 or a.max() >= n):
        raise ValueError(
            f"{owner}.{name} runs over {a.min()} .. {a.max()} and the population has {n} units; expected 0 .. {n - 1}. "
            f"Indices count from 0."
        )
