"""Results of a sweep, in memory or in a folder that any number of processes write to."""

import abc
import hashlib
import json
import os
import shutil
import time
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ._space import AbstractSpace

FORMAT = 1
PACKAGES = "brainsim", "jax", "jaxlib", "equinox", "diffrax"


def about(space: AbstractSpace, key: Any, outputs: dict[str, Any], model: str) -> dict[str, Any]:
    """What makes a study: two processes work on the same one if this is equal."""
    columns = {
        name: f"{x.dtype} {x.shape} {hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16]}"
        for name, x in space.members.items()
    }
    return {
        "format": FORMAT,
        "dims": space.dims,
        "parameters": columns,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "results": {name: f"{x.dtype} {x.shape}" for name, x in outputs.items()},
        "model": model,
        "versions": {name: version(name) for name in PACKAGES},
    }


class AbstractStore(abc.ABC):
    """Rows of results by member, written a chunk at a time."""

    chunk: int
    n: int

    @property
    def n_chunks(self) -> int:
        return -(-self.n // self.chunk)

    def rows(self, c: int) -> slice:
        """The members of chunk c."""
        return slice(c * self.chunk, min((c + 1) * self.chunk, self.n))

    @abc.abstractmethod
    def finished(self, c: int) -> bool:
        """Whether chunk c is there."""

    @abc.abstractmethod
    def write(self, c: int, rows: dict[str, np.ndarray]) -> None:
        """Keep the results of chunk c, all or nothing."""

    @abc.abstractmethod
    def read(self) -> dict[str, np.ndarray]:
        """Every result, (n, ...), arbitrary where a chunk is not finished."""


class Memory(AbstractStore):
    """Results in arrays of this process."""

    def __init__(self, n: int, chunk: int, outputs: dict[str, Any]) -> None:
        self.n, self.chunk = n, chunk
        self._arrays = {name: np.zeros((n, *x.shape), x.dtype) for name, x in outputs.items()}
        self._finished: set[int] = set()

    def finished(self, c):
        return c in self._finished

    def write(self, c, rows):
        for name, x in rows.items():
            self._arrays[name][self.rows(c)] = x
        self._finished.add(c)

    def read(self):
        return self._arrays


class StoreError(RuntimeError):
    """A folder is no store of this study; the message says what differs."""


class Folder(AbstractStore):
    """A zarr (version 3) group with a chunk of the sweep in a chunk of every array, checksums, and a mark a chunk.

    `study.json` says what study this is, `data.zarr` holds results and parameters, `done/000012` says that chunk 12 is
    complete and is made after its last array, `leases` says who works on what.
    """

    def __init__(self, path: Path) -> None:
        import zarr

        self.path = path
        try:
            self.study: dict[str, Any] = json.loads((path / "study.json").read_text())
            self._group: Any = zarr.open_group(path / "data.zarr", mode="r+")
        except FileNotFoundError as e:
            raise StoreError(f"{path} is no store of a sweep: {e.filename or 'data.zarr'} is missing.") from None
        except json.JSONDecodeError as e:
            raise StoreError(
                f"{path / 'study.json'} is damaged ({e}). Restore it, or start in another folder."
            ) from None
        self.chunk, self.n = self.study["chunk"], self.study["n"]

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a store; raises for a folder that holds something else."""
        if (path / "study.json").exists():
            return True
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(f"{path} exists and is no store of a sweep. Name another folder.")
        return False

    @staticmethod
    def create(path: Path, study: dict[str, Any], space: AbstractSpace, outputs: dict[str, Any], chunk: int) -> None:
        """Make the folder whole, unless another process has made it meanwhile."""
        import zarr
        from zarr.codecs import Crc32cCodec

        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        n = len(space)
        (draft / "done").mkdir(parents=True)
        (draft / "leases").mkdir()
        group = zarr.create_group(draft / "data.zarr")
        group.attrs.update({"title": "a sweep of brainsim", **study["versions"]})
        checked: Any = dict(compressors=[Crc32cCodec()])
        for name, x in outputs.items():
            axes = ["member", *(f"{name}_{k}" for k in range(x.ndim))]
            shape, chunks = (n, *x.shape), (min(chunk, n), *x.shape)
            fill = np.zeros((), x.dtype)[()]
            group.create_array(
                name, shape=shape, chunks=chunks, dtype=x.dtype, dimension_names=axes, fill_value=fill, **checked
            )
        parameters = group.create_group("parameters")
        for name, x in space.members.items():
            axes = ["member", *(f"{name}_{k}" for k in range(x.ndim - 1))]
            array = parameters.create_array(name, data=x, dimension_names=axes, **checked)
            array.attrs["units"] = space.units.get(name, "")
        (draft / "study.json").write_text(json.dumps(study | {"chunk": chunk, "n": n}, indent=1, sort_keys=True))
        try:
            os.rename(draft, path)
        except OSError:
            shutil.rmtree(draft)
            if not Folder.exists(path):
                raise

    def check(self, study: dict[str, Any]) -> None:
        """Raise unless the folder holds this study."""
        here, now = self.study, json.loads(json.dumps(study))
        differing = [name for name in now if here.get(name) != now[name]]
        if differing:
            each = "; ".join(f"{name}: {_difference(here.get(name), now[name])}" for name in differing)
            raise StoreError(
                f"{self.path} holds another study: {each}. Go on with what made it, or name another folder."
            )

    def verify(self) -> list[int]:
        """The finished chunks whose checksums fail; their marks are taken away, so that they are computed again."""
        bad = []
        for c in range(self.n_chunks):
            if self.finished(c):
                try:
                    for name in self.study["results"]:
                        self._group[name][self.rows(c)]
                except (ValueError, RuntimeError, OSError):
                    bad.append(c)
                    self._mark(c).unlink(missing_ok=True)
        return bad

    def _mark(self, c: int) -> Path:
        return self.path / "done" / f"{c:06d}"

    def finished(self, c):
        return self._mark(c).exists()

    def write(self, c, rows):
        for name, x in rows.items():
            self._group[name][self.rows(c)] = x
        self._mark(c).write_text(f"{time.time():.0f}")

    def read(self):
        found = {}
        for name in self.study["results"]:
            try:
                found[name] = self._group[name][:]
            except (ValueError, RuntimeError):  # a damaged chunk: the others are read one by one
                out = np.zeros(self._group[name].shape, self._group[name].dtype)
                for c in range(self.n_chunks):
                    try:
                        out[self.rows(c)] = self._group[name][self.rows(c)]
                    except (ValueError, RuntimeError):
                        self._mark(c).unlink(missing_ok=True)
                found[name] = out
        return found

    def parameters(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The parameters of all members, and their units."""
        group = self._group["parameters"]
        names = list(self.study["parameters"])
        return {name: group[name][:] for name in names}, {name: group[name].attrs["units"] for name in names}


def _difference(there: Any, here: Any) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [k for k in {*there, *here} if there.get(k) != here.get(k)]
        return ", ".join(f"{k} {there.get(k, 'missing')} -> {here.get(k, 'missing')}" for k in sorted(keys))
    return f"{there} -> {here}"
