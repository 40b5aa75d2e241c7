"""How many members a batch should have."""

import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ._lanes import FEWEST, Lanes
from ._model import Segments

SMALL, LARGE = 8, 64
"""Batches that are compiled to find the memory of a member: a single one lies off the line."""
SECONDS = 2.0
"""How long a chunk should take: long beside the cost of storing it, short beside the loss when it is interrupted."""
MOST = 1024
"""More members in a batch bring nothing."""


def available_bytes(devices: Sequence[Any]) -> int:
    """Memory that a batch may take on all devices: half of what they or the machine have free."""
    return sum(map(_free, devices)) if devices[0].platform != "cpu" else _free(devices[0])


def _free(device: Any) -> int:
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return (stats["bytes_limit"] - stats.get("bytes_in_use", 0)) // 2
    # macOS does not count its free pages
    free = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(free) * os.sysconf("SC_PAGE_SIZE") // 2


def needed_bytes(model: Segments, members: dict[str, np.ndarray], key: Any) -> tuple[float, float]:
    """Bytes of a batch as `(fixed, per member)`, from what XLA says of two sizes."""
    found = []
    for size in (SMALL, LARGE):
        lanes = Lanes(model, members, key, size, None, jax.local_devices()[:1])
        ids, p = lanes.rows(np.zeros(1, np.int32))
        memory: Any = lanes.whole.lower(ids, p).compile().memory_analysis()
        parts = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes
        found.append(parts - memory.alias_size_in_bytes)
    each = max((found[1] - found[0]) / (LARGE - SMALL), 0.0)
    return max(found[0] - SMALL * each, 0.0), each


def chosen(model: Segments, members: dict[str, np.ndarray], key: Any, limit: int | None, devices: Sequence[Any]) -> int:
    """A batch that fits into `limit` bytes (default: half of the free memory) and runs for about two seconds."""
    n = len(next(iter(members.values())))
    fixed, each = needed_bytes(model, members, key)
    limit = available_bytes(devices) if limit is None else limit
    room = int((0.8 * limit - fixed) // each) if each else MOST
    if room < FEWEST:
        need = (fixed + FEWEST * each) / 0.8
        raise ValueError(f"sweep: two members need {need:,.0f} bytes; the limit is {limit:,}. Raise memory=.")
    size = max(min(SMALL, n, room), FEWEST)
    lanes, ids = Lanes(model, members, key, size, None, devices), np.arange(min(size, n))
    lanes.chunk(ids)
    began = time.perf_counter()
    lanes.chunk(ids)
    seconds = (time.perf_counter() - began) / size
    return max(min(room, MOST, int(SECONDS / max(seconds, 1e-9)), n), FEWEST)
