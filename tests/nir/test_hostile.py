"""Files that lie about themselves cost an error message."""

import random
import time

import numpy as np
import pytest

from brainsim import nir
from brainsim.nir import _reader

from .golden import HOME

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("name", ["memory_376", "memory2_705", pytest.param("hang_263", marks=pytest.mark.slow)])
def test_known_mutants(name):
    begin = time.monotonic()
    with pytest.raises(nir.NIRError):
        nir.read(HOME / f"hostile/{name}.nir")
    assert time.monotonic() - begin < 10.0


def mutants(n, seed):
    """Files with one to four bytes changed, or cut short."""
    rng = random.Random(seed)
    files = [p.read_bytes() for p in (HOME / "paper/lif_norse.nir", HOME / "paper/two_lif_neurons.nir")]
    for _ in range(n):
        data = bytearray(rng.choice(files))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)


def survive(tmp_path, n, seed):
    """Read `n` mutants; the longest time, and how many were refused."""
    longest, refused, path = 0.0, 0, tmp_path / "mutant.nir"
    for data in mutants(n, seed):
        path.write_bytes(data)
        begin = time.monotonic()
        try:
            graph = nir.read(path)
            nir.check(graph)
        except nir.NIRError:
            refused += 1
        longest = max(longest, time.monotonic() - begin)
    return longest, refused


def test_mutants_are_an_error_or_a_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(_reader, "_SECONDS", 2.0)
    longest, refused = survive(tmp_path, 200, seed=1)
    assert longest < 30.0
    assert 0 < refused < 200


@pytest.mark.slow
def test_many_mutants_are_an_error_or_a_graph(tmp_path):
    longest, refused = survive(tmp_path, 10_000, seed=2)
    assert longest < 10.0
    assert 0 < refused < 10_000


@pytest.mark.parametrize(
    "kind", ["external link", "soft link", "virtual", "external storage", "huge", "long text", "deep"]
)
def test_what_reaches_out_of_the_file_or_is_too_large_is_refused(kind, tmp_path):
    path, other = tmp_path / "bad.nir", tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(3)
    (tmp_path / "raw").write_bytes(np.ones(3).tobytes())
    with h5py.File(path, "w") as file:
        file["version"] = "1.0"
        node = file.create_group("node")
        node["type"] = "Linear"
        if kind == "external link":
            node["weight"] = h5py.ExternalLink("other.h5", "x")
        elif kind == "soft link":
            node["weight"] = h5py.SoftLink("/version")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
            node.create_virtual_dataset("weight", layout)
        elif kind == "external storage":
            node.create_dataset("weight", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
        elif kind == "huge":
            node.create_dataset("weight", (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")
        elif kind == "long text":
            node["weight"] = "x" * 100_000
        else:
            for _ in range(30):
                node = node.create_group("metadata")
    with pytest.raises(nir.NIRError, match=r"elsewhere|another file|numbers in the file|characters|deeper"):
        nir.read(path)
