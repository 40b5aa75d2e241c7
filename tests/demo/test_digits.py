"""The act that learns digits, on digits that are stripes."""

import dataclasses

import numpy as np
import pytest

from brainsim._demo import _digits
from brainsim._demo._progress import Silent
from brainsim._demo._run import digits_settings


def stripes(path, n=240):
    """Ten classes: a bright band of rows each, with noise."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "test"):
        y = rng.integers(0, 10, n)
        x = rng.integers(0, 40, (n, 28, 28))
        for k, digit in enumerate(y):
            x[k, 2 * digit + 3 : 2 * digit + 6] = 255
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y.astype(np.uint8)}
    np.savez(path, **arrays)


@pytest.mark.slow
def test_classes_are_told_apart_without_labels(tmp_path):
    stripes(tmp_path / "digits.npz")
    c = dataclasses.replace(digits_settings(quick=True, seed=0), samples=240, named=120, tested=120)
    act = _digits.act(c, tmp_path / "digits.npz", Silent())
    assert act.numbers["accuracy"] > 0.5 > 2 * act.numbers["chance"]
    assert act.numbers["accuracy_of_pixels"] > 0.9
    assert "A network learns digits by itself" in act.html("act-3")


def test_a_vote_is_the_class_of_the_loudest_neurons():
    counts, y = np.array([[5, 0, 1], [4, 1, 0], [0, 7, 3], [1, 6, 3.0]]), np.array([2, 2, 7, 7])
    label = _digits.named(counts, y)
    np.testing.assert_array_equal(label, [2, 7, 7])
    np.testing.assert_array_equal(_digits.vote(np.array([[3.0, 1, 0], [0, 1, 1.0]]), label), [2, 7])


def test_a_file_that_is_not_of_digits(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        _digits.load(tmp_path / "none.npz", _digits.Settings())
    np.savez(tmp_path / "other.npz", x_train=np.zeros(3))
    with pytest.raises(OSError, match="has no x_test, y_test, y_train"):
        _digits.load(tmp_path / "other.npz", _digits.Settings())
