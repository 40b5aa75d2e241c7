"""brainsim through its public `simulate`: forward Euler (COBA-LIF) or exponential Euler (COBA-HH), compact spikes."""

import importlib.metadata
import os
import time

import networks
from _worker import Run, Stopwatch, main


def lif(bs, diffrax, n):
    p = networks.NETWORKS["coba_lif"]
    unit = bs.LIF(tau_m=p.tau_m, e_l=p.e_l, v_th=p.v_th, v_reset=p.v_reset, t_ref=p.t_ref, g_l=p.g_l)
    return unit, {"i_e": p.drive * p.g_l, "init": {"v": bs.Normal(p.v0_mean, p.v0_std)}}, diffrax.Euler(), p.g_l


def hh(bs, diffrax, n):
    p = networks.NETWORKS["coba_hh"]
    names = ("c_m", "g_l", "e_l", "g_na", "e_na", "g_k", "e_k", "v_t", "v_th", "t_ref")
    unit = bs.TraubMiles(**{name: getattr(p, name) for name in names})
    init = {"v": bs.Normal(p.v0_mean, p.v0_std), "m": 0.0, "n": 0.0, "h": 0.0}
    init |= {"exc.g": bs.Normal(p.ge0_mean, p.ge0_std), "inh.g": bs.Normal(p.gi0_mean, p.gi0_std)}
    return unit, {"init": init}, bs.ExponentialEuler(), 1.0


def build(bs, jax, diffrax, opts, seed):
    unit, about_units, solver, unit_weight = {"coba_lif": lif, "coba_hh": hh}[opts.network](bs, diffrax, opts.n)
    p, s = networks.NETWORKS[opts.network], networks.scale(opts.n)
    receptors = {"exc": bs.ExpCond(tau=p.tau_e, e_rev=p.e_e), "inh": bs.ExpCond(tau=p.tau_i, e_rev=p.e_i)}
    split, rule = networks.n_excitatory(opts.n), bs.FixedProbability(networks.p_connect(opts.n))
    net = bs.Network(
        nodes={"P": bs.Population(unit, opts.n, receptors, **about_units)},
        edges={
            "exc": bs.Projection(f"P[:{split}]", "P.exc", rule, weight=p.w_e * unit_weight / s),
            "inh": bs.Projection(f"P[{split}:]", "P.inh", rule, weight=p.w_i * unit_weight / s),
        },
        key=jax.random.key(seed),
    )
    return net, solver


def version():
    try:
        return importlib.metadata.version("brainsim")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "checkout"


def prepare(opts):
    if opts.precision == "float64":
        os.environ["JAX_ENABLE_X64"] = "1"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import diffrax
    import jax
    import numpy as np

    import brainsim as bs

    if not bs.backend().startswith("kernels") and not os.environ.get("BRAINSIM_BENCH_ALLOW_PURE"):
        raise SystemExit(f"brainsim runs on {bs.backend()}, not its kernels; BRAINSIM_BENCH_ALLOW_PURE=1 insists")

    def run(seed):
        start = time.perf_counter()
        net, solver = build(bs, jax, diffrax, opts, seed)
        build_s = time.perf_counter() - start

        def simulate():
            # room for twice the spikes where it is most of the memory; small networks begin with a burst
            room = 50.0 if opts.n >= networks.SPARSE_FROM else 100.0
            saveat, key = [bs.Spikes("P", max_rate=room)], jax.random.key(seed)
            with Stopwatch() as watch:  # the whole call, as the user waits for it
                sol = bs.simulate(net, t1=opts.t_ms, dt=networks.DT_MS, solver=solver, saveat=saveat, key=key)
            return watch, sol

        cold = simulate()[0]
        warm, sol = simulate()
        compile_s = max(cold.run_s - warm.run_s, 0.0)
        by_step = np.asarray(sol["P.spikes"].counts)
        late = int(by_step[round(networks.WINDOW_START_MS / networks.DT_MS) :].sum())
        rate = late / opts.n / (opts.t_ms - networks.WINDOW_START_MS) * 1000
        return Run(warm.run_s, warm.cpu_s, build_s, compile_s, rate, int(by_step.sum()) / opts.n / opts.t_ms * 1000)

    about = {
        "simulator": "brainsim",
        "version": version(),
        "integrator": "forward Euler" if opts.network == "coba_lif" else "exponential Euler",
        "precision": opts.precision or "float32",
        "backend": f"{bs.backend()}, jax {jax.__version__}",
        "recording": "Spikes (compact) of all units",
    }
    return about, run


if __name__ == "__main__":
    main(prepare)
