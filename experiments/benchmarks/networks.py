"""The two benchmark networks as plain numbers: the only file that every simulator's script imports.

Units: ms, mV, nS, pA, pF. Conductances of COBA-LIF are relative to the leak (dimensionless), as in the golden figures.
"""

from dataclasses import dataclass

DT_MS = 0.1
P_CONNECT = 0.02  # every ordered pair, self-connections included
SPARSE_FROM = 100_000  # from this size on, 80 synapses a unit whatever the size
FRACTION_EXCITATORY = 0.8
WINDOW_START_MS = 500.0  # rates are measured from here to the end of a run; the start-up transient is left out


@dataclass(frozen=True)
class CobaLif:
    """Vogels-Abbott network of leaky integrate-and-fire units (Brette et al. 2007, doi 10.1007/s10827-007-0038-6).

    tau_m dv/dt = E_L - v + drive + g_e (E_e - v) + g_i (E_i - v).
    """

    tau_m: float = 20.0
    e_l: float = -60.0
    v_reset: float = -60.0
    v_th: float = -50.0
    t_ref: float = 5.0
    drive: float = 20.0  # mV
    tau_e: float = 5.0
    tau_i: float = 10.0
    e_e: float = 0.0
    e_i: float = -80.0
    w_e: float = 0.6  # relative to the leak, at 4,000 units; divided by n / 4000
    w_i: float = 6.7
    v0_mean: float = -55.0
    v0_std: float = 5.0
    c_m: float = 200.0  # pF; only sets the scale of simulators that want absolute conductances
    g_l: float = 10.0  # nS; c_m / g_l = tau_m


@dataclass(frozen=True)
class CobaHh:
    """The same graph with Traub-Miles units, as in Brian2's COBAHH example (Brette et al. 2007, benchmark 3)."""

    c_m: float = 200.0
    g_l: float = 10.0
    e_l: float = -60.0
    g_na: float = 20_000.0
    g_k: float = 6_000.0
    e_na: float = 50.0
    e_k: float = -90.0
    v_t: float = -63.0
    v_th: float = -20.0  # a spike is v > v_th with no spike in the last t_ref; nothing is reset or clamped
    t_ref: float = 3.0
    tau_e: float = 5.0
    tau_i: float = 10.0
    e_e: float = 0.0
    e_i: float = -80.0
    w_e: float = 6.0  # nS at 4,000 units; divided by n / 4000
    w_i: float = 67.0
    # initial state: v = e_l + 5 N - 5, g_e = 10 (1.5 N + 4), g_i = 10 (12 N + 20), negative draws kept; m = n = h = 0
    v0_mean: float = -65.0
    v0_std: float = 5.0
    ge0_mean: float = 40.0
    ge0_std: float = 15.0
    gi0_mean: float = 200.0
    gi0_std: float = 120.0


NETWORKS = {"coba_lif": CobaLif(), "coba_hh": CobaHh()}


def p_connect(n):
    """Probability of a connection."""
    return P_CONNECT if n < SPARSE_FROM else 80 / n


def scale(n):
    """In-degree in units of that at 4,000; weights are divided by it, so the mean input stays the same."""
    return n * p_connect(n) / 80


def n_excitatory(n):
    return round(FRACTION_EXCITATORY * n)


def draw(network, seed, n=4000):
    """(pre, post) of all synapses, sorted, and the initial state by name, from numpy: the same in every simulator.

    The rate of COBA-LIF varies by 6 % from graph to graph, so rates are best compared on one graph.
    """
    import numpy as np

    p, rng = NETWORKS[network], np.random.default_rng(seed)  # the order of the draws is part of the recipe
    pre, post = np.divmod(np.flatnonzero(rng.random(n * n) < p_connect(n)), n)
    state = {"v": p.v0_mean + p.v0_std * rng.standard_normal(n)}
    if network == "coba_hh":
        state["ge"] = p.ge0_mean + p.ge0_std * rng.standard_normal(n)
        state["gi"] = p.gi0_mean + p.gi0_std * rng.standard_normal(n)
    return (pre.astype(np.int32), post.astype(np.int32)), state


def rate(t, n, window_ms):
    """Mean rate (Hz) of n units in a window, from times (ms) at the middle of the step, clear of the window's edges."""
    start, end = window_ms
    return float(((t >= start) & (t < end)).sum() / n / (end - start) * 1000)


def cv_isi(t, i, min_intervals=5, ddof=0):
    """Mean over units of std/mean of their inter-spike intervals, units with at least `min_intervals`."""
    import numpy as np

    order = np.lexsort((t, i))
    t, i = t[order], i[order]
    trains = np.split(t, np.flatnonzero(np.diff(i)) + 1)
    return float(
        np.mean([np.std(np.diff(x), ddof=ddof) / np.mean(np.diff(x)) for x in trains if len(x) > min_intervals])
    )


# Mean rate from 500 ms on in Brian2 2.9 with exactly these numbers; a time with another rate is no time of the network.
REFERENCE_RATE_HZ = {
    ("coba_lif", 4000): 21.6,  # 8 seeds, sd 1.4
    ("coba_lif", 16000): 5.16,  # 3 seeds, sd 0.05
    ("coba_lif", 40000): 2.35,  # 3 seeds, sd 0.03
    ("coba_hh", 4000): 36.6,  # 16 seeds, sd 2.4
    ("coba_hh", 40000): 2.62,  # 5 seeds, sd 0.13
}
