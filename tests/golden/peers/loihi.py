"""Words of an emulator of Loihi for networks in a file: `python tests/golden/peers/loihi.py PEER nets.npz words.npz`.

PEER is nengo-loihi, brian2-loihi or lava; run it with a Python that has the peer (nengo-loihi 1.1.0 with numpy < 2,
brian2-loihi 0.5.2, lava-nc 0.10.0). `tests/lower/fuzz.py` writes the networks and compares the words.
"""

import sys

import numpy as np


def nengo_loihi(g):
    import warnings

    warnings.simplefilter("ignore")
    from nengo_loihi.block import Axon, LoihiBlock, Synapse
    from nengo_loihi.builder import Model
    from nengo_loihi.builder.discretize import discretize_model, discretize_weights
    from nengo_loihi.emulator import EmulatorInterface
    from nengo_loihi.inputs import SpikeInput

    n, n_in = int(g["n"]), int(g["n_in"])
    model, block, spikes = Model(), LoihiBlock(n), SpikeInput(n_in)
    block.compartment.configure_lif()
    for name, pre, size in (("in", spikes, n_in), ("rec", block, n)):
        synapse = Synapse(size)
        synapse.set_weights(np.ones((size, n), np.float32))
        block.add_synapse(synapse)
        axon = Axon(size)
        axon.target = synapse
        axon.set_compartment_axon_map(np.arange(size))
        pre.add_axon(axon)
        g[name + "_object"] = synapse
    for t, row in enumerate(g["x"]):
        spikes.add_spikes(t + 1, list(np.flatnonzero(row)))
    model.add_input(spikes)
    model.add_block(block)
    discretize_model(model)
    for name in ("in", "rec"):
        synapse = g[name + "_object"]
        dense = np.zeros((synapse.n_axons, n))
        np.add.at(dense, (g[f"{name}_source"], g[f"{name}_target"]), g[f"{name}_mantissa"])
        synapse.format(weight_exp=int(g[f"{name}_exponent"]), weight_bits={8: 7, 6: 6, 5: 5}[int(g[f"{name}_bits"])])
        words = discretize_weights(synapse.synapse_cfg, dense, check_result=False)
        for row, w in zip(synapse.weights, words):
            row[...] = w
    c = block.compartment
    c.decay_u[:], c.decay_v[:], c.vth[:], c.bias[:] = g["decay_u"], g["decay_v"], 64 * g["threshold"], g["bias"]
    c.refract_delay[:], c.vmin, c.vmax = g["refractory"], int(g["v_min"][0]), int(g["v_max"][0])
    emulator, out = EmulatorInterface(model, seed=0), []
    for _ in g["x"]:
        emulator.step()
        s = emulator.compartment
        out.append([s.current.copy(), s.voltage.copy(), s.spiked.astype(np.int64)])
    return np.array(out)


def brian2_loihi(g):
    import brian2 as b2
    from brian2_loihi import (
        LoihiNetwork,
        LoihiNeuronGroup,
        LoihiSpikeGeneratorGroup,
        LoihiSpikeMonitor,
        LoihiStateMonitor,
        LoihiSynapses,
    )

    b2.prefs.codegen.target = "numpy"
    n, n_in, steps = int(g["n"]), int(g["n_in"]), len(g["x"])
    one = {k: int(g[k][0]) for k in ("refractory", "threshold", "decay_u", "decay_v")}
    group = LoihiNeuronGroup(
        n,
        refractory=one["refractory"],
        threshold_v_mant=one["threshold"],
        decay_v=one["decay_v"],
        decay_I=one["decay_u"],
    )
    t, i = np.nonzero(g["x"])
    source = LoihiSpikeGeneratorGroup(n_in, i, t)
    objects = [group, source]
    for name, pre in (("in", source), ("rec", group)):
        if not g[f"{name}_source"].size:
            continue
        exponent, delay = int(g[f"{name}_exponent"]), int(g[f"{name}_delay"][0])
        bits = int(g[f"{name}_bits"])
        synapses = LoihiSynapses(pre, group, sign_mode=1, w_exp=exponent, delay=delay, num_weight_bits=bits)
        synapses.connect(i=g[f"{name}_source"], j=g[f"{name}_target"])
        synapses.w = g[f"{name}_mantissa"].astype(int)
        objects.append(synapses)
    current, voltage = LoihiStateMonitor(group, "I"), LoihiStateMonitor(group, "v")
    spikes = LoihiSpikeMonitor(group)
    net = LoihiNetwork(*objects, current, voltage, spikes)
    net.run(steps)
    s = np.zeros((steps, n))
    s[np.asarray(spikes.t, int), np.asarray(spikes.i, int)] = 1
    return np.stack([np.asarray(current.I).T, np.asarray(voltage.v).T, s], axis=1)


def lava(g):
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import DelayDense, Dense
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF
    from lava.proc.monitor.process import Monitor

    n, steps = int(g["n"]), len(g["x"])
    exponent = int(g["bias_exponent"])
    one = {k: int(g[k][0]) for k in ("threshold", "decay_u", "decay_v")}
    lif = LIF(
        shape=(n,),
        du=one["decay_u"],
        dv=one["decay_v"],
        vth=one["threshold"],
        bias_mant=(g["bias"] >> exponent).astype(int),
        bias_exp=exponent,
    )
    source = RingBuffer(data=g["x"].T.astype(int))
    for name, out in (("in", source.s_out), ("rec", lif.s_out)):
        shape = (n, int(out.shape[0]))
        weights, delays = np.zeros(shape, int), np.zeros(shape, int)
        weights[g[f"{name}_target"], g[f"{name}_source"]] = g[f"{name}_mantissa"]
        delays[g[f"{name}_target"], g[f"{name}_source"]] = g[f"{name}_delay"]
        how = dict(weights=weights, weight_exp=int(g[f"{name}_exponent"]), num_weight_bits=int(g[f"{name}_bits"]))
        dense = DelayDense(delays=delays, **how) if delays.any() else Dense(**how)
        out.connect(dense.s_in)
        dense.a_out.connect(lif.a_in)
    monitors = [Monitor() for _ in range(3)]
    for monitor, what in zip(monitors, (lif.u, lif.v, lif.s_out)):
        monitor.probe(what, steps)
    lif.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    data = [next(iter(next(iter(m.get_data().values())).values())) for m in monitors]
    lif.stop()
    return np.stack(data, axis=1)


def main(peer, nets, words):
    run = {"nengo-loihi": nengo_loihi, "brian2-loihi": brian2_loihi, "lava": lava}[peer]
    with np.load(nets) as file:
        every = {}
        for key in file:
            number, name = key.split("/")
            every.setdefault(number, {})[name] = file[key]
    out = {}
    for number, g in every.items():
        out[number] = run(g).astype(np.int64)  # (steps, 3, n): u, v, spikes
        print(number, flush=True)
    np.savez_compressed(words, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
