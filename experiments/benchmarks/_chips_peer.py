"""An emulator of Loihi: `python _chips_peer.py PEER net.npz`, run by a Python that has the peer, without brainsim.

Builds the network, says so, then runs on by some steps for each line "run" of standard input and says how long a step
took; any other line is a file that u and v are written to. `chips.py` has the other side.
"""

import json
import os
import sys
import time

import numpy as np


def nengo_loihi(g):
    import warnings

    warnings.simplefilter("ignore")
    from nengo_loihi.block import Axon, LoihiBlock, Synapse
    from nengo_loihi.builder import Model
    from nengo_loihi.builder.discretize import discretize_model
    from nengo_loihi.emulator import EmulatorInterface
    from nengo_loihi.inputs import SpikeInput
    from scipy.sparse import csr_matrix

    n, n_in = int(g["n"]), int(g["n_in"])
    model, block, spikes, synapses = Model(), LoihiBlock(n), SpikeInput(n_in), {}
    block.compartment.configure_lif()
    for name, pre, size in (("in", spikes, n_in), ("rec", block, n)):
        word = np.ones(g[f"{name}_source"].size, np.float32)
        synapse = synapses[name] = Synapse(size)
        synapse.set_weights(_sparse(csr_matrix, g, name, word, (size, n)))
        block.add_synapse(synapse)
        axon = Axon(size)
        axon.target = synapse
        axon.set_compartment_axon_map(np.arange(size))
        pre.add_axon(axon)
    for t, row in enumerate(g["x"]):
        spikes.add_spikes(t + 1, list(np.flatnonzero(row)))
    model.add_input(spikes)
    model.add_block(block)
    discretize_model(model)
    for name, synapse in synapses.items():
        size = n_in if name == "in" else n
        words = _sparse(csr_matrix, g, name, 64 * g[f"{name}_mantissa"].astype(np.int64), (size, n))
        for k, row in enumerate(synapse.weights):
            row[...] = words.data[words.indptr[k] : words.indptr[k + 1]]
    c = block.compartment
    c.decay_u[:], c.decay_v[:], c.vth[:], c.bias[:] = g["decay_u"], g["decay_v"], 64 * g["threshold"], 0
    c.refract_delay[:], c.vmin, c.vmax = 1, 1 - 2**23, 2**23 - 1
    emulator = EmulatorInterface(model, seed=0)

    def run(steps):
        for _ in range(steps):
            emulator.step()

    return run, None, lambda: (emulator.compartment.current, emulator.compartment.voltage)


def _sparse(csr_matrix, g, name, data, shape):
    """Weights by row; two synapses of one pair stand apart, in the order of their targets."""
    order = np.lexsort((g[f"{name}_target"], g[f"{name}_source"]))
    counts = np.bincount(g[f"{name}_source"], minlength=shape[0])
    return csr_matrix((data[order], g[f"{name}_target"][order], np.concatenate([[0], np.cumsum(counts)])), shape)


def brian2_loihi(g):
    import brian2 as b2
    from brian2_loihi import LoihiNetwork, LoihiNeuronGroup, LoihiSpikeGeneratorGroup, LoihiSynapses

    b2.prefs.codegen.target = str(g["target"])
    threshold, decay_u, decay_v = (int(g[k]) for k in ("threshold", "decay_u", "decay_v"))
    group = LoihiNeuronGroup(int(g["n"]), threshold_v_mant=threshold, decay_v=decay_v, decay_I=decay_u + 1)
    t, i = np.nonzero(g["x"])
    source = LoihiSpikeGeneratorGroup(int(g["n_in"]), i, t)
    objects = [group, source]
    for name, pre in (("in", source), ("rec", group)):
        synapses = LoihiSynapses(pre, group, sign_mode=1, w_exp=0, delay=0, num_weight_bits=8)
        synapses.connect(i=g[f"{name}_source"], j=g[f"{name}_target"])
        synapses.w = g[f"{name}_mantissa"].astype(int)
        objects.append(synapses)
    ends = []
    objects.append(b2.NetworkOperation(lambda: ends.append(time.perf_counter()), dt=1 * b2.ms))
    net = LoihiNetwork(*objects)

    def run(steps):
        """A run begins with a second of preparation, so what is timed is the time between the ends of its steps."""
        ends.clear()
        net.run(steps)
        return (ends[-1] - ends[0]) / (steps - 1)

    return run, None, lambda: (group.I[:], group.v[:])


def lava(g):
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer
    from lava.proc.lif.process import LIF
    from lava.proc.sparse.process import Sparse
    from scipy.sparse import coo_matrix

    n = int(g["n"])
    threshold, decay_u, decay_v = (int(g[k]) for k in ("threshold", "decay_u", "decay_v"))
    lif = LIF(shape=(n,), du=decay_u, dv=decay_v, vth=threshold, bias_mant=0, bias_exp=0)
    source = RingBuffer(data=g["x"].T.astype(int))
    for name, out in (("in", source.s_out), ("rec", lif.s_out)):
        pairs = g[f"{name}_target"], g[f"{name}_source"]
        weights = coo_matrix((g[f"{name}_mantissa"].astype(int), pairs), (n, int(out.shape[0]))).tocsr()
        sparse = Sparse(weights=weights, weight_exp=0, num_weight_bits=8)
        out.connect(sparse.s_in)
        sparse.a_out.connect(lif.a_in)
    how = Loihi2SimCfg(select_tag="fixed_pt")

    def run(steps):
        lif.run(condition=RunSteps(num_steps=steps), run_cfg=how)

    return run, lif.stop, lambda: (lif.u.get(), lif.v.get())


def main(peer, path):
    if peer != "lava":  # its processes wait for each other in loops, and stand still on one core
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    build = {"nengo-loihi": nengo_loihi, "brian2-loihi": brian2_loihi, "lava": lava}[peer]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peer prints goes elsewhere
    with np.load(path) as file:
        g = {k: file[k] for k in file}
    run, stop, words = build(g)
    steps = int(g["peer_steps"])
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        if line.strip() == "run":
            wall = time.perf_counter()
            each = run(steps)
            each = (time.perf_counter() - wall) / steps if each is None else each
            print(json.dumps({"step_us": 1e6 * each}), file=out, flush=True)
            continue
        np.savez(line.strip(), **dict(zip("uv", (np.asarray(x) for x in words()))))
        print(json.dumps({"words": True}), file=out, flush=True)
    if stop is not None:  # the processes of lava do not end by themselves
        stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
