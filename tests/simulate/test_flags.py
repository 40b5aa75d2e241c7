"""What goes wrong in a run is a flag with the name of the node or edge, also where it never reaches a variable."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

KEY = jax.random.key(0)
NAN = jnp.asarray(jnp.nan)
PARAMETER, DELAY, KEPT = 4, 5, 6


def flags(sol):
    return {name: int(code) for name, (code, _) in sol.flags.items() if int(code)}


def delayed(connect=None, delay=1.0):
    nodes = {
        "S": bs.Source(bs.Replay([1.0], [0]), 2),
        "P": bs.Population(bs.LeakyIntegrator(tau_m=1e6), 2, {"in": bs.Delta()}),
    }
    edge = bs.Projection("S", "P.in", connect or bs.AllToAll(), weight=1.0, delay=delay, max_delay=2.0)
    return bs.Network(nodes, {"SP": edge})


@pytest.mark.core
def test_a_traced_delay_beyond_the_line_flags_its_edge():
    net = delayed()

    def arrival(delay):
        changed = eqx.tree_at(lambda n: n.edges["SP"].delay, net, delay)
        return bs.simulate(changed, t1=8.0, dt=0.1, key=KEY, saveat=[bs.Trace("P.v")])

    delays = jnp.asarray([0.0, 1.0, 2.0, 5.0, -1.0, jnp.nan])
    sol = jax.vmap(arrival)(delays)
    steps = np.argmax(np.asarray(sol["P.v"])[:, :, 0] > 0.5, axis=1)
    assert steps[:3].tolist() == [10, 20, 30]  # emitted in step 9, one step on its way, and the delay
    code, first = sol.flags["SP"]
    assert np.asarray(code).tolist() == [0, 0, 0, DELAY, DELAY, PARAMETER]
    assert np.asarray(first).tolist() == [-1, -1, -1, 0, 0, 0]
    assert not np.any(np.asarray(sol.flags["P"][0]))
    with pytest.raises(ValueError, match=r"edge 'SP'\.delay is 5 ms, beyond the line"):
        arrival(5.0)  # outside of tracing it raises
    # the flag goes on with the state, and a run that raises names the edge
    state = jax.tree.map(lambda x: x[3], sol.state)
    with pytest.raises(bs.SimulationError, match=r"Edge 'SP' has a delay.*max_delay = 2\.0 ms at step 0"):
        bs.simulate(net, t1=9.0, dt=0.1, state=state)


def test_delays_of_synapses_of_which_one_lies_beyond_flag_their_edge():
    net = delayed(bs.FromCOO([0, 1], [0, 1]), [1.0, 2.0])
    run = jax.jit(
        lambda d: bs.simulate(eqx.tree_at(lambda n: n.edges["SP"].delay, net, d), t1=1.0, dt=0.1, key=KEY).flags
    )
    assert int(run(jnp.asarray([1.0, 2.1]))["SP"][0]) == DELAY
    assert int(run(jnp.asarray([0.0, 2.0]))["SP"][0]) == 0


class Counting(bs.AbstractUnit):
    """A unit whose discrete state divides by a parameter: NaN where it is 0, without touching what flows."""

    scale: float = 1.0

    def init(self, n, clock):
        return {"x": jnp.zeros(n)}, {"trace": jnp.zeros(n)}

    def vector_field(self, y, z, inp):
        return {"x": inp - y["x"]}

    def guard(self, y, z):
        return y["x"] - 1e9

    def reset(self, y, z, s, inp, clock):
        return y, {"trace": z["trace"] * 0.0 / self.scale}


PLACES = {
    # a threshold, a refractory time, a period, a rate, spike times, a delay, a plasticity: no variable becomes NaN
    "threshold": (lambda n: n.nodes["P"].unit.v_th, "P", "unit.v_th"),
    "refractory": (lambda n: n.nodes["P"].unit.t_ref, "P", "unit.t_ref"),
    "regular": (lambda n: n.nodes["R"].process.period, "R", "process.period"),
    "poisson": (lambda n: n.nodes["Q"].process.rate, "Q", "process.rate"),
    "waveform": (lambda n: n.nodes["W"].process.rate.values, "W", "process.rate.values"),
    "input edge": (lambda n: n.edges["X"].rate, "X", "rate"),
    "plasticity": (lambda n: n.edges["E"].short_term.U, "E", "short_term.U"),
}


def many():
    nodes = {
        "P": bs.Population(bs.LIF(t_ref=jnp.full(3, 2.0)), 3, {"in": bs.Delta()}),
        "R": bs.Source(bs.Regular(10.0), 3),
        "Q": bs.Source(bs.Poisson(10.0), 3),
        "W": bs.Source(bs.Poisson(bs.Sampled([0.0, 1.0], 1.0)), 3),
        "C": bs.Population(Counting(), 3),
    }
    edges = {
        "E": bs.Projection("R", "P.in", bs.OneToOne(), weight=1.0, short_term=bs.TsodyksMarkram()),
        "X": bs.PoissonInput("P.in", 10, 1.0, 0.1),
    }
    return bs.Network(nodes, edges)


@pytest.mark.core
def test_nan_that_never_reaches_a_flowing_variable_is_flagged_by_name():
    net = many()
    run = lambda net, **kw: bs.simulate(net, t1=2.0, dt=0.1, key=KEY, **kw)  # noqa: E731
    assert flags(run(net)) == {}
    for where, name, parameter in PLACES.values():
        old = where(net)
        bad = eqx.tree_at(where, net, old.at[0].set(jnp.nan) if old.ndim else NAN)
        sol = run(bad, throw=False)
        assert flags(sol)[name] == PARAMETER
        assert int(sol.flags[name][1]) == 0
        with pytest.raises(bs.SimulationError, match=rf"{name}': {parameter} is not finite at step 0"):
            run(bad)
    # the discrete state of a node, and that of an edge, after the run
    bad = eqx.tree_at(lambda n: n.nodes["C"].unit.scale, net, jnp.asarray(0.0))
    with pytest.raises(bs.SimulationError, match=r"Node 'C': trace is NaN at step 20 \(t = 2 ms\)") as e:
        run(bad)
    assert flags(e.value.solution) == {"C": KEPT}
    state = bs.initial_state(net, dt=0.1, key=KEY)
    state = eqx.tree_at(lambda s: s.edges["E"]["x"], state, state.edges["E"]["x"].at[1].set(jnp.nan))
    after, _ = bs.step(net, state)
    assert int(after.flags["E"][0]) == KEPT
    with pytest.raises(bs.SimulationError, match="Edge 'E': x is NaN"):  # one step, before it arrives anywhere
        bs.simulate(net, t1=0.1, dt=0.1, state=state)


def test_a_traced_input_that_is_not_finite_flags_its_node():
    net = bs.Network({"X": bs.Source(bs.External(), 2)})
    run = jax.jit(lambda x: bs.simulate(net, t1=1.0, dt=0.5, key=KEY, inputs={"X": x}).flags["X"])
    assert [int(run(jnp.asarray([[0.0, 1.0], [1.0, x]]))[0]) for x in (1.0, jnp.nan, jnp.inf)] == [
        0,
        PARAMETER,
        PARAMETER,
    ]


def test_flags_of_packed_nodes_name_the_member():
    cells = {f"P{k}": bs.Population(bs.LIF(v_th=-50.0 + k), 2) for k in range(3)}
    packed = bs.pack(bs.Network(cells))
    units = packed.unit_range("P1")
    bad = eqx.tree_at(
        lambda n: n.nodes[units[0]].unit.v_th, packed, packed.nodes[units[0]].unit.v_th.at[units[1]].set(jnp.nan)
    )
    with pytest.raises(bs.SimulationError, match=r"Node 'P1': unit\.v_th is not finite") as e:
        bs.simulate(bad, t1=1.0, key=KEY)
    assert flags(e.value.solution) == {"P1": PARAMETER}
