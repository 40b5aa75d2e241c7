"""Checks of the parameters of rules."""

from typing import Any

import numpy as np

from ..base import is_traced


def positive(rule: Any, *names: str, zero: bool = False) -> None:
    """Raise unless these fields of `rule` are above 0, or not below it with `zero`."""
    for name in names:
        x = getattr(rule, name)
        if is_traced(x):
            continue
        x = np.asarray(x)
        if not np.all(x >= 0 if zero else x > 0):
            sign = ">= 0" if zero else "> 0"
            raise ValueError(f"{type(rule).__name__}.{name} is {x}; expected {name} {sign}. Mend the value given.")


def ordered(rule: Any, low: str = "w_min", high: str = "w_max") -> None:
    """Raise unless field `low` lies below field `high`."""
    a, b = getattr(rule, low), getattr(rule, high)
    if not (is_traced(a) or is_traced(b)) and not np.all(np.asarray(a) < np.asarray(b)):
        raise ValueError(
            f"{type(rule).__name__}.{low} is {np.asarray(a)} and {high} {np.asarray(b)}; expected {low} < {high}."
        )
