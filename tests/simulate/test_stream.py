"""Long runs on disk: equal to the whole run, resumable after any death, readable after any error."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import balanced, same

pytestmark = pytest.mark.optimised
KEY = jax.random.key(1)
SAVEAT = (bs.Spikes("P"), bs.Trace("P.v", every=10), bs.Rate("P"))
RUN = {"t1": 240.0, "dt": 0.1, "key": KEY, "saveat": SAVEAT}


@pytest.fixture(scope="module")
def net():
    return balanced(50, noise=0.5)


@pytest.fixture(scope="module")
def whole(net):
    return bs.simulate(net, **RUN)


def stream(net, path, **more):
    return bs.stream(net, chunk=50.0, sink=bs.Directory(path), progress=False, **RUN, **more)


def check(path, state, whole):
    run = bs.StoredRun(path)
    assert same(state, whole.state)
    assert np.array_equal(run["P.v"], whole["P.v"])
    assert np.array_equal(run["P.rate"], whole["P.rate"])
    assert np.array_equal(run.times("P.v"), whole.times("P.v"))
    assert all(np.array_equal(a, b) for a, b in zip(run.spikes("P"), whole.spikes("P"), strict=True))
    assert run.rates["P"] == pytest.approx(float(whole.rates["P"]), rel=1e-6)


@pytest.mark.core
def test_stream_equals_simulate_with_a_short_last_chunk(net, whole, tmp_path):
    check(tmp_path, stream(net, tmp_path), whole)


@pytest.mark.parametrize(
    "lost", [("state-000005.npz", "chunk-000004.npz"), ("state-000005.npz",), ("chunk-000002.npz",)]
)
def test_resume_after_files_were_lost(net, whole, tmp_path, lost):
    stream(net, tmp_path)
    for name in lost:
        (tmp_path / name).unlink()
    (tmp_path / "chunk-000003.npz.partial").write_bytes(b"half a chunk")
    check(tmp_path, stream(net, tmp_path, resume=True), whole)


WORKER = """
    import sys, jax, brainsim as bs
    from tests.nets import balanced
    from tests.simulate.test_stream import RUN
    class Slow(bs.Directory):
        def write(self, k, solution, net):
            super().write(k, solution, net)
            print("written", k, flush=True)
    bs.stream(balanced(50, noise=0.5), chunk=50.0, sink=Slow(sys.argv[1]), progress=False, resume=True, **RUN)
"""


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_resume_after_sigkill(net, whole, tmp_path, pause):
    """Killed right after a chunk was written, and a moment into the next one."""
    code = textwrap.dedent(WORKER)
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("written")
    time.sleep(pause)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "chunk-000004.npz").exists()
    check(tmp_path, stream(net, tmp_path, resume=True), whole)


def test_parameters_change_between_chunks_and_survive_a_resume(net, whole, tmp_path):
    def louder(k, net, state):
        return eqx.tree_at(lambda m: m.nodes["P"].i_e, net, net.nodes["P"].i_e + 20.0)

    once = stream(net, tmp_path / "a", between=louder)
    stream(net, tmp_path / "b", between=louder)
    for name in ("chunk-000004.npz", "state-000005.npz"):
        (tmp_path / "b" / name).unlink()
    again = stream(net, tmp_path / "b", between=louder, resume=True)
    assert same(once, again)
    a, b = bs.StoredRun(tmp_path / "a"), bs.StoredRun(tmp_path / "b")
    assert np.array_equal(a["P.v"], b["P.v"])
    assert np.array_equal(a["P.v"][:50], whole["P.v"][:50])
    assert np.mean(a["P.v"][50:]) > np.mean(whole["P.v"][50:])
    assert not np.array_equal(a["P.v"][50:100], whole["P.v"][50:100])


def test_a_folder_with_a_run_is_not_overwritten(net, tmp_path):
    stream(net, tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        stream(net, tmp_path)
    with pytest.raises(ValueError, match="chunk = 50"):
        bs.stream(net, chunk=60.0, sink=bs.Directory(tmp_path), progress=False, resume=True, **RUN)


def test_a_sink_that_cannot_be_written(net, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot make this folder"):
        stream(net, tmp_path / "file" / "run")


def test_disk_full_in_the_middle_keeps_what_was_written(net, whole, tmp_path):
    """A file-size limit makes the operating system refuse the third chunk, as a full disk would."""

    class Filling(bs.Directory):
        def write(self, k, solution, net):
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            try:
                if k == 2:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
                super().write(k, solution, net)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with pytest.raises(OSError, match="Everything written before is complete"):
        bs.stream(net, chunk=50.0, sink=Filling(tmp_path), progress=False, **RUN)
    run = bs.StoredRun(tmp_path)
    assert np.array_equal(run["P.v"], whole["P.v"][:100])
    assert not list(tmp_path.glob("*.partial"))
    check(tmp_path, stream(net, tmp_path, resume=True), whole)


def test_memory_does_not_grow_with_chunks(net, tmp_path):
    """20 more chunks leave no array behind."""

    seen = []

    class Counting(bs.Directory):
        def write(self, k, solution, net):
            super().write(k, solution, net)
            seen.append(sum(x.nbytes for x in jax.live_arrays() if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)))

    bs.stream(net, t1=250.0, dt=0.1, chunk=10.0, sink=Counting(tmp_path), key=KEY, saveat=SAVEAT, progress=False)
    assert seen[-1] <= seen[4]


@pytest.mark.core
def test_save_and_load(net, whole, tmp_path):
    bs.save(tmp_path / "net.npz", net, whole.state, note="after 240 ms")
    loaded, state, about = bs.load(tmp_path / "net.npz", balanced(50, noise=0.5, key=0))
    assert same(loaded, net)
    assert same(state, whole.state)
    assert (about["dt"], about["n"], about["note"]) == (0.1, 2400, "after 240 ms")
    assert about["versions"]["jax"] == jax.__version__
    on = bs.simulate(loaded, t1=250.0, dt=0.1, state=state)
    assert same(on.state, bs.simulate(net, t1=250.0, dt=0.1, state=whole.state).state)
    with pytest.raises(ValueError, match="size = 50, not 60"):
        bs.load(tmp_path / "net.npz", balanced(60))


def test_environment_is_kept_with_the_run(net, tmp_path):
    stream(net, tmp_path)
    about = bs.StoredRun(tmp_path).provenance
    assert about["dt"] == 0.1
    assert about["kernels"] == bs.backend()
    assert about["versions"]["jaxlib"]
    assert os.path.getsize(tmp_path / "run.json") < 10_000
