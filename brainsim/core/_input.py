"""External input to the nodes of a run: constants, recorded arrays, waveforms."""

import abc
from typing import Any

from jaxtyping import Array

from ..base import Frozen
from ._state import Clock


class AbstractInput(Frozen):
    """A waveform for `simulate(inputs={"P": ...})`: a current for populations, values for external sources."""

    @property
    def silent_from(self) -> float | None:
        """The time (ms) from which on the value is 0, where it is known; a run that begins later warns."""
        return None

    @abc.abstractmethod
    def check(self, name: str, n: int) -> None:
        """Raise on shapes that do not fit the `n` units of node `name`."""

    @abc.abstractmethod
    def init(self, n: int, clock: Clock) -> Any:
        """Initial state of the waveform for `n` units."""

    @abc.abstractmethod
    def value(self, z: Any, n: int, clock: Clock) -> tuple[Array, Any]:
        """The value during this step, shape () or (n,), and the next state."""
