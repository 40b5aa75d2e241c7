"""Brunel 2000, J. Comput. Neurosci. 8:183, doi:10.1023/A:1008925309027: model A, its four regimes."""

import jax

import brainsim as bs

N_E, N_I = 10_000, 2_500
C_E, C_I = 1_000, 250  # synapses onto every neuron: a tenth of each population
THETA, V_R, TAU, TAU_RP = 20.0, 10.0, 20.0, 2.0  # mV, mV, ms, ms
J, D = 0.1, 1.5  # mV, ms
NU_THR = 1e3 * THETA / (J * C_E * TAU)  # Hz: the rate of the outside at which the mean input reaches threshold
REGIMES = {
    "A": ("synchronous regular", 3.0, 2.0),
    "B": ("synchronous irregular, fast", 6.0, 4.0),
    "C": ("asynchronous irregular", 5.0, 2.0),
    "D": ("synchronous irregular, slow", 4.5, 0.9),
}
"""Name, g and nu_ext / nu_thr, as in the paper's figure 8."""


def brunel(g: float, eta: float, seed: int, at: str = "end") -> bs.Network:
    """The network with inhibition g times as strong as excitation, driven at eta times the threshold rate.

    `at`: when a jump of v is tested against the threshold; `"end"`, at once, is NEST's choice.
    """
    neuron = bs.LIF(tau_m=TAU, e_l=0.0, v_th=THETA, v_reset=V_R, t_ref=TAU_RP)
    neurons = bs.Population(neuron, N_E + N_I, {"syn": bs.Delta(at=at)}, init={"v": 0.0})
    edges = {
        "exc": bs.Projection(f"P[:{N_E}]", "P.syn", bs.FixedInDegree(C_E, multapses=True), weight=J, delay=D),
        "inh": bs.Projection(f"P[{N_E}:]", "P.syn", bs.FixedInDegree(C_I, multapses=True), weight=-g * J, delay=D),
        "ext": bs.PoissonInput("P.syn", C_E, rate=eta * NU_THR, weight=J),
    }
    return bs.Network({"P": neurons}, edges, key=jax.random.key(seed))
