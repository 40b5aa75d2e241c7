"""The Braille network of the NIR paper, the recordings, and how often a network or an image reads the right letter."""

from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

HERE = Path(__file__).parent
BUNDLED = Path(bs.__file__).parent / "_demo" / "braille_events.npz"
TRAINED = BUNDLED.with_name("braille.nir")
DT = 0.1  # ms, as the network was trained
LAG = 2
"""Steps from an input event to its first effect on the output: one a connection."""


def recordings(path: Path = BUNDLED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events (n, 256 + LAG, 12), letters (n,) and whether a recording is held out (n,)."""
    with np.load(path) as z:
        x, y, split = (z["spikes"] > 0).astype(np.float32), z["label"].astype(np.int32), z["split"]
    return np.pad(x, ((0, 0), (0, LAG), (0, 0))), y, split == 1


def network(path: Path = TRAINED) -> bs.Network:
    """The network of the file: 12 sensors, 38 recurrent cells, 7 letters, forward Euler at `DT`."""
    with h5py.File(path) as file:
        nodes: Any = file["node/nodes"]
        read = {name: {k: np.asarray(v) for k, v in nodes[name].items() if k != "type"} for name in nodes}
    cells, letters = read["lif1.lif"], read["lif2"]
    bias = {"H": read["fc1"]["bias"] + read["lif1.w_rec"]["bias"], "O": read["fc2"]["bias"]}

    def population(p: dict, i_e: np.ndarray) -> bs.Population:
        tau = {"tau_syn": 1e3 * p["tau_syn"], "tau_m": 1e3 * p["tau_mem"]}
        unit = bs.CubaLIF(**tau, r=p["r"], w_in=p["w_in"], v_th=p["v_threshold"])
        return bs.Population(unit, len(i_e), {"i": bs.Delta("i")}, i_e=i_e, surrogate=bs.Triangular(1.0))

    def projection(pre: str, post: str, weight: np.ndarray, p: dict) -> bs.Projection:
        weight = weight * (p["w_in"] * 1e-3 * DT / p["tau_syn"])[:, None]
        return bs.Projection(pre, post, bs.Dense(*weight.T.shape), weight=weight.T)

    return bs.Network(
        {
            "x": bs.Source(bs.External(), 12),
            "H": population(cells, bias["H"]),
            "O": population(letters, bias["O"]),
        },
        {
            "in": projection("x", "H", read["fc1"]["weight"], cells),
            "rec": projection("H", "H", read["lif1.w_rec"]["weight"], cells),
            "out": projection("H", "O", read["fc2"]["weight"], letters),
        },
    )


@eqx.filter_jit
def run(net: bs.Network, x: jax.Array, dt: float = DT, voltages: bool = False) -> dict[str, jax.Array]:
    """Spikes of every cell in the recordings (n, steps, 12), by group: "H.events" (n, steps, cells); and "H.v"."""
    names = [name for name, node in net.nodes.items() if isinstance(node, bs.Population)]
    saveat = [*(bs.Events(name) for name in names), *(bs.Trace(f"{name}.v") for name in names if voltages)]

    def one(x: jax.Array) -> dict[str, jax.Array]:
        how: dict[str, Any] = dict(solver=diffrax.Euler(), key=jax.random.key(0), inputs={"x": x})
        sol = bs.simulate(net, t1=len(x) * dt, dt=dt, saveat=saveat, **how)
        keys = [*(f"{name}.events" for name in names), *(f"{name}.v" for name in names if voltages)]
        return {key: sol[key] for key in keys}

    return jax.vmap(one)(x)


def letters(net: bs.Network, x: np.ndarray, dt: float = DT) -> np.ndarray:
    """The letter with the most output spikes, (n,)."""
    return np.asarray(jnp.argmax(run(net, jnp.asarray(x), dt)["O.events"].sum(1), axis=1))
