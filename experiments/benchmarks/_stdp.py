"""Pair STDP for all simulators: constants, and the loop of a worker process.

N units that emit Poisson events, N units each of which is made to spike by another Poisson unit, and OUT random
synapses from each of the first onto the second. Weights are small, so that they do not move the rate. This file is read
by the Python of each peer, so it imports nothing but what all have.
"""

import json
import sys
import time

N, OUT, RATE_HZ, DT_MS = 10_000, 1_000, 10.0, 0.1
TAU_MS, A_PLUS, A_MINUS, W_MAX, W0 = 20.0, 0.01, 0.0105, 1.0, 0.5
KICK_MV, TAU_M_MS, G_L, THRESHOLD_MV = 50.0, 20.0, 10.0, 10.0  # mV, ms, nS, mV above rest
TAU_SYN_MS = 5.0  # of the current (pA) that the synapses make


def graph(seed=0):
    """`(pre, post)`, sorted by pre; targets of a unit are distinct."""
    import numpy as np

    rng = np.random.default_rng(seed)
    post = np.empty((N, OUT), np.int32)
    for i in range(N):
        post[i] = np.sort(rng.choice(N, OUT, replace=False, shuffle=False))
    return np.repeat(np.arange(N, dtype=np.int32), OUT), post.reshape(-1)


def trains(t_ms, seed=1):
    """The spikes of the two sides, `(steps, units)` each, for peers that are given them."""
    import numpy as np

    rng = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        step, unit = [], []
        for k in range(round(t_ms / DT_MS)):
            found = np.flatnonzero(rng.random(N) < RATE_HZ * DT_MS * 1e-3)
            step.append(np.full(found.size, k))
            unit.append(found)
        sides.append((np.concatenate(step), np.concatenate(unit)))
    return sides


def serve(about, run):
    """Says what was prepared, then runs once per line of standard input and says what it took.

    `run()` gives `(seconds of processor time, wall seconds, pre events, post events, mean weight)`.
    """
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        names = ("cpu_s", "wall_s", "pre_events", "post_events", "mean_weight")
        print(json.dumps(dict(zip(names, map(float, run())))), flush=True)


class Stopwatch:
    def __enter__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall_s, self.cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu
