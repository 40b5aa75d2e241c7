"""Programs over arrays in memory: every operation against JAX, alone; then in scans that are played."""

import ctypes

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import brainsim as bs
from brainsim.events import _ffi, deposit
from brainsim.fusion import _loop, _memory, _scan, _writer
from tests.fusion.test_scan import left_to_xla

pytestmark = pytest.mark.skipif(not _ffi.loaded(), reason="the pure path has no machine code")
FLOAT = jnp.zeros(()).dtype
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=37).astype(FLOAT), RNG.normal(size=(5, 7)).astype(FLOAT)
TIMES = np.sort(RNG.normal(size=37)).astype(FLOAT)
IDS, FAR = np.asarray([3, 0, 36, 3, -2], np.int32), np.asarray([3, -9, 36, 37, 100], np.int32)
INTS = np.asarray([-(2**31), -7, -1, 0, 1, 2, 7, 31, 32, 2**31 - 1], np.int32)


def run(f, *args):
    """The results of `f` by a program over memory, without XLA."""
    flat, tree = jax.tree.flatten(args)
    closed, shape = jax.make_jaxpr(lambda *flat: f(*jax.tree.unflatten(tree, flat)), return_shape=True)(*flat)
    assert not closed.consts
    text, room = _memory.memory_code(closed.jaxpr)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_loop.compile_text(text)[1])
    outs = [np.full(a.shape, 7).astype(a.dtype) for a in closed.out_avals]
    cells = [*(np.array(x) for x in flat), *outs, np.zeros(room + 64, np.uint8)]
    kernel((ctypes.c_void_p * len(cells))(*(x.ctypes.data for x in cells)))
    return jax.tree.unflatten(jax.tree.structure(shape), outs)


def while_due(x, ids):
    """What a source of recorded events does."""
    first, end = jnp.searchsorted(x, -0.3), jnp.searchsorted(x, 0.4, side="right")
    return lax.fori_loop(first, end, lambda k, v: v.at[ids[k % 5]].add(1.0), jnp.zeros(37, x.dtype))


def fibonacci(x):
    return lax.while_loop(lambda c: c[0] < 50, lambda c: (c[1], c[0] + c[1]), (jnp.int32(0), jnp.int32(1)))


def swapped(x):
    """Arrays that a loop carries change places."""
    return lax.fori_loop(0, 5, lambda k, c: (c[1], c[0] * 2, c[0]), (x, x + 1, x - 1))


def read_and_written(x):
    """An array that is changed and read, before and after, in one turn."""
    return lax.fori_loop(0, 9, lambda k, c: (c[0].at[k].add(c[0][k + 1]), c[1] + c[0]), (x, x))


def rows(y):
    return lax.scan(lambda c, r: (c + r[2], (r * c, c)), jnp.ones((), y.dtype), y, reverse=True)


