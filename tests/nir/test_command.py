"""The command line shows a file and says what is wrong with it."""

import numpy as np
import pytest
from typer.testing import CliRunner

from brainsim.cli import app

from .golden import HOME

pytest.importorskip("h5py")


def test_show_and_check():
    shown = CliRunner().invoke(app, ["nir", "show", str(HOME / "paper/braille_noDelay_bias_zero.nir")])
    assert shown.exit_code == 0
    assert "lif1.w_rec" in shown.output
    assert "weight [38, 12]" in shown.output
    assert "fc1 -> lif1.lif" in shown.output
    fine = CliRunner().invoke(app, ["nir", "check", str(HOME / "paper/lif_norse.nir")])
    assert (fine.exit_code, fine.output) == (0, "")
    bad = CliRunner().invoke(app, ["nir", "check", str(HOME / "paper/lif_rockpool.nir")])
    assert bad.exit_code == 1
    assert "NIR-SHAPE" in bad.output
    none = CliRunner().invoke(app, ["nir", "show", "no.nir"])
    assert none.exit_code == 1


def test_run(tmp_path):
    data = np.load(HOME / "vectors/norse.npz")
    np.savez(tmp_path / "in.npz", events=data["rec_cuba/input"])

    def run(*more):
        file = str(HOME / "vectors/norse_rec_cuba.nir")
        return CliRunner().invoke(app, ["nir", "run", file, "--input", str(tmp_path / "in.npz"), "--dt", "0.1", *more])

    out = tmp_path / "out.npz"
    done = run("--dialect", "norse", "--record", "n1.lif", "--out", str(out))
    assert done.exit_code == 0
    wanted = data["rec_cuba/n1.lif"]
    assert f"{wanted.sum():g}" in done.output
    np.testing.assert_array_equal(np.load(out)["n1.lif"], wanted)
    assert run("--dialect", "norsk").exit_code == 1
    assert run("--dialect", "norse", "--record", "n9").exit_code == 1
