"""History and reports of a fit, kept on disk with the state of the method."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..io import read_arrays, write_arrays


class Log:
    """History and reports, kept on disk with the state of the method."""

    def __init__(self, path: Any, every: int, resume: bool, about: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        if every < 1:
            raise ValueError(f"fit: every is {every}; expected a number of steps >= 1.")
        if resume and path is None:
            raise ValueError("fit: resume=True needs checkpoint=, the folder of the fit to go on with.")
        self.resume, self.about = resume, about
        self.history: list[np.ndarray] = []
        self.seconds: list[float] = []
        self.reports: list[str] = []

    def open(self, run: Any) -> int:
        """The number of steps already done, with `run` as it was after them."""
        if self.path is None:
            return 0
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "fit.npz"
        if not file.exists():
            return 0
        if not self.resume:
            raise FileExistsError(
                f"{self.path} already holds a fit. Pass resume=True to go on with it, or choose another folder."
            )
        arrays, about = read_arrays(file, "Begin the fit again in another folder.")
        for name, value in self.about.items():
            if about[name] != value:
                raise ValueError(
                    f"{self.path} holds a fit with {name} = {about[name]}, not {value}. Resume with the same arguments."
                )
        self.history, self.seconds = list(arrays.pop("history")), arrays.pop("seconds").tolist()
        self.reports = about["reports"]
        run.restore(arrays, str(file))
        return len(self.history)

    def add(self, losses: np.ndarray, seconds: float) -> None:
        self.history.append(losses)
        self.seconds.append(seconds)

    def report(self, message: str) -> None:
        self.reports.append(message)
        if len(self.reports) == 1:
            warnings.warn(f"fit: {message}. All such reports are in `reports` of what fit returns.", stacklevel=4)

    def save(self, run: Any, done: int) -> None:
        if self.path is None:
            return
        about = self.about | {"reports": self.reports, "steps": done}
        arrays = run.kept() | {"history": np.stack(self.history), "seconds": np.asarray(self.seconds)}
        write_arrays(self.path / "fit.npz", arrays, about)
