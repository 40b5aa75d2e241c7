"""Settings of the whole suite: strict dtypes and ranks, deterministic CPU, x64 by JAX_ENABLE_X64=1, annotations checked
by BRAINSIM_SHAPES=1."""

import gc
import os

import jax
import pytest
from jaxtyping import install_import_hook

from tests import shapes

if os.environ.get("BRAINSIM_SHAPES"):
    install_import_hook("brainsim", f"{shapes.__name__}.{shapes.checked.__name__}")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
gc.freeze()  # what tracing makes lives long: to look it through again and again takes time and frees little
gc.set_threshold(50_000, 20, 50)


@pytest.fixture
def x64():
    """Double precision for one test."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
