"""Counts and energies of SANA-FE for a network without leak on 40 cores: writes ../chips/sanafe.json.

`python tests/golden/peers/sanafe_counts.py net.json` with a Python that has sanafe 2.2.9. The file holds thresholds,
biases and cores of the cells, sources, targets and mantissas of the synapses, the number of steps; it becomes part of
the result.
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "chips" / "sanafe.json"


def main(path):
    import sanafe

    given = json.loads(Path(path).read_text())
    arch, net = sanafe.load_loihi(), sanafe.Network()
    n = len(given["threshold"])
    group = net.create_neuron_group(
        "P",
        n,
        model_attributes={"threshold": 0.0, "leak_decay": 1.0, "reset": 0.0},
        soma_hw_name="loihi_lif",
        default_synapse_hw_name="loihi_dense_synapse",
        default_dendrite_hw_name="loihi_dendrites",
    )
    for k in range(n):
        attributes = {"threshold": float(given["threshold"][k]), "leak_decay": 1.0, "bias": float(given["bias"][k])}
        group[k].set_attributes(model_attributes=attributes)
        group[k].map_to_core(arch.cores()[given["core"][k]])
    for a, b, w in zip(given["source"], given["target"], given["mantissa"]):
        group[a].connect_to_neuron(group[b], {"weight": float(w)})
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    out = chip.sim(given["steps"], timing_model="simple", spike_trace=True, perf_trace=True)
    counts = {k: int(out[k]) for k in ("packets_sent", "neurons_updated", "neurons_fired", "spikes")}
    counts["hops"] = int(sum(out["perf_trace"]["hops"]))
    energy = {k: float(v) for k, v in out["energy"].items()}
    FILE.write_text(json.dumps({"net": given, "counts": counts, "energy": energy}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
