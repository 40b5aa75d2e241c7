"""What is refused, and by which rule: 40 inputs; and what is legal: random graphs, from network to memory and back."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import (
    BRIAN2_LOIHI,
    LAVA,
    LOIHI,
    LOIHI1,
    LOIHI2,
    Cells,
    Image,
    LoweringError,
    Synapses,
    decode,
    discretise,
    float_image,
    legalise,
    pack,
    used,
)

from .nets import tables

CUBA, LIF = bs.CubaLIF(), bs.LIF(tau_m=20.0, e_l=-60.0, v_reset=-60.0, v_th=-40.0, t_ref=0.0)


def net(unit=CUBA, ports=None, delay=0.0, weight=1.0, connect=None, n=4, edge=None, **how):
    """One population driven by itself."""
    ports = {"i": bs.Delta("i")} if ports is None else ports
    nodes = {"P": bs.Population(unit, n, ports, **how)}
    edge = {} if edge is None else edge
    port = next(iter(ports), None)
    if port is None:
        return bs.Network(nodes, {})
    connect = bs.AllToAll() if connect is None else connect
    return bs.Network(nodes, {"e": bs.Projection("P", f"P.{port}", connect, weight=weight, delay=delay, **edge)})


def loop():
    nodes = {k: bs.Population(CUBA, 2, {"i": bs.Delta("i")}) for k in "PQ"}
    there = bs.Projection("P", "Q", bs.AllToAll(), weight=1.0, delay=bs.INSTANT)
    return bs.Network(nodes, {"e": there, "back": bs.Projection("Q", "P", bs.AllToAll(), weight=1.0)})


def lower(*args, **how):
    return lambda: discretise(net(*args, **how.pop("net", {})), **({"dt": 1.0} | how))


def fit(cells, synapses=None, inputs=None, target=LOIHI1):
    return lambda: legalise(Image.of(LOIHI, cells, synapses or {}, inputs or {}).tables, target)


def fan_in(n, **how):
    return {"in": Synapses("x", "P", np.arange(n), np.zeros(n, int), np.full(n, 2), **how)}


CURRENT = {"i": bs.ExpCurr()}
ILLEGAL = [
    ("GRAPH-UNIT", lower(bs.AdEx(), net={"ports": CURRENT})),
    ("GRAPH-UNIT", lower(bs.Izhikevich(), net={"ports": CURRENT})),
    ("GRAPH-UNIT", lower(bs.TraubMiles(), net={"ports": CURRENT})),
    ("GRAPH-UNIT", lower(bs.ExponentialIF(), net={"ports": CURRENT})),
    ("GRAPH-UNIT", lower(bs.LeakyIntegrator(), net={"ports": CURRENT})),
    ("GRAPH-PORT", lower(CUBA, net={"ports": {"i": bs.ExpCurr()}})),
    ("GRAPH-PORT", lower(CUBA, net={"ports": {"i": bs.Delta()}})),
    ("GRAPH-PORT", lower(CUBA, net={"ports": {"i": bs.Delta("i"), "j": bs.Delta("i")}})),
    ("GRAPH-PORT", lower(LIF, net={"ports": {"i": bs.AlphaCurr()}})),
    ("GRAPH-PORT", lower(LIF, net={"ports": {"i": bs.ExpCond()}})),
    ("GRAPH-PORT", lower(LIF, net={"ports": {"i": bs.Delta()}})),
    ("GRAPH-NOISE", lower(CUBA, net={"noise": bs.WhiteNoise({"v": 0.1})})),
    ("GRAPH-NOISE", lower(LIF, net={"ports": CURRENT, "noise": bs.WhiteNoise({"v": 0.1})})),
    ("GRAPH-INIT", lower(CUBA, net={"init": {"v": 0.1}})),
    ("GRAPH-INIT", lower(CUBA, net={"init": {"i": 0.1}})),
    ("GRAPH-RESET", lower(bs.CubaLIF(reset_by_subtraction=True))),
    ("GRAPH-RESET", lower(bs.CubaLIF(v_reset=-1.0))),
    ("GRAPH-RESET", lower(bs.CubaLIF(v_reset=jnp.array([0.0, 0.0, -1.0, 0.0])))),
    ("GRAPH-RESET", lower(bs.LIF(e_l=-60.0, v_reset=-55.0, v_th=-40.0), net={"ports": CURRENT})),
    ("GRAPH-SOLVER", lower(CUBA, solver=diffrax.Heun())),
    ("GRAPH-SOLVER", lower(CUBA, solver=diffrax.Tsit5())),
    ("GRAPH-INSTANT", lambda: discretise(loop(), dt=1.0)),
    ("GRAPH-SHORT-TERM", lower(CUBA, net={"edge": {"short_term": bs.TsodyksMarkram()}})),
    ("GRAPH-DELAY", lower(CUBA, net={"delay": bs.LinearDelay(2.0), "edge": {"max_delay": 5.0}})),
    ("DISC-BITS", lower(CUBA, bits=9)),
    ("DISC-BITS", lower(CUBA, bits=1)),
    ("DISC-BITS", lower(CUBA, bits={"e": 0})),
    ("DISC-BIAS", lower(CUBA, net={"i_e": 0.3}, dialect=BRIAN2_LOIHI)),
    ("DISC-BIAS", lower(CUBA, net={"i_e": 0.3}, bias_synapses=3)),
    ("DISC-BIAS", lower(LIF, net={"ports": CURRENT, "i_e": 30.0}, dialect=BRIAN2_LOIHI)),
    ("DISC-REFRACTORY", lower(bs.CubaLIF(t_ref=2.0), dialect=LAVA)),
    ("DISC-DELAY", lower(CUBA, net={"delay": 63.0})),
    ("DISC-DELAY", lower(CUBA, net={"delay": np.array([1.0, 70.0, 1.0, 1.0])})),
    ("DISC-RANGE", lower(CUBA, factor=1e-9)),
    ("DISC-RANGE", lower(CUBA, net={"weight": 1e9})),
    ("S2-REFRACTORY", lambda: float_image(net(bs.CubaLIF(t_ref=2.0)), dt=1.0)),
    ("L1-IN", fit({"P": Cells(1, threshold=10)}, fan_in(4097), {"x": 4097})),
    (
        "L1-SYN",
        fit(
            {"P": Cells(1, threshold=10)}, {k: s for k, s in zip("abcdefgh", [*fan_in(4000).values()] * 8)}, {"x": 4000}
        ),
    ),
    ("L1-FMT", fit({"P": Cells(1, threshold=10)}, {f"e{k}": fan_in(1)["in"] for k in range(9)}, {"x": 1})),
    ("L1-CORES", fit({"P": Cells(128 * 1024 + 1, threshold=10)})),
    ("L1-CORES", fit({"P": Cells(1200, threshold=np.arange(1200))})),
    ("L2-MEM", fit({"P": Cells(1, threshold=10)}, fan_in(25_000), {"x": 25_000}, LOIHI2)),
]


@pytest.mark.parametrize("rule, build", ILLEGAL, ids=[f"{k}-{rule}" for k, (rule, _) in enumerate(ILLEGAL)])
def test_what_is_illegal_is_refused_by_its_rule(rule, build):
    with pytest.raises(LoweringError, match=rf"\[{rule}\]") as e:
        build()
    assert e.value.rule == rule
    assert e.value.where


def test_there_are_forty():
    assert len(ILLEGAL) >= 40


def random_network(seed):
    """Layers of random units, sizes, constant currents, delays and connections."""
    rng = np.random.default_rng(seed)
    nodes = {"x": bs.Source(bs.External(), int(rng.choice([1, 12])))}
    names = ["P", "Q", "R"][: rng.integers(1, 4)]
    for name in names:
        n, tau = int(rng.choice([1, 6, 36])), rng.uniform(2.0, 30.0, 2)  # few shapes: each compiles
        current = rng.choice([0.0, 0.4])
        if rng.random() < 0.5:
            unit, port = bs.CubaLIF(tau_syn=tau[0], tau_m=tau[1], t_ref=float(rng.integers(0, 4))), bs.Delta("i")
        else:
            unit, port = bs.LIF(tau_m=tau[1], e_l=-60.0, v_reset=-60.0, v_th=-45.0), bs.ExpCurr(tau=tau[0])
        nodes[name] = bs.Population(unit, n, {"i": port}, i_e=current)
    edges = {}
    for k in range(int(rng.integers(1, 6))):
        pre, post = str(rng.choice(["x", *names])), str(rng.choice(names))
        sizes = nodes[pre].size, nodes[post].size
        some = np.sort(rng.permutation(sizes[0] * sizes[1])[: (sizes[0] * sizes[1] + 1) // 2])
        source, target = np.unravel_index(some, sizes)
        size = 100.0 if isinstance(nodes[post].unit, bs.LIF) else 1.0
        weight = size * rng.normal(0.05, 0.2, source.size)
        delay = rng.integers(0, 6, source.size).astype(float) if rng.random() < 0.5 else float(rng.integers(0, 60))
        edges[f"e{k}"] = bs.Projection(pre, post, bs.FromCOO(source, target), weight=weight, delay=delay)
    return bs.Network(nodes, edges)


def check(image):
    """Limits as counted in the bits, and every synapse and register once."""
    packed = pack(image, legalise(image.tables))
    for rule, own in used(packed).items():
        assert own.max(initial=0) <= LOIHI1.limits[rule].value
    again = decode(packed).tables
    for name, c in image.tables.cells.items():
        for field in ("threshold", "decay_u", "decay_v", "bias", "refractory"):
            assert np.array_equal(getattr(c, field), getattr(again.cells[name], field))
    for name, s in image.tables.synapses.items():
        rows = [np.stack([t.sources, t.targets, t.mantissa, t.delay]) for t in (s, again.synapses[name])]
        assert np.array_equal(*(r[:, np.lexsort(r)] for r in rows))


def test_random_networks_are_accepted():
    for seed in range(2):
        lowered = discretise(random_network(seed), dt=1.0, bits=int(np.random.default_rng(seed).integers(2, 9)))
        check(lowered.image)


@pytest.mark.slow
def test_a_thousand_random_graphs_are_accepted():
    """200 networks through every stage, 800 tables of registers through the last ones."""
    for seed in range(200):
        check(discretise(random_network(seed), dt=1.0, bits=int(np.random.default_rng(seed).integers(2, 9))).image)
    for seed in range(800):
        n = int(np.random.default_rng(seed).integers(1, 120))
        cells, synapses, inputs = tables(seed, LOIHI, n=n)
        cells["P"] = Cells(n, **{k: getattr(cells["P"], k) for k in ("threshold", "decay_u", "decay_v", "bias")})
        check(Image.of(LOIHI, cells, synapses, inputs))
