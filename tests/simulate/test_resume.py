"""What a stored run is resumed with: the same arguments, or a refusal that names the first that differs."""

import json

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import same

pytestmark = pytest.mark.optimised
KEY = jax.random.key(1)
RUN = {"t1": 5.0, "dt": 0.1, "chunk": 2.0, "key": KEY, "saveat": (bs.Spikes("P"), bs.Trace("P.v")), "progress": False}


def network(i_e=300.0, n=4, unit=None):
    return bs.Network({"P": bs.Population(unit or bs.LIF(), n, i_e=i_e, init={"v": bs.Uniform(-60.0, -50.0)})})


def stream(path, net=None, **more):
    return bs.stream(net or network(), sink=bs.Directory(path), **(RUN | more))


def drop(path, *names):
    for name in names:
        (path / name).unlink()


@pytest.mark.core
def test_other_parameters_are_refused_or_taken_over(tmp_path):
    stream(tmp_path, t1=4.0)
    with pytest.raises(ValueError, match=r"other values of nodes\['P'\]\.i_e.*resume='stored'.*resume='given'"):
        stream(tmp_path, network(500.0), resume=True)
    stored = stream(tmp_path, network(500.0), resume="stored")
    assert same(stored, bs.simulate(network(), t1=5.0, key=KEY).state)
    with pytest.raises(ValueError, match=r"chunk 2 on, state-000003\.npz would be lost"):
        stream(tmp_path, network(500.0), t1=5.5, resume="given")


def test_parameters_taken_over_are_those_of_the_run_from_then_on(tmp_path):
    half = stream(tmp_path, t1=4.0)
    given = stream(tmp_path, network(500.0), resume="given")
    assert same(given, bs.simulate(network(500.0), t1=5.0, state=half).state)
    with pytest.raises(ValueError, match="other values"):
        stream(tmp_path, t1=6.0, resume=True)
    longer = stream(tmp_path, network(500.0), t1=6.0, resume=True)
    assert same(longer, bs.simulate(network(500.0), t1=6.0, state=half).state)
    drop(tmp_path, "chunk-000001.npz")
    with (
        pytest.warns(UserWarning, match="computed again"),
        pytest.raises(bs.io.FileError, match="other parameters since chunk 2"),
    ):
        stream(tmp_path, network(500.0), t1=6.0, resume=True)


def test_a_number_put_in_by_tree_at_is_a_parameter_too(tmp_path):
    stream(tmp_path, t1=4.0)
    louder = eqx.tree_at(lambda net: net.nodes["P"].i_e, network(), 500.0)
    with pytest.raises(ValueError, match=r"other values of nodes\['P'\]\.i_e"):
        stream(tmp_path, louder, resume=True)
    bs.save(tmp_path / "net", louder)
    assert bs.load(tmp_path / "net", network())[0].nodes["P"].i_e == 500.0


@pytest.mark.parametrize(
    "other, message",
    [
        ({"solver": diffrax.Euler()}, r"solver: \['P'\] = Propagator, not Euler"),
        ({"saveat": (bs.Spikes("P"),)}, r"saveat: \['P.v'\] = Trace, not nothing"),
        ({"saveat": (bs.Spikes("P"), bs.Trace("P.v", units=[0]))}, r"saveat: \['P.v'\].units"),
        ({"inputs": {"P": 10.0}}, r"inputs: \['P'\] = nothing, not float"),
        ({"net": network(unit=bs.AdEx())}, r"net: nodes\['P'\].unit = LIF, not AdEx"),
        ({"net": network(n=5)}, r"net: nodes\['P'\].size = 4, not 5"),
        ({"key": jax.random.key(2)}, "key ="),
        ({"t1": 3.0}, "to 4 ms already, beyond t1 = 3 ms"),
    ],
)
def test_other_arguments_are_refused(tmp_path_factory, other, message):
    path = tmp_path_factory.getbasetemp() / "begun"
    if not path.exists():
        stream(path, t1=4.0)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ValueError, match=message):
        stream(path, **{"resume": True} | other)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_room_for_spikes_may_grow(tmp_path):
    stream(tmp_path, t1=4.0)
    stream(tmp_path, resume=True, saveat=(bs.Spikes("P", max_rate=500.0), bs.Trace("P.v")))
    assert bs.StoredRun(tmp_path)["P.v"].shape == (50, 4)


