"""Short-term plasticity of release."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._state import Clock, Emitted, View
from ._unit import Parametrised


class AbstractShortTerm(Parametrised):
    """Short-term plasticity of release: what each pre unit sends depends on its own recent events.

    Fields are parameters, numbers or arrays of shape (n_pre,); the state `z` is a dict of arrays of shape (n_pre,).
    """

    def check(self, where: str, n_pre: int) -> None:
        """Raise on parameters that do not fit `n_pre` units; `where` names the edge."""
        for path, leaf in jax.tree_util.tree_leaves_with_path(self):
            if jnp.shape(leaf) not in ((), (n_pre,)):
                raise ValueError(
                    f"{where}: {type(self).__name__}{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}; "
                    "expected () or "
                    f"({n_pre},), one value per pre unit."
                )

    @abc.abstractmethod
    def init(self, n_pre: int, clock: Clock) -> dict[str, Array]:
        """Initial state."""

    @property
    def listens(self) -> str | None:
        """The node that it listens to, whose `View` it is given as `seen`."""
        return None

    @abc.abstractmethod
    def release(
        self, z: dict[str, Array], value: Float[Array, " n_pre"], clock: Clock, seen: View | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """`(released, z)` at the end of this step, in which the units emitted `value`; called every step."""

    def release_many(
        self, z: dict[str, Array], value: Float[Array, " n_pre"], clock: Clock, seen: View | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """As `release`, of units that may emit several events in one step, one right after the other: `value` is k."""
        return self.release(z, value, clock) if seen is None else self.release(z, value, clock, seen)

    def of_events(self, z: dict[str, Array], own: Emitted, views: dict[str, Any], clock: Clock) -> Any:
        """`(released, z)` of what the pre units emitted, as an edge asks for it."""
        release = self.release if own.single else self.release_many
        return release(z, own.value, clock) if self.listens is None else release(z, own.value, clock, views["release"])


def listened(short_term: AbstractShortTerm | None) -> dict[str, str]:
    """The role of the node that a release listens to, as `AbstractEdge.reads` has it."""
    node = None if short_term is None else short_term.listens
    return {} if node is None else {"release": node}
