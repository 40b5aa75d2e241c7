"""Random graphs without geometry."""

from typing import Any, ClassVar

import numpy as np

from ..base import Key
from ..events import CSR, FixedFanout
from ._rule import AbstractRule, Built, Same, check_pairs, count, flag, generator, probability, twins
from ._sample import PIECE, rows_of_codes, skip, subsets, successes, transpose


class FixedProbability(AbstractRule):
    """Every pair (pre, post) is connected with probability `p`, independently of all others (Erdos-Renyi).

    **Arguments:** `p` in [0, 1]; `autapses`: whether a unit may send to itself. There are no multapses.
    **Builds** a CSR of Binomial(pairs, p) synapses. **Raises** ValueError for p outside [0, 1].

    **Example**

    >>> import jax
    >>> FixedProbability(1.0, autapses=False).build(5, 5, same=True, key=jax.random.key(0)).topology.n_syn
    20
    """

    random: ClassVar[bool] = True
    p: float
    autapses: bool = True

    def __init__(self, p: Any, autapses: bool = True):
        self.p = probability(p, "FixedProbability", "p")
        self.autapses = flag(autapses, "FixedProbability", "autapses")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        twin = twins(self, n_pre, n_post, same)
        expected = self.p * n_pre * n_post
        check_pairs(self, n_pre, n_post, expected)
        codes = successes(generator(self, key), self.p, n_pre * n_post)
        # to leave out pairs from independent trials leaves the other trials as they were
        return Built(CSR(*rows_of_codes(codes, expected, n_pre, n_post, None if self.autapses else twin), n_post))


class FixedInDegree(AbstractRule):
    """Every post unit receives exactly `k` synapses, from units chosen uniformly.

    **Arguments:** `k` >= 0; `autapses`: whether a unit may send to itself; `multapses`: whether a pair may be connected
    more than once. Without multapses the k sources are a uniform subset, with them k independent uniform draws.
    **Builds** a CSR of k * n_post synapses. **Raises** ValueError when there are fewer than k sources to choose from.

    **Example**

    >>> import jax
    >>> FixedInDegree(100).build(4000, 400, same=False, key=jax.random.key(0)).topology.n_syn
    40000
    """

    random: ClassVar[bool] = True
    k: int
    autapses: bool = True
    multapses: bool = False

    def __init__(self, k: Any, autapses: bool = True, multapses: bool = False):
        self.k = count(k, "FixedInDegree", "k")
        self.autapses = flag(autapses, "FixedInDegree", "autapses")
        self.multapses = flag(multapses, "FixedInDegree", "multapses")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        twin = twins(self, n_pre, n_post, same)
        check_pairs(self, n_pre, n_post, self.k * n_post)
        hole = None
        if twin is not None and not self.autapses:
            hole = np.full(n_post, -1)
            hole[twin[twin >= 0]] = np.flatnonzero(twin >= 0)
        rng = generator(self, key)
        table = _table(self, rng, n_post, n_pre, hole, "pre")
        return Built(CSR(*transpose(table, n_pre), n_post))


class FixedOutDegree(AbstractRule):
    """Every pre unit sends exactly `k` synapses, to units chosen uniformly.

    **Arguments:** `k` >= 0; `autapses`: whether a unit may send to itself; `multapses`: whether a pair may be connected
    more than once. Without multapses the k targets are a uniform subset, with them k independent uniform draws.
    **Builds** a FixedFanout (n_pre, k), its rows ascending. **Raises** ValueError when there are fewer than k targets.

    **Example**

    >>> import jax
    >>> FixedOutDegree(100).build(400, 4000, same=False, key=jax.random.key(0)).topology.k
    100
    """

    random: ClassVar[bool] = True
    k: int
    autapses: bool = True
    multapses: bool = False

    def __init__(self, k: Any, autapses: bool = True, multapses: bool = False):
        self.k = count(k, "FixedOutDegree", "k")
        self.autapses = flag(autapses, "FixedOutDegree", "autapses")
        self.multapses = flag(multapses, "FixedOutDegree", "multapses")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        twin = twins(self, n_pre, n_post, same)
        check_pairs(self, n_pre, n_post, self.k * n_pre)
        table = _table(self, generator(self, key), n_pre, n_post, None if self.autapses else twin, "post")
        return Built(FixedFanout(table, n_post))


