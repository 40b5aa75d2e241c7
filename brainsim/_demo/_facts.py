"""What is in use: versions, devices, kernels, data."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from ..events import backend
from ..fusion import unavailable
from ._data import path

PACKAGES = ("brainsim", "jax", "jaxlib", "equinox", "diffrax", "optax", "llvmlite", "numpy", "matplotlib")


def installed(package: str) -> str:
    """The version of a package, as far as it is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def kernels() -> str:
    """Which event operators a run on the default device uses, and why not the kernels."""
    device = jax.default_backend()
    known = {"cpu": "cpu", "gpu": "cuda"}
    return backend(known[device]) if device in known else f"pure (there are no kernels for a {device})"


def facts() -> list[tuple[str, Any]]:
    """Name and value, for the report and for `brainsim info`."""
    data = path()
    size = f"{len(data.read_bytes()) / 1e6:.2f} MB" if data.is_file() else "missing"
    return [
        *((name, installed(name)) for name in PACKAGES),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        ("jax devices", ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices())),
        ("floating type", "float64" if jax.config.read("jax_enable_x64") else "float32"),
        ("event operators", kernels()),
        (
            "fused units",
            f"off ({unavailable()})" if unavailable() else "on: one pass of machine code per step and population",
        ),
        ("BRAINSIM_KERNELS", os.environ.get("BRAINSIM_KERNELS", "auto (not set)")),
        (
            "Braille recordings",
            f"{size}; Mueller-Cleve et al. 2022 (CC BY 4.0), coded by Leto et al. 2025 (Apache-2.0)",
        ),
    ]
