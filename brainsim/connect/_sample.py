"""Exact random subsets and graphs in vectorised NumPy, in blocks that stay in cache; nothing loops over rows."""

from collections.abc import Iterator

import numpy as np

from ..events import Narrow, Rows

BLOCK = 1 << 20
"""Elements that are drawn at a time."""

PIECE = 1 << 15
"""Pairs in a piece of a graph that is made piece by piece: some arrays of this length fit into the cache."""

DENSE = 8
"""Subsets of more than one in DENSE are drawn in a bitmap, smaller ones by sorting; only the speed depends on it."""


def successes(rng: np.random.Generator, p: float, total: int, block: int = PIECE) -> Iterator[np.ndarray]:
    """The indices, ascending and in int64 blocks, of the successes in `total` independent trials of probability `p`.

    The gap before the next success is geometric: floor(E / -log(1 - p)) with E standard exponential has exactly the law
    P(gap >= g) = (1 - p)^g (L. Devroye, 1986, Non-Uniform Random Variate Generation, X.2), so the work is proportional
    to the successes, not to the trials.
    """
    if p <= 0.0:
        return
    at = -1
    with np.errstate(divide="ignore"):
        rate = -np.log1p(-p)  # infinite for p = 1: every gap is 0
    while at < total - 1:
        left = total - 1 - at
        size = min(block, int(left * p + 5 * np.sqrt(left * p)) + 16)
        with np.errstate(over="ignore"):
            gaps = np.minimum(rng.standard_exponential(size) / rate, float(left)).astype(np.int64)
        gaps += 1
        found = np.cumsum(gaps, out=gaps)
        found += at
        at = int(found[-1])
        yield found if at < total else found[: np.searchsorted(found, total)]


def subsets(rng: np.random.Generator, rows: int, k: int, n: int) -> np.ndarray:
    """`rows` independent, uniformly random k-subsets of range(n), each ascending: (rows, k), int32 if n fits, else
    int64.

    A subset is the first k *distinct* values of a stream of independent uniform draws. Its law is unchanged by any
    relabelling of range(n), and so gives every k-subset the same probability. Both ways below read such a stream: they
    draw as many values as are missing, drop repeats, and go on until k are there.
    """
    out = np.empty((rows, k), np.int32 if n <= 2**31 - 1 else np.int64)
    if k == 0:
        return out
    dense = k * DENSE > n
    step = max(1, BLOCK // (n if dense else k))
    for start in range(0, rows, step):
        block = out[start : start + step]
        if dense:
            block[:] = _by_bitmap(rng, len(block), k, n)
        else:
            block[:] = rng.integers(0, n, block.shape, block.dtype)
            block.sort(axis=1)
            make_distinct(rng, block, 0, n)
    return out


def make_distinct(rng: np.random.Generator, x: np.ndarray, low: int, high: int) -> None:
    """Redraw, in place, what repeats within the rows of `x` (each ascending) uniformly from [low, high) until nothing
    does.

    Values that do not repeat at first stay: the rest of the row is then a uniform subset of the other values.
    """
    index = np.arange(len(x))
    part = x
    while True:
        row, column = np.nonzero(part[:, 1:] == part[:, :-1])
        if row.size == 0:
            return
        part[row, column] = rng.integers(low, high, row.size, x.dtype)
        bad = np.flatnonzero(np.bincount(row, minlength=len(part)))
        index, part = index[bad], part[bad]
        # one long row (a subset of all pairs) is still nearly sorted, which the stable sort uses
        part.sort(axis=1, kind="stable" if x.shape[0] == 1 else None)
        x[index] = part


def _by_bitmap(rng: np.random.Generator, rows: int, k: int, n: int) -> np.ndarray:
    """As `subsets`, for k not much smaller than n: mark draws in a bitmap; of more than half, draw the complement."""
    complement = 2 * k > n
    m = n - k if complement else k
    marked = np.zeros((rows, n), bool)
    active, missing = np.arange(rows), np.full(rows, m)
    while active.size:
        row = np.repeat(active, missing)
        marked[row, rng.integers(0, n, row.size)] = True
        missing = m - np.count_nonzero(marked[active], axis=1)
        active, missing = active[missing > 0], missing[missing > 0]
    chosen = np.flatnonzero(~marked if complement else marked).reshape(rows, k)
    return chosen - np.arange(0, rows * n, n)[:, None]


def skip(chosen: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Shift subsets of range(n - 1), the rows of `chosen`, past their `hole`: subsets of range(n) without it."""
    chosen += chosen >= hole[:, None].astype(chosen.dtype)
    return chosen


def transpose(pre: np.ndarray, n_pre: int) -> tuple[np.ndarray, np.ndarray]:
    """(indptr, indices), rows ascending, of a table (n_post, k) that lists the pre units of each post unit."""
    import scipy.sparse  # 6 MB that most programs do without

    n_post, k = pre.shape
    no_values = np.zeros(pre.size, np.int8)
    by_post = scipy.sparse.csr_array((no_values, pre.reshape(-1), np.arange(n_post + 1) * k), shape=(n_post, n_pre))
    by_pre = by_post.tocsc()  # a counting sort, which keeps repeats
    return by_pre.indptr, by_pre.indices


def rows_of_codes(
    codes: Iterator[np.ndarray], expected: float, n_pre: int, n_post: int, twin: np.ndarray | None
) -> tuple[np.ndarray, Narrow]:
    """(indptr, indices) of blocks of ascending pair numbers pre * n_post + post, without the pairs (i, twin[i]).

    `expected` pairs, on average, are made room for.
    """
    counts = np.zeros(n_pre, np.int64)
    rows = Rows(n_pre, n_post, int(expected + 6.0 * np.sqrt(expected)) + 16, ascending=True)
    for code in codes:
        if code.size == 0:
            continue
        pre = code // n_post
        post = (code - pre * n_post).astype(np.int32)
        if twin is not None:
            keep = post != twin[pre]
            pre, post = pre[keep], post[keep]
        if pre.size:
            seen = np.bincount(pre - pre[0])
            counts[pre[0] : pre[0] + seen.size] += seen
            rows.add(pre, post)
    indptr = np.zeros(n_pre + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr, Narrow(rows.finish())
