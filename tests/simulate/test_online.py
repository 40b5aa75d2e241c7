"""Truncated and online gradients: plain differentiation with the same paths cut, and the definitions of the rules."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core import View
from brainsim.simulate import in_one
from experiments.benchmarks.gradient import StepByStep

RTOL = 1e-9  # float64: the same terms, summed in another order
KEY = jax.random.key(1)


class Silent(bs.AbstractEdge):
    """An edge through which no credit passes back to the events it sends."""

    edge: bs.AbstractEdge

    reads = property(lambda self: self.edge.reads)
    writes = property(lambda self: self.edge.writes)
    instant = property(lambda self: self.edge.instant)

    def schedule(self, where, dt):
        return SilentlySent(self.edge.schedule(where, dt))

    def depth(self, dt):
        return self.edge.depth(dt)

    def init(self, clock):
        return self.edge.init(clock)


class SilentlySent(bs.AbstractScheduledEdge):
    """A `Silent` edge at one dt."""

    edge: bs.AbstractScheduledEdge

    reads = property(lambda self: self.edge.reads)
    writes = property(lambda self: self.edge.writes)
    instant = property(lambda self: self.edge.instant)

    def send(self, z, views, clock):
        quiet = {k: View(v.y, v.z, jax.lax.stop_gradient(v.events)) for k, v in views.items()}
        return self.edge.send(z, quiet, clock)


class Cut(bs.AbstractAdjoint):
    """Plain differentiation with the state stopped at the steps where `when(n)`: of the nodes, or all of it."""

    when: object = eqx.field(static=True)
    nodes: bool = eqx.field(static=True)

    def scan(self, segment, carry, kept, xs, length, thin):
        return in_one(segment, carry, kept, xs, length, thin)

    def stretch(self, step, params, carry, xs, length):
        def stopped(params, carry, *rest, **kw):
            stop = self.when(carry[0].n)

            def one(x):
                return jnp.where(stop, jax.lax.stop_gradient(x), x) if eqx.is_inexact_array(x) else x

            if self.nodes:
                held = jax.tree.map(one, carry[0].nodes)
                carry = (eqx.tree_at(lambda s: s.nodes, carry[0], held), *carry[1:])
            else:
                carry = jax.tree.map(one, carry)
            return step(params, carry, *rest, **kw)

        return super().stretch(stopped, params, carry, xs, length)


def cut(net):
    """The network without credit through edges that have a delay."""
    edges = {name: edge if edge.instant else Silent(edge) for name, edge in net.edges.items()}
    return eqx.tree_at(lambda net: net.edges, net, edges)


def plain(net):
    """The network differentiated step by step."""
    return eqx.tree_at(lambda net: net.edges, net, {name: StepByStep(edge) for name, edge in net.edges.items()})


def cells(n, unit=None, **kw):
    unit = bs.LIF(e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0, t_ref=0.3) if unit is None else unit
    return bs.Population(unit, n, {"s": bs.ExpCurr(tau=3.0)}, surrogate=bs.Triangular(1.0), **kw)


def layers():
    """Two layers within the step; the first is recurrent, with delays of its own for every synapse, and learnt ones."""
    late = bs.LinearDelay(bs.Uniform(0.0, 1.0))
    edges = {
        "SA": bs.Projection(
            "S", "A", bs.FixedProbability(0.6), weight=bs.Uniform(1.0, 5.0), delay=bs.Uniform(0.0, 1.0)
        ),
        "SA2": bs.Projection(
            "S", "A[2:]", bs.FixedOutDegree(3), weight=bs.Uniform(0.5, 1.5), delay=late, max_delay=1.5
        ),
        "AA": bs.Projection("A", "A", bs.FixedProbability(0.5), weight=0.2, delay=0.3),
        "AD": bs.Projection("A[:4]", "A[1::2]", bs.Dense(4, 4), weight=bs.Uniform(-0.5, 0.5), delay=0.2),
        "AB": bs.Projection("A[1:]", "B", bs.Dense(7, 5), weight=bs.Uniform(2.0, 12.0), delay=bs.INSTANT),
    }
    a = cells(8, i_e=0.5, noise=bs.WhiteNoise({"v": 0.02}))
    nodes = {"S": bs.Source(bs.Poisson(rate=300.0), 10), "A": a, "B": cells(5)}
    return bs.Network(nodes, edges, key=jax.random.key(0))


def loss(net, adjoint, t1=6.0, weight=None, **kw):
    """Of events, and of voltages taken every other step."""
    n = round(t1 / 0.1)
    saveat = [bs.Events("B"), bs.Trace("B.v", every=2), bs.Events("A"), bs.Trace("A.v")]
    sol = bs.simulate(net, t1=t1, dt=0.1, key=KEY, adjoint=adjoint, saveat=saveat, **kw)
    c = jnp.linspace(0.5, 1.5, n)[:, None] if weight is None else weight[:, None]
    return (
        jnp.sum(c * (sol["B.events"] @ jnp.arange(1.0, 6.0))[:, None])
        + (jnp.sum(sol["B.v"] ** 2) if weight is None else 0.0)
        + jnp.sum(c * sol["A.events"])
        + jnp.sum(c * sol["A.v"] * 0.1)
    )


def gradient(net, adjoint, **kw):
    return eqx.filter_jit(eqx.filter_grad(loss))(net, adjoint, **kw)


def leaf(g, name):
    """The derivatives by the weights and the learnt delay of edge `name`, whatever it is wrapped in."""
    edge = getattr(g.edges[name], "edge", g.edges[name])
    learnt = edge.delay if isinstance(edge.delay, bs.AbstractDelay) else None
    return jax.tree.leaves(eqx.filter((edge.weight, learnt), eqx.is_array))


def close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=RTOL, atol=RTOL * float(jnp.max(jnp.abs(y), initial=1e-6)))
        assert float(jnp.sum(jnp.abs(y))) > 0


def parameters(g, name):
    """The derivatives by what the units of a population are made of."""
    unit = g.nodes[name].unit
    return unit.tau_m, unit.v_th, unit.v_reset, g.nodes[name].receptors["s"].tau


@functools.cache
def backpropagated():
    """Of all that `loss` sees in `layers()`: some tests take it, all in double precision."""
    return gradient(layers(), bs.DirectAdjoint())


@pytest.mark.parametrize("steps", [14, 100])
def test_truncated_equals_plain_differentiation_with_the_state_stopped(x64, steps):
    net = layers()
    wanted = gradient(plain(net), Cut(lambda n: (n > 0) & (n % steps == 0), False))
    got = gradient(net, bs.TruncatedAdjoint(steps))
    for name in net.edges:
        close(leaf(got, name), leaf(wanted, name))
    full = backpropagated()
    same = all(np.allclose(x, y) for k in net.edges for x, y in zip(leaf(got, k), leaf(full, k)))
    assert same == (steps == 100)


def test_sltt_equals_plain_differentiation_with_the_nodes_stopped(x64):
    net = layers()
    wanted = gradient(cut(net), Cut(lambda n: n >= 0, True))
    got = gradient(net, bs.SLTTAdjoint())
    for name in net.edges:
        close(leaf(got, name), leaf(wanted, name))
    for name in "A", "B":  # a step begins with the currents it has: their time constant is of the next one
        close(parameters(got, name)[:2], parameters(wanted, name)[:2])


@pytest.mark.slow
def test_sltt_k_is_the_part_of_its_steps(x64):
    net, w = layers(), jnp.sin(jnp.arange(60.0))
    some = bs.SLTTAdjoint(k=20, key=jax.random.key(3))
    mask = some.chosen(60)
    assert int(mask.sum()) == 20
    got = gradient(net, some, weight=w)
    wanted = gradient(net, bs.SLTTAdjoint(), weight=jnp.where(mask, w, 0.0))
    for name in net.edges:
        close(leaf(got, name), leaf(wanted, name))
    every = gradient(net, bs.SLTTAdjoint(k=60, key=jax.random.key(3)), weight=w)
    close(leaf(every, "SA"), leaf(gradient(net, bs.SLTTAdjoint(), weight=w), "SA"))


def only(net, names):
    """A network of fewer nodes."""
    edges = {k: e for k, e in net.edges.items() if {*e.reads.values(), e.writes[0]} <= set(names)}
    return bs.Network({k: net.nodes[k] for k in names}, edges)


def recorded(net, adjoint, name="A", inputs=None):
    saveat = [bs.Events(name), bs.Trace(f"{name}.v", every=2), bs.Trace(f"{name}.s.i", every=3)]
    sol = bs.simulate(net, t1=6.0, dt=0.1, key=KEY, adjoint=adjoint, saveat=saveat, inputs=inputs)
    c = jnp.linspace(0.5, 1.5, 60)[:, None]
    return jnp.sum(jnp.sin(c * sol[f"{name}.events"])) + jnp.sum(sol[f"{name}.v"] ** 2) + jnp.sum(sol[f"{name}.s.i"])


def test_eprop_equals_bptt_with_the_recurrent_paths_cut(x64):
    """Recordings of every, every second and every third step: their steps have no common divisor."""
    net = only(layers(), ["S", "A"])
    grad = eqx.filter_jit(eqx.filter_grad(recorded))
    got, wanted = grad(net, bs.EPropAdjoint()), grad(cut(net), bs.DirectAdjoint())
    for name in net.edges:
        close(leaf(got, name), leaf(wanted, name))
    close(parameters(got, "A"), parameters(wanted, "A"))
    full = grad(net, bs.DirectAdjoint())  # or this test could not fail
    assert not np.allclose(leaf(full, "AA")[0], leaf(got, "AA")[0], rtol=1e-3)


def test_eprop_equals_bptt_for_a_feed_forward_layer(x64):
    got, wanted = gradient(layers(), bs.EPropAdjoint()), backpropagated()
    close(leaf(got, "AB"), leaf(wanted, "AB"))  # the last layer
    close(parameters(got, "B"), parameters(wanted, "B"))


def feed(unit, **kw):
    edges = {"SA": bs.Projection("S", "A", bs.Dense(6, 4), weight=bs.Uniform(0.0, 0.8), delay=0.4)}
    ports = {"s": bs.Delta()}
    a = bs.Population(unit, 4, ports, surrogate=bs.Triangular(1.0), **kw)
    return bs.Network({"S": bs.Source(bs.Poisson(rate=500.0), 6), "A": a}, edges, key=jax.random.key(2))


def test_ottt_is_its_definition(x64):
    """dL/dW = sum_t a_t g_t, a_t = exp(-dt / tau) a_{t-1} + (spikes that arrive), g_t = c_t slope(u_t - threshold)."""
    unit = bs.CubaLIF(tau_m=8.0, reset_by_subtraction=True)
    net = feed(unit)
    c = jnp.sin(jnp.arange(400.0)).reshape(100, 4)

    def f(w, record=()):
        changed = eqx.tree_at(lambda net: net.edges["SA"].weight, net, w)
        saveat = [bs.Events("A"), bs.Events("S"), bs.Trace("A.v")]
        sol = bs.simulate(changed, t1=10.0, dt=0.1, key=KEY, adjoint=bs.OTTTAdjoint(), saveat=saveat)
        return jnp.sum(c * sol["A.events"]), sol

    w = net.edges["SA"].weight
    got, sol = jax.grad(f, has_aux=True)(w)
    events, v = np.asarray(sol["A.events"]), np.asarray(sol["A.v"])
    u = v + events  # before the reset, which subtracts 1
    g = np.asarray(c) * np.maximum(0.0, 1.0 - np.abs(u - 1.0))
    trace, total = np.zeros(6), np.zeros((6, 4))
    sent = np.asarray(sol["S.events"])
    for t in range(100):
        arrives = sent[t - 5] if t >= 5 else 0.0  # 1 + 0.4 / 0.1 steps
        trace = np.exp(-0.1 / 8.0) * (trace + arrives)
        total += np.outer(trace, g[t])
    assert events.sum() > 5
    np.testing.assert_allclose(got, total, rtol=1e-9)


@pytest.mark.slow
def test_ottt_equals_eprop_where_nothing_resets(x64):
    net = layers()
    quiet = cells(8, bs.LeakyIntegrator(tau_m=5.0))
    net = bs.Network({"S": net.nodes["S"], "A": quiet}, {k: net.edges[k] for k in ("SA", "SA2")})

    def f(net, adjoint):
        sol = bs.simulate(net, t1=6.0, dt=0.1, key=KEY, adjoint=adjoint, saveat=[bs.Trace("A.v")])
        return jnp.sum(sol["A.v"] ** 2)

    grad = eqx.filter_jit(eqx.filter_grad(f))
    wanted = grad(net, bs.DirectAdjoint())
    for adjoint in bs.OTTTAdjoint(), bs.EPropAdjoint():
        got = grad(net, adjoint)
        for name in net.edges:
            close(leaf(got, name), leaf(wanted, name))


@pytest.mark.optimised
@pytest.mark.parametrize(
    "adjoint",
    [bs.TruncatedAdjoint(20), bs.SLTTAdjoint(), bs.EPropAdjoint(), bs.OTTTAdjoint()],
    ids=lambda a: type(a).__name__,
)
def test_values_are_those_of_the_run_and_vmap_equals_the_loop(adjoint):
    net = feed(bs.LIF(e_l=0.0, v_reset=0.0, v_th=1.0, g_l=1.0))

    def f(w, key, adjoint=adjoint):
        changed = eqx.tree_at(lambda net: net.edges["SA"].weight, net, w)
        sol = bs.simulate(changed, t1=5.0, dt=0.1, key=key, adjoint=adjoint, saveat=[bs.Events("A"), bs.Trace("A.v")])
        return jnp.mean(sol["A.events"]) + jnp.mean(sol["A.v"] ** 2)

    w, keys = net.edges["SA"].weight, jax.random.split(KEY, 3)
    one = jax.jit(jax.value_and_grad(f))
    value, g = one(w, keys[1])
    assert value == jax.jit(f)(w, keys[1], bs.DirectAdjoint())
    assert bool(jnp.any(g != 0))
    values, gs = jax.jit(jax.vmap(jax.value_and_grad(f), in_axes=(None, 0)))(w, keys)
    np.testing.assert_allclose(values[1], value, rtol=1e-6)
    np.testing.assert_allclose(gs[1], g, rtol=1e-4, atol=1e-6 * float(jnp.max(jnp.abs(g))))


def test_forward_mode_for_few_parameters(x64):
    """Both ways through spikes; the exact adjoints have a forward mode, of memory independent of the steps."""
    net = only(layers(), ["S", "A"])
    where = lambda net: (net.nodes["A"].unit.tau_m, net.nodes["A"].unit.v_th, net.edges["AA"].weight)  # noqa: E731
    f = lambda x: recorded(eqx.tree_at(where, net, x), bs.CheckpointedAdjoint())  # noqa: E731
    x = where(net)
    for forward, reverse in zip(jax.jit(jax.jacfwd(f))(x), jax.jit(jax.grad(f))(x), strict=True):
        np.testing.assert_allclose(forward, reverse, rtol=1e-9)


LIMIT = 50e6  # bytes; and of the online rules nothing but the recordings and the steps' numbers may grow with T


def temporaries(net, adjoint, n_steps):
    def f(w):
        changed = eqx.tree_at(lambda n: [n.edges[k].weight for k in net.edges], net, w)
        sol = bs.simulate(changed, t1=n_steps * 0.1, dt=0.1, key=KEY, adjoint=adjoint, saveat=[bs.Rate("P")])
        return jnp.mean((sol["P.rate"] * 1e-4) ** 2)

    weights = [net.edges[k].weight for k in net.edges]
    return jax.jit(jax.grad(f)).lower(weights).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "adjoint",
    [bs.CheckpointedAdjoint(), bs.TruncatedAdjoint(100), bs.SLTTAdjoint(), bs.EPropAdjoint(), bs.OTTTAdjoint()],
    ids=lambda a: type(a).__name__,
)
def test_memory_of_ten_thousand_steps_of_a_thousand_units(adjoint):
    """100,000 synapses. Temporaries of the compiled gradient, without running it."""
    net = large()
    long = temporaries(net, adjoint, 10_000)
    assert long < LIMIT
    if isinstance(adjoint, bs.AbstractOnlineAdjoint):
        assert long - temporaries(net, adjoint, 1_000) < 12 * 9_000


def large():
    ports = {"exc": bs.ExpCurr(tau=5.0), "inh": bs.ExpCurr(tau=10.0)}
    p = bs.Population(bs.LIF(t_ref=5.0), 1000, ports, i_e=120.0, surrogate=bs.Triangular(10.0))
    edges = {
        "E": bs.Projection("P[:800]", "P.exc", bs.FixedProbability(0.1), weight=bs.Normal(6.0, 1.0), delay=1.0),
        "I": bs.Projection("P[800:]", "P.inh", bs.FixedProbability(0.1), weight=bs.Normal(-30.0, 1.0), delay=1.0),
    }
    return bs.Network({"P": p}, edges, key=jax.random.key(0))


@pytest.mark.core
def test_what_a_rule_cannot_follow_is_refused():
    def run(net, adjoint):
        return jnp.sum(bs.simulate(net, t1=6.0, dt=0.1, key=KEY, adjoint=adjoint, saveat=[bs.Events("P")])["P.events"])

    grad = eqx.filter_grad(run)
    with pytest.raises(ValueError, match=r"SLTTAdjoint.k is 0"):
        bs.SLTTAdjoint(k=0)
    with pytest.raises(ValueError, match=r"give key="):
        bs.SLTTAdjoint(k=3)
    with pytest.raises(ValueError, match=r"TruncatedAdjoint.steps is 0"):
        bs.TruncatedAdjoint(0)

    def net(rule=None, unit=None, **kw):
        p = bs.Population(bs.LIF() if unit is None else unit, 4, {"s": bs.ExpCurr()} if rule else {"s": bs.GapPort()})
        rule = bs.FixedProbability(0.5) if rule is None else rule
        kind = bs.Projection if "s" in p.receptors and isinstance(p.receptors["s"], bs.ExpCurr) else bs.GapJunctions
        return bs.Network({"P": p}, {"E": kind("P", "P", rule, weight=1.0)}, key=KEY)

    with pytest.raises(
        ValueError, match=r"edge 'E' \(GapJunctions\) .*EPropAdjoint cannot follow.*CheckpointedAdjoint"
    ):
        grad(net(), bs.EPropAdjoint())
    with pytest.raises(ValueError, match=r"edge 'E' draws its synapses anew"):
        grad(net(bs.Procedural(bs.FixedProbability(0.5))), bs.SLTTAdjoint())
    with pytest.raises(ValueError, match=r"'P' has one value of unit.tau_m per unit.*EPropAdjoint"):
        grad(net(bs.AllToAll(), bs.LIF(tau_m=[10.0, 11.0, 12.0, 13.0])), bs.OTTTAdjoint())
    with pytest.raises(ValueError, match=r"'P' does not flow linearly.*EPropAdjoint"):
        grad(net(bs.AllToAll(), bs.QIF()), bs.OTTTAdjoint())
    with pytest.raises(ValueError, match=r"SLTTAdjoint.k is 500, but the run has 60 steps"):
        grad(net(bs.AllToAll()), bs.SLTTAdjoint(k=500, key=KEY))
