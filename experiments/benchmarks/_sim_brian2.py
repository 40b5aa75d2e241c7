"""Brian2, C++ standalone: forward Euler (COBA-LIF) or exponential Euler (COBA-HH), spikes of all units recorded."""

import os
import tempfile
import time

import networks
from _worker import Run, main, rates

LIF = """
dv/dt = (ge*(e_e - v) + gi*(e_i - v) - (v - e_l) + drive)/tau_m : volt (unless refractory)
dge/dt = -ge/tau_e : 1
dgi/dt = -gi/tau_i : 1
"""

HH = """
dv/dt = (g_l*(e_l - v) + ge*(e_e - v) + gi*(e_i - v)
         - g_na*(m*m*m)*h*(v - e_na) - g_k*(n*n*n*n)*(v - e_k))/c_m : volt
dm/dt = alpha_m*(1 - m) - beta_m*m : 1
dn/dt = alpha_n*(1 - n) - beta_n*n : 1
dh/dt = alpha_h*(1 - h) - beta_h*h : 1
dge/dt = -ge/tau_e : siemens
dgi/dt = -gi/tau_i : siemens
alpha_m = 0.32/mV*4*mV/exprel((13*mV - v + v_t)/(4*mV))/ms : Hz
beta_m = 0.28/mV*5*mV/exprel((v - v_t - 40*mV)/(5*mV))/ms : Hz
alpha_h = 0.128*exp((17*mV - v + v_t)/(18*mV))/ms : Hz
beta_h = 4./(1 + exp((40*mV - v + v_t)/(5*mV)))/ms : Hz
alpha_n = 0.032/mV*5*mV/exprel((15*mV - v + v_t)/(5*mV))/ms : Hz
beta_n = .5*exp((10*mV - v + v_t)/(40*mV))/ms : Hz
"""

# The seed is read when the program runs, so one build serves every repeat.
SEED = """
for (int _s = 0; _s < {threads}; _s++)
    brian::_random_generators[_s].seed(std::strtoul(std::getenv("BENCH_SEED"), nullptr, 10) + 1000*_s);
"""


def lif(b2, n):
    p, s = networks.NETWORKS["coba_lif"], networks.scale(n)
    mv, ms = b2.mV, b2.ms
    values = {key: getattr(p, key) * mv for key in ("e_e", "e_i", "e_l", "v_th", "v_reset", "drive")}
    values |= {key: getattr(p, key) * ms for key in ("tau_m", "tau_e", "tau_i")}
    group = b2.NeuronGroup(
        n,
        LIF,
        threshold="v > v_th",
        reset="v = v_reset",
        refractory=p.t_ref * ms,
        method="euler",
        namespace=values,
        name="units",
    )
    group.v = f"({p.v0_mean} + {p.v0_std}*randn())*mV"
    return group, f"ge += {p.w_e / s!r}", f"gi += {p.w_i / s!r}", "forward Euler"


def hh(b2, n, refractory=None):
    """`refractory="v > v_th"` makes a spike an upward crossing instead."""
    p, s = networks.NETWORKS["coba_hh"], networks.scale(n)
    values = {key: getattr(p, key) * b2.mV for key in ("e_e", "e_i", "e_l", "e_na", "e_k", "v_t", "v_th")}
    values |= {key: getattr(p, key) * b2.ms for key in ("tau_e", "tau_i")}
    values |= {key: getattr(p, key) * b2.nS for key in ("g_l", "g_na", "g_k")} | {"c_m": p.c_m * b2.pF}
    group = b2.NeuronGroup(
        n,
        HH,
        threshold="v > v_th",
        refractory=refractory or p.t_ref * b2.ms,
        method="exponential_euler",
        namespace=values,
        name="units",
    )
    group.v = f"({p.v0_mean} + {p.v0_std}*randn())*mV"
    group.ge = f"({p.ge0_mean} + {p.ge0_std}*randn())*nS"
    group.gi = f"({p.gi0_mean} + {p.gi0_std}*randn())*nS"
    return group, f"ge += {p.w_e / s!r}*nS", f"gi += {p.w_i / s!r}*nS", "exponential Euler"


def prepare(opts):
    start = time.perf_counter()
    import brian2 as b2
    import numpy as np

    precision = opts.precision or "float64"
    b2.prefs.core.default_float_dtype = np.dtype(precision).type
    folder = opts.workdir or tempfile.mkdtemp(prefix="brian2-")
    b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b2.prefs.devices.cpp_standalone.openmp_threads = opts.threads if opts.threads > 1 else 0
    b2.defaultclock.dt = networks.DT_MS * b2.ms
    b2.device.insert_code("main", SEED.format(threads=opts.threads))
    group, on_exc, on_inh, integrator = {"coba_lif": lif, "coba_hh": hh}[opts.network](b2, opts.n)
    split = networks.n_excitatory(opts.n)
    exc = b2.Synapses(group[:split], group, on_pre=on_exc)
    inh = b2.Synapses(group[split:], group, on_pre=on_inh)
    exc.connect(p=networks.p_connect(opts.n))
    inh.connect(p=networks.p_connect(opts.n))
    spikes = b2.SpikeMonitor(group)
    b2.run(opts.t_ms * b2.ms)
    describe_s = time.perf_counter() - start
    start = time.perf_counter()
    b2.device.build(directory=folder, run=False, with_output=False)
    compile_s = time.perf_counter() - start

    def run(seed):
        os.environ["BENCH_SEED"] = str(seed)
        start = time.perf_counter()
        b2.device.run(directory=folder, with_output=False)
        run_s = float(b2.device._last_run_time)  # Brian2's own figure: the loop alone
        build_s = time.perf_counter() - start - run_s  # the program draws the graph and writes its results to disk
        t = np.asarray(spikes.t / b2.ms)
        run.spikes = t, np.asarray(spikes.i)
        cpu_s = run_s if opts.threads == 1 else None  # without OpenMP, Brian2's clock is the processor's
        return Run(run_s, cpu_s, build_s, 0.0, *rates(t, opts, networks.WINDOW_START_MS))

    about = {
        "simulator": "brian2",
        "version": b2.__version__,
        "integrator": integrator,
        "precision": precision,
        "backend": "C++ standalone, " + " ".join(b2.prefs.codegen.cpp.extra_compile_args_gcc),
        "recording": "SpikeMonitor on all units",
        "describe_s": describe_s,
        "compile_s": compile_s,
    }
    return about, run


if __name__ == "__main__":
    main(prepare)
