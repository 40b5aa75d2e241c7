"""The recorded vectors: which net, under which dialect."""

import dataclasses
from pathlib import Path

import numpy as np

import brainsim as bs
from brainsim import nir

HOME = Path(__file__).parents[1] / "golden" / "nir"
LIBRARIES = {
    "norse": nir.NORSE.at(0.1),
    "snntorch": nir.SNNTORCH.at(0.1),
    "snntorch_direct": nir.SNNTORCH.at(0.1),
    "spikingjelly": nir.SPIKINGJELLY.at(0.1),
    "sinabs": nir.SINABS.at(1000.0),
    "spyx": nir.SPYX.at(0.1),
}
RESETS = {
    "zero_delay0": bs.Reset.ZERO,
    "zero_delay1": bs.Reset.LATE_ZERO,
    "subtract_delay0": bs.Reset.RESIDUE,
    "subtract_delay1": bs.Reset.LATE_SUBTRACT,
}


def nets():
    """Every (library, net)."""
    return [
        (k, n) for k in LIBRARIES for n in sorted({key.split("/")[0] for key in np.load(HOME / f"vectors/{k}.npz")})
    ]


def recorded(library, net):
    """Graph, dialect, input and the recorded spikes by node, as the README says that they came about."""
    data = np.load(HOME / f"vectors/{library}.npz")
    graph, dialect = nir.read(HOME / f"vectors/{library}_{net}.nir"), LIBRARIES[library]
    if library == "snntorch_direct":
        dialect = dataclasses.replace(dialect, reset=RESETS[net.split("_", 1)[1]])
    if (library, net) == ("sinabs", "rec_lif_linear"):
        graph = without(graph, "n1.w_rec")
    if library == "spyx" and "n1.w_rec" in graph.nodes:
        weight = {"weight": graph.nodes["n1.w_rec"].fields["weight"]}
        graph = dataclasses.replace(graph, nodes=graph.nodes | {"n1.w_rec": nir.Node("Linear", weight)})
    names = [k.split("/")[1] for k in data if k.startswith(net + "/") and not k.endswith("/input")]
    return graph, dialect, data[f"{net}/input"], {k: data[f"{net}/{k}"] for k in names}


def without(graph, name):
    """The graph without a node."""
    nodes = {k: n for k, n in graph.nodes.items() if k != name}
    return dataclasses.replace(graph, nodes=nodes, edges=[e for e in graph.edges if name not in e])


def differing(library, net):
    """Number of spikes that differ from the recording."""
    graph, dialect, events, spikes = recorded(library, net)
    found = bs.from_nir(graph, dialect).run(events, record=list(spikes))
    return sum(int((found[k] != spikes[k].reshape(found[k].shape)).sum()) for k in spikes)
