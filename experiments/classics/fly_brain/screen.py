"""A screen: every condition silences one neuron; all share one wiring and one stimulus.

`python -m experiments.classics.fly_brain.screen [--conditions 1000] [--neurons 5000] [--t1 200] [--out PATH]`
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

from ..._provenance import commit
from .model import fly_brain
from .run import RATE, SEED, SUGAR
from .synthetic import synthetic

SINGLES = 100
"""Runs of one condition whose mean time stands for that of each."""


def condition(brain: bs.Connectome, stimulated: np.ndarray, t1: float) -> Callable[[Any], jax.Array]:
    """A function from the row of a neuron that is silenced, -1 for none, to the rates (Hz) of all neurons."""
    n, steps = len(brain), round(t1 / 0.1)
    net = fly_brain(brain, bs.Poisson(RATE), stimulated, gain=np.ones(n))
    rules = dict(dt=0.1, solver=bs.ExponentialEuler(), key=jax.random.key(SEED))

    def rates(silenced):
        gain = (jnp.arange(n) != silenced).astype(float)
        silent = eqx.tree_at(lambda x: x.edges["wiring"].short_term.gain, net, gain)
        recorded = bs.simulate(silent, t1=t1, saveat=[bs.Events("brain", every=steps)], **rules)
        return recorded["brain.events"][0] * (1e3 / t1)

    return rates


def screen(brain: bs.Connectome, stimulated: np.ndarray, silenced: np.ndarray, t1: float) -> Any:
    """Rates (Hz) as an `xarray.DataArray` with the axes `silenced` and `neuron`, both rows of the connectome."""
    rates = condition(brain, stimulated, t1)
    space = bs.sweep.Grid({"silenced": silenced})
    found = bs.sweep.run(lambda p, key: {"rate": rates(p["silenced"])}, space, key=jax.random.key(SEED), progress=False)
    table = found.dataset()["rate"]
    return table.rename({table.dims[1]: "neuron"}).assign_coords(neuron=np.arange(len(brain)))


def timed(fn: Callable, *args: Any) -> tuple[float, Any]:
    """Seconds, and what `fn` gives."""
    began = time.perf_counter()
    out = jax.block_until_ready(fn(*args))
    return time.perf_counter() - began, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conditions", type=int, default=1000)
    parser.add_argument("--neurons", type=int, default=5000)
    parser.add_argument("--t1", type=float, default=200.0, help="ms")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "screen.json")
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    brain = synthetic(args.neurons)
    stimulated = np.sort(rng.choice(len(brain), SUGAR, replace=False))
    others = rng.permutation(np.setdiff1d(np.arange(len(brain)), stimulated))
    silenced = np.concatenate([stimulated, others])[: args.conditions]
    rates = condition(brain, stimulated, args.t1)
    one, together = jax.jit(rates), jax.jit(jax.vmap(rates))
    jax.block_until_ready(one(-1))
    singles = [timed(one, k) for k in silenced[:SINGLES]]
    results = {"commit": commit(), "load": os.getloadavg()[0], "neurons": len(brain), "conditions": len(silenced)}
    results |= {"t1_ms": args.t1, "one_s": float(np.mean([s for s, _ in singles]))}
    results["first_call_s"] = timed(together, silenced)[0]
    results["one_call_s"], rows = timed(together, silenced)
    results["one_call_to_singles"] = results["one_call_s"] / (results["one_s"] * len(silenced))
    seconds, table = timed(screen, brain, stimulated, silenced, args.t1)
    results["sweep_s"] = seconds
    results["sweep_same"] = bool(np.array_equal(table.values, rows))
    results["singles_same"] = all(np.array_equal(row, x) for row, (_, x) in zip(rows, singles))
    results["conditions_that_differ"] = int((np.asarray(rows) != np.asarray(one(-1))).any(axis=1).sum())
    results["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(table)
    print(json.dumps(results, indent=2))
    args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
