"""The demo: its acts, one after the other, and the report."""

import dataclasses
import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path

from . import _braille, _coba, _digits, _lowered, _reading
from ._facts import facts, installed
from ._progress import AbstractProgress, Silent
from ._report import Act, Table, part, write


def coba_settings(*, quick: bool, seed: int) -> _coba.Settings:
    """The runs of act 1."""
    whole = _coba.Settings(seed=seed)
    return dataclasses.replace(whole, t1=500.0, start=100.0, seeds=1) if quick else whole


def reading_settings(*, quick: bool, seed: int) -> _braille.Settings:
    """The training of act 2."""
    whole = _braille.Settings(seed=seed)
    return dataclasses.replace(whole, neurons=64, steps=64, epochs=3, roll=6) if quick else whole


def digits_settings(*, quick: bool, seed: int) -> _digits.Settings:
    """The learning of the act on digits."""
    whole = _digits.Settings(seed=seed)
    return dataclasses.replace(whole, neurons=36, samples=400, named=200, tested=100, parts=2) if quick else whole


ACTS: dict[str, Callable[[bool, int, AbstractProgress], Act]] = {
    "balanced network": lambda quick, seed, progress: _coba.act(coba_settings(quick=quick, seed=seed), progress),
    "reading Braille": lambda quick, seed, progress: _reading.act(reading_settings(quick=quick, seed=seed), progress),
}
"""Short title -> act, called as `act(quick, seed, progress)`. A new act is a new entry."""
if _lowered.available():
    ACTS["letters on chips"] = lambda quick, seed, progress: _lowered.act(quick, progress)

DIGITS = "learning digits"
"""Short title of the act that needs a file of digits."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What the demo computed and where the report is."""

    path: Path
    acts: tuple[Act, ...]
    seconds: float


def run(
    path: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    progress: AbstractProgress | None = None,
    digits: Path | None = None,
) -> Result:
    """Run every act and write the report to `path`; raises OSError before the work if it cannot be written. `digits`: a
    file with the arrays of MNIST, for the act that learns them."""
    progress = progress or Silent()
    path = path.expanduser().resolve()
    writable(path)
    shown = digits_settings(quick=quick, seed=seed)
    if digits is not None:
        _digits.load(digits, shown)
    began, acts = time.perf_counter(), []
    for title, act in ACTS.items():
        progress.begin(title)
        acts.append(act(quick, seed, progress))
    if digits is not None:
        progress.begin(DIGITS)
        acts.append(_digits.act(shown, digits, progress))
    seconds = time.perf_counter() - began
    now = datetime.datetime.now().astimezone()
    made = f"Made on {now:%Y-%m-%d %H:%M %Z} by brainsim {installed('brainsim')} in {seconds:.0f} s, seed {seed}."
    summary = (
        "Networks that are simulated, that learn, and that chips run. Every number below was computed on this machine "
        "just now, except those of other simulators, which are marked."
    )
    if quick:
        summary += (
            " *This was a quick look* (`--quick`): shorter runs and little training, so accuracies and rates are not "
            "the real ones."
        )
    environment = Table(("what", "which"), [*facts(), ("seed", seed)], prose=True)
    title = "brainsim: what it does, shown"
    write(path, acts, environment, title=title, summary=summary, made=made, advice=part("next.html"))
    return Result(path, tuple(acts), seconds)


def writable(path: Path) -> None:
    """Raise OSError, with the path, unless a file can be written there."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, such as {path / 'brainsim-report.html'}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist; make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(f"{path} cannot be written; name another place.")
