"""Multiple shooting: the true cell leaves no residual, the Jacobian is exact, and it recovers what it should."""

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import brainsim as bs
from brainsim import train
from brainsim.train import AbstractResiduals

DT, STEPS = 0.5, 240
CURRENT = 100.0 + 40.0 * np.sin(np.arange(STEPS) / 9.0)[:, None]


def cell():
    return bs.Network({"P": bs.Population(bs.MorrisLecar(), 1)})


def recording(net):
    run = {"t1": STEPS * DT, "dt": DT, "key": jax.random.key(0), "inputs": {"P": CURRENT}}
    return bs.simulate(net, **run, saveat=[bs.Trace("P.v"), bs.Trace("P.w")])


def shooting(data, **kw):
    return train.MultipleShooting(cell(), "P", data, dt=DT, segments=6, inputs={"P": CURRENT}, **kw)


def test_the_true_states_leave_no_residual(x64):
    sol = recording(cell())
    loss = shooting(sol["P.v"], sigma=0.5)
    per = STEPS // 6
    assert sol["P.v"].max() > 0  # it spikes
    starts = {x: np.concatenate([loss.starts[x][:1], sol[f"P.{x}"][per - 1 :: per][:5]]) for x in ("v", "w")}
    free = {x: jnp.asarray(s / loss.scale[x]) for x, s in starts.items()}
    # the first start is that of the unit, which the recording does not show
    first = bs.initial_state(cell(), dt=DT, key=jax.random.key(0)).nodes["P"].y["unit"]
    free = {x: s.at[0].set(first[x] / loss.scale[x]) for x, s in free.items()}
    np.testing.assert_allclose(loss(cell(), free), 0.0, atol=1e-9)
    # clamped to the recording, the gates begin near where they are
    np.testing.assert_allclose(loss.starts["w"][1:], starts["w"][1:], atol=0.05)


def test_the_jacobian_by_structure_is_that_of_forward_mode(x64):
    loss = shooting(recording(cell())["P.v"] + 1.0, sigma=0.5)
    named = {"g_k": jnp.asarray(9.0), "c_m": jnp.asarray(21.0)}

    def model(named):
        return bs.Network({"P": bs.Population(bs.MorrisLecar(**named), 1)})

    r, short = loss.linearised(model, named, loss.free())
    expected, long = AbstractResiduals.linearised(loss, model, named, loss.free())
    np.testing.assert_allclose(r, expected, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-9 * np.abs(b).max())


def test_it_recovers_a_spiking_cell_from_noise_and_tightens(x64):
    data = recording(cell())["P.v"] + 0.5 * np.random.default_rng(0).normal(size=(STEPS, 1))
    loss = shooting(data, sigma=0.5)
    starts = {"P.unit.g_ca": [3.0], "P.unit.g_k": [11.0], "P.unit.c_m": [15.0]}
    solver = optx.LevenbergMarquardt(rtol=1e-4, atol=1e-4)
    bounds = {"P.unit.g_ca": train.Log(1.0, 20.0), "P.unit.g_k": train.Log(2.0, 32.0), "P.unit.c_m": (8.0, 50.0)}
    loose = train.fit(cell(), loss, bounds, method=solver, starts=starts, steps=60, progress=False)
    tight = loss.tightened(0.01, loose)
    np.testing.assert_allclose(tight.free()["w"], loose.free["w"], rtol=1e-12)
    true = {"P.unit.g_ca": 4.4, "P.unit.g_k": 8.0, "P.unit.c_m": 20.0}
    for k, v in true.items():
        assert loose.parameters[k] == pytest.approx(v, rel=0.05), k
    assert loose.loss == pytest.approx(1.0, abs=0.2)  # in units of the noise


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node": "Q"}, "node 'Q' does not exist"),
        ({"segments": 7}, r"7 segments do not divide the 240 samples of the data; near are 5, 6, 8"),
        ({"data": np.zeros((STEPS, 2))}, "one column per unit"),
        ({"data": np.full(STEPS, np.nan)}, "finite"),
        ({"inputs": {"P": CURRENT[:100]}}, "data are longer than the run"),
        ({"continuity": 0.0}, "continuity"),
        ({"net": bs.Network({"P": bs.Population(bs.MorrisLecar(), 1), "Q": bs.Population(bs.LIF(), 1)})}, "one popul"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"net": cell(), "node": "P", "data": np.zeros(STEPS), "dt": DT, "segments": 6} | change
    with pytest.raises(ValueError, match=message):
        train.MultipleShooting(**given)
