"""Words of nengo-loihi, brian2-loihi and Lava, recorded by them, from an image: every bit."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import BRIAN2_LOIHI, LAVA, LOIHI, NENGO_LOIHI, Cells, Image, Synapses
from brainsim.lower._arithmetic import decay

FOLDER = Path(__file__).parents[1] / "golden" / "chips"
INDEX = json.loads((FOLDER / "index.json").read_text())
CORE = ("nengo/2", "brian/6", "lava/0")


def _net(name):
    peer, number = name.split("/")
    with np.load(FOLDER / f"{peer}.npz") as file:
        return peer, {key.split("/")[1]: file[key] for key in file if key.split("/")[0] == number}


def _synapses(pre, weight, exponent, **how):
    source, target = np.nonzero(weight)
    how = {k: x[source, target] if np.ndim(x) else int(x) for k, x in how.items()}
    mantissa = weight[source, target]
    return Synapses(pre, "P", source, target, mantissa, exponent, mixed=len(set(np.sign(mantissa))) > 1, **how)


def _mantissas(words):
    """Mantissas and exponent of words as nengo-loihi keeps them."""
    m, e = words // 64, 0
    while np.abs(m).max(initial=0) > 254:
        m, e = m // 2, e + 1
    while 0 < np.abs(m).max(initial=0) <= 127:
        m, e = m * 2, e - 1
    assert np.array_equal(m * 2.0**e * 64, words)
    return m, e


def _image(peer, g):
    n = g["U"].shape[1]
    if peer == "nengo":
        limits = {"v_min": int(g["vmin"]), "v_max": int(g["vmax"])}
        cells = Cells(n, g["vth"] // 64, g["du"], g["dv"], g["bias"], g["ref"], **limits)
        weights = {"in": ("x", *_mantissas(g["W"]), {}), "rec": ("P", *_mantissas(g["R"]), {})}
        dialect, n_in = NENGO_LOIHI, g["W"].shape[0]
    elif peer == "brian":
        cells = Cells(n, int(g["threshold_v_mant"]), int(g["decay_I"]), int(g["decay_v"]), 0, int(g["refractory"]))
        weights = {"in": ("x", g["W"], int(g["we"]), {"delay": g["dl"]})}
        weights["rec"] = ("P", g["R"], int(g["wr"]), {"delay": g["dr"]})
        dialect, n_in = BRIAN2_LOIHI, g["W"].shape[0]
    else:
        bias = g["bias_mant"].astype(np.int64) << int(g["bias_exp"])
        cells = Cells(n, int(g["vth"]), int(g["du"]), int(g["dv"]), bias)
        weights = {"in": ("x", g["W"].T, int(g["we"]), {"bits": g["wb"], "delay": g["D"].T})}
        weights["rec"] = ("P", g["R"].T, int(g["wr"]), {})
        dialect, n_in = LAVA, g["W"].shape[1]
    synapses = {k: _synapses(pre, w, e, **how) for k, (pre, w, e, how) in weights.items() if np.any(w)}
    return Image.of(dialect, {"P": cells}, synapses, {"x": n_in}), n_in


@pytest.mark.parametrize("name", [pytest.param(k, marks=[pytest.mark.core] if k in CORE else []) for k in INDEX])
def test_words_of_an_emulator(name):
    peer, g = _net(name)
    image, n_in = _image(peer, g)
    x = np.unpackbits(g["x"], axis=1)[:, :n_in].astype(np.float64)
    lag = 1 if peer == "brian" else 0
    x = np.concatenate([x, np.zeros((lag, n_in))])
    sol = image.simulate(len(x), inputs={"x": x}, saveat=[bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")])
    u, v, s = (np.asarray(sol[f"P.{k}"])[lag:].astype(np.int64) for k in ("u", "v", "events"))
    assert np.sum(u[:40] != g["U"]) + np.sum(v[:40] != g["V"]) == 0
    packed = np.packbits(s.astype(np.uint8), axis=1)
    assert np.array_equal(packed, g["S"])
    want = INDEX[name]
    assert [zlib.crc32(a.astype("<i4").tobytes()) for a in (u, v)] == [want["crc_u"], want["crc_v"]]
    assert zlib.crc32(np.packbits(s.astype(np.uint8)).tobytes()) == want["crc_s"]
    assert np.abs(u).max() == want["max_u"]
    assert s.sum() == want["spikes"]
    if bs.backend() == "kernels":
        assert image.summary().steps == "one call"


@pytest.mark.core
def test_words_of_a_board():
    """The cell of NIR's first experiment on a Loihi board: tau_m = 2.5 ms, dt = 0.1 ms."""
    with np.load(FOLDER / "board.npz") as file:
        x, v, s = (file[k].astype(np.int64) for k in "xvs")
    cells = {"P": Cells(1, threshold=25, decay_u=4095, decay_v=163)}
    image = Image.of(LOIHI, cells, {"in": Synapses("x", "P", [0], [0], [10])}, {"x": 1})
    sol = image.simulate(len(x), inputs={"x": x[:, None]}, saveat=[bs.Trace("P.v"), bs.Events("P")])
    assert np.array_equal(np.asarray(sol["P.v"])[:, 0], v)
    assert np.array_equal(np.asarray(sol["P.events"])[:, 0], s)
    assert s.sum() == 4


def test_no_weight_of_brian2_loihi_is_rounded_otherwise():
    for name in ("brian/6", "brian/19"):
        peer, g = _net(name)
        image, _ = _image(peer, g)
        for k, array in (("in", "Wa"), ("rec", "Ra")):
            if k in image.tables.synapses:
                s = image.tables.synapses[k]
                assert np.array_equal(s.words(k, BRIAN2_LOIHI), g[array][s.sources, s.targets])


@pytest.mark.core
def test_decay_of_64_bit_integers():
    with np.load(FOLDER / "decay12.npz") as file:
        x, keep, out = file["x"], file["keep"], file["out"]
    assert np.array_equal(np.asarray(decay(np.float32(x), np.float32(keep))), out)
