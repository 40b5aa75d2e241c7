"""Modules and dicts that stay as they were made, and say how to get a changed copy."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import equinox as eqx
import jax
from jax.tree_util import DictKey

from ._checks import unknown

T = TypeVar("T")

_INSTEAD = (
    "A network and its parts do not change: make a changed copy, by name with "
    "bs.train.with_parameters(net, {{'P.unit.tau_m': 10.0}}) or with eqx.tree_at({where}, {what}, value)."
)


class Frozen(eqx.Module):
    """A module whose fields are set once, at construction; an assignment names the field and what to write instead."""

    if not TYPE_CHECKING:  # a type checker knows of frozen fields, and of the arguments

        def __new__(cls, *args: Any, **given: Any) -> Any:
            wrong = [name for name in given if name not in cls.__dataclass_fields__]
            if wrong and not getattr(cls, "__abstractmethods__", None):
                known = inspect.signature(cls.__init__).parameters
                strange = [name for name in wrong if name not in known]
                if strange and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                    public = [k for k in known if k != "self"]
                    raise TypeError(f"{cls.__name__}: {unknown('parameter', strange[0], public)}")
            return super().__new__(cls)

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except dataclasses.FrozenInstanceError:
                self._refuse(name)

        def __delattr__(self, name: str) -> None:
            self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        kind, fields = type(self).__name__, [f.name for f in dataclasses.fields(self)]
        if name not in fields:
            raise dataclasses.FrozenInstanceError(f"{kind}: {unknown('field', name, fields)}")
        how = _INSTEAD.format(where=f"lambda x: x.{name}", what="x")
        raise dataclasses.FrozenInstanceError(f"{kind}.{name} cannot be assigned. {how}")


class FrozenDict(dict[str, T]):
    """A dict whose entries are set once, a PyTree with the paths of a dict; `owner` is its name in messages."""

    def __init__(self, entries: Mapping[str, T], owner: str) -> None:
        super().__init__(entries)
        self.owner = owner

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        key = repr(args[0]) if args and isinstance(args[0], str) else "..."
        owner, field = self.owner.split(".")
        how = _INSTEAD.format(where=f"lambda x: x.{field}[{key}]", what="x")
        raise TypeError(f"{self.owner}[{key}] cannot be set or removed. {how} To add or remove, build a new {owner}.")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore

    def __reduce__(self) -> Any:
        return FrozenDict, (dict(self), self.owner)


def _flatten(entries: FrozenDict[Any]) -> tuple[list[Any], tuple[tuple[str, ...], str]]:
    keys = tuple(sorted(entries))
    return [entries[k] for k in keys], (keys, entries.owner)


def _with_keys(entries: FrozenDict[Any]) -> tuple[list[tuple[Any, Any]], tuple[tuple[str, ...], str]]:
    values, aux = _flatten(entries)
    return [(DictKey(k), value) for k, value in zip(aux[0], values, strict=True)], aux


def _unflatten(aux: tuple[tuple[str, ...], str], values: Any) -> FrozenDict[Any]:
    return FrozenDict(dict(zip(aux[0], values, strict=True)), aux[1])


jax.tree_util.register_pytree_with_keys(FrozenDict, _with_keys, _unflatten, _flatten)
