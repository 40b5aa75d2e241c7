"""A network learns digits by itself: spikes, plastic synapses and homeostasis, and no gradient.

Pixels send Poisson spikes to neurons that inhibit each other. A neuron that spikes strengthens the synapses of the
pixels that spiked just before and weakens the others; its weights are scaled to a fixed sum after every digit, and a
neuron that spikes often raises its threshold, so that others get their turn (after Diehl & Cook 2015). Labels are used
at the end only, to name what each neuron has come to answer to.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

from ._progress import AbstractProgress
from ._report import Act, Figure, Table

PIXELS, CLASSES = 784, 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """What was chosen, on training digits only."""

    neurons: int = 225
    samples: int = 20_000
    """Digits that are seen, once each."""
    named: int = 3_000
    """The last of these, by whose labels neurons are named."""
    tested: int = 2_000
    present: float = 150.0
    """How long a digit is shown (ms)."""
    peak: float = 90.0
    """Rate of a white pixel (Hz)."""
    parts: int = 10
    """In how many parts the samples are gone through, for the progress shown."""
    seed: int = 0


class Digits(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(path: Path, c: Settings) -> Digits:
    """The digits that are used, of a file with `x_train`, `y_train`, `x_test` and `y_test`."""
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the arrays of MNIST as one .npz file.")
    with np.load(path) as z:
        missing = {"x_train", "y_train", "x_test", "y_test"} - set(z.files)
        if missing:
            raise OSError(f"{path} has no {', '.join(sorted(missing))}; expected the arrays of MNIST.")
        cut = {"train": slice(c.samples), "test": slice(c.tested)}
        x, xt = (z[f"x_{k}"][at].reshape(-1, PIXELS).astype(np.float32) / 255.0 for k, at in cut.items())
        y, yt = (z[f"y_{k}"][at].astype(np.int32) for k, at in cut.items())
    return Digits(x, y, xt, yt)


class Imprint(bs.AbstractPlasticity):
    """A spike moves the weight towards pixels that have just spiked."""

    tau: float = 20.0
    rate: float = 0.02
    offset: float = 0.35
    w_min: float = 0.0
    w_max: float = 1.0

    def traces(self):
        return {"x": bs.SpikeTrace("pre", self.tau, nearest=True)}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + self.rate * (pre.x - self.offset)}


def network(c: Settings) -> bs.Network:
    """Pixels -> neurons that inhibit each other."""
    rng, n = np.random.default_rng(c.seed), c.neurons
    cell = bs.LIF(tau_m=50.0, e_l=0.0, v_reset=0.0, v_th=10.0, t_ref=3.0, g_l=0.01)
    kept = bs.Homeostatic(cell, rate=0.5, eta=2.0)
    rule = bs.Normalised(Imprint(), total=78.0, every=c.present)
    start = rng.uniform(0.0, 0.3, (PIXELS, n)).astype(np.float32)
    return bs.Network(
        {
            "pixels": bs.Source(process=bs.Poisson(0.0), size=PIXELS),
            "cells": bs.Population(kept, n, {"exc": bs.ExpCurr(tau=2.0), "inh": bs.ExpCurr(tau=5.0)}),
        },
        {
            "learnt": bs.PlasticProjection("pixels", "cells.exc", bs.AllToAll(), weight=start, rule=rule),
            "rivals": bs.Projection("cells", "cells.inh", bs.AllToAll(), weight=-15.0 * (1.0 - np.eye(n))),
        },
        key=jax.random.key(c.seed),
    )


@eqx.filter_jit
def shown(net: bs.Network, state: bs.State, images: Any, present: float, peak: Any) -> tuple[bs.State, Any]:
    """The state after these digits, and the spikes of every neuron to each."""

    def one(state, image):
        sol = bs.simulate(
            net,
            t0=0.0,
            t1=present,
            dt=1.0,
            state=state,
            inputs={"pixels": image * peak},
            throw=False,
            saveat=[bs.Events(node="cells")],
        )
        return sol.state, jnp.sum(sol["cells.events"], 0)

    return jax.lax.scan(one, state, images)


def named(counts: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The class to which each neuron answers most."""
    return np.stack([counts[y == k].mean(0) if np.any(y == k) else 0 * counts[0] for k in range(CLASSES)]).argmax(0)


