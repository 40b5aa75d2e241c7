"""A small population beside a large one is fused, so that the steps of both are one call; alone it is left to XLA."""

import jax
import numpy as np
import pytest

import brainsim as bs


def network(*sizes):
    nodes = {f"P{k}": bs.Population(bs.LIF(), n, {"exc": bs.ExpCond()}, i_e=400.0) for k, n in enumerate(sizes)}
    rule = bs.FixedProbability(0.2)
    names = list(nodes)
    edges = {f"E{k}": bs.Projection("P0", f"{p}.exc", rule, weight=0.1, delay=1.0) for k, p in enumerate(names)}
    return bs.Network(nodes, edges, key=jax.random.key(0))


@pytest.mark.parametrize("sizes, steps", [((40, 10), "one call"), ((40, 1), "one call"), ((10, 10), "XLA")])
def test_who_is_fused(sizes, steps):
    found = bs.summary(network(*sizes))
    assert found.steps.startswith(steps)
    assert all(node["step"].startswith("fused" if steps == "one call" else "XLA") for node in found.nodes)


def test_a_small_node_does_beside_a_large_one_what_it_does_alone():
    """Ten units that drive themselves, fused and by XLA."""
    alone = network(10)
    beside = bs.Network(
        {"P0": alone.nodes["P0"], "Q": bs.Population(bs.LIF(), 40)}, {"E0": alone.edges["E0"]}, key=jax.random.key(0)
    )
    saveat = [bs.Trace("P0.v"), bs.Events("P0")]
    a, b = (bs.simulate(net, t1=30.0, key=jax.random.key(1), saveat=saveat) for net in (alone, beside))
    assert a.rates["P0"] > 10
    np.testing.assert_array_equal(a["P0.events"], b["P0.events"])
    np.testing.assert_allclose(a["P0.v"], b["P0.v"], rtol=1e-5)


def test_many_units_whose_steps_are_not_one_call_are_warned_of():
    ring = {"gap": bs.GapPort()}
    cells = bs.Population(bs.LIF(), 1000, ring)
    net = bs.Network(
        {"P": cells}, {"G": bs.GapJunctions("P", "P.gap", bs.FixedOutDegree(1), weight=0.1)}, key=jax.random.key(0)
    )
    found = bs.summary(net)
    if found.steps == "one call":
        pytest.skip("gap junctions are played")
    assert any(w.startswith("the steps are not one call: ") for w in found.warnings)
