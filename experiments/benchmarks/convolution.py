"""A convolution by events, densely and by `lax.conv`: `python -m experiments.benchmarks.convolution`, writes
convolution.json.

16 to 16 channels of 16 x 16, window 3 x 3, one thread, float32; forward, with all gradients, and in training. Fifty
steps in one compiled scan, so that the cost of a call does not count; every step has active units of its own. The ways
take turns, and medians of processor time are taken.

- *brainsim*: `propagate`, from packed words; it changes to dense products by itself;
- *dense*: the best dense form in JAX: `Convolution.apply`, shifted slices and one matrix product;
- *lax*: `lax.conv_general_dilated`;
- *gradient*: forward, and the gradients of the weight and of every unit sent;
- *training*: the gradient of the units within reach of a surrogate only, three times as many as are active: brainsim
  computes no others.
"""

import json
import os
import statistics
import time
from pathlib import Path
from typing import Annotated

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import brainsim as bs
from brainsim.events import propagate

from ._op_worker import pack
from ._simulators import HERE
from .run import machine

C = bs.Convolution((16, 16, 16), 16, 3, padding=1)
ACTIVITIES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
STEPS = 50


def by_lax(weight, x, words, support):
    dims = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(x.reshape(1, *C.shape), weight, (1, 1), C.padding, dimension_numbers=dims)
    return out.reshape(-1)


def densely(weight, x, words, support):
    return C.apply(weight, x)


def by_events(weight, x, words, support):
    return propagate(C, weight, x, support, words=words)


WAYS = {"brainsim": by_events, "dense": densely, "lax": by_lax}


def forward(way):
    """The sum over steps of what arrives."""

    def run(weight, cts, steps):
        return jax.lax.scan(lambda out, step: (out + way(weight, *step), None), jnp.zeros(C.n_post), steps)[0]

    return run


def gradient(way):
    """What arrives, and both gradients under a cotangent of its own in every step."""

    def run(weight, cts, steps):
        def add(acc, each):
            ct, (x, words, support) = each
            out, back = jax.vjp(lambda w, x: way(w, x, words, support), weight, x)
            d_weight, d_x = back(ct)
            d_x = d_x if support is None else jnp.where(support, d_x, 0)
            return jax.tree.map(jnp.add, acc, (out, d_weight, d_x)), None

        return jax.lax.scan(add, tuple(map(jnp.zeros, (C.n_post, C.weight_shape, C.n_pre))), (cts, steps))[0]

    return run


KINDS = {"forward": forward, "gradient": gradient, "training": gradient}


def measure(activity, rounds):
    rng = np.random.default_rng(0)
    score = rng.random((STEPS, C.n_pre))
    active, near = score < activity, jnp.asarray(score < 3 * activity)
    words = jnp.asarray(pack(active))
    weight, cts = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (C.weight_shape, (STEPS, C.n_post)))
    record = {"activity": activity, "events_per_step": float(active.sum() / STEPS) * 9 * C.channels}
    for kind, make in KINDS.items():
        given = weight, cts, (jnp.asarray(active, jnp.float32), words, near if kind == "training" else None)
        runs = {name: jax.jit(make(way)) for name, way in WAYS.items()}
        found = {name: jax.tree.leaves(run(*given)) for name, run in runs.items()}
        for name, got in found.items():
            for a, b in zip(got, found["dense"], strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max(), err_msg=f"{kind} {name}")
        times = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.process_time()
                jax.block_until_ready(run(*given))
                times[name].append((time.process_time() - start) / STEPS * 1e6)
        for name, each in times.items():
            ratios = [t / own for t, own in zip(each, times["brainsim"], strict=True)]
            record[f"{kind}_{name}_us"] = statistics.median(each)
            record[f"{kind}_x_{name}"] = statistics.median(ratios)
    record["ns_per_event"] = 1e3 * record["forward_brainsim_us"] / record["events_per_step"]
    return record


def show(records):
    columns = [(kind, way) for kind in KINDS for way in WAYS]
    table = Table(title="us a step; how many times brainsim's")
    for name in ("activity", "ns an event", *map(" ".join, columns)):
        table.add_column(name, justify="right")
    for r in records:
        cells = [f"{r[f'{kind}_{way}_us']:.0f}; {r[f'{kind}_x_{way}']:.3g}x" for kind, way in columns]
        table.add_row(f"{r['activity']:.0%}", f"{r['ns_per_event']:.2f}", *cells)
    Console(width=None if Console().is_terminal else 170).print(table)


def main(
    rounds: Annotated[int, typer.Option(help="Measurements of each way, by turns.")] = 31,
    output: Annotated[Path, typer.Option(help="Where the numbers go.")] = HERE / "convolution.json",
):
    about, records = machine(), [measure(activity, rounds) for activity in ACTIVITIES]
    about["load_average_at_end"] = round(os.getloadavg()[0], 2)
    output.write_text(json.dumps({"machine": about, "rounds": rounds, "records": records}, indent=1) + "\n")
    show(records)


if __name__ == "__main__":
    typer.run(main)
