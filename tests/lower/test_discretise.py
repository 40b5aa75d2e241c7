"""Rounding a network to registers: what the graph says, what is refused, words and derivatives of a refill."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import LAVA, LOIHI, NENGO_LOIHI, Image, LoweringError, canonical, discretise, tuned

from .nets import events, tables

N, N_IN, STEPS = 36, 10, 80
EXACT = 1e-12
"""Relative; a few thousand roundings of float64 at 1e-16 each."""
ROUNDING = 2e-4
"""Relative to threshold; some hundred roundings of float32 at 6e-8, where the two differ in the order of a sum."""


def network(unit=None, port=None, **how):
    rng = np.random.default_rng(0)
    unit = bs.CubaLIF(tau_syn=5.0, tau_m=20.0, t_ref=2.0) if unit is None else unit
    port = bs.Delta("i") if port is None else port
    nodes = {"x": bs.Source(process=bs.External(), size=N_IN), "P": bs.Population(unit, N, {"i": port}, **how)}
    size = 200.0 if isinstance(unit, bs.LIF) and isinstance(port, bs.ExpCurr) else 1.0
    source, target = np.nonzero(rng.random((N, N)) < 0.2)
    edges = {
        "in": bs.Projection("x", "P", bs.AllToAll(), weight=size * 10 * rng.normal(0.04, 0.06, N_IN * N)),
        "rec": bs.Projection(
            "P[:20]",
            "P",
            bs.FromCOO(source[source < 20], target[source < 20]),
            weight=size * rng.normal(0.0, 0.3, int(np.sum(source < 20))),
            delay=2.0,
        ),
    }
    return bs.Network(nodes, edges)


X = events(1, STEPS, N_IN, rate=0.15)
LIF = bs.LIF(tau_m=20.0, e_l=-60.0, v_reset=-60.0, v_th=-40.0, t_ref=2.0)


def of_graph(graph, x):
    """v and spikes of a graph by plain loops."""
    g = graph.groups["P"]
    i, v, wait = np.zeros(g.size), np.zeros(g.size), np.zeros(g.size)
    sent = {"x": x, "P": np.zeros((len(x), g.size))}
    vs = []
    for t in range(len(x)):
        i = np.asarray(g.keep_i, np.float64) * i + (np.asarray(g.drive) if t else 0.0)
        for c in graph.connections.values():
            on = t - 1 - c.delay >= 0
            np.add.at(i, c.targets[on], np.asarray(c.weight)[on] * sent[c.pre][t - 1 - c.delay[on], c.sources[on]])
        v = np.asarray(g.keep_v, np.float64) * v + np.asarray(g.gain) * i + np.asarray(g.bias)
        v = np.where(wait > 0, 0.0, v)
        s = v > np.asarray(g.v_th)
        wait = np.where(s, g.refractory - 1, np.maximum(wait - 1, 0))
        sent["P"][t], v = s, np.where(s, 0.0, v)
        vs.append(v)
    return np.array(vs), sent["P"]


@pytest.mark.parametrize("solver", [diffrax.Euler(), bs.ExponentialEuler()], ids=["Euler", "ExponentialEuler"])
@pytest.mark.parametrize("kind", ["CubaLIF", "LIF"])
def test_the_graph_is_the_network(kind, solver):
    if kind == "LIF" and isinstance(solver, bs.ExponentialEuler):
        net = network(LIF, bs.ExpCurr(tau=4.0))
    elif kind == "LIF":
        net = network(LIF, bs.ExpCurr(tau=4.0), i_e=60.0)
    else:
        net = network()
    graph = canonical(net, dt=1.0, solver=solver)
    how = dict(t1=float(STEPS), dt=1.0, solver=solver, key=jax.random.key(0), inputs={"x": X})
    sol = bs.simulate(net, saveat=[bs.Trace("P.v"), bs.Events("P")], **how)
    v, s = of_graph(graph, X)
    rest, span = (-60.0, 20.0) if kind == "LIF" else (0.0, 1.0)
    assert s.sum() > 30
    assert np.array_equal(np.asarray(sol["P.events"]), s)
    assert np.abs(np.asarray(sol["P.v"]) - rest - v).max() < ROUNDING * span


def test_more_bits_are_nearer_and_nothing_wraps():
    net, errors = network(), []
    want = of_graph(canonical(net, dt=1.0, solver=diffrax.Euler()), X)[1]
    for bits in (3, 5, 8):
        lowered = discretise(net, dt=1.0, solver=diffrax.Euler(), bits=bits)
        proved = lowered.image.tables.bounds["P"]
        assert np.all(proved.exact & proved.steady)
        text = str(lowered)
        assert f"{bits} bits" in text
        assert "never wrapped or clipped 36" in text
        errors.append(float(text.split("in: ")[1].split("error ")[1].split("%")[0]))
        if bits == 8:
            got = np.asarray(lowered.image.simulate(STEPS, inputs={"x": X}, saveat=[bs.Events("P")])["P.events"])
            assert np.abs(got.sum(0) - want.sum(0)).mean() < 0.3
    # a bit more halves the error
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.25)


def recorded(net, x):
    """Events of `net` and its input."""
    how = dict(t1=float(STEPS), dt=1.0, solver=diffrax.Euler(), key=jax.random.key(0))
    run = jax.vmap(lambda x: bs.simulate(net, inputs={"x": x}, saveat=[bs.Events("P")], **how)["P.events"])
    return {"P": np.asarray(run(jnp.asarray(x))), "x": x}


def test_factors_are_chosen_by_what_comes_out():
    net = network()
    net = eqx.tree_at(lambda net: net.edges["rec"].weight, net, 0.0 * net.edges["rec"].weight)  # each cell by itself
    seen = recorded(net, np.stack([events(k, STEPS, N_IN, rate=0.15) for k in range(6)]))
    how, factors = dict(dt=1.0, solver=diffrax.Euler(), bits=3), (1.0, 1.25)

    def errors(lowered):
        run = lambda x: lowered.image.simulate(STEPS, inputs={"x": x}, saveat=[bs.Events("P")])["P.events"]  # noqa: E731
        return np.abs(np.asarray(jax.vmap(run)(jnp.asarray(seen["x"]))).sum(1) - seen["P"].sum(1)).mean(0)

    lowered = tuned(net, seen, factors=factors, **how)
    each = [errors(discretise(net, factor=factor, **how)) for factor in factors]
    assert errors(lowered).tolist() == np.min(each, axis=0).tolist()
    assert np.min(each, axis=0).mean() < min(np.mean(each, axis=1))
    with pytest.raises(ValueError, match="events: group or input 'x' does not exist"):
        tuned(net, {"P": seen["P"]}, **how)


def test_a_constant_current_arrives_over_an_axon():
    """It acts through the synapse, as in the network, to 64 units of u; or at its steady state, from the register."""
    drive = np.random.default_rng(2).uniform(-0.2, 2.5, N)
    net = network(bs.CubaLIF(tau_syn=5.0, tau_m=20.0), i_e=drive)
    graph = canonical(net, dt=1.0, solver=diffrax.Euler())
    want = of_graph(graph, 0 * X)
    first = 8  # steps, before the first spike
    assert want[1][:first].sum() == 0
    assert want[1].sum() > 30
    errors = {}
    for synapses in (0, 1, 2):
        lowered = discretise(net, dt=1.0, solver=diffrax.Euler(), bias_synapses=synapses)
        sol = lowered.image.simulate(STEPS, inputs={"x": 0 * X}, saveat=[bs.Trace("P.v"), bs.Events("P")])
        v = np.asarray(sol["P.v"])[:first] / lowered.scales.volt["P"]
        errors[synapses] = np.abs(v - want[0][:first]).max()
        assert ("constant" in lowered.image.tables.cells) == (synapses > 0)
        assert np.all(lowered.image.tables.bounds["P"].steady)
        assert (
            lowered.refill(net).tables.cells["P"].threshold.tolist()
            == lowered.image.tables.cells["P"].threshold.tolist()
        )
    assert errors[2] <= errors[1] < 0.01  # half of 64 units in every step, of some 10,000 units to threshold
    assert errors[0] > 0.05  # the current rises at once


@pytest.mark.core
@pytest.mark.optimised
def test_a_refill_has_the_same_bits_inside_a_gradient():
    net = network()
    lowered = discretise(net, dt=1.0, solver=diffrax.Euler(), dialect=NENGO_LOIHI)
    net = eqx.tree_at(lambda n: n.edges["rec"].weight, net, net.edges["rec"].weight * 1.01)
    keys = ("P.u", "P.v", "P.events")
    saveat = [bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")]

    def loss(net):
        sol = lowered.refill(net).simulate(STEPS, inputs={"x": X}, saveat=saveat)
        return jnp.sum(sol["P.events"]), [sol[k] for k in keys]

    (_, inside), slope = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))(net)
    outside = lowered.refill(net).simulate(STEPS, inputs={"x": X}, saveat=saveat)
    assert sum(int(np.sum(np.asarray(a) != np.asarray(outside[k]))) for a, k in zip(inside, keys, strict=True)) == 0
    assert np.asarray(outside["P.events"]).sum() > 30
    unit = slope.nodes["P"].unit
    for x in (slope.edges["rec"].weight, slope.edges["in"].weight, unit.tau_m, unit.tau_syn, unit.v_th):
        assert np.any(np.asarray(x) != 0)
        assert np.all(np.isfinite(np.asarray(x)))


def test_the_derivative_is_that_of_the_relaxation(x64):
    """By hand, backward along the integer trajectory: u' = k_u u / 4096 + q, v' = k_v v / 4096 + u' + b, v' (1 - s)."""
    given = tables(2, NENGO_LOIHI, n=36, n_in=8)
    image, x = Image.of(NENGO_LOIHI, *given), events(3, STEPS, 8)
    wanted = np.random.default_rng(5).normal(size=(STEPS, 36))
    p, rec = given[0]["P"], given[1]["rec"]
    order = np.lexsort((rec.targets, rec.sources))
    source, target, delay = rec.sources[order], rec.targets[order], rec.delay[order]

    where = lambda i: (i.net.nodes["P"].unit, i.net.edges["rec"].weight)  # noqa: E731

    def loss(fields):
        sol = eqx.tree_at(where, image, fields).simulate(
            STEPS, inputs={"x": x}, saveat=[bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")]
        )
        return jnp.sum(sol["P.events"] * wanted), (sol["P.u"], sol["P.v"], sol["P.events"])

    (_, states), (unit, weight) = eqx.filter_value_and_grad(loss, has_aux=True)(where(image))
    u, v, s = (np.asarray(a) for a in states)
    assert s.sum() > 50
    keep_u, keep_v = (4095 - p.decay_u) / 4096, (4096 - p.decay_v) / 4096
    th, width = 64.0 * p.threshold, np.maximum(64.0 * p.threshold, 64)
    before = np.concatenate([np.zeros((1, 36)), v[:-1]])
    full = np.trunc(before * keep_v) + u + p.bias
    last, silent = np.full(36, -100), np.zeros((STEPS, 36), bool)
    for t in range(STEPS):
        silent[t] = t < last + p.refractory
        last = np.where(s[t] > 0, t, last)
    inside = (full > p.v_min) & (full < p.v_max) & ~silent
    full = np.where(silent, 0.0, np.clip(full, p.v_min, p.v_max))
    slope = np.where(silent, 0.0, np.maximum(0, 1 - np.abs(full - th) / width) / width)
    words = np.asarray(image.net.edges["rec"].weight)
    du, dv, ds = np.zeros(36), np.zeros(36), wanted.copy()
    got = {k: np.zeros(36) for k in ("keep_u", "keep_v", "v_th", "bias")} | {"weight": np.zeros(words.size)}
    for t in reversed(range(STEPS)):
        spike = ds[t] - full[t] * dv
        got["v_th"] -= slope[t] * spike
        dfull = np.where(inside[t], dv * (1 - s[t]) + slope[t] * spike, 0.0)
        got["keep_v"] += before[t] * dfull / 4096
        got["bias"] += dfull
        du = du + dfull
        got["keep_u"] += (u[t - 1] if t else 0.0) * du / 4096
        on = t - 1 - delay >= 0
        sent = s[np.maximum(t - 1 - delay, 0), source] * on
        got["weight"] += sent * du[target]
        np.add.at(ds, (np.maximum(t - 1 - delay, 0), source), on * words * du[target])
        du, dv = du * keep_u, dfull * keep_v
    for name, mine in got.items():
        theirs = np.asarray(weight if name == "weight" else getattr(unit, name))
        assert np.abs(theirs - mine).max() <= EXACT * np.abs(mine).max(), name
        assert np.any(mine != 0), name


def test_quantisation_aware_training_by_fit():
    import optax

    net = network()
    lowered = discretise(net, dt=1.0, solver=diffrax.Euler(), bits=4)

    def loss(net):
        sol = lowered.refill(net).simulate(STEPS, inputs={"x": X}, saveat=[bs.Events("P")])
        return (jnp.mean(sol["P.events"]) - 0.15) ** 2

    fitted = bs.train.fit(net, loss, {"in.weight": bs.train.Identity()}, method=optax.adam(0.02), steps=15)
    assert fitted.loss < 0.3 * float(loss(net))
    image = lowered.refill(fitted.net)  # on the grid of 4 bits, and proved anew
    assert set(np.unique(image.tables.synapses["in"].mantissa % 32)) == {0}
    assert np.all(image.tables.bounds["P"].exact)


def test_edges_within_a_step_become_a_lag():
    """Two layers and a shortcut: the chip gives the spikes of the network, each layer some steps later."""
    rng, solver = np.random.default_rng(4), diffrax.Euler()
    unit = bs.CubaLIF(tau_syn=4.0, tau_m=10.0)
    layer = lambda i_e: bs.Population(unit, N, {"i": bs.Delta("i")}, i_e=i_e)  # noqa: E731
    nodes = {"x": bs.Source(process=bs.External(), size=N_IN), "P": layer(rng.uniform(0, 1.5, N)), "Q": layer(0.0)}
    edge = lambda pre, post, n, delay: bs.Projection(  # noqa: E731
        pre, post, bs.AllToAll(), weight=rng.normal(0.3, 0.4, n), delay=delay
    )
    edges = {"a": edge("x", "P", N_IN * N, bs.INSTANT), "b": edge("P", "Q", N * N, bs.INSTANT)}
    edges |= {"c": edge("x", "Q", N_IN * N, 1.0), "d": edge("P", "P", N * N, 0.0)}
    net = bs.Network(nodes, edges)
    lowered = discretise(net, dt=1.0, solver=solver)
    assert lowered.graph.lags == {"P": 1, "Q": 2, "x": 0, "constant": 0}
    assert {k: int(c.delay[0]) for k, c in lowered.graph.connections.items()} == {
        "a": 0,
        "b": 0,
        "c": 3,
        "d": 0,
        "constant_P": 1,
        "constant_P_fine": 1,
    }
    x = np.concatenate([X[:20], np.zeros((2, N_IN))])
    saveat = [bs.Trace("P.v"), bs.Trace("Q.v")]
    sol = bs.simulate(net, t1=22.0, dt=1.0, solver=solver, key=jax.random.key(0), inputs={"x": x}, saveat=saveat)
    got = lowered.image.simulate(22, inputs={"x": x}, saveat=saveat)
    for name, lag, steps in (("P", 1, 5), ("Q", 2, 5)):  # before rounding has moved a spike
        v = np.asarray(got[f"{name}.v"])[lag : lag + steps]
        want = np.asarray(sol[f"{name}.v"])[:steps]
        v = np.where(v == 128, 0.0, v) / lowered.scales.volt[name]
        assert np.abs(v - want).max() < 0.05
        assert np.abs(want).max() > 0.5


def _edge(**how):
    nodes = {"P": bs.Population(bs.CubaLIF(), 2, {"i": bs.Delta("i")})}
    return bs.Network(nodes | how.pop("nodes", {}), {"e": bs.Projection("P", "P.i", bs.AllToAll(), weight=1.0, **how)})


LAYERS = {"Q": bs.Population(bs.CubaLIF(), 2, {"i": bs.Delta("i")})}
INSTANT = bs.Network(  # a loop of two edges that takes one step
    _edge().nodes | LAYERS,
    {
        "e": bs.Projection("P", "Q.i", bs.AllToAll(), weight=1.0, delay=bs.INSTANT),
        "back": bs.Projection("Q", "P.i", bs.AllToAll(), weight=1.0),
    },
)
REFUSED = {
    "GRAPH-UNIT": [network(unit=bs.AdEx(), port=bs.ExpCurr()), network(unit=bs.Izhikevich(), port=bs.ExpCurr())],
    "GRAPH-PORT": [network(port=bs.Delta()), network(port=bs.ExpCurr()), network(unit=LIF, port=bs.AlphaCurr())],
    "GRAPH-NOISE": [network(noise=bs.WhiteNoise({"v": 0.1}))],
    "GRAPH-INIT": [network(init={"v": 0.1})],
    "GRAPH-RESET": [
        network(unit=bs.CubaLIF(reset_by_subtraction=True)),
        network(unit=bs.CubaLIF(v_reset=-1.0)),
        network(unit=bs.LIF(v_reset=-55.0), port=bs.ExpCurr()),
    ],
    "GRAPH-INSTANT": [INSTANT],
    "GRAPH-SHORT-TERM": [_edge(short_term=bs.TsodyksMarkram())],
    "GRAPH-DELAY": [_edge(delay=bs.LinearDelay(2.0), max_delay=5.0)],
}


@pytest.mark.parametrize("rule, net", [(rule, net) for rule, nets in REFUSED.items() for net in nets])
def test_what_a_chip_lacks_is_refused_with_its_rule(rule, net):
    with pytest.raises(LoweringError, match=rf"\[{rule}\]") as e:
        discretise(net, dt=1.0)
    assert e.value.rule == rule
    assert e.value.where in (*net.nodes, *net.edges)


def test_more_refusals():
    net = network(i_e=0.3)
    for rule, how in {
        "GRAPH-SOLVER": dict(solver=diffrax.Heun()),
        "DISC-BITS": dict(bits=9),
        "DISC-BIAS": dict(dialect=bs.lower.BRIAN2_LOIHI),
        "DISC-REFRACTORY": dict(dialect=LAVA),
        "DISC-RANGE": dict(factor=1e-9),
    }.items():
        with pytest.raises(LoweringError, match=rf"\[{rule}\]"):
            discretise(net, dt=1.0, **how)
    with pytest.raises(LoweringError, match=r"\[DISC-DELAY\] e: a delay of 63 steps of 1 ms"):
        discretise(_edge(delay=63.0), dt=1.0)
    for dialect, low in ((LAVA, 0), (LOIHI, -1)):  # Lava would shift sums, a chip's rounding is not known
        exponents = discretise(network(bs.LIF(), bs.ExpCurr()), dt=1.0, dialect=dialect).scales.exponent
        assert all(e >= low for e in exponents.values())
