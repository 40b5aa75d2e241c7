"""Small parts that the tests of synapses are built from."""

import jax

import brainsim as bs


def replay(events, n, dt):
    """A source of `n` units that emits the events (step, unit)."""
    steps, units = zip(*events, strict=True)
    return bs.Source(bs.Replay([(m + 1) * dt for m in steps], list(units)), n)


def run(net, n_steps, dt, saveat, **kw):
    """A short run."""
    return bs.simulate(net, t1=n_steps * dt, dt=dt, key=jax.random.key(0), saveat=saveat, **kw)
