"""Act 2: a recurrent spiking network learns to read Braille letters, beside a linear classifier."""

import time
from typing import Any

import numpy as np

from . import _braille
from ._braille import Epoch, Read, Settings, Trained
from ._data import BIN_MS, LETTERS, Letters, Ridge, load, ridge
from ._progress import AbstractProgress
from ._report import Act, Figure, Table


def act(c: Settings, progress: AbstractProgress) -> Act:
    """Train, read the held-out letters once, compare."""
    began = time.perf_counter()
    training, held_out, names = load()
    baseline = ridge(training, held_out)

    def report(e: Epoch) -> None:
        progress.advance(e.number, c.epochs, f"loss {e.loss:.3f}, accuracy in training {e.accuracy:.1%}")

    trained = _braille.train(training, c, report)
    got = _braille.read(trained.net, held_out.x, c)
    accuracy = float(np.mean(got.letter == held_out.y))
    progress.advance(c.epochs, c.epochs, f"held-out accuracy {accuracy:.1%} (ridge classifier {baseline.accuracy:.1%})")
    chance = float(np.max(np.bincount(held_out.y)) / held_out.y.size)
    error = 100 * np.sqrt(accuracy * (1 - accuracy) / held_out.y.size)
    numbers: dict[str, Any] = {
        "accuracy": accuracy,
        "ridge_accuracy": baseline.accuracy,
        "loss": [e.loss for e in trained.history],
        "train_accuracy": [e.accuracy for e in trained.history],
        "rate_hz": got.rate_hz,
        "train_s": trained.seconds,
    }
    return Act(
        title="A spiking network learns to read Braille",
        text=(
            "An artificial fingertip slides over raised letters, and its twelve sensors answer with events. A "
            f"recurrent network of {c.neurons} spiking neurons learns to tell which of {LETTERS} letters it was: "
            "gradients of the classification error are carried back through every spike of 1.28 s.",
            f"It saw {len(training.y)} recordings in training and none of the {len(held_out.y)} it is judged on; "
            f"those were read once, after the last epoch, and the settings were chosen on a split of the training "
            f"set. The standard error of its accuracy is {error:.1f} points. A ridge classifier on event counts in 16 "
            "time bins says what the task is worth without a network, and chance what it is worth without looking.",
        ),
        figures_of_merit={
            "held-out accuracy": f"{accuracy:.1%}",
            "ridge classifier on event counts": f"{baseline.accuracy:.1%}",
            "training time": f"{trained.seconds:.0f} s",
        },
        figures=(
            _samples(held_out, names),
            _learning(trained, accuracy, baseline),
            _inside(trained, held_out, got, names, c),
        ),
        tables=(_accuracies(accuracy, baseline, chance, c), _settings(trained, got, c)),
        numbers=numbers,
        seconds=time.perf_counter() - began,
    )


def _accuracies(accuracy: float, baseline: Ridge, chance: float, c: Settings) -> Table:
    rows = [
        (f"recurrent spiking network, {c.neurons} neurons", f"{accuracy:.1%}"),
        (f"ridge classifier, 12 x 16 event counts, lambda = {baseline.strength:.0f}", f"{baseline.accuracy:.1%}"),
        ("always the most frequent letter", f"{chance:.1%}"),
    ]
    return Table(("classifier", "held-out accuracy"), rows, "On the same 231 recordings.")


def _settings(trained: Trained, got: Read, c: Settings) -> Table:
    rows = [
        ("training set / batch / epochs", f"927 / {c.batch} / {c.epochs}"),
        ("time step", f"{c.dt:g} ms, {c.steps} steps"),
        ("delay lines of a sensor", f"{len(c.delays)}, {min(c.delays):g} to {max(c.delays):g} ms"),
        ("optimiser", f"AdamW, one cycle, learning rate {c.learning_rate:g}, weight decay {c.weight_decay:g}"),
        ("augmentation", f"{c.drop:.0%} of the events dropped on average, shifted by up to {c.roll * c.dt:g} ms"),
        ("label smoothing, dropout of neurons", f"{c.smoothing:g}, {c.mute:g}"),
        ("seed", c.seed),
        ("loss, first and last epoch", f"{trained.history[0].loss:.3f}, {trained.history[-1].loss:.3f}"),
        ("accuracy in training, last epoch (augmented)", f"{trained.history[-1].accuracy:.1%}"),
        ("mean firing rate of the neurons, held-out letters", f"{got.rate_hz:.1f} Hz"),
        ("first epoch, with compilation", f"{trained.history[0].seconds:.1f} s"),
        ("all epochs", f"{trained.seconds:.1f} s"),
    ]
    return Table(("training", ""), rows, prose=True)


