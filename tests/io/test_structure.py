"""`save` and `load` compare classes and static fields, not arrays alone."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.io import FileError
from tests.nets import same


class Twice(bs.AbstractUnit):
    tau_m: float = 20.0

    def init(self, n, clock):
        return {"v": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        return {"v": (2 * inp - y["v"]) / self.tau_m}

    def guard(self, y, z):
        return y["v"] - 1.0

    def reset(self, y, z, s, inp, clock):
        return {"v": y["v"] * (1 - s)}, z


class Once(bs.AbstractUnit):
    tau_m: float = 20.0
    init, guard, reset = Twice.init, Twice.guard, Twice.reset

    def vector_field(self, y, z, inp):
        return {"v": (inp - y["v"]) / self.tau_m}


def network(unit=None, n=3, key=0, edge=None, **population):
    cells = bs.Population(unit or bs.AdaptiveLIF(), n, {"in": bs.Delta()}, i_e=1.5, **population)
    rule = edge or bs.FixedInDegree(2)
    edges = {"PP": bs.Projection("P", "P.in", rule, weight=0.1, delay=bs.Uniform(1.0, 3.0))}
    return bs.Network({"P": cells}, edges, key=jax.random.key(key))


@pytest.mark.core
@pytest.mark.parametrize(
    "saved, like, message",
    [
        (network(Twice()), network(Once()), r"nodes\['P'\].unit = Twice, not Once"),
        (
            network(bs.AdaptiveLIF(reset_by_subtraction=True)),
            network(bs.AdaptiveLIF(reset_by_subtraction=False)),
            r"nodes\['P'\].unit.reset_by_subtraction = True, not False",
        ),
        (
            network(surrogate=bs.Triangular(2.0)),
            network(surrogate=bs.Rectangular(2.0)),
            r"nodes\['P'\].surrogate = Triangular, not Rectangular",
        ),
        (network(detach_reset=True), network(detach_reset=False), r"nodes\['P'\].detach_reset = True, not False"),
        (network(), network(key=1), r"edges\['PP'\].max_delay = 2"),
        (network(noise=bs.WhiteNoise({"v": 0.1})), network(), r"nodes\['P'\].noise = WhiteNoise, not None"),
        (network(n=3), network(n=4), r"nodes\['P'\].size = 3, not 4"),
        (network(edge=bs.AllToAll()), network(), r"edges\['PP'\].connect = "),
    ],
)
def test_the_first_difference_is_named(tmp_path, saved, like, message):
    bs.save(tmp_path / "net.npz", saved)
    with pytest.raises(ValueError, match=rf"net\.npz holds a network with {message}"):
        bs.load(tmp_path / "net.npz", like)
    assert same(bs.load(tmp_path / "net.npz", saved)[0], saved)


def test_what_is_no_network_is_not_saved(tmp_path):
    sol = bs.simulate(network(), t1=1.0, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"net is a Solution; expected save\(path, net, state\)"):
        bs.save(tmp_path / "net.npz", sol)
    with pytest.raises(TypeError, match="state is a Solution"):
        bs.save(tmp_path / "net.npz", network(), sol)
    assert not (tmp_path / "net.npz").exists()


def test_files_that_hold_no_network(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    bs.io.write_arrays(tmp_path / "arrays.npz", {"x": np.zeros(3)}, {})
    for name in ("other.npz", "arrays.npz"):
        with pytest.raises(FileError, match=name):
            bs.load(tmp_path / name, network())


def test_a_file_without_structure_is_compared_by_its_arrays(tmp_path):
    """As the first format had it."""
    bs.save(tmp_path / "net.npz", network(), note="old")
    arrays, info = bs.io.read_arrays(tmp_path / "net.npz", "")
    for name in ("structure", "format", "arrays"):
        info.pop(name)
    np.savez(tmp_path / "old.npz", **arrays, about=np.frombuffer(json.dumps(info).encode(), np.uint8))
    loaded, _, about = bs.load(tmp_path / "old.npz", network())
    assert same(loaded, network())
    assert about["note"] == "old"
