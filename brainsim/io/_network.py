"""A network and its state in one file."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..core import Network, State, initial_state
from ..simulate import describe, difference, from_arrays, strong, to_arrays, with_input_states
from ._files import FileError, read_arrays, write_arrays
from ._older import upgraded
from ._provenance import provenance


def save(path: str | os.PathLike, net: Network, state: State | None = None, **about: Any) -> None:
    """Write a network, its state if given, and provenance (versions, key, dt) to one `.npz` file, whole or not at all.

    **Arguments:** `about`: further entries (JSON-able) for the provenance.

    **Raises:** TypeError if `net` is no network or `state` no state; OSError if the file cannot be written.
    """
    for name, given, kind in (("net", net, Network), ("state", state, State | None)):
        if not isinstance(given, kind):
            what = type(given).__name__
            raise TypeError(
                f"save: {name} is a {what}; expected save(path, net, state), e.g. save(path, net, sol.state)."
            )
    net = strong(net)
    arrays = {f"net{name}": x for name, x in to_arrays(net).items()}
    info = {**about, **provenance(), "structure": describe(net, values=False)}
    if state is not None:
        arrays |= {f"state{name}": x for name, x in to_arrays(state).items()}
        key = np.asarray(jax.random.key_data(state.key)).tolist()
        info |= {"dt": state.dt, "key": key, "n": np.asarray(state.n).tolist()}
    write_arrays(Path(path), arrays, info)


def load(
    path: str | os.PathLike, like: Network, *, inputs: dict[str, Any] | None = None
) -> tuple[Network, State | None, dict[str, Any]]:
    """Read what `save` wrote, as `(net, state or None, provenance)`.

    **Arguments:**

    - `like`: a network of the same structure, e.g. built by the same code; its arrays are replaced. Classes are
      compared by their names: that an own class still has the same equations is not seen.
    - `inputs`: those of the run, if it had waveforms with a state of their own, such as `OUCurrent`.

    **Raises:** ValueError naming the first class, static field or array that does not fit; `bs.io.FileError` for a
    damaged file.
    """
    arrays, info = read_arrays(Path(path), "Load another copy of it.")
    parts = {kind: {k[len(kind) :]: v for k, v in arrays.items() if k.startswith(kind)} for kind in ("net", "state")}
    if not parts["net"]:
        raise FileError(f"{path} holds no network. Load a file written by bs.save(path, net, state).")
    like = strong(like)
    # Files of format 1 hold no structure: only arrays are compared.
    first = difference(upgraded(info.pop("structure")), describe(like, values=False)) if "structure" in info else None
    if first is not None:
        raise ValueError(f"{path} holds a network with {first}. Give a network built as the saved one was.")
    net = from_arrays(like, parts["net"], str(path))
    if "dt" not in info:
        return net, None, info

    def template():
        state = initial_state(net, dt=info["dt"], key=jax.random.key(0))
        return with_input_states(net, state, inputs or {})

    batch = np.shape(info["n"])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*batch, *x.shape), x.dtype), jax.eval_shape(template))
    known = jax.tree_util.tree_leaves_with_path(shapes)
    left = sorted(parts["state"].keys() - {jax.tree_util.keystr(where) for where, _ in known})
    if left:
        raise ValueError(
            f"{path} holds a state with {left[0].removeprefix('.')}, for which this network and inputs have no place. "
            "Give load(path, like, inputs=...) the inputs of the run."
        )
    return net, from_arrays(shapes, parts["state"], str(path)), info