OPERATIONS = {
    "slices": (lambda x, y: (x[3:20], x[1::4], x[::-1], y[1:3, ::2], y.T), X, Y),
    "an element": (lambda x, y, k: (x[k], y[k, 2], y[k], y[:, k]), X, Y, np.int32(3)),
    "a row out of range": (lambda y, k: (y[k], lax.dynamic_slice(y, (k, k - 99), (2, 3))), Y, np.int32(40)),
    "chosen": (lambda x, ids: (x[ids], jnp.take(x, ids, mode="clip"), x[ids] > 0), X, IDS),
    "chosen, out of range": (lambda x, ids: [jnp.take(x, ids, mode=m) for m in ("clip", "fill")], X, FAR),
    "whole numbers, out of range": (lambda x, ids: x.astype(jnp.int32).at[ids].get(mode="fill"), X, FAR),
    "chosen rows": (lambda y, ids: (y[ids % 5], y[:, ids % 7]), Y, IDS),
    "added": (lambda x, ids: (x.at[ids].add(2.0), x.at[ids].add(x[:5]), x.at[3:9].add(1.0), x), X, IDS),
    "set": (lambda y, ids: (y.at[ids % 5, 2].set(1.0), y.at[1].set(0.5), y.at[:, 1:3].add(1.0)), Y, IDS),
    "dropped": (lambda x, ids: (x.at[ids].add(1.0), x.at[ids].set(0.0, mode="clip")), X, FAR),
    "updated": (lambda y, k: lax.dynamic_update_slice(y, y[:2, :3] * 2, (k, k)), Y, np.int32(4)),
    "joined": (lambda x, y: (jnp.concatenate([x[5:], x[:5]]), jnp.stack([y, -y], 1), jnp.roll(x, 3)), X, Y),
    "padded": (lambda y: (jnp.pad(y, 2), lax.pad(y, 1.0, ((1, 0, 2), (0, 3, 0)))), Y),
    "numbered": (lambda y: (jnp.arange(5) + y[:, 0].astype(int), lax.iota(jnp.int32, 4), jnp.eye(3)), Y),
    "reduced": (lambda y: (y.max(0), y.min(), (y > 0).any(1), (y > -9).all(), jnp.isfinite(y).all(0)), Y),
    "elementwise": (lambda y: (jnp.where(y > 0, y, 2.0), jnp.clip(y, -0.5, 0.5), y[:, :1] + y[:1]), Y),
    "searched": (lambda t, x: [jnp.searchsorted(t, q, side=s) for q in (x, x[0]) for s in ("left", "right")], TIMES, X),
    "found": (lambda t, x: jnp.searchsorted(t, x, method="compare_all"), TIMES, X),
    "due": (while_due, TIMES, IDS),
    "a loop of numbers": (fibonacci, X),
    "a loop of arrays": (swapped, X),
    "a loop that reads what it writes": (read_and_written, X),
    "a loop over rows": (rows, Y),
    "a branch": (lambda x, k: lax.switch(k, [lambda x: x, lambda x: x * 2, lambda x: x[::-1]], x), X, np.int32(1)),
    "a choice": (lambda x, k: lax.cond(k > 2, lambda x: (x, k), lambda x: (x + 1, k * 2), x), X, np.int32(1)),
    "integers": (
        lambda i, j: (i // 3, i % 7, lax.div(i, j), lax.rem(i, j), i // jnp.int32(-2)),
        INTS,
        INTS[::-1].copy(),
    ),
    "bits": (lambda i, j: (i << j, i >> j, lax.shift_right_logical(i, j), lax.population_count(i)), INTS, INTS[::-1]),
    "unsigned": (lambda i: (i // 3, lax.div(i, i - i), lax.rem(i, i - i), i >> 1, i.max()), INTS.astype(np.uint32)),
    "remainders": (lambda x: (jnp.remainder(x, 0.3), lax.rem(x, x[::-1]), jnp.floor_divide(x, 0.25)), X),
}


@pytest.mark.core
@pytest.mark.parametrize("name", OPERATIONS)
def test_as_jax(name):
    f, *args = OPERATIONS[name]
    for a, b in zip(jax.tree.leaves(run(f, *args)), jax.tree.leaves(jax.jit(f)(*args)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


NEAR = 1e-6 if np.float32 == FLOAT else 1e-14  # the library of C and XLA each round right to an ulp or two


def test_functions_of_the_library():
    """Those no program has a polynomial for; also in vectors, of which they take one lane after the other."""
    whole = [jnp.sin, jnp.cos, jnp.tan, jnp.arctan, jnp.arcsinh, lax.erf, lax.erfc, jnp.cbrt]
    unit = [jnp.arcsin, jnp.arccos, jnp.arctanh]

    def f(x, u):
        return [*(g(x) for g in whole), *(g(u) for g in unit), jnp.arctan2(x, u), jnp.arccosh(1 + x * x)]

    u = np.tanh(X)
    for a, b in zip(run(f, X * 20, u), jax.jit(f)(X * 20, u), strict=True):
        np.testing.assert_allclose(a, b, rtol=10 * NEAR, atol=NEAR)
    closed = jax.make_jaxpr(lambda x: (jnp.sin(x),))(jax.ShapeDtypeStruct((40,), FLOAT))
    assert "call" in _loop.emit(_loop.Loop(closed, 0, 40, ()), 16, True)


def test_sums():
    for a, b in zip(run(lambda y: (y.sum(), y.mean(1), y.prod(0)), Y), (Y.sum(), Y.mean(1), Y.prod(0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=NEAR, atol=NEAR)


@pytest.mark.parametrize("f, reason", [(jnp.sort, "sort"), (jnp.cumsum, "cumsum"), (lambda x: x @ x, "dot_general")])
def test_what_is_refused(f, reason):
    with pytest.raises(_writer.Unsupported, match=reason):
        run(f, X)


def test_a_function_that_is_not_there_is_refused():
    """Machine code that calls it would abort the process."""
    with pytest.raises(_writer.Unsupported, match="not in this process"):
        _writer.Writer(0, True).library("no_such_function", _writer.Value("%x", np.dtype(FLOAT), 0))


# --- in a scan --------------------------------------------------------------------------------------------------------

N, T = 40, 9


def filled(graph, c, x):
    """A buffer written in place, a row of it every third step."""
    value, buffer, n = c
    value = value * x + deposit(jnp.zeros((1, N)), graph, x, value)[0]
    buffer = lax.dynamic_update_slice(buffer, value[None], (n // 3, jnp.int32(0)))
    return (value, buffer, n + 1), value[jnp.asarray([2, 5, 7])]


def kept(graph, c, x):
    """What is changed is read later, and goes out as it was."""
    value, buffer, n = c
    new = buffer.at[n % 4, 3].add(x)
    value = deposit(value[None], graph, x, value + new[0])[0] * 0.1
    return (value, new, n + 1), (buffer, new[n % 4, 2:5])


def conditional(graph, c, x):
    value, buffer, n = c
    value = deposit(value[None], graph, x, value)[0] * 0.3
    buffer = lax.cond(n % 3 == 2, lambda b: b.at[n // 3].set(value), lambda b: b, buffer)
    return (value, buffer, n + 1), jnp.searchsorted(jnp.asarray(TIMES), value[0])


def twice(graph, c, x):
    """Two results from one array, one of them added to itself turned round."""
    value, buffer, n = c
    a, b = buffer.at[0].set(value), buffer.at[1].add(value)
    value = deposit(value[None], graph, x, value)[0] * 0.3
    return (value, b + a[:, ::-1], n), jnp.zeros(N).at[n + 3].add(value[3])


@pytest.mark.optimised
@pytest.mark.parametrize("body", [filled, kept, conditional, twice])
@pytest.mark.parametrize("reverse", [False, True])
def test_played(body, reverse):
    graph = bs.FixedFanout(jnp.asarray(np.random.default_rng(0).integers(0, N, (N, 4)), jnp.int32), N)

    def go(value, xs):
        init = value, jnp.zeros((4, N)), jnp.int32(0)
        return lax.scan(lambda c, x: body(graph, c, x), init, xs, reverse=reverse)

    operands = jnp.linspace(0.1, 1.0, N), jnp.linspace(0.5, 1.5, T)
    lowered = jax.jit(go).lower(*operands)
    assert "brainsim_scan" in lowered.as_text()
    mine = lowered.compile()(*operands)
    with left_to_xla():
        theirs = jax.jit(go)(*operands)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=10 * NEAR)


def run_of(source, **kw):
    pop = bs.Population(bs.LIF(), N, {"exc": bs.ExpCond()}, i_e=200.0, init={"v": bs.Uniform(-60.0, -50.0)})
    edges = {"in": bs.Projection("S", "E.exc", bs.FixedProbability(0.3), weight=2.0)}
    net = bs.Network({"S": bs.Source(source, 50), "E": pop}, edges, key=jax.random.key(3))
    return bs.simulate(net, t1=30.0, key=jax.random.key(0), **kw)


@pytest.mark.optimised
def test_waveforms_and_recordings_are_played(monkeypatch):
    """Tables, sines, recorded spikes, a few units and every tenth step: one call, with XLA's values."""
    table = np.random.default_rng(1).normal(0.0, 100.0, (30, N))
    wave = (
        bs.StepCurrent([50.0, 0.0, 80.0], [2.0, 7.0, 9.0]) + bs.Sine(40.0, 100.0) + bs.Sampled(table, 1.0, linear=True)
    )
    ids, times = np.random.default_rng(2).integers(0, 50, 200), np.random.default_rng(3).uniform(0.2, 29.0, 200)
    saveat = [bs.Trace("E.v", units=[1, 5, 30], every=10), bs.Trace("E.exc.g", units=slice(0, 9, 2)), bs.Rate("S")]
    said, asked = [], _scan.refusal
    monkeypatch.setattr(_scan, "refusal", lambda body: said.append(asked(body)) or said[-1])
    kw = dict(inputs={"E": wave}, saveat=[*saveat, bs.Spikes("S", 500.0)])
    mine = run_of(bs.Replay(times, ids), **kw)
    assert set(said) == {""}, said
    with left_to_xla():
        theirs = run_of(bs.Replay(times, ids), **kw)
    assert int(mine.n_events["S"]) > 190  # two of a unit in one step are one
    assert int(mine.n_events["E"]) > 20
    for key in mine.recordings:
        for a, b in zip(jax.tree.leaves(mine[key]), jax.tree.leaves(theirs[key]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # 300 steps of float32
