"""What edges along a `Route` have in common, wired and scheduled."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool

from ._edge import AbstractEdge, AbstractLink
from ._wiring import Route, check_steps, ring_depth, within_line


class AbstractRouted(AbstractLink):
    """An edge from the units of one node to a port of another."""

    route: eqx.AbstractVar[Route]

    @property
    def reads(self) -> dict[str, str]:
        return {"pre": self.route.pre}

    @property
    def writes(self) -> tuple[str, str]:
        return self.route.post, self.route.port

    @property
    def instant(self) -> bool:
        return False


class AbstractDelayed(AbstractRouted, AbstractEdge):
    """A wired edge whose delays (ms) lie within `max_delay`."""

    delay: eqx.AbstractVar[Any]
    max_delay: eqx.AbstractVar[float]

    def check(self, where: str, dt: float) -> None:
        check_steps(where, self.delay, dt, self.max_delay, self.route)

    def depth(self, dt: float) -> int:
        return ring_depth(self.max_delay, dt)

    @property
    def delays_fit(self) -> Bool[Array, ""]:
        return within_line(self.delay, self.max_delay)
