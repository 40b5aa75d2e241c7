"""Bad input: the error comes at construction and names the object, what was given, what was expected and the fix."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import replay, tally

KEY = jax.random.key(0)
NAN = float("nan")


def pop(n=4, unit=None, **kw):
    return bs.Population(bs.LIF() if unit is None else unit, n, {"exc": bs.ExpCond(), "inh": bs.ExpCond()}, **kw)


def net(**kw):
    """A network of one population with one edge `E`, which `kw` changes."""
    given = {"pre": "P", "post": "P.exc", "connect": bs.FixedProbability(0.5), "weight": 1.0} | kw
    return bs.Network({"P": pop(), "Q": tally(3)}, {"E": bs.Projection(**given)}, key=KEY)


def node(**kw):
    return bs.Network({"P": pop(**kw)})


def gap(post="P.gap", connect=None, **kw):
    nodes = {"P": bs.Population(bs.LIF(), 4, {"gap": bs.GapPort(), "exc": bs.ExpCond()}), "S": replay([(0, 0)], 4)}
    given = {"pre": "P", "weight": 1.0} | kw
    return bs.Network(nodes, {"G": bs.GapJunctions(post=post, connect=connect or bs.OneToOne(), **given)})


def ring(**delays):
    """P -> Q -> R -> P."""
    nodes = {name: bs.Population(bs.LIF(), 2, {"inp": bs.Delta()}) for name in "PQR"}
    ends = {"PQ": ("P", "Q"), "QR": ("Q", "R"), "RP": ("R", "P")}
    rule = bs.OneToOne()
    return bs.Network(nodes, {k: bs.Projection(*ends[k], rule, weight=1.0, delay=delays[k]) for k in ends})


def simulate(**kw):
    return bs.simulate(net(), **({"t1": 1.0, "key": KEY} | kw))


def later(where, value):
    """A run of a network whose array at `where` was replaced after construction."""
    return bs.simulate(eqx.tree_at(where, net(), value), t1=1.0, key=KEY)


INSTANT = bs.INSTANT
SYNAPSES = bs.FromCOO([0, 1], [2, 3])

# what it is, the call, the error, pieces of the message: object, value, expectation, fix
TABLE = [
    # names
    ("unknown pre", lambda: net(pre="PP"), ValueError, ["edge 'E'", "node 'PP'", "Did you mean 'P'"]),
    ("unknown post", lambda: net(post="R.exc"), ValueError, ["edge 'E'", "node 'R'", "Known: 'P', 'Q'"]),
    ("unknown port", lambda: net(post="P.ex"), ValueError, ["edge 'E'", "port 'ex'", "'P'", "Did you mean 'exc'"]),
    ("no port named", lambda: net(post="P"), ValueError, ["edge 'E'", "['exc', 'inh']", "'P.PORT'"]),
    ("a pre port", lambda: net(pre="P.exc"), ValueError, ["edge 'E'", "'P.exc'", "Write 'P'"]),
    ("no endpoint", lambda: net(pre="P exc"), ValueError, ["edge 'E'", "'P exc'", "expected 'node'"]),
    ("endpoint number", lambda: net(pre=3), TypeError, ["edge 'E'.pre is a int", "expected the name"]),
    ("bad range", lambda: net(pre="P[::0]"), ValueError, ["edge 'E'", "P[::0]", "[start:stop:step]"]),
    ("range beyond", lambda: net(pre="P[:5]"), ValueError, ["edge 'E'", "P[:5]", "its 4 units", "Mend"]),
    ("empty range", lambda: net(pre="P[2:2]"), ValueError, ["edge 'E'", "P[2:2]", "no unit", "4 units"]),
    (
        "a collision",
        lambda: bs.Network({"P": pop()}, {"P": bs.Projection("P", "P.exc", SYNAPSES, weight=1.0)}),
        ValueError,
        ["'P'", "both a node and an edge", "Rename"],
    ),
    ("bad node name", lambda: bs.Network({"my P": pop()}), ValueError, ["'my P'", "expected letters"]),
    # classes and things of another kind
    ("a node class", lambda: bs.Network({"P": bs.Population}), TypeError, ["node 'P'", "instance, not the class"]),
    ("a unit for a node", lambda: bs.Network({"P": bs.LIF()}), TypeError, ["node 'P'", "LIF", "bs.Population("]),
    ("a list of nodes", lambda: bs.Network([pop()]), TypeError, ["Network.nodes", "a dict"]),
    ("an edge class", lambda: bs.Network({"P": pop()}, {"E": bs.Projection}), TypeError, ["edge 'E'", "instance"]),
    ("a unit class", lambda: pop(unit=bs.LIF), TypeError, ["Population.unit", "LIF", "instance"]),
    (
        "a receptor class",
        lambda: bs.Population(bs.LIF(), 3, {"exc": bs.ExpCond}),
        TypeError,
        ["receptors['exc']", "ExpCond", "instance"],
    ),
    ("a list of receptors", lambda: bs.Population(bs.LIF(), 3, [bs.ExpCond()]), TypeError, ["receptors", "a dict"]),
    ("a surrogate class", lambda: pop(surrogate=bs.Gaussian), TypeError, ["Population.surrogate", "instance"]),
    ("a noise class", lambda: pop(noise=bs.WhiteNoise), TypeError, ["Population.noise", "bs.WhiteNoise({"]),
    ("a rule class", lambda: net(connect=bs.FixedProbability), TypeError, ["edge 'E'.connect", "instance"]),
    ("no rule", lambda: net(connect=0.1), TypeError, ["edge 'E'.connect is 0.1", "bs.FixedProbability"]),
    ("a process class", lambda: bs.Source(bs.Replay, 3), TypeError, ["Source.process", "Replay", "instance"]),
    ("short term", lambda: net(short_term=bs.TsodyksMarkram), TypeError, ["edge 'E'.short_term", "instance"]),
    ("an int key", lambda: bs.Network({"P": pop()}, key=0), TypeError, ["Network.key is 0", "jax.random.key(0)"]),
    # sizes
    ("negative size", lambda: pop(-1), ValueError, ["Population.size is -1", ">= 0"]),
    ("half a unit", lambda: pop(2.5), ValueError, ["Population.size is 2.5", "whole number", "Pass an int"]),
    ("source size", lambda: bs.Source(bs.Replay([1.0], [0]), True), ValueError, ["Source.size is True"]),
    ("unit length", lambda: node(unit=bs.LIF(tau_m=[1.0, 2.0])), ValueError, ["'P'", "unit.tau_m", "(2,)", "(4,)"]),
    ("current length", lambda: node(i_e=np.ones(3)), ValueError, ["'P'", "i_e", "(3,)", "(4,)", "Pass a number"]),
    (
        "receptor length",
        lambda: bs.Network({"P": bs.Population(bs.LIF(), 4, {"a": bs.ExpCond(tau=[1.0, 2.0])})}),
        ValueError,
        ["'P'", "receptors.a.tau", "(2,)", "(4,)"],
    ),
    ("surrogate length", lambda: node(surrogate=bs.Gaussian([1.0, 2.0])), ValueError, ["'P'", "surrogate.width"]),
    ("noise length", lambda: node(noise=bs.WhiteNoise({"v": [1.0, 2.0]})), ValueError, ["'P'", "noise.sigma.v"]),
    ("init length", lambda: node(init={"v": [1.0, 2.0]}), ValueError, ["'P'", "init.v", "(2,)", "(4,)"]),
    ("weights", lambda: net(connect=SYNAPSES, weight=[1.0] * 3), ValueError, ["edge 'E'.weight", "(3,)", "(2,)"]),
    ("delays", lambda: net(connect=SYNAPSES, delay=[1.0] * 3), ValueError, ["edge 'E'.delay", "(3,)", "(4,)"]),
    ("topology", lambda: net(connect=bs.Dense(4, 5)), ValueError, ["edge 'E'", "4 x 5", "4 x 4", "Build it"]),
    ("one to one", lambda: net(connect=bs.OneToOne(), post="Q"), ValueError, ["edge 'E'", "4 pre", "3 post"]),
    (
        "short term length",
        lambda: net(short_term=bs.TsodyksMarkram(U=[0.5, 0.4])),
        ValueError,
        ["edge 'E'", "TsodyksMarkram.U", "(2,)", "(4,)"],
    ),
    (
        "dense delays",
        lambda: net(connect=bs.Dense(4, 4), delay=np.ones((4, 3))),
        ValueError,
        ["'E'", "(4, 3)", "(4, 4)"],
    ),
    # delays
    ("negative delay", lambda: net(delay=-0.5), ValueError, ["edge 'E'.delay is -0.5 ms", ">= 0"]),
    ("negative draws", lambda: net(delay=bs.Normal(0.0, 1.0)), ValueError, ["edge 'E'.delay is -", "low=0.0"]),
    (
        "beyond the line",
        lambda: net(delay=2.0, max_delay=1.0),
        ValueError,
        ["edge 'E'.delay is 2 ms", "max_delay = 1 ms", "larger max_delay"],
    ),
    ("negative line", lambda: net(max_delay=-1.0), ValueError, ["edge 'E'.max_delay is -1.0", ">= 0"]),
    ("a line of NaN", lambda: net(max_delay=NAN), ValueError, ["edge 'E'.max_delay", "NaN"]),
    ("a line of letters", lambda: net(max_delay="1"), TypeError, ["edge 'E'.max_delay is '1'", "real number"]),
    ("a delay of letters", lambda: net(delay="INSTANT"), TypeError, ["edge 'E'.delay is 'INSTANT'", "real number"]),
    (
        "an INSTANT cycle",
        lambda: ring(PQ=INSTANT, QR=INSTANT, RP=INSTANT),
        ValueError,
        ["INSTANT", "'PQ', 'QR', 'RP'", "delay >= 0"],
    ),
    ("an INSTANT loop", lambda: net(delay=INSTANT), ValueError, ["cycle P -> P", "'E'", "delay >= 0"]),
    (
        "changed beyond the line",
        lambda: later(lambda n: n.edges["E"].delay, jnp.asarray(9.0)),
        ValueError,
        ["edge 'E'.delay is 9 ms", "max_delay = 0 ms"],
    ),
    # not a number
    ("NaN in a unit", lambda: bs.LIF(tau_m=NAN), ValueError, ["LIF.tau_m", "NaN", "finite"]),
    ("infinity in a unit", lambda: bs.LIF(v_th=[1.0, np.inf]), ValueError, ["LIF.v_th", "infinity"]),
    ("NaN in a receptor", lambda: bs.ExpCond(e_rev=NAN), ValueError, ["ExpCond.e_rev", "NaN"]),
    ("NaN in a weight", lambda: net(connect=SYNAPSES, weight=[1.0, NAN]), ValueError, ["edge 'E'.weight", "NaN"]),
    ("NaN in a delay", lambda: net(delay=NAN), ValueError, ["edge 'E'.delay", "NaN"]),
    ("NaN current", lambda: pop(i_e=NAN), ValueError, ["Population.i_e", "NaN"]),
    ("NaN initial value", lambda: pop(init={"v": NAN}), ValueError, ["Population.init['v']", "NaN"]),
    ("NaN noise", lambda: bs.WhiteNoise({"v": NAN}), ValueError, ["WhiteNoise.sigma['v']", "NaN"]),
    ("NaN width", lambda: bs.Sigmoid(NAN), ValueError, ["Sigmoid.width", "NaN"]),
    ("NaN input", lambda: simulate(inputs={"P": NAN}), ValueError, ["inputs", "P", "NaN"]),
    # of the wrong type
    ("letters", lambda: bs.LIF(tau_m="20"), TypeError, ["LIF.tau_m is '20'", "str", "Pass a float"]),
    ("a bool", lambda: bs.ExpCond(tau=True), TypeError, ["ExpCond.tau is True", "bool", "Pass a float"]),
    ("complex", lambda: net(weight=1j), TypeError, ["edge 'E'.weight is 1j", "complex", "real number"]),
    ("complex array", lambda: net(weight=np.ones(4) * 1j), TypeError, ["edge 'E'.weight", "real number"]),
    ("bool array", lambda: pop(i_e=np.ones(4, bool)), TypeError, ["Population.i_e", "real number"]),
    ("nothing", lambda: net(weight=None), TypeError, ["edge 'E'.weight is None", "real number"]),
    ("a law for a unit", lambda: node(unit=bs.LIF(tau_m=bs.Normal(20.0, 1.0))), TypeError, ["tau_m", "Normal"]),
    # ranges
    ("negative tau", lambda: bs.ExpCond(tau=-5.0), ValueError, ["ExpCond.tau is -5.0", "tau > 0"]),
    ("rise and decay", lambda: bs.DualExpCond(6.0, 5.0), ValueError, ["DualExpCond", "tau_rise <= tau_decay", "Swap"]),
    ("utilisation", lambda: bs.TsodyksMarkram(U=1.5), ValueError, ["TsodyksMarkram.U is 1.5", "0 < U <= 1"]),
    ("width", lambda: bs.Triangular(0.0), ValueError, ["Triangular.width is 0.0", "width > 0"]),
    # variables
    ("unknown initial value", lambda: node(init={"vv": 1.0}), ValueError, ["'P'", "init", "'vv'", "Did you mean 'v'"]),
    ("unknown port init", lambda: node(init={"ex.g": 1.0}), ValueError, ["'P'", "init", "'ex'", "mean 'exc'"]),
    ("missing noise", lambda: node(noise=bs.WhiteNoise({"w": 1.0})), ValueError, ["'P'", "noisy variable 'w'", "'v'"]),
    (
        "missing variable to jump",
        lambda: bs.Network({"P": bs.Population(bs.LIF(), 3, {"inp": bs.Delta("i")})}),
        ValueError,
        ["'P'", "port 'inp'", "variable 'i'", "Known: 'v'"],
    ),
    ("a weight for a variable", lambda: bs.Delta(2.0), TypeError, ["Delta.variable is 2.0", "name of a variable"]),
    # keys and gap junctions
    (
        "no key for a graph",
        lambda: bs.Network({"P": pop()}, {"E": bs.Projection("P", "P.exc", bs.FixedProbability(0.1), weight=1.0)}),
        ValueError,
        ["edge 'E'", "FixedProbability", "Network(..., key=jax.random.key(0))"],
    ),
    (
        "no key for a weight",
        lambda: bs.Network({"P": pop()}, {"E": bs.Projection("P", "P.exc", SYNAPSES, weight=bs.Normal(1.0, 0.1))}),
        ValueError,
        ["edge 'E'.weight", "Normal", "Network(..., key=jax.random.key(0))"],
    ),
    ("no key for a run", lambda: simulate(key=None), ValueError, ["simulate", "key=jax.random.key(seed)"]),
    ("a gap on events", lambda: gap(post="P.exc"), ValueError, ["edge 'G'", "P.exc", "bs.GapPort()"]),
    (
        "events on a gap",
        lambda: bs.Network(gap().nodes, {"E": bs.Projection("P", "P.gap", bs.OneToOne(), weight=1.0)}),
        ValueError,
        ["edge 'E'", "P.gap", "bs.GapJunctions"],
    ),
    ("a gap from a source", lambda: gap(pre="S"), ValueError, ["edge 'G'.pre is 'S'", "membrane potential 'v'"]),
    ("a gap to a part", lambda: gap(post="P[:2].gap", pre="P[:2]"), ValueError, ["edge 'G'.post", "whole population"]),
    ("drawn gap delays", lambda: gap(delay=bs.Uniform(0.0, 1.0)), ValueError, ["edge 'G'.delay", "one number"]),
    # runs
    ("unknown input", lambda: simulate(inputs={"R": 1.0}), ValueError, ["inputs", "node 'R'", "Known: 'P', 'Q'"]),
    ("input length", lambda: simulate(inputs={"P": np.ones(3)}), ValueError, ["inputs['P']", "(3,)", "(4,)"]),
    ("unknown solver node", lambda: simulate(solver={"PP": None}), ValueError, ["solver", "'PP'", "mean 'P'"]),
    ("unknown spikes", lambda: simulate(saveat=[bs.Spikes("p")]), ValueError, ["Spikes", "node 'p'", "Known: 'P'"]),
    ("unknown trace", lambda: simulate(saveat=[bs.Trace("P.exc.h")]), ValueError, ["Trace('P.exc.h')", "'exc.g'"]),
    ("unknown edge trace", lambda: simulate(saveat=[bs.Trace("E.u")]), ValueError, ["Trace('E.u')", "'u'"]),
]


@pytest.mark.parametrize("call, error, pieces", [pytest.param(*row[1:], id=row[0].replace(" ", "_")) for row in TABLE])
def test_bad_input_gets_a_clear_error(call, error, pieces):
    with pytest.raises(error) as caught:
        call()
    missing = [piece for piece in pieces if piece not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    assert type(caught.value) is error


def test_the_cycle_is_named_in_the_direction_of_its_edges():
    with pytest.raises(ValueError, match=r"P -> Q -> R -> P|Q -> R -> P -> Q|R -> P -> Q -> R"):
        ring(PQ=INSTANT, QR=INSTANT, RP=INSTANT)
    # any one delay, 0 too, opens it
    assert ring(PQ=INSTANT, QR=INSTANT, RP=0.0).order == ("P", "Q", "R")
    assert ring(PQ=INSTANT, QR=0.0, RP=INSTANT).order == ("R", "P", "Q")


def test_near_misses_that_are_fine():
    assert pop(np.int64(3)).size == 3
    assert net(connect=SYNAPSES, weight=[1, 2]).edges["E"].weight.dtype == jnp.zeros(()).dtype
    assert bs.Network({"P": pop(0)}, {"E": bs.Projection("P", "P.exc", bs.OneToOne(), weight=1.0)}).nodes["P"].size == 0
