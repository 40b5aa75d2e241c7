"""Elementary functions from arithmetic and bits, for vectors of any length.

Polynomials after reduction of the argument: to rounding (1 to 3 units in the last place; the error of `exp2` grows with
|x|, that of `pow` in double precision likewise), with the values of IEEE at 0, infinity and NaN. What is below the
smallest normal number is 0; `sinh` and `cosh` are infinite where `exp` is. Written in the operations of `Writer`.
"""

import math
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial


class _Format:
    """What the reductions need to know of a floating type."""

    def __init__(self, dtype: Any) -> None:
        info = np.finfo(dtype)
        self.mantissa = info.nmant
        self.bias = 127 if dtype == np.float32 else 1023
        self.magic = 1.5 * 2.0**self.mantissa  # adding it leaves an integer in the lowest bits
        # (exp(r) - 1) / r for |r| <= ln 2 / 2: its Taylor series, cut where it is one of Chebyshev polynomials
        degree, edge = (5 if dtype == np.float32 else 11), math.log(2) / 2
        taylor = Polynomial([edge**k / math.factorial(k + 1) for k in range(20)])
        cut = np.asarray(taylor.convert(kind=Chebyshev).truncate(degree + 1).convert(kind=Polynomial).coef)
        self.growth = [float(c) / edge**k for k, c in enumerate(cut)]
        self.log_terms = 6 if dtype == np.float32 else 12
        # ln 2 in two parts, the first short enough that its product with an exponent is exact
        short = np.float32(math.log(2)).view(np.uint32) & np.uint32(0xFFFFF000)
        self.ln2 = float(short.view(np.float32))
        if dtype == np.float64:
            self.ln2 = float((np.float64(math.log(2)).view(np.uint64) & np.uint64(0xFFFFFFFFFFFFF000)).view(np.float64))
        self.ln2_rest = 0.6931471805599453094172321214581766 - self.ln2
        if dtype == np.float64:
            self.ln2_rest += 2.3190468138462996e-17  # what double precision lost of ln 2
        self.highest = float(np.log(np.float64(info.max)))
        self.lowest = float(np.log(np.float64(info.tiny)))
        self.tiny = float(info.tiny)


_FORMATS = {np.dtype(t): _Format(t) for t in (np.float32, np.float64)}


def _reduced(w, x):
    """`(r, bits of 2^n, n)` with `x = n ln 2 + r`, |r| <= ln 2 / 2: `bits` are those of the float 2^(n - 1)."""
    f = _FORMATS[x.dtype]
    t = w.fused(x, w.like(1 / math.log(2), x), w.like(f.magic, x))
    n = w.op("fsub", t, w.like(f.magic, x))
    r = w.fused(n, w.like(-f.ln2, x), x)
    r = w.fused(n, w.like(-f.ln2_rest, x), r)
    bits = w.bits(t)
    bits = w.op("shl", bits, w.like(f.mantissa, bits))
    half = w.op("add", bits, w.like((f.bias - 1) << f.mantissa, bits))
    return r, w.from_bits(half)


def _growth(w, r):
    """`(exp(r) - 1) / r` for a reduced `r`."""
    return w.polynomial(r, _FORMATS[r.dtype].growth)


def exp(w, x):
    f = _FORMATS[x.dtype]
    r, half = _reduced(w, x)
    p = w.fused(r, _growth(w, r), w.like(1, x))
    out = w.mul(w.op("fadd", p, p), half)
    out = w.select(w.compare("ogt", x, w.like(f.highest, x)), w.like(np.inf, x), out)
    return w.select(w.compare("olt", x, w.like(f.lowest, x)), w.like(0, x), out)


def expm1(w, x):
    f = _FORMATS[x.dtype]
    r, half = _reduced(w, x)
    p = w.mul(r, _growth(w, r))
    # 2^n (1 + p) - 1, halved against overflow
    out = w.fused(half, p, w.op("fsub", half, w.like(0.5, x)))
    out = w.op("fadd", out, out)
    out = w.select(w.compare("ogt", x, w.like(f.highest, x)), w.like(np.inf, x), out)
    out = w.select(w.compare("olt", x, w.like(f.lowest, x)), w.like(-1, x), out)
    return w.select(w.compare("oeq", x, w.like(0, x)), x, out)  # keeps the sign of 0


