"""The published equations in Brian2, in an environment of its own: `python brian.py PROBLEM RESULT [standalone]`.

PROBLEM, an npz, holds `n`, `pre`, `post`, `weight` (signed counts), `stimulated`, `t1` (ms) and either `rate` (Hz) or
the train `ids`, `steps`.
"""

import sys
import time

import numpy as np
from brian2 import (
    Hz,
    Network,
    NeuronGroup,
    PoissonInput,
    SpikeGeneratorGroup,
    SpikeMonitor,
    Synapses,
    defaultclock,
    device,
    ms,
    mV,
    prefs,
    set_device,
)

EQUATIONS = """
dv/dt = (v_0 - v + g) / t_mbr : volt (unless refractory)
dg/dt = -g / tau : volt (unless refractory)
rfc : second
"""


def main(problem: str, result: str, standalone: bool) -> None:
    z = np.load(problem)
    if standalone:
        set_device("cpp_standalone", directory=None, build_on_run=False)
        prefs.devices.cpp_standalone.openmp_threads = 0
    else:
        prefs.codegen.target = "numpy"
    defaultclock.dt = 0.1 * ms
    constants = dict(v_0=-52 * mV, v_rst=-52 * mV, v_th=-45 * mV, t_mbr=20 * ms, tau=5 * ms)
    rules = dict(threshold="v > v_th", reset="v = v_rst; g = 0 * mV", refractory="rfc", method="linear")
    neurons = NeuronGroup(int(z["n"]), EQUATIONS, namespace=constants, **rules)
    neurons.v, neurons.g, rest = -52 * mV, 0 * mV, np.full(int(z["n"]), 2.2)
    rest[z["stimulated"]] = 0.0
    neurons.rfc = rest * ms
    wiring = Synapses(neurons, neurons, "w : volt", on_pre="g += w", delay=1.8 * ms)
    wiring.connect(i=z["pre"], j=z["post"])
    wiring.w = z["weight"] * 0.275 * mV
    monitor = SpikeMonitor(neurons)
    parts = [neurons, wiring, monitor]
    if "rate" in z.files:
        kicks = [
            PoissonInput(neurons[int(k) : int(k) + 1], "v", 1, float(z["rate"]) * Hz, 68.75 * mV)
            for k in z["stimulated"]
        ]
        parts += kicks
    else:
        train = SpikeGeneratorGroup(z["stimulated"].size, z["ids"], z["steps"] * 0.1 * ms)
        kick = Synapses(train, neurons, on_pre="v += 68.75 * mV")
        kick.connect(i=np.arange(z["stimulated"].size), j=z["stimulated"])
        parts += [train, kick]
    net, began = Network(*parts), time.perf_counter()
    net.run(float(z["t1"]) * ms)
    if standalone:
        device.build(directory="brian", compile=True, run=True, with_output=False)
    wall = device._last_run_time if standalone else time.perf_counter() - began
    np.savez_compressed(
        result, ids=np.asarray(monitor.i, np.int32), steps=np.round(monitor.t / (0.1 * ms)).astype(np.int32), wall=wall
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], len(sys.argv) > 3)
