"""NIR networks run as the libraries run them, and go back to files bit for bit."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import nir

from .golden import HOME, differing, nets

pytest.importorskip("h5py")

QUICK = {
    ("norse", "rec_cuba"),
    ("norse", "ff_if"),
    ("snntorch_direct", "RLeaky_subtract_delay0"),
    ("snntorch_direct", "RSynaptic_zero_delay1"),
    ("spikingjelly", "rec_lif"),
    ("sinabs", "rec_lif"),
    ("spyx", "rec_cuba"),
    ("snntorch", "conv_lif_avg_g2"),
}
"""One of each form of update."""

FILES = sorted(p for p in HOME.rglob("*.nir") if p.parent.name != "hostile")


@pytest.mark.parametrize(
    "library, net",
    [pytest.param(*x, marks=() if x in QUICK else pytest.mark.slow) for x in nets()],
)
def test_the_spikes_are_those_of_the_library(library, net):
    assert differing(library, net) == 0


@pytest.mark.parametrize("net", ["ff", "rec"])
def test_the_spikes_are_those_of_rockpool(net):
    data = np.load(HOME / "vectors/rockpool.npz")
    own = {k.split("/")[1]: data[k] for k in data if k.startswith(net)}
    full = lambda x: np.full(16, x, np.float32)  # noqa: E731
    cell = {"tau_syn": full(5e-3), "tau_mem": full(1e-2), "r": full(1), "v_leak": full(0), "w_in": full(1)}
    nodes = {
        "input": nir.Node("Input", {"shape": np.array([8])}),
        "fc": nir.Node("Linear", {"weight": own["w"].T}),
        "lif": nir.Node("CubaLIF", cell | {"v_threshold": full(1)}),
        "output": nir.Node("Output", {"shape": np.array([16])}),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
    if net == "rec":
        nodes["w_rec"] = nir.Node("Linear", {"weight": own["w_rec"].T})
        edges += [("lif", "w_rec"), ("w_rec", "lif")]
    model = bs.from_nir(nir.Graph(nodes, edges), nir.ROCKPOOL.at(1.0))
    lif = model.net.nodes["lif"]
    # Rockpool's bias is a current into the membrane, for which NIR has no attribute
    with_bias = eqx.tree_at(lambda n: n.nodes["lif"].offset_v, model.net, jnp.asarray(own["bias"]))
    assert isinstance(lif, bs.DiscreteNeurons)
    found = dataclasses.replace(model, net=with_bias).run(own["input"])["output"]
    np.testing.assert_array_equal(found, own["hidden"])


@pytest.mark.parametrize(
    "dialect, file, raster",
    [
        pytest.param(nir.NORSE, "bias_zero", "norse/bias_zero", marks=pytest.mark.slow),
        pytest.param(nir.SNNTORCH, "bias_zero", "snntorch/bias_zero", marks=pytest.mark.slow),
        (dataclasses.replace(nir.SNNTORCH, reset=bs.Reset.RESIDUE), "noBias_subtract", "snntorch/noBias_subtract"),
        (nir.SPYX, "noBias_subtract", "spyx/noBias_subtract"),
        pytest.param(nir.SPINNAKER2, "bias_zero", "s2/bias_zero", marks=pytest.mark.slow),
        (dataclasses.replace(nir.SPINNAKER2, reset=bs.Reset.SUBTRACT), "noBias_subtract", "s2/noBias_subtract"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_braille_net_of_the_paper(dialect, file, raster):
    data = np.load(HOME / "paper/braille_rasters.npz")
    model = bs.from_nir(HOME / f"paper/braille_noDelay_{file}.nir", dialect.at(0.1))
    np.testing.assert_array_equal(model.run(data["input"], record=["lif1.lif"])["lif1.lif"], data[raster])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_written_again_is_the_same(path, tmp_path):
    graph = nir.read(path)
    nir.write(graph, tmp_path / "again.nir")
    assert nir.read(tmp_path / "again.nir") == graph


def test_a_network_that_did_not_change_gives_its_file_back(tmp_path):
    path = HOME / "paper/braille_noDelay_bias_zero_subgraph.nir"
    model = bs.from_nir(path, nir.SNNTORCH.at(0.1), repair=True)
    assert len(model.notes) == 1
    assert bs.to_nir(model, tmp_path / "again.nir") == model.graph
    assert nir.read(tmp_path / "again.nir") == model.graph


def test_what_was_trained_is_written_and_the_rest_keeps_its_bits():
    model = bs.from_nir(HOME / "vectors/norse_rec_cuba.nir", nir.NORSE.at(0.1))
    where = lambda net: (net.edges["fc1"].weight, net.nodes["n1_lif"].beta, net.nodes["n1_lif"].bias["fc1"])  # noqa: E731
    new = eqx.tree_at(where, model.net, [x * 0.5 for x in where(model.net)])
    graph = bs.to_nir(dataclasses.replace(model, net=new))
    old = model.graph.nodes
    np.testing.assert_array_equal(graph.nodes["fc1"].fields["weight"], 0.5 * old["fc1"].fields["weight"])
    np.testing.assert_array_equal(graph.nodes["fc1"].fields["bias"], 0.5 * old["fc1"].fields["bias"])
    # beta = 0.9 becomes 0.45, so that tau = dt / 0.55; r goes along, as the gain stays
    np.testing.assert_allclose(graph.nodes["n1.lif"].fields["tau_mem"], 1e-4 / 0.55, rtol=1e-6)
    np.testing.assert_allclose(graph.nodes["n1.lif"].fields["r"], 0.1 / 0.55, rtol=1e-6)
    assert {k for k in graph.nodes if graph.nodes[k] != old[k]} == {"fc1", "n1.lif"}
    again = bs.from_nir(graph, model.dialect)
    for a, b in zip(
        jax.tree.leaves(eqx.filter(again.net, eqx.is_array)), jax.tree.leaves(eqx.filter(new, eqx.is_array))
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def chain(kind, weight, **cell):
    """Input, Linear, one neuron, Output."""
    nodes = {
        "input": nir.Node("Input", {"shape": np.array([1])}),
        "fc": nir.Node("Linear", {"weight": np.array([[weight]], np.float32)}),
        "n": nir.Node(kind, {k: np.array([x], np.float32) for k, x in cell.items()}),
        "output": nir.Node("Output", {"shape": np.array([1])}),
    }
    return nir.Graph(nodes, [("input", "fc"), ("fc", "n"), ("n", "output")])


def test_a_neuron_on_its_threshold_tells_the_dialects_apart():
    graph = chain("IF", 0.25, r=1, v_threshold=1, v_reset=0)
    steps = {}
    for dialect in (nir.SNNTORCH, nir.SPIKINGJELLY, nir.SINABS):
        raster = bs.from_nir(graph, dialect.at(1.0)).run(np.ones((12, 1)))["output"]
        steps[dialect.name] = np.flatnonzero(raster).tolist()
    assert steps == {"snnTorch": [4, 9], "SpikingJelly": [3, 7, 11], "Sinabs": [3, 7, 11]}


@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI", "Threshold"])
def test_primitives_without_spikes_or_without_a_state(kind):
    cells = {
        "I": dict(r=1),
        "LI": dict(tau=0.002, r=2, v_leak=0.5),
        "CubaLI": dict(tau_mem=0.002, tau_syn=0.001, r=1, v_leak=0, w_in=1),
        "Threshold": dict(threshold=0.75),
    }
    x = np.array([[0.0], [1.0], [2.0], [1.0], [0.0]])
    found = bs.from_nir(chain(kind, 0.5, **cells[kind]), nir.NORSE.at(1.0)).run(x)["output"][:, 0]
    v, i, out = (0.5 if kind == "LI" else 0.0), 0.0, []
    for now in 0.5 * x[:, 0]:
        if kind == "Threshold":
            out.append(float(now > 0.75))
            continue
        if kind == "I":
            v = v + now
        elif kind == "LI":
            v = v + 0.5 * (0.5 - v + 2 * now)
        else:
            i = i + 1.0 * (now - i)
            v = v + 0.5 * (i - v)
        out.append(v)
    np.testing.assert_allclose(found, out, rtol=4e-7)  # float32, and so are the time constants of the file


def test_scales_and_delays_per_unit_and_chains_of_linear_nodes():
    shape, rng = np.array([3]), np.random.default_rng(0)
    w = [rng.integers(-4, 5, s).astype(np.float32) for s in ((4, 3), (3, 4), (3, 3))]
    nodes = {
        "input": nir.Node("Input", {"shape": shape}),
        "a": nir.Node("Linear", {"weight": w[0]}),
        "b": nir.Node("Affine", {"weight": w[1], "bias": np.array([1, 2, 3], np.float32)}),
        "scale": nir.Node("Scale", {"scale": np.array([1, -2, 0.5], np.float32)}),
        "delay": nir.Node("Delay", {"delay": np.array([0, 0.001, 0.003])}),
        "c": nir.Node("Linear", {"weight": w[2]}),
        "i": nir.Node("I", {"r": np.ones(3, np.float32)}),
        "output": nir.Node("Output", {"shape": shape}),
        "raw": nir.Node("Output", {"shape": shape}),
    }
    edges = [("input", "a"), ("a", "b"), ("b", "scale"), ("scale", "delay"), ("delay", "i"), ("input", "c"), ("c", "i")]
    edges += [("i", "output"), ("scale", "raw")]
    x = rng.integers(0, 2, (6, 3))
    model = bs.from_nir(nir.Graph(nodes, edges), nir.SNNTORCH.at(1.0))
    found = model.run(x)
    scaled = (x @ w[0].T @ w[1].T + [1, 2, 3]) * [1, -2, 0.5]
    late = np.stack([np.concatenate([np.zeros(k), scaled[: 6 - k, j]]) for j, k in enumerate((0, 1, 3))], 1)
    np.testing.assert_array_equal(found["raw"], scaled)
    np.testing.assert_array_equal(found["output"], np.cumsum(late + x @ w[2].T, 0))
    assert bs.to_nir(model) == model.graph


def test_the_choice_of_a_dialect_is_asked_for_with_what_the_file_implies():
    with pytest.raises(nir.NIRError, match=r"(?s)NORSE.*SPIKINGJELLY.*>=.*is 0.1 ms"):
        bs.from_nir(HOME / "paper/braille_noDelay_noBias_subtract.nir")
    with pytest.raises(nir.NIRError, match=r"dialect.at\(dt="):
        bs.from_nir(HOME / "paper/lif_norse.nir", nir.NORSE)


def test_gradients_of_an_imported_net_reach_every_weight():
    model = bs.from_nir(HOME / "vectors/snntorch_ff_cuba.nir", nir.SNNTORCH.at(0.1), surrogate=bs.Triangular())
    x = model.rows(np.load(HOME / "vectors/snntorch.npz")["ff_cuba/input"])[:20]

    def loss(net):
        sol = bs.simulate(net, t1=2.0, dt=0.1, key=jax.random.key(0), inputs={"input": x}, saveat=[bs.Events("n2")])
        return jnp.sum(sol["n2.events"])

    grads = eqx.filter_grad(loss)(model.net)
    moved = [
        grads.edges["fc1"].weight,
        grads.edges["fc2"].weight,
        grads.nodes["n1"].beta,
        grads.nodes["n1"].bias["fc1"],
    ]
    assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in moved)


def test_a_convolutional_net_comes_back_with_its_trained_kernel():
    model = bs.from_nir(HOME / "vectors/snntorch_conv_lif_avg_g2.nir", nir.SNNTORCH.at(0.1))
    assert bs.to_nir(model) == model.graph
    new = eqx.tree_at(lambda net: net.edges["c2"].weight, model.net, 0.5 * model.net.edges["c2"].weight)
    graph = bs.to_nir(dataclasses.replace(model, net=new))
    np.testing.assert_array_equal(graph.nodes["c2"].fields["weight"], 0.5 * model.graph.nodes["c2"].fields["weight"])
    assert {k for k in graph.nodes if graph.nodes[k] != model.graph.nodes[k]} == {"c2"}
    sinabs = bs.from_nir(HOME / "paper/cnn_sinabs.nir", nir.SINABS.at(1000.0))
    assert bs.to_nir(sinabs) == sinabs.graph
