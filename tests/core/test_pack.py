"""`pack`: the same network in few nodes and edges, under the names it had."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

from .parts import replay, tally

KEY = jax.random.key(1)
RTOL = 1e-4  # float32, gradients of one run summed in another order

NAMES = ["E0", "E1", "E2", "I0"]
SIZES = {name: 32 + k for k, name in enumerate(NAMES)}


def receptors(**exc):
    return {"exc": bs.ExpCond(**{"tau": 5.0, **exc}), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}


def cells(k, name, **changes):
    given = {"i_e": 200.0 + 4.0 * k, "init": {"v": bs.Normal(-55.0, 5.0 + k)}} | changes
    return bs.Population(bs.LIF(t_ref=2.0, tau_m=18.0 + k), SIZES[name], receptors(), **given)


def edge(pre, post, k, **changes):
    """Weights of multiples of 1/8: sums of arrivals are exact in any order."""
    weight = {0: 6.0, 1: jnp.asarray(np.arange(SIZES[pre] * SIZES[post]).reshape(SIZES[pre], -1) % 9 + 2) / 32}
    rule, w = (bs.FixedProbability(0.1), weight[0]) if k % 2 == 0 else (bs.AllToAll(), weight[1])
    w = w if pre[0] == "E" else w * 8.0
    port = "exc" if pre[0] == "E" else "inh"
    return bs.Projection(pre, f"{post}.{port}", rule, **({"weight": w, "delay": 0.5 * (k % 3)} | changes))


def network(**changes):
    nodes = {name: cells(k, name) for k, name in enumerate(NAMES)}
    pairs = [(pre, post) for pre in NAMES for post in NAMES]
    edges = {f"{pre}{post}": edge(pre, post, k) for k, (pre, post) in enumerate(pairs)}
    nodes |= changes.get("nodes", {})
    edges |= changes.get("edges", {})
    return bs.Network(nodes, edges, key=jax.random.key(0))


def saveat(names=NAMES):
    return [r for name in names for r in (bs.Spikes(name, 1e4), bs.Events(name), bs.Rate(name), bs.Trace(f"{name}.v"))]


def same_spikes(a, b, names=NAMES):
    assert sum(a.spikes(name).t.size for name in names) > 20
    for name in names:
        np.testing.assert_array_equal(a.spikes(name).t, b.spikes(name).t, err_msg=name)
        np.testing.assert_array_equal(a.spikes(name).i, b.spikes(name).i, err_msg=name)


@pytest.fixture(scope="module")
def both():
    net = network()
    return net, bs.pack(net)


@pytest.fixture(scope="module")
def runs(both):
    record = [*saveat(), bs.Trace("I0.exc.g", units=slice(2, 5)), bs.Trace("E2.refractory", units=(0, 3), every=10)]
    return [bs.simulate(net, t1=150.0, key=KEY, saveat=record) for net in both]


@pytest.mark.optimised
@pytest.mark.core
def test_packed_spikes_are_those_of_the_unpacked_network_bit_for_bit(runs):
    unpacked, packed = runs
    same_spikes(unpacked, packed)
    assert unpacked.recordings.keys() == packed.recordings.keys()
    for key, x in unpacked.recordings.items():
        if not key.endswith(".spikes"):
            np.testing.assert_array_equal(x, packed[key], err_msg=key)


def test_populations_and_edges_of_one_kind_become_one(both):
    _, packed = both
    assert list(packed.nodes) == ["LIF"]
    assert list(packed.edges) == ["LIF_LIF_exc", "LIF_LIF_inh"]
    assert packed.unit_range("E1") == ("LIF", slice(32, 65))
    tau_m = packed.nodes["LIF"].unit.tau_m
    np.testing.assert_array_equal(tau_m, np.repeat(18.0 + np.arange(4), list(SIZES.values())))
    assert packed.nodes["LIF"].unit.e_l.shape == ()  # equal everywhere: still one number


@pytest.mark.core
def test_the_state_of_a_packed_network_begins_as_that_of_its_members(both):
    net, packed = both
    a, b = (bs.initial_state(x, dt=0.1, key=KEY) for x in (net, packed))
    joined = np.concatenate([a.nodes[name].y["unit"]["v"] for name in NAMES])
    np.testing.assert_array_equal(joined, b.nodes["LIF"].y["unit"]["v"])


def test_rates_counts_sizes_and_flags_go_by_the_old_names(runs, both):
    unpacked, packed = runs
    for what in ("rate_hz", "n_events"):
        assert packed.stats[what] == unpacked.stats[what]
    assert packed.flags.keys() - both[1].edges.keys() == unpacked.flags.keys() - both[0].edges.keys()
    assert packed.sizes == unpacked.sizes | {"LIF": sum(SIZES.values())}


@pytest.mark.optimised
def test_the_whole_can_be_recorded_too(both):
    sol = bs.simulate(both[1], t1=20.0, key=KEY, saveat=[bs.Events("LIF"), bs.Events("E2")])
    np.testing.assert_array_equal(sol["LIF.events"][:, 65:99], sol["E2.events"])


def test_a_list_without_room_is_named_and_keeps_the_first_spikes(both):
    record = [bs.Spikes(name, 1e4) for name in NAMES[1:]]
    found = []
    for net in both:
        sol = bs.simulate(net, t1=150.0, key=KEY, throw=False, saveat=[bs.Spikes("E0", 1e-9), *record])
        found.append(sol["E0.spikes"])
        with pytest.raises(bs.SimulationError, match=r"Spikes\('E0'\) overflowed"):
            bs.simulate(net, t1=150.0, key=KEY, saveat=[bs.Spikes("E0", 1e-9), *record], inputs={"E0": 1000.0})
    np.testing.assert_array_equal(found[0].ids, found[1].ids)
    np.testing.assert_array_equal(found[0].counts, found[1].counts)


@pytest.mark.optimised
@pytest.mark.core
def test_inputs_go_by_the_old_names(both):
    rows = 3.0 * np.sin(np.arange(500))[:, None] * np.arange(SIZES["E2"])[None]
    inputs = {"E0": 50.0, "E1": np.linspace(0.0, 90.0, 33), "E2": rows, "I0": bs.OUCurrent(10.0, 40.0, 5.0)}
    same_spikes(*(bs.simulate(net, t1=50.0, key=KEY, inputs=inputs, saveat=saveat()) for net in both))


@pytest.mark.optimised
def test_steps_give_events_by_the_old_names(both):
    found = []
    for net in both:
        state = bs.initial_state(net, dt=0.1, key=KEY)
        events = []
        for _ in range(30):
            state, now = bs.step(net, state, {"E0": 500.0})
            events.append(np.concatenate([now[name].value for name in NAMES]))
        found.append(np.stack(events))
    assert found[0].sum() > 0
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "record", [bs.Spikes("E7"), bs.Events("E7"), bs.Rate("E7"), bs.Trace("E7.v")], ids=lambda r: type(r).__name__
)
def test_a_wrong_name_is_answered_with_near_ones(both, record):
    with pytest.raises(ValueError, match=r"'E7' does not exist. Did you mean .*'E[012]'"):
        bs.simulate(both[1], t1=1.0, key=KEY, saveat=[record])


def test_wrong_inputs_solvers_ranges_and_keeps_are_named(both):
    net, packed = both
    with pytest.raises(ValueError, match=r"inputs: node 'E7' does not exist. Did you mean"):
        bs.simulate(packed, t1=1.0, key=KEY, inputs={"E7": 1.0})
    with pytest.raises(ValueError, match=r"inputs\['E1'\] has shape \(3,\); expected one of \[\(\), \(33,\)"):
        bs.simulate(packed, t1=1.0, key=KEY, inputs={"E1": np.ones(3)})
    with pytest.raises(ValueError, match=r"packed into one, 'LIF', but their solvers differ"):
        bs.simulate(packed, t1=1.0, key=KEY, solver={"E1": bs.Substep(bs.ExponentialEuler(), 2)})
    with pytest.raises(ValueError, match=r"Trace\('E1.v'\).units contains 33; 'E1' has 33 values"):
        bs.simulate(packed, t1=1.0, key=KEY, saveat=[bs.Trace("E1.v", units=(33,))])
    with pytest.raises(ValueError, match="unit_range: node 'E7' does not exist"):
        packed.unit_range("E7")
    with pytest.raises(ValueError, match="keep: node 'E7' does not exist"):
        bs.pack(net, keep=["E7"])
    with pytest.raises(ValueError, match="packed already"):
        bs.pack(packed)


@pytest.mark.optimised
def test_one_solver_for_all_members_is_that_of_the_whole(both):
    fine = bs.Substep(bs.ExponentialEuler(), 2)
    kw = dict(t1=30.0, key=KEY, solver=dict.fromkeys(NAMES, fine), saveat=saveat())
    a, b = (bs.simulate(net, **kw) for net in both)
    np.testing.assert_array_equal(a["E1.v"], b["E1.v"])


class Own(bs.AbstractEdge, bs.AbstractScheduledEdge):
    """An edge of a kind that brainsim does not know."""

    node: str = eqx.field(static=True)

    @property
    def reads(self):
        return {}

    @property
    def writes(self):
        return self.node, "exc"

    @property
    def instant(self):
        return False

    def schedule(self, where, dt):
        return self

    def depth(self, dt):
        return 1

    def init(self, clock):
        return {}

    def send(self, z, views, clock):
        return z, []


@pytest.mark.optimised
def test_what_cannot_be_merged_stays():
    others = {
        "A0": bs.Population(bs.AdEx(), 8, receptors()),  # another unit
        "B0": bs.Population(bs.LIF(), 8, {"exc": bs.ExpCurr(), "inh": bs.ExpCond()}),  # another receptor
        "C0": bs.Population(bs.LIF(), 8, receptors(), surrogate=bs.SuperSpike()),  # another surrogate
        "D0": bs.Population(bs.LIF(), 8, receptors(), noise=bs.WhiteNoise({"v": 0.1})),  # noise
        "F0": bs.Population(bs.LIF(), 8, receptors(), detach_reset=True),
        "G0": bs.Population(bs.LIF(), 8, receptors()),  # of an unknown edge
        "H0": bs.Population(bs.LIF(), 8, receptors()),  # within the step of E0
        "K0": bs.Population(bs.LIF(), 8, receptors()),  # reached by a delay that is learnt
        "L0": bs.Population(bs.LIF(), 8, receptors()),  # reached by rows that are drawn
        "J0": bs.Population(bs.VoltageClamp(bs.LIF(), bs.Sine(1.0, 10.0)), 8, receptors()),
        "J1": bs.Population(bs.VoltageClamp(bs.LIF(), bs.Sine(2.0, 10.0)), 8, receptors()),
        "S0": replay([(1, 1), (9, 2)], 4),
        "S1": replay([(3, 1)], 4),
    }
    edges = {
        "own": Own("G0"),
        "learnt": bs.Projection("K0", "K0.exc", bs.OneToOne(), weight=1.0, delay=bs.LinearDelay(0.55), max_delay=2.0),
        "drawn": bs.Projection("L0", "L0.exc", bs.Procedural(bs.FixedProbability(0.3)), weight=1.0),
        "within": bs.Projection("E0[:8]", "H0.exc", bs.OneToOne(), weight=1.0, delay=bs.INSTANT),
        "S0B0": bs.Projection("S0", "B0.exc", bs.AllToAll(), weight=40.0),
        "S0E1": bs.Projection("S0", "E1.exc", bs.AllToAll(), weight=20.0),
    }
    net = network(nodes=others, edges=edges)
    packed = bs.pack(net, keep=["I0"])
    assert set(packed.nodes) == {"LIF", "I0", *others}
    assert set(packed.members["LIF"]) == set(NAMES) - {"I0"}
    assert packed.edges["S0B0"] is net.edges["S0B0"]  # between nodes that stay: as it was
    names = [*NAMES, "B0", "H0"]
    same_spikes(*(bs.simulate(x, t1=60.0, key=KEY, saveat=saveat(names)) for x in (net, packed)), names)


def test_populations_joined_within_the_step_stay_apart_and_levels_are_merged():
    unit = bs.Population(bs.LIF(), 3, receptors(), i_e=0.0)
    chain = {f"{a}{b}": (a, b) for a, b in [("A0", "B0"), ("A1", "B1"), ("B0", "C0"), ("B1", "C1")]}
    edges = {
        name: bs.Projection(a, f"{b}.exc", bs.OneToOne(), weight=500.0, delay=bs.INSTANT)
        for name, (a, b) in chain.items()
    }
    net = bs.Network({f"{level}{k}": unit for level in "ABC" for k in range(2)}, edges)
    packed = bs.pack(net)
    assert [packed.members[name] for name in packed.order] == [["A0", "A1"], ["B0", "B1"], ["C0", "C1"]]
    names = list(net.nodes)
    inputs = {"A0": np.linspace(300.0, 900.0, 3), "A1": 500.0}
    same_spikes(*(bs.simulate(x, t1=40.0, key=KEY, inputs=inputs, saveat=saveat(names)) for x in (net, packed)), names)


def test_views_dense_and_gap_edges_move_with_their_units():
    gap = {"exc": bs.ExpCond(), "gap": bs.GapPort()}
    names = [f"P{k}" for k in range(3)]
    nodes = {
        name: bs.Population(bs.LIF(t_ref=2.0), 4 + k, gap, i_e=150.0 + 25.0 * k, init={"v": bs.Uniform(-60.0, -50.0)})
        for k, name in enumerate(names)
    }
    weight = jnp.arange(6.0).reshape(2, 3) / 8
    edges = {
        "view": bs.Projection("P0[1::2]", "P2[:5:2].exc", bs.AllToAll(), weight=8.0 * weight),
        "dense": bs.Projection("P1[2:4]", "P1[1:4].exc", bs.Dense(2, 3), weight=8.0 * weight, delay=1.0),
        "gap0": bs.GapJunctions("P0", "P1.gap", bs.AllToAll(), weight=0.125),
        "gap1": bs.GapJunctions("P1", "P0.gap", bs.Dense(5, 4), weight=0.125),
        "gap2": bs.GapJunctions("P1", "P2.gap", bs.AllToAll(), weight=0.5, delay=0.3),
    }
    net = bs.Network(nodes, edges)
    packed = bs.pack(net)
    assert list(packed.nodes) == ["LIF"]
    assert len(packed.edges) == 4
    a, b = (bs.simulate(x, t1=80.0, key=KEY, saveat=saveat(names)) for x in (net, packed))
    for name in names:  # sums of products of weight and potential: rounded in another order
        np.testing.assert_allclose(a[f"{name}.v"][:300], b[f"{name}.v"][:300], rtol=1e-5)


def test_short_term_plasticity_keeps_one_state_per_pre_unit_and_its_name():
    names = ["P0", "P1"]
    nodes = {name: bs.Population(bs.LIF(), 4 + k, receptors(), i_e=140.0 + 30.0 * k) for k, name in enumerate(names)}
    one, other = bs.TsodyksMarkram(U=0.5, tau_rec=100.0), bs.TsodyksMarkram(U=0.25, tau_rec=50.0)
    rule = bs.AllToAll()
    edges = {
        "a": bs.Projection("P0", "P0.exc", rule, weight=0.5, short_term=one),
        "b": bs.Projection("P0", "P1.exc", rule, weight=0.25, short_term=one),  # the state of a
        "c": bs.Projection("P1", "P0.exc", rule, weight=0.5, short_term=other),
        "d": bs.Projection("P1[1:3]", "P1.exc", rule, weight=1.0, short_term=one),  # units of c, another law
    }
    net = bs.Network(nodes, edges)
    packed = bs.pack(net)
    assert len(packed.edges) == 2
    record = [bs.Trace(f"{name}.{z}") for name in edges for z in ("u", "x")]
    a, b = (bs.simulate(x, t1=60.0, key=KEY, saveat=[*saveat(names), *record]) for x in (net, packed))
    for key in ("a.u", "b.x", "c.x", "d.u"):
        assert np.ptp(np.asarray(a[key])) > 0.1
        np.testing.assert_allclose(a[key], b[key], rtol=1e-5)


def test_regular_sources_merge_exactly_and_poisson_ones_in_law():
    rates = {"S0": 40.0, "S1": 80.0, "S2": np.linspace(10.0, 90.0, 30)}
    nodes = {name: bs.Source(bs.Poisson(rate), 30) for name, rate in rates.items()}
    nodes |= {f"R{k}": bs.Source(bs.Regular(5.0 + k, phase=k), 3) for k in range(2)}
    nodes |= {f"X{k}": bs.Source(bs.External(), 2) for k in range(2)}
    nodes |= {f"T{k}": tally(5) for k in range(2)}
    edges = {
        "S0T0": bs.Projection("S0", "T0.inp", bs.AllToAll(), weight=1.0),
        "in0": bs.PoissonInput("T0[:3].inp", 10, 20.0, 2.0),
        "in1": bs.PoissonInput("T1.inp", 20, np.asarray([0.0, 5.0, 10.0, 15.0, 20.0]), 4.0),
        "in2": bs.PoissonInput("T1.inp", 1, 0.0, 4.0),
    }
    net = bs.Network(nodes, edges)
    packed = bs.pack(net)
    assert set(packed.nodes) == {"Poisson", "Regular", "External", "Tally"}
    assert sorted(type(x).__name__ for x in packed.edges.values()) == 2 * ["WiredPoissonInput"] + ["WiredProjection"]
    names = [*rates, "R0", "R1", "X1"]
    inputs = {"X0": 0.0, "X1": np.eye(2)[np.arange(20000) % 2]}
    record = [*(bs.Spikes(name, 1e4) for name in names), bs.Trace("T0.v", every=20000), bs.Trace("T1.v", every=20000)]
    a, b = (bs.simulate(x, t1=2000.0, key=KEY, inputs=inputs, saveat=record) for x in (net, packed))
    for name in ("R0", "R1", "X1"):
        np.testing.assert_array_equal(a.spikes(name), b.spikes(name))
    for name, rate in rates.items():
        expected = 30 * 2.0 * np.mean(rate)
        assert abs(int(b.n_events[name]) - expected) < 4 * np.sqrt(expected), name
    drawn = b["T1.v"][0] / 4.0  # the sum of the weights of all that arrived
    expected = 2.0 * 20 * np.asarray([0.0, 5.0, 10.0, 15.0, 20.0])
    assert np.all(np.abs(drawn - expected) <= 4 * np.sqrt(expected))
    from_s0 = int(b.n_events["S0"])  # what it emits in the last step has not arrived yet
    assert from_s0 - 30 <= float(b["T0.v"][0, 4]) <= from_s0
    assert abs(float(b["T0.v"][0, 0]) - from_s0 - 2.0 * 400) < 2.0 * 4 * np.sqrt(400) + 30


def test_noise_is_of_the_same_law():
    noisy = bs.WhiteNoise({"v": 1.0})
    unit = bs.Population(bs.LIF(v_th=1e3, tau_m=10.0), 100, receptors(), noise=noisy)
    net = bs.Network({"P0": unit, "P1": unit})
    sol = bs.simulate(bs.pack(net), t1=100.0, key=KEY, saveat=[bs.Trace(f"P{k}.v") for k in range(2)])
    x = np.concatenate([sol["P0.v"][-1], sol["P1.v"][-1]])
    expected = np.sqrt(10.0 / 2)  # sigma sqrt(tau / 2)
    assert abs(x.std() - expected) < 4 * expected / np.sqrt(2 * x.size)
    assert not np.array_equal(sol["P0.v"][-1], sol["P1.v"][-1])


def test_a_flag_names_the_population_that_diverged(both):
    bad = eqx.tree_at(
        lambda s: s.nodes["E2"].y["unit"]["v"], bs.initial_state(both[0], dt=0.1, key=KEY), jnp.full(34, jnp.nan)
    )
    whole = bs.initial_state(both[1], dt=0.1, key=KEY)
    v = whole.nodes["LIF"].y["unit"]["v"].at[both[1].unit_range("E2")[1]].set(jnp.nan)
    packed_bad = eqx.tree_at(lambda s: s.nodes["LIF"].y["unit"]["v"], whole, v)
    messages = []
    for net, state in zip(both, (bad, packed_bad), strict=True):
        with pytest.raises(bs.SimulationError, match="Node 'E2' is not finite at step 0") as e:
            bs.simulate(net, t1=5.0, state=state)
        messages.append(str(e.value))
        assert [name for name, (code, _) in e.value.solution.flags.items() if code] == ["E2"]
    assert messages[0] == messages[1]


GENTLE = {"surrogate": bs.Triangular(20.0), "detach_reset": True}


def trainable():
    """Feed-forward: gradients of recurrent spiking networks explode."""
    nodes = {name: cells(k, name, **GENTLE) for k, name in enumerate(NAMES)}
    edges = {
        "E0E1": edge("E0", "E1", 0),
        "E0E2": edge("E0", "E2", 1),
        "E1E2": edge("E1", "E2", 2, delay=0.0),
        "I0E2": edge("I0", "E2", 0, delay=0.0),
    }
    return bs.Network(nodes, edges, key=jax.random.key(0))


def loss(net, w, matrix, tau, v_th, v0, pack):
    net = eqx.tree_at(
        lambda n: (
            n.edges["E0E1"].weight,
            n.edges["E0E2"].weight,
            n.nodes["E0"].unit.tau_m,
            n.nodes["E1"].unit.v_th,
            n.nodes["E2"].init_values["v"].mean,
        ),
        net,
        (w, matrix, tau, v_th, v0),
    )
    sol = bs.simulate(bs.pack(net) if pack else net, t1=20.0, key=KEY, saveat=[bs.Events("E2"), bs.Trace("E1.v")])
    return jnp.sum(sol["E2.events"] @ jnp.arange(1.0, 35.0)) + 1e-3 * jnp.sum(sol["E1.v"][-1])


def arguments():
    net = trainable()
    e_v_th = jnp.linspace(-50.0, -49.0, SIZES["E1"])
    return net, (jnp.asarray(6.0), net.edges["E0E2"].weight, jnp.asarray(18.0), e_v_th, jnp.asarray(-54.0))


def test_gradients_through_pack_are_those_of_the_unpacked_network():
    net, args = arguments()
    a, b = (
        jax.value_and_grad(lambda *x: loss(net, *x, pack), argnums=(0, 1, 2, 3, 4))(*args)  # noqa: B023
        for pack in (False, True)
    )
    assert a[0] > 10
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.any(np.asarray(x) != 0)
        np.testing.assert_allclose(x, y, rtol=RTOL, atol=RTOL * np.abs(np.asarray(x)).max())


def test_a_gradient_after_packing_has_the_shape_of_the_merged_parameters():
    net = trainable()
    packed = bs.pack(net)

    def of_packed(tau):
        changed = eqx.tree_at(lambda n: n.nodes["LIF"].unit.tau_m, packed, tau)
        return jnp.sum(bs.simulate(changed, t1=20.0, key=KEY, saveat=[bs.Events("E2")])["E2.events"])

    def of_unpacked(tau):
        changed = eqx.tree_at(lambda n: n.nodes["E2"].unit.tau_m, net, tau)
        return jnp.sum(bs.simulate(changed, t1=20.0, key=KEY, saveat=[bs.Events("E2")])["E2.events"])

    _, units = packed.unit_range("E2")
    merged = jax.grad(of_packed)(packed.nodes["LIF"].unit.tau_m)[units]
    np.testing.assert_allclose(np.sum(merged), jax.grad(of_unpacked)(jnp.asarray(20.0)), rtol=RTOL)


@pytest.mark.optimised
def test_spikes_of_a_batch_of_packed_runs_are_those_of_single_ones(both):
    packed = both[1]

    def run(current):
        return bs.simulate(packed, t1=60.0, key=KEY, inputs={"E1": current}, saveat=saveat())

    currents = jnp.asarray([0.0, 60.0])
    batch = jax.vmap(run)(currents)
    for k, current in enumerate(currents):
        same_spikes(jax.tree.map(lambda x, k=k: x[k], batch), run(current))


def test_vmap_and_jit_of_pack_equal_the_loop():
    net, (w, *rest) = arguments()
    weights = w + jnp.arange(3.0)
    batched = jax.vmap(lambda w: loss(net, w, *rest, True))(weights)
    single = [loss(net, x, *rest, False) for x in weights]
    np.testing.assert_allclose(batched, single, rtol=RTOL)
    # the graph itself traced: rows are merged by operations of JAX
    whole = eqx.filter_jit(lambda net: loss(net, w, *rest, True))(net)
    np.testing.assert_allclose(whole, single[0], rtol=RTOL)


@pytest.mark.optimised
def test_a_packed_network_streams_resumes_and_is_saved(both, tmp_path):
    net, packed = both
    record = [bs.Spikes("E1"), bs.Trace("I0.v")]
    whole = bs.simulate(packed, t1=40.0, key=KEY, saveat=record)
    rows = {"E0": np.zeros((400, SIZES["E0"]))}
    kw = dict(chunk=10.0, key=KEY, saveat=record, progress=False, inputs=rows)
    for t1, resume in ((20.0, False), (40.0, True)):
        kw["inputs"] = {"E0": rows["E0"][: round(t1 * 10)]}
        bs.stream(packed, t1=t1, sink=bs.Directory(tmp_path / "run"), resume=resume, **kw)
    stored = bs.StoredRun(tmp_path / "run")
    np.testing.assert_array_equal(stored["I0.v"], whole["I0.v"])
    np.testing.assert_array_equal(stored.spikes("E1"), whole.spikes("E1"))
    assert stored.rates.keys() == whole.rates.keys()
    assert stored.rates["E1"] == pytest.approx(float(whole.rates["E1"]))
    bs.save(tmp_path / "net.npz", packed, whole.state)
    loaded, state, _ = bs.load(tmp_path / "net.npz", bs.pack(network()))
    assert state is not None
    again = [bs.simulate(x, t1=50.0, state=s, saveat=record) for x, s in ((packed, whole.state), (loaded, state))]
    np.testing.assert_array_equal(again[0]["I0.v"], again[1]["I0.v"])
    assert "LIF" in str(bs.summary(packed))
    del net
