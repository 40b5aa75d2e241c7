"""Spikes of NEST 3.10 on a random network of its own making, with replayed Poisson trains.

`PYTHON_WITH_NEST tests/golden/peers/nest_spikes.py iaf_psc_exp 200 tests/golden/nest_iaf_psc_exp.npz`;
`test_nest_spikes.py` compares. Times are steps of 0.1 ms, an entry a spike.
"""

import sys

import numpy as np

DT, T1, DRIVE_DELAY = 0.1, 1000.0, 1.5  # ms
CELL = {"C_m": 250.0, "tau_m": 10.0, "E_L": -65.0, "V_m": -65.0, "V_th": -50.0, "V_reset": -65.0, "t_ref": 2.0}
MODELS = {  # parameters beside CELL; excitatory weight, drive's weight (pA or mV)
    "iaf_psc_exp": ({"tau_syn_ex": 0.5, "tau_syn_in": 1.0}, 400.0, 1200.0),
    "iaf_psc_delta": ({}, 0.7, 2.2),
}
RATE, IN_DEGREE = 700.0, 0.1  # Hz of the drive of a unit; of the units of each kind


def run(model, n):
    import nest

    nest.set_verbosity("M_ERROR")
    nest.SetKernelStatus({"resolution": DT, "rng_seed": 1, "local_num_threads": 1})
    extra, w, w_drive = MODELS[model]
    n_e = n * 4 // 5
    units = nest.Create(model, n, CELL | extra)
    for sources, strength in ((units[:n_e], w), (units[n_e:], -4.0 * w)):
        law = nest.random.normal(mean=strength, std=0.1 * abs(strength))
        delay = nest.random.uniform(min=0.5, max=4.0)
        rule = {"rule": "fixed_indegree", "indegree": round(IN_DEGREE * len(sources))}
        nest.Connect(sources, units, rule, {"weight": law, "delay": delay})
    made = nest.GetConnections(units, units).get(("source", "target", "weight", "delay"))
    steps, ids = np.nonzero(np.random.default_rng(1).random((round(T1 / DT), n)) < RATE * DT * 1e-3)
    for k in range(n):
        times = np.round((steps[ids == k] + 1) * DT, 1)
        drive = nest.Create("spike_generator", params={"spike_times": times})
        nest.Connect(drive, units[k], syn_spec={"weight": w_drive, "delay": DRIVE_DELAY})
    recorder = nest.Create("spike_recorder")
    nest.Connect(units, recorder)
    nest.Simulate(T1)
    found = recorder.get("events")
    first = units[0].global_id
    return {
        "pre": np.asarray(made["source"], np.uint16) - first,
        "post": np.asarray(made["target"], np.uint16) - first,
        "weight": np.asarray(made["weight"]),
        "delay": np.round(np.asarray(made["delay"]) / DT).astype(np.uint8),
        "drive_steps": (steps + 1).astype(np.uint16),
        "drive_ids": ids.astype(np.uint16),
        "drive_weight": w_drive,
        "spike_steps": np.round(found["times"] / DT).astype(np.uint16),
        "spike_ids": (found["senders"] - first).astype(np.uint16),
    }


if __name__ == "__main__":
    out = run(sys.argv[1], int(sys.argv[2]))
    np.savez_compressed(sys.argv[3], n=int(sys.argv[2]), **out)
    print(len(out["spike_ids"]), "spikes,", len(out["spike_ids"]) / int(sys.argv[2]) / T1 * 1e3, "Hz")
