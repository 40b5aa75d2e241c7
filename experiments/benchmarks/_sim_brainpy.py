"""BrainPy, classic `bp.dyn` objects: event-driven CSR, one jitted loop, spikes of all units as a dense raster.

Two differences of BrainPy itself: a conductance decays once before it is first used (Brian2 uses it, then lets it
decay), and a Traub-Miles spike is an upward crossing of the threshold.
"""

import time

import networks
from _worker import Run, Stopwatch, main, rates


def lif(bp, n, v0):
    p = networks.NETWORKS["coba_lif"]
    neuron = dict(V_rest=p.e_l, V_th=p.v_th, V_reset=p.v_reset, tau=p.tau_m, tau_ref=p.t_ref, V_initializer=v0)
    return bp.dyn.LifRef(n, method="euler", **neuron), "euler", p.drive


def hh(bp, n, v0):
    p = networks.NETWORKS["coba_hh"]
    from brainpy.channels import IK_TM1991, IL, INa_TM1991

    class TraubMiles(bp.dyn.CondNeuGroupLTC):  # LTC: the synaptic current is part of the derivative, as elsewhere
        def __init__(self):
            super().__init__(n, C=p.c_m, V_th=p.v_th, V_initializer=v0, method="exp_auto", input_var=False)
            self.INa = INa_TM1991(n, g_max=p.g_na, E=p.e_na, V_sh=p.v_t)
            self.IK = IK_TM1991(n, g_max=p.g_k, E=p.e_k, V_sh=p.v_t)
            self.IL = IL(n, g_max=p.g_l, E=p.e_l)

    return TraubMiles(), "exp_auto", 0.0


def network(bp, bm, neurons, method, drive, graphs, weights, times, reversals, n):
    split = networks.n_excitatory(n)

    class EINet(bp.DynSysGroup):
        def __init__(self):
            super().__init__()
            self.N = neurons
            self.delay = bp.VarDelay(self.N.spike, entries={"I": None})
            self.E, self.I = (
                bp.dyn.HalfProjAlignPostMg(
                    comm=bp.dnn.EventCSRLinear(bp.conn.CSRConn(*graph)(pre_size=len(graph[1]) - 1, post_size=n), w),
                    syn=bp.dyn.Expon.desc(size=n, tau=tau, method=method),
                    out=bp.dyn.COBA.desc(E=reversal),
                    post=self.N,
                )
                for graph, w, tau, reversal in zip(graphs, weights, times, reversals, strict=True)
            )

        def update(self, drive):
            spikes = self.delay.at("I")
            self.E(spikes[:split])
            self.I(spikes[split:])
            self.delay(self.N(drive))
            return self.N.spike.value

    return EINet()


def bernoulli(rng, n_pre, n_post, p):
    """(indices, indptr): every ordered pair with probability p, by geometric gaps from one to the next."""
    import numpy as np

    pairs, mean = n_pre * n_post, n_pre * n_post * p
    at = np.cumsum(rng.geometric(p, size=int(mean + 10 * mean**0.5 + 10))) - 1
    pre, post = np.divmod(at[at < pairs], n_post)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(pre, minlength=n_pre))])
    return post.astype(np.int32), indptr


def prepare(opts):
    import brainpy as bp
    import brainpy.math as bm
    import numpy as np

    bm.set_platform("cpu")
    bm.set_dt(networks.DT_MS)
    bm.set_environment(x64=opts.precision == "float64")
    p, s = networks.NETWORKS[opts.network], networks.scale(opts.n)
    describe = {"coba_lif": lif, "coba_hh": hh}[opts.network]
    steps = round(opts.t_ms / networks.DT_MS)

    def run(seed):
        start = time.perf_counter()
        rng = np.random.default_rng(seed)
        split = networks.n_excitatory(opts.n)
        chance = networks.p_connect(opts.n)
        graphs = bernoulli(rng, split, opts.n, chance), bernoulli(rng, opts.n - split, opts.n, chance)
        v0 = bm.asarray(rng.normal(p.v0_mean, p.v0_std, opts.n))
        g0 = [np.zeros(opts.n), np.zeros(opts.n)]
        if opts.network == "coba_hh":
            g0 = [rng.normal(p.ge0_mean, p.ge0_std, opts.n), rng.normal(p.gi0_mean, p.gi0_std, opts.n)]
        neurons, method, drive = describe(bp, opts.n, v0)
        weights, times, reversals = (p.w_e / s, p.w_i / s), (p.tau_e, p.tau_i), (p.e_e, p.e_i)
        net = network(bp, bm, neurons, method, drive, graphs, weights, times, reversals, opts.n)
        build_s = time.perf_counter() - start

        def begin():
            net.N.V.value = v0
            if opts.network == "coba_hh":
                for gate in (net.N.INa.p, net.N.INa.q, net.N.IK.p):
                    gate.value = bm.zeros(opts.n)
            for projection, g in zip((net.E, net.I), g0, strict=True):
                projection.syn.g.value = bm.asarray(g)

        @bm.jit
        def loop():
            return bm.for_loop(lambda i: net.step_run(i, drive), bm.arange(steps))

        watches = []
        for _ in range(2):  # the first call compiles
            net.reset()
            begin()
            with Stopwatch() as watch:
                raster = loop()
                bm.as_jax(raster).block_until_ready()
            watches.append(watch)
        cold, warm = watches
        raster = np.asarray(raster)
        times_ms = np.repeat(np.arange(steps) * networks.DT_MS, raster.sum(1))
        compile_s = max(cold.run_s - warm.run_s, 0.0)
        return Run(warm.run_s, warm.cpu_s, build_s, compile_s, *rates(times_ms, opts, networks.WINDOW_START_MS))

    about = {
        "simulator": "brainpy",
        "version": bp.__version__,
        "integrator": "forward Euler" if opts.network == "coba_lif" else "exponential Euler",
        "precision": opts.precision or "float32",
        "backend": "bp.dyn, EventCSRLinear (brainevent, numba)",
        "recording": "dense raster of all units",
    }
    return about, run


if __name__ == "__main__":
    main(prepare)
