"""A sweep: the results of a loop over its members, whatever the chunk, the process and the interruptions."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import brainsim as bs
from brainsim import cli
from brainsim.sweep import (
    Evaluator,
    Grid,
    LatinHypercube,
    Members,
    Random,
    Segments,
    StoreError,
    Sweep,
    as_simulator,
    run,
)

KEY = jax.random.key(7)
N = 60
space = Grid({"g": np.linspace(1.0, 3.0, 10), "trial": range(6)}, units={"g": "nS"})


def model(p, key):
    x = p["g"] * jax.random.normal(key, (5,)) + p["trial"].astype(jnp.float32)
    return {"mean": jnp.mean(x), "path": jnp.cumsum(x)}


def loop(model, space):
    one = jax.jit(jax.vmap(model))  # a batch of two: a batch of one may have other last bits
    rows = []
    for k in range(len(space)):
        p = {name: jnp.asarray(np.stack([x[k], x[k]])) for name, x in space.members.items()}
        key = jax.random.fold_in(KEY, k)
        rows.append(jax.tree.map(lambda x: np.asarray(x)[0], one(p, jnp.stack([key, key]))))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def wanted():
    return loop(model, space)


def same(sweep, wanted):
    assert sweep.finished.all()
    for name, x in wanted.items():
        np.testing.assert_array_equal(sweep[name].reshape(x.shape), x, err_msg=name)


@pytest.mark.optimised
def test_a_graph_of_its_own_for_every_member_is_played():
    """`Procedural` follows the key of the member: the values of a run alone, and one call for all steps."""

    def model(p, key):
        cells = bs.Population(bs.LIF(), 40, {"e": bs.ExpCurr(5.0)}, i_e=p["i"], init={"v": bs.Normal(-55.0, 5.0)})
        edge = bs.Projection("P", "P.e", bs.Procedural(bs.FixedProbability(0.2)), weight=5.0, delay=1.0)
        net = bs.Network({"P": cells}, {"e": edge}, key=key)
        sol = bs.simulate(net, t1=20.0, dt=0.1, key=key, throw=False, saveat=[bs.Trace("P.v", every=50)])
        return {"rate": sol.rates["P"], "v": sol["P.v"], "seed": net.edges["e"].connect.seed}

    space = Grid({"i": np.linspace(230.0, 260.0, 5)})
    found = run(model, space, key=KEY, chunk=2, progress=False)
    same(found, loop(model, space))
    assert len(np.unique(found["seed"], axis=0)) == len(space)
    assert np.all(found["rate"] > 0)
    keys, i = jax.random.split(KEY, 2), jnp.asarray([230.0, 260.0])
    if bs.events.backend() == "kernels":
        assert "brainsim_scan" in jax.jit(jax.vmap(model)).lower({"i": i}, keys).as_text()


def test_members_have_the_results_of_a_loop_whatever_the_chunk_and_the_store(wanted, tmp_path):
    for chunk in (1, 7, 60):
        same(run(model, space, key=KEY, chunk=chunk, progress=False), wanted)
    same(run(model, space, key=KEY, chunk=8, store=tmp_path / "s", progress=False), wanted)
    same(Sweep.open(tmp_path / "s"), wanted)
    same(run(model, space, key=KEY, progress=False), wanted)  # auto


def test_the_dataset_has_axes_units_flags_and_provenance(tmp_path):
    def bad(p, key):
        return {"x": jnp.where(p["trial"] == 3, jnp.nan, p["g"]), "n": p["trial"] * 2}

    run(bad, space, key=KEY, chunk=16, store=tmp_path / "s", progress=False)
    for sweep in (run(bad, space, key=KEY, chunk=16, progress=False), Sweep.open(tmp_path / "s")):
        data = sweep.dataset()
        assert data["x"].dims == ("g", "trial")
        assert data["g"].attrs["units"] == "nS"
        np.testing.assert_array_equal(data["trial"], np.arange(6))
        np.testing.assert_array_equal(data["flag"].sel(trial=3), 1)
        np.testing.assert_array_equal(data["flag"].sel(trial=2), 0)
        np.testing.assert_array_equal(data["n"].sel(trial=5), 10)
        assert data["finished"].all()
        assert jax.__version__ in data.attrs["versions"]
        assert "10 flagged" in str(sweep)


def test_a_store_goes_on_where_it_was(wanted, tmp_path):
    path = tmp_path / "s"
    run(model, space, key=KEY, chunk=8, store=path, progress=False)
    (path / "done" / "000002").unlink()  # interrupted before its mark
    assert Sweep.open(path).finished.sum() == N - 8
    before = {p.name: p.stat().st_mtime_ns for p in (path / "done").iterdir()}
    same(run(model, space, key=KEY, chunk=8, store=path, progress=False), wanted)
    after = {p.name: p.stat().st_mtime_ns for p in (path / "done").iterdir()}
    assert all(after[name] == t for name, t in before.items())
    assert after.keys() - before.keys() == {"000002"}
    assert not any((path / "leases").iterdir())


def test_a_damaged_chunk_is_computed_again(wanted, tmp_path):
    path = tmp_path / "s"
    run(model, space, key=KEY, chunk=8, store=path, progress=False)
    data = path / "data.zarr" / "path" / "c" / "3" / "0"
    raw = bytearray(data.read_bytes())
    raw[10] ^= 1
    data.write_bytes(bytes(raw))
    partial = Sweep.open(path)
    assert partial.finished.sum() == N - 8
    np.testing.assert_array_equal(partial["mean"].ravel()[:24], wanted["mean"][:24])
    same(run(model, space, key=KEY, chunk=8, store=path, progress=False), wanted)


def test_another_study_is_refused_with_what_differs(tmp_path):
    path, given = tmp_path / "s", dict(key=KEY, chunk=8, progress=False)
    run(model, space, store=path, **given)
    scale = jnp.asarray(2.0)

    def other(p, key):
        return {name: scale * x for name, x in model(p, key).items()}

    with pytest.raises(StoreError, match="model"):
        run(other, space, store=path, **given)
    with pytest.raises(StoreError, match=r"dims: trial 6 -> 5.*parameters: g"):
        run(model, Grid({"g": np.linspace(1.0, 3.0, 10), "trial": range(5)}), store=path, **given)
    with pytest.raises(StoreError, match="key"):
        run(model, space, store=path, **(given | {"key": jax.random.key(8)}))
    with pytest.raises(StoreError, match=r"results: .*median missing"):
        run(lambda p, key: {"median": p["g"]}, space, store=path, **given)
    with pytest.raises(StoreError, match="no store of a sweep"):
        run(model, space, store=tmp_path, **given)
    with pytest.raises(StoreError, match=r"study\.json is missing"):
        Sweep.open(tmp_path)


def test_a_changed_constant_is_another_model(tmp_path):
    def with_constant(c):
        c = jnp.asarray(c)
        return lambda p, key: {"x": p["g"] * c}

    run(with_constant([1.0]), space, key=KEY, chunk=8, store=tmp_path / "s", progress=False)
    with pytest.raises(StoreError, match="model"):
        run(with_constant([2.0]), space, key=KEY, chunk=8, store=tmp_path / "s", progress=False)


segmented = Segments(
    start=lambda p, key: {"x": jnp.zeros(()), "k": jnp.asarray(0), "key": key},
    advance=lambda p, c: {
        "x": c["x"] + p["g"] * jax.random.normal(jax.random.fold_in(c["key"], c["k"])),
        "k": c["k"] + 1,
        "key": c["key"],
    },
    finish=lambda p, c: {"x": c["x"], "segments": c["k"]},
    n=10,
)


def stop(out):
    return jnp.abs(out["x"]) > 4.0


@pytest.mark.optimised
def test_members_stop_between_segments_and_give_their_place_to_others(tmp_path):
    def whole(p, key):
        c, done = segmented.start(p, key), jnp.asarray(False)
        for _ in range(segmented.n):
            new = segmented.advance(p, c)
            c = jax.tree.map(lambda a, b, done=done: jnp.where(done, a, b), c, new)
            done = done | stop(c)
        return segmented.finish(p, c)

    wanted = loop(whole, space)
    assert len(set(wanted["segments"].tolist())) > 4
    for chunk in (4, 16, 60):
        same(run(segmented, space, key=KEY, chunk=chunk, stop=stop, progress=False), wanted)
    same(run(segmented, space, key=KEY, chunk=16, stop=stop, store=tmp_path / "s", progress=False), wanted)
    everything = run(segmented, space, key=KEY, chunk=16, progress=False)
    assert (everything["segments"] == 10).all()


def test_networks_are_swept(tmp_path):
    net = bs.Network({"P": bs.Population(bs.LIF(), 40, init={"v": bs.Uniform(-60.0, -50.0)})})

    def rates(p, key):
        driven = bs.train.with_parameters(net, {"P.i_e": p["i_e"]})
        return {"rate": bs.simulate(driven, t1=50.0, key=key).rates["P"]}

    sweep = run(rates, Grid({"i_e": [90.0, 150.0, 300.0]}), key=KEY, chunk=2, store=tmp_path / "s", progress=False)
    assert sweep["rate"][0] == 0 < sweep["rate"][1] < sweep["rate"][2]
    again = run(rates, Grid({"i_e": [90.0, 150.0, 300.0]}), key=KEY, store=tmp_path / "s", progress=False)
    np.testing.assert_array_equal(again["rate"], sweep["rate"])


def test_spaces_have_the_members_they_say():
    assert len(space) == N
    np.testing.assert_array_equal(space.members["trial"][:6], np.arange(6))
    cube = LatinHypercube({"a": (0.0, 1.0), "b": (5.0, 9.0)}, 20, seed=3)
    np.testing.assert_array_equal(np.sort((cube.members["a"] * 20).astype(int)), np.arange(20))
    assert ((cube.members["b"] > 5.0) & (cube.members["b"] < 9.0)).all()
    one = Random({"a": bs.LogNormal(0.0, 1.0), "b": (2.0, 3.0)}, 50, key=KEY)
    two = Random({"b": (2.0, 3.0)}, 50, key=KEY)
    np.testing.assert_array_equal(one.members["b"], two.members["b"])
    assert one.members["a"].min() > 0
    assert len(Members({"a": [1.0, 2.0], "b": np.ones((2, 3))})) == 2


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: Grid({}), "expected a dict"),
        (lambda: Grid({"a": []}), "at least one value"),
        (lambda: Grid({"a": [1.0, np.nan]}), "finite"),
        (lambda: Grid({"a": ["x"]}), "expected numbers"),
        (lambda: Grid({"a": [1.0]}, units={"b": "mV"}), r"units names \['b'\]"),
        (lambda: Members({"a": [1.0, 2.0], "b": [1.0]}), "the lengths"),
        (lambda: LatinHypercube({"a": (1.0, 1.0)}, 5, seed=0), "low < high"),
        (lambda: Random({"a": (0.0, 1.0)}, 0, key=KEY), "members >= 1"),
        (lambda: run(model, {"g": [1.0]}, key=KEY), "expected Grid"),
        (lambda: run(3, space, key=KEY), "expected a function"),
        (lambda: run(lambda p, key: p["g"], space, key=KEY), "expected a dict of arrays"),
        (lambda: run(model, space, key=KEY, chunk=0), "whole number of members"),
        (lambda: run(model, space, key=KEY, stop=lambda out: True), "Give Segments"),
        (lambda: run(model, space, key=KEY, memory=1000), "Raise memory"),
        (lambda: run(model, space, key=KEY, executor=ThreadPoolExecutor()), "give store"),
    ],
)
def test_bad_input_is_named(make, says):
    with pytest.raises((TypeError, ValueError), match=says):
        make()


STUDY = """
import sys, time
import numpy as np
import jax, jax.numpy as jnp
from brainsim.sweep import Grid, run, _store

