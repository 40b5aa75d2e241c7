"""Pair STDP in brainsim: `static` or `plastic`."""

import sys

import jax
import numpy as np

import brainsim as bs
from experiments.benchmarks import _stdp as p


def network(form):
    rule = bs.PairSTDP(tau_plus=p.TAU_MS, tau_minus=p.TAU_MS, a_plus=p.A_PLUS, a_minus=p.A_MINUS, w_max=p.W_MAX)
    cell = bs.LIF(tau_m=p.TAU_M_MS, g_l=p.G_L, e_l=0.0, v_reset=0.0, v_th=p.THRESHOLD_MV)
    nodes = {
        "A": bs.Source(bs.Poisson(p.RATE_HZ), p.N),
        "D": bs.Source(bs.Poisson(p.RATE_HZ), p.N),
        "B": bs.Population(cell, p.N, {"kick": bs.Delta(), "exc": bs.ExpCurr(tau=p.TAU_SYN_MS)}),
    }
    pre, post = p.graph()
    graph = bs.CSR.from_coo(pre, post, p.N, p.N)[0]
    edges = {"K": bs.Projection("D", "B.kick", bs.OneToOne(), weight=p.KICK_MV)}
    if form == "static":
        edges["S"] = bs.Projection("A", "B.exc", graph, weight=np.full(pre.size, p.W0, np.float32))
    else:
        edges["S"] = bs.PlasticProjection("A", "B.exc", graph, weight=p.W0, rule=rule)
    return bs.Network(nodes, edges, key=jax.random.key(0))


def main(form, t_ms):
    net = network(form)
    state = bs.initial_state(net, dt=p.DT_MS, key=jax.random.key(1))

    def run():
        with p.Stopwatch() as watch:
            sol = bs.simulate(net, t1=t_ms, dt=p.DT_MS, state=state)
            jax.block_until_ready(sol.state)
        w = p.W0 if form == "static" else np.mean(sol.state.edges["S"]["w"], dtype=float)
        return watch.cpu_s, watch.wall_s, int(sol.n_events["A"]), int(sol.n_events["B"]), w

    run()
    p.serve({"simulator": "brainsim", "version": bs.__version__, "form": form, "steps": bs.summary(net).steps}, run)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
