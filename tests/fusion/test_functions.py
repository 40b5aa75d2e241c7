"""Machine code for functions: accuracy, special values, every operation against JAX."""

import ctypes
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from brainsim.events import _ffi
from brainsim.fusion import _loop, _writer

pytestmark = [
    pytest.mark.core,
    pytest.mark.skipif(not _ffi.loaded(), reason="the pure path has no machine code"),
]

FLOAT = jnp.zeros(()).dtype
N = 1003  # not a multiple of any vector's length


def run(f, *vectors):
    """`f` of vectors by the kernel, alone, without XLA."""
    n = len(vectors[0])
    jaxpr = jax.make_jaxpr(lambda *v: (f(*v),))(*(jax.ShapeDtypeStruct((n,), v.dtype) for v in vectors))
    kernel = _loop.KERNEL_TYPE(_loop.compile_loop(_loop.Loop(jaxpr, 0, n, ()))[1])
    out = np.full(n + 1, 77, jaxpr.out_avals[0].dtype)  # one more, which must stay as it is
    words, tally = np.zeros(n // 32 + 2, np.uint32), np.zeros(2, np.int32)
    pointers = [(ctypes.c_void_p * len(group))(*(x.ctypes.data for x in group)) for group in (vectors, [out])]
    kernel(None, *pointers, words.ctypes.data, 0, n, tally.ctypes.data)
    assert out[-1] == out.dtype.type(77)
    return out[:-1]


def points(low, high):
    return np.random.default_rng(0).uniform(low, high, N)


WITHIN = {  # units in the last place, seen on a hundred thousand points and rounded up
    "exp": (jnp.exp, np.exp, points(-80, 80), 1.5),
    "exp near 0": (jnp.exp, np.exp, points(-1e-3, 1e-3), 1.5),
    "expm1": (jnp.expm1, np.expm1, points(-5, 5), 3),
    "expm1 near 0": (jnp.expm1, np.expm1, points(-1e-4, 1e-4), 3),
    "log": (jnp.log, np.log, np.exp(points(-50, 50)), 2),
    "log2": (jnp.log2, np.log2, np.exp(points(-50, 50)), 3),
    "log near 1": (jnp.log, np.log, points(0.7, 1.4), 2),
    "log1p": (jnp.log1p, np.log1p, points(-0.5, 3), 3),
    "log1p of large numbers": (jnp.log1p, np.log1p, np.exp(points(80, 88)), 3),
    "log1p near 0": (jnp.log1p, np.log1p, points(-1e-5, 1e-5), 3),
    "tanh": (jnp.tanh, np.tanh, points(-10, 10), 4),
    "logistic": (jax.nn.sigmoid, lambda x: 1 / (1 + np.exp(-x)), points(-20, 20), 3),
    "cosh": (jnp.cosh, np.cosh, points(-10, 10), 3),
    "sinh": (jnp.sinh, np.sinh, points(-10, 10), 4),
    "exp2": (jnp.exp2, np.exp2, points(-1, 1), 3),
}


@pytest.mark.parametrize("name", WITHIN)
def test_functions_are_accurate(name):
    f, truth, x, ulps = WITHIN[name]
    x = x.astype(FLOAT)
    exact = truth(x.astype(np.longdouble))
    assert np.max(np.abs(run(f, x) - exact) / np.spacing(np.abs(exact).astype(FLOAT))) <= ulps


def test_powers():
    x, y = np.abs(points(0.01, 20)).astype(FLOAT), points(-3, 3)[::-1].astype(FLOAT)
    exact = x.astype(np.longdouble) ** y
    ulps = 1.0 if np.float32 == FLOAT else 200.0  # in double precision the product y log x is rounded
    assert np.max(np.abs(run(lambda x, y: x**y, x, y) - exact) / np.spacing(exact.astype(FLOAT))) <= ulps
    whole = np.asarray([2, 3, -1, 0] * 9, FLOAT)
    base = np.asarray([-2.0, -1.5, -4.0, -3.0] * 9, FLOAT)
    np.testing.assert_allclose(run(lambda x, y: x**y, base, whole), base**whole, rtol=1e-6)
    assert np.isnan(run(lambda x, y: x**y, base, whole + FLOAT.type(0.5))).all()


SPECIAL = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.5, -2.5, 1e-20, -1e-20, 1e4, -1e4] * 3, FLOAT)
FUNCTIONS = {
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log2": jnp.log2,
    "log1p": jnp.log1p,
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "cosh": jnp.cosh,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "round": jnp.round,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "isfinite": jnp.isfinite,
    "maximum with NaN": lambda x: jnp.maximum(x, jnp.nan),
    "minimum with a constant": lambda x: jnp.minimum(1.0, x),
    "clip": lambda x: jnp.clip(x, -2.0, 2.0),
    "cube": lambda x: x**3,
    "inverse square": lambda x: x**-2,
    "to bool": lambda x: x.astype(bool),
    "to int": lambda x: jnp.where(jnp.abs(x) < 1e3, x, 0).astype(jnp.int32),
    "quotient by a constant": lambda x: x / 3.0,
    "quotient": lambda x: 3.0 / x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values_are_those_of_jax(name):
    f = FUNCTIONS[name]
    out, expected = run(f, SPECIAL), f(jnp.asarray(SPECIAL))
    assert out.dtype == expected.dtype
    np.testing.assert_allclose(out, expected, rtol=1e-6)  # NaN and infinity must stand where they stand in JAX


def test_special_powers_are_those_of_ieee():
    """Every pair of special values, with the sign of zero and infinity; what is between has its own tolerance."""
    powers = np.asarray([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, np.inf, -np.inf, np.nan], FLOAT)
    x, y = (a.ravel() for a in np.meshgrid(SPECIAL[:13], powers))
    with np.errstate(all="ignore"):
        expected = (x.astype(np.longdouble) ** y).astype(FLOAT)
    out = run(jax.lax.pow, x, y)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(out)[~np.isnan(out)], np.signbit(expected)[~np.isnan(out)])


