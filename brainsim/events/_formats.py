"""Connectivity as pytrees: who sends to whom, never how strongly.

Every format is checked when it is made from real arrays; inside `jit` or `vmap` (traced arrays) only shapes and types
are, and the operators drop a synapse whose index is out of range.

`sorted_rows` records whether the targets of every row ascend, as those of all rules do; only then can threads share one
propagation. It is part of the type of a pytree: graphs to be stacked must agree in it.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from ..base import is_traced
from ._pages import on_huge_pages
from ._targets import Rows, count, wide

_INT32_MAX = 2**31 - 1
_PIECE = 1 << 16


class AbstractTopology(eqx.Module):
    """Which pre unit reaches which post unit."""

    n_post: eqx.AbstractVar[int]
    n_pre: eqx.AbstractVar[int]
    n_syn: eqx.AbstractVar[int]


class AbstractMap(AbstractTopology):
    """A topology that acts as one dense linear map."""

    @property
    @abc.abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight."""

    @abc.abstractmethod
    def apply(self, weight: Float[Array, "..."], value: Float[Array, "... n_pre"]) -> Float[Array, "... n_post"]:
        """What every post unit receives; `value` with any leading axes."""


class Narrow(NamedTuple):
    """Targets as `_targets.Rows` makes them, all in range and ascending in every row."""

    stored: Array


