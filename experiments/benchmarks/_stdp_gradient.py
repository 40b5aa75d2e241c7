"""A run of pair STDP over 1,000 x 1,000 synapses at 10 Hz, or its gradient in all initial weights and a parameter of
the rule: a worker of `plasticity`."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs
from experiments.benchmarks import _stdp as p

N = 1_000


def network():
    cell = bs.LIF(tau_m=p.TAU_M_MS, g_l=p.G_L, e_l=0.0, v_reset=0.0, v_th=p.THRESHOLD_MV)
    nodes = {
        "A": bs.Source(bs.Poisson(p.RATE_HZ), N),
        "D": bs.Source(bs.Poisson(p.RATE_HZ), N),
        "B": bs.Population(cell, N, {"kick": bs.Delta(), "exc": bs.ExpCurr(tau=p.TAU_SYN_MS)}),
    }
    rule = bs.PairSTDP(a_plus=p.A_PLUS, a_minus=p.A_MINUS)
    edges = {
        "K": bs.Projection("D", "B.kick", bs.OneToOne(), weight=p.KICK_MV),
        "S": bs.PlasticProjection("A", "B.exc", bs.AllToAll(), weight=np.full((N, N), p.W0, np.float32), rule=rule),
    }
    return bs.Network(nodes, edges, key=jax.random.key(0))


def main(form, t_ms):
    net = network()

    def loss(w, a):
        own = bs.train.with_parameters(net, {"S.weight": w, "S.rule.a_plus": a})
        sol = bs.simulate(own, t1=t_ms, dt=p.DT_MS, key=jax.random.key(1), throw=False)
        w = sol.state.edges["S"]["w"]
        return jnp.mean(w**2) + 1e-3 * jnp.mean(sol.state.nodes["B"].y["unit"]["v"]), jnp.mean(w)

    given = jnp.full(np.shape(net.edges["S"].weight), p.W0), jnp.float32(p.A_PLUS)
    call = loss if form == "forward" else jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    made = jax.jit(call).lower(*given).compile()

    def run():
        with p.Stopwatch() as watch:
            out = jax.block_until_ready(made(*given))
        mean = out[1] if form == "forward" else out[0][1]
        return watch.cpu_s, watch.wall_s, 0, 0, mean

    run()
    p.serve({"form": form, "temporary_mb": made.memory_analysis().temp_size_in_bytes / 1e6}, run)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
