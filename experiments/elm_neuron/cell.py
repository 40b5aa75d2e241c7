"""The cell to imitate: a spiking soma with eight passive dendrites under AMPA, NMDA and GABA synapses."""

import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

DENDRITES, EXC, INH = 8, 12, 4
INPUTS = DENDRITES * (EXC + INH)
"""Input `16 d + j` ends on dendrite d; the last four of a dendrite are inhibitory."""
DT, STEP = 0.1, 1.0
"""Step of the simulation, and of what is written down (ms)."""
CEILING = -55.0  # mV: spikes are cut off, as in NeuronIO


def network() -> bs.Network:
    """The soma has the channels of the COBAHH benchmark; a dendrite has 1 nS of leak and is joined to it by 3 nS."""
    d = np.repeat(np.arange(DENDRITES), EXC + INH)
    excitatory = np.tile(np.arange(EXC + INH) < EXC, DENDRITES)
    e, i = np.flatnonzero(excitatory), np.flatnonzero(~excitatory)
    dendrite = bs.LeakyIntegrator(tau_m=15.0, e_l=-70.0, r=1.0)
    receptors = {
        "ampa": bs.ExpCond(tau=2.0, e_rev=0.0),
        "nmda": bs.NMDA(tau_rise=2.0, tau_decay=70.0),
        "gaba": bs.ExpCond(tau=8.0, e_rev=-80.0),
        "soma": bs.GapPort(),
    }
    soma = bs.TraubMiles(e_l=-70.0, g_l=10.0, c_m=100.0)
    nodes = {
        "x": bs.Source(bs.External(), INPUTS),
        "dendrites": bs.Population(dendrite, DENDRITES, receptors),
        "soma": bs.Population(soma, 1, {"dendrites": bs.GapPort()}, init={"v": -67.0}),
    }
    every, none = np.arange(DENDRITES), np.zeros(DENDRITES, int)
    edges = {
        "ampa": bs.Projection("x", "dendrites.ampa", bs.FromCOO(e, d[e]), weight=2.0),  # nS
        "nmda": bs.Projection("x", "dendrites.nmda", bs.FromCOO(e, d[e]), weight=0.6),
        "gaba": bs.Projection("x", "dendrites.gaba", bs.FromCOO(i, d[i]), weight=2.5),
        "down": bs.GapJunctions("soma", "dendrites.soma", bs.FromCOO(none, every), weight=3.0),
        "up": bs.GapJunctions("dendrites", "soma.dendrites", bs.FromCOO(every, none), weight=3.0),
    }
    return bs.Network(nodes, edges)


def inputs(rng: np.random.Generator, trials: int, steps: int) -> np.ndarray:
    """Events in steps of 1 ms, (trials, steps, inputs), 0/1: rates (Hz) that wander, those of
    excitation by dendrite and in part together, those of inhibition together."""

    def wander(n: int, tau: float) -> np.ndarray:
        keep, out, x = np.exp(-1.0 / tau), [], rng.standard_normal((trials, n))
        for _ in range(steps):
            x = keep * x + np.sqrt(1.0 - keep**2) * rng.standard_normal(x.shape)
            out.append(x)
        return np.stack(out, 1)

    excitatory = np.tile(np.arange(EXC + INH) < EXC, DENDRITES)
    own = np.repeat(wander(DENDRITES, 40.0), EXC + INH, axis=2)
    rate = np.where(excitatory, 3.6 * np.exp(0.3 * wander(1, 40.0) + 0.7 * own), 10.0 * np.exp(0.5 * wander(1, 40.0)))
    return rng.uniform(size=rate.shape) < 1e-3 * rate


@jax.jit
def answer(net: bs.Network, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Spikes (0/1) and potential of the soma (mV, at most `CEILING`) in steps of 1 ms, of one trial of events."""
    per = round(STEP / DT)
    fine = jnp.zeros((x.shape[0], per, x.shape[1])).at[:, 0].set(x).reshape(-1, x.shape[1])
    saveat = [bs.Trace("soma.v"), bs.Events("soma")]
    sol = bs.simulate(net, t1=x.shape[0] * STEP, dt=DT, key=jax.random.key(0), inputs={"x": fine}, saveat=saveat)
    v = jnp.minimum(sol["soma.v"][:, 0], CEILING).reshape(-1, per)
    return jnp.max(sol["soma.events"][:, 0].reshape(-1, per), 1), v[:, -1]


def recordings(seed: int, trials: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed events (+1, and -1 from inhibitory inputs), spikes, potentials."""
    net, x = network(), inputs(np.random.default_rng(seed), trials, steps)
    out = [answer(net, jnp.asarray(one, jnp.float32)) for one in x]
    sign = np.where(np.tile(np.arange(EXC + INH) < EXC, DENDRITES), 1.0, -1.0).astype(np.float32)
    return x * sign, np.stack([np.asarray(s) for s, _ in out]), np.stack([np.asarray(v) for _, v in out])