class CSR(AbstractTopology):
    """Compressed sparse rows: the targets of pre unit `i` are `indices[indptr[i]:indptr[i + 1]]`, repeats allowed.

    They are `stored` in two or three bytes each where those number all post units; `indices` makes int32 of them.
    """

    indptr: Int32[Array, " n_pre_plus_1"]
    stored: Array
    n_post: int = eqx.field(static=True)
    sorted_rows: bool = eqx.field(static=True, init=False)

    def __init__(self, indptr: Any, indices: Any, n_post: int):
        """Build from `indptr` (n_pre + 1,) and `indices` (n_syn,); raises ValueError or TypeError on bad arrays."""
        self.n_post = _size("CSR", "n_post", n_post)
        self.indptr = _int32("CSR", "indptr", indptr, 1)
        if isinstance(indices, Narrow):
            self.stored, self.sorted_rows = indices.stored, True
            return
        indices = _int32("CSR", "indices", indices, 1)
        if self.indptr.shape[0] < 1:
            raise ValueError("CSR.indptr is empty; expected n_pre + 1 entries, [0] for a graph without pre units.")
        if not (is_traced(self.indptr) or is_traced(indices)):
            _check_indptr(np.asarray(self.indptr), indices.size)
        _check_range("CSR", indices, self.n_post)
        self.sorted_rows = _ascending(indices, self.indptr)
        traced = is_traced(self.indptr) or is_traced(indices)
        self.stored = on_huge_pages(indices) if traced or self.n_post > 1 << 24 else self._narrow(np.asarray(indices))

    def _narrow(self, indices: np.ndarray) -> Array:
        indptr, rows = np.asarray(self.indptr, np.int64), Rows(self.n_pre, self.n_post, indices.size, self.sorted_rows)
        for begin in range(0, indices.size, _PIECE):
            post, pre = indices[begin : begin + _PIECE], None
            if rows.counts:
                pre = np.searchsorted(indptr, np.arange(begin, begin + post.size), side="right") - 1
            rows.add(pre, post)
        return rows.finish()

    @property
    def indices(self) -> Int32[Array, " n_syn"]:
        """The target of every synapse: what is stored, if that is int32, else made anew."""
        return wide(self.stored, self.n_syn)

    @property
    def n_pre(self) -> int:
        """Number of pre units."""
        return self.indptr.shape[-1] - 1

    @property
    def n_syn(self) -> int:
        """Number of synapses."""
        return count(self.stored, self.n_pre, self.n_post)

    @staticmethod
    def from_coo(pre: Any, post: Any, n_pre: int, n_post: int) -> tuple["CSR", np.ndarray]:
        """Sort a list of pairs by (pre, post), stably: synapse `j` of the CSR is entry `order[j]` of the list.

        `pre` and `post` are (n_syn,) integers. Returns the CSR and `order` (n_syn,), to sort weights and delays alike.
        """
        n_pre, n_post = _size("CSR", "n_pre", n_pre), _size("CSR", "n_post", n_post)
        pre = _host_integers("CSR.from_coo", "pre", pre, 1)
        post = _host_integers("CSR.from_coo", "post", post, 1)
        if pre.shape != post.shape:
            raise ValueError(
                f"CSR.from_coo: pre has {pre.shape[0]} entries, post {post.shape[0]}; expected one pair per synapse. "
                "Pass arrays of equal length."
            )
        _check_range("CSR.from_coo", pre, n_pre, "pre", "n_pre")
        _check_range("CSR.from_coo", post, n_post, "post", "n_post")
        key = pre.astype(np.int64) * max(n_post, 1) + post
        order = np.argsort(key, kind="stable")
        indptr = np.zeros(n_pre + 1, np.int64)
        np.cumsum(np.bincount(pre, minlength=n_pre), out=indptr[1:])
        return CSR(indptr, post[order], n_post), order

    def to_coo(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs (pre, post), each (n_syn,), in the order of the synapses."""
        lengths = np.diff(np.asarray(self.indptr))
        return np.repeat(np.arange(self.n_pre, dtype=np.int32), lengths), np.asarray(self.indices)


class FixedFanout(AbstractTopology):
    """Every pre unit has exactly `k` targets: `indices[i]` (k,), repeats allowed."""

    indices: Int32[Array, "n_pre k"]
    n_post: int = eqx.field(static=True)
    sorted_rows: bool = eqx.field(static=True, init=False)

    def __init__(self, indices: Any, n_post: int):
        """Build from `indices` (n_pre, k); raises ValueError or TypeError on a bad array."""
        self.n_post = _size("FixedFanout", "n_post", n_post)
        self.indices = on_huge_pages(_int32("FixedFanout", "indices", indices, 2))
        _check_range("FixedFanout", self.indices, self.n_post)
        self.sorted_rows = _ascending(self.indices)

    @property
    def n_pre(self) -> int:
        """Number of pre units."""
        return self.indices.shape[-2]

    @property
    def k(self) -> int:
        """Number of targets of each pre unit."""
        return self.indices.shape[-1]

    @property
    def n_syn(self) -> int:
        """Number of synapses."""
        return self.n_pre * self.k

    def to_coo(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs (pre, post), each (n_syn,), in the order of the synapses."""
        return np.repeat(np.arange(self.n_pre, dtype=np.int32), self.k), np.asarray(self.indices).reshape(-1)


class FixedFanin(AbstractTopology):
    """Every post unit has exactly `k` sources: `indices[i]` (k,), repeats allowed.

    Events travel along the rows of pre units, so these are sorted out once, here: synapse `j` of `rows` is entry
    `order[j]` of the list of sources. Per-synapse arrays have the shape of that list, (n_post, k); an operator brings
    them into the order of the rows whenever it is called, a `Projection` once and for all.
    """

    rows: CSR
    order: Int32[Array, " n_syn"]
    k: int = eqx.field(static=True)

    def __init__(self, indices: Any, n_pre: int):
        """Build from the sources `indices` (n_post, k); raises ValueError or TypeError on a bad or a traced array."""
        n_pre = _size("FixedFanin", "n_pre", n_pre)
        if is_traced(indices):
            raise TypeError(
                "FixedFanin.indices is traced, and its rows are sorted on the host; build it outside of jit."
            )
        sources = _host_integers("FixedFanin", "indices", indices, 2)
        _check_range("FixedFanin", sources, n_pre, bound="n_pre")
        n_post, self.k = sources.shape
        self.rows, order = CSR.from_coo(sources.reshape(-1), np.repeat(np.arange(n_post), self.k), n_pre, n_post)
        self.order = jnp.asarray(order.astype(np.int32))

    @property
    def n_pre(self) -> int:
        """Number of pre units."""
        return self.rows.n_pre

    @property
    def n_post(self) -> int:
        """Number of post units."""
        return self.rows.n_post

    @property
    def n_syn(self) -> int:
        """Number of synapses."""
        return self.rows.n_syn

    def to_coo(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs (pre, post), each (n_syn,), in the order of the list of sources."""
        back = np.argsort(np.asarray(self.order))
        pre, post = self.rows.to_coo()
        return pre[back], post[back]


class Dense(AbstractMap):
    """Every pair is connected; the weight is a matrix (n_pre, n_post)."""

    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(self, n_pre: int, n_post: int):
        """Build from the two sizes."""
        self.n_pre = _size("Dense", "n_pre", n_pre)
        self.n_post = _size("Dense", "n_post", n_post)

    @property
    def n_syn(self) -> int:
        """Number of synapses."""
        return self.n_pre * self.n_post

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.n_pre, self.n_post)

    def apply(self, weight, value):
        weight = jnp.broadcast_to(weight, self.weight_shape)
        return jnp.matmul(value, weight, precision=jax.lax.Precision.HIGHEST)

    def to_coo(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs (pre, post), each (n_syn,), row by row."""
        pre, post = np.divmod(np.arange(self.n_syn), max(self.n_post, 1))
        return pre.astype(np.int32), post.astype(np.int32)


def _size(owner: str, name: str, n: Any) -> int:
    """A count as a Python int that fits in 32 bits."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"{owner}.{name} is {n!r} of type {type(n).__name__}; expected a whole number. Pass an int.")
    if not 0 <= n <= _INT32_MAX:
        raise ValueError(f"{owner}.{name} is {n}; expected 0 <= {name} < 2**31.")
    return int(n)


def _kind(owner: str, name: str, x: Any, ndim: int) -> None:
    """Raise unless `x` is an integer array of `ndim` axes and fewer than 2**31 entries."""
    if not np.issubdtype(x.dtype, np.integer):
        raise TypeError(f"{owner}.{name} has dtype {x.dtype}; expected integers. Convert with .astype('int32').")
    if len(x.shape) != ndim:
        raise ValueError(f"{owner}.{name} has shape {tuple(x.shape)}; expected {ndim} axis/axes.")
    if x.size > _INT32_MAX:
        raise ValueError(f"{owner}.{name} has {x.size} entries; expected fewer than 2**31. Split the projection.")


def _host_integers(owner: str, name: str, x: Any, ndim: int) -> np.ndarray:
    """A host integer array; an empty list counts as integers."""
    a = np.asarray(x)
    a = a.astype(np.int32) if a.size == 0 and not isinstance(x, np.ndarray | jax.Array) else a
    _kind(owner, name, a, ndim)
    return a


def _int32(owner: str, name: str, x: Any, ndim: int) -> Any:
    """A 32-bit integer JAX array; wider integers are converted when every entry fits."""
    if isinstance(x, jax.Array):
        _kind(owner, name, x, ndim)
        if x.dtype == jnp.int32:
            return x
        if is_traced(x):
            raise TypeError(f"{owner}.{name} has dtype {x.dtype}; expected int32. Convert with .astype('int32').")
    a = _host_integers(owner, name, x, ndim)
    if a.dtype != np.int32:
        if a.size and (int(a.min()) < -(2**31) or int(a.max()) > _INT32_MAX):
            raise ValueError(f"{owner}.{name} spans {a.min()}..{a.max()}; expected values that fit in int32.")
        a = a.astype(np.int32)
    return jnp.asarray(a)


def _check_indptr(indptr: np.ndarray, n_syn: int) -> None:
    """Raise unless `indptr` starts at 0, never decreases and ends at `n_syn`."""
    if indptr[0] != 0:
        raise ValueError(f"CSR.indptr starts at {indptr[0]}; expected 0.")
    if indptr[-1] != n_syn:
        raise ValueError(
            f"CSR.indptr ends at {indptr[-1]} and indices has {n_syn} entries; expected the two to be equal. "
            "One of the arrays is of the wrong length."
        )
    down = np.flatnonzero(indptr[1:] < indptr[:-1])
    if down.size:
        i = int(down[0])
        raise ValueError(f"CSR.indptr decreases from {indptr[i]} to {indptr[i + 1]} at row {i}; it may never decrease.")


def _check_range(owner: str, x: Any, n: int, name: str = "indices", bound: str = "n_post") -> None:
    """Raise unless every entry lies in 0..n-1."""
    if is_traced(x) or x.size == 0:
        return
    a = np.asarray(x)
    low, high = int(a.min()), int(a.max())
    if low < 0 or high >= n:
        bad = low if low < 0 else high
        where = np.unravel_index(int(a.argmin() if low < 0 else a.argmax()), a.shape)
        at = ", ".join(str(int(i)) for i in where)
        raise ValueError(f"{owner}: {name}[{at}] is {bad}; expected 0 <= {name} < {bound} = {n}.")


def _ascending(indices: Any, indptr: Any = None) -> bool:
    """Whether targets never decrease within a row; False for traced arrays, which nobody can look at."""
    if is_traced(indices) or is_traced(indptr):
        return False
    a = np.asarray(indices)
    begin = np.arange(1, len(a)) * a.shape[-1] if indptr is None else np.asarray(indptr)[1:-1]
    a = a.reshape(-1)
    begin = begin[(np.diff(begin, prepend=0) > 0) & (begin < a.size)]  # of rows that follow a synapse
    pieces = (a[i : i + _PIECE + 1] for i in range(0, a.size, _PIECE))  # a graph is large: no array of its size
    return bool(sum(np.count_nonzero(x[1:] < x[:-1]) for x in pieces) == np.count_nonzero(a[begin] < a[begin - 1]))
