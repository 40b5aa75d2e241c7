"""Random graphs, and what the operators must compute, in plain numpy and in plain dense JAX."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainsim.events import CSR, FixedFanin, FixedFanout

FLOAT = np.dtype(jnp.zeros(()).dtype)
EPS = float(np.finfo(FLOAT).eps)
SUMS = 2**8 * EPS  # sums of up to a hundred terms of order 1, added in another order


def assert_same(x, y):
    """Equal in every bit; on a GPU, whose kernels add up in any order, to the rounding of the sums."""
    if jax.default_backend() == "cpu":
        np.testing.assert_array_equal(x, y)
    else:
        np.testing.assert_allclose(x, y, rtol=SUMS, atol=SUMS)


@dataclass(frozen=True)
class Case:
    """A graph with everything that can be sent over it."""

    topology: Any
    pre: np.ndarray
    post: np.ndarray
    weight: Any
    value: Any
    inbox: Any
    slot: Any
    delay: Any
    support: Any
    first: int

    def operands(self):
        return self.inbox, self.weight, self.value

    @property
    def words(self):
        return pack(self.value)


def array(x):
    return jnp.asarray(np.asarray(x), FLOAT)


def pack(value):
    """Bit k of word w: whether value[..., 32 w + k] is not zero."""
    hit = np.asarray(value) != 0
    hit = np.pad(hit, [(0, 0)] * (hit.ndim - 1) + [(0, -hit.shape[-1] % 32)])
    return jnp.asarray(np.packbits(hit, axis=-1, bitorder="little").view("<u4"))


def make(
    seed,
    *,
    n_pre=17,
    n_post=5,
    n_syn=40,
    fanout=None,
    fanin=None,
    scalar=False,
    delays=True,
    depth=3,
    active=0.4,
    first=0,
    rest=0,
) -> Case:
    """A random graph with empty rows, repeated targets, zero weights and silent units; `fanout` fixes row lengths,
    `fanin` those of columns.

    It is sent over by units `first` to `first + n_pre` of those that have values; `rest` come after them.
    """
    rng = np.random.default_rng(seed)
    if fanin is not None:
        pre, post = rng.integers(0, n_pre, n_post * fanin), np.repeat(np.arange(n_post), fanin)
        topology, like = FixedFanin(pre.reshape(n_post, fanin), n_pre), (n_post, fanin)
    elif fanout is None:
        pre = (
            np.sort(rng.integers(0, max(n_pre, 1), n_syn) // 2 * 2)
            if n_pre > 2
            else np.sort(rng.integers(0, max(n_pre, 1), n_syn))
        )
        pre = np.minimum(pre, max(n_pre - 1, 0))
        post = rng.integers(0, max(n_post, 1), n_syn)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(pre, minlength=n_pre))]).astype(np.int64)
        topology, like = CSR(indptr, post, n_post), (n_syn,)
    else:
        pre = np.repeat(np.arange(n_pre), fanout)
        post = rng.integers(0, n_post, n_pre * fanout)
        topology, like = FixedFanout(post.reshape(n_pre, fanout), n_post), (n_pre, fanout)
    weight = rng.normal(size=() if scalar else like) * (rng.random(() if scalar else like) < 0.9)
    n = first + n_pre + rest
    value = rng.normal(size=n) * (rng.random(n) < active)
    delay = jnp.asarray(rng.integers(0, depth, like), jnp.int32) if delays else None
    return Case(
        topology,
        pre,
        post,
        array(weight),
        array(value),
        array(rng.normal(size=(depth, n_post))),
        jnp.int32(rng.integers(0, 2 * depth)),
        delay,
        jnp.asarray(rng.random(n) < 0.3),
        first,
    )


def flat(x, n_syn):
    """One number for each synapse."""
    return np.broadcast_to(np.asarray(x).reshape(-1), (n_syn,))


def expected(case: Case):
    """The inbox after the deposit, synapse by synapse, in double precision."""
    n = case.pre.size
    weight, delay = flat(case.weight, n), flat(0 if case.delay is None else case.delay, n)
    out = np.array(case.inbox, np.float64)
    for j in range(n):
        value = float(case.value[case.first + case.pre[j]])
        out[(int(case.slot) + delay[j]) % out.shape[0], case.post[j]] += value * float(weight[j])
    return out


def dense(case: Case, inbox, weight, value):
    """The deposit in plain JAX, without a thought for sparsity: what autodiff makes of it is the truth."""
    n = case.pre.size
    delay = flat(0 if case.delay is None else case.delay, n)
    rows = jnp.asarray((int(case.slot) + delay) % inbox.shape[0])
    return inbox.at[rows, jnp.asarray(case.post)].add(
        value[jnp.asarray(case.first + case.pre)] * jnp.broadcast_to(weight.reshape(-1), (n,))
    )
