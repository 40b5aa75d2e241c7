"""The same bits whatever the number of threads: threads share the work of one call and never the order of its sums."""

import os
import subprocess
import sys

import pytest

from brainsim.events import backend

PROGRAM = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from brainsim.events import CSR, FixedFanout, deposit_all

rng = np.random.default_rng(0)
n, k, steps, depth = 1500, 120, 6, 5
digest = hashlib.sha256()
table = np.sort(rng.integers(0, n, (n, k)), axis=1)
for graph, like in (
    (FixedFanout(table, n), (n, k)),
    (CSR(np.arange(0, n * k + 1, k), rng.permuted(table, axis=1).ravel(), n), (n * k,)),
):
    inbox, weight, one = (jnp.asarray(rng.normal(size=s), "float32") for s in ((depth, n), like, ()))
    values = jnp.asarray(rng.normal(size=(steps, n + 9)) * (rng.random((steps, n + 9)) < 0.5), "float32")
    delay = jnp.asarray(rng.integers(0, depth, like), "int32")
    slots = jnp.arange(steps, dtype="int32")

    def send(inbox, weight, values):
        return deposit_all(inbox, graph, weight, values, slots=slots, first=9, delay=delay)

    def each(inbox, weight, values):
        return jax.vmap(lambda v, t: send(inbox, weight, v[None].repeat(steps, 0) * t))(values, slots * 1.0)

    for w in (weight, one):
        for f in (send, each):
            out, back = jax.jit(lambda *a: jax.vjp(f, *a))(inbox, w, values)
            for x in (out, *jax.jit(back)(jnp.cos(out))):
                digest.update(np.asarray(x).tobytes())
print(graph.sorted_rows, digest.hexdigest())
"""


DRAWN = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from brainsim.events import DrawnRows, deposit_all

rng = np.random.default_rng(0)
n, steps, depth = 1500, 6, 5
digest = hashlib.sha256()
seeds = jnp.asarray(rng.integers(0, 2**32, (3, 2)), "uint32")
inbox = jnp.asarray(rng.normal(size=(depth, n)), "float32")
values = jnp.asarray(rng.normal(size=(steps, n + 9)) * (rng.random((steps, n + 9)) < 0.5), "float32")
slots = jnp.arange(steps, dtype="int32")
for make, law, theta in (
    (lambda seed: DrawnRows.fixed_probability(seed, n, n, 0.1, twin=0, law="normal"), "normal", [0.5, 2.0]),
    (lambda seed: DrawnRows.fixed_probability(seed, n, n, 0.1), "one", 2.0),
    (lambda seed: DrawnRows.fixed_out_degree(seed, n, n, 130, law="uniform"), "uniform", [0.5, 2.0]),
):
    weight = jnp.asarray(theta, "float32")

    def send(inbox, weight, values, seed):
        return deposit_all(inbox, make(seed), weight, values, slots=slots, first=9)

    for seed, f in ((seeds[0], send), (seeds, jax.vmap(send, (None, None, None, 0)))):
        out, back = jax.jit(lambda *a: jax.vjp(lambda *b: f(*b, seed), *a))(inbox, weight, values)
        for x in (out, *jax.jit(back)(jnp.cos(out))):
            digest.update(np.asarray(x).tobytes())
print(law, digest.hexdigest())
"""


RUN = """
import hashlib, diffrax, jax, numpy as np
import brainsim as bs

n = 40_000  # enough for short rows to be filed by blocks of units; three edges into the same receptor
rule, inh = bs.FixedOutDegree(30), bs.ExpCurr(tau=10.0)
net = bs.Network(
    nodes={"P": bs.Population(bs.LIF(), n, {"exc": bs.ExpCurr(tau=5.0), "inh": inh},
                              i_e=np.linspace(100.0, 900.0, n), init={"v": bs.Uniform(-70.0, -50.0)}),
           "S": bs.Source(bs.Poisson(rate=80.0), n)},
    edges={
        "now": bs.Projection("S", "P.exc", rule, weight=1.3, delay=bs.INSTANT),
        "a": bs.Projection("P[:15000]", "P.exc", rule, weight=4.0),
        "b": bs.Projection("P[15000:]", "P.exc", rule, weight=bs.Normal(4.0, 1.0)),
        "late": bs.Projection("P", "P.inh", rule, weight=-1.0, delay=1.0),
    },
    key=jax.random.key(0),
)
sol = bs.simulate(net, t1=25.0, dt=0.1, solver=diffrax.Euler(), saveat=[bs.Spikes("P", max_rate=400.0)],
                  key=jax.random.key(1))
digest = hashlib.sha256()
for x in (sol["P.spikes"].counts, *jax.tree.leaves(sol.state.nodes), *jax.tree.leaves(sol.state.inbox)):
    digest.update(np.asarray(x).tobytes())
print(np.asarray(sol["P.spikes"].counts).mean() > 300, digest.hexdigest())
"""


# rows of more units, in order: filed stretch by stretch
STRETCHES = RUN.replace("n = 40_000", "n = 70_000").replace("bs.FixedOutDegree(30)", "bs.FixedProbability(30 / n)")
STRETCHES += 'assert any(x.dtype == np.int8 for x in jax.tree.leaves(net.edges["a"]))'


@pytest.mark.optimised
@pytest.mark.skipif(backend() != "kernels", reason="the pure path has no threads of its own")
@pytest.mark.parametrize(
    "program, says",
    [
        pytest.param(PROGRAM, "False ", id="stored"),  # the second graph is one whose rows do not ascend
        pytest.param(DRAWN, "uniform ", id="drawn"),
        pytest.param(RUN, "True ", id="a run"),
        pytest.param(STRETCHES, "True ", id="a larger run"),
    ],
)
def test_results_do_not_depend_on_the_number_of_threads(program, says):
    """NPROC is the size of XLA's pool, above the number of cores too."""
    seen = set()
    for threads in ("1", "2", "5") if "simulate" not in program else ("1", "3"):
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"NPROC": threads}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1
    assert seen.pop().startswith(says)
