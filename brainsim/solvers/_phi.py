"""`phi1(Z) = (exp(Z) - 1) / Z` and `phi2(Z) = (phi1(Z) - 1) / Z` of small sparse matrices, one for each unit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Matrix = dict[tuple[int, int], Array]
"""The entries that are not zero by structure, by row and column, each of shape () or (n,)."""

_DOUBLINGS = 28
"""Halvings of a matrix until its Taylor series converges: up to `dt / tau` of 1e8."""

_CONVERGED = 0.5
"""Size of a matrix from which its series is summed: 8 terms (float32) and 14 (float64) leave less than a rounding."""


def product(p: Matrix, q: Matrix) -> Matrix:
    """`p q`, summed in the order of the inner index."""
    out: Matrix = {}
    for i, k in sorted(p):
        for l, j in sorted(q):
            if k == l:
                term = p[i, k] * q[l, j]
                out[i, j] = out[i, j] + term if (i, j) in out else term
    return out


@jax.jit
def phis(z: Matrix) -> tuple[Matrix, Matrix]:
    """`(phi1(Z), phi2(Z))`, with the entries that paths of couplings reach.

    By scaling and squaring: the series at `Z / 2^s`, then s times `phi1(2Z) = phi1(Z) + Z phi1(Z)^2 / 2` and
    `phi2(2Z) = (phi1(Z)^2 + 2 phi2(Z)) / 4`. Neither divides by a difference of rates, so that equal time constants are
    as accurate as others; for decay (rates below 0) nothing cancels. s is that of each unit. Source: Higham 2008,
    Functions of Matrices, ch. 10; Al-Mohy & Higham 2011, doi:10.1137/100788860.
    """
    rows = sorted({i for ij in z for i in ij})
    some = next(iter(z.values()))
    size = functools.reduce(jnp.maximum, [jnp.abs(x) for ij, x in z.items() if _circular(z, *ij)])
    limits = np.asarray(_CONVERGED * 2.0 ** np.arange(_DOUBLINGS), some.dtype).reshape(*(1,) * size.ndim, -1)
    halvings = jnp.sum(jax.lax.stop_gradient(size)[..., None] > limits, axis=-1, dtype=jnp.int32)
    scale = jnp.asarray(0.5 ** np.arange(_DOUBLINGS + 1), some.dtype)[halvings]
    # entries that products reach, each in the shape that it then has
    small = {ij: x * scale for ij, x in z.items()} | {(k, k): z[k, k] * scale for k in rows}
    reached = functools.reduce(lambda m, _: jax.eval_shape(_reach, m, small), rows, jax.eval_shape(lambda: small))
    unit = {(i, j): jnp.full(x.shape, float(i == j), x.dtype) for (i, j), x in reached.items()}

    def term(carry, k):
        power, first, second = carry
        power = unit_less | {ij: x * (1.0 / k) for ij, x in product(power, small).items()}
        first = {ij: x + power[ij] * (1.0 / (k + 1.0)) for ij, x in first.items()}
        second = {ij: x + power[ij] * (1.0 / ((k + 1.0) * (k + 2.0))) for ij, x in second.items()}
        return (power, first, second), None

    unit_less = jax.tree.map(jnp.zeros_like, unit)
    begin = (unit, unit, {ij: 0.5 * x for ij, x in unit.items()})
    orders = jnp.arange(1, 9 if some.dtype == jnp.float32 else 15, dtype=some.dtype)
    (_, first, second), _ = jax.lax.scan(term, begin, orders)

    def double(carry, k):
        z, first, second = carry
        # in this order an error of a coupling grows by its own rates, not by the ratio of the two
        more = product(first, product(z, first))
        more = {ij: x + 0.5 * more[ij] for ij, x in first.items()}
        mean = {ij: 0.25 * x + 0.5 * second[ij] for ij, x in product(first, first).items()}
        new = ({ij: 2.0 * x for ij, x in z.items()}, more, mean)
        return jax.tree.map(lambda a, b: jnp.where(k < halvings, a, b), new, carry), None

    steps = jnp.arange(_DOUBLINGS, dtype=jnp.int32)
    (_, first, second), _ = jax.lax.scan(double, (small, first, second), steps)
    return first, second


def _reach(m: Matrix, z: Matrix) -> Matrix:
    """The entries of `m + m z`."""
    longer = product(m, z)
    return {ij: m[ij] + longer[ij] if ij in m and ij in longer else (m | longer)[ij] for ij in m | longer}


def _circular(z: Matrix, i: int, j: int) -> bool:
    """Whether the coupling of `i` to `j` lies on a cycle, as every rate of its own does: others do not make powers of
    the matrix grow, in whatever units they are."""
    reached, ahead = {i}, [i]
    while ahead:
        k = ahead.pop()
        for a, b in z:
            if b == k and a not in reached:
                reached.add(a)
                ahead.append(a)
    return j in reached
