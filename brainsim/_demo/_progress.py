"""What the demo tells while it runs."""

import abc


class AbstractProgress(abc.ABC):
    """Is told of the acts as they come; the command line draws bars, a test listens."""

    @abc.abstractmethod
    def begin(self, title: str) -> None:
        """An act begins."""

    @abc.abstractmethod
    def advance(self, done: int, total: int, text: str) -> None:
        """`done` of `total` parts of the present act are over; `text` says what came out of the last."""


class Silent(AbstractProgress):
    """Says nothing."""

    def begin(self, title: str) -> None:
        pass

    def advance(self, done: int, total: int, text: str) -> None:
        pass
