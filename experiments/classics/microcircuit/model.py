"""Potjans and Diesmann 2014, Cereb. Cortex 24:785, doi:10.1093/cercor/bhs358: tables 4 and 5, at any scale.

Scaled down as by van Albada, Helias and Diesmann 2015, doi:10.1371/journal.pcbi.1004490: means are kept, second-order
statistics are not.
"""

import jax
import numpy as np

import brainsim as bs

POPULATIONS = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
N = np.array([20_683, 5_834, 21_915, 5_479, 4_850, 1_065, 14_395, 2_948])
K_EXT = np.array([1_600, 1_500, 2_100, 1_900, 2_000, 1_900, 2_900, 2_100])
RATES = np.array([0.903, 2.965, 4.414, 5.876, 7.569, 8.633, 1.105, 7.829])  # Hz, of the full network in NEST
NU_EXT, TAU_SYN, W_EXT, G = 8.0, 0.5, 87.81, -4.0  # Hz, ms, pA for a PSP of 0.15 mV, inhibition over excitation
P = np.array(  # probability that a pair is connected at least once; a row for each target, a column for each source
    [
        [0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0],
        [0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0],
        [0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0],
        [0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0],
        [0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0],
        [0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0],
        [0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252],
        [0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443],
    ]
)
SYNAPSES = np.log1p(-P) / np.log1p(-1.0 / np.outer(N, N))  # at full scale
WEIGHTS = W_EXT * np.tile([1.0, G], (8, 4))
WEIGHTS[0, 2] *= 2.0  # L4E to L23E
DELAYS = np.tile([1.5, 0.75], 4)  # ms, by source; standard deviations are half of it


def microcircuit(scale: float = 0.1, seed: int = 0) -> bs.Network:
    """The network with `scale` times the neurons, and `scale` times the synapses onto each."""
    sizes, inputs = np.round(scale * N).astype(int), np.round(scale * K_EXT).astype(int)
    more = 1.0 / np.sqrt(scale)  # times the weight, for the same variance
    mean = (SYNAPSES / N[:, None] * WEIGHTS) @ RATES + K_EXT * W_EXT * NU_EXT
    current = 1e-3 * TAU_SYN * (1.0 - np.sqrt(scale)) * mean  # pA that the scaled weights lack
    neuron = bs.LIF(tau_m=10.0, e_l=-65.0, v_th=-50.0, v_reset=-65.0, t_ref=2.0, g_l=25.0)
    nodes, edges = {}, {}
    for i, post in enumerate(POPULATIONS):
        port, init = {"syn": bs.ExpCurr(tau=TAU_SYN)}, {"v": bs.Normal(-58.0, 10.0)}
        nodes[post] = bs.Population(neuron, int(sizes[i]), port, i_e=float(current[i]), init=init)
        edges[f"ext_{post}"] = bs.PoissonInput(f"{post}.syn", int(inputs[i]), rate=NU_EXT, weight=more * W_EXT)
        for j in np.flatnonzero(P[i]):
            w, pre = more * WEIGHTS[i, j], POPULATIONS[j]
            low, high = (0.0, np.inf) if w > 0 else (-np.inf, 0.0)
            edges[f"{pre}_{post}"] = bs.Projection(
                pre,
                f"{post}.syn",
                bs.FixedTotalNumber(round(scale**2 * SYNAPSES[i, j]), multapses=True),
                weight=bs.Normal(w, 0.1 * abs(w), low=low, high=high),
                delay=bs.Normal(DELAYS[j], 0.5 * DELAYS[j], low=0.1),
            )
    return bs.Network(nodes, edges, key=jax.random.key(seed))
