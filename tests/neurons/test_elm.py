"""The ELM neuron against a plain loop over its equations in float64, with its own weights and with released ones."""

import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

INPUTS, BRANCHES = 1278, 45
RELEASED = {15: 6827}
"""Memory units and what the authors count as parameters: all but the time constants."""
ATOL = {"float32": 1e-5, "float64": 1e-11}
"""The promise of float32; in float64 some thousand roundings of sums of size 1."""


def oracle(weights, x, branches, tau_range=(1.0, 150.0), lam=5.0):
    """The published equations, spelled out in numpy; x of shape (steps, inputs)."""
    p = {k: np.asarray(v, np.float64 if np.asarray(v).dtype.kind == "f" else None) for k, v in weights.items()}
    tau_m = tau_range[0] + (tau_range[1] - tau_range[0]) / (1.0 + np.exp(-p["_proto_tau_m"]))
    k_s, k_m = np.exp(-1.0 / p["tau_s"]), np.exp(-1.0 / tau_m)
    s, m, out = np.zeros(len(k_s)), np.zeros(len(k_m)), []
    for row in np.asarray(x, np.float64):
        s = k_s * s + np.maximum(p["_proto_w_s"], 0.0) * row[p["input_to_synapse_indices"]] * p["valid_indices_mask"]
        b = s.reshape(branches, -1).sum(1)
        h = np.maximum(p["mlp.network.0.weight"] @ np.concatenate([b, k_m * m]) + p["mlp.network.0.bias"], 0.0)
        d = 1.7159 * np.tanh(2.0 / 3.0 * (p["mlp.network.2.weight"] @ h + p["mlp.network.2.bias"]))
        m = k_m * m + lam * (1.0 - k_m) * d
        out.append(p["w_y.weight"] @ m + p["w_y.bias"])
    return np.stack(out)


def spikes(seed, steps, inputs):
    """Random events, the second half of the inputs inhibitory."""
    x = (np.random.default_rng(seed).uniform(size=(steps, inputs)) < 0.01).astype(float)
    x[:, inputs // 2 :] *= -1.0
    return x


def drawn(seed, inputs=30, branches=3, per=8, memory=5):
    """Weights of a small neuron under the names of the authors; one synapse has no input, one weight is negative."""
    rng = np.random.default_rng(seed)
    shapes = {
        "_proto_tau_m": (memory,),
        "mlp.network.0.weight": (2 * memory, branches + memory),
        "mlp.network.0.bias": (2 * memory,),
        "mlp.network.2.weight": (memory, 2 * memory),
        "mlp.network.2.bias": (memory,),
        "w_y.weight": (2, memory),
        "w_y.bias": (2,),
    }
    n = branches * per
    mask = np.ones(n, bool)
    mask[3] = False
    return {k: 0.5 * rng.normal(size=s).astype(np.float32) for k, s in shapes.items()} | {
        "_proto_w_s": rng.normal(0.5, 0.5, n).astype(np.float32),
        "tau_s": rng.uniform(2.0, 8.0, n).astype(np.float32),
        "input_to_synapse_indices": rng.integers(0, inputs, n).astype(np.int32),
        "valid_indices_mask": mask,
    }


@pytest.mark.core
def test_it_is_the_published_equations():
    weights, x = drawn(0), 3.0 * spikes(1, 300, 30)
    cell = bs.ELM.of_weights(weights, inputs=30, branches=3)
    got = jax.jit(lambda cell, x: cell(x))(cell, jnp.asarray(x))
    expected = oracle(weights, x, 3)
    assert np.min(np.std(expected, 0)) > 0.02
    np.testing.assert_allclose(got, expected, rtol=0, atol=ATOL[str(got.dtype)] * np.max(np.abs(expected)))


def test_the_released_weights_give_what_the_equations_say():
    path = Path(os.environ.get("BRAINSIM_ELM_WEIGHTS", "elm_weights.npz"))
    if not path.exists():
        pytest.skip("no elm_weights.npz: experiments/elm_neuron/README.md says what it is; set BRAINSIM_ELM_WEIGHTS")
    x = spikes(0, 400, INPUTS)
    with np.load(path) as z:
        sizes = sorted({int(name[1:].split("/")[0]) for name in z.files if "/" in name})
        assert RELEASED.keys() <= set(sizes)
        for memory in sizes:
            weights = {k.split("/", 1)[1]: z[k] for k in z.files if k.startswith(f"m{memory}/")}
            cell = bs.ELM.of_weights(weights, inputs=INPUTS, branches=BRANCHES)
            got = jax.jit(lambda cell, x: cell(x))(cell, jnp.asarray(x))
            expected = oracle(weights, x, BRANCHES)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))
            if memory in RELEASED:
                assert parameters(cell) == RELEASED[memory]


def parameters(cell):
    """Numbers that are trained: all floats but the time constants."""
    floats = jax.tree.leaves(eqx.filter(cell, eqx.is_inexact_array))
    return sum(x.size for x in floats) - cell.tau_s.size - cell.tau_m.size


def test_the_published_size_has_the_published_number_of_parameters():
    table = np.resize(np.arange(INPUTS), (BRANCHES, 100))
    cell = bs.ELM(INPUTS, branches=BRANCHES, memory=15, outputs=2, synapses=table, key=jax.random.key(0))
    assert parameters(cell) == 6827


def test_a_run_in_pieces_is_the_run_and_every_weight_has_a_gradient():
    cell = bs.ELM(10, branches=3, memory=4, outputs=2, key=jax.random.key(0))
    x = jnp.asarray(spikes(0, 60, 10), cell.w_s.dtype) * 20.0
    whole, state, out = cell(x), cell.init(), []
    for row in x:
        state, y = cell.step(state, row)
        out.append(y)
    np.testing.assert_allclose(whole, np.stack(out), rtol=1e-5, atol=1e-5)
    floats, rest = eqx.partition(cell, eqx.is_inexact_array)
    slopes = jax.grad(lambda f: jnp.mean(eqx.combine(f, rest)(x) ** 2))(floats)
    for name in ("w_s", "tau_s", "tau_m", "w_1", "b_1", "w_2", "b_2", "w_y", "b_y"):
        slope = getattr(slopes, name)
        assert np.all(np.isfinite(slope)), name
        assert np.any(slope != 0), name
    assert int((cell.synapses >= 0).sum()) == 10


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"memory": 0}, r"ELM.memory is 0"),
        ({"tau_m": np.ones(3)}, r"ELM.tau_m has shape \(3,\)"),
        ({"tau_s": -1.0}, r"ELM.tau_s is -1"),
        ({"synapses": np.zeros((4, 2), int)}, r"ELM.synapses has shape \(4, 2\)"),
        ({"synapses": np.full((3, 2), 10)}, r"expected -1 to 9"),
    ],
)
def test_bad_input_is_named(wrong, said):
    given = {"branches": 3, "memory": 4, "outputs": 2, "key": jax.random.key(0)} | wrong
    with pytest.raises(ValueError, match=said):
        bs.ELM(10, **given)
