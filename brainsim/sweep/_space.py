"""Which parameters the members of a sweep have."""

import abc
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import float_dtype
from ..core import AbstractDistribution


def _column(owner: str, name: str, values: Any) -> np.ndarray:
    """Values of one parameter, of shape (n, ...): floats in the usual type, whole numbers as int32."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{owner}: the parameter name {name!r} is no text. Name every parameter.")
    x = np.asarray(values)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"{owner}[{name!r}] is {values!r}; expected at least one value, e.g. jnp.linspace(0, 1, 5).")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{owner}[{name!r}] holds {x.dtype}; expected numbers. Number the choices, and look them up.")
    if x.dtype.kind == "f" and not np.all(np.isfinite(x)):
        raise ValueError(f"{owner}[{name!r}] contains {x[~np.isfinite(x)].flat[0]}; expected finite numbers.")
    return x.astype({"f": float_dtype(), "b": np.bool_}.get(x.dtype.kind, np.int32))


def _named(owner: str, given: Any) -> Mapping[str, Any]:
    if not hasattr(given, "items") or not len(given):
        raise TypeError(f"{owner} is {given!r}; expected a dict from parameter names to values.")
    return given


def _checked_units(owner: str, units: Mapping[str, str] | None, known: Any) -> dict[str, str]:
    units = dict(units or {})
    if unknown := set(units) - set(known):
        raise ValueError(f"{owner}.units names {sorted(unknown)}; expected some of the parameters {list(known)}.")
    return units


class AbstractSpace(abc.ABC):
    """The members of a sweep: their number, their parameters, and the axes along which results are arranged.

    `members` holds a column (n, ...) for every parameter; `dims` the lengths of the axes by name, whose product is n;
    `coordinates` the values along those axes that have one value each; `units` the unit of every parameter.
    """

    members: dict[str, np.ndarray]
    dims: dict[str, int]
    coordinates: dict[str, np.ndarray]
    units: dict[str, str]

    def __len__(self) -> int:
        return math.prod(self.dims.values())


class _Table(AbstractSpace):
    """Members along one axis."""

    def _fill(self, members: dict[str, np.ndarray], units: dict[str, str]) -> None:
        self.members, self.units = members, units
        self.dims, self.coordinates = {"member": len(next(iter(members.values())))}, {}


class Grid(AbstractSpace):
    """Every combination of the values along several axes, the last axis fastest.

    **Arguments:** `axes`: parameter name -> values (k,); `units`: parameter name -> unit, a label for the results.
    Repetitions are an axis too: `{"weight": ..., "trial": range(10)}`; every member has a key of its own.

    **Raises:** TypeError or ValueError where an axis is empty, not one-dimensional, or holds no finite numbers.
    """

    def __init__(self, axes: Mapping[str, Any], units: Mapping[str, str] | None = None) -> None:
        columns = {name: _column("Grid", name, x) for name, x in _named("Grid", axes).items()}
        for name, x in columns.items():
            if x.ndim != 1:
                raise ValueError(f"Grid[{name!r}] has shape {x.shape}; expected (k,), one number a value.")
        mesh = np.meshgrid(*columns.values(), indexing="ij")
        self.members = {name: x.ravel() for name, x in zip(columns, mesh)}
        self.dims = {name: x.size for name, x in columns.items()}
        self.coordinates, self.units = columns, _checked_units("Grid", units, columns)


class Members(_Table):
    """A table: member k has row k of every column. A data frame will do.

    **Arguments:** `columns`: parameter name -> values (n, ...), all with the same n; `units` as in `Grid`.

    **Raises:** ValueError where the columns differ in length.
    """

    def __init__(self, columns: Mapping[str, Any], units: Mapping[str, str] | None = None) -> None:
        table = {str(name): _column("Members", str(name), x) for name, x in _named("Members", columns).items()}
        lengths = {name: len(x) for name, x in table.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Members: the columns have the lengths {lengths}; expected one value a member in each.")
        self._fill(table, _checked_units("Members", units, table))


class Random(_Table):
    """`n` members whose parameters are drawn independently.

    **Arguments:** `laws`: parameter name -> a distribution such as `bs.LogNormal(...)`, or bounds (low, high) for a
    uniform one; `n`; `key`; `units` as in `Grid`. The draws of a parameter depend on its name and the key alone.
    """

    def __init__(self, laws: Mapping[str, Any], n: int, *, key: Any, units: Mapping[str, str] | None = None) -> None:
        from ..core import Uniform, name_hash

        n, table = _number("Random", n), {}
        for name, law in _named("Random", laws).items():
            one = law if isinstance(law, AbstractDistribution) else Uniform(*_bounds("Random", name, law))
            table[name] = np.asarray(one.sample(jax.random.fold_in(key, name_hash(name)), (n,)))
        self._fill(table, _checked_units("Random", units, table))


class LatinHypercube(_Table):
    """`n` members that cover a box evenly: each of n slices of every axis holds one (McKay et al. 1979; scipy's).

    **Arguments:** `bounds`: parameter name -> (low, high); `n`; `seed`: a whole number; `units` as in `Grid`.
    """

    def __init__(self, bounds: Mapping[str, Any], n: int, *, seed: int, units: Mapping[str, str] | None = None) -> None:
        from scipy.stats import qmc

        box = {name: _bounds("LatinHypercube", name, b) for name, b in _named("LatinHypercube", bounds).items()}
        low, high = np.asarray(list(box.values())).T
        points = low + qmc.LatinHypercube(len(box), rng=seed).random(_number("LatinHypercube", n)) * (high - low)
        table = {name: points[:, k].astype(float_dtype()) for k, name in enumerate(box)}
        self._fill(table, _checked_units("LatinHypercube", units, table))


def _number(owner: str, n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"{owner}.n is {n!r}; expected a whole number of members >= 1.")
    return int(n)


def _bounds(owner: str, name: str, given: Any) -> tuple[float, float]:
    try:
        low, high = (float(x) for x in given)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}[{name!r}] is {given!r}; expected bounds (low, high).") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{owner}[{name!r}] is ({low}, {high}); expected finite bounds with low < high.")
    return low, high


def shapes(space: AbstractSpace) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the parameters of one member."""
    return {name: jax.ShapeDtypeStruct(x.shape[1:], jnp.asarray(x[:1]).dtype) for name, x in space.members.items()}
