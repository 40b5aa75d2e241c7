"""The derivative of runs whose synapses learn, by undoing them step by step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import fusion

from .parts import DT, told

RNG = np.random.default_rng(0)
STEPS = 120
PRE = [sorted(RNG.choice(STEPS, 8, replace=False)) for _ in range(7)]
POST = [sorted(RNG.choice(STEPS, 8, replace=False)) for _ in range(5)]
START = RNG.uniform(0.1, 0.9, 35)
RULES = {
    "additive": lambda a: bs.PairSTDP(a_plus=a, a_minus=0.06, w_max=1.0),
    "multiplicative": lambda a: bs.PairSTDP(a_plus=a, a_minus=0.06, bound=bs.Multiplicative()),
    "triplet": lambda a: bs.TripletSTDP(a3_plus=a, w_max=1.0),
    "several values": lambda a: bs.PreCenteredSTDP(a_plus=a, a_minus=0.06),
}


def loss(weight, a, rule, adjoint, target=0.5, **options):
    """Of what was delivered and of the weights in the end."""
    rule = RULES[rule](a)
    edge = bs.PlasticProjection("A", "B.syn", bs.AllToAll(), weight=weight, rule=rule, **{"delay": 0.3, **options})
    current = bs.Trace("B.syn.i", every=10)
    sol = bs.simulate(
        told(PRE, POST, {"S": edge}), t1=STEPS * DT, dt=DT, key=jax.random.key(0), saveat=[current], adjoint=adjoint
    )
    return jnp.sum((sol.state.edges["S"]["w"] - target) ** 2) + 0.1 * jnp.mean(sol[current.key] ** 2)


NEST, BRIAN2 = {}, {"deliver": "before", "first": "pre", "axonal": 0.3}
QUICK = {("multiplicative", "nest"), ("several values", "brian2")}
CASES = [
    pytest.param(rule, given, id=f"{rule}, {name}", marks=[] if (rule, name) in QUICK else pytest.mark.slow)
    for rule in RULES
    for name, given in (("nest", NEST), ("brian2", BRIAN2))
]


@pytest.mark.parametrize(("rule", "options"), CASES)
def test_it_is_that_of_all_values_kept_and_of_differences(rule, options):
    with jax.enable_x64(True):
        given = jnp.asarray(START), jnp.asarray(0.05)

        def slopes(adjoint):
            return jax.grad(lambda w, a: loss(w, a, rule, adjoint, **options), argnums=(0, 1))(*given)

        undone, kept = slopes(bs.CheckpointedAdjoint(segments=4)), slopes(bs.DirectAdjoint())
        for x, y in zip(undone, kept, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)
        h = 1e-6
        by = [loss(given[0], given[1] + s * h, rule, bs.DirectAdjoint(), **options) for s in (1, -1)]
        np.testing.assert_allclose(undone[1], (by[0] - by[1]) / (2 * h), rtol=1e-5)


@pytest.mark.slow
def test_a_batch_is_every_element_alone():
    gains = jnp.array([0.02, 0.05, 0.08])
    slope = jax.grad(lambda a: loss(START, a, "additive", bs.CheckpointedAdjoint()))
    np.testing.assert_allclose(jax.vmap(slope)(gains), [slope(a) for a in gains], rtol=1e-5)


@pytest.mark.slow
def test_the_tangent_forwards_is_that_backwards():
    f = lambda a: loss(START, a, "multiplicative", bs.CheckpointedAdjoint())  # noqa: E731
    forward = jax.jvp(f, (jnp.float32(0.05),), (jnp.float32(1.0),))[1]
    np.testing.assert_allclose(forward, jax.grad(f)(jnp.float32(0.05)), rtol=1e-4)


def dense_poisson(weight, rate, t1, recurrent):
    n = weight.shape[0]
    cells = bs.Population(bs.LIF(), n, {"kick": bs.Delta(), "exc": bs.ExpCurr(tau=5.0)})
    nodes = {"A": bs.Source(bs.Poisson(rate), n), "B": cells}
    edges = {
        "K": bs.Projection("A", "B.kick", bs.OneToOne(), weight=50.0),
        "S": bs.PlasticProjection("B" if recurrent else "A", "B.exc", bs.AllToAll(), weight=weight, rule=bs.PairSTDP()),
    }
    sol = bs.simulate(bs.Network(nodes, edges), t1=t1, dt=DT, key=jax.random.key(0), throw=False)
    return jnp.mean(sol.state.edges["S"]["w"] ** 2) + 1e-3 * jnp.mean(sol.state.nodes["B"].y["unit"]["v"])


@pytest.mark.optimised
@pytest.mark.parametrize("recurrent", [False, True])
def test_no_step_makes_an_array_of_synapses(recurrent):
    if fusion.unavailable():
        pytest.skip("without kernels row programs are loops of XLA")
    n = 61
    slope = jax.grad(lambda w: dense_poisson(w, 50.0, 20.0, recurrent))
    text = jax.jit(slope).lower(jnp.full((n, n), 0.5)).compile().as_text()
    bodies = [body for body in text.split("\n\n") if "brainsim_outer_add" in body or "brainsim_past" in body]
    steps = [body for body in bodies if f"f32[{n * n}]" in body and "ENTRY" not in body]
    assert steps
    for body in steps:
        made = re.findall(rf"= f32\[(?:1,)?{n * n}\]\S* ([\w-]+)\(", body)
        assert {*made} <= {"get-tuple-element", "custom-call", "parameter", "bitcast"}


def test_more_events_than_the_log_has_room_for_give_nan():
    slope = jax.grad(lambda w: dense_poisson(w, 5000.0, 100.0, False))(jnp.full((4, 4), 0.5))
    assert np.all(np.isnan(slope))
