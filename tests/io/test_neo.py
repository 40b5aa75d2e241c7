"""Export to Neo: nothing is lost, and what cannot be exported says so."""

import dataclasses
import sys

import jax
import neo
import numpy as np
import pytest
import quantities as pq

import brainsim as bs
from brainsim import io
from tests.nets import balanced

KEY = jax.random.key(0)
SAVEAT = (bs.Spikes("P"), bs.Trace("P.v", every=10), bs.Trace("P.exc.g", units=(3, 1)), bs.Rate("P"))
RUN = {"t1": 60.0, "dt": 0.1, "key": KEY, "saveat": SAVEAT}


@pytest.fixture(scope="module")
def net():
    return balanced(40)


@pytest.fixture(scope="module")
def sol(net):
    return bs.simulate(net, **RUN)


@pytest.fixture(scope="module")
def stored(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("neo") / "run"
    bs.stream(net, chunk=20.0, sink=bs.Directory(path), progress=False, **RUN)
    return bs.StoredRun(path)


@pytest.fixture(params=["solution", "stored"])
def run(request, sol, stored):
    return {"solution": sol, "stored": stored}[request.param]


def test_spikes_come_back_with_their_units(run, sol):
    trains = io.to_neo(run).segments[0].spiketrains
    t = np.concatenate([train.rescale("ms").magnitude for train in trains])
    i = np.concatenate([np.full(len(train), train.annotations["unit"]) for train in trains])
    order = np.lexsort((i, np.rint(t / 0.1)))
    expected = sol.spikes("P")
    assert len(expected.t) > 20
    np.testing.assert_array_equal(t[order], expected.t)
    np.testing.assert_array_equal(i[order], expected.i)
    assert len(trains) == 40
    assert {train.annotations["population"] for train in trains} == {"P"}
    assert all(train.t_start == 0.0 * pq.ms and train.t_stop.magnitude == 600 * 0.1 for train in trains)


def test_traces_come_back_with_units_and_times(run, sol):
    segment = io.to_neo(run, traces=["P.v", "P.exc.g"]).segments[0]
    v, g = segment.analogsignals
    for signal, key in ((v, "P.v"), (g, "P.exc.g")):
        np.testing.assert_array_equal(signal.magnitude, sol[key])
        np.testing.assert_allclose(signal.times.rescale("ms").magnitude, sol.times(key), rtol=1e-9)
        assert signal.name == key
    assert v.units == pq.mV
    assert g.units == pq.nS
    assert v.sampling_period == pytest.approx(1.0 * pq.ms)
    np.testing.assert_array_equal(v.array_annotations["unit"], np.arange(40))
    np.testing.assert_array_equal(g.array_annotations["unit"], [3, 1])
    assert list(g.array_annotations["population"]) == ["P", "P"]


def test_a_part_is_chosen_by_name_and_found_by_annotation(sol):
    block = io.to_neo(sol, nodes=["P"], traces=[], name="mine")
    assert block.name == "mine"
    assert not block.segments[0].analogsignals
    assert len(block.segments[0].filter(population="P", objects=neo.SpikeTrain)) == 40
    (train,) = block.segments[0].filter(name="P[7]")
    t, i = sol.spikes("P")
    np.testing.assert_array_equal(train.magnitude, t[i == 7])
    assert not io.to_neo(sol, nodes=[]).segments[0].spiketrains


def test_dense_events_are_spikes_too_and_a_later_run_starts_later(net, sol):
    saveat = [bs.Spikes("P"), bs.Events("P"), bs.Trace("P.refractory", every=5)]
    later = bs.simulate(net, t1=70.0, dt=0.1, state=sol.state, saveat=saveat)
    dense = dataclasses.replace(later, origins={"P.events": later.origins["P.events"]})
    a, b = (io.to_neo(x).segments[0] for x in (later, dense))
    assert sum(map(len, a.spiketrains)) == int(later.n_events["P"]) > 0
    for one, other in zip(a.spiketrains, b.spiketrains, strict=True):
        np.testing.assert_allclose(one.magnitude, other.magnitude)
        assert one.t_start == 60.0 * pq.ms
    assert a.analogsignals[0].units == pq.dimensionless
    assert float(a.analogsignals[0].t_start) == pytest.approx(60.5)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"nodes": ["Q"]}, "'Q' does not exist. Known: 'P'"),
        ({"traces": ["P.w"]}, "'P.w' does not exist. Did you mean 'P.v'"),
    ],
)
def test_what_was_not_recorded_is_refused(sol, asked, message):
    with pytest.raises(ValueError, match=message):
        io.to_neo(sol, **asked)


def test_wrong_kinds_are_refused(sol):
    with pytest.raises(TypeError, match=r"\['P'\]"):
        io.to_neo(sol, nodes="P")
    with pytest.raises(TypeError, match="a recording knows its units"):
        io.to_neo(sol, traces={"P.exc.g": (3, 1)})
    with pytest.raises(TypeError, match="int; expected"):
        io.to_neo(3)
    batch = jax.tree.map(lambda x: jax.numpy.stack([x, x]) if x.dtype == "int32" else x, sol)
    with pytest.raises(ValueError, match="one run of the batch"):
        io.to_neo(batch)


def test_an_empty_folder_says_so(stored, tmp_path):
    (tmp_path / "run.json").write_text((stored.path / "run.json").read_text())
    with pytest.raises(ValueError, match="no complete chunk"):
        io.to_neo(bs.StoredRun(tmp_path))


def test_without_neo_the_extra_is_named(sol, monkeypatch):
    monkeypatch.setitem(sys.modules, "neo", None)
    with pytest.raises(ImportError, match=r"brainsim\[neo\]"):
        io.to_neo(sol)
