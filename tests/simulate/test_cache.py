"""How much compiled programs may hold, and how their memory is freed."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import brainsim as bs
from brainsim.fusion import unavailable
from brainsim.simulate import _cache


def net(n):
    edges = {"e": bs.Projection("A", "A.exc", bs.FixedOutDegree(3), weight=1.0)}
    return bs.Network({"A": bs.Population(bs.LIF(), n, {"exc": bs.ExpCond()}, i_e=400.0)}, edges, key=jax.random.key(0))


def run(n):
    return bs.simulate(net(n), t1=2.0, key=jax.random.key(0), saveat=[bs.Trace("A.v")])["A.v"]


def test_runs_and_steps_are_counted_and_freed(monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(_cache._kept[0]))
    monkeypatch.setattr(_cache, "_MOST", 2)
    monkeypatch.setattr(_cache, "_kept", [0])
    run(40), run(40), run(41)
    assert cleared == []
    state = bs.initial_state(net(42), dt=0.1, key=jax.random.key(0))
    bs.step(net(42), bs.step(net(42), state)[0])
    assert len(cleared) == 1
    assert _cache._kept[0] <= 2
    other, state = net(43), bs.initial_state(net(43), dt=0.1, key=jax.random.key(0))
    jax.jit(lambda state: bs.step(other, bs.step(other, state)[0])[0].n)(state)  # nothing is freed within
    assert len(cleared) == 1


@pytest.mark.core
def test_what_is_freed_is_compiled_again():
    before, made = run(40), net(40)
    if not unavailable():
        ahead = jax.jit(lambda key: bs.simulate(made, t1=2.0, key=key).state.n).lower(jax.random.key(0)).compile()
    bs.clear_caches()
    np.testing.assert_array_equal(run(40), before)
    if not unavailable():
        bs.clear_caches()
        with pytest.raises(Exception, match="trace it again"):
            ahead(jax.random.key(0))


GROWING = """
import gc, jax, brainsim as bs
from brainsim.simulate import _cache
_cache._MOST = 4

def resident():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024

def one(n):
    p = bs.FixedProbability(0.1)
    edges = {"e": bs.Projection("A", "A.exc", p, weight=1.0)}
    net = bs.Network({"A": bs.Population(bs.LIF(), n, {"exc": bs.ExpCond()})}, edges, key=jax.random.key(n))
    bs.simulate(net, t1=10.0, key=jax.random.key(0), saveat=[bs.Spikes("A")])

for n in range(100, 140):
    one(n)
    if n in (119, 139):
        print(resident())
bs.clear_caches()
print(resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_memory_is_bounded():
    """20 networks of new sizes, after 20: they take 170 MB where nothing is freed."""
    done = subprocess.run([sys.executable, "-c", GROWING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    twenty, forty, freed = map(float, done.stdout.split())
    assert forty - twenty < 40
    assert freed < twenty
