"""Where the indices of a graph are kept while it is built."""

import numpy as np
import pytest

from brainsim.connect import _sample
from brainsim.events._targets import wide


def blocks(seed, n_pre=60, n_post=50, p=0.3):
    return list(_sample.successes(np.random.default_rng(seed), p, n_pre * n_post, block=100))


@pytest.mark.parametrize("expected", [900.0, 0.0, 100.0])  # too little room: the list grows
@pytest.mark.parametrize("large", [1 << 23, 0])
def test_rows_do_not_depend_on_the_room_that_was_made(monkeypatch, expected, large):
    monkeypatch.setattr(_sample, "LARGE", large)
    codes = np.concatenate(blocks(0))
    indptr, indices = _sample.rows_of_codes(iter(blocks(0)), expected, 60, 50, None)
    np.testing.assert_array_equal(np.repeat(np.arange(60), np.diff(indptr)) * 50 + wide(*indices), codes)


def test_a_system_without_huge_pages_is_none_the_worse(monkeypatch):
    class Memory(_sample.mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(_sample, "LARGE", 0)
    monkeypatch.setattr(_sample.mmap, "mmap", Memory)
    _, indices = _sample.rows_of_codes(iter(blocks(1)), 900.0, 60, 50, None)
    np.testing.assert_array_equal(wide(*indices), np.concatenate(blocks(1)) % 50)
