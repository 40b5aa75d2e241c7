"""Members in batches: one call a chunk, or segment by segment with places refilled as members stop."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._model import Segments, with_flag

FEWEST = 2
"""Members of a batch: XLA compiles a batch of one as another program, with other last bits."""
REFILL = 1 / 16
"""Share of free places from which refilling pays."""


def _compiled(f: Callable, devices: Sequence[Any]) -> Callable:
    """`f` of members, compiled; every device runs its share of them, without exchanging anything."""
    if len(devices) == 1:
        return jax.jit(f)
    mesh = jax.sharding.Mesh(np.asarray(devices), ("members",), axis_types=(jax.sharding.AxisType.Auto,))
    by_member = jax.sharding.PartitionSpec("members")
    # a model may scan over a carry that only its steps make vary, which the check refuses
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=by_member, out_specs=by_member, check_vma=False))


class Lanes:
    """Compiled programs that run members `ids` of a sweep with parameters `p` (n, ...), on batches of at least `size`
    over `devices`."""

    def __init__(
        self,
        model: Segments,
        members: dict[str, np.ndarray],
        key: Any,
        size: int,
        stop: Any,
        devices: Sequence[Any],
    ) -> None:
        self.fewest = FEWEST * len(devices)
        self.size = -(-max(size, self.fewest) // len(devices)) * len(devices)
        self.members, self.n, self.devices, self.stops = members, model.n, len(devices), stop is not None

        def begin(ids, p):
            return jax.vmap(lambda i, p: model.start(p, jax.random.fold_in(key, i)))(ids, p)

        def finish(p, carry):
            out = with_flag(model.finish(p, carry))
            return out, jnp.asarray(False) if stop is None else jnp.asarray(stop(out)) | (out["flag"] != 0)

        def advance(p, carry):
            carry = jax.vmap(model.advance)(p, carry)
            return carry, *jax.vmap(finish)(p, carry)

        def refill(places, ids, p, carry):
            return jax.tree.map(lambda old, x: old.at[places].set(x, mode="drop"), carry, begin(ids, p))

        self.whole = _compiled(lambda ids, p: advance(p, begin(ids, p))[1], devices)
        self._begin, self._advance, self._refill = (_compiled(f, devices) for f in (begin, advance, refill))

    def rows(self, ids: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """`ids`, padded to a batch with the last of them, and their parameters."""
        padded = np.concatenate([ids, np.repeat(ids[-1:], self.size - ids.size)]).astype(np.int32)
        return padded, {name: x[padded] for name, x in self.members.items()}

    def chunk(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The results of up to a batch of members, all run to the end."""
        out = jax.device_get(self.whole(*self.rows(ids)))
        return {name: x[: ids.size] for name, x in out.items()}

    def _starts(self, lane: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Who begins where, with which parameters: as many for every device, a quarter of its lanes or all of them.

        Places are counted within the lanes of a device; what there is too many of begins beyond their end, nowhere.
        """
        share = lane.size // self.devices
        mine = [places[places // share == k] - k * share for k in range(self.devices)]
        few = share // 4 if max(map(len, mine)) <= share // 4 >= FEWEST else share
        at = np.full((self.devices, few), share, np.int32)
        for row, within in zip(at, mine):
            row[: within.size] = within
        ids = np.concatenate(
            [np.where(row < share, lane[k * share + row % share], lane[places[0]]) for k, row in enumerate(at)]
        )
        return at.reshape(-1), ids.astype(np.int32), {name: x[ids] for name, x in self.members.items()}

    def stream(self, queue: Iterator[int], keep: Callable[[int, dict[str, np.ndarray]], None]) -> None:
        """Run the members of `queue` segment by segment; `keep(member, results)` as each is done.

        A place whose member stopped goes to the next one; towards the end, batches shrink.
        """
        lane = np.full(self.size, -1)
        age = np.zeros(self.size, int)
        carry: Any = None
        p: Any = None
        drained = False
        while True:
            free = np.flatnonzero(lane < 0)
            if not drained and (free.size >= REFILL * lane.size or free.size == lane.size):
                fresh = np.fromiter(_some(queue, free.size), int)
                drained = fresh.size < free.size
                if fresh.size:
                    places = free[: fresh.size]
                    lane[places], age[places] = fresh, 0
                    ids = np.where(lane < 0, fresh[0], lane).astype(np.int32)
                    p = {name: x[ids] for name, x in self.members.items()}
                    carry = self._begin(ids, p) if carry is None else self._refill(*self._starts(lane, places), carry)
            active = np.flatnonzero(lane >= 0)
            if not active.size:
                return
            half = lane.size // 2 // self.devices * self.devices
            if drained and active.size <= half and half >= self.fewest:
                taken = np.concatenate([active, np.flatnonzero(lane < 0)])[:half]
                lane, age = lane[taken], age[taken]
                carry, p = jax.tree.map(lambda x, taken=taken: x[taken], (carry, p))
            carry, out, stopped = self._advance(p, carry)
            age += 1
            over = age >= self.n
            done = np.flatnonzero((lane >= 0) & (over | np.asarray(stopped) if self.stops else over))
            if done.size:
                results = jax.device_get(out)
                for k in done:
                    keep(int(lane[k]), {name: x[k] for name, x in results.items()})
                lane[done] = -1


def _some(queue: Iterator[int], n: int) -> Iterator[int]:
    for _ in range(n):
        try:
            yield next(queue)
        except StopIteration:
            return
