"""Weights are constants of a segment's backward pass: the derivative of plain differentiation, without its cost."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from experiments.benchmarks.gradient import StepByStep
from tests.nets import balanced, same

RTOL = 1e-10  # float64: the same terms, summed in another order


def plain(net):
    """The network differentiated step by step: its edges do not say that their weights are constant."""
    return eqx.tree_at(lambda net: net.edges, net, {name: StepByStep(edge) for name, edge in net.edges.items()})


def recurrent():
    """Per-synapse weights and delays beside scalar ones; rings deeper than a segment."""
    return balanced(40, noise=None, surrogate=bs.Triangular(10.0))


def rich():
    """Every kind of projection: views, short-term plasticity, several into one port, INSTANT, dense, learnt delays."""
    cell = bs.LIF(t_ref=1.0)
    kind = dict(surrogate=bs.Triangular(10.0), init={"v": bs.Uniform(-60.0, -50.0)})
    nodes = {
        "S": bs.Source(bs.Poisson(rate=600.0), 6),
        "A": bs.Population(cell, 10, {"exc": bs.ExpCond(tau=5.0)}, i_e=220.0, **kind),
        "B": bs.Population(cell, 8, {"exc": bs.ExpCurr(tau=3.0), "inh": bs.Delta()}, i_e=200.0, **kind),
    }
    tm, some = bs.TsodyksMarkram(U=0.4, tau_facil=20.0, tau_rec=50.0), bs.Normal(20.0, 3.0)
    late, weak = bs.LinearDelay(bs.Uniform(0.0, 1.5)), bs.Uniform(1.0, 3.0)
    edges = {
        "SA": bs.Projection("S", "A.exc", bs.FixedOutDegree(4), weight=weak, delay=bs.Uniform(0.0, 1.0)),
        "AA": bs.Projection("A[:6]", "A.exc", bs.FixedProbability(0.5), weight=2.0, short_term=tm, delay=0.4),
        "AB": bs.Projection("A", "B[2:].exc", bs.AllToAll(), weight=some, delay=0.3),
        "AB2": bs.Projection("A[1::2]", "B[::2].exc", bs.FixedProbability(0.6), weight=some, delay=late, max_delay=2.0),
        "AB0": bs.Projection("A[3:]", "B.inh", bs.FixedProbability(0.6), weight=-0.7, delay=bs.INSTANT),
        "BB": bs.Projection("B", "B.exc", bs.FixedProbability(0.5), weight=some, delay=[0.2] * 8, short_term=tm),
    }
    return bs.Network(nodes, edges, key=jax.random.key(4))


def loss(net, adjoint, key=0, t1=5.1):
    """Of events, and of voltages recorded every third step: blocks, and a remainder in segments of 7."""
    name = "B" if "B" in net.nodes else "P"
    saveat = (bs.Events(name), bs.Trace(f"{name}.v", every=3))
    sol = bs.simulate(net, t1=t1, dt=0.1, key=jax.random.key(key), adjoint=adjoint, saveat=saveat)
    return jnp.mean(sol[f"{name}.events"]) + 1e-3 * jnp.mean(sol[f"{name}.v"] ** 2), sol.state


def gradient(net, adjoint, **kw):
    return eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))(net, adjoint, **kw)


def close(a, b, rtol=RTOL):
    total = 0.0
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * float(jnp.max(jnp.abs(y), initial=1e-6)))
        total += float(jnp.sum(jnp.abs(y)))
    assert total > 0


@pytest.mark.parametrize("make", [recurrent, rich])
def test_equals_plain_differentiation(x64, make):
    net = make()
    wanted, before = gradient(plain(net), bs.DirectAdjoint())
    for adjoint in bs.DirectAdjoint(), bs.CheckpointedAdjoint(7):
        g, state = gradient(net, adjoint)
        close(g, wanted)
        assert all(bool(jnp.any(e.weight != 0)) for e in g.edges.values())
        assert same(state, before)


@pytest.mark.optimised
def test_a_value_under_grad_is_that_of_the_run():
    net, adjoint = recurrent(), bs.CheckpointedAdjoint(7)
    assert same(gradient(net, adjoint)[1], eqx.filter_jit(loss)(net, adjoint)[1])


def test_forward_mode_equals_reverse(x64):
    net = recurrent()
    weights, rest = eqx.partition(net, eqx.is_inexact_array)
    f = jax.jit(lambda w: loss(eqx.combine(w, rest), bs.CheckpointedAdjoint(), t1=2.1)[0])
    ones = jax.tree.map(jnp.ones_like, weights)
    slope = jax.jvp(f, (weights,), (ones,))[1]
    np.testing.assert_allclose(slope, sum(jnp.sum(x) for x in jax.tree.leaves(jax.grad(f)(weights))), rtol=RTOL)


def test_vmap_over_seeds_and_weights_equals_the_loop(x64):
    net = balanced(20, surrogate=bs.Triangular(10.0))

    def grad(scale, key):
        def f(w):
            changed = eqx.tree_at(lambda n: n.edges["E"].weight, net, w)
            sol = bs.simulate(changed, t1=3.0, dt=0.1, key=key, saveat=(bs.Trace("P.v"),))
            return jnp.mean(sol["P.v"] ** 2)

        return jax.grad(f)(net.edges["E"].weight * scale)

    keys, scales = jax.random.split(jax.random.key(1), 3), jnp.asarray([1.0, 0.9, 1.2])
    one = jax.jit(grad)
    for scale, axis in ((scales[1], None), (scales, 0)):
        batch = jax.jit(jax.vmap(grad, in_axes=(axis, 0)))(scale, keys)
        close(batch, jnp.stack([one(scale if axis is None else scale[k], keys[k]) for k in range(3)]))


def test_second_derivative_equals_plain_differentiation(x64):
    def product(net):
        weights, rest = eqx.partition(net, eqx.is_inexact_array)
        f = lambda w: loss(eqx.combine(w, rest), bs.CheckpointedAdjoint(), t1=2.1)[0]  # noqa: E731
        ones = jax.tree.map(jnp.ones_like, weights)
        return jax.jit(lambda w: jax.jvp(jax.grad(f), (w,), (ones,))[1])(weights)

    net = recurrent()
    close(product(net), product(plain(net)))


def carried(jaxpr, depth=0):
    """(depth, shape) of everything that the scans of a jaxpr carry or collect, by how deep they nest."""
    found = set()
    for eqn in jaxpr.eqns:
        scan = eqn.primitive.name == "scan"
        if scan:
            inner = eqn.params["jaxpr"].jaxpr.outvars
            found |= {(depth, tuple(v.aval.shape)) for v in inner}
        for sub in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            inner = getattr(sub, "jaxpr", sub)
            if hasattr(inner, "eqns"):
                found |= carried(inner, depth + scan)
    return found


def scans_of_gradient(net, where, adjoint):
    f = lambda w: loss(eqx.tree_at(where, net, w), adjoint, t1=3.0)[0]  # noqa: E731
    return carried(jax.make_jaxpr(jax.grad(f))(where(net)).jaxpr)


@pytest.mark.core
@pytest.mark.parametrize("leaf", ["weight", "delay"])
def test_no_scan_over_steps_carries_an_array_of_the_size_of_the_synapses(leaf):
    net, of = recurrent(), lambda net: getattr(net.edges["E"], "edge", net.edges["E"])
    if leaf == "delay":
        net = eqx.tree_at(lambda net: of(net).delay, net, bs.GaussianDelay(of(net).delay, 0.2))
    where = (lambda net: of(net).weight) if leaf == "weight" else (lambda net: of(net).delay.d)
    shape = where(net).shape
    assert (0, shape) in scans_of_gradient(plain(net), where, bs.DirectAdjoint())  # or this test could not fail
    assert shape not in {s for _, s in scans_of_gradient(net, where, bs.DirectAdjoint())}
    # once a segment is what there should be, beyond that nothing
    assert {d for d, s in scans_of_gradient(net, where, bs.CheckpointedAdjoint()) if s == shape} == {0}


def test_only_what_depends_on_a_weight_is_differentiated():
    cell = lambda n: bs.Population(bs.LIF(), n, {"exc": bs.ExpCond()}, surrogate=bs.Triangular(10.0))  # noqa: E731
    edges = {
        "SP": bs.Projection("S", "P.exc", bs.AllToAll(), weight=1.0),
        "PB": bs.Projection("P", "B.exc", bs.FixedProbability(0.5), weight=1.0),
    }
    source = bs.Source(bs.Poisson(rate=100.0), 5)
    net = bs.Network({"S": source, "P": cell(37), "B": cell(41)}, edges, key=jax.random.key(0))

    def count(name, n):
        where = lambda net: net.edges[name].weight  # noqa: E731
        f = lambda w: loss(eqx.tree_at(where, net, w), bs.CheckpointedAdjoint(), t1=3.0)[0]  # noqa: E731
        text = str(jax.make_jaxpr(jax.grad(f))(where(net)))
        return text.count(f"f32[{n}]") + text.count(f"f64[{n}]")

    assert count("PB", 41) > 0.7 * count("SP", 41)
    assert count("PB", 37) < 0.7 * count("SP", 37)  # the forward pass remains
