"""Graphs in space: connection probability by distance."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from ..base import Key
from ..events import CSR, AbstractTopology, FixedFanin, FixedFanout
from ._cells import Leaves, leaves, lengths, tree
from ._kernels import AbstractKernel
from ._rule import AbstractRule, Built, Same, check_pairs, count, flag, generator, positive, twins
from ._sample import BLOCK, PIECE, rows_of_codes, successes

STEPS = 4
"""Levels of probability in an octave: candidates are drawn at the level above the bound, 9 % too many on average."""

FAINTEST = 40 * STEPS
"""All bounds below 2^-40 share one level, which then hardly ever has a candidate."""


class DistanceDependent(AbstractRule):
    """Every pair is connected with the probability that `kernel` gives at its distance, independently of all others.

    Pairs are never listed: between boxes of units candidates are drawn at an upper bound of the kernel, and each is
    kept with probability kernel / bound (thinning), which is exact; time goes with the number of synapses.

    **Arguments:** `kernel`: see `GaussianKernel`, `ExponentialKernel`, `DiscKernel`, `DifferenceOfGaussiansKernel`;
    `positions_pre` (n_pre, dims) or (n_pre,), `positions_post` likewise (None: the same), any one unit of length;
    `extent` (dims,): the period of each dimension, `math.inf` for one that does not close (None: none closes);
    `autapses`: whether a unit may send to itself.
    **Builds** a CSR. **Raises** ValueError for positions that do not fit each other or the populations.

    **Example**

    >>> import jax
    >>> from brainsim.connect import DiscKernel
    >>> rule = DistanceDependent(DiscKernel(1.0), grid_positions((20, 20)), extent=(20.0, 20.0), autapses=False)
    >>> rule.build(400, 400, same=True, key=jax.random.key(0)).topology.n_syn
    1600
    """

    random: ClassVar[bool] = True
    kernel: AbstractKernel
    positions_pre: Float[np.ndarray, "n_pre dims"]
    positions_post: Float[np.ndarray, "n_post dims"]
    extent: Float[np.ndarray, " dims"]
    autapses: bool = True

    def __init__(
        self,
        kernel: AbstractKernel,
        positions_pre: Any,
        positions_post: Any = None,
        extent: Any = None,
        autapses: bool = True,
    ):
        if not isinstance(kernel, AbstractKernel):
            raise TypeError(
                f"DistanceDependent.kernel is {kernel!r}; expected a kernel such as GaussianKernel(sigma, p_max)."
            )
        self.kernel = kernel
        owner = "DistanceDependent"
        self.positions_pre, self.positions_post, self.extent = _space(owner, positions_pre, positions_post, extent)
        self.autapses = flag(autapses, owner, "autapses")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        twin = twins(self, n_pre, n_post, same)
        for side, x, n in (("pre", self.positions_pre, n_pre), ("post", self.positions_post, n_post)):
            if len(x) != n:
                raise ValueError(
                    f"DistanceDependent.positions_{side} places {len(x)} units and there are {n}; expected one "
                    f"position for "
                    f"each {side} unit."
                )
        rng = generator(self, key)
        codes = np.empty(0, np.int64)
        if n_pre and n_post:
            codes = np.concatenate([codes, *self._codes(rng, n_post)])
            codes.sort()
        blocks = (codes[i : i + PIECE] for i in range(0, codes.size, PIECE))
        return Built(CSR(*rows_of_codes(blocks, codes.size, n_pre, n_post, None if self.autapses else twin), n_post))

    def _codes(self, rng: np.random.Generator, n_post: int) -> Iterator[np.ndarray]:
        """Blocks of pair numbers pre * n_post + post, each at most once, in no order."""
        order_pre, boxes_pre = tree(self.positions_pre.T)
        order_post, boxes_post = tree(self.positions_post.T)
        # in the order of the tree, units of one box lie side by side in memory
        place_pre, place_post = self.positions_pre.T[:, order_pre], self.positions_post.T[:, order_post]
        found = leaves(boxes_pre, boxes_post, self.kernel, self.extent)
        # half of what the bounds promise is what the graph has at the least for any smooth kernel
        check_pairs(self, len(order_pre), n_post, float(np.sum(found.bound * found.pairs)) / 2)
        step = np.minimum(-STEPS * np.log2(found.bound), FAINTEST).astype(np.int16)
        by_step = np.argsort(step, kind="stable")
        ends = np.flatnonzero(np.diff(step[by_step], append=FAINTEST + 1)) + 1
        for first, end in zip([0, *ends], ends, strict=False):
            these = Leaves(*(x[by_step[first:end]] for x in found))
            level = 2.0 ** (-int(step[by_step[first]]) / STEPS)
            before = np.cumsum(these.pairs) - these.pairs
            for flat in successes(rng, level, int(these.pairs.sum()), BLOCK // 16):
                leaf = np.searchsorted(before, flat, side="right") - 1
                flat -= before[leaf]
                width = these.size_post[leaf]
                row = flat // width
                pre = these.start_pre[leaf] + row
                post = these.start_post[leaf] + (flat - row * width)
                p = self._probability(
                    lengths(place_pre.take(pre, 1) - place_post.take(post, 1), self.extent), these.bound[leaf]
                )
                keep = rng.random(p.size) * level < p
                yield order_pre[pre[keep]] * n_post + order_post[post[keep]]

    def _probability(
        self, distance: Float[np.ndarray, " m"], bound: Float[np.ndarray, " m"]
    ) -> Float[np.ndarray, " m"]:
        """The kernel at some distances, held against what the kernel promised."""
        p = np.asarray(self.kernel(distance), float)
        good = (p >= 0) & (p <= bound * (1 + 1e-9))
        if not good.all():
            i = np.flatnonzero(~good)[0]
            raise ValueError(
                f"{self.kernel} gives probability {p[i]} at distance {distance[i]}, where its bound gives {bound[i]}; "
                f"expected "
                f"0 <= kernel(d) <= bound(near, far) <= 1 for near <= d <= far. Mend the kernel or its bound."
            )
        return p


def grid_positions(shape: Sequence[int], spacing: Any = 1.0) -> Float[np.ndarray, "n dims"]:
    """The centres of the cells of a rectangular grid, last dimension fastest, each coordinate (i + 1/2) * spacing.

    **Arguments:** `shape`: cells in each dimension; `spacing` > 0: their side, or one for each dimension.
    **Returns** (prod(shape), dims). The grid closes on itself evenly with `extent` = shape * spacing.

    **Example**

    >>> grid_positions((1, 2), 0.5).tolist()
    [[0.25, 0.25], [0.25, 0.75]]
    """
    counts = [count(s, "grid_positions", "shape") for s in ([shape] if isinstance(shape, int | np.integer) else shape)]
    sides = list(spacing) if isinstance(spacing, Sequence | np.ndarray) else [spacing] * len(counts)
    if len(sides) != len(counts) or not counts:
        raise ValueError(
            f"grid_positions got {len(sides)} spacings for the shape {tuple(counts)}; expected one for each."
        )
    axes = [(np.arange(c) + 0.5) * positive(s, "grid_positions", "spacing") for c, s in zip(counts, sides, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(counts))


def synapse_lengths(
    topology: AbstractTopology, positions_pre: Any, positions_post: Any = None, extent: Any = None
) -> Float[np.ndarray, "..."]:
    """The distance between the two units of every synapse, in the shape that per-synapse values have.

    For delays that grow with distance: build the topology, then give `delay = d_0 + synapse_lengths(...) / velocity`.

    **Arguments:** `topology`: what a rule built; positions and `extent` as in `DistanceDependent`.
    **Returns** (n_syn,), (n_pre, k) for a FixedFanout, or (n_post, k) for a FixedFanin.
    """
    pre_x, post_x, period = _space("synapse_lengths", positions_pre, positions_post, extent)
    if (len(pre_x), len(post_x)) != (topology.n_pre, topology.n_post):
        raise ValueError(
            f"synapse_lengths got positions of {len(pre_x)} pre and {len(post_x)} post units; expected "
            f"{topology.n_pre} and {topology.n_post}, as in the topology."
        )
    pre, post = topology.to_coo()  # pyright: ignore[reportAttributeAccessIssue]
    blocks = [slice(i, i + BLOCK) for i in range(0, pre.size, BLOCK)]
    flat = np.concatenate([np.empty(0), *(lengths((pre_x[pre[s]] - post_x[post[s]]).T, period) for s in blocks)])
    if isinstance(topology, FixedFanout):
        return flat.reshape(topology.n_pre, topology.k)
    return flat.reshape(topology.n_post, topology.k) if isinstance(topology, FixedFanin) else flat


def _space(
    owner: str, positions_pre: Any, positions_post: Any, extent: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wrapped positions (n, dims), and the period of each dimension, infinite where it does not close."""
    pre = _positions(owner, "positions_pre", positions_pre)
    post = pre if positions_post is None else _positions(owner, "positions_post", positions_post)
    if pre.shape[1] != post.shape[1]:
        raise ValueError(f"{owner}: positions have {pre.shape[1]} and {post.shape[1]} dimensions; expected the same.")
    dims = pre.shape[1]
    if extent is None:
        return pre, post, np.full(dims, math.inf)
    period = np.atleast_1d(np.asarray(extent, float))
    if period.shape != (dims,) or not np.all(period > 0):
        raise ValueError(
            f"{owner}.extent is {extent!r}; expected {dims} positive periods, one for each dimension (math.inf: does "
            f"not close)."
        )
    closed = np.isfinite(period)
    pre, post = pre.copy(), post.copy()
    for x in (pre, post):
        x[:, closed] %= period[closed]
    return pre, post, period


def _positions(owner: str, name: str, x: Any) -> Float[np.ndarray, "n dims"]:
    a = np.asarray(x)
    a = a[:, None] if a.ndim == 1 else a
    if (
        a.ndim != 2
        or a.shape[1] == 0
        or not (np.issubdtype(a.dtype, np.floating) or np.issubdtype(a.dtype, np.integer))
    ):
        raise ValueError(
            f"{owner}.{name} is an array of {a.dtype} of shape {a.shape}; expected real numbers (n, dims)."
        )
    if not np.all(np.isfinite(a)):
        raise ValueError(
            f"{owner}.{name} contains NaN or infinity; every unit needs a place. Mend the positions given."
        )
    return a.astype(float)
