"""Checks of what a user hands us, made once, at construction.

Every message names the object, what was given, what was expected and the fix.
"""

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .jax_internals import Tracer

DIVERGED = 2.0**64
"""Size of a flowing variable from which a run counts as diverged, as it does for NaN: no unit has such numbers."""


def is_traced(x: Any) -> bool:
    """Whether `x` is a value under a JAX transformation, whose numbers cannot be looked at."""
    return isinstance(x, Tracer)


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that does not exist, with the near ones suggested."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = (
        f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known: {', '.join(map(repr, known)) or 'none'}."
    )
    return f"{what} {name!r} does not exist. {hint}"


def float_dtype() -> Any:
    """The floating type of parameters and states: float64 under `jax_enable_x64`, else float32."""
    return jnp.result_type(float)  # asks no device, and is asked for every parameter


def parameter(x: Any) -> Any:
    """Field converter: a number or array becomes a floating JAX array; anything else is passed on to the checks."""
    if isinstance(x, bool | str) or x is None or callable(x):
        return x
    if is_traced(x) or (isinstance(x, jax.Array) and x.dtype == float_dtype() and not x.weak_type):
        return x
    try:
        a = x if isinstance(x, jax.Array) else np.asarray(x)
    except ValueError:  # a ragged list: left as it is, for `check_parameter` to name
        return x
    if a.dtype == bool or not (jnp.issubdtype(a.dtype, jnp.floating) or jnp.issubdtype(a.dtype, jnp.integer)):
        return x
    with jax.ensure_compile_time_eval():  # a number is a number inside of jit too
        return jnp.asarray(a, float_dtype())


def check_parameter(owner: str, name: str, x: Any) -> None:
    """Raise unless `x` is a finite floating array (what `parameter` makes of a good value)."""
    if is_traced(x):
        return
    if not isinstance(x, jax.Array | np.ndarray) or not jnp.issubdtype(x.dtype, jnp.floating):
        fix = "Pass a float, or an array of shape () or (n,)."
        if hasattr(x, "sample"):  # a distribution, where nothing is drawn
            fix = "Nothing is drawn here; draw it, one value per unit: .sample(jax.random.key(0), (n,))."
        elif callable(x) and not isinstance(x, type):
            fix = "It is not called: compute the values, and pass the array."
        raise TypeError(f"{owner}.{name} is {x!r} of type {type(x).__name__}; expected a real number or array. {fix}")
    if not bool(np.all(np.isfinite(np.asarray(x)))):
        raise ValueError(
            f"{owner}.{name} contains NaN or infinity; every parameter must be finite. Mend the value given."
        )