pause = float(sys.argv[2])
write = _store.Folder.write
def slow(self, c, rows):
    time.sleep(pause)
    write(self, c, rows)
_store.Folder.write = slow

def model(p, key):
    x = p["g"] * jax.random.normal(key, (5,)) + p["trial"].astype(jnp.float32)
    return {"mean": jnp.mean(x), "path": jnp.cumsum(x)}

space = Grid({"g": np.linspace(1.0, 3.0, 10), "trial": range(6)}, units={"g": "nS"})
run(model, space, key=jax.random.key(7), chunk=2, store=sys.argv[1], ttl=1.0, progress=False)
"""


def kill_and_go_on(wanted, path: Path, kills: int, processes: int, pause: float):
    rng = np.random.default_rng(0)

    def start():
        command = [sys.executable, "-c", STUDY, str(path), str(pause)]
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."})

    workers = [start() for _ in range(processes)]
    for _ in range(kills):
        while not path.exists():
            time.sleep(0.05)
        time.sleep(rng.uniform(0.2, 1.5))
        k = int(rng.integers(processes))
        workers[k].send_signal(signal.SIGKILL)
        workers[k].wait()
        workers[k] = start()
    assert [worker.wait() for worker in workers] == [0] * processes
    same(Sweep.open(path), wanted)
    assert not any(p for p in (path / "leases").iterdir() if not p.name.startswith("."))


@pytest.mark.optimised
def test_a_killed_process_loses_nothing(wanted, tmp_path):
    kill_and_go_on(wanted, tmp_path / "s", kills=1, processes=1, pause=0.1)


@pytest.mark.slow
@pytest.mark.optimised
def test_three_processes_share_the_work_through_twenty_kills(wanted, tmp_path):
    kill_and_go_on(wanted, tmp_path / "s", kills=20, processes=3, pause=1.0)


def test_threads_of_an_executor_share_a_store(wanted, tmp_path):
    with ThreadPoolExecutor(2) as executor:
        same(run(model, space, key=KEY, chunk=4, store=tmp_path / "s", executor=executor, progress=False), wanted)


def test_the_command_line_runs_a_study_and_shows_it(tmp_path):
    study = tmp_path / "study.py"
    study.write_text(
        "import jax, brainsim as bs\n"
        "model = lambda p, key: {'x': p['a'] * 2}\n"
        "space, key = bs.sweep.Grid({'a': [1.0, 2.0, 4.0], 'b': [0.0, 1.0]}), jax.random.key(0)\n"
    )
    runner = CliRunner()
    for command in ("run", str(study), "--store", str(tmp_path / "s")), ("status", str(tmp_path / "s")):
        done = runner.invoke(cli.app, ["sweep", *command])
        assert done.exit_code == 0, done.output
        assert "6 of 6 members" in done.output
    page = tmp_path / "page.html"
    assert runner.invoke(cli.app, ["sweep", "status", str(tmp_path / "s"), "--report", str(page)]).exit_code == 0
    text = page.read_text()
    assert "<figcaption>" in text
    assert "mean along the other axes" in text
    assert runner.invoke(cli.app, ["sweep", "status", str(tmp_path)]).exit_code == 1


def squares(p, key):
    return {"loss": (p["a"] - 2.0) ** 2 + (p["b"] + 1.0) ** 2, "noise": jax.random.normal(key, (2,))}


def test_a_table_of_members_is_evaluated_in_padded_batches():
    table = {"a": np.arange(5.0), "b": np.zeros(5)}
    ask = Evaluator(squares, key=KEY, chunk=3)
    first, second = ask(table), ask(table)
    np.testing.assert_allclose(first["loss"], (table["a"] - 2.0) ** 2 + 1.0, rtol=1e-6)
    assert first["noise"].shape == (5, 2)
    whole = Evaluator(squares, key=KEY, chunk=10)({k: np.tile(x, 2) for k, x in table.items()})
    np.testing.assert_array_equal(whole["noise"], np.concatenate([first["noise"], second["noise"]]))
    again = Evaluator(squares, key=KEY, chunk=3, common=True)
    np.testing.assert_array_equal(again(table)["noise"], again(table)["noise"])
    with pytest.raises(ValueError, match=r"columns \('a',\).*before"):
        ask({"a": [1.0]})


def test_any_optimiser_with_ask_and_tell_finds_the_minimum():
    cma = pytest.importorskip("cma")
    strategy = cma.CMAEvolutionStrategy([0.0, 0.0], 1.0, {"verbose": -9, "seed": 1, "popsize": 8})
    ask = Evaluator(squares, key=KEY, chunk=8)
    for _ in range(40):
        points = strategy.ask()
        strategy.tell(points, list(ask({"a": [p[0] for p in points], "b": [p[1] for p in points]})["loss"]))
    np.testing.assert_allclose(strategy.result.xbest, [2.0, -1.0], atol=1e-2)


def test_rejection_with_a_simulator_finds_the_posterior():
    """A normal mean of 10 values, prior uniform on [-3, 3]: the posterior is normal with std 1 / sqrt(10)."""

    def ten(p, key):
        return {
            "mean": jnp.mean(p["mu"] + jax.random.normal(key, (10,))),
            "sure": jnp.where(p["mu"] > 2.9, jnp.nan, 0.0),
        }

    simulate = as_simulator(ten, ["mu"], key=KEY, chunk=512)
    theta = np.random.default_rng(0).uniform(-3.0, 3.0, (20_000, 1))
    x = simulate(theta)
    assert x.shape == (20_000, 2)
    assert np.isnan(x[theta[:, 0] > 2.9]).all()
    kept = theta[np.abs(x[:, 0] - 0.5) < 0.05, 0]
    assert abs(kept.mean() - 0.5) < 0.1
    assert abs(kept.std() - 10**-0.5) < 0.05
    with pytest.raises(ValueError, match=r"expected \(B, 1\)"):
        simulate(np.zeros((3, 2)))
