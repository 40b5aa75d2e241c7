"""A network on several targets, the words of SpiNNaker 2, and the command line."""

from pathlib import Path

import diffrax
import equinox as eqx
import numpy as np
import pytest
from typer.testing import CliRunner

import brainsim as bs
from brainsim.cli import app
from brainsim.lower import (
    IDEAL,
    LOIHI1,
    SPINNAKER2,
    TARGETS,
    Lowered,
    LoweringError,
    canonical,
    float_image,
    lower,
    of_nir,
    place,
    run_of,
    tuned,
)

from .nets import events

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "golden" / "chips" / "spinnaker2_braille.npz"
STEPS = 60
MODEL = """
import brainsim as bs, diffrax
unit = bs.CubaLIF(tau_syn=4.0, tau_m=10.0, t_ref={t_ref})
net = bs.Network(
    {{"x": bs.Source(bs.External(), 12), "P": bs.Population(unit, 30, {{"i": bs.Delta("i")}}, i_e=0.6)}},
    {{
        "in": bs.Projection("x", "P", bs.AllToAll(), weight=0.3),
        "rec": bs.Projection("P", "P", bs.AllToAll(), weight=-0.02),
    }},
)
dt, solver = 1.0, diffrax.Euler()
"""


def model(t_ref=0.0):
    space: dict = {}
    exec(MODEL.format(t_ref=t_ref), space)
    return space["net"]


def test_spikes_of_spinnaker_2_are_those_recorded():
    """Eight recordings of the Braille network, 38 cells, 256 steps: words of 8 bits, and every bit of the rasters."""
    pytest.importorskip("h5py")
    from experiments.braille_bits.model import DT, network, recordings

    with np.load(FILE) as z:
        golden = {k: z[k] for k in z}
    x = recordings()[0][golden["recordings"]]
    chip = float_image(network(), dt=DT, solver=diffrax.Euler())
    assert np.array_equal(chip.weights["in"].reshape(12, 38).T, golden["weight_int8"])
    assert np.array_equal(chip.weights["rec"].reshape(38, 38).T, golden["recurrent_int8"])
    want = np.unpackbits(golden["hidden"], axis=2)[:, :, :38]
    got = np.stack([chip.simulate(256, inputs={"x": one[:256]})["H"] for one in x])
    assert want.sum() > 600
    assert np.sum(got != want) == 0


def test_scales_by_output_and_places_near_each_other_are_those_of_tuned_and_place():
    net, x = model(), {"x": events(0, STEPS, 12)}
    how: dict = dict(dt=1.0, solver=diffrax.Euler())
    outcome = lower(net, LOIHI1, inputs=x, bits=3, by_output=True, near=True, **how)
    wanted = run_of(net, inputs=x, **how)
    by_output = tuned(net, wanted | x, bits=3, dialect=LOIHI1.dialect, **how)
    assert isinstance(outcome.lowered, Lowered)
    np.testing.assert_array_equal(outcome.lowered.scales.volt["P"], by_output.scales.volt["P"])
    rates = {"P": wanted["P"].mean(0), "constant": np.ones(1)}
    layout = place(by_output.image.tables, LOIHI1, rates={k: v for k, v in rates.items() if k in outcome.layout.core})
    for name, core in layout.core.items():
        np.testing.assert_array_equal(outcome.layout.core[name], core)


def test_an_ideal_target_grows_to_float():
    """At 24 bits the spikes are those of the network; every bit less makes weights twice as coarse."""
    net, x = model(t_ref=2.0), {"x": events(0, STEPS, 12)}
    net = eqx.tree_at(lambda net: net.edges["in"].weight, net, np.random.default_rng(0).normal(0.3, 0.1, (12, 30)))
    how: dict = dict(dt=1.0, solver=diffrax.Euler(), inputs=x)
    errors = [lower(net, IDEAL, bits=bits, **how).errors["in"] for bits in (4, 6, 8, 12)]
    assert np.all(np.abs(np.log2(np.array(errors[:-1]) / errors[1:]) / [2, 2, 4] - 1) < 0.2)
    whole = lower(net, IDEAL, **how)
    assert whole.fidelity["P"].float_spikes > 30
    assert whole.fidelity["P"].coincidence == 1.0
    assert "energy: not published" in str(whole)
    assert lower(net, IDEAL, bits=4, per_neuron=True, **how).errors["in"] < errors[0]
    for target, bits, rule in ((IDEAL, 25, "IDEAL-BITS"), (SPINNAKER2, 9, "S2-BITS")):
        assert lower(net, target, bits=bits, **how).refused[1].rule == rule


