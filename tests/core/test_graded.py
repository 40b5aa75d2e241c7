"""Units without spikes, or without a potential: what they emit, their rates, the receptors they take."""

from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.base import Param
from brainsim.solvers import fusion

N = 40


class Mass(bs.AbstractUnit):
    """A neural mass: no guard, no reset, no variable v; it emits a sigmoid of its activity."""

    tau: Param = 10.0

    def init(self, n, clock):
        return {"a": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"a": (inp - y["a"]) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return jax.nn.sigmoid(y["a"])


class Reader(bs.AbstractReceptor):
    """A receptor that reads the potential."""

    def init(self, n):
        return {"g": jnp.zeros(n)}

    def current(self, g, v):
        return -g["g"] * v

    def vector_field(self, g):
        return {"g": -g["g"]}

    def arrive(self, g, dg, y_unit):
        return {"g": g["g"] + dg}, y_unit


class Field(bs.AbstractUnit):
    """Units joined by a matrix: a parameter that no population could hold one of per unit."""

    structure: ClassVar[bs.Structure] = bs.Structure.OPERATOR
    w: Param = 0.0

    def check(self, where, n):
        if jnp.shape(self.w) != (n, n):
            raise ValueError(f"{where}: Field.w has shape {jnp.shape(self.w)}; expected ({n}, {n}).")

    def init(self, n, clock):
        return {"a": jnp.arange(n, dtype=jnp.result_type(float))}, {}

    def vector_field(self, y, z, inp):
        return {"a": self.w @ y["a"]}

    def emit(self, y, z, s):
        return y["a"]


def masses(n=N):
    pop = bs.Population(Mass(), n, {"in": bs.Delta("a"), "i": bs.ExpCurr(tau=5.0)}, i_e=np.linspace(0.0, 2.0, n))
    ring = bs.FromCOO(np.arange(n), (np.arange(n) + 1) % n)
    cells = bs.Population(bs.LIF(), n, {"exc": bs.ExpCond()}, i_e=400.0)
    edges = {
        "ring": bs.Projection("M", "M.in", ring, weight=0.1, delay=1.0),
        "down": bs.Projection("M", "P.exc", ring, weight=0.5),
        "up": bs.Projection("P", "M.i", ring, weight=0.5),
    }
    return bs.Network({"M": pop, "P": cells}, edges)


@pytest.fixture(scope="module")
def run():
    saveat = [bs.Events("M"), bs.Trace("M.a"), bs.Spikes("P")]
    return bs.simulate(masses(), t1=5.0, key=jax.random.key(0), saveat=saveat)


def test_what_a_graded_unit_emits_is_of_the_end_of_the_step(run):
    np.testing.assert_allclose(run["M.events"], jax.nn.sigmoid(run["M.a"]), rtol=1e-6)
    assert np.ptp(run["M.a"]) > 0.1


def test_nothing_is_said_of_the_rate_of_what_has_no_spikes(run):
    assert set(run.rates) == set(run.n_events) == set(run.stats["rate_hz"]) == {"P"}
    assert run.rates["P"] > 0
    assert "M" not in str(run.stats)


def test_a_graded_unit_equals_its_own_euler_steps():
    net = bs.Network({"M": bs.Population(Mass(), 1, i_e=1.0)})
    a = bs.simulate(net, t1=20.0, key=jax.random.key(0), saveat=[bs.Trace("M.a")])["M.a"][:, 0]
    t = 0.1 * np.arange(1, 201)
    np.testing.assert_allclose(a, 1 - np.exp(-t / 10.0), rtol=1e-5)


def test_graded_units_are_fused():
    net = masses()
    assert fusion(net.nodes["M"], bs.ExponentialEuler(), "M", {"in": 11, "i": 1}) == "fused"
    assert bs.summary(net).steps == "one call"


def test_the_gradient_goes_through_what_is_emitted():
    net = masses(3)

    def last(w):
        changed = eqx.tree_at(lambda net: net.edges["ring"].weight, net, w)
        return jnp.sum(bs.simulate(changed, t1=4.0, key=jax.random.key(0), saveat=[bs.Trace("M.a")])["M.a"][-1])

    w = jnp.asarray(0.1)
    found = jax.grad(last)(w)
    h = 1e-2
    np.testing.assert_allclose(found, (last(w + h) - last(w - h)) / (2 * h), rtol=1e-2)
    assert found > 1.0


@pytest.mark.parametrize("recording", [bs.Spikes("M"), bs.Rate("M")])
def test_spikes_of_what_has_none_are_refused(recording):
    with pytest.raises(ValueError, match=r"node 'M' has no spikes.*bs.Events\('M'\)"):
        bs.simulate(masses(2), t1=1.0, key=jax.random.key(0), saveat=[recording])


def test_a_receptor_that_reads_v_needs_a_unit_that_has_it():
    with pytest.raises(
        ValueError, match=r"Mass has no variable 'v', which port 'exc' \(Reader\) reads; it has \['a'\]"
    ):
        bs.Network({"M": bs.Population(Mass(), 2, {"exc": Reader()})})


def test_parameters_of_any_shape_where_units_flow_together():
    w = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    net = bs.Network({"F": bs.Population(Field(w=w), 2)})

    sol = bs.simulate(net, t1=1.0, dt=0.01, solver=diffrax.Heun(), key=jax.random.key(0), saveat=[bs.Trace("F.a")])
    np.testing.assert_allclose(sol["F.a"][-1], [-np.sin(1.0), np.cos(1.0)], atol=1e-4)
    with pytest.raises(ValueError, match=r"Population 'F': Field.w has shape \(3, 3\); expected \(2, 2\)"):
        bs.Network({"F": bs.Population(Field(w=jnp.zeros((3, 3))), 2)})
    with pytest.raises(TypeError, match="units of this node flow together"):
        bs.simulate(net, t1=1.0, key=jax.random.key(0))


def test_the_old_flag_is_refused_by_name():
    with pytest.raises(TypeError, match=r"Coupled.elementwise is not read any more.*bs.Structure.OPERATOR"):
        type("Coupled", (Mass,), {"elementwise": False, "__module__": __name__})


def test_graded_spikes_keep_the_jump_of_their_guard():
    class Burst(bs.AbstractUnit):
        def init(self, n, clock):
            return {"v": jnp.zeros(n)}, {}

        def vector_field(self, y, z, inp):
            return {"v": jnp.ones_like(y["v"])}

        def guard(self, y, z):
            return y["v"] - 0.95

        def emit(self, y, z, s):
            return 0.5 * s

        def reset(self, y, z, s, inp, clock):
            return {"v": y["v"] * (1 - s)}, z

    net = bs.Network({"B": bs.Population(Burst(), 1)})
    sol = bs.simulate(net, t1=3.0, key=jax.random.key(0), saveat=[bs.Events("B"), bs.Trace("B.v")])
    sent = np.asarray(sol["B.events"])[:, 0]
    assert sent.tolist() == [0.5 if k % 10 == 0 else 0.0 for k in range(1, 31)]
    assert np.all(np.asarray(sol["B.v"])[sent > 0] == 0)
    assert sol.rates == {}
