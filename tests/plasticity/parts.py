"""Networks whose two sides emit the events they are told to."""

import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

DT = 0.1


class Parrot(bs.AbstractUnit):
    """Emits what arrives at its port of `Delta`, in the same step."""

    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": jnp.zeros_like(y["v"])}

    def guard(self, y, z):
        return y["v"] - 0.5

    def reset(self, y, z, s, inp, clock):
        return {"v": jnp.zeros_like(y["v"])}, z


def train(steps):
    """A process that emits in these steps, a list of them for each unit."""
    units = np.repeat(np.arange(len(steps)), [len(s) for s in steps])
    return bs.Replay((np.concatenate([np.asarray(s, float) for s in steps]) + 1) * DT, units)


def told(pre, post, edges, **nodes):
    """Pre units `A` and post units `B` that emit in the steps given, joined by `edges` (into `B.syn`)."""
    parrots = bs.Population(Parrot(), len(post), {"in": bs.Delta(), "syn": bs.ExpCurr()})
    drive = bs.Projection("R", "B.in", bs.OneToOne(), weight=1.0, delay=bs.INSTANT)
    sides = {"A": bs.Source(train(pre), len(pre)), "R": bs.Source(train(post), len(post)), "B": parrots}
    return bs.Network(sides | nodes, {"drive": drive, **edges})


def run(net, n_steps, saveat=(), **kw):
    """A run from time 0."""
    return bs.simulate(net, t1=n_steps * DT, dt=DT, key=jax.random.key(0), saveat=list(saveat), **kw)
