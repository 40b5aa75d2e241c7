"""One way to propagate events over one graph, in its own process: told an activity, it answers with times.

Runs in the environment of whoever is measured; needs numpy, and jax but for `plain`.
"""

import argparse
import ctypes
import json
import os
import sys
import time

import numpy as np

TRIED = 64  # steps before the first measurement: brainsim finds out in 28 whether a second thread is worth it


def plain(folder, n_pre, n_post):
    """The loop one would write (plain_propagate.cc), compiled for this machine."""
    loop = ctypes.CDLL(f"{folder}/plain.so").plain_propagate
    loop.restype = ctypes.c_double
    weight, indptr, indices = (np.load(f"{folder}/{x}.npy", mmap_mode="r") for x in ("weight", "indptr", "indices"))

    def compiled(active):
        values = active.astype(np.float32)
        address = [ctypes.c_void_p(x.ctypes.data) for x in (values, weight, indptr, indices)]

        def run(out):
            out = np.array(out)
            loop(ctypes.c_void_p(out.ctypes.data), *address, ctypes.c_int64(n_pre), ctypes.c_int64(len(values)))
            return out

        return run

    return compiled


def jaxed(step, graph):
    """A jitted scan of `step(out, graph, row)` over the rows, as a simulation runs; it copies every row it takes."""
    import jax

    def compiled(rows):
        @jax.jit
        def chain(out, graph, rows):
            return jax.lax.scan(lambda out, row: (step(out, graph, row), None), out, rows)[0]

        rows = jax.tree.map(jax.numpy.asarray, rows)
        return lambda out: jax.block_until_ready(chain(out, graph, rows))

    return compiled


def brainsim(folder, n_pre, n_post, words=False):
    import jax.numpy as jnp

    from brainsim.events import CSR, backend, deposit, on_huge_pages

    if backend() != "kernels":
        raise SystemExit(f"brainsim runs {backend()}; expected kernels")
    graph = CSR(np.load(f"{folder}/indptr.npy"), np.load(f"{folder}/indices.npy"), n_post)
    weight = on_huge_pages(jnp.asarray(np.load(f"{folder}/weight.npy")))  # as those of a Projection are

    def step(out, graph_weight, row):
        active, packed = row if words else (row, None)
        return deposit(out[None], *graph_weight, active.astype(out.dtype), words=packed)[0]

    compiled = jaxed(step, (graph, weight))
    return (lambda active: compiled((active, pack(active)))) if words else compiled


def brainsim_words(*args):
    return brainsim(*args, words=True)


def brainevent(folder, n_pre, n_post):
    import jax.numpy as jnp
    from brainevent import CSR, BinaryArray, config

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if cores > 1:  # its loops of this product have no parallel form, so it changes nothing
        config.set_numba_parallel(True, cores)
    data, indices, indptr = (jnp.asarray(np.load(f"{folder}/{x}.npy")) for x in ("weight", "indices", "indptr"))

    def compiled(active):  # the graph is a constant: it refuses to be traced, and keeps what one trace has made of it
        graph = CSR((data, indices, indptr), shape=(n_pre, n_post))
        return jaxed(lambda out, _, row: out + BinaryArray(row) @ graph, None)(active)

    return compiled


def dense(folder, n_pre, n_post):
    import jax.numpy as jnp

    weight, indptr, indices = (np.load(f"{folder}/{x}.npy") for x in ("weight", "indptr", "indices"))
    matrix = np.zeros((n_pre, n_post), np.float32)
    np.add.at(matrix, (np.repeat(np.arange(n_pre), np.diff(indptr)), indices), weight)
    return jaxed(lambda out, w, row: out + row.astype(out.dtype) @ w, jnp.asarray(matrix))


def pack(active):
    n = active.shape[1]
    bits = np.packbits(np.pad(active, ((0, 0), (0, -n % 32))), axis=1, bitorder="little")
    return bits.view("<u4")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["plain", "brainsim", "brainsim_words", "brainevent", "dense"])
    parser.add_argument("folder")
    parser.add_argument("n_pre", type=int)
    parser.add_argument("n_post", type=int)
    parser.add_argument("threads", type=int)
    args = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    compiled = globals()[args.way](args.folder, args.n_pre, args.n_post)
    start, known = np.zeros(args.n_post, np.float32), {}
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        name = line.strip()  # of a file of events; the first time it is compiled and run before
        if name not in known:
            active = np.load(f"{args.folder}/{name}.npy")
            known = {name: compiled(active)}
            for _ in range(1 + TRIED // len(active)):
                known[name](start)
        known[name](start)  # its threads have slept while others were measured; some systems wake them late
        wall, cpu = time.perf_counter(), time.process_time()
        result = known[name](start)
        times = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps({**times, "sum": float(np.asarray(result).sum(dtype=np.float64))}), file=out, flush=True)


if __name__ == "__main__":
    main()