def _table(
    rule: FixedInDegree | FixedOutDegree,
    rng: np.random.Generator,
    rows: int,
    n: int,
    hole: np.ndarray | None,
    side: str,
) -> np.ndarray:
    """(rows, k) partners out of range(n), ascending; row i never holds `hole[i]` where that is not -1."""
    holed = np.zeros(rows, bool) if hole is None else hole >= 0
    table = np.empty((rows, rule.k), np.int32)
    for has_hole in (False, True):
        mine = holed == has_hole
        if rule.k == 0 or not mine.any():
            continue
        choice = n - has_hole
        if choice < (1 if rule.multapses else rule.k):
            refused = " without the unit itself, as autapses are refused" if has_hole else ""
            fix = "Lower k" if rule.multapses or choice == 0 else "Lower k, or pass multapses=True"
            raise ValueError(
                f"{rule}: k = {rule.k} partners are asked for each unit and there are {choice} to choose from "
                f"(n_{side} = {n}{refused}); expected k <= {choice}. {fix}."
            )
        part = _draws(rng, int(mine.sum()), rule.k, choice, rule.multapses)
        part = skip(part, hole[mine]) if has_hole and hole is not None else part
        if mine.all():
            return part
        table[mine] = part
    return table


def _draws(rng: np.random.Generator, rows: int, k: int, n: int, multapses: bool) -> np.ndarray:
    """(rows, k) uniform values of range(n), rows ascending: independent draws if `multapses`, else subsets."""
    if not multapses:
        return subsets(rng, rows, k, n)
    drawn = rng.integers(0, n, (rows, k), np.int32)
    drawn.sort(axis=1)
    return drawn


class FixedTotalNumber(AbstractRule):
    """Exactly `n` synapses, over pairs chosen uniformly from all.

    **Arguments:** `n` >= 0; `autapses`: whether a unit may send to itself; `multapses`: whether a pair may be connected
    more than once. Without multapses the pairs are a uniform n-subset, with them n independent uniform draws.
    **Builds** a CSR of n synapses. **Raises** ValueError when there are fewer than n pairs to choose from.

    **Example**

    >>> import jax
    >>> FixedTotalNumber(10_000).build(400, 400, same=True, key=jax.random.key(0)).topology.n_syn
    10000
    """

    random: ClassVar[bool] = True
    n: int
    autapses: bool = True
    multapses: bool = False

    def __init__(self, n: Any, autapses: bool = True, multapses: bool = False):
        self.n = count(n, "FixedTotalNumber", "n")
        self.autapses = flag(autapses, "FixedTotalNumber", "autapses")
        self.multapses = flag(multapses, "FixedTotalNumber", "multapses")

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        twin = twins(self, n_pre, n_post, same)
        check_pairs(self, n_pre, n_post, self.n)
        holes = np.empty(0, np.int64)
        if twin is not None and not self.autapses:
            own = np.flatnonzero(twin >= 0)
            holes = own * n_post + twin[own]
        pairs = n_pre * n_post - holes.size
        if self.n > 0 and pairs < (1 if self.multapses else self.n):
            refused = f" less {holes.size} autapses, which are refused" if holes.size else ""
            fix = "Lower n" if self.multapses or pairs == 0 else "Lower n, or pass multapses=True"
            raise ValueError(
                f"{self}: n = {self.n} synapses are asked for and there are {pairs} pairs to choose from "
                f"({n_pre} * {n_post}{refused}); expected n <= {pairs}. {fix}."
            )
        rng = generator(self, key)
        if self.multapses and self.n:
            codes = rng.integers(0, pairs, self.n)
            codes.sort()
        else:
            codes = subsets(rng, 1, self.n, pairs)[0].astype(np.int64)
        if holes.size:
            # number r among the allowed pairs is number r + (holes before it) among all
            before = np.searchsorted(codes, holes - np.arange(holes.size))
            codes += np.repeat(np.arange(holes.size + 1), np.diff(before, prepend=0, append=codes.size))
        blocks = (codes[i : i + PIECE] for i in range(0, codes.size, PIECE))
        return Built(CSR(*rows_of_codes(blocks, codes.size, n_pre, n_post, None), n_post))
