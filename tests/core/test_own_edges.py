"""Edges of a user's own, written with public parts: rows into ports, a state of their own, that of another edge."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

N, STEPS, K = 40, 80, 3


class Memory(bs.AbstractEdge, bs.AbstractScheduledEdge):
    """A trace of the events of `pre`, added to a port of `post` K steps later."""

    pre: str = eqx.field(static=True)
    post: str = eqx.field(static=True)
    port: str = eqx.field(static=True)
    gain: Any = 1.0
    gate: str | None = eqx.field(static=True, default=None)

    @property
    def reads(self):
        return {"pre": self.pre}

    @property
    def sees(self):
        return {} if self.gate is None else {"gate": self.gate}

    @property
    def writes(self):
        return self.post, self.port

    @property
    def instant(self):
        return False

    def schedule(self, where, dt):
        return self

    def depth(self, dt):
        return K + 1

    def init(self, clock):
        return {"trace": jnp.zeros(N)}

    def send(self, z, views, clock):
        trace = 0.9 * z["trace"] + views["pre"].events.value
        row = self.gain * trace
        if self.gate is not None:
            row = row * views["gate"]["trace"]
        return {"trace": trace}, [bs.Deposit(self.post, self.port, row, jnp.asarray(K, jnp.int32))]


def network(gain=1.0, gate="slow"):
    def cells(i):
        return bs.Population(bs.LIF(), N, {"exc": bs.ExpCurr()}, i_e=np.linspace(300.0, i, N))

    # "a" comes before "slow" in the order of names: what it sees does not depend on that
    edges = {"slow": Memory("Q", "P", "exc", 0.0), "a": Memory("P", "Q", "exc", gain, gate)}
    return bs.Network({"P": cells(900.0), "Q": cells(800.0)}, edges)


SAVEAT = [bs.Events("P"), bs.Events("Q"), bs.Trace("a.trace"), bs.Trace("Q.exc.i")]


def run(net, **kw):
    return bs.simulate(net, t1=STEPS * 0.1, key=jax.random.key(0), saveat=SAVEAT, **kw)


@pytest.fixture(scope="module")
def sol():
    return run(network())


def traces(events):
    found, trace = [], np.zeros(N)
    for row in np.asarray(events, np.float64):
        trace = 0.9 * trace + row
        found.append(trace)
    return np.array(found)


def test_an_edge_sees_another_as_it_was_at_the_start_of_the_step(sol):
    own, gate = traces(sol["P.events"]), np.concatenate([np.zeros((1, N)), traces(sol["Q.events"])[:-1]])
    assert sol["Q.events"].sum() > 20
    np.testing.assert_allclose(sol["a.trace"], own, rtol=1e-5)
    i, expected = np.zeros(N), []
    for step in range(STEPS):
        i = (i + (own[step - K] * gate[step - K] if step >= K else 0.0)) * np.exp(-0.1 / 5.0)
        expected.append(i)
    np.testing.assert_allclose(sol["Q.exc.i"], expected, rtol=1e-4, atol=1e-4)


def test_packed_it_is_the_same(sol):
    packed = run(bs.pack(network()))
    for key in sol.recordings:
        np.testing.assert_allclose(packed[key], sol[key], rtol=1e-5, atol=1e-5)


def test_its_parameters_have_derivatives():
    def current(gain):
        return jnp.sum(run(network(gain))["Q.exc.i"][:60])

    x, h = jnp.asarray(0.1), 0.05
    np.testing.assert_allclose(jax.grad(current)(x), (current(x + h) - current(x - h)) / (2 * h), rtol=1e-2)


def test_what_it_sees_must_exist():
    with pytest.raises(ValueError, match=r"edge 'a'.sees\['gate'\]: edge 'slo' does not exist. Did you mean 'slow'"):
        network(gate="slo")
