"""Small parts that the tests of nodes and edges are built from."""

import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

DT = 0.1  # ms


class Tally(bs.AbstractUnit):
    """`dv/dt = slope`, never spikes: with slope 0 its v is the sum of what arrived."""

    slope: float = 0.0

    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": jnp.zeros_like(y["v"]) + self.slope}

    def guard(self, y, z):
        return jnp.full_like(y["v"], -1e3)

    def reset(self, y, z, s, inp, clock):
        return y, z


def tally(n):
    """`n` units that sum up what arrives at their port `inp`."""
    return bs.Population(Tally(), n, {"inp": bs.Delta()})


def replay(events, n, dt=DT):
    """A source of `n` units that emits the events (step, unit)."""
    steps, units = zip(*events, strict=True)
    return bs.Source(bs.Replay([(m + 1) * dt for m in steps], list(units)), n)


def arrivals(events, pre, post, weight, k, n_post, n_steps):
    """What arrives at each post unit in each step, by the definition: synapse j of i adds weight_j at step m + k_j."""
    out = np.zeros((n_steps, n_post))
    for m, i in events:
        for j in np.flatnonzero(np.asarray(pre) == i):
            if m + k[j] < n_steps:
                out[m + k[j], post[j]] += weight[j]
    return out


def arrived(trace):
    """The arrivals of every step from the trace of a `Tally`."""
    return np.diff(np.asarray(trace), axis=0, prepend=0.0)


def run(net, n_steps, saveat, *, dt=DT, seed=0, **kw):
    """A short run."""
    return bs.simulate(net, t1=n_steps * dt, dt=dt, key=jax.random.key(seed), saveat=saveat, **kw)
