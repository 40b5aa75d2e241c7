"""Every kind of edge: declared, wired, scheduled; what each form keeps to."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core import AbstractDeclaredEdge, AbstractEdge, AbstractScheduledEdge, Clock, ring_depth

N, DT = 6, 0.5
KEY = jax.random.key(2)
PAIRS = bs.FromCOO(np.array([0, 3, 1]), np.array([1, 2, 5]))


def nodes():
    ports = {"exc": bs.ExpCurr(), "gap": bs.GapPort()}
    return {
        "P": bs.Population(bs.LIF(), N, ports, i_e=500.0),
        "M": bs.Population(bs.WilsonCowan(), N, {"c": bs.CouplingPort()}),
        "K": bs.Population(bs.Kuramoto(), N, {"c": bs.PairPort("theta")}),
        "G": bs.Population(bs.GChI(), N, {"ip3": bs.Delta("ip3")}),
    }


DECLARED = {
    "Projection": bs.Projection("P[:4]", "P.exc", bs.FixedProbability(0.5), weight=2.0, delay=bs.Uniform(0.0, 2.0)),
    "learnt": bs.Projection("P", "P[1:].exc", bs.Dense(N, N - 1), weight=0.5, delay=bs.LinearDelay(1.3), max_delay=4.0),
    "listed": bs.Projection("P", "P.exc", PAIRS, weight=np.arange(3.0), short_term=bs.TsodyksMarkram()),
    "GapJunctions": bs.GapJunctions("P", "P.gap", PAIRS, weight=0.1, delay=1.0),
    "PoissonInput": bs.PoissonInput("P[::2].exc", 10, 5.0, 1.0, 1.0),
    "PlasticProjection": bs.PlasticProjection(
        "P", "P.exc", PAIRS, rule=bs.PairSTDP(), weight=0.5, delay=np.array([0.5, 1.0, 2.0]), axonal=0.5
    ),
    "Coupling": bs.Coupling("M", "M.c", PAIRS, weight=0.5, lengths=np.array([3.0, 4.0, 9.0]), speed=5.0),
    "PairCoupling": bs.PairCoupling("K", "K.c", PAIRS, weight=0.5, delay=1.0, function=bs.sinusoidal),
    "IP3Coupling": bs.IP3Coupling("G", "G.ip3", PAIRS),
}


@pytest.fixture(scope="module")
def net():
    return bs.Network(nodes(), DECLARED, key=KEY)


@pytest.fixture(scope="module")
def state(net):
    return bs.initial_state(net, dt=DT, key=KEY)


def subclasses(cls):
    return {cls} | {x for sub in cls.__subclasses__() for x in subclasses(sub)}


def test_every_kind_of_edge_is_here():
    kinds = {x for x in subclasses(AbstractDeclaredEdge) if not x.__name__.startswith("Abstract")}
    own = {x for x in kinds if x.__module__.startswith("brainsim.")}
    assert own == {type(x) for x in DECLARED.values()}


@pytest.mark.parametrize("name", DECLARED)
def test_forms_are_apart(name, net):
    declared, wired, scheduled = DECLARED[name], net.edges[name], net.at(DT).edges[name]
    assert isinstance(wired, AbstractEdge)
    assert not isinstance(wired, AbstractDeclaredEdge)
    assert isinstance(scheduled, AbstractScheduledEdge)
    assert not isinstance(declared, AbstractEdge | AbstractScheduledEdge)
    assert (wired.reads, wired.writes, wired.instant) == (scheduled.reads, scheduled.writes, scheduled.instant)
    with pytest.raises(TypeError, match="route"):
        type(declared)(**{f: getattr(declared, f) for f in declared.__dataclass_fields__}, route=None)


@pytest.mark.parametrize("name", DECLARED)
def test_a_wired_edge_stays_itself_in_another_network(name, net):
    again = bs.Network(net.nodes, net.edges, key=jax.random.key(9))
    assert again.edges[name] is net.edges[name]


@pytest.mark.parametrize("name", DECLARED)
def test_scheduling_is_a_function_of_arrays(name, net):
    arrays, static = eqx.partition(net.edges[name], eqx.is_array)
    one = net.edges[name].schedule(name, DT)
    other = jax.jit(lambda x: eqx.filter(eqx.combine(x, static).schedule(name, DT), eqx.is_array))(arrays)
    for x, y in zip(jax.tree.leaves(eqx.filter(one, eqx.is_array)), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-6)


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_sent_fits(name, net, state):
    """Deposits go to the port that the edge names and lie within the ring that it asks for."""
    wired, scheduled = net.edges[name], net.at(DT).edges[name]
    clock = Clock.of(name, state.n, DT, state.key)
    views = {}
    for role, node in scheduled.reads.items():
        now = state.nodes[node]
        views[role] = bs.View(now.y, now.z, bs.Emitted(jnp.ones(N)), jnp.zeros(()))
    z, deposits = scheduled.send(state.edges[name], views, clock)
    assert jax.tree.structure(z) == jax.tree.structure(state.edges[name])
    assert deposits
    width = net.nodes[wired.writes[0]].ports[wired.writes[1]]
    for d in deposits:
        assert (d.node, d.port) == wired.writes
        steps = np.asarray(d.steps)
        assert np.all((steps >= 0) & (steps <= wired.depth(DT)))
        assert d.add_to(jnp.zeros((wired.depth(DT), width)), state.n).shape == (wired.depth(DT), width)
    if scheduled.weights:
        assert len(scheduled.weights) == len(deposits)


def test_the_schedule_has_the_delay_in_steps(net):
    edge = net.edges["PlasticProjection"]
    np.testing.assert_array_equal(net.at(DT).edges["PlasticProjection"].steps, [2, 5, 3])
    assert edge.depth(DT) == ring_depth(2.0, DT) == 5


def test_check_warns_and_scheduling_does_not(recwarn):
    net = bs.Network(nodes(), {"E": bs.Projection("P", "P.exc", PAIRS, weight=1.0, delay=0.7)})
    net.at(DT)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="edge 'E'"):
        net.check(DT)


def test_what_is_neither_declared_nor_wired_is_refused(net):
    with pytest.raises(TypeError, match=r"(?s)edge 'E' is Scheduled.*; expected an edge"):
        bs.Network(nodes(), {"E": net.at(DT).edges["Projection"]})
