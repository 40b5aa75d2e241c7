"""Read a NIR file."""

from typing import Any

from ._file import file_of
from ._graph import Graph
from ._reader import read_apart


def read(path: Any) -> Graph:
    """The graph of a NIR file, with every attribute as it stands there; `check` says what is wrong with it.

    The file is read in a process of its own, with a limit of 1 GB and of 8 s. Links, external storage and virtual data
    sets are refused, and sizes and lengths are looked at before memory is taken.

    **Raises:** `NIRError` for what is no NIR file. Needs h5py: `pip install 'brainsim[nir]'`.
    """
    return read_apart(file_of(path))
