"""Where the indices of a graph are kept while it is built."""

import numpy as np
import pytest

from brainsim.connect import _sample
from brainsim.events import CSR, _pages


def blocks(seed, n_pre=60, n_post=50, p=0.3):
    return list(_sample.successes(np.random.default_rng(seed), p, n_pre * n_post, block=100))


@pytest.mark.parametrize("expected", [2700.0, 0.0, 100.0])  # too little room: the list grows
@pytest.mark.parametrize("large", [1 << 23, 0])
@pytest.mark.parametrize("spread", [1, 2000])  # post units number 50 or, with stretches, 100 thousand
def test_rows_do_not_depend_on_the_room_that_was_made(monkeypatch, expected, large, spread):
    monkeypatch.setattr(_pages, "LARGE", large)
    codes = np.concatenate(blocks(0, p=0.9))
    indptr, indices = _sample.rows_of_codes((spread * x for x in blocks(0, p=0.9)), expected, 60, 50 * spread, None)
    graph = CSR(indptr, indices, 50 * spread)
    assert (graph.stored.dtype == np.int8) == (spread > 1 and expected > 1000)
    pre, post = graph.to_coo()
    np.testing.assert_array_equal(pre * 50 * spread + post, codes * spread)


def test_a_system_without_huge_pages_is_none_the_worse(monkeypatch):
    class Memory(_pages.mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(_pages, "LARGE", 0)
    monkeypatch.setattr(_pages.mmap, "mmap", Memory)
    graph = CSR(*_sample.rows_of_codes(iter(blocks(1)), 900.0, 60, 50, None), 50)
    np.testing.assert_array_equal(graph.indices, np.concatenate(blocks(1)) % 50)