def test_extremes_of_two_keep_nan():
    other = SPECIAL[::-1].copy()
    for f in (jnp.maximum, jnp.minimum):
        np.testing.assert_array_equal(run(f, SPECIAL, other), f(SPECIAL, other))


INTEGERS = np.asarray([0, 1, -1, 5, -7, 2**31 - 1, -(2**31), 3] * 5, np.int32)


@pytest.mark.parametrize(
    "f",
    [
        lambda i: jnp.maximum(i - 1, 0),
        lambda i: jnp.minimum(i, 3) * 2,
        lambda i: jnp.abs(i),
        lambda i: jnp.sign(i),
        lambda i: jnp.where(i > 0, i, -i),
        lambda i: (i & 5) | 2,
        lambda i: ~i,
        lambda i: ~i.astype(jnp.uint32),
        lambda i: jnp.sign(i.astype(jnp.uint32)),
        lambda i: (i.astype(FLOAT) > 2) ^ (i == 5),
        lambda i: i.astype(jnp.uint32) > jnp.uint32(7),
        lambda i: (i != 0).astype(jnp.int32),
    ],
)
def test_integers(f):
    np.testing.assert_array_equal(run(f, INTEGERS), f(jnp.asarray(INTEGERS)))


def test_a_power_of_integers_given_at_run_time():
    x, k = np.linspace(0.5, 2.0, 45, dtype=FLOAT), (np.arange(45) % 5).astype(np.int32)
    np.testing.assert_allclose(run(jax.lax.pow, x, k), x**k, rtol=1e-6)


def test_the_sign_of_zero_is_kept():
    zero = np.asarray([0.0, -0.0] * 20, FLOAT)
    np.testing.assert_array_equal(np.signbit(run(jnp.sign, zero)), np.signbit(zero))


def test_an_integer_and_its_bits_are_two_values():
    """A scalar converted between signed and unsigned, both used as vectors."""
    n = 40
    shapes = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((n,), jnp.int32)

    def f(s, x):
        return s + x, (s.astype(jnp.uint32) + x.astype(jnp.uint32)).astype(FLOAT)

    kernel = _loop.KERNEL_TYPE(_loop.compile_loop(_loop.Loop(jax.make_jaxpr(f)(*shapes), 1, n, ()))[1])
    s, x = np.asarray(-5, np.int32), np.zeros(n, np.int32)
    out, words, tally = [np.zeros(n, np.int32), np.zeros(n, FLOAT)], np.zeros(4, np.uint32), np.zeros(2, np.int32)
    pointers = [(ctypes.c_void_p * len(group))(*(a.ctypes.data for a in group)) for group in ([s], [x], out)]
    kernel(*pointers, words.ctypes.data, 0, n, tally.ctypes.data)
    np.testing.assert_array_equal(out[0], np.full(n, -5))
    np.testing.assert_array_equal(out[1], np.full(n, 2**32 - 5, FLOAT))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70))
def test_any_length(n):
    x = np.arange(n, dtype=FLOAT)
    np.testing.assert_array_equal(run(lambda x: x * 2 + 1, x), x * 2 + 1)


@pytest.mark.parametrize(
    "f, reason",
    [
        (jnp.sort, "sort"),
        (jnp.cumsum, "cumsum"),
        (lambda x: x - jnp.mean(x), "reduce_sum"),
        (lambda x: jax.lax.fori_loop(0, 1000, lambda k, x: x * 0.5, x), "1000 turns"),
        (lambda x: x.reshape(2, -1).T.reshape(-1), "shape"),
        (lambda x: x[::-1], "rev"),
        (lambda x: x + jnp.arange(x.shape[0], dtype=x.dtype), "iota|constant"),
    ],
)
def test_what_is_not_elementwise_is_refused(f, reason):
    with pytest.raises(_writer.Unsupported, match=reason):
        run(f, np.ones(40, FLOAT))


CROWDED = """
import mmap
import jax, jax.numpy as jnp
from brainsim.fusion import _loop
shape = jax.ShapeDtypeStruct((64,), jnp.float32)
jaxpr = jax.make_jaxpr(lambda x: (1.5 * jnp.exp(x) + jnp.tanh(x),))(shape)
text = _loop.emit(_loop.Loop(jaxpr, 0, 64, ()), 16, True)
kept = [_loop._machine_code(text), *(mmap.mmap(-1, 4096, prot=0) for _ in range(20000))]
for k in range(40):  # holes of three pages, between walls wider than a relative address reaches
    kept.append(mmap.mmap(-1, 3 << 30, prot=0))
    hole = mmap.mmap(-1, 3 * 4096, prot=0)
    kept.append(mmap.mmap(-1, 3 << 30, prot=0))
    hole.close()
    if k % 4 == 0:
        kept.append(_loop._machine_code(text))
"""


def test_kernels_can_be_loaded_where_memory_is_crowded():
    """Code and constants lie in one block: apart, they once were too far from each other, and LLVM aborted."""
    subprocess.run([sys.executable, "-c", CROWDED], check=True, capture_output=True)


def test_a_constant_of_complex_type_is_refused_without_a_cast():
    writer = _writer.Writer(4, fma=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(_writer.Unsupported, match="complex64"):
            writer.constant(1.0 + 2.0j, np.complex64)
