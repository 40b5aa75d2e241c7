"""What `pack` merged, under its old name: a range of units of a larger node, or of the state of a larger edge."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ._node import AbstractNode, Population, Source
from ._state import Emitted, View

T = TypeVar("T")


class Part(eqx.Module):
    """Units start, stop, step of the node (or of the state of the edge) `whole`, with the initial values it had."""

    whole: str = eqx.field(static=True)
    start: int = eqx.field(static=True)
    stop: int = eqx.field(static=True)
    step: int = eqx.field(static=True, default=1)
    init_values: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def units(self) -> slice:
        """The units within the whole."""
        return slice(self.start, self.stop, self.step)

    @property
    def size(self) -> int:
        """Number of units."""
        return len(range(self.start, self.stop, self.step))

    def of(self, x: Any) -> Any:
        """This part of a view, of events, of a node, or of a PyTree of arrays whose axis 0 is the unit."""
        if isinstance(x, View):
            inp = x.inp if x.inp is None or not x.inp.ndim else self.of(x.inp)
            return View(self.of(x.y), self.of(x.z), self.of(x.events), inp)
        if isinstance(x, AbstractNode):
            return cut(x, self)
        if isinstance(x, Emitted):
            return x.of((self.start, self.stop, self.step))
        return jax.tree.map(lambda leaf: leaf[self.units], x)


class Parts(dict[str, T]):
    """What there is for every node (or edge) by name; what there is for a part is cut from its whole when asked for."""

    def __init__(self, known: dict[str, T], parts: dict[str, Part]) -> None:
        super().__init__(known)
        self.parts = parts

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (name in self.parts and super().__contains__(self.parts[str(name)].whole))

    def __missing__(self, name: str) -> T:
        return self.parts[name].of(self[self.parts[name].whole])


class Sizes(Mapping[str, int]):
    """Number of units of every node and of every node that is part of one, computed when it is asked for."""

    def __init__(self, nodes: dict[str, AbstractNode], parts: dict[str, Part]) -> None:
        self._nodes, self._parts = nodes, parts

    def __getitem__(self, name: str) -> int:
        if name in self._nodes:
            return self._nodes[name].size
        part = self._parts[name]
        if part.whole not in self._nodes:  # of an edge
            raise KeyError(name)
        return part.size

    def __iter__(self) -> Iterator[str]:
        yield from self._nodes
        yield from (name for name, part in self._parts.items() if part.whole in self._nodes)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def resized(node: Population | Source, size: int, parameters: Any, init_values: dict[str, Any]) -> AbstractNode:
    """`node` with another number of units, other parameters (as `parameters_of` names them) and initial values."""
    if isinstance(node, Source):
        return Source(parameters["process"], size)  # pyright: ignore[reportArgumentType]  (equinox's converter)
    return Population(**parameters, size=size, init=init_values, detach_reset=node.detach_reset)


def parameters_of(node: Population | Source) -> dict[str, Any]:
    """What a population or source has one value of for each unit, or one for all."""
    names = ("process",) if isinstance(node, Source) else ("unit", "receptors", "i_e", "noise", "surrogate")
    return {name: getattr(node, name) for name in names}


def cut(node: Any, part: Part) -> AbstractNode:
    """The node that `part` was before it was merged into `node`."""
    parameters = jax.tree.map(lambda x: x[part.units] if jnp.ndim(x) else x, parameters_of(node))
    return resized(node, part.size, parameters, part.init_values)
