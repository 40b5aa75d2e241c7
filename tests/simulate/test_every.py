"""Nodes that run once in several steps: when arrivals count, what the state is in between, derivatives, one call."""

import dataclasses

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.base import Param

N, M, STEPS = 40, 10, 60
DT = 0.1


class Slow(bs.AbstractUnit):
    """A leaky sum of what arrives, sent as it is; `k` counts its steps."""

    tau: Param = 50.0

    def init(self, n, clock):
        return {"c": jnp.zeros(n)}, {"k": jnp.zeros(n, jnp.int32)}

    def vector_field(self, y, z, inp):
        return {"c": (inp - y["c"]) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return y["c"]

    def reset(self, y, z, s, inp, clock):
        return y, {"k": z["k"] + 1}


def network(delay=1.0, n=N):
    cells = bs.Population(bs.LIF(), N, {"exc": bs.ExpCurr()}, i_e=np.linspace(300.0, 900.0, N))
    slow = bs.Population(Slow(), n, {"in": bs.Delta("c")}, i_e=1.0)
    up = bs.Projection("P", "A.in", bs.FixedProbability(0.2), weight=0.1, delay=delay)
    down = bs.Projection("A", "P.exc", bs.FixedProbability(0.2), weight=5.0, delay=0.3)
    return bs.Network({"P": cells, "A": slow}, {"up": up, "down": down}, key=jax.random.key(0))


def run(net, solver=None, n_steps=STEPS, **kw):
    solver = {"A": bs.Every(bs.ExponentialEuler(), M)} if solver is None else solver
    key = {} if "state" in kw else {"key": jax.random.key(1)}
    return bs.simulate(net, t1=n_steps * DT, solver=solver, **key, **kw)


ALL = [bs.Trace("A.c"), bs.Trace("A.k"), bs.Events("P"), bs.Events("A"), bs.Trace("P.exc.i")]


@pytest.fixture(scope="module")
def whole():
    return run(network(), saveat=ALL)


def weights(edge, n_pre, n_post):
    pre, post = edge.connect.to_coo()
    w = np.zeros((n_pre, n_post))
    np.add.at(w, (np.asarray(pre), np.asarray(post)), np.asarray(edge.weight))
    return w


def test_a_slow_node_by_hand(whole):
    net, spikes = network(), np.asarray(whole["P.events"], np.float64)
    assert spikes.sum() > 20
    arrivals, k = np.zeros((2 * STEPS, N)), 11  # 1 ms: k = 1 + 10
    for step in range(STEPS):
        arrivals[step + k] += spikes[step] @ weights(net.edges["up"], N, N)
    c, expected, sent = np.zeros(N), [], []
    for step in range(STEPS):
        due = (step + 1) % M == 0
        if due:
            c = 1 + (c + arrivals[step + 1 - M : step + 1].sum(0) - 1) * np.exp(-M * DT / 50.0)
        expected.append(c)
        sent.append(c if due else np.zeros(N))
    np.testing.assert_allclose(whole["A.c"], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(whole["A.events"], sent, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(whole["A.k"][:, 0], (np.arange(STEPS) + 1) // M)


def test_what_it_sends_arrives_as_from_any_node(whole):
    sent = np.asarray(whole["A.events"], np.float64) @ weights(network().edges["down"], N, N)
    i, expected, k = np.zeros(N), [], 4  # 0.3 ms
    for step in range(STEPS):
        i = (i + (sent[step - k] if step >= k else 0.0)) * np.exp(-DT / 5.0)
        expected.append(i)
    np.testing.assert_allclose(whole["P.exc.i"], expected, rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_within_a_window(whole):
    net = network()
    first = run(net, n_steps=33)
    rest = run(net, state=first.state)
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), rest.state.nodes, whole.state.nodes)
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(rest.state.inbox["A"]["in"], whole.state.inbox["A"]["in"])


def test_the_steps_are_one_call():
    assert bs.summary(network(), solver={"A": bs.Every(diffrax.Heun(), M)}).steps == "one call"
    row = next(r for r in bs.summary(network(), solver={"A": bs.Every(diffrax.Heun(), M)}).nodes if r["name"] == "A")
    assert row["step"] == "fused"


def test_every_step_is_no_schedule():
    a, b = (run(network(), s, saveat=ALL) for s in ({}, {"A": bs.Every(bs.ExponentialEuler(), 1)}))
    for key in a.recordings:
        np.testing.assert_array_equal(a[key], b[key])


def test_substeps_of_a_slow_node():
    net = bs.Network({"A": bs.Population(Slow(tau=2.0), N, i_e=1.0)})
    schedule = bs.Every(bs.Substep(diffrax.Heun(), 4), M)
    c = run(net, {"A": schedule}, saveat=[bs.Trace("A.c")])["A.c"][-1, 0]
    assert c == pytest.approx(1 - np.exp(-STEPS * DT / 2.0), rel=2e-3)


def test_the_derivative_is_that_of_differences():
    net = network()

    def loss(x):
        up, tau = x
        changed = eqx.tree_at(lambda n: (n.edges["up"].weight, n.nodes["A"].unit.tau), net, (up, tau))
        return jnp.sum(run(changed, saveat=[bs.Trace("A.c")])["A.c"] ** 2)

    x = (net.edges["up"].weight, net.nodes["A"].unit.tau)
    by_weight, by_tau = jax.grad(loss)(x)
    for direction, found, h in (((1.0, 0.0), jnp.sum(by_weight), 1e-2), ((0.0, 1.0), by_tau, 0.5)):
        low, high = (loss(tuple(a + s * h * d for a, d in zip(x, direction))) for s in (-1, 1))
        np.testing.assert_allclose(found, (high - low) / (2 * h), rtol=2e-2)


def test_a_batch_equals_its_runs():
    net = network()

    def one(i):
        return run(net, inputs={"A": i}, saveat=[bs.Trace("A.c")])["A.c"]

    drives = jnp.asarray([0.0, 3.0])
    for row, drive in zip(jax.vmap(one)(drives), drives):
        np.testing.assert_array_equal(row, one(drive))


@pytest.mark.parametrize("make", [lambda: bs.Every(diffrax.Heun, 2), lambda: bs.Every(diffrax.Heun(), 0)])
def test_a_schedule_checks_its_fields(make):
    with pytest.raises((TypeError, ValueError), match=r"Every\.(solver|m) is"):
        make()


def test_what_it_does_not_do_is_refused():
    with pytest.raises(ValueError, match=r"edge to A.in has a delay for every synapse.*once in 10 steps"):
        run(network(delay=bs.Uniform(0.1, 1.0)))
    with pytest.raises(TypeError, match="KenCarp3 of node 'A' is refused"):
        run(network(), {"A": bs.Every(diffrax.KenCarp3(), 2)})


def test_a_ring_that_has_to_be_deeper_keeps_what_is_on_its_way(whole):
    """A node under `Every` has a row for each of its own steps: so it is laid out anew."""
    net, half = network(), 25
    edges = {**net.edges, "up": dataclasses.replace(net.edges["up"], max_delay=3.0)}
    deep, first = bs.Network(net.nodes, edges), run(network(), n_steps=half)
    rest = run(deep, state=first.state, saveat=ALL)
    assert rest.state.inbox["A"]["in"].shape[0] > first.state.inbox["A"]["in"].shape[0]
    np.testing.assert_array_equal(rest["A.c"], whole["A.c"][half:])
