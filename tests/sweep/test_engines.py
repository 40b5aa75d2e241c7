"""Engines that give a sweep its workers: dask and submitit. Both only need `submit`."""

import numpy as np
import pytest

from brainsim.sweep import run

from .study import KEY, SPACE, model


@pytest.fixture(scope="module")
def wanted():
    return run(model, SPACE, key=KEY, chunk=24, progress=False)


def with_dask(folder):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


def with_submitit(folder):
    submitit = pytest.importorskip("submitit")
    executor = submitit.AutoExecutor(folder=str(folder), cluster="local")
    executor.update_parameters(timeout_min=30)
    yield executor


@pytest.mark.parametrize("engine", [with_dask, with_submitit])
def test_workers_of_an_engine_share_a_store(engine, wanted, tmp_path):
    for executor in engine(tmp_path / "engine"):
        found = run(model, SPACE, key=KEY, chunk=4, store=tmp_path / "s", executor=executor, workers=2, progress=False)
    assert found.finished.all()
    for name in ("rate", "v"):
        np.testing.assert_array_equal(found[name], wanted[name])
    assert not any((tmp_path / "s" / "leases").iterdir())
