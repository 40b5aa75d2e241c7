"""Values of synapses in the order of the user's list: at construction, read back, and put in a second time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import brainsim as bs
from brainsim import train

from .parts import DT, replay, tally

PRE, POST = [2, 0, 1, 0], [0, 1, 2, 2]  # a list that is not sorted by pre
WEIGHT, DELAY = [30.0, 10.0, 20.0, 5.0], [0.3, 0.1, 0.2, 0.4]
OTHER = [1.0, 2.0, 4.0, 8.0]


def net(connect, weight, delay=0.0, **given):
    edge = bs.Projection("S", "P.inp", connect, weight=weight, delay=delay, **given)
    return bs.Network({"S": replay([(0, 0), (0, 1), (0, 2)], 3), "P": tally(3)}, {"E": edge}, key=jax.random.key(0))


def received(n, t=10):
    """What the three units have received after t steps, all three inputs having sent in the first."""
    return np.asarray(bs.simulate(n, t1=t * DT, dt=DT, key=jax.random.key(0), saveat=[bs.Trace("P.v")])["P.v"])


def sums(weight, post=POST):
    return np.bincount(post, weight, 3)


def put(n, field, values):
    return eqx.tree_at(lambda n: getattr(n.edges["E"], field), n, jnp.asarray(values, jnp.zeros(()).dtype))


@pytest.mark.core
def test_a_list_put_in_again_lands_on_the_synapses_it_was_written_for():
    n = net(bs.FromCOO(PRE, POST), WEIGHT)
    np.testing.assert_array_equal(n.edges["E"].weight, WEIGHT)
    np.testing.assert_array_equal(received(n)[-1], sums(WEIGHT))
    np.testing.assert_array_equal(received(put(n, "weight", OTHER))[-1], sums(OTHER))
    np.testing.assert_array_equal(received(train.with_parameters(n, {"E.weight": np.asarray(OTHER)}))[-1], sums(OTHER))
    slope = jax.grad(lambda w: jnp.vdot(jnp.arange(1.0, 4.0), _last(put(n, "weight", w))))(jnp.asarray(OTHER))
    np.testing.assert_array_equal(slope, np.asarray(POST) + 1.0)


def _last(n):
    return bs.simulate(n, t1=1.0, dt=DT, key=jax.random.key(0), saveat=[bs.Trace("P.v")])["P.v"][-1]


def test_delays_keep_the_order_of_the_list_too():
    n = net(bs.FromCOO(PRE, POST), WEIGHT, DELAY, max_delay=0.5)
    np.testing.assert_allclose(n.edges["E"].delay, DELAY)
    for delay in (DELAY, DELAY[::-1]):
        v = received(put(n, "delay", delay))
        for step in range(8):
            there = step >= 1 + np.round(np.asarray(delay) / DT)
            np.testing.assert_array_equal(v[step], sums(WEIGHT * there), err_msg=f"{delay} {step}")
    per_pre = net(bs.FromCOO(PRE, POST), WEIGHT, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(per_pre.edges["E"].delay, [0.3, 0.1, 0.2, 0.1])


def sparse():
    rule, weight = bs.from_sparse(scipy.sparse.coo_matrix((WEIGHT, (PRE, POST)), (3, 3)))
    return rule, weight, POST


KINDS = {
    "scipy": sparse,
    "rows in any order": lambda: (
        bs.FromCSR([0, 2, 3, 4], [2, 1, 2, 0]),
        np.asarray([5.0, 10.0, 20.0, 30.0]),
        [2, 1, 2, 0],
    ),
    "fixed sources": lambda: (
        bs.FixedFanin(np.asarray([[2, 0], [1, 0], [2, 1]]), 3),
        np.arange(1.0, 7.0),
        [0, 0, 1, 1, 2, 2],
    ),
    "a sorted list": lambda: (bs.FromCOO([0, 1, 1, 2], [2, 0, 1, 2]), np.asarray(OTHER), [2, 0, 1, 2]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_made_from_arrays_keeps_its_order(kind):
    rule, weight, post = KINDS[kind]()
    n = net(rule, weight)
    np.testing.assert_array_equal(n.edges["E"].weight, weight)
    for values in (weight, weight[::-1]):
        np.testing.assert_array_equal(received(put(n, "weight", values), 3)[-1], sums(values, post))


def test_what_is_drawn_is_read_and_put_back_and_packs_and_runs_from_event_to_event():
    n = net(bs.FromCOO(PRE, POST), bs.Uniform(1.0, 2.0))
    again = put(n, "weight", n.edges["E"].weight)
    np.testing.assert_array_equal(received(n, 3), received(again, 3))
    weight = np.asarray(n.edges["E"].weight)
    np.testing.assert_allclose(received(n, 3)[-1], sums(weight), rtol=1e-6)
    cells = bs.Population(bs.LIF(v_th=1e3, tau_m=1e9, e_l=0.0, v_reset=0.0), 3, {"inp": bs.Delta()}, init={"v": 0.0})
    exact = bs.Network(
        {"S": n.nodes["S"], "P": cells}, {"E": bs.Projection("S", "P", bs.FromCOO(PRE, POST), weight=WEIGHT)}
    )
    sol = bs.simulate_events(put(exact, "weight", OTHER), t1=1.0, key=jax.random.key(0), max_events=20)
    np.testing.assert_allclose(sol.y["P"]["unit"]["v"], sums(OTHER), rtol=1e-5)


def test_an_array_of_another_length_is_refused_by_name():
    n = net(bs.FromCOO(PRE, POST), WEIGHT, DELAY, max_delay=0.5)
    with pytest.raises(ValueError, match=r"edge 'E'.weight has shape \(3,\); expected \(\) or \(4,\)"):
        received(put(n, "weight", [1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"edge 'E'.delay has shape \(2,\); expected \(\) or \(4,\)"):
        received(put(n, "delay", [0.1, 0.2]))