def test_all_targets_take_a_network():
    net, x = model(), {"x": events(0, STEPS, 12)}
    for target in TARGETS.values():
        outcome = lower(net, target, dt=1.0, solver=diffrax.Euler(), inputs=x)
        assert outcome.refused is None
        wanted = run_of(net, dt=1.0, solver=diffrax.Euler(), inputs=x)["P"]
        found = outcome.fidelity["P"]
        assert found.float_spikes == wanted.sum() > 30
        assert found.both == np.sum((wanted > 0) & (outcome.events["P"] > 0))
        assert found.coincidence > 0.5
        if found.first is not None:
            step, cell = found.first
            assert wanted[step, cell] != outcome.events["P"][step, cell]
            assert np.array_equal(wanted[:step], outcome.events["P"][:step])
        books = outcome.ledger
        assert books.packets == books.traffic.sum()
        fan = {"x": 30, "P": 30}
        synaptic = sum(n * int(e.sum()) for n, e in ((fan["x"], x["x"]), (fan["P"], outcome.events["P"])))
        constant = 2 * 30 * STEPS if target.dialect else 0  # two synapses a cell, in every step
        assert books.synaptic_events.sum() == synaptic + constant
        assert set(outcome.errors) == {"in", "rec"}
        assert max(outcome.errors.values()) < 0.06  # SpiNNaker 2: 8 of 8.47, as "in" sets the scale
        assert target.name in str(outcome)
        assert set(outcome.latency()) == set(target.latency)
        for low, high, _ in outcome.latency().values():
            assert 0 < low < high


def test_what_a_target_refuses_stands_in_the_outcome():
    net, x = model(t_ref=2.0), {"x": events(0, STEPS, 12)}
    assert lower(net, LOIHI1, dt=1.0, inputs=x).refused is None
    outcome = lower(net, SPINNAKER2, dt=1.0, inputs=x)
    assert outcome.refused[0] == "discretise"
    assert outcome.refused[1].rule == "S2-REFRACTORY"
    assert "refused in discretise: [S2-REFRACTORY] P" in str(outcome)
    with pytest.raises(ValueError, match=r"nothing for \['x'\]"):
        lower(net, LOIHI1, dt=1.0, inputs={})
    wide = bs.Network(
        {"x": bs.Source(bs.External(), 40_000), "P": bs.Population(bs.CubaLIF(), 1, {"i": bs.Delta("i")})},
        {"in": bs.Projection("x", "P", bs.AllToAll(), weight=0.1)},
    )
    with pytest.raises(LoweringError, match=r"\[S2-SRAM\] P\[0\]: 160024 bytes"):
        float_image(wide, dt=1.0)


def test_a_nir_file_is_a_network():
    """The Braille network by its file, and as the experiment builds it: the same numbers."""
    pytest.importorskip("h5py")
    from experiments.braille_bits.model import DT, TRAINED, network

    solver, path = diffrax.Euler(), TRAINED
    got, want = (canonical(net, dt=DT, solver=solver) for net in (of_nir(path, dt=DT), network()))
    names = {"input": "x", "lif1_lif": "H", "lif2": "O"}
    assert got.lags == {"input": 0, "lif1_lif": 1, "lif2": 2}
    for name, own in names.items():
        if own != "x":
            for field in ("keep_i", "keep_v", "gain", "drive", "bias", "v_th"):
                np.testing.assert_allclose(
                    getattr(got.groups[name], field), getattr(want.groups[own], field), rtol=1e-6
                )
    for name, own in {"fc1": "in", "lif1_w_rec": "rec", "fc2": "out"}.items():
        a, b = got.connections[name], want.connections[own]
        assert names[a.pre] == b.pre
        assert names[a.post] == b.post
        np.testing.assert_allclose(a.weight, b.weight, rtol=1e-6)
        assert not np.any(a.delay)
    found = CliRunner().invoke(app, ["lower", str(path), "--target", "loihi1", "--dt", "0.1", "--steps", "30"])
    assert found.exit_code == 0, found.output
    assert "cores of loihi1" in found.output
    assert "expected --dt" in CliRunner().invoke(app, ["lower", str(path)]).output
    graph = bs.nir.Graph({"input": bs.nir.Node("Input", {"shape": np.array([2])}), "c": bs.nir.Node("Conv2d", {})}, [])
    with pytest.raises(LoweringError, match=r"\[NIR-NODE\] c: Conv2d"):
        of_nir(graph, dt=0.1)


def test_the_command_line_writes_a_report(tmp_path):
    pytest.importorskip("matplotlib")
    path, out = tmp_path / "net.py", tmp_path / "report.html"
    path.write_text(MODEL.format(t_ref=2.0))
    several = [x for name in ("loihi1", "spinnaker2", "ideal") for x in ("--target", name)]
    command = ["lower", str(path), *several, "--steps", "40", "--chips", "2", "-o", str(out)]
    got = CliRunner().invoke(app, command)
    assert got.exit_code == 1  # one of the targets refuses it
    assert "cores of loihi1" in got.output
    assert "[S2-REFRACTORY] P" in got.output
    page = out.read_text()
    for text in (
        "net.py: from a network to a chip",
        "tightest resource",
        "S2-REFRACTORY",
        "Chip beside float",
        "sana-fe",
    ):
        assert text in page
    for arguments, message in (
        (["lower", str(path), "--target", "loihi3"], "target 'loihi3' does not exist"),
        (["lower", str(tmp_path / "no.py")], "is no file"),
    ):
        got = CliRunner().invoke(app, arguments)
        assert got.exit_code == 1
        assert message in got.output
