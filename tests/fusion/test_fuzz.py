"""Generated units and inputs, fused and by XLA: no process ends by a signal, nothing differs beyond rounding."""

import os
import subprocess
import sys

import numpy as np
import pytest

from brainsim.fusion import unavailable

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no kernels: {unavailable()}")
ROUNDING = 1e-9  # in double precision, of 12 steps of some thousand operations on numbers of order 1
HURRY = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def outcomes(tmp_path, first, count):
    """What both ways write of these seeds."""
    for wish in ("auto", "off"):
        environment = os.environ | {"BRAINSIM_FUSION": wish, "JAX_ENABLE_X64": "1", "XLA_FLAGS": HURRY}
        command = [sys.executable, "-m", "tests.fusion.fuzz", str(first), str(count), str(tmp_path / f"{wish}.npz")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{wish}: {done.returncode}, in {done.stdout.splitlines()[-1:]}\n{done.stderr}"
    return [np.load(tmp_path / f"{wish}.npz") for wish in ("auto", "off")]


def same(fused, xla):
    assert fused.files == xla.files
    assert sum(np.any(fused[key]) for key in fused.files) > len(fused.files) // 2
    for key in fused.files:
        np.testing.assert_allclose(fused[key], xla[key], rtol=ROUNDING, atol=ROUNDING, err_msg=key)


CONSTANTS = """
import jax, jax.numpy as jnp
import brainsim as bs
from brainsim.core import AbstractUnit

class Unit(AbstractUnit):
    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": (inp - y["v"]) / 20.0}

    def guard(self, y, z):
        return y["v"] - 1000.0

    def reset(self, y, z, s, inp, clock):
        return {"v": y["v"] * (1 - s) + jnp.where(clock.n < 50, 0.25, 0.5)}, z

net = bs.Network({"P": bs.Population(Unit(), 64)}, {}, key=jax.random.key(0))
sol = bs.simulate(net, t1=6.0, key=jax.random.key(0), saveat=[bs.Trace("P.v", units=[0])])
print(*sol["P.v"][[0, 49, 50], 0])
"""


def test_a_choice_of_constants_by_the_step():
    """Two constants in one table: machine code that finds it by a whole address in 32 bits aborts the process."""
    done = subprocess.run([sys.executable, "-c", CONSTANTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    decay = np.exp(-0.1 / 20.0)
    v = [0.0]
    for n in range(51):
        v.append(v[-1] * decay + (0.25 if n < 50 else 0.5))
    np.testing.assert_allclose([float(x) for x in done.stdout.split()], [v[1], v[50], v[51]], rtol=1e-5)


def test_some(tmp_path):
    same(*outcomes(tmp_path, 0, 3))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 2000, 100))
def test_two_thousand(first, tmp_path):
    same(*outcomes(tmp_path, first, 100))