def test_a_short_last_chunk_is_made_whole_when_the_run_is_longer(tmp_path):
    """Rows of inputs, chunks and what `between` is called with are those of the longer run in one piece."""
    rows = np.linspace(0.0, 400.0, 320, dtype=np.float32).reshape(80, 4)
    calls = []

    def between(k, net, state):
        calls.append((k, int(state.n)))
        return eqx.tree_at(lambda m: m.nodes["P"].i_e, net, net.nodes["P"].i_e + jnp.asarray(5.0, rows.dtype))

    more = {"between": between, "inputs": {"P": rows}}
    stream(tmp_path / "a", t1=8.0, **more)
    once, calls[:] = calls[:], []
    stream(tmp_path / "b", t1=5.0, between=between, inputs={"P": rows[:50]})
    with pytest.raises(ValueError, match=r"inputs: .*'P', steps 20 to 40"):
        stream(tmp_path / "b", t1=8.0, resume=True, between=between, inputs={"P": rows * (np.arange(80) < 30)[:, None]})
    calls.pop()
    stream(tmp_path / "b", t1=8.0, resume=True, **more)
    assert calls == once
    a, b = bs.StoredRun(tmp_path / "a"), bs.StoredRun(tmp_path / "b")
    assert np.array_equal(a["P.v"], b["P.v"])
    assert json.loads((tmp_path / "b" / "run.json").read_text())["t1"] == 8.0


def test_a_waveform_with_a_state_goes_on(tmp_path):
    noise = {"inputs": {"P": bs.OUCurrent(mean=200.0, sigma=50.0, tau=5.0)}}
    stream(tmp_path, t1=4.0, **noise)
    state = stream(tmp_path, resume=True, **noise)
    whole = bs.simulate(network(), t1=5.0, key=KEY, **noise).state
    assert same(state, whole)
    bs.save(tmp_path / "net", network(), whole)
    with pytest.raises(ValueError, match=r"inputs\['P'\].*inputs="):
        bs.load(tmp_path / "net", network())
    assert same(bs.load(tmp_path / "net", network(), **noise)[1], whole)


def test_recordings_that_do_not_fit_the_last_chunk_fail_before_the_first(tmp_path):
    saveat = [bs.Trace("P.v", every=20)]
    with pytest.raises(ValueError, match=r"last chunk has 10 steps.* every = 20 of 'P.v'"):
        stream(tmp_path / "run", saveat=saveat)
    assert not (tmp_path / "run").exists()
    stream(tmp_path / "run", saveat=saveat, t1=6.0)


def test_a_run_that_failed_in_its_first_chunk_opens_and_begins_again(tmp_path):
    class Failing(bs.Directory):
        def write(self, k, solution, net):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bs.stream(network(), sink=Failing(tmp_path), **RUN)
    run = bs.StoredRun(tmp_path)
    assert (run.n_steps, run.sizes, run.rates, run.chunks) == (0, {}, {}, [])
    assert "0 chunks" in repr(run)
    for read in (lambda: run.spikes("P"), lambda: run.times("P.v"), lambda: run["P.v"]):
        with pytest.raises(ValueError, match="no complete chunk"):
            read()
    stream(tmp_path, network(400.0), saveat=[bs.Trace("P.v")])
    assert bs.StoredRun(tmp_path)["P.v"].shape == (50, 4)


def test_resume_takes_four_values(tmp_path):
    with pytest.raises(ValueError, match="resume is 'always'; expected False, True, 'stored' or 'given'"):
        stream(tmp_path, resume="always")
