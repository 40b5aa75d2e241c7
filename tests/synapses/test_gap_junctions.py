"""Gap junctions between passive cells against the closed form: steady state, time constant, order, symmetry."""

import jax
import numpy as np
import pytest

import brainsim as bs

from .parts import run

TAU, R, G = 20.0, 0.5, 3.0  # ms, GOhm, nS
REST = np.asarray([-70.0, -50.0])
T1 = 40.0


def pairs(dt, t1=T1, **kw):
    """Two pairs of passive cells, the second the mirror image of the first, from rest; times and potentials."""
    with jax.enable_x64(True):
        rest = np.concatenate([REST, REST[::-1]])
        cell = bs.LeakyIntegrator(tau_m=TAU, e_l=rest, r=R)
        pairs = bs.FromCOO([0, 1, 2, 3], [1, 0, 3, 2])
        net = bs.Network(
            {"P": bs.Population(cell, 4, {"gap": bs.GapPort()}, init={"v": rest})},
            {"G": bs.GapJunctions("P", "P", pairs, weight=G)},
        )
        n_steps = round(t1 / dt)
        sol = run(net, n_steps, dt, [bs.Trace("P.v")], **kw)
        return dt * np.arange(1, n_steps + 1), np.asarray(sol["P.v"])


def difference(t):
    """`v_1 - v_0`: from that of rest to it over 1 + 2 r g, with the time constant tau / (1 + 2 r g)."""
    k = 1 + 2 * R * G
    d = REST[1] - REST[0]
    return d / k + (d - d / k) * np.exp(-t * k / TAU)


@pytest.fixture(scope="module")
def coarse():
    return pairs(0.1)


@pytest.mark.optimised
def test_two_cells_come_to_the_steady_state_and_mirror_each_other(coarse):
    _, v = coarse
    # the difference has come to its end within exp(-8), the sum never left it
    np.testing.assert_allclose(v[-1, 1] - v[-1, 0], difference(np.inf), rtol=4 * np.exp(-8))
    np.testing.assert_allclose(v[:, 0] + v[:, 1], REST.sum() * np.ones(len(v)), rtol=1e-12)
    np.testing.assert_array_equal(v[:, 0], v[:, 3])
    np.testing.assert_array_equal(v[:, 1], v[:, 2])


def test_the_approach_has_the_closed_form_to_order_one(coarse):
    errors = []
    for t, v in (coarse, pairs(0.05)):
        errors.append(np.max(np.abs(v[:, 1] - v[:, 0] - difference(t))))
        # the time constant, between 1 and 5 ms, without the offset of the first step
        d = v[:, 1] - v[:, 0] - difference(np.inf)
        i, j = round(1.0 / t[0]), round(5.0 / t[0])
        tau = (t[j] - t[i]) / np.log(d[i] / d[j])
        assert tau == pytest.approx(TAU / (1 + 2 * R * G), rel=t[0] * 0.5)
    assert errors[0] < 0.02 * (REST[1] - REST[0])
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


def test_the_coupling_is_stable_where_it_is_stiff():
    """`G` is 400 times the leak: `-G v` is in the field, so that a step of many time constants stays bounded."""
    with jax.enable_x64(True):
        cell = bs.LeakyIntegrator(tau_m=TAU, e_l=REST, r=1.0)
        net = bs.Network(
            {"P": bs.Population(cell, 2, {"gap": bs.GapPort()}, init={"v": REST})},
            {"G": bs.GapJunctions("P", "P", bs.FromCOO([0, 1], [1, 0]), weight=400.0)},
        )
        v = np.asarray(run(net, 400, 1.0, [bs.Trace("P.v")])["P.v"])
    assert v.min() >= -70.0
    assert v.max() <= -50.0
    size = np.abs(v[:, 1] - v[:, 0])  # it changes sign from step to step, as each takes over what the other was
    assert np.all(size[2:] < size[:-2])
    assert size[-1] < 10.0


def test_conductances_of_a_cell_add_up_over_synapses_and_views():
    net = bs.Network(
        {
            "A": bs.Population(bs.LeakyIntegrator(e_l=[1.0, 2.0, 3.0]), 3),
            "B": bs.Population(bs.LeakyIntegrator(), 2, {"gap": bs.GapPort()}),
        },
        {"G": bs.GapJunctions("A[1:]", "B", bs.FromCOO([0, 1, 1], [0, 0, 1]), weight=[1.0, 2.0, 4.0])},
    )
    sol = run(net, 3, 0.1, [bs.Trace("B.gap.g"), bs.Trace("B.gap.j")])
    np.testing.assert_allclose(sol["B.gap.g"], [[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    np.testing.assert_allclose(sol["B.gap.j"], [[0.0, 0.0], [8.0, 12.0], [8.0, 12.0]], rtol=1e-6)
