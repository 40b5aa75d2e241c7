"""Random tables of cells and synapses, and the words they must give: plain loops over 64-bit integers."""

import numpy as np

from brainsim.lower import Cells, Rounding, Synapses


def tables(seed, dialect, n=40, n_in=8, *, strong=False, density=0.3):
    """Cells "P", synapses "in" from input "x" and "rec" within P, with every feature that the dialect has."""
    rng = np.random.default_rng(seed)
    cells = Cells(
        n,
        threshold=rng.integers(50, 1000, n),
        decay_u=rng.integers(100, 4096, n),
        decay_v=rng.integers(100, 4096, n),
        bias=(rng.integers(-200, 400, n) << int(rng.integers(0, 4))) if dialect.bias else 0,
        refractory=rng.integers(1, 6, n) if dialect.refractory else 1,
        v_min=1 - 2 ** int(rng.integers(18, 24)),
    )
    grid = dialect.mantissa is Rounding.NONE

    def synapses(pre, n_pre, exponent):
        source, target = np.nonzero(rng.random((n_pre, n)) < density)
        mantissa = rng.integers(-180, 255, source.size)
        if grid:
            mantissa = 2 * (mantissa // 2)
        delay = rng.integers(0, 6, source.size)
        return Synapses(pre, "P", source, target, mantissa, exponent, delay=delay)

    low = 0 if grid else -3
    high = 7
    return (
        {"P": cells},
        {"in": synapses("x", n_in, high if strong else 2), "rec": synapses("P", n, low)},
        {"x": n_in},
    )


def events(seed, steps, n, rate=0.2):
    """Input spikes, (steps, n)."""
    return (np.random.default_rng(seed).random((steps, n)) < rate).astype(np.float64)


def _decay(x, keep):
    return np.sign(x) * ((np.abs(x) * keep) >> 12)


def words(dialect, cells, synapses, inputs, x):
    """u, v and spikes of cells "P" at the end of every step, (steps, n), by the text of `Dialect`."""
    p, steps = cells["P"], len(x["x"])
    n = p.size
    sent = {name: np.zeros((steps, size), np.int64) for name, size in (inputs | {"P": n}).items()}
    for name in inputs:
        sent[name] = np.asarray(x[name], np.int64)
    u, v, wait = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    us, vs = [], []
    for t in range(steps):
        q = np.zeros(n, np.int64)
        for name, s in synapses.items():
            w = s.words(name, dialect)
            for d in np.unique(s.delay[s.delay < t]):
                arrived, on = np.zeros(n, np.int64), s.delay == d
                np.add.at(arrived, s.targets[on], w[on] * sent[s.pre][t - 1 - d, s.sources[on]])
                q += (arrived >> -s.exponent) * 64 if s.shifts_sum(dialect) else arrived
        if dialect.q_bits is not None:
            half = 1 << (dialect.q_bits - 1)
            q = (q + half) % (2 * half) - half
        u = _decay(u, 4096 - p.decay_u - dialect.decay_u_offset) + q
        u = _wrapped(u, dialect.u_range)
        drive = u + p.bias
        if dialect.wraps_bias:
            drive = _wrapped(drive, dialect.u_range)
        v = _decay(v, 4096 - p.decay_v) + drive
        if dialect.v_range is not None:
            v = np.clip(v, p.v_min, p.v_max)
        v = np.where(wait > 0, 0, v)
        s = v > 64 * p.threshold
        wait = np.where(s, p.refractory - 1, np.maximum(wait - 1, 0))
        sent["P"][t] = s
        us.append(u)
        vs.append(np.where(s, dialect.marker, v))
        v = np.where(s, 0, v)
    return np.array(us), np.array(vs), sent["P"]


def _wrapped(x, ends):
    if ends is None:
        return x
    x = np.where(x > ends[1], x - 2**24, x)
    return np.where(x < ends[0], x + 2**24, x)