def _samples(data: Letters, names: tuple[str, ...]) -> Figure:
    from matplotlib.figure import Figure as Canvas

    from ._style import tidy

    canvas = Canvas(figsize=(7.4, 2.1), layout="constrained")
    for k, ax in enumerate(canvas.subplots(1, LETTERS, sharey=True)):
        step, sensor = np.nonzero(data.x[np.flatnonzero(data.y == k)[0]])
        ax.plot(
            step * BIN_MS * 1e-3,
            sensor + 1,
            marker="|",
            markersize=3.2,
            markeredgewidth=0.6,
            linestyle="none",
            color="#1d2429",
        )
        ax.set(title=names[k], xlim=(0, 1.28), ylim=(0.3, 12.7), xticks=[0, 1], yticks=[1, 6, 12])
    canvas.axes[0].set(ylabel="sensor", xlabel="time (s)")
    tidy(canvas)
    caption = "What the sensors say: the first held-out recording of each letter. Every mark is an event."
    return Figure.of(canvas, caption, _samples)


def _learning(trained: Trained, accuracy: float, baseline: Ridge) -> Figure:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import MaxNLocator

    from ..plot import COLOURS
    from ._style import tidy

    epochs = [e.number for e in trained.history]
    canvas = Canvas(figsize=(7.4, 2.7), layout="constrained")
    left, right = canvas.subplots(1, 2)
    left.plot(epochs, [e.loss for e in trained.history], color=COLOURS[0])
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    right.plot(epochs, [100 * e.accuracy for e in trained.history], color=COLOURS[0], label="in training, augmented")
    right.plot(
        epochs[-1],
        100 * accuracy,
        marker="o",
        linestyle="none",
        color=COLOURS[1],
        label="held out",
        clip_on=False,
        zorder=3,
    )
    right.axhline(
        100 * baseline.accuracy, color="0.45", linestyle="--", linewidth=0.9, label="ridge classifier, held out"
    )
    right.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 100))
    right.legend(frameon=False, loc="lower right")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(canvas)
    caption = (
        "Learning. Left: cross-entropy with smoothed labels, mean over an epoch. Right: accuracy on the training "
        "samples as they are seen, with events dropped, times shifted and some neurons muted, which is harder than "
        "reading the recordings; the dot is the one look at the held-out set."
    )
    return Figure.of(canvas, caption, _braille.train, _learning)


def _inside(trained: Trained, data: Letters, got: Read, names: tuple[str, ...], c: Settings) -> Figure:
    """Left: the spikes for one letter and the scores; right: which letter was read as which."""
    from matplotlib.figure import Figure as Canvas

    from .. import plot
    from ._style import tidy

    right_ones = np.flatnonzero((got.letter == data.y) & (data.y > 0))
    shown = int(right_ones[0]) if right_ones.size else 0
    sol = _braille.watch(trained.net, data.x[shown], c)
    canvas = Canvas(figsize=(7.4, 4.0), layout="constrained")
    grid = canvas.add_gridspec(2, 2, width_ratios=(1.25, 1.0), height_ratios=(1.5, 1.0))
    top, bottom = canvas.add_subplot(grid[0, 0]), canvas.add_subplot(grid[1, 0])
    plot.raster(sol, "cells", ax=top, color="#1d2429", markersize=2.4)
    top.set(xlabel="", ylabel="neuron", title=f"reading {names[data.y[shown]]!r}")
    plot.traces(sol, "letters.v", ax=bottom, color="0.7")
    winner = int(got.letter[shown])
    bottom.lines[winner].set(color=plot.COLOURS[1], linewidth=1.4, zorder=3)
    bottom.set(ylabel="score")
    last = float(np.asarray(sol["letters.v"])[-1, winner])
    bottom.annotate(
        names[winner],
        (1.02, last),
        xycoords=("axes fraction", "data"),
        va="center",
        color=plot.COLOURS[1],
        fontsize=9.5,
    )
    confusion = np.zeros((LETTERS, LETTERS), int)
    np.add.at(confusion, (data.y, got.letter), 1)
    ax = canvas.add_subplot(grid[:, 1])
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0.0, vmax=1.15)
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            ax.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share[row, column] > 0.6 else "black",
            )
    ax.set(
        xticks=range(LETTERS),
        yticks=range(LETTERS),
        xticklabels=names,
        yticklabels=names,
        xlabel="read as",
        ylabel="letter",
    )
    tidy(canvas)
    caption = (
        f"Left: the spikes of all {c.neurons} neurons for one held-out recording, and the potentials of the letters, "
        "whose mean over time is the score; the winner in colour. Right: how often each letter was read as which, on "
        "the held-out recordings."
    )
    return Figure.of(canvas, caption, _braille.network, _braille.simulate, _braille.watch, _inside)
