"""`run`: every member of a space, in batches, by any number of processes."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..base import Key
from ._chunk import chosen
from ._lanes import Lanes
from ._leases import Leases
from ._model import FLAG, Model, Segments, identity, segments, with_flag
from ._result import Sweep
from ._space import AbstractSpace, shapes
from ._store import AbstractStore, Folder, Memory, about

POLL = 0.2
"""Seconds between two looks at what other processes have finished."""


def run(
    model: Model,
    space: AbstractSpace,
    *,
    key: Key,
    store: str | Path | None = None,
    chunk: int | str = "auto",
    memory: int | None = None,
    stop: Callable[[dict[str, Any]], Any] | None = None,
    executor: Any = None,
    workers: int = 2,
    ttl: float = 10.0,
    devices: Sequence[Any] | None = None,
    progress: bool = True,
) -> Sweep:
    """Run `model` for every member of `space`.

    Member k gets `fold_in(key, k)` and its parameters; its results depend on nothing else: not on the chunk, the
    process or the device. A run that was interrupted goes on where it was; started several times on one `store`, the
    processes share the work.

    **Arguments:**

    - `model`: `model(p, key) -> dict of arrays`, for one member: `p` holds its parameters by name as scalars. A plain
      JAX function; it is compiled once, batched by `vmap`. Or `Segments`, so that `stop` can end members early. A
      network built in the model with `key=key` and edges by `bs.Procedural` has a graph of its own for every member.
    - `space`: `Grid`, `Random`, `LatinHypercube` or `Members`.
    - `store`: a folder; None keeps the results in memory.
    - `chunk`: members in a batch, or "auto": from the memory and the time that some need. Given once: a store keeps it.
    - `memory`: bytes that a batch may take under "auto"; default half of what is free.
    - `stop`: `stop(results) -> bool` after every segment of a member; a member that is flagged stops too.
    - `executor`: anything with `submit`, such as `concurrent.futures.ProcessPoolExecutor(2, spawn context)` or dask's
      `Client.get_executor()`: it is given `workers` workers, which share the store. The model must be picklable.
    - `devices`: those that share a batch, each running its part of the members; default all of this process.
    - `ttl`: seconds after which the work of a process that is gone is taken over.

    **Returns:** a `Sweep`.

    **Raises:** TypeError or ValueError before anything is compiled where arguments do not fit; `StoreError` where the
    store holds another study.
    """
    parts = segments(model)
    if not isinstance(space, AbstractSpace):
        raise TypeError(f"sweep.run: space is {space!r}; expected Grid, Random, LatinHypercube or Members.")
    if stop is not None and parts.n == 1:
        raise ValueError("sweep.run: stop ends members between segments, and this model has one. Give Segments.")
    if chunk != "auto" and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"sweep.run: chunk is {chunk!r}; expected a whole number of members >= 1, or 'auto'.")
    devices = jax.local_devices() if devices is None else list(devices)
    if not devices:
        raise ValueError("sweep.run: devices is empty; expected some of jax.local_devices(), or None for all.")
    one = shapes(space)
    abstract_key = jax.eval_shape(lambda: key)
    outputs = jax.eval_shape(lambda p, k: with_flag(_once(parts, p, k)), one, abstract_key)
    study = about(space, key, outputs, identity(parts, one, abstract_key))
    path = None if store is None else Path(store)
    if path is None:
        if executor is not None:
            raise ValueError("sweep.run: workers of an executor share a store; give store='folder'.")
        size = chosen(parts, space.members, key, memory, devices) if chunk == "auto" else min(int(chunk), len(space))
        kept: AbstractStore = Memory(len(space), size, outputs)
    else:
        if not Folder.exists(path):
            size = (
                chosen(parts, space.members, key, memory, devices) if chunk == "auto" else min(int(chunk), len(space))
            )
            Folder.create(path, study, space, outputs, size)
        kept = Folder(path)
        kept.check(study)
        kept.verify()
    with _bar(kept, space, progress) as report:
        if executor is not None:
            again: dict[str, Any] = dict(store=path, key=None, stop=stop, ttl=ttl, progress=False)
            data = np.asarray(jax.random.key_data(key))
            jobs = [executor.submit(_worker, model, space, data, again) for _ in range(workers)]
            _wait(jobs, report)
        else:
            _work(parts, space, kept, key, stop, ttl, devices, report)
    return Sweep(kept, space, study | {"chunk": kept.chunk, "n": kept.n})


def _once(parts: Segments, p: Any, key: Any) -> Any:
    return parts.finish(p, parts.advance(p, parts.start(p, key)))


def _worker(model: Model, space: AbstractSpace, data: np.ndarray, options: dict[str, Any]) -> None:
    """One worker of an executor."""
    run(model, space, **(options | {"key": jax.random.wrap_key_data(jax.numpy.asarray(data))}))


def _wait(jobs: list[Any], report: Callable[[], None]) -> None:
    """Until every job is done; one that failed raises. Not every engine calls back, so it is asked."""
    while not all(job.done() for job in jobs):
        report()
        time.sleep(POLL)
    for job in jobs:
        job.result()
    report()


def _work(
    parts: Segments,
    space: AbstractSpace,
    store: AbstractStore,
    key: Key,
    stop: Callable[..., Any] | None,
    ttl: float,
    devices: Sequence[Any],
    report: Callable[[], None],
) -> None:
    """Compute chunks until all are finished, by this process or another."""
    # an order of its own for every process spares collisions
    order = list(range(store.n_chunks))
    leases = None
    if isinstance(store, Folder):
        order = np.random.default_rng(os.getpid()).permutation(order).tolist()
        leases = Leases(store.path / "leases", ttl)
    lanes = Lanes(parts, space.members, key, store.chunk, stop, devices)

    def claimed() -> Iterator[int]:
        """Chunks to compute, each held; waits for those that others hold."""
        while left := [c for c in order if not store.finished(c)]:
            moved = False
            for c in left:
                name = f"{c:06d}"
                if store.finished(c) or (leases is not None and not leases.take(name)):
                    continue
                if store.finished(c):
                    if leases is not None:
                        leases.drop(name)
                    continue
                moved = True
                yield c
            if leases is None or parts.n > 1:
                return
            if not moved:
                report()
                time.sleep(POLL)

    def finish(c: int, rows: dict[str, np.ndarray]) -> None:
        store.write(c, rows)
        if leases is not None:
            leases.drop(f"{c:06d}")
        report()

    try:
        if parts.n == 1:
            for c in claimed():
                finish(c, lanes.chunk(np.arange(store.n)[store.rows(c)]))
        else:
            while not all(store.finished(c) for c in order):
                _segmented(lanes, store, claimed(), finish)
                if leases is not None and not all(store.finished(c) for c in order):
                    report()
                    time.sleep(POLL)
    finally:
        if leases is not None:
            leases.close()


def _segmented(lanes: Lanes, store: AbstractStore, chunks: Iterator[int], finish: Callable[..., None]) -> None:
    """Members of claimed chunks one after the other; a chunk is written when its last member is done."""
    waiting: dict[int, dict[int, dict[str, np.ndarray]]] = {}

    def members() -> Iterator[int]:
        for c in chunks:
            waiting[c] = {}
            yield from range(store.n)[store.rows(c)]

    def keep(member: int, results: dict[str, np.ndarray]) -> None:
        c = member // store.chunk
        waiting[c][member] = results
        rows = range(store.n)[store.rows(c)]
        if len(waiting[c]) == len(rows):
            done = waiting.pop(c)
            finish(c, {name: np.stack([done[m][name] for m in rows]) for name in done[rows[0]]})

    lanes.stream(members(), keep)


@contextlib.contextmanager
def _bar(store: AbstractStore, space: AbstractSpace, shown: bool) -> Iterator[Callable[[], None]]:
    """A progress bar over what all processes have finished."""
    if not shown:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("members")
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[rate]}")) as bar:
        began, first = time.perf_counter(), _members(store)
        task = bar.add_task("sweep", total=len(space), completed=first, rate="")

        def report() -> None:
            now = _members(store)
            rate = (now - first) / max(time.perf_counter() - began, 1e-9)
            bar.update(task, completed=now, rate=f"{rate:.3g} a second")

        yield report
        report()


def _members(store: AbstractStore) -> int:
    rows = (store.rows(c) for c in range(store.n_chunks) if store.finished(c))
    return sum(r.stop - r.start for r in rows)


__all__ = ["FLAG", "run"]
