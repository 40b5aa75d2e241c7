"""A folder as the sink of a long run: one file per chunk, written whole or not at all."""

import importlib.metadata
import io
import itertools
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..base import unknown
from ..core import Network, State
from ..events import backend
from ..fusion import unavailable
from ..simulate import AbstractSink, Origin, SpikeTrain, from_arrays, to_arrays, units_of

_KEPT = 2  # checkpoints kept: the last one and the one before


def provenance() -> dict[str, Any]:
    """Versions, precision and backend of this process: what a result needs to be repeated."""
    names = ("brainsim", "jax", "jaxlib", "equinox", "diffrax", "llvmlite", "numpy")
    versions = {name: _version(name) for name in names}
    return {
        "versions": versions | {"python": platform.python_version()},
        "x64": bool(jax.config.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
        "platform": jax.default_backend(),
        "kernels": backend(),
        "fusion": unavailable() or "on",
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` so that it is either complete or not there, even if the process is killed or the disk is full."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise OSError(
            e.errno, f"could not write {path}: {e.strerror}. Everything written before is complete and readable"
        ) from e


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as z:
        return {name: z[name] for name in z.files}


class Directory(AbstractSink):
    """Keeps a stream in a folder: `run.json`, `chunk-000000.npz`, ..., and the last checkpoints.

    Every file is written whole or not at all, so a run killed at any moment can be resumed and read.

    **Arguments:** `path`: a folder, made if need be.

    **Raises:** FileExistsError if the folder holds a run and `resume` is False; OSError if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._saved_net: Network | None = None
        self._net_of = 0

    def open(self, net, state, *, resume, about):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OSError(
                e.errno, f"Directory({str(self.path)!r}): cannot make this folder: {e.strerror}. Choose another path"
            ) from e
        info = self.path / "run.json"
        if not info.exists():
            write_whole(info, json.dumps({**about, **provenance()}, indent=1).encode())
            return 0, net, state
        if not resume:
            raise FileExistsError(
                f"{self.path} already holds a run. Pass resume=True to go on with it, or choose another folder."
            )
        before = json.loads(info.read_text())
        for name in ("dt", "chunk", "t0", "key"):
            if before[name] != about[name]:
                raise ValueError(
                    f"{self.path} holds a run with {name} = {before[name]}, not {about[name]}. Resume with the same "
                    "arguments."
                )
        complete = next(k for k in itertools.count() if not (self.path / f"chunk-{k:06d}.npz").exists())
        states = [(_number(path), path) for path in sorted(self.path.glob("state-*.npz"))]
        states = [(k, path) for k, path in states if k <= complete]
        if not states:
            return 0, net, state
        done, last = states[-1]
        arrays = _read(last)
        self._net_of = int(arrays.pop("net_of"))
        saved = self.path / f"net-{self._net_of:06d}.npz"
        net = from_arrays(net, _read(saved), str(saved))
        self._saved_net = net
        return done, net, from_arrays(state, arrays, str(last))

    def write(self, k, solution, net):
        arrays = {f"n_events/{name}": np.asarray(x) for name, x in solution.n_events.items()}
        for name, value in solution.recordings.items():
            if name.endswith(".spikes"):
                counts = np.asarray(value.counts)
                arrays |= {f"{name}/ids": np.asarray(value.ids)[: int(counts.sum())], f"{name}/counts": counts}
            else:
                arrays[name] = np.asarray(value)
        about = {
            "n0": int(solution.n0),
            "n_steps": solution.n_steps,
            "dt": solution.dt,
            "every": solution.every,
            "sizes": solution.sizes,
            "graded": [name for name, x in solution.graded.items() if x],
            "origins": {
                key: o if o.units is None else o._replace(units=list(o.units)) for key, o in solution.origins.items()
            },
        }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        write_whole(self.path / f"chunk-{k:06d}.npz", _npz(arrays))
        if net is not self._saved_net:
            self._net_of, self._saved_net = k, net
            write_whole(self.path / f"net-{k:06d}.npz", _npz(to_arrays(net)))
        state = to_arrays(solution.state) | {"net_of": np.asarray(self._net_of)}
        write_whole(self.path / f"state-{k + 1:06d}.npz", _npz(state))
        for old in sorted(self.path.glob("state-*.npz"))[:-_KEPT]:
            old.unlink()


class StoredRun:
    """What a `Directory` holds, read as a `Solution` is: `run["P.v"]`, `run.times("P.v")`, `run.spikes("P")`,
    `run.rates`.

    **Arguments:** `path`: the folder. Incomplete runs can be read up to the last complete chunk.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not (self.path / "run.json").exists():
            raise FileNotFoundError(
                f"{self.path} holds no run: run.json is missing. Give the folder passed to bs.Directory."
            )
        self.provenance: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        self.chunks = sorted(self.path.glob("chunk-*.npz"))

    def __repr__(self) -> str:
        return f"StoredRun({str(self.path)!r}, {len(self.chunks)} chunks, {self.n_steps * self.dt:g} ms)"

    @property
    def dt(self) -> float:
        """Step (ms)."""
        return self.provenance["dt"]

    @property
    def n0(self) -> int:
        """Step counter at the start."""
        return round(self.provenance["t0"] / self.dt)

    @property
    def n_steps(self) -> int:
        """Number of steps in the complete chunks."""
        return sum(self._about(path)["n_steps"] for path in self.chunks)

    @property
    def sizes(self) -> dict[str, int]:
        """Units of every node."""
        return self._about(self.chunks[0])["sizes"] if self.chunks else {}

    @property
    def every(self) -> dict[str, int]:
        """Steps between the samples of every recording."""
        return self._about(self.chunks[0])["every"] if self.chunks else {}

    @property
    def origins(self) -> dict[str, Origin]:
        """What every recording is of."""
        if not self.chunks:
            return {}
        about = self._about(self.chunks[0])
        if "origins" not in about:
            raise ValueError(f"{self.chunks[0]} does not say what its recordings are of: an earlier brainsim wrote it.")
        return {key: Origin(*origin) for key, origin in about["origins"].items()}

    def units_of(self, key: str) -> np.ndarray:
        """As `Solution.units_of`."""
        return units_of(self, key)

    def _about(self, path: Path) -> dict[str, Any]:
        with np.load(path) as z:
            return json.loads(z["about"].tobytes())

    def _parts(self, name: str) -> list[np.ndarray]:
        parts = []
        for path in self.chunks:
            with np.load(path) as z:
                if name not in z.files:
                    raise KeyError(
                        unknown(
                            "recording", name, (f for f in z.files if f != "about" and not f.startswith("n_events/"))
                        )
                    )
                parts.append(z[name])
        return parts

    def __getitem__(self, key: str) -> np.ndarray:
        return np.concatenate(self._parts(key))

    def times(self, key: str) -> np.ndarray:
        """Times of the samples of a recording (ms)."""
        times = []
        for about in map(self._about, self.chunks):
            every = about["every"][key]
            times.append((about["n0"] + every * np.arange(1, about["n_steps"] // every + 1)) * about["dt"])
        return np.concatenate(times)

    def spikes(self, node: str) -> SpikeTrain:
        """All spikes of a population recorded with `Spikes(node)`."""
        ids, counts = self._parts(f"{node}.spikes/ids"), self._parts(f"{node}.spikes/counts")
        about = self._about(self.chunks[0])
        every_count = np.concatenate(counts)
        steps = np.repeat(np.arange(every_count.size), every_count)
        return SpikeTrain((about["n0"] + 1 + steps) * about["dt"], np.concatenate(ids))

    @property
    def rates(self) -> dict[str, float]:
        """Mean firing rate of every population over all chunks (Hz); NaN of a source of graded events."""
        abouts = [self._about(path) for path in self.chunks]
        seconds = sum(a["n_steps"] * a["dt"] for a in abouts) * 1e-3
        with np.load(self.chunks[0]) as z:
            counted = [name.removeprefix("n_events/") for name in z.files if name.startswith("n_events/")]
        sizes = abouts[0]["sizes"]
        graded = {name for about in abouts for name in about.get("graded", [])}
        return {
            name: math.nan
            if name in graded
            else float(sum(int(n) for n in self._parts(f"n_events/{name}"))) / (max(sizes[name], 1) * seconds)
            for name in counted
        }


def save(path: str | os.PathLike, net: Network, state: State | None = None, **about: Any) -> None:
    """Write a network, its state if given, and provenance (versions, key, dt) to one `.npz` file, whole or not at all.

    **Arguments:** `about`: further entries (JSON-able) for the provenance.
    """
    arrays = {f"net{name}": x for name, x in to_arrays(net).items()}
    info = {**about, **provenance()}
    if state is not None:
        arrays |= {f"state{name}": x for name, x in to_arrays(state).items()}
        info |= {
            "dt": state.dt,
            "key": np.asarray(jax.random.key_data(state.key)).tolist(),
            "n": np.asarray(state.n).tolist(),
        }
    arrays["about"] = np.frombuffer(json.dumps(info).encode(), np.uint8)
    write_whole(Path(path), _npz(arrays))


def load(path: str | os.PathLike, like: Network) -> tuple[Network, State | None, dict[str, Any]]:
    """Read what `save` wrote, as `(net, state or None, provenance)`.

    **Arguments:** `like`: a network of the same structure, e.g. built by the same code; its arrays are replaced.

    **Raises:** ValueError naming the first array that does not fit.
    """
    from ..core import initial_state

    arrays = _read(Path(path))
    info = json.loads(arrays.pop("about").tobytes())
    part = lambda prefix: {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}  # noqa: E731
    net = from_arrays(like, part("net"), str(path))
    if "dt" not in info:
        return net, None, info
    template = jax.eval_shape(lambda: initial_state(net, dt=info["dt"], key=jax.random.key(0)))
    batch = np.shape(info["n"])
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*batch, *x.shape), x.dtype), template)
    return net, from_arrays(template, part("state"), str(path)), info
