"""Compiled programs: how many are kept in memory, and on disk between processes."""

import ctypes
import gc
import os
from pathlib import Path

import jax

from .. import fusion

_MOST = 32
"""Runs, steps and the like that are kept compiled."""
_kept = [0]


def noted() -> None:
    """Called where a run is traced, which is once for each program that is compiled."""
    _kept[0] += 1


def bounded() -> None:
    """Free what JAX has compiled where too much has come together; outside of transformations.

    Initial values and the like are compiled too, operation by operation, and JAX has one store for all.
    """
    if _kept[0] > _MOST:
        _kept[0] = 0
        jax.clear_caches()
        gc.collect()


def clear_caches() -> None:
    """Free the memory of all compiled programs: those of JAX (`jax.clear_caches()`) and machine code of brainsim.

    JAX keeps every program that it has compiled, 5 to 10 MB for a network of a new size or structure. Of runs and steps
    the last 32 are kept, then all is freed; a process that wants its memory earlier calls this. What is used again is
    compiled again. Programs compiled ahead of time (`jax.jit(f).lower(...).compile()`) cannot be called afterwards and
    say so.
    """
    _kept[0] = 0
    jax.clear_caches()
    fusion.forget()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc: gives what is free back to the system
    if trim is not None:
        trim(0)


def compilation_cache(path: str | os.PathLike | None = None) -> Path:
    """Keep compiled programs in `path` (default: the user's cache folder), so that the next process need not compile
    again.

    **Returns:** the folder. Call it once, before the first run.
    """
    folder = (
        Path(path) if path is not None else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "brainsim"
    )
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