def vote(counts: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The class whose neurons answer most, on average."""
    votes = [counts[:, label == k].mean(1) if np.any(label == k) else np.zeros(len(counts)) for k in range(CLASSES)]
    return np.stack(votes, 1).argmax(1)


def ridge(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, penalty: float) -> np.ndarray:
    """Classes by a linear readout."""
    a, b = (np.c_[z, np.ones(len(z))] for z in (x, x_test))
    w = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ np.eye(CLASSES)[y])
    return (b @ w).argmax(1)


def act(c: Settings, path: Path, progress: AbstractProgress) -> Act:
    """Learn, name, test."""
    began, data, net = time.perf_counter(), load(path, c), network(c)
    state = bs.initial_state(net, dt=1.0, key=jax.random.key(c.seed + 1))
    n = len(data.x) // c.parts
    for k in range(c.parts):
        state, _ = jax.block_until_ready(shown(net, state, data.x[k * n : (k + 1) * n], c.present, c.peak))
        progress.advance(k + 1, c.parts + 1, f"{(k + 1) * n:,} digits seen")
    frozen = eqx.tree_at(lambda net: net.edges["learnt"].frozen, net, jnp.array(True))
    known, y = data.x[-c.named :], data.y[-c.named :]
    counts, tested = (np.asarray(shown(frozen, state, x, c.present, c.peak)[1]) for x in (known, data.x_test))
    label = named(counts, y)
    found = {
        "accuracy": float(np.mean(vote(tested, label) == data.y_test)),
        "accuracy_of_counts": float(np.mean(ridge(counts, y, tested, 1.0) == data.y_test)),
        "accuracy_of_pixels": float(np.mean(ridge(data.x, data.y, data.x_test, 10.0) == data.y_test)),
        "accuracy_of_pixels_same_labels": float(np.mean(ridge(known, y, data.x_test, 10.0) == data.y_test)),
        "chance": float(np.mean(data.y_test == np.bincount(data.y).argmax())),
        "spikes_a_digit": float(tested.sum(1).mean()),
        "seconds": time.perf_counter() - began,
    }
    progress.advance(c.parts + 1, c.parts + 1, f"{found['accuracy']:.1%} of digits not seen before")
    rows = [
        ("neurons, each by its favourite digit", f"{len(y):,}", f"{found['accuracy']:.1%}"),
        ("a linear readout of all neurons", f"{len(y):,}", f"{found['accuracy_of_counts']:.1%}"),
        ("a linear readout of the pixels", f"{len(y):,}", f"{found['accuracy_of_pixels_same_labels']:.1%}"),
        ("a linear readout of the pixels", f"{len(data.y):,}", f"{found['accuracy_of_pixels']:.1%}"),
    ]
    merits = {"digits named right": f"{found['accuracy']:.1%}", "linear readout of pixels": rows[-1][-1]}
    return Act(
        title="A network learns digits by itself",
        text=(
            f"{c.neurons} spiking neurons see {len(data.x):,} handwritten digits once, {c.present:g} ms each, with "
            "plastic synapses and no gradient and no label. What they have become is shown below.",
            "A spike strengthens what came from pixels that spiked just before and weakens the rest; weights are "
            "scaled to a fixed sum after every digit, and thresholds rise with each spike (after Diehl & Cook 2015, "
            "who let networks see 60,000 digits three times or more). Labels only name the neurons afterwards.",
        ),
        figures_of_merit=merits,
        figures=(_picture(np.asarray(state.edges["learnt"]["w"]), label),),
        tables=(
            Table(("who says which digit it is", "labels used", "right"), rows, f"{len(data.y_test):,} new digits."),
        ),
        numbers=found,
        seconds=time.perf_counter() - began,
    )


def _picture(weights: np.ndarray, label: np.ndarray) -> Figure:
    from matplotlib.figure import Figure as Canvas

    order = np.argsort(label, kind="stable")[: int(np.sqrt(label.size)) ** 2]
    side = int(np.sqrt(order.size))
    tiles = weights.reshape(28, 28, -1)[:, :, order].reshape(28, 28, side, side)
    canvas = Canvas(figsize=(4.2, 4.2), layout="constrained")
    ax = canvas.subplots()
    ax.imshow(tiles.transpose(2, 0, 3, 1).reshape(28 * side, 28 * side), cmap="magma")
    ax.set_axis_off()
    caption = "The weights from the pixels to every neuron, sorted by the digit that the neuron answers to."
    return Figure.of(canvas, caption, Imprint, network, shown, _picture)
