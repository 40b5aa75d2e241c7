"""What every simulator's script shares: arguments, the run loop, one JSON line. Standard library only.

A script defines `prepare(options) -> (about, run)` and calls `main(prepare)`. `run(seed)` draws a graph and an initial
state (the rate of COBA-LIF at 4,000 units varies by 6 % from graph to graph), performs one warm run and returns a
`Run`. Alone, the script performs `--repeats` runs; with `--interactive` it prints `{"ready": true}` when all
is built, then performs one run per line read from standard input, so that the harness can interleave simulators.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import sys
import threading
import time


@dataclasses.dataclass(frozen=True)
class Run:
    run_s: float  # what the warm simulation loop took, nothing built, compiled or written
    cpu_s: float | None  # processor time of the same loop, all threads: what other work on the machine disturbs least
    build_s: float  # what making this run's graph and initial state took
    compile_s: float  # what compiling took, 0 where a program compiled before serves every run
    rate_hz: float  # mean rate per unit from networks.WINDOW_START_MS to the end
    rate_whole_hz: float  # the same over the whole run, start-up included


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", required=True)
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--t-ms", type=float, default=2000.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--interactive", action="store_true")
    parser.add_argument("--precision", default=None, help="float32 or float64, where the simulator offers the choice")
    parser.add_argument("--workdir", default=None, help="a folder for generated code")
    return parser.parse_args()


def main(prepare):
    opts = options()
    # Only the JSON lines may reach our standard output: NEST and compilers print there too.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):  # the one way to hold every peer's own thread pool to the stated count
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: opts.threads])
    memory = Memory()
    start = time.perf_counter()
    about, run = prepare(opts)
    about = {"prepare_s": time.perf_counter() - start, **about}
    runs = []
    for seed in seeds(opts, out):
        runs.append(run(seed))
        if opts.interactive:
            say(out, dataclasses.asdict(runs[-1]))
    result = {
        "simulator": about.pop("simulator"),
        "version": about.pop("version"),
        "network": opts.network,
        "n": opts.n,
        "threads": opts.threads,
        "biological_s": opts.t_ms / 1000,
        **about,
        "compile_s": about.get("compile_s", 0.0) + (statistics.median(r.compile_s for r in runs) if runs else 0.0),
        "build_s": [r.build_s for r in runs],
        "peak_memory_mb": peak_memory_mb(),
        "peak_anonymous_mb": memory.peak_mb(),
        "run_s": [r.run_s for r in runs],
        "cpu_s": [r.cpu_s for r in runs],
        "rate_hz": sum(r.rate_hz for r in runs) / max(len(runs), 1),
        "rates_hz": [r.rate_hz for r in runs],
        "rates_whole_hz": [r.rate_whole_hz for r in runs],
    }
    say(out, result)


def seeds(opts, out):
    if not opts.interactive:
        yield from range(opts.seed, opts.seed + opts.repeats)
        return
    say(out, {"ready": True})
    for line in sys.stdin:
        yield int(line)


def say(out, value):
    print(json.dumps(value), file=out, flush=True)


def peak_memory_mb():
    """Largest resident size of this process or of one that it started: Brian2's program, but also a compiler."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024


class Memory:
    """The most anonymous memory that this process, or one that it started, has had: what it made itself, without the
    pages of libraries, which the system shares and takes back. Looked at five times a second; None but on Linux."""

    def __init__(self):
        self._peak = None
        threading.Thread(target=self._watch, daemon=True).start()

    def peak_mb(self):
        self._look(os.getpid())
        return self._peak

    def _watch(self):
        while True:
            self._look(os.getpid())
            time.sleep(0.2)

    def _look(self, process):
        try:
            with open(f"/proc/{process}/status") as file:
                own = next(int(line.split()[1]) // 1024 for line in file if line.startswith("RssAnon"))
            self._peak = max(self._peak or 0, own)
            with open(f"/proc/{process}/task/{process}/children") as file:
                children = file.read().split()
        except (OSError, StopIteration):  # another system, or a process that is over
            return
        for child in children:
            self._look(child)


class Stopwatch:
    """`with Stopwatch() as watch: ...` then `watch.run_s` (wall) and `watch.cpu_s` (all threads of this process)."""

    def __enter__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.run_s, self.cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu


def rates(times_ms, opts, start_ms):
    """Mean rate of late and of all spikes, from an array of spike times."""
    late = int((times_ms >= start_ms).sum())
    return late / opts.n / (opts.t_ms - start_ms) * 1000, times_ms.size / opts.n / opts.t_ms * 1000
