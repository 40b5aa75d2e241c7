"""`import brainsim` leaves JAX, and what else the process shares, as they were; programs of others stay with JAX."""

import subprocess
import sys

import pytest

from brainsim.fusion import unavailable

PROCESS = """
import json, os, sys, warnings
import diffrax, equinox, jax, jax.numpy as jnp, lineax, numpy as np, optimistix  # with tables of their own
from jax._src import monitoring
from jax._src.interpreters import ad, batching, mlir, partial_eval as pe

def tables():
    lowered = {f"lowering on {p}": dict(t) for p, t in mlir._platform_specific_lowerings.items()}
    rules = {"jvp": ad.primitive_jvps, "transpose": ad.primitive_transposes, "dce": pe.dce_rules}
    rules |= {"batching": batching.fancy_primitive_batchers, "lowering": mlir._lowerings}
    return lowered | {name: dict(t) for name, t in rules.items()}

def shared():
    heard = [list(x) for x in (monitoring._event_duration_secs_listeners, monitoring._event_listeners)]
    own = [dict(os.environ), np.geterr(), list(warnings.filters), sys.getrecursionlimit()]
    return [heard, dict(jax.config.values), *own]

def scans():
    def f(c, x):
        return jnp.sin(c) * x, jnp.cumsum(c)
    return jax.jit(lambda c, xs: jax.lax.scan(f, c, xs)).lower(jnp.ones(64), jnp.ones(5)).as_text()

def changed():
    rules = [(name, p, rule) for name, t in tables().items() for p, rule in t.items()]
    new = [f"{name}: {p}" for name, p, rule in rules if before.get(name, {}).get(p) is not rule]
    return [rule for rule in new if ": brainsim_" not in rule]

before, own, text = tables(), shared(), scans()
import brainsim as bs
assert own == shared()
print(json.dumps(changed()))
jax.clear_caches()
assert scans() == text
net = bs.Network({"P": bs.Population(bs.LIF(), 40)}, {}, key=jax.random.key(0))
state = bs.initial_state(net, dt=0.1, key=jax.random.key(0))
print(json.dumps(changed()))
step = lambda s, _: (bs.step(net, s)[0], None)
print(json.dumps("brainsim_scan" in jax.jit(lambda s: jax.lax.scan(step, s, None, 5)[0]).lower(state).as_text()))
print(json.dumps(changed()))
jax.clear_caches()
assert scans() == text
"""


@pytest.mark.skipif(bool(unavailable()), reason=f"no kernels: {unavailable()}")
def test_import_changes_no_table():
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    imported, made, played, traced = done.stdout.split("\n")[:4]
    assert imported == made == "[]"  # nothing, before a kernel is traced
    assert played == "true"
    assert traced == '["lowering on cpu: scan"]'
