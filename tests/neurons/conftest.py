"""One compiled loop for tests that follow single units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import brainsim as bs
from brainsim.solvers import advance


@eqx.filter_jit
def _follow(nodes, solver, dt, n_steps, probe):
    """The states of populations without edges, every `probe`-th of `n_steps` steps. `dt` and `probe` are traced."""
    clock = bs.Clock(jnp.asarray(0, jnp.int32), dt, jax.random.key(0))
    start = {name: node.init(clock) for name, node in nodes.items()}

    def step(n, state):
        clock = bs.Clock(n, dt, jax.random.key(0))
        return {
            k: advance(nodes[k], solver, y, z, jnp.zeros((), dt.dtype), clock, None)[:2] for k, (y, z) in state.items()
        }

    def between(state, k):
        state = jax.lax.fori_loop(k * probe, (k + 1) * probe, step, state)
        return state, {name: y["unit"] for name, (y, _) in state.items()}

    return jax.lax.scan(between, start, jnp.arange(n_steps, dtype=jnp.int32))[1]


@pytest.fixture(scope="session")
def follow():
    """`follow(nodes, solver, dt, every, samples)`: variables by node, (samples, n), at every `every` ms."""

    def run(nodes, solver, dt, every, samples):
        return _follow(nodes, solver, jnp.asarray(dt), samples, jnp.asarray(round(every / dt), jnp.int32))

    return run
