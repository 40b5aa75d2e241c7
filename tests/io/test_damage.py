"""Stored runs with files that are damaged, foreign, missing or doubled: each is named, and the rest can be read."""

import builtins
import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import brainsim as bs
from brainsim.io import FileError
from tests.nets import same

pytestmark = pytest.mark.optimised
KEY = jax.random.key(1)
RUN = {"t1": 5.0, "chunk": 1.0, "key": KEY, "saveat": (bs.Spikes("P"), bs.Trace("P.v", every=2)), "progress": False}


def network():
    return bs.Network({"P": bs.Population(bs.LIF(), 4, i_e=900.0, init={"v": bs.Uniform(-60.0, -50.0)})})


def stream(path, **more):
    return bs.stream(network(), sink=bs.Directory(path), **(RUN | more))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    stream(path)
    return path


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture(scope="module")
def solution():
    return bs.simulate(network(), t1=5.0, key=KEY, saveat=RUN["saveat"])


def emptied(run):
    (run / "chunk-000002.npz").write_bytes(b"")


def cut(run):
    data = (run / "chunk-000002.npz").read_bytes()
    (run / "chunk-000002.npz").write_bytes(data[: len(data) // 2])


def missing(run):
    (run / "chunk-000002.npz").unlink()


def doubled(run):
    shutil.copy(run / "chunk-000001.npz", run / "chunk-000002.npz")


def foreign(run):
    stream(run.parent / "other", key=jax.random.key(2), t1=3.0)
    shutil.copy(run.parent / "other" / "chunk-000002.npz", run / "chunk-000002.npz")


def pickled(run):
    np.savez(run / "chunk-000002.npz", about=np.asarray([{}], object), allow_pickle=True)


FAULTS = [emptied, cut, missing, doubled, foreign, pickled]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_chunk_is_named_and_left_out(run, solution, fault):
    fault(run)
    with pytest.raises(FileError, match=r"chunk-000002\.npz .*strict=False") as e:
        bs.StoredRun(run).spikes("P")
    assert "pickle" not in str(e.value)
    with pytest.warns(UserWarning, match=r"chunk-000002\.npz .*left out"):
        rest = bs.StoredRun(run, strict=False)
    assert rest.gaps == [(pytest.approx(2.0), pytest.approx(3.0))]
    with pytest.raises(ValueError, match="gap from 2 to 3 ms"):
        bs.to_neo(rest)
    t, i = solution.spikes("P")
    kept = (t < 2.05) | (t > 3.05)
    assert 0 < kept.sum() < t.size
    assert np.array_equal(rest.spikes("P").t, t[kept])
    assert np.array_equal(rest.spikes("P").i, i[kept])
    times = solution.times("P.v")
    kept_samples = (times < 2.05) | (times > 3.05)
    assert np.array_equal(rest.times("P.v"), times[kept_samples])
    assert np.array_equal(rest["P.v"], solution["P.v"][kept_samples])
    assert rest.rates["P"] == pytest.approx(kept.sum() / 4 / 4e-3)


@pytest.mark.parametrize("fault", [emptied, missing, doubled])
def test_a_faulty_chunk_is_computed_again(run, solution, fault):
    fault(run)
    with pytest.warns(UserWarning, match=r"chunk-000002\.npz .*computed again"):
        stream(run, resume=True)
    assert np.array_equal(bs.StoredRun(run).spikes("P").t, solution.spikes("P").t)


def test_a_chunk_of_another_run_is_not_written_over(run):
    foreign(run)
    before = (run / "chunk-000002.npz").read_bytes()
    with pytest.raises(FileError, match=r"chunk-000002\.npz belongs to another run"):
        stream(run, resume=True)
    assert (run / "chunk-000002.npz").read_bytes() == before


def test_one_flipped_bit_of_a_value_is_seen_and_only_its_recording_is_left_out(run, solution):
    path = run / "chunk-000002.npz"
    data = bytearray(path.read_bytes())
    at = data.index(solution["P.v"][10:15].tobytes())
    data[at + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"chunk-000002\.npz is damaged"):
        bs.StoredRun(run)["P.v"]
    assert np.array_equal(bs.StoredRun(run).spikes("P").t, solution.spikes("P").t)
    rest = bs.StoredRun(run, strict=False)
    with pytest.warns(UserWarning, match=r"chunk-000002\.npz is damaged"):
        assert np.array_equal(rest["P.v"], np.delete(solution["P.v"], slice(10, 15), 0))
    with pytest.warns(UserWarning, match=r"chunk-000002\.npz is damaged"):
        assert np.array_equal(rest.times("P.v"), np.delete(solution.times("P.v"), slice(10, 15)))
    path.unlink()
    with pytest.warns(UserWarning, match="computed again"):
        stream(run, resume=True)
    assert np.array_equal(bs.StoredRun(run)["P.v"], solution["P.v"])


def test_counts_that_do_not_fit_their_spikes_ask_for_no_memory(run):
    path = run / "chunk-000002.npz"
    arrays, about = bs.io.read_arrays(path, "")
    arrays["P.spikes/counts"] = np.full_like(arrays["P.spikes/counts"], 2**31 - 1)
    bs.io.write_arrays(path, arrays, about)
    with pytest.raises(FileError, match=r"chunk-000002\.npz counts 21474836470 spikes"):
        bs.StoredRun(run).spikes("P")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run, solution, data):
    for name in ("state-000005.npz", "chunk-000004.npz"):
        (run / name).unlink()
    (run / "state-000004.npz").rename(run / "state-000003.npz")  # a copy of another one, as well
    with pytest.warns(UserWarning, match=r"state-000003\.npz is a copy of checkpoint 4"):
        stream(run, resume=True)
    (run / "state-000005.npz").write_bytes(data)
    seen = []

    def between(k, net, state):
        seen.append(k)
        return net

    with pytest.warns(UserWarning, match=r"state-000005\.npz is damaged"):
        assert same(stream(run, resume=True, between=between), solution.state)
    assert seen == [4]
    assert (run / "state-000005.npz").stat().st_size > 100


@pytest.mark.parametrize("data", [None, b"", b"{}", b"[1, 2]", b'{"dt": 0.1'])
def test_run_json_is_named_and_written_again(run, solution, data):
    info = run / "run.json"
    before = json.loads(info.read_text())
    info.unlink() if data is None else info.write_bytes(data)
    with pytest.raises(FileError, match=r"run\.json"):
        bs.StoredRun(run)
    with pytest.warns(UserWarning, match=r"run\.json"):
        assert np.array_equal(bs.StoredRun(run, strict=False).spikes("P").t, solution.spikes("P").t)
    with pytest.raises(FileExistsError):
        stream(run)
    with pytest.warns(UserWarning, match=r"run\.json"), pytest.raises(FileError, match="another run"):
        stream(run, resume=True, saveat=(bs.Spikes("P"),))
    with pytest.warns(UserWarning, match=r"run\.json.*written again"):
        stream(run, resume=True)
    assert json.loads(info.read_text()) == before


def test_an_edited_number_in_run_json_is_seen(run):
    info = run / "run.json"
    info.write_text(info.read_text().replace('"t1": 5.0', '"t1": 9.0'))
    with pytest.raises(FileError, match=r"run\.json is damaged: its checksum differs"):
        bs.StoredRun(run)


def test_a_run_json_of_another_program_is_not_written_over(tmp_path):
    (tmp_path / "run.json").write_text('{"mine": 1}')
    with pytest.raises(FileError, match=r"run\.json is damaged, or no file of brainsim"):
        stream(tmp_path)
    assert (tmp_path / "run.json").read_text() == '{"mine": 1}'


def test_a_stray_copy_is_named(run):
    shutil.copy(run / "chunk-000002.npz", run / "chunk-000002 (copy).npz")
    with pytest.raises(FileError, match=r"chunk-000002 \(copy\)\.npz is no file of a run"):
        bs.StoredRun(run)


def test_a_lost_last_chunk_is_seen(run):
    (run / "chunk-000004.npz").unlink()
    with pytest.raises(FileError, match=r"chunk-000004\.npz is missing"):
        bs.StoredRun(run)


def test_chunks_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("chunk-1000000.npz", "chunk-999999.npz", "chunk-000000.npz.1.partial", "chunk-7.npz"):
        (tmp_path / name).touch()
    assert list(bs.io._directory.numbered(tmp_path, "chunk")) == [999999, 1000000]


HOLDER = """
    import sys, brainsim as bs
    sink = bs.Directory(sys.argv[1])
    sink._take()
    print("taken", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_write_to_one_folder(run, solution):
    code = re.sub(r"(?m)^    ", "", HOLDER)
    root = Path(__file__).parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    with subprocess.Popen([sys.executable, "-c", code, str(run)], **pipes) as other:
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(BlockingIOError, match="another process writes its run here"):
            stream(run, resume=True)
        assert np.array_equal(bs.StoredRun(run).spikes("P").t, solution.spikes("P").t)  # reading takes no lock
        other.kill()
        other.wait()
    assert same(stream(run, resume=True), solution.state)


def test_the_lock_goes_with_a_run_that_fails(run):
    with pytest.raises(ValueError, match="beyond"):
        stream(run, resume=True, t1=1.0)
    fd = os.open(run / "lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_a_folder_system_without_locks_is_used_with_a_warning(run, monkeypatch):
    def flock(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked"):
        stream(run, resume=True)


def test_a_read_only_file_system_is_named(run, tmp_path, monkeypatch):
    """Everything that would change a file raises what the operating system does."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    opened, os_open = builtins.open, os.open
    monkeypatch.setattr(
        builtins, "open", lambda f, mode="r", *a, **k: refuse() if "w" in mode else opened(f, mode, *a, **k)
    )
    monkeypatch.setattr(os, "open", lambda f, how, *a, **k: refuse() if how & os.O_CREAT else os_open(f, how, *a, **k))
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="cannot write to this folder: Read-only file system") as e:
        stream(run, resume=True)
    assert e.value.errno == errno.EROFS
    with pytest.raises(OSError, match=r"could not write .*net\.npz: Read-only file system"):
        bs.save(tmp_path / "net.npz", network())
    assert bs.StoredRun(run)["P.v"].shape == (25, 4)


