"""Graphs with a fixed pattern, and the small world between order and chance."""

from typing import Any, ClassVar

import numpy as np

from ..base import Key
from ..events import Dense, FixedFanout
from ._rule import AbstractRule, Built, Same, check_pairs, count, flag, generator, probability, twins
from ._sample import BLOCK, make_distinct, skip


class OneToOne(AbstractRule):
    """Pre unit i sends to post unit i; both sides have the same size.

    **Builds** a FixedFanout (n, 1). **Raises** ValueError for different sizes.

    **Example**

    >>> OneToOne().build(3, 3, same=False, key=None).topology.indices.tolist()
    [[0], [1], [2]]
    """

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        if n_pre != n_post:
            raise ValueError(
                f"{self} joins unit i to unit i but there are {n_pre} pre and {n_post} post units; expected equal "
                f"sizes. "
                f"Use a view of the larger population, or FromCOO."
            )
        return Built(FixedFanout(np.arange(n_pre, dtype=np.int32)[:, None], n_post))


class AllToAll(AbstractRule):
    """Every pre unit sends to every post unit, one synapse each, event by event.

    **Arguments:** `autapses`: whether a unit sends to itself.
    **Builds** a FixedFanout (n_pre, n_post), or (n_pre, n_post - 1) without autapses; `DenseMatrix` gives a weight
    matrix.

    **Example**

    >>> AllToAll(autapses=False).build(3, 3, same=True, key=None).topology.indices.tolist()
    [[1, 2], [0, 2], [0, 1]]
    """

    autapses: bool = True

    def __init__(self, autapses: bool = True):
        self.autapses = flag(autapses, "AllToAll", "autapses")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        check_pairs(self, n_pre, n_post, n_pre * n_post)
        twin = None if self.autapses else twins(self, n_pre, n_post, same)
        if twin is None:
            return Built(FixedFanout(np.tile(np.arange(n_post, dtype=np.int32), (n_pre, 1)), n_post))
        if not np.all(twin >= 0):
            raise ValueError(
                f"{self}: {int(np.sum(twin < 0))} of {n_pre} pre units are not among the post units, so the rows "
                f"would differ "
                f"in length; expected all or none. Split the projection, or use FixedProbability(1.0, autapses=False)."
            )
        others = np.tile(np.arange(n_post - 1, dtype=np.int32), (n_pre, 1))
        return Built(FixedFanout(skip(others, twin), n_post))


class DenseMatrix(AbstractRule):
    """Every pre unit sends to every post unit through a weight matrix (n_pre, n_post), as in an artificial network.

    For small, densely active layers; `AllToAll` makes the same graph for sparse events. The diagonal belongs to the
    weight. Delays per synapse cost a matrix product for every step of the line.
    **Builds** a Dense.

    **Example**

    >>> DenseMatrix().build(128, 64, same=False, key=None).topology.n_syn
    8192
    """

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        return Built(Dense(n_pre, n_post))


class SmallWorld(AbstractRule):
    """A ring on which every unit sends to its `k` nearest, each synapse rewired with probability `p`.

    Directed form of D. J. Watts and S. H. Strogatz (1998, doi:10.1038/30918): p = 0 is their ring, of clustering
    3(k - 2) / 4(k - 1); a rewired synapse keeps its source and gets a target uniform over the units that are neither
    the source nor its target already. Every out-degree stays k; p = 1 is `FixedOutDegree(k, autapses=False)`.

    **Arguments:** `k`: even, half to each side; `p` in [0, 1]. Never autapses or multapses.
    **Builds** a FixedFanout (n, k), rows ascending. **Raises** ValueError for odd k, k >= n, or two populations.

    **Example**

    >>> import jax
    >>> SmallWorld(2, 0.0).build(4, 4, same=True, key=jax.random.key(0)).topology.indices.tolist()
    [[1, 3], [0, 2], [1, 3], [0, 2]]
    """

    random: ClassVar[bool] = True
    k: int
    p: float

    def __init__(self, k: Any, p: Any):
        self.k = count(k, "SmallWorld", "k")
        self.p = probability(p, "SmallWorld", "p")
        if self.k % 2:
            raise ValueError(f"SmallWorld.k is {self.k}; expected an even number, half to each side. Add or take one.")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        twin = twins(self, n_pre, n_post, same)
        if twin is None or n_pre != n_post or not np.array_equal(twin, np.arange(n_pre)):
            raise ValueError(
                f"{self} is a ring of one population and got two (n_pre = {n_pre}, n_post = {n_post}); expected the "
                f"same "
                f"units on both sides. Connect the population to itself."
            )
        if self.k >= max(n_pre, 1) and self.k > 0:
            raise ValueError(
                f"{self}: k = {self.k} neighbours in a ring of {n_pre} units; expected k < {n_pre}. Lower k."
            )
        check_pairs(self, n_pre, n_post, n_pre * self.k)
        rng = generator(self, key)
        half = np.arange(1, self.k // 2 + 1, dtype=np.int32)
        ring = np.concatenate(
            [half, n_pre - half[::-1]]
        )  # distances (post - pre) mod n, ascending; 0 is the unit itself
        out = np.empty((n_pre, self.k), np.int32)
        for start in range(0, n_pre, step := max(1, BLOCK // max(self.k, 1))):
            block = out[start : start + step]
            block[:] = ring
            moved = np.flatnonzero(rng.random(block.size) < self.p)
            _rewire(rng, block, moved, n_pre)
            block += np.arange(start, start + len(block), dtype=np.int32)[:, None]
            block %= n_pre
            block.sort(axis=1)
        return Built(FixedFanout(out, n_post))


def _rewire(rng: np.random.Generator, block: np.ndarray, moved: np.ndarray, n: int) -> None:
    """Draw the distances at the flat positions `moved` anew from 1..n-1, distinct from each other and the rest."""
    block.reshape(-1)[moved] = rng.integers(1, n, moved.size, np.int32)
    block.sort(axis=1)
    make_distinct(rng, block, 1, n)
