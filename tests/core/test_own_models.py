"""Faults in a user's own equations are found at construction, by class and method; slips of the first hour likewise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs


class Good(bs.AbstractUnit):
    tau: float = 20.0

    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {"k": jnp.zeros(n, jnp.int32)}

    def vector_field(self, y, z, inp):
        return {"v": (inp - y["v"]) * (1.0 / self.tau)}

    def guard(self, y, z):
        return y["v"] - 1.0

    def reset(self, y, z, s, inp, clock):
        return {"v": y["v"] * (1 - s)}, {"k": z["k"] + (s > 0).astype(jnp.int32)}


def unit(**methods):
    """The unit with other methods."""
    body = {k: getattr(Good, k) for k in ("init", "vector_field", "guard", "reset")} | methods
    return type(
        "Mine", (bs.AbstractUnit,), body | {"__annotations__": {"tau": float}, "tau": 20.0, "__module__": __name__}
    )()


def network(cell, receptors=None):
    return bs.Network({"P": bs.Population(cell, 3, receptors)})


FAULTS = {
    "init of one dict": (
        dict(init=lambda self, n, clock: {"v": jnp.zeros(n)}),
        r"init\(n, clock\) returned \{v: .*two dicts",
    ),
    "init of integers": (
        dict(init=lambda self, n, clock: ({"v": jnp.zeros(n, int)}, {"k": jnp.zeros(n, jnp.int32)})),
        r"init\(n, clock\) returned \{v: int32\[3\]\}; expected floating arrays of 3 units",
    ),
    "init of one unit": (
        dict(init=lambda self, n, clock: ({"v": jnp.zeros(1)}, {})),
        r"init.*returned \{v: float\d+\[1\]\}; expected floating arrays of 3",
    ),
    "a field without a variable": (
        dict(vector_field=lambda self, y, z, inp: {}),
        r"vector_field\(y, z, inp\) returned \{\}; expected the derivative of every variable of y: \{v: float",
    ),
    "a field that is an array": (
        dict(vector_field=lambda self, y, z, inp: -y["v"]),
        r"vector_field.* returned float\d+\[3\]",
    ),
    "a wrong name": (
        dict(vector_field=lambda self, y, z, inp: {"v": -y["u"]}),
        r"vector_field\(y, z, inp\) fails with KeyError: 'u'. The names and shapes it is given are \(\{v: float",
    ),
    "a guard of all units": (
        dict(guard=lambda self, y, z: jnp.sum(y["v"])),
        r"guard\(y, z\) returned float\d+\[\]; expected one",
    ),
    "a reset of y": (
        dict(reset=lambda self, y, z, s, inp, clock: y),
        r"reset\(y, z, s, inp, clock\) returned \{v: .*\(y, z\)",
    ),
    "a reset that loses z": (
        dict(reset=lambda self, y, z, s, inp, clock: (y, {})),
        r"reset.* returned \{\}; expected z with",
    ),
    "a counter that becomes a float": (
        dict(reset=lambda self, y, z, s, inp, clock: (y, {"k": z["k"].astype(s.dtype) + s})),
        r"reset.* returned \{k: float\d+\[3\]\}; expected z .*\{k: int32\[3\]\}",
    ),
    "a branch on numbers": (
        dict(reset=lambda self, y, z, s, inp, clock: ({} if s[0] > 0 else y, z)),
        r"reset\(y, z, s, inp, clock\) fails with TracerBoolConversionError",
    ),
}


@pytest.mark.core
def test_a_good_unit_is_built():
    assert network(unit()).nodes["P"].variables == ["v"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_equations_is_named(fault):
    methods, message = FAULTS[fault]
    with pytest.raises((TypeError, ValueError), match=r"Population 'P': Mine\." + message):
        network(unit(**methods))


class Gated(bs.AbstractReceptor):
    """A conductance whose decay depends on the potential: `dg/dt = -g exp(v / 20) / tau`."""

    tau: float = 5.0

    def init(self, n):
        return {"g": jnp.zeros(n)}

    def current(self, g, v):
        return -g["g"] * v

    def vector_field(self, g, v):
        return {"g": -g["g"] * jnp.exp(v / 20.0) * (1.0 / self.tau)}

    def arrive(self, g, dg, y_unit):
        return {"g": g["g"] + dg}, y_unit


@pytest.mark.core
def test_the_kinetics_of_a_receptor_may_depend_on_the_potential():
    v = np.linspace(-60.0, 0.0, 40)  # held: enough units for machine code
    clamp = bs.VoltageClamp(bs.LIF(), v)
    net = bs.Network(
        {"S": bs.Source(bs.Replay([1.0], [0]), 1), "P": bs.Population(clamp, 40, {"e": Gated()})},
        {"SP": bs.Projection("S", "P.e", bs.AllToAll(), weight=1.0)},
    )
    g = bs.simulate(net, t1=5.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Trace("P.e.g")])["P.e.g"][-1]
    np.testing.assert_allclose(g, np.exp(-4.0 * np.exp(v / 20.0) / 5.0), rtol=1e-5)  # 40 steps; exact for constant v


def test_a_fault_in_a_receptor_is_named():
    class Mine(bs.AbstractReceptor):
        def init(self, n):
            return {"g": jnp.zeros(n)}

        def current(self, g, v):
            return -g["g"] * v

        def vector_field(self, g):
            return {"h": -g["g"]}

        def arrive(self, g, dg, y_unit):
            return {"g": g["g"] + dg}, y_unit

    with pytest.raises(TypeError, match=r"Population 'P', port 'e': Mine.flow\(g, v\) returned \{h: .*\{g: float"):
        network(unit(), {"e": Mine()})


def cells():
    return bs.Population(bs.LIF(), 3, {"e": bs.ExpCond()})


def edge(**given):
    given = {"pre": "P", "post": "P", "connect": bs.AllToAll(), "weight": 1.0} | given
    return bs.Network({"P": cells()}, {"E": bs.Projection(**given)})


SLIPS = {
    "a near name": (lambda: bs.LIF(tau=10.0), TypeError, r"LIF: parameter 'tau' does not exist. Did you mean 'tau_m'"),
    "a far name": (lambda: bs.ExpCond(reversal=0.0), TypeError, "ExpCond: parameter 'reversal'.*Known: 'e_rev', 'tau'"),
    "an option of another edge": (
        lambda: bs.PoissonInput("P.e", 10, 5.0, 1.0, short_term=bs.TsodyksMarkram()),
        TypeError,
        "PoissonInput: parameter 'short_term' does not exist. Known: .*'rate'",
    ),
    "a probability": (
        lambda: edge(connect=0.1),
        TypeError,
        r"edge 'E'.connect is 0.1.*Write bs.FixedProbability\(0.1\)",
    ),
    "a population": (lambda: edge(pre=cells()), TypeError, r"is a Population; expected the name that the node has"),
    "a delay by a function": (
        lambda: edge(delay=lambda d: d),
        TypeError,
        r"edge 'E'.delay is <function.*It is not called",
    ),
    "a current in time": (
        lambda: bs.Population(bs.LIF(), 3, i_e=bs.StepCurrent([1.0], [5.0])),
        TypeError,
        r"Population.i_e is a StepCurrent.*inputs=\{'P': StepCurrent",
    ),
    "a distribution": (lambda: bs.LIF(tau_m=bs.Normal(20.0, 1.0)), TypeError, r"LIF.tau_m is Normal.*\.sample\("),
    "one recording": (
        lambda: bs.simulate(edge(), t1=1.0, key=jax.random.key(0), saveat=bs.Spikes("P")),
        TypeError,
        r"expected a list of recordings. Write saveat=\[bs.Spikes\('P'\)\]",
    ),
    "one name": (
        lambda: bs.simulate(edge(), t1=1.0, key=jax.random.key(0), saveat="P.v"),
        TypeError,
        r"Write saveat=\[bs.Trace\('P.v'\)\]",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_says_what_to_write(slip):
    do, kind, message = SLIPS[slip]
    with pytest.raises(kind, match=message):
        do()