def test_a_run_of_the_first_format_is_read_and_not_gone_on_with(tmp_path, solution):
    """Files as brainsim 0.1 wrote them: no format, no names of arrays, no name of the run."""
    about = {"dt": 0.1, "chunk": 2.5, "t0": 0.0, "t1": 5.0, "key": [0, 1], "versions": {"brainsim": "0.1.0"}}
    (tmp_path / "run.json").write_text(json.dumps(about))
    counts = np.asarray(solution["P.spikes"].counts)
    for k in range(2):
        part = slice(25 * k, 25 * (k + 1))
        said = {"n0": 25 * k, "n_steps": 25, "dt": 0.1, "every": {"P.spikes": 1, "P.v": 1}, "sizes": {"P": 4}}
        ids = solution.spikes("P").i[counts[: 25 * k].sum() : counts[: 25 * (k + 1)].sum()]
        arrays = {
            "P.spikes/ids": ids,
            "P.spikes/counts": counts[part],
            "P.v": np.zeros((25, 4)),
            "n_events/P": ids.size,
        }
        np.savez(tmp_path / f"chunk-{k:06d}.npz", **arrays, about=np.frombuffer(json.dumps(said).encode(), np.uint8))
    run = bs.StoredRun(tmp_path)
    assert np.array_equal(run.spikes("P").t, solution.spikes("P").t)
    assert run["P.v"].shape == (50, 4)
    assert run.rates["P"] == pytest.approx(float(solution.rates["P"]))
    with pytest.raises(FileError, match=r"format 1, of brainsim 0\.1\.0.*StoredRun"):
        stream(tmp_path, resume=True)
    shutil.copy(tmp_path / "chunk-000000.npz", tmp_path / "chunk-000001.npz")
    with pytest.raises(FileError, match=r"chunk-000001\.npz begins at step 0, not at step 25"):
        bs.StoredRun(tmp_path)


