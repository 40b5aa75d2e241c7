"""NEST: iaf_cond_exp or hh_cond_exp_traub (both adaptive RKF45), delay one step, spikes of all units in memory."""

import time

import networks
from _worker import Run, Stopwatch, main, rates


def lif(n, rng):
    p, s = networks.NETWORKS["coba_lif"], networks.scale(n)
    parameters = dict(C_m=p.c_m, g_L=p.g_l, E_L=p.e_l, V_reset=p.v_reset, V_th=p.v_th, t_ref=p.t_ref)
    parameters |= dict(tau_syn_ex=p.tau_e, tau_syn_in=p.tau_i, E_ex=p.e_e, E_in=p.e_i, I_e=p.drive * p.g_l)
    state = dict(V_m=rng.normal(p.v0_mean, p.v0_std, n))
    return "iaf_cond_exp", parameters, state, (), p.w_e * p.g_l / s, -p.w_i * p.g_l / s


def hh(n, rng):
    p, s = networks.NETWORKS["coba_hh"], networks.scale(n)
    parameters = dict(C_m=p.c_m, g_L=p.g_l, E_L=p.e_l, g_Na=p.g_na, g_K=p.g_k, E_Na=p.e_na, E_K=p.e_k, V_T=p.v_t)
    parameters |= dict(t_ref=p.t_ref, tau_syn_ex=p.tau_e, tau_syn_in=p.tau_i, E_ex=p.e_e, E_in=p.e_i)
    state = dict(V_m=rng.normal(p.v0_mean, p.v0_std, n), Act_m=[0.0] * n, Inact_h=[0.0] * n, Act_n=[0.0] * n)
    # g_ex and g_in cannot be set: one spike to every unit brings them, with the drawn weight; a weight below 0 would
    # reach the other receptor, so the negative draws (0.4 % of the excitatory, 5 % of the inhibitory) become 0
    first = rng.normal(p.ge0_mean, p.ge0_std, n).clip(0), -rng.normal(p.gi0_mean, p.gi0_std, n).clip(0)
    return "hh_cond_exp_traub", parameters, state, first, p.w_e / s, -p.w_i / s


def build(nest, opts, seed):
    import numpy as np

    describe = {"coba_lif": lif, "coba_hh": hh}[opts.network]
    model, parameters, state, first, w_e, w_i = describe(opts.n, np.random.default_rng(seed))
    nest.ResetKernel()
    nest.set(resolution=networks.DT_MS, local_num_threads=opts.threads, rng_seed=seed + 1)
    units = nest.Create(model, opts.n, parameters)
    for name, value in state.items():
        units.set({name: value})
    split = networks.n_excitatory(opts.n)
    rule = {"rule": "pairwise_bernoulli", "p": networks.p_connect(opts.n)}  # self-connections are allowed by default
    for name, weight, pre in (("exc", w_e, units[:split]), ("inh", w_i, units[split:])):
        nest.CopyModel("static_synapse_hom_w", name, {"weight": weight, "delay": networks.DT_MS})
        nest.Connect(pre, units, rule, {"synapse_model": name})
    for weights in first:
        once = nest.Create("spike_generator", params={"spike_times": [networks.DT_MS]})
        nest.Connect(once, units, "all_to_all", {"weight": weights[:, None], "delay": networks.DT_MS})
    recorder = nest.Create("spike_recorder")
    nest.Connect(units, recorder)
    nest.Prepare()
    return recorder


def prepare(opts):
    import nest
    import numpy as np

    def run(seed):
        start = time.perf_counter()
        recorder = build(nest, opts, seed)
        nest.Run(networks.DT_MS)  # the first step sorts the connections
        build_s = time.perf_counter() - start
        with Stopwatch() as watch:
            nest.Run(opts.t_ms - networks.DT_MS)
        nest.Cleanup()
        times = np.asarray(recorder.events["times"])
        return Run(watch.run_s, watch.cpu_s, build_s, 0.0, *rates(times, opts, networks.WINDOW_START_MS))

    about = {
        "simulator": "nest",
        "version": nest.__version__,
        "integrator": "adaptive RKF45",
        "precision": "float64",
        "backend": "iaf_cond_exp" if opts.network == "coba_lif" else "hh_cond_exp_traub",
        "recording": "spike_recorder (memory) on all units",
    }
    return about, run


if __name__ == "__main__":
    main(prepare)
