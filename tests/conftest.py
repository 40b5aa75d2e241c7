"""Settings of the whole suite: strict dtypes and ranks, deterministic CPU, x64 by JAX_ENABLE_X64=1, annotations checked
by BRAINSIM_SHAPES=1, no test begun after BRAINSIM_TESTS_UNTIL."""

import gc
import os
import time

import jax
import pytest
from jaxtyping import install_import_hook

from tests import shapes

if os.environ.get("BRAINSIM_SHAPES"):
    install_import_hook("brainsim", f"{shapes.__name__}.{shapes.checked.__name__}")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
UNTIL = float(os.environ.get("BRAINSIM_TESTS_UNTIL", "inf"))  # seconds since 1970
LATE = "not begun"
gc.freeze()  # what tracing makes lives long: to look it through again and again takes time and frees little
gc.set_threshold(50_000, 20, 50)


@pytest.fixture
def x64():
    """Double precision for one test."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if time.time() > UNTIL:
        pytest.skip(LATE)


def pytest_report_teststatus(report):
    """Tests that did not begin are counted apart from those skipped for a reason of their own."""
    if report.skipped and isinstance(report.longrepr, tuple) and report.longrepr[2].endswith(LATE):
        return LATE, "-", "NOT BEGUN"
