"""Parameters by name: dotted paths to the floating leaves of a network, or of any PyTree."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, keystr, tree_leaves_with_path
from jaxtyping import Array

from ..base import Key, parameter, unknown
from ..core import name_hash
from ._transforms import AbstractTransform, Bounded


def _name(path: tuple) -> str:
    # the names of nodes and edges are unique in a network, so `nodes` and `edges` say nothing
    shown = [k for k in path if not (isinstance(k, GetAttrKey) and k.name in ("nodes", "edges"))]
    return keystr(tuple(shown), simple=True, separator=".")


def _places(model: Any) -> dict[str, int]:
    places = {}
    for k, (path, leaf) in enumerate(tree_leaves_with_path(model)):
        if isinstance(leaf, float) or (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            places[_name(path)] = k
    return places


def parameters(model: Any) -> dict[str, Array]:
    """Every floating leaf of `model` (a `Network`, or any PyTree) by the name that `fit` knows it by.

    In a network the name starts with that of the node or edge: `"P.unit.tau_m"`, `"P.receptors.exc.tau"`,
    `"EE.weight"`, `"P.init_values.v"`.

    !!! Example

            >>> import brainsim as bs
            >>> net = bs.Network({"P": bs.Population(bs.LIF(), 1)})
            >>> "P.unit.tau_m" in bs.train.parameters(net)
            True
    """
    leaves = jax.tree.leaves(model)
    return {name: jnp.asarray(parameter(leaves[k])) for name, k in _places(model).items()}


def with_parameters(model: Any, values: Mapping[str, Any]) -> Any:
    """`model` with these values, by the names of `parameters`; each has the shape that was there.

    !!! Example

            >>> import brainsim as bs
            >>> net = bs.Network({"P": bs.Population(bs.LIF(), 1)})
            >>> float(bs.train.with_parameters(net, {"P.unit.tau_m": 10.0}).nodes["P"].unit.tau_m)
            10.0
    """
    leaves, tree = jax.tree.flatten(model)
    known = _places(model)
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"with_parameters: {unknown('parameter', name, known)}")
        value = parameter(value)
        if jnp.shape(value) != jnp.shape(leaves[known[name]]):
            raise ValueError(
                f"with_parameters: {name!r} has shape {jnp.shape(value)}; expected {jnp.shape(leaves[known[name]])}."
            )
        leaves[known[name]] = value
    return jax.tree.unflatten(tree, leaves)


class Space:
    """The named parameters of a model as free coordinates: a dict of arrays, one per name."""

    def __init__(self, model: Any, named: Mapping[str, Any]) -> None:
        if not isinstance(named, Mapping) or not named:
            raise TypeError(
                f"fit: parameters is {named!r}; expected a dict from names to bounds, e.g. "
                "{'P.unit.tau_m': (5.0, 50.0)}."
            )
        known = _places(model)
        for name in named:
            if name not in known:
                raise ValueError(f"fit: {unknown('parameter', name, known)} bs.train.parameters(net) lists them.")
        self.leaves, self.tree = jax.tree.flatten(model)
        self.places = {name: known[name] for name in named}
        self.transforms = {name: _transform(name, given) for name, given in named.items()}
        self.values = {name: jnp.asarray(parameter(self.leaves[k])) for name, k in self.places.items()}

    def check(self, values: Mapping[str, Any], where: str) -> None:
        """Raise unless the bounds allow every value."""
        for name, value in values.items():
            allowed = np.broadcast_to(self.transforms[name].allows(np.asarray(value)), np.shape(value))
            if not np.all(allowed):
                wrong = np.asarray(value)[~allowed].flat[0] if np.ndim(value) else np.asarray(value)
                raise ValueError(
                    f"fit: {where} of {name!r} is {wrong:g}, which {_shown(self.transforms[name])} excludes. Widen the "
                    "bounds, or change the start."
                )

    def free(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The free coordinates of the values of the parameters."""
        return {name: self.transforms[name].inverse(p) for name, p in values.items()}

    def bound(self, x: Mapping[str, Array]) -> dict[str, Array]:
        """The values of the parameters of the free coordinates."""
        return {name: self.transforms[name].forward(x[name]) for name in self.places}

    def model(self, values: Mapping[str, Array]) -> Any:
        """The model with these values in their places."""
        leaves = list(self.leaves)
        for name, k in self.places.items():
            leaves[k] = values[name]
        return jax.tree.unflatten(self.tree, leaves)

    def draw(self, key: Key, spread: float) -> dict[str, Array]:
        """Values near those of the model; every name has a key of its own."""
        return {
            name: self.transforms[name].draw(jax.random.fold_in(key, name_hash(name)), p, spread)
            for name, p in self.values.items()
        }

    def at_bounds(self, values: Mapping[str, Any], part: float) -> dict[str, float]:
        """Name -> bound of the parameters of which a value is within `part` of the way between two bounds of one."""
        found = {}
        for name, value in values.items():
            transform: Any = self.transforms[name]
            low, high = getattr(transform, "low", None), getattr(transform, "high", None)
            if low is None or high is None:
                continue
            low, high = np.asarray(low, float), np.asarray(high, float)
            for bound, inside in ((low, np.asarray(value) - low), (high, high - np.asarray(value))):
                if np.any(inside < part * (high - low)):
                    found[name] = float(np.max(bound))
        return found

    @property
    def labels(self) -> list[str]:
        """A name for every single number: `"P.unit.g_na"`, or `"EE.weight[3]"` where there are several."""
        labels = []
        for name, p in self.values.items():
            labels += [name + (f"[{','.join(map(str, i))}]" if i else "") for i in np.ndindex(p.shape)]
        return labels


def _shown(transform: AbstractTransform) -> str:
    fields = {k: v for k, v in vars(transform).items() if v is not None}
    return f"{type(transform).__name__}({', '.join(f'{k}={np.asarray(v)}' for k, v in fields.items())})"


def _transform(name: str, given: Any) -> AbstractTransform:
    if isinstance(given, AbstractTransform):
        return given
    if isinstance(given, tuple | list) and len(given) == 2:
        return Bounded(*given)
    raise TypeError(
        f"fit: the bounds of {name!r} are {given!r}; expected a pair (low, high) or one of Bounded, Log, Softplus, "
        "Identity. Identity() is without bounds."
    )