def log(w, x):
    f = _FORMATS[x.dtype]
    bits = w.bits(x)
    # the exponent of x / sqrt(1/2), so that the rest lies between sqrt(1/2) and sqrt(2)
    root = int(np.asarray(math.sqrt(0.5), x.dtype).view(bits.dtype))
    shifted = w.op("sub", bits, w.like(root, bits))
    n = w.op("ashr", shifted, w.like(f.mantissa, bits))
    m = w.from_bits(w.op("sub", bits, w.op("shl", n, w.like(f.mantissa, bits))))
    n = w.cast("sitofp", n, x.dtype)
    one = w.like(1, x)
    u = w.op("fsub", m, one)
    s = w.div(u, w.op("fadd", m, one))
    s2 = w.mul(s, s)
    # log m = 2 (s + s^3/3 + s^5/5 + ...), with 2 s = u - s u
    tail = w.polynomial(s2, [2 / (2 * k + 3) for k in range(f.log_terms)])
    rest = w.fused(w.mul(s, s2), tail, w.mul(n, w.like(f.ln2_rest, x)))
    lead = w.fused(w.neg(s), u, u)
    out = w.op("fadd", w.fused(n, w.like(f.ln2, x), lead), rest)
    out = w.select(w.compare("olt", x, w.like(f.tiny, x)), w.like(-np.inf, x), out)
    out = w.select(w.compare("olt", x, w.like(0, x)), w.like(np.nan, x), out)
    usual = w.compare("olt", x, w.like(np.inf, x))
    return w.select(usual, out, x)  # infinity and NaN


def log1p(w, x):
    one = w.like(1, x)
    u = w.op("fadd", one, x)
    d = w.op("fsub", u, one)
    small = w.compare("oeq", d, w.like(0, x))
    safe = w.select(small, one, d)
    out = w.mul(log(w, u), w.div(x, safe))
    out = w.select(w.compare("oeq", x, w.like(np.inf, x)), x, out)
    return w.select(small, x, out)


def tanh(w, x):
    a = w.call("fabs", x)
    t = expm1(w, w.op("fadd", a, a))
    out = w.div(t, w.op("fadd", t, w.like(2, x)))
    out = w.select(w.compare("ogt", a, w.like(20, x)), w.like(1, x), out)
    return w.call("copysign", out, x)


def logistic(w, x):
    one = w.like(1, x)
    return w.div(one, w.op("fadd", one, exp(w, w.neg(x))))


def cosh(w, x):
    half = w.mul(w.like(0.5, x), exp(w, w.call("fabs", x)))
    return w.op("fadd", half, w.div(w.like(0.25, x), half))


def sinh(w, x):
    t = expm1(w, w.call("fabs", x))
    out = w.mul(w.like(0.5, x), w.op("fadd", t, w.div(t, w.op("fadd", t, w.like(1, x)))))
    return w.call("copysign", w.select(w.compare("oeq", t, w.like(np.inf, x)), t, out), x)


def exp2(w, x):
    return exp(w, w.mul(x, w.like(math.log(2), x)))


def power(w, x, y):
    """`x^y = exp(y log x)` in double precision, so that float32 is right to rounding; float64 to 1e-13."""
    x, y = w.level(x, y)
    kind = x.dtype
    if kind == np.float32:
        x, y = w.cast("fpext", x, np.float64), w.cast("fpext", y, np.float64)
    one, zero, size = w.like(1, x), w.like(0, x), w.call("fabs", x)
    out = exp(w, w.mul(y, log(w, size)))
    out = w.select(w.compare("oeq", size, one), one, out)  # also to an infinite power
    # a negative base: whole exponents, with the sign of an odd one; 0 and infinity have every power
    whole = w.compare("oeq", w.call("floor", y), y)
    half = w.mul(y, w.like(0.5, y))
    odd = w.op("and", whole, w.compare("une", w.call("floor", half), half))
    usual = w.op("and", w.compare("ogt", size, zero), w.compare("olt", size, w.like(np.inf, x)))
    defined = w.op("or", whole, w.op("xor", usual, w.like(True, usual)))
    signed = w.select(defined, w.select(odd, w.neg(out), out), w.like(np.nan, x))
    bits = w.bits(x)
    out = w.select(w.compare("slt", bits, w.like(0, bits)), signed, out)
    out = w.select(w.compare("oeq", x, one), one, out)
    out = w.select(w.compare("oeq", y, w.like(0, y)), one, out)
    return w.cast("fptrunc", out, kind) if kind == np.float32 else out


MATH = {
    "exp": exp,
    "exp2": exp2,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
    "logistic": logistic,
    "cosh": cosh,
    "sinh": sinh,
    "pow": power,
}
"""By the names of JAX's primitives."""
