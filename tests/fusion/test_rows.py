"""Programs over the synapses of rows: played and in place, in JAX, over all synapses; in batches; without copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainsim import fusion
from brainsim.fusion._rows import masked, rows_p
from brainsim.fusion._scan import scan_p
from brainsim.fusion._tape import COPY, ROWS, tape_of

LENGTHS = [0, 3, 16, 17, 40, 1, 0, 31]  # of rows: none, tails, whole vectors
N, UNITS, STEPS = sum(LENGTHS), 9, 6


def graph(rng, column):
    indptr = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)
    other = rng.integers(0, UNITS, N).astype(np.int32)
    order = rng.permutation(N).astype(np.int32) if column else np.zeros(0, np.int32)
    return fusion.Rows(*map(jnp.asarray, (indptr, other, order)))


def change(scalars, row, far, synapses):
    (a,), (x,), (y, v), (w, e) = scalars, row, far, synapses
    return [jnp.clip(w + a * x * y - e * v, 0.0, 1.0), jnp.where(v > 0.5, e * x, e + 0.1)]


def operands(dtype, seed, batch=()):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.uniform(0, 1, (*batch, *shape)), dtype)  # noqa: E731
    value = (rng.uniform(0, 1, (*batch, STEPS, len(LENGTHS))) < 0.5).astype(dtype)
    return jnp.asarray(value), draw(), draw(len(LENGTHS)), draw(UNITS), draw(UNITS), draw(N), draw(N)


def played(g):
    def f(value, a, x, y, v, w, e):
        def step(carry, value):
            return fusion.rows(change, (value, None, 1), g, [a], [x], [y, v], carry), ()

        return fusion.scan(step, [w, e], value, STEPS)[0]

    return f


def by_hand(g, value, a, x, y, v, w, e):
    w, e = np.array(w), np.array(e)
    for s in np.asarray(value):
        for i in np.flatnonzero(s):
            for k in range(g.indptr[i], g.indptr[i + 1]):
                o, j = int(g.order[k]) if g.order.size else k, int(g.other[k])
                w[o], e[o] = (
                    np.asarray(z) for z in change([a], [x[i]], [y[j], v[j]], [jnp.asarray(w[o]), jnp.asarray(e[o])])
                )
    return w, e


@pytest.mark.parametrize("column", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_played_is_the_rule_one_by_one(column, dtype):
    with jax.enable_x64(dtype == np.float64):
        g, args = graph(np.random.default_rng(1), column), operands(dtype, 2)
        with fusion.observed() as said:
            out = played(g)(*args)
        assert {*said} == {fusion.unavailable()}
        tolerance = 4 * STEPS * np.finfo(dtype).eps
        for x, expected in zip(out, by_hand(g, *args), strict=True):
            np.testing.assert_allclose(x, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("column", [False, True], ids=["rows", "columns"])
def test_batches_in_jax_and_played(column):
    g, args = graph(np.random.default_rng(1), column), operands(np.float32, 3, (3,))
    alone = [played(g)(*(x[k] for x in args)) for k in range(3)]
    together = jax.vmap(played(g))(*args)

    def one(value, a, x, y, v, w, e):
        for s in value:
            w, e = fusion.rows(change, (s, None, 1), g, [a], [x], [y, v], [w, e])
        return w, e

    looped = jax.vmap(jax.vmap(one))(*(jnp.stack([x, x]) for x in args))
    for k in range(3):
        for x, y, z in zip(alone[k], together, looped, strict=True):
            np.testing.assert_array_equal(x, y[k])
            np.testing.assert_allclose(x, z[1, k], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("column", [False, True], ids=["rows", "columns"])
def test_the_derivative_is_that_over_all_synapses(column):
    g, args = graph(np.random.default_rng(1), column), operands(np.float32, 4)

    def visits(value, a, x, y, v, w, e):
        for s in value:
            w, e = fusion.rows(change, (s, None, 1), g, [a], [x], [y, v], [w, e])
        return w, e

    def dense(value, *numbers):
        programs = [e for e in jax.make_jaxpr(visits)(value, *numbers).eqns if e.primitive is rows_p]
        *numbers, w, e = numbers
        for s in value:
            given = (s, jnp.zeros(0, jnp.uint32), jnp.int32(1), *g, *numbers, w, e)
            w, e = masked(programs[0].params["program"], *given)
        return w, e

    loss = lambda f: lambda *x: sum(jnp.sum(jnp.cos(y)) for y in f(args[0], *x))  # noqa: E731
    ours, theirs = (jax.grad(loss(f), argnums=range(6))(*args[1:]) for f in (visits, dense))
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("after", [True, False], ids=["new", "old"])
def test_no_synapses_are_copied_whoever_reads_them(after):
    if fusion.unavailable():
        pytest.skip("nothing is played here")
    g, (value, a, x, y, v, w, e) = graph(np.random.default_rng(1), False), operands(np.float32, 5)

    def step(carry, s):
        new = fusion.rows(change, (s, None, 1), g, [a], [x], [y, v], carry)
        return new, jnp.sum((new if after else carry)[0])

    traced = jax.make_jaxpr(lambda *c: fusion.scan(step, [*c], value, STEPS))(w, e)
    (eqn,) = [e for e in traced.eqns if e.primitive is scan_p]
    kinds = [(op, max(numbers, default=0)) for op, _, numbers in tape_of(eqn.params["body"]).instructions]
    assert sum(op == ROWS for op, _ in kinds) == 1
    assert not [size for op, size in kinds if op == COPY and size >= 4 * N]
