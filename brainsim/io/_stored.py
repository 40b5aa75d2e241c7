"""A stored run, read as a solution is."""

import itertools
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..base import unknown
from ..simulate import Origin, SpikeTrain, units_of
from ._directory import numbered, read_run
from ._files import FileError, read_about, read_array

_REMEDY = (
    "stream(resume=True) with the arguments of the run computes it again; StoredRun(path, strict=False) reads the rest."
)


class StoredRun:
    """What a `Directory` holds, read as a `Solution` is: `run["P.v"]`, `run.times("P.v")`, `run.spikes("P")`,
    `run.rates`. A run that is not finished can be read up to the last complete chunk.

    **Arguments:**

    - `path`: the folder.
    - `strict`: whether a file that is damaged, missing, doubled or of another run is an error. If not, it is left out
      with a warning, `times` are those of the samples that remain, and `gaps` those of the chunks that do not.

    **Raises:** FileNotFoundError if there is no run; `bs.io.FileError` (a ValueError), which names the file.
    """

    def __init__(self, path: str | os.PathLike, *, strict: bool = True) -> None:
        self.path, self._strict = Path(path), strict
        chunks = numbered(self.path, "chunk")
        if not chunks and not (self.path / "run.json").exists():
            raise FileNotFoundError(
                f"{self.path} holds no run: run.json is missing. Give the folder passed to bs.Directory."
            )
        self.provenance: dict[str, Any] = {}
        try:
            self.provenance = read_run(self.path / "run.json")
        except FileNotFoundError:
            self._fault(FileError(f"{self.path / 'run.json'} is missing."))
        except FileError as e:
            self._fault(e)
        self._abouts: dict[Path, dict[str, Any]] = {}
        for strange in sorted(set(self.path.glob("chunk-*.npz")) - set(chunks.values())):
            self._fault(FileError(f"{strange} is no file of a run. Move it to another folder."))
        self._run = self.provenance.get("run")
        n, last = None, max([*(k + 1 for k in chunks), *numbered(self.path, "state")], default=0)
        for k in range(last):
            try:
                if k not in chunks:
                    raise FileError(f"{self.path / f'chunk-{k:06d}.npz'} is missing.")
                about = self._checked(k, chunks[k], n)
            except FileError as e:
                self._fault(e)
                continue
            self._abouts[chunks[k]] = about
            n = about["n0"] + about["n_steps"]
        if not self._abouts and not self.provenance:
            raise FileError(f"{self.path} holds neither run.json nor a chunk that can be read.")

    def _fault(self, e: FileError) -> None:
        if self._strict:
            raise FileError(f"{e} {_REMEDY}") from e.__cause__
        warnings.warn(f"{e} It is left out.", stacklevel=5)

    def _checked(self, k: int, path: Path, n: int | None) -> dict[str, Any]:
        """What a chunk says of itself, if it is chunk `k` of this run and begins at step `n`, or later after a gap."""
        about = read_about(path, "")
        if not self.provenance and not self._abouts:
            self._run = about.get("run")
        if about.get("run") != self._run:
            raise FileError(f"{path} belongs to another run. Move it to a folder of its own.")
        if about.get("k", k) != k:
            raise FileError(f"{path} is a copy of chunk {about['k']}.")
        if n is None and k == 0 and self.provenance:
            n = round(self.provenance["t0"] / self.provenance["dt"])
        if n is not None and about["n0"] != n and (self._strict or about["n0"] < n):
            raise FileError(f"{path} begins at step {about['n0']}, not at step {n}, where the chunk before it ends.")
        return about

    def __repr__(self) -> str:
        return f"StoredRun({str(self.path)!r}, {len(self.chunks)} chunks, {self.n_steps * self.dt:g} ms)"

    @property
    def chunks(self) -> list[Path]:
        """The files of the chunks that can be read."""
        return list(self._abouts)

    @property
    def dt(self) -> float:
        """Step (ms)."""
        return self._first["dt"]

    @property
    def n0(self) -> int:
        """Step counter at the start."""
        return self._first["n0"]

    @property
    def n_steps(self) -> int:
        """Number of steps in the chunks that can be read."""
        return sum(about["n_steps"] for about in self._abouts.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Units of every node."""
        return self._first["sizes"]

    @property
    def every(self) -> dict[str, int]:
        """Steps between the samples of every recording."""
        return self._first["every"]

    @property
    def origins(self) -> dict[str, Origin]:
        """What every recording is of."""
        if self._abouts and "origins" not in self._first:
            raise ValueError(f"{self.chunks[0]} does not say what its recordings are of: an earlier brainsim wrote it.")
        return {key: Origin(*origin) for key, origin in self._first["origins"].items()}

    def units_of(self, key: str) -> np.ndarray:
        """As `Solution.units_of`."""
        return units_of(self, self._known(key))

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Start and end (ms) of what is missing between chunks."""
        abouts = list(self._abouts.values())
        ends = [(a["n0"] + a["n_steps"], b["n0"]) for a, b in itertools.pairwise(abouts)]
        return [(end * self.dt, n0 * self.dt) for end, n0 in ends if end != n0]

    @property
    def _first(self) -> dict[str, Any]:
        """What the first chunk says; before there is one, what is known of a run."""
        p = self.provenance
        none = {"dt": p.get("dt"), "n0": round(p["t0"] / p["dt"]) if p else 0, "sizes": {}, "every": {}}
        none |= {"origins": {}, "arrays": []}
        return next(iter(self._abouts.values()), none)

    def _parts(self, *names: str) -> list[tuple[dict[str, Any], list[np.ndarray]]]:
        """Arrays of every chunk in which all of them can be read, and what the chunk says about itself."""
        if not self._abouts:
            raise ValueError(
                f"{self.path} holds no complete chunk, so no recording: the run ended before its first chunk did. "
                "Begin it again with stream."
            )
        parts = []
        for path, about in self._abouts.items():
            try:
                for name in names:
                    if name not in about["arrays"]:
                        raise FileError(f"{path} has no {name!r}.")
                arrays = [read_array(path, name, "") for name in names]
                _check(path, about, dict(zip(names, arrays, strict=True)))
                parts.append((about, arrays))
            except FileError as e:
                self._fault(e)
        if not parts:
            raise FileError(f"{self.path} has no chunk in which {names[0]!r} can be read.")
        return parts

    def _known(self, key: str) -> str:
        if self._abouts and key not in self.every:
            raise KeyError(unknown("recording", key, self.every))
        return key

    def __getitem__(self, key: str) -> np.ndarray:
        if f"{key}/ids" in self._first["arrays"]:
            raise KeyError(f"{key!r} is a list of spikes. Read it with spikes({key.removesuffix('.spikes')!r}).")
        return np.concatenate([part for _, (part,) in self._parts(self._known(key))])

    def times(self, key: str) -> np.ndarray:
        """Times of the samples of a recording (ms)."""
        self._known(key)
        names = [key] if key in self._first["arrays"] else [f"{key}/counts"]
        # Only where files may be left out do the times depend on what can be read of each.
        abouts = self._abouts.values() if self._strict and self._abouts else (about for about, _ in self._parts(*names))
        steps = [about["n0"] + about["every"][key] * np.arange(1, _samples(about, key) + 1) for about in abouts]
        return np.concatenate(steps) * self.dt

    def spikes(self, node: str) -> SpikeTrain:
        """All spikes of a population recorded with `Spikes(node)`."""
        key = self._known(f"{node}.spikes")
        steps, ids = [], []
        for about, (unit, counts) in self._parts(f"{key}/ids", f"{key}/counts"):
            steps.append(np.repeat(about["n0"] + 1 + np.arange(counts.size), counts))
            ids.append(unit)
        return SpikeTrain(np.concatenate(steps) * self.dt, np.concatenate(ids))

    @property
    def rates(self) -> dict[str, float]:
        """Mean firing rate of every population over all chunks (Hz); NaN of a source of graded events."""
        rates = {}
        graded = {name for about in self._abouts.values() for name in about.get("graded", [])}
        for array in self._first["arrays"]:
            if array.startswith("n_events/"):
                name, parts = array.removeprefix("n_events/"), self._parts(array)
                seconds = sum(about["n_steps"] for about, _ in parts) * self.dt * 1e-3
                rate = float(sum(int(n) for _, (n,) in parts)) / (max(self.sizes[name], 1) * seconds)
                rates[name] = math.nan if name in graded else rate
        return rates


def _samples(about: dict[str, Any], key: str) -> int:
    return about["n_steps"] // about["every"][key]


def _check(path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Raise if arrays of a chunk have not the lengths that its steps ask for."""
    for name, x in arrays.items():
        if name.endswith("/ids"):
            counts = arrays[f"{name.removesuffix('ids')}counts"]
            if (counts.size and counts.min() < 0) or counts.sum(dtype=np.int64) != x.size:
                raise FileError(f"{path} counts {counts.sum(dtype=np.int64)} spikes in {name!r} and holds {x.size}.")
        elif not name.startswith("n_events/"):
            expected = _samples(about, name.removesuffix("/counts"))
            if not x.ndim or x.shape[0] != expected:
                raise FileError(f"{path} holds {name!r} with shape {x.shape}; expected {expected} samples.")
