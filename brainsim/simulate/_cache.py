"""Compiled programs kept on disk between processes."""

import os
from pathlib import Path

import jax


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
