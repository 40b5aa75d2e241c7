"""One abstract evaluation of the equations of units and receptors: what is wrong, by class and method."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..base import float_dtype
from ._state import Clock
from ._unit import AbstractReceptor, AbstractUnit


def _said(x: Any) -> str:
    """What `x` is: names, types and shapes."""
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k}: {_said(v)}" for k, v in x.items()) + "}"
    if isinstance(x, tuple | list):
        return "(" + ", ".join(_said(v) for v in x) + ")"
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype}{list(x.shape)}"
    return f"{x!r} of type {type(x).__name__}"


class _Method:
    """A method of a unit or receptor, by name, for messages."""

    def __init__(self, where: str, owner: Any, name: str, arguments: str):
        self.call, self.method = getattr(owner, name), f"{where}: {type(owner).__name__}.{name}({arguments})"

    def of(self, *args: Any) -> Any:
        """What it returns for arguments of these shapes, as shapes; a TypeError if it fails."""
        arrays, static = eqx.partition(args, lambda x: hasattr(x, "shape"))
        try:
            # what is no array passes through: it is what is wrong
            return eqx.filter_eval_shape(lambda a: self.call(*eqx.combine(a, static)), arrays)
        except ValueError as e:
            raise ValueError(f"{self.method} fails: {e}") from e
        except Exception as e:
            names = f"The names and shapes it is given are {_said(args)}."
            raise TypeError(f"{self.method} fails with {type(e).__name__}: {e}. {names}") from e

    def refuse(self, got: Any, expected: str) -> None:
        """Raise with what came back."""
        raise TypeError(f"{self.method} returned {_said(got)}; expected {expected}.")

    def like(self, got: Any, y: dict, what: str, *, exact: bool) -> None:
        """Raise unless `got` has the names and shapes of `y`; `exact`: and its types, elsewhere any floating one or a
        number for all."""
        good = isinstance(got, dict) and set(got) == set(y)
        for path, leaf in jax.tree_util.tree_leaves_with_path(y) if good else ():
            own = got
            for key in path:
                own = own.get(key.key) if isinstance(own, dict) else None
            shape = getattr(own, "shape", () if isinstance(own, float | int) else None)
            dtype = getattr(own, "dtype", None)
            fits = shape == leaf.shape and dtype == leaf.dtype if exact else shape in ((), leaf.shape)
            floating = exact or dtype is None or jnp.issubdtype(dtype, jnp.floating)
            good = good and fits and floating
        if not good:
            self.refuse(got, f"{what} {_said(y)}")


def check_unit(where: str, unit: AbstractUnit, n: int) -> None:
    """Raise unless the equations of `n` units fit each other."""
    clock, row = (
        Clock.of("", jnp.asarray(0, jnp.int32), 0.1, jax.random.key(0)),
        jax.ShapeDtypeStruct((n,), float_dtype()),
    )
    method = _Method(where, unit, "init", "n, clock")
    state = method.of(n, clock)
    if not (isinstance(state, tuple) and len(state) == 2 and all(isinstance(x, dict) for x in state)):
        method.refuse(state, "two dicts (y, z) of arrays")
    y, z = state
    for x in jax.tree.leaves(y):
        if getattr(x, "shape", ())[:1] != (n,) or not jnp.issubdtype(x.dtype, jnp.floating):
            method.refuse(y, f"floating arrays of {n} units in y: what is not floating, or does not flow, goes into z")
    method = _Method(where, unit, "vector_field", "y, z, inp")
    method.like(method.of(y, z, row), y, "the derivative of every variable of y:", exact=False)
    method = _Method(where, unit, "guard", "y, z")
    guard = method.of(y, z)
    if guard is not None and getattr(guard, "shape", None) != (n,):
        method.refuse(guard, f"one number per unit, {float_dtype()}[{n}], positive where it spikes; or None")
    method = _Method(where, unit, "emit", "y, z, s")
    sent = method.of(y, z, row)
    if getattr(sent, "shape", None) != (n,) or sent.dtype != row.dtype:
        method.refuse(sent, f"one number per unit, {float_dtype()}[{n}]")
    method = _Method(where, unit, "reset", "y, z, s, inp, clock")
    after = method.of(y, z, row, row, clock)
    if not (isinstance(after, tuple) and len(after) == 2):
        method.refuse(after, "(y, z) after the jump")
    method.like(after[0], y, "y with the names, shapes and types of init:", exact=True)
    method.like(after[1], z, "z with the names, shapes and types of init:", exact=True)


def check_receptor(where: str, receptor: AbstractReceptor, n: int, unit: dict) -> None:
    """Raise unless the equations of a receptor of `n` units with the variables `unit` fit each other."""
    v = unit.get(receptor.variable, jax.ShapeDtypeStruct((n,), float_dtype()))
    method = _Method(where, receptor, "init", "n")
    g = method.of(n)
    if not isinstance(g, dict):
        method.refuse(g, "a dict of arrays")
    method = _Method(where, receptor, "current", "g, v")
    current = method.of(g, v)
    if getattr(current, "shape", None) not in ((), (n,)):
        method.refuse(current, f"one current per unit, {v.dtype}[{n}]")
    method = _Method(where, receptor, "flow", "g, v")
    method.like(method.of(g, v), g, "the derivative of every variable of g:", exact=False)
    method = _Method(where, receptor, "arrive", "g, dg, y_unit")
    dg = jax.ShapeDtypeStruct((receptor.channels, n)[receptor.channels == 1 :], float_dtype())
    after = method.of(g, dg, unit)
    if not (isinstance(after, tuple) and len(after) == 2):
        method.refuse(after, "(g, y_unit) after the arrival")
    method.like(after[0], g, "g with the names, shapes and types of init:", exact=True)
    method.like(after[1], unit, "y_unit with the names, shapes and types it had:", exact=True)
