"""What a result needs to be repeated."""

import importlib.metadata
import platform
from typing import Any

import jax

from ..events import backend
from ..fusion import unavailable


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
