"""The kernel libraries, for CPUs and, where somebody has built it, for NVIDIA GPUs: find, check, register.

Done once, at import, without touching a device. Whatever goes wrong leaves the pure path in use and its reason in
`status`.
"""

import ctypes
import os
from pathlib import Path

import jax.ffi

VERSION = 10
"""Version of the kernels' interface; the library carries the same number (ops/include/brainsim/version.h)."""

TARGETS = (
    "scatter",
    "gather",
    "outer",
    "outer_add",
    "collect",
    "append",
    "room",
    "tally",
    "fused",
    "scan",
    "bits",
    "normals",
    "drawn_scatter",
    "drawn_gather",
    "drawn_outer",
    "convolved_scatter",
    "convolved_gather",
    "convolved_outer",
)

CUDA_TARGETS = (
    "scatter",
    "gather",
    "outer",
    "append",
    "drawn_scatter",
    "drawn_gather",
    "drawn_outer",
    "convolved_scatter",
    "convolved_gather",
    "convolved_outer",
)


def target(name: str) -> str:
    """The name under which XLA knows a kernel."""
    return f"brainsim_{name}_v{VERSION}"


def _library(name: str) -> Path:
    """Where the build puts a library."""
    return Path(__file__).parent / "_lib" / f"libbrainsim_{name}.so"


_libraries: list[ctypes.CDLL] = []


def register_fused(number: int, address: int) -> None:
    """Make the machine code at `address` known as the fused kernel `number`."""
    _libraries[0].brainsim_fused_register(number, address)


def _load() -> str:
    """Register every kernel; return "" if all went well and else the reason."""
    wish = os.environ.get("BRAINSIM_KERNELS", "auto")
    if wish not in ("auto", "off"):
        raise ValueError(f"BRAINSIM_KERNELS is {wish!r}; expected 'auto' (kernels if present) or 'off' (pure JAX).")
    if wish == "off":
        return "BRAINSIM_KERNELS=off"
    path = _library("ops")
    if not path.exists():
        return "no kernel library: brainsim was installed without a C++ compiler"
    try:
        library = ctypes.CDLL(str(path))
        library.brainsim_fused_register.argtypes = ctypes.c_int64, ctypes.c_void_p
        _libraries.append(library)
        version = int(library.brainsim_ops_version())
        if version != VERSION:
            return f"kernel library has interface {version}, this brainsim needs {VERSION}: build it again"
        for name in TARGETS:
            handler = jax.ffi.pycapsule(getattr(library, f"brainsim_{name}"))
            jax.ffi.register_ffi_target(target(name), handler, platform="cpu")
    except Exception as error:  # a broken library must cost speed, never the import
        return f"kernel library cannot be used: {error}"
    return ""


def _load_cuda() -> str:
    """The same for the kernels of NVIDIA GPUs, which need no GPU to be loaded."""
    if os.environ.get("BRAINSIM_KERNELS") == "off":
        return "BRAINSIM_KERNELS=off"
    path = _library("cuda")
    if not path.exists():
        return "no CUDA library: brainsim was built without -DBRAINSIM_CUDA=ON"
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.brainsim_cuda_version())
        if version != VERSION:
            return f"CUDA library has interface {version}, this brainsim needs {VERSION}: build it again"
        for name in CUDA_TARGETS:
            handler = jax.ffi.pycapsule(getattr(library, f"brainsim_cuda_{name}"))
            jax.ffi.register_ffi_target(target(name), handler, platform="CUDA")
    except Exception as error:
        return f"CUDA library cannot be used: {error}"
    return ""


_reasons = {"cpu": _load(), "cuda": _load_cuda()}


def loaded(platform: str = "cpu") -> bool:
    """Whether the kernels of this platform are in use."""
    return not _reasons[platform]


def status(platform: str = "cpu") -> str:
    """Either `kernels` or `pure (reason)`."""
    return "kernels" if loaded(platform) else f"pure ({_reasons[platform]})"