def test_a_file_of_a_later_format_says_so(run):
    path = run / "chunk-000001.npz"
    arrays, about = bs.io.read_arrays(path, "")
    bs.io.write_arrays(path, arrays, about | {"format": 3})
    with pytest.raises(FileError, match="has format 3; this brainsim reads up to 2"):
        bs.StoredRun(run)


def mutations(data, rng):
    """`data` with one fault of a disk, a transfer or an editor."""
    data, n, at = bytearray(data), len(data), int(rng.integers(len(data)))
    length = int(rng.integers(1, min(n, 512)))
    match int(rng.integers(8)):
        case 0:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at] = int(rng.integers(256))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + length]
        case 4:
            data[at : at + length] = bytes(len(data[at : at + length]))
        case 5:
            data[at:at] = rng.bytes(length)
        case 6:
            data[at : at + length] = rng.bytes(len(data[at : at + length]))
        case 7:
            data[at:at] = data[at : at + length]
    return bytes(data)


def read_chunk(run):
    stored = bs.StoredRun(run)
    return [*stored.spikes("P"), stored["P.v"], stored.times("P.v"), np.asarray(stored.rates["P"])]


def read_run_json(run):
    return [np.frombuffer(json.dumps(bs.StoredRun(run).provenance).encode(), np.uint8)]


def read_state(run):
    return list(bs.io.read_arrays(run / "state-000005.npz", "")[0].values())


def read_net(run):
    return list(bs.io.read_arrays(run / "net-000000.npz", "")[0].values())


def read_saved(run):
    net, _, about = bs.load(run / "saved.npz", network())
    return [*jax.tree.leaves(net), np.frombuffer(json.dumps(about).encode(), np.uint8)]


FORMATS = {
    "run.json": read_run_json,
    "chunk-000002.npz": read_chunk,
    "state-000005.npz": read_state,
    "net-000000.npz": read_net,
    "saved.npz": read_saved,
}


@pytest.mark.parametrize("times", [100, pytest.param(10_000, marks=pytest.mark.slow, id="all")], ids=lambda n: str(n))
@pytest.mark.parametrize("name", FORMATS)
def test_mutations_are_named_or_change_nothing(run, name, times):
    bs.save(run / "saved.npz", network())
    read, path, rng = FORMATS[name], run / name, np.random.default_rng(times)
    data, right = path.read_bytes(), FORMATS[name](run)
    messages = []
    for _ in range(times):
        path.write_bytes(mutations(data, rng))
        try:
            values = read(run)
        except FileError as e:
            messages.append(str(e))
        else:
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(values, right, strict=True))
    assert len(messages) > times / 2
    assert all(name in message for message in messages)
