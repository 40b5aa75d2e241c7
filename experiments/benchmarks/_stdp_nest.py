"""Pair STDP in NEST between parrots that repeat given trains: `none`, `static` or `plastic`.

Injectors cost least of what NEST can be given trains by, and the post units take the synapses at receptor 1, which they
do not repeat: this is the cost of synapses with as little of units as NEST allows.
"""

import sys

import _stdp as p
import nest
import numpy as np


def main(form, t_ms):
    sides = p.trains(t_ms)
    pairs = p.graph()

    def build():
        nest.ResetKernel()
        nest.set(resolution=p.DT_MS, local_num_threads=1, print_time=False)
        units = []
        for step, unit in sides:
            order = np.argsort(unit, kind="stable")
            times = (step[order] + 1) * p.DT_MS
            ends = np.searchsorted(unit[order], np.arange(1, p.N))
            source = nest.Create("spike_train_injector", p.N)
            source.set([{"spike_times": np.round(x, 1)} for x in np.split(times, ends)])
            parrots = nest.Create("parrot_neuron", p.N)
            nest.Connect(source, parrots, "one_to_one", {"delay": p.DT_MS})
            units.append(parrots)
        if form != "none":
            model = {"synapse_model": "static_synapse"}
            if form == "plastic":
                scale = {"lambda": p.A_PLUS, "alpha": p.A_MINUS / p.A_PLUS, "mu_plus": 0.0, "mu_minus": 0.0}
                nest.CopyModel("stdp_synapse", "own", scale | {"Wmax": p.W_MAX, "tau_plus": p.TAU_MS})
                units[1].set(tau_minus=p.TAU_MS)
                model = {"synapse_model": "own"}
            ids = [np.asarray(x.tolist()) for x in units]
            n = pairs[0].size
            rest = {"weight": np.full(n, p.W0), "delay": np.full(n, p.DT_MS), "receptor_type": 1}
            nest.Connect(ids[0][pairs[0]], ids[1][pairs[1]], "one_to_one", model | rest)
        nest.Prepare()
        nest.Run(p.DT_MS)  # the first step sorts the connections

    def run():
        build()
        with p.Stopwatch() as watch:
            nest.Run(t_ms - p.DT_MS)
        nest.Cleanup()
        mean = np.nan
        if form != "none":
            some = nest.GetConnections(synapse_model="own" if form == "plastic" else "static_synapse")
            mean = np.mean(some[-100_000:].get("weight")) if form == "plastic" else p.W0
        nest.ResetKernel()  # a gigabyte, while others run
        return watch.cpu_s, watch.wall_s, sides[0][0].size, sides[1][0].size, mean

    p.serve({"simulator": "nest", "version": nest.__version__, "form": form}, run)


if __name__ == "__main__":
    nest.set_verbosity("M_ERROR")
    main(sys.argv[1], float(sys.argv[2]))
