"""Files of named arrays: written whole or not at all, and read with the checksum of every array."""

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 2
"""1 knew neither the arrays a file should hold nor the run it belongs to."""


class FileError(ValueError):
    """A file is damaged, missing, or not what its name says. The message names the file and what to do."""


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` so that it is either complete or not there, even if the process is killed or the disk is full."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(partial, path)
    except OSError as e:
        raise OSError(
            e.errno, f"could not write {path}: {e.strerror}. Everything written before is complete and readable"
        ) from e
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_arrays(path: Path, arrays: dict[str, Any], about: dict[str, Any]) -> None:
    """Write arrays and what there is to say about them (JSON-able) to one `.npz` file, with a checksum for each."""
    about = {"format": FORMAT, **about, "arrays": sorted(arrays)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, about=np.frombuffer(json.dumps(about).encode(), np.uint8))
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path, remedy: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays of a file, and what it says about them. **Raises:** FileError, which ends with `remedy`."""
    with _opened(path, remedy) as z:
        about = _about(z)
        names = [name.removesuffix(".npy") for name in z.namelist()]
        return {name: _array(z, name) for name in about.get("arrays", names) if name != "about"}, about


def read_about(path: Path, remedy: str) -> dict[str, Any]:
    """What a file says about its arrays, without reading them."""
    with _opened(path, remedy) as z:
        about = _about(z)
        return {**about, "arrays": about.get("arrays", [name.removesuffix(".npy") for name in z.namelist()])}


def read_array(path: Path, name: str, remedy: str) -> np.ndarray:
    """One array of a file that has it."""
    with _opened(path, remedy) as z:
        return _array(z, name)


@contextlib.contextmanager
def _opened(path: Path, remedy: str) -> Iterator[zipfile.ZipFile]:
    """The archive. Whatever goes wrong while it is read is a damaged file, since nothing else is done meanwhile."""
    with open(path, "rb") as f:
        try:
            with zipfile.ZipFile(f) as z:
                yield z
        except (FileError, MemoryError):
            raise
        except Exception as e:
            raise FileError(f"{path} is damaged, or no file of brainsim ({type(e).__name__}). {remedy}") from e


def _about(z: zipfile.ZipFile) -> dict[str, Any]:
    about = json.loads(_array(z, "about").tobytes())
    if about.get("format", 1) > FORMAT:
        raise FileError(f"{z.fp.name} has format {about['format']}; this brainsim reads up to {FORMAT}. Update it.")  # pyright: ignore
    return about


def _array(z: zipfile.ZipFile, name: str) -> np.ndarray:
    # The whole member at once: its checksum is compared at the end of its bytes, and covers its header too.
    return np.lib.format.read_array(io.BytesIO(z.read(f"{name}.npy")), allow_pickle=False)
