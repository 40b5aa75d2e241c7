"""Small networks shared by the tests, and comparisons of PyTrees."""

import jax
import numpy as np

import brainsim as bs
from brainsim.simulate import to_arrays


def balanced(n=100, *, key=0, noise=0.5, **population):
    """An excitatory-inhibitory network with noise, distributed weights and delays, and rings that wrap around."""
    e = 4 * n // 5
    cell = bs.Population(
        bs.LIF(t_ref=5.0),
        n,
        {"exc": bs.ExpCond(tau=5.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)},
        i_e=200.0,
        noise=bs.WhiteNoise({"v": noise}) if noise else None,
        init={"v": bs.Normal(-55.0, 5.0)},
        **population,
    )
    edges = {
        "E": bs.Projection(
            f"P[:{e}]",
            "P.exc",
            bs.FixedProbability(0.2),
            weight=bs.Normal(6.0, 1.0, low=0.0),
            delay=bs.Uniform(0.0, 3.0),
        ),
        "I": bs.Projection(f"P[{e}:]", "P.inh", bs.FixedProbability(0.2), weight=67.0, delay=1.5),
    }
    return bs.Network({"P": cell}, edges, key=jax.random.key(key))


def same(a, b):
    """Whether two PyTrees hold the same arrays bit for bit."""
    a, b = to_arrays(a), to_arrays(b)
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k], equal_nan=True) for k in a
    )
