"""The fly's optic lobe as graded cells with parameters by type (Lappalainen et al. 2024), and a read-out of motion."""

from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import brainsim as bs

FILTERS = Path(__file__).parent / "fib25-fib19_v2.2.json.gz"
DT = 20.0  # ms, a frame
GREY = 0.5  # luminance before anything moves
GAIN, REST = 2.0, 0.2  # at first: sum of the weights (without signs) that a cell receives; v in grey


class Cell(bs.AbstractUnit):
    """`tau dv/dt = v_rest - v + input`; it sends `max(v, 0)` in every step."""

    v_rest: Any = 0.5
    tau: Any = 50.0  # ms

    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": (self.v_rest - y["v"] + inp) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return jnp.maximum(y["v"], 0.0)


class Held(bs.AbstractReceptor):
    """A current that lasts one step: what arrives takes the place of what was there."""

    def init(self, n):
        return {"i": jnp.zeros(n)}

    def current(self, g, v):
        return g["i"]

    def vector_field(self, g):
        return {"i": jnp.zeros_like(g["i"])}

    def arrive(self, g, dg, y_unit):
        return {"i": dg}, y_unit


class Lobe(eqx.Module):
    """Parameters by cell type and by pair of types, and what spreads them over cells and edges.

    The weight of an edge is `strength` of its pair times its share, with its sign, of the synapses that a cell of the
    post type has; a linear read-out of the mean `max(v, 0)` of each output type gives the velocity.
    """

    strength: Float[Array, " pairs"]
    v_rest: Float[Array, " types"]
    tau: Float[Array, " types"]  # ms
    readout: Float[Array, "outputs 2"]
    scale: Array
    net: bs.Network
    type_of: Array
    pair_of: Array
    share: Array
    outputs: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, brain: bs.Connectome, key: Any) -> None:
        (types, type_of), (pairs, pair_of) = brain.groups("type"), brain.pairs("type")
        inputs = np.bincount(type_of[brain.post], brain.count) / np.bincount(type_of)
        share = brain.weight / inputs[type_of[brain.post]]
        self.type_of, self.pair_of, self.share = map(jnp.asarray, (type_of, pair_of, share))
        self.strength = jnp.full(len(pairs), GAIN)
        aim = REST + 0.05 * jax.random.normal(key, (types.size,))
        self.v_rest = aim - self._drive(jnp.maximum(aim, 0.0), brain)
        self.tau = jnp.full(types.size, 50.0)
        chosen = brain.cells(role="output")
        self.outputs = tuple(chosen.tolist())
        self.readout = jnp.zeros((np.unique(type_of[chosen]).size, 2))
        self.scale = jnp.ones(self.readout.shape[0])
        self.net = network(brain)

    def _drive(self, sent: Array, brain: bs.Connectome) -> Array:
        """The mean input of a cell of each type where all cells of a type send the same, in grey."""
        weight = self.share * self.strength[self.pair_of]
        total = jnp.zeros(len(brain)).at[brain.post].add(weight * sent[self.type_of[brain.pre]])
        total = total.at[brain.cells(role="input")].add(GREY)
        of_type = jnp.zeros(sent.size)
        return of_type.at[self.type_of].add(total) / of_type.at[self.type_of].add(1.0)

    def wired(self) -> bs.Network:
        """The network with these parameters."""
        unit = Cell(self.v_rest[self.type_of], self.tau[self.type_of])
        weight = self.share * self.strength[self.pair_of]
        return eqx.tree_at(lambda n: (n.nodes["lobe"].unit, n.edges["wiring"].weight), self.net, (unit, weight))

    def run(self, frames: Float[Array, "steps columns"], units: Any, **rules: Any) -> Float[Array, "steps n"]:
        """v of `units` at the end of each frame, from v = 0."""
        rules |= {"solver": diffrax.Euler(), "key": jax.random.key(0), "saveat": [bs.Trace("lobe.v", units=units)]}
        t1 = DT * frames.shape[0]
        return bs.simulate(self.wired(), t1=t1, dt=DT, inputs={"light": frames}, **rules)["lobe.v"]


def network(brain: bs.Connectome) -> bs.Network:
    """All cells as one population; each of R1 to R8 takes the light of its column. Weights are put in later."""
    receptors = brain.cells(role="input")
    types, column = np.unique(brain.neurons["type"].to_numpy()[receptors], return_inverse=True)
    columns = receptors.size // types.size
    place = np.arange(receptors.size) % columns  # types come one after the other, columns in one order
    assert (np.diff(column) >= 0).all()
    lobe = bs.Population(Cell(np.full(len(brain), 0.5), np.full(len(brain), 50.0)), len(brain), {"syn": Held()})
    return bs.Network(
        {"lobe": lobe, "light": bs.Source(bs.External(), columns)},
        {
            "wiring": bs.Projection("lobe", "lobe.syn", brain.connect, weight=brain.weight),
            "eyes": bs.Projection("light", "lobe.syn", bs.FromCOO(place, receptors), weight=1.0),
        },
    )
