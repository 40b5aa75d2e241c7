"""Connectivity that is drawn whenever it is needed and never stored: memory does not grow with the synapses."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from ..base import float_dtype, is_traced
from . import _draws, _random
from ._draws import DISTINCT, LEAST_P, NORMAL, ONE, REPEATED, SOME, UNIFORM, Plan
from ._formats import CSR, AbstractTopology, _size

LAWS = {"one": ONE, "uniform": UNIFORM, "normal": NORMAL}


class DrawnRows(AbstractTopology):
    """Rows of random synapses, drawn from a counter-based generator each time a unit sends and never stored.

    Every operator, its derivatives and its batches draw the same matrix on every backend: that of `to_csr()`. `seed` is
    a leaf, so topologies are batched by `jax.vmap` over seeds. Build with `fixed_probability` or `fixed_out_degree`.

    Weights are one number, or drawn by a `law` from two parameters, in which they are linear: `"uniform"`,
    w = low + (high - low) u, or `"normal"`, w = mean + std z. There are no columns to read, no array with one entry per
    synapse, and so no weights or delays per synapse given by arrays; use the stored formats for those.
    """

    seed: UInt32[Array, "2"]
    n_post: int = eqx.field(static=True)
    plan: Plan = eqx.field(static=True)

    def __init__(self, seed: UInt32[Array, "2"], n_post: int, plan: Plan):
        """From checked parts; see `fixed_probability` and `fixed_out_degree`."""
        self.seed, self.n_post, self.plan = seed, n_post, plan

    @property
    def n_pre(self) -> int:
        """Number of pre units."""
        return self.plan.n_pre

    @property
    def n_syn(self) -> int:
        """Number of synapses: exact for a fixed out-degree, the expected number for a fixed probability."""
        plan = self.plan
        if plan.kind != SOME:
            return plan.n_pre * plan.k
        lost = 0 if plan.twin is None else max(0, min(plan.n_pre, plan.n - plan.twin) - max(0, -plan.twin))
        return round(plan.p * (plan.n_pre * plan.n - lost))

    @property
    def law(self) -> str:
        """How weights are drawn: `"one"` (one number for all), `"uniform"` or `"normal"`."""
        return next(name for name, law in LAWS.items() if law == self.plan.law)

    @staticmethod
    def fixed_probability(
        seed: Any, n_pre: int, n_post: int, p: float, *, twin: int | None = None, law: str = "one"
    ) -> "DrawnRows":
        """Every pair is connected with probability `p`, independently of all others; no multapses.

        - `seed`: a JAX key, or two uint32.
        - `p`: 0, or 2^-26 <= p <= 1. Gaps between targets are geometric, their distribution function exact to 2^-26.
        - `twin`: row i never reaches post unit i + twin (0: no autapses where pre and post are the same units).
        - `law`: of the weights.

        The work of a row is proportional to its synapses.
        """
        if isinstance(p, bool) or not isinstance(p, int | float | np.floating) or not (p == 0 or LEAST_P <= p <= 1):
            raise ValueError(f"DrawnRows.p is {p!r}; expected a probability, 0 or from 2**-26 to 1.")
        return _make(seed, n_pre, n_post, twin, law, dict(kind=SOME, p=float(p)))

    @staticmethod
    def fixed_out_degree(
        seed: Any,
        n_pre: int,
        n_post: int,
        k: int,
        *,
        multapses: bool = False,
        twin: int | None = None,
        law: str = "one",
    ) -> "DrawnRows":
        """Every row has exactly `k` targets: the first k of a pseudorandom permutation, or with `multapses` k draws.

        Arguments as in `fixed_probability`. Raises ValueError where there are fewer targets than are asked for.
        """
        k = _size("DrawnRows", "k", k)
        n_pre, n_post = _size("DrawnRows", "n_pre", n_pre), _size("DrawnRows", "n_post", n_post)
        holed = twin is not None and max(0, -twin) < min(n_pre, n_post - twin)
        least = n_post - holed
        if n_pre and least < (min(k, 1) if multapses else k):
            fix = "Lower k" if multapses or least == 0 else "Lower k, or pass multapses=True"
            raise ValueError(f"DrawnRows: k = {k} targets are asked for and there are {least} to choose from. {fix}.")
        return _make(seed, n_pre, n_post, twin, law, dict(kind=REPEATED if multapses else DISTINCT, k=k))

    def into(self, n_post: int, start: int, step: int) -> "DrawnRows":
        """The same synapses with target t at post unit start + step t of `n_post`."""
        plan = dataclasses.replace(self.plan, start=start, step=step)
        if plan.n and not (start >= 0 and step > 0 and start + step * (plan.n - 1) < n_post):
            raise ValueError(f"DrawnRows.into: {plan.n} targets from {start} by {step} do not fit into {n_post} units.")
        return DrawnRows(self.seed, n_post, plan)

    def drawing(self, law: str) -> "DrawnRows":
        """The same synapses with weights drawn by `law`."""
        return DrawnRows(self.seed, self.n_post, dataclasses.replace(self.plan, law=_law(law)))

    def theta(self, parameters: Array) -> Array:
        """The weights' coefficients: w_j = theta[0] + theta[1] x_j, of the law's parameters."""
        if self.law == "one":
            return parameters.reshape(1)
        return jnp.stack([parameters[0], parameters[1] - parameters[0]]) if self.law == "uniform" else parameters

    def to_csr(self, weight: Any = 1.0) -> tuple[CSR, Array]:
        """The matrix that the operators use, stored: the CSR, rows ascending, and the weights (n_syn,) of `weight`.

        `weight` as in `deposit`. Raises ValueError on traced seeds or where 32-bit indices cannot hold it.
        """
        if is_traced(self.seed):
            raise ValueError("DrawnRows.to_csr needs the numbers of the seed; call it outside of jit and vmap.")
        plan, lanes = self.plan, _HOST_LANES
        if self.n_syn > 2**31 - 2**20:
            raise ValueError(f"DrawnRows.to_csr: about {self.n_syn} synapses; expected fewer than 2**31.")
        weight = jnp.asarray(weight, float_dtype()) if isinstance(weight, int | float) else jnp.asarray(weight)
        theta, tables = self.theta(weight), jnp.asarray(plan.tables())
        pre, post, w = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, weight.dtype)]
        for at in range(0, plan.n_pre * plan.segments, lanes):
            rows, segments = np.divmod(at + np.arange(lanes), plan.segments)
            mine = rows < plan.n_pre
            row, segment = jnp.asarray(rows % plan.n_pre, jnp.uint32), jnp.asarray(segments, jnp.uint32)
            cursor, turn, more = jnp.zeros(lanes, jnp.uint32), 0, True
            while more:
                drawn = _synapses(plan, self.seed, tables, row, segment, jnp.uint32(turn), cursor, weight.dtype)
                to, live, x, cursor, going = drawn
                keep = np.asarray(live) & mine[:, None]
                each = theta[0] if x is None else theta[0] + theta[1] * x
                pre.append(np.broadcast_to(rows[:, None], keep.shape)[keep])
                post.append(np.asarray(to)[keep])
                w.append(np.broadcast_to(np.asarray(each), keep.shape)[keep])
                more, turn = bool(np.any(np.asarray(going) & mine)), turn + 1
        csr, order = CSR.from_coo(np.concatenate(pre), np.concatenate(post), plan.n_pre, self.n_post)
        return csr, jnp.asarray(np.concatenate(w)[order])


_HOST_LANES = 1 << 12
_synapses = jax.jit(_draws.synapses, static_argnums=(0, 7))


def _law(law: str) -> int:
    if law not in LAWS:
        raise ValueError(f"DrawnRows.law is {law!r}; expected one of {sorted(LAWS)}.")
    return LAWS[law]


def _make(seed: Any, n_pre: int, n_post: int, twin: int | None, law: str, how: dict[str, Any]) -> DrawnRows:
    n_pre, n_post = _size("DrawnRows", "n_pre", n_pre), _size("DrawnRows", "n_post", n_post)
    if twin is not None and (isinstance(twin, bool) or not isinstance(twin, int) or abs(twin) >= 2**31):
        raise TypeError(f"DrawnRows.twin is {twin!r}; expected a whole number or None.")
    plan = Plan(n_pre, n_post, law=_law(law), twin=twin, **how)
    if plan.n_pre * max(plan.segments, 1) >= 2**31:
        raise ValueError(
            f"DrawnRows: {n_pre} rows of {plan.segments} segments; expected fewer than 2**31 segments. Split the edge."
        )
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        seed = _random.seed_of(seed)
    seed = jnp.asarray(seed)
    if seed.shape != (2,) or seed.dtype != jnp.uint32:
        raise TypeError(f"DrawnRows.seed is {seed.dtype}{list(seed.shape)}; expected a JAX key or two uint32.")
    return DrawnRows(seed, n_post, plan)
