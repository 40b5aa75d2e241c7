"""What a sweep returns."""

from pathlib import Path
from typing import Any

import numpy as np

from ..base import as_text
from ._model import FLAG
from ._space import AbstractSpace
from ._store import AbstractStore, Folder


class Sweep:
    """The results of all members.

    `sweep["rate"]` is a result, arranged along the axes of the space: a grid of 40 x 30 members gives (40, 30, ...).
    `finished` says which members are there, `flag` which diverged (0: fine), `dataset()` is an xarray of all.
    """

    def __init__(self, store: AbstractStore, space: AbstractSpace, about: dict[str, Any]) -> None:
        self._store, self.space, self.about = store, space, about
        self._arrays = store.read()

    @staticmethod
    def open(path: str | Path) -> "Sweep":
        """The sweep in a folder, finished or not."""
        store = Folder(Path(path))
        return Sweep(store, _Stored(store), store.study)

    def _arranged(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(*self.space.dims.values(), *x.shape[1:])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise KeyError(f"{name!r} is no result of this sweep; there are {sorted(self._arrays)}.")
        return self._arranged(self._arrays[name])

    @property
    def results(self) -> list[str]:
        """Names of the results."""
        return sorted(set(self._arrays) - {FLAG})

    @property
    def finished(self) -> np.ndarray:
        """Which members are there."""
        n = np.arange(len(self.space))
        chunks = np.asarray([self._store.finished(c) for c in range(self._store.n_chunks)])
        return self._arranged(chunks[n // self._store.chunk])

    @property
    def flag(self) -> np.ndarray:
        """0 for a member that is fine."""
        return self[FLAG]

    def dataset(self) -> Any:
        """An `xarray.Dataset`: results along named axes with their coordinates and units, parameters, `finished`."""
        import xarray

        dims = tuple(self.space.dims)
        coordinates: dict[str, Any] = {}
        for name, x in self.space.members.items():
            along = self.space.coordinates.get(name)
            attrs = {"units": self.space.units[name]} if self.space.units.get(name) else {}
            if along is not None:
                coordinates[name] = ((name,), along, attrs)
            else:
                coordinates[name] = ((*dims, *_inner(name, x)), self._arranged(x), attrs)
        results: dict[str, Any] = {
            name: ((*dims, *_inner(name, x)), self._arranged(x)) for name, x in self._arrays.items()
        }
        results["finished"] = (dims, self.finished)
        attrs = {k: v if isinstance(v, str | int) else str(v) for k, v in self.about.items()}
        return xarray.Dataset(results, coordinates, attrs)

    def __rich__(self) -> Any:
        from rich.table import Table

        good = self.finished & (self.flag == 0)
        axes = " x ".join(f"{n} {name}" for name, n in self.space.dims.items())
        table = Table(title=f"{int(self.finished.sum())} of {len(self.space)} members ({axes}), {_flags(self)}")
        for column in ("result", "shape", "least", "median", "largest"):
            table.add_column(column, justify="left" if column in ("result", "shape") else "right")
        for name in self.results:
            x = self[name][good].ravel().astype(float)
            shown = [f"{f(x):.4g}" for f in (np.min, np.median, np.max)] if x.size else ["", "", ""]
            table.add_row(name, str(self._arrays[name].shape[1:]), *shown)
        return table

    __str__ = as_text
    __repr__ = as_text


def _flags(sweep: Sweep) -> str:
    bad = int(np.count_nonzero(sweep.flag[sweep.finished]))
    return f"{bad} flagged" if bad else "none flagged"


def _inner(name: str, x: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{name}_{k}" for k in range(x.ndim - 1))


class _Stored(AbstractSpace):
    """The space of a store."""

    def __init__(self, store: Folder) -> None:
        self.members, self.units = store.parameters()
        self.dims = store.study["dims"]
        order = np.arange(store.n).reshape(*self.dims.values())
        self.coordinates = {}
        for k, name in enumerate(self.dims):
            if name in self.members:  # along its axis, at the first place of all others
                first = tuple(slice(None) if j == k else 0 for j in range(order.ndim))
                self.coordinates[name] = self.members[name][order[first]]
