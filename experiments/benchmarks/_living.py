"""Living parts within brainsim, beside the same network without them: a worker of `plasticity`."""

import sys

import diffrax
import jax
import numpy as np

import brainsim as bs
from experiments.benchmarks import _stdp as p, networks

P = networks.NETWORKS["coba_lif"]
N, SPLIT = 4_000, 3_200
UNITS = 10_000  # astrocytes


def coba(plastic=False, unit=lambda x: x, extra=None, edges=None):
    """COBA-LIF of 4,000 units."""
    lif = bs.LIF(tau_m=P.tau_m, e_l=P.e_l, v_th=P.v_th, v_reset=P.v_reset, t_ref=P.t_ref, g_l=P.g_l)
    receptors = {"exc": bs.ExpCond(tau=P.tau_e, e_rev=P.e_e), "inh": bs.ExpCond(tau=P.tau_i, e_rev=P.e_i)}
    cells = bs.Population(unit(lif), N, receptors, i_e=P.drive * P.g_l, init={"v": bs.Normal(P.v0_mean, P.v0_std)})
    w = {"exc": P.w_e * P.g_l, "inh": P.w_i * P.g_l}
    rules = {
        "exc": bs.PairSTDP(a_plus=0.01 * w["exc"], a_minus=0.0105 * w["exc"], w_max=2 * w["exc"]),
        "inh": bs.VogelsSprekeler(eta=1e-3 * w["inh"], rate=20.0, w_max=2 * w["inh"]),
    }
    connect, own = bs.FixedProbability(networks.P_CONNECT), dict(edges or {})
    for port, pre in (("exc", f"P[:{SPLIT}]"), ("inh", f"P[{SPLIT}:]")):
        if plastic:
            own[port] = bs.PlasticProjection(pre, f"P.{port}", connect, weight=w[port], rule=rules[port])
        else:
            own[port] = bs.Projection(pre, f"P.{port}", connect, weight=w[port])
    return bs.Network({"P": cells, **(extra or {})}, own, key=jax.random.key(0))


def listened(n=400):
    """COBA-LIF with one astrocyte to ten units."""
    glia = bs.Population(bs.LiRinzel(), n, {"glu": bs.Delta("ip3")})
    into = bs.Projection("P", "G.glu", bs.FixedOutDegree(1), weight=2e-4)
    return coba(extra={"G": glia}, edges={"PG": into})


def alone(unit):
    return bs.Network({"G": bs.Population(unit, UNITS)}, {}, key=jax.random.key(0))


EULER, HEUN = diffrax.Euler(), diffrax.Heun()
FORMS = {  # network, solver
    "coba": (coba, EULER),
    "coba, plastic": (lambda: coba(plastic=True), EULER),
    "coba, homeostatic": (lambda: coba(unit=lambda x: bs.Homeostatic(x, rate=20.0, eta=0.01)), EULER),
    "coba, astrocytes": (listened, {"P": EULER, "G": bs.Every(HEUN, 100)}),
    "LiRinzel": (lambda: alone(bs.LiRinzel()), HEUN),
    "GChI": (lambda: alone(bs.GChI()), HEUN),
}


def main(form, t_ms):
    make, solver = FORMS[form]
    net = make()
    state = bs.initial_state(net, dt=p.DT_MS, key=jax.random.key(1))

    def run():
        with p.Stopwatch() as watch:
            sol = bs.simulate(net, t1=t_ms, dt=p.DT_MS, solver=solver, state=state)
            jax.block_until_ready(sol.state)
        weights = [np.mean(z["w"], dtype=float) for z in sol.state.edges.values() if isinstance(z, dict) and "w" in z]
        events = int(sol.n_events.get("P", 0))
        return watch.cpu_s, watch.wall_s, events, events, weights[0] if weights else np.nan

    run()
    p.serve({"form": form, "steps": bs.summary(net, solver=solver).steps}, run)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
