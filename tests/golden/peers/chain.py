"""Spike steps of the two-neuron chain in a peer; writes them into ../chain.json.

Run with a Python that has the peer: `python tests/golden/peers/chain.py brian2` (or `nest`).
A step n is the update from n*dt to (n+1)*dt. Brian2 labels a spike n*dt, NEST (n+1)*dt; both become n here.
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).parent.parent / "chain.json"
DT = 0.1  # ms
T = 200.0  # ms


def brian2(case, clamped):
    """Forward Euler; the refractory period is one step longer because Brian2 clamps `round(t_ref/dt) - 1` steps."""
    import brian2 as b2

    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = DT * b2.ms
    equations = """
    dv/dt = (ge*(0*mV - v) + i_syn - (v + 60*mV) + drive)/(20*ms) : volt (unless refractory)
    dge/dt = -ge/(5*ms) : 1
    di_syn/dt = -i_syn/(5*ms) : volt
    drive : volt
    """
    group = b2.NeuronGroup(
        2,
        equations,
        threshold="v > -50*mV",
        reset="v = -60*mV",
        refractory=(clamped + 1) * DT * b2.ms,
        method="euler",
    )
    group.v = -60 * b2.mV
    group.drive = [20.0, case["drive_post_mV"]] * b2.mV
    on_pre = {"exp_cond": "ge_post += w", "exp_current": "i_syn_post += w*mV", "delta": "v_post += w*mV"}
    synapse = b2.Synapses(group, group, "w : 1", on_pre=on_pre[case["receptor"]])
    synapse.connect(i=0, j=1)
    synapse.w = case["weight"]
    synapse.delay = case["delay_ms"] * b2.ms
    spikes = b2.SpikeMonitor(group)
    b2.Network(group, synapse, spikes).run(T * b2.ms)
    steps = [round(float(t / b2.ms) / DT) for t in spikes.t]
    return b2.__version__, steps, [int(i) for i in spikes.i]


def nest(case, clamped):
    """NEST's own integrators: exact for the current-based models, adaptive RKF45 for the conductance."""
    import nest

    nest.ResetKernel()
    nest.resolution = DT
    # C = 200 pF, g_L = 10 nS: a drive of 1 mV is 10 pA, a conductance relative to the leak of 1 is 10 nS
    common = dict(C_m=200.0, E_L=-60.0, V_reset=-60.0, V_th=-50.0, t_ref=clamped * DT, V_m=-60.0)
    model, parameters, scale = {
        "exp_cond": ("iaf_cond_exp", dict(g_L=10.0, tau_syn_ex=5.0, E_ex=0.0), 10.0),
        "exp_current": ("iaf_psc_exp", dict(tau_m=20.0, tau_syn_ex=5.0), 10.0),
        "delta": ("iaf_psc_delta", dict(tau_m=20.0), 1.0),
    }[case["receptor"]]
    pair = nest.Create(model, 2, {**common, **parameters})
    pair[0].I_e, pair[1].I_e = 200.0, 10.0 * case["drive_post_mV"]
    nest.Connect(pair[0], pair[1], syn_spec=dict(weight=scale * case["weight"], delay=case["delay_ms"]))
    recorder = nest.Create("spike_recorder")
    nest.Connect(pair, recorder)
    nest.Simulate(T)
    events = recorder.events
    steps = [round(float(t) / DT) - 1 for t in events["times"]]
    return nest.__version__, steps, [int(i) - 1 for i in events["senders"]]


def main():
    name = sys.argv[1]
    run = {"brian2": brian2, "nest": nest}[name]
    golden = json.loads(FILE.read_text())
    for case in golden["cases"]:
        if name == "nest" and case["delay_ms"] < DT:  # NEST has no delay below one step
            continue
        version, steps, senders = run(case, case["clamped_steps"])
        by_unit = [[s for s, i in sorted(zip(steps, senders, strict=True)) if i == unit] for unit in (0, 1)]
        case.setdefault(name, {}).update({"pre_steps": by_unit[0], "post_steps": by_unit[1]})
        golden["versions"][name] = version
    text = json.dumps(golden, indent=1)
    FILE.write_text(compact(text) + "\n")


def compact(text):
    """Puts every list of numbers on one line."""
    import re

    return re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)


if __name__ == "__main__":
    main()
