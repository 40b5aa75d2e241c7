"""The main job from end to end, small; its parts; the command line."""

import dataclasses
import html
import re

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import brainsim as bs
from brainsim import _demo, cli
from brainsim._demo import _braille, _coba, _data, _report, _run

RIDGE, RIDGE_TOLERANCE = 0.87, 0.02
"""Held-out accuracy that the data's own README gives; the strength that is selected depends on the folds."""
SMALL = _braille.Settings(neurons=16, steps=32, epochs=2, batch=32, roll=2)


@pytest.fixture(scope="module", autouse=True)
def _promotion():
    """optax's Adam raises a float to the power of an integer count, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def letters():
    return _data.load()


class Listener(_demo.AbstractProgress):
    """Writes down what it is told."""

    def __init__(self):
        self.titles, self.told = [], []

    def begin(self, title):
        self.titles.append(title)

    def advance(self, done, total, text):
        self.told.append((done, total, text))


# --- the whole


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    listener = Listener()
    path = tmp_path_factory.mktemp("demo") / "report.html"
    return _demo.run(path, quick=True, seed=3, progress=listener), listener


def test_the_report_holds_the_numbers_that_were_computed(quick):
    result, _ = quick
    page = result.path.read_text(encoding="utf-8")
    coba, braille, chips = (act.numbers for act in result.acts)
    assert set(chips["accuracy"]) == {"float", "loihi2", "spinnaker2"}
    assert min(chips["accuracy"].values()) > 0.75
    assert chips["accuracy"]["float"] - chips["accuracy"]["loihi2"] < 0.1
    for text in (
        f"{np.mean(coba['rate_hz']):.2f} Hz",
        f"{np.mean(coba['cv']):.3f}",
        f"{coba['warm_s'] / 0.5:.2f} s",
        f"{braille['accuracy']:.1%}",
        f"{braille['ridge_accuracy']:.1%}",
        f"{braille['loss'][0]:.3f}, {braille['loss'][-1]:.3f}",
        f"{_coba.BRIAN2.rate:.2f} ± {_coba.BRIAN2.rate_sd:.2f}",
        "seed 3",
        jax.__version__,
    ):
        assert text in page, text


def test_the_report_needs_nothing_else(quick):
    page = quick[0].path.read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(sources) >= 4
    assert all(s.startswith(("data:image/", "#")) for s in sources)
    assert not re.search(r"@import|url\(|<script|<link", page)
    assert page.count("<figure>") == 5
    assert page.rstrip().endswith("</html>")
    assert "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_report_shows_code_and_its_next_step_runs(quick, tmp_path, monkeypatch):
    page = quick[0].path.read_text(encoding="utf-8")
    code = [html.unescape(x) for x in re.findall(r"<details>.*?<pre>(.*?)</pre>", page, flags=re.DOTALL)]
    assert len(code) == 5
    assert all("def _" in x for x in code)
    assert "bs.FixedProbability(0.02)" in code[0]
    following = re.search(r'<section id="next">.*?<pre>(.*?)</pre>', page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(html.unescape(following[1]), "report", "exec"), space := {})
    assert 1 < space["sol"].rates["P"] < 100
    assert (tmp_path / "raster.png").exists()


def test_the_quick_run_says_that_it_is_quick_and_compares_nothing(quick):
    result, _ = quick
    page = result.path.read_text(encoding="utf-8")
    assert "This was a quick look" in page
    assert not result.acts[0].numbers["agrees"]
    assert result.acts[0].numbers["warm_s"] > 0


def test_progress_is_told_of_every_seed_and_epoch(quick):
    _, listener = quick
    assert listener.titles == list(_demo.ACTS)
    assert [t for t in listener.told if "CV" in t[2]] == listener.told[:1]
    assert [done for done, _, text in listener.told if "loss" in text] == [1, 2, 3]
    assert sum("ridge" in text for _, _, text in listener.told) == 1
    assert [text.partition(":")[0] for _, _, text in listener.told[-2:]] == ["loihi2", "spinnaker2"]


def test_the_quick_network_learns_something(quick):
    numbers = quick[0].acts[1].numbers
    assert numbers["loss"][-1] < numbers["loss"][0]
    assert numbers["rate_hz"] > 0.5


@pytest.mark.slow
def test_the_whole_training_reaches_what_is_promised(letters):
    train, test, _ = letters
    trained = _braille.train(train, _braille.Settings())
    got = _braille.read(trained.net, test.x, _braille.Settings())
    assert np.mean(got.letter == test.y) >= 0.88


# --- Braille


def test_the_recordings_are_those_of_the_source(letters):
    train, test, names = letters
    assert train.x.shape == (927, 256, 12)
    assert test.x.shape == (231, 256, 12)
    assert names == ("Space", "A", "E", "I", "O", "U", "Y")
    assert set(np.unique(train.x)) == {0.0, 1.0}
    np.testing.assert_array_equal(_data.rebin(test.x, 64).sum((1, 2)), test.x.sum((1, 2)))
    assert (_data.path().parent / "braille_events.LICENCE.txt").read_text().count("CC BY 4.0") > 0
    assert (_data.path().parent / "braille.LICENCE.txt").read_text().startswith("BSD 3-Clause")


def test_ridge_reaches_its_figure(letters):
    train, test, _ = letters
    assert _data.ridge(train, test).accuracy == pytest.approx(RIDGE, abs=RIDGE_TOLERANCE)


def test_ridge_selects_on_the_training_set_only(letters):
    train, test, _ = letters
    shuffled = _data.Letters(test.x, test.y[::-1])
    assert _data.ridge(train, shuffled).strength == _data.ridge(train, test).strength


def test_parameters_go_in_and_come_out():
    net = _braille.network(SMALL)
    p = _braille.trainable(net)
    changed = jax.tree.map(lambda x: x + 0.25, p)
    back = _braille.trainable(_braille.with_parameters(net, changed))
    for a, b in zip(jax.tree.leaves(changed), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_augmentation_drops_and_shifts_but_adds_nothing(letters):
    x = jax.numpy.asarray(_data.rebin(letters[0].x[:1], SMALL.steps)[0])
    for k in range(5):
        out = _braille.augment(x, jax.random.key(k), drop=SMALL.drop, roll=SMALL.roll)
        back = [np.roll(np.asarray(out), -s, 0) for s in range(-SMALL.roll, SMALL.roll + 1)]
        assert any(np.all((b == 0) | (b == np.asarray(x))) for b in back)
    still = _braille.augment(x, jax.random.key(0), drop=0.0, roll=0)
    np.testing.assert_array_equal(still, x)


def test_training_again_gives_the_same_and_moves_every_parameter(letters, quick):
    epochs = []
    settings = _run.reading_settings(quick=True, seed=3)
    trained = _braille.train(letters[0], settings, epochs.append)
    assert [e.number for e in epochs] == [1, 2, 3]
    assert epochs == trained.history
    assert [e.loss for e in epochs] == quick[0].acts[1].numbers["loss"]
    before, after = (jax.tree.leaves(_braille.trainable(net)) for net in (_braille.network(settings), trained.net))
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.core
def test_scores_and_their_gradient_keep_to_strict_types(letters):
    net = _braille.network(SMALL)
    x = jax.numpy.asarray(_data.rebin(letters[0].x[:1], SMALL.steps)[0])
    p = _braille.trainable(net)

    def first_score(p):
        moved = _braille.augment(x, jax.random.key(0), drop=SMALL.drop, roll=SMALL.roll)
        return _braille.scores(_braille.with_parameters(net, p), moved, SMALL)[0][0]

    with jax.numpy_dtype_promotion("strict"):
        gradient = jax.eval_shape(jax.grad(first_score), p)
    assert jax.tree.map(lambda g: (g.shape, g.dtype), gradient) == jax.tree.map(lambda w: (w.shape, w.dtype), p)


# --- the balanced network


def test_statistics_of_known_trains():
    regular = 10.0 * np.arange(1, 11)
    uneven = np.cumsum([10.0, 30.0] * 5)
    t = np.concatenate([regular, uneven, [50.0, 60.0]])
    i = np.concatenate([np.zeros(10, int), np.ones(10, int), np.full(2, 2)])
    got = _coba.statistics(t, i, 4, 0.0, 200.0)
    assert got.rate == pytest.approx(22 / (4 * 0.2))
    gaps = np.diff(uneven)
    assert got.cv == pytest.approx((0.0 + gaps.std() / gaps.mean()) / 2)  # units 0 and 1; unit 2 spiked too little
    late = _coba.statistics(t, i, 4, 100.0, 200.0)
    assert late.rate == pytest.approx(np.sum((t > 100) & (t <= 200)) / (4 * 0.1))


def test_agreement_is_three_standard_errors_and_two_per_cent():
    own = np.array([20.0, 21.0, 22.0])
    reach = 3 * np.sqrt(1.0 / 8 + 1.0 / 3) + 0.02 * 21.0
    assert _coba.agrees(own, 21.0, 1.0, 8)
    assert _coba.agrees(own + 0.97 * reach, 21.0, 1.0, 8)
    assert not _coba.agrees(own + 1.03 * reach, 21.0, 1.0, 8)


# --- the report


def test_the_report_escapes_what_it_is_given():
    table = _report.Table(("<a>", "b & c"), [("1 < 2", 3)])
    assert "<td>3</td>" in table.html()
    assert "&lt;a&gt;" in table.html()
    assert "1 &lt; 2" in table.html()
    act = _report.Act("a & b", ("take *care* of `x < y`",), {"n": "1"}, (), (table,), {}, 0.5)
    assert "<em>care</em> of <code>x &lt; y</code>" in act.html("k")


def test_a_table_with_a_short_row_is_refused():
    with pytest.raises(ValueError, match="1 cells; expected 2"):
        _report.Table(("a", "b"), [("only",)])


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        _run.run(tmp_path / "no" / "report.html")
    with pytest.raises(IsADirectoryError, match=r"brainsim-report\.html"):
        _run.run(tmp_path)


# --- the command line


def invoke(*arguments):
    return CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "140", "NO_COLOR": "1"})


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help"), ("info", "--help"), ("bench", "--help")])
def test_help_is_worth_reading(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert len(result.output) > 300
    assert "install-completion" not in result.output


def test_info_tells_versions_and_kernels():
    result = invoke("info")
    assert result.exit_code == 0
    assert jax.__version__ in result.output
    assert bs.backend().split()[0] in result.output
    assert "0.35 MB" in result.output


def test_bench_prints_the_rate_beside_the_time():
    result = invoke("bench", "--seconds", "0.1", "--repeats", "1")
    assert result.exit_code == 0, result.output
    rates = [
        float(line.split()[-1]) for line in result.output.splitlines() if line.strip().startswith(("first", "warm"))
    ]
    assert len(rates) == 2
    assert all(1.0 < r < 200.0 for r in rates)


def test_demo_command_reports_an_unwritable_place_without_a_traceback(tmp_path):
    result = invoke("demo", "--out", str(tmp_path / "no" / "report.html"))
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_demo_command_ends_with_the_path(monkeypatch, tmp_path, quick):
    done, _ = quick
    monkeypatch.setattr(cli._demo, "run", lambda out, **kw: dataclasses.replace(done, path=out))
    result = invoke("demo", "--quick", "--out", str(tmp_path / "r.html"))
    assert result.exit_code == 0, result.output
    assert result.output.rstrip().endswith("r.html")
    assert f"{done.acts[1].numbers['accuracy']:.1%}" in result.output
