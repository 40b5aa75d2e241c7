"""One member of `study.py` in Brian2: a C++ standalone program, built once and run once a member. Prints JSON.

`python _study_brian2.py GRAPH.npz UNITS T_MS MEMBERS DRIVE_MV`: the graph's pairs (pre, post) and its two weights.
"""

import json
import os
import resource
import sys
import tempfile

import brian2 as b2
import networks
import numpy as np
from _sim_brian2 import SEED, lif


def main(graph, n, t_ms, members, drive):
    folder = tempfile.mkdtemp(prefix="brian2-")
    b2.prefs.core.default_float_dtype = np.float32
    b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b2.defaultclock.dt = networks.DT_MS * b2.ms
    b2.device.insert_code("main", SEED.format(threads=1))
    group, *_ = lif(b2, n)
    group.namespace["drive"] = drive * b2.mV
    edges = []
    with np.load(graph) as file:
        for name, variable in (("exc", "ge"), ("inh", "gi")):
            edges.append(b2.Synapses(group, group, on_pre=f"{variable} += {float(file[f'{name}_weight'])!r}"))
            edges[-1].connect(i=file[f"{name}_pre"], j=file[f"{name}_post"])
    counted = b2.SpikeMonitor(group, record=False)
    net = b2.Network(group, counted, *edges)
    net.run(t_ms * b2.ms)
    b2.device.build(directory=folder, run=False, with_output=False)
    program, loop, rates = [], [], []
    for seed in range(members):
        os.environ["BENCH_SEED"] = str(seed + 1)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        b2.device.run(directory=folder, with_output=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        program.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        loop.append(float(b2.device._last_run_time))
        rates.append(float(np.sum(counted.count)) / n / t_ms * 1e3)
    about = {"version": b2.__version__, "precision": "float32", "rate_hz": float(np.mean(rates))}
    print(json.dumps(about | {"program_ms": 1e3 * float(np.median(program)), "loop_ms": 1e3 * float(np.median(loop))}))


if __name__ == "__main__":
    main(*(kind(x) for kind, x in zip((str, int, float, int, float), sys.argv[1:], strict=True)))
