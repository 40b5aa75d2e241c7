"""A benchmark that needs nothing else: the balanced network of act 1, first and warm."""

from collections.abc import Iterator

import diffrax
import jax

import brainsim as bs

from . import _coba


def timed_coba(seed: int, t1: float, repeats: int) -> Iterator[bs.Solution]:
    """One run of `t1` ms that compiles and `repeats` warm ones, with new initial values each."""
    net = _coba.network(seed)
    for k in range(repeats + 1):
        key = jax.random.key(seed + 1 + k)
        yield bs.simulate(net, t1=t1, dt=0.1, solver=diffrax.Euler(), key=key, saveat=[bs.Spikes("P")])
