"""The three forms of an edge: declared by the user, wired in a network, scheduled for steps of one dt."""

import abc
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..base import Frozen, Key
from ._deposit import Deposit
from ._node import AbstractNode
from ._state import Clock, Emitted, NodeState


class AbstractDeclaredEdge(Frozen):
    """What a user writes of an edge: names of nodes, rules and distributions. `Network` wires it."""

    @abc.abstractmethod
    def wire(self, where: str, nodes: dict[str, AbstractNode], key: Key | None) -> "AbstractEdge":
        """The edge between `nodes`: names and sizes checked, rules built and distributions drawn from `key`.

        **Raises:** ValueError or TypeError that name `where`, the edge.
        """


class AbstractLink(Frozen):
    """What an edge says of its ends, wired or scheduled."""

    @property
    def kind(self) -> str:
        """What its declaration is called, for messages."""
        return type(self).__name__.removeprefix("Wired").removeprefix("Scheduled")

    @property
    @abc.abstractmethod
    def reads(self) -> dict[str, str]:
        """Role -> node name of every view the edge reads."""

    @property
    def sees(self) -> dict[str, str]:
        """Role -> name of another edge whose state `send` is given under that role, as it was at the start of the step:
        how an edge reads or modulates with what another edge knows. The order of edges stays free."""
        return {}

    @property
    @abc.abstractmethod
    def writes(self) -> tuple[str, str]:
        """(node, port) deposited into."""

    @property
    @abc.abstractmethod
    def instant(self) -> bool:
        """Whether deposits act within the step."""


class AbstractScheduledEdge(AbstractLink):
    """An edge for steps of one dt: what a run calls in every step."""

    @property
    def weights(self) -> tuple[Any, ...]:
        """The weights of the deposits of `send`, in their order, where all share one value and the weights are the same
        in every step (then `deposits` too); () elsewhere."""
        return ()

    @property
    def deferred(self) -> bool:
        """Whether the derivative of `weights` is taken once a segment, not once a step."""
        return bool(self.weights)

    @property
    def learns(self) -> bool:
        """Whether its synapses are state, which row programs change and a backward pass brings back."""
        return False

    def deposits(self, sent: Emitted) -> list[Deposit]:
        """The deposits of what is sent, one for each of `weights`; `sent` has a first axis of steps for `add_all`."""
        raise NotImplementedError(f"{type(self).__name__} has `weights`, so it needs `deposits` too.")

    @abc.abstractmethod
    def send(self, z: Any, views: dict[str, Any], clock: Clock) -> tuple[Any, list[Deposit]]:
        """The next edge state and the deposits of this step; `views` holds a `View` for each role of `reads` and a
        state for each of `sees`."""


class AbstractEdge(AbstractLink):
    """An edge of a network, what `net.edges[...]` holds: it reads the views of nodes after their jump and sends
    deposits to ports. Its fields are parameters.

    `schedule` is called once a run. An edge in which nothing depends on dt can be its own schedule: let it derive from
    `AbstractScheduledEdge` too, and return itself.
    """

    def check(self, where: str, dt: float) -> None:
        """Raise on, or warn of, values that do not fit steps of `dt`, on the host before a run; traced ones pass."""
        del where, dt

    def known(self, dt: float) -> "AbstractEdge":
        """The edge with what it works out for steps of `dt` from numbers, before a run is traced."""
        del dt
        return self

    @abc.abstractmethod
    def schedule(self, where: str, dt: float) -> AbstractScheduledEdge:
        """The edge with its delays in steps of `dt`; a function of arrays, which a run traces and differentiates."""

    @abc.abstractmethod
    def depth(self, dt: float) -> int:
        """How many rows the ring of the port must have."""

    @property
    def delays_fit(self) -> Bool[Array, ""]:
        """Whether all delays (ms) lie within 0 and `max_delay`. One that does not raises, but where
        it is traced: then it is held at that border, and the run flags the edge."""
        return jnp.asarray(True)

    @abc.abstractmethod
    def init(self, clock: Clock) -> Any:
        """Initial edge state."""

    def begin(
        self, where: str, z: Any, nodes: Mapping[str, AbstractNode], states: Mapping[str, NodeState], dt: float
    ) -> tuple[Any, Float[Array, "steps width"] | None]:
        """`(z, rows)` at time 0, for an edge with a past: its state, and what arrives at its port in the steps -1, 0,
        1, ... because of what was sent before."""
        del where, nodes, states, dt
        return z, None
