"""Runs that diverge without a NaN, and the negative conductances that make them: refused, or flagged."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

KEY = jax.random.key(0)
RECEPTORS = [bs.ExpCond(), bs.AlphaCond(), bs.DualExpCond(), bs.NMDA()]


class Growth(bs.AbstractUnit):
    """`dv/dt = rate v`: 10^30 after 69 / rate ms, and never infinite within 88."""

    rate: float = 1.0

    def init(self, n, clock):
        return {"v": jnp.ones(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": self.rate * y["v"]}

    def guard(self, y, z):
        return jnp.full_like(y["v"], -1e3)

    def reset(self, y, z, s, inp, clock):
        return y, z


@pytest.mark.core
@pytest.mark.parametrize("n", [2, 64])  # by XLA, and as one pass of machine code
def test_a_potential_of_1e30_is_a_run_that_diverged(n):
    net = bs.Network({"P": bs.Population(Growth(), n)})
    sol = bs.simulate(net, t1=70.0, dt=0.1, key=KEY, throw=False)
    code, first = (int(x) for x in sol.flags["P"])
    assert code == 1
    assert first == pytest.approx(np.log(2.0**64) / 0.1, abs=2)  # 44.4 ms
    assert int(bs.simulate(net, t1=44.0, dt=0.1, key=KEY).flags["P"][0]) == 0
    with pytest.raises(bs.SimulationError, match=r"'P'.*diverged"):
        bs.simulate(net, t1=70.0, dt=0.1, key=KEY)


def network(receptor, weight, **given):
    nodes = {"S": bs.Source(bs.Poisson(100.0), 4), "P": bs.Population(bs.LIF(), 4, {"syn": receptor})}
    return bs.Network(nodes, {"SP": bs.Projection("S", "P.syn", bs.AllToAll(), weight=weight, **given)}, key=KEY)


@pytest.mark.core
@pytest.mark.parametrize("receptor", RECEPTORS, ids=lambda r: type(r).__name__)
def test_a_negative_conductance_is_refused_at_construction(receptor):
    name = type(receptor).__name__
    with pytest.raises(ValueError, match=rf"edge 'SP'.weight is -3 nS into P.syn, a {name}.*>= 0.*e_rev"):
        network(receptor, -3.0)


def test_all_that_adds_to_a_conductance_is_looked_at():
    with pytest.raises(ValueError, match=r"edge 'SP'.weight is -.*low=0.0"):
        network(bs.ExpCond(), bs.Normal(0.1, 1.0))
    with pytest.raises(ValueError, match=r"edge 'SP'.weight is -1 nS"):
        network(bs.ExpCond(), [[1.0, 2.0, -1.0, 0.0]] * 4)
    cells = {"P": bs.Population(bs.LIF(), 4, {"syn": bs.ExpCond(), "gap": bs.GapPort()})}
    for edge in (
        bs.PoissonInput("P.syn", 10, 5.0, -1.0),
        bs.GapJunctions("P", "P.gap", bs.AllToAll(), weight=-1.0),
        bs.Projection("P", "P.syn", bs.Procedural(bs.FixedProbability(0.5)), weight=bs.Uniform(-1.0, 2.0)),
    ):
        with pytest.raises(ValueError, match=r"edge 'E'.weight is -1 nS into P"):
            bs.Network(cells, {"E": edge}, key=KEY)
    assert network(bs.ExpCurr(), -3.0)  # a current has a sign


def test_a_negative_conductance_put_in_later_is_refused_by_the_run():
    net = eqx.tree_at(lambda n: n.edges["SP"].weight, network(bs.ExpCond(), 3.0), jnp.asarray(-3.0))
    with pytest.raises(ValueError, match=r"edge 'SP'.weight is -3 nS"):
        bs.simulate(net, t1=10.0, dt=0.1, key=KEY)


def test_a_negative_conductance_under_tracing_is_flagged_and_never_advised_a_smaller_dt():
    net = network(bs.ExpCond(), 1.0)

    def flag(weight):
        changed = eqx.tree_at(lambda n: n.edges["SP"].weight, net, weight)
        return bs.simulate(changed, t1=1.0, dt=0.1, key=KEY).flags["SP"][0]

    np.testing.assert_array_equal(jax.vmap(flag)(jnp.asarray([1.0, -1.0, 0.0])), [0, 8, 0])
    below = bs.Population(bs.LIF(tau_m=1.0), 4, {"syn": bs.ExpCond(tau=1e3)}, init={"syn.g": -1e4})
    with pytest.raises(bs.SimulationError, match=r"'P' is not finite.*port 'syn' is negative") as e:
        bs.simulate(bs.Network({"P": below}), t1=50.0, dt=0.1, key=KEY)
    assert "smaller dt" not in str(e.value)
