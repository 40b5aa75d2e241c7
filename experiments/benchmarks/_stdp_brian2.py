"""Pair STDP in Brian2, C++ standalone, float32: `static`, `best` (traces in the groups) or `documented` (traces in the
synapses, event-driven, as in its documentation)."""

import sys
import tempfile

import _stdp as p
import brian2 as b2
import numpy as np

UNITS = """
dv/dt = (-v + current/g_l)/tau_m : 1
dcurrent/dt = -current/tau_syn : 1
"""
TRACE = "dseen/dt = -seen/tau : 1\n"
DOCUMENTED = """
w : 1
dapre/dt = -apre/tau : 1 (event-driven)
dapost/dt = -apost/tau : 1 (event-driven)
"""


def synapses(form, pre, post):
    if form == "static":
        return b2.Synapses(pre, post, "w : 1", on_pre="current_post += w")
    if form == "best":
        return b2.Synapses(
            pre,
            post,
            "w : 1",
            on_pre="current_post += w; w = clip(w - a_minus*seen_post, 0, w_max)",
            on_post="w = clip(w + a_plus*seen_pre, 0, w_max)",
        )
    return b2.Synapses(
        pre,
        post,
        DOCUMENTED,
        on_pre="current_post += w; apre += a_plus; w = clip(w - apost, 0, w_max)",
        on_post="apost += a_minus; w = clip(w + apre, 0, w_max)",
    )


def main(form, t_ms):
    folder = tempfile.mkdtemp(prefix="brian2-")
    b2.prefs.core.default_float_dtype = np.float32
    b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b2.prefs.devices.cpp_standalone.openmp_threads = 0
    b2.defaultclock.dt = p.DT_MS * b2.ms
    values = {"tau_m": p.TAU_M_MS * b2.ms, "tau_syn": p.TAU_SYN_MS * b2.ms, "tau": p.TAU_MS * b2.ms}
    values |= {"g_l": p.G_L, "a_plus": p.A_PLUS, "a_minus": p.A_MINUS, "w_max": p.W_MAX}
    values |= {"q": p.RATE_HZ * p.DT_MS * 1e-3, "v_th": p.THRESHOLD_MV}
    own = TRACE if form == "best" else ""
    jump = "seen += 1" if form == "best" else ""
    kwargs = {"method": "exact", "namespace": values}
    if form == "best":
        pre = b2.NeuronGroup(p.N, TRACE, threshold="rand() < q", reset=jump, **kwargs)
    else:
        pre = b2.PoissonGroup(p.N, p.RATE_HZ * b2.Hz)
    drive = b2.PoissonGroup(p.N, p.RATE_HZ * b2.Hz)
    post = b2.NeuronGroup(p.N, UNITS + own, threshold="v > v_th", reset="v = 0\n" + jump, **kwargs)
    kick = b2.Synapses(drive, post, on_pre=f"v_post += {p.KICK_MV}")
    kick.connect(j="i")
    s = synapses(form, pre, post)
    s.namespace.update(values)
    i, j = p.graph()
    s.connect(i=i, j=j)
    s.w = p.W0
    pre_events, post_events = b2.SpikeMonitor(pre), b2.SpikeMonitor(post)
    b2.run(t_ms * b2.ms)
    b2.device.build(directory=folder, run=False, with_output=False)

    def run():
        b2.device.run(directory=folder, with_output=False)
        took = float(b2.device._last_run_time)  # the loop alone; without OpenMP, Brian2's clock is the processor's
        return took, took, *(np.asarray(x.i).size for x in (pre_events, post_events)), np.mean(s.w[:])

    p.serve({"simulator": "brian2", "version": b2.__version__, "form": form}, run)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
