"""What every connection rule shares: its one method, its checks, its generator and the question of autapses."""

import abc
import math
import operator
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Int

from ..base import Key, is_traced
from ..events import AbstractTopology

Same = bool | Int[np.ndarray, " n_pre"]
"""Whether pre and post are the same units: all (True), none (False), or for each pre unit its own post index or -1."""

MAX_PAIRS = 2**53
"""Pairs are numbered in float64 somewhere, which counts exactly so far."""


class Built(NamedTuple):
    """A topology, and the order of its synapses.

    Per-synapse values that the user gave in the order of *his* arrays line up as `values[order]`; `order` is None when
    the topology keeps that order, or when the rule was given no arrays.
    """

    topology: AbstractTopology
    order: Int[np.ndarray, " n_syn"] | None = None


class AbstractRule(eqx.Module):
    """A connection rule: who sends to whom, drawn on the host from a key. The same key gives the same graph.

    `random`: whether the two directions of a pair are drawn apart.
    """

    random: ClassVar[bool] = False

    @abc.abstractmethod
    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        """The synapses between `n_pre` and `n_post` units.

        **Arguments:** `same`: whether pre and post are the same units, so that autapses are possible: True, False, or,
        for views that overlap in part, an integer array (n_pre,) with the post index of the same unit, -1 where there
        is none; `key`: a JAX key, which rules without chance ignore.
        **Raises** ValueError when the rule cannot be met by these sizes.
        """


def twins(rule: AbstractRule, n_pre: int, n_post: int, same: Same) -> np.ndarray | None:
    """For each pre unit the post index of the same unit or -1, int64 (n_pre,); None when no unit is on both sides."""
    if isinstance(same, bool | np.bool_):
        if not same:
            return None
        if n_pre != n_post:
            raise ValueError(
                f"{rule} was told that pre and post are the same units, but there are {n_pre} and {n_post}; expected "
                f"equal "
                f"sizes. For overlapping views pass an array with the post index of each pre unit, -1 where it has "
                f"none."
            )
        return np.arange(n_pre, dtype=np.int64)
    twin = np.asarray(same)
    if twin.shape != (n_pre,) or not np.issubdtype(twin.dtype, np.integer):
        raise ValueError(
            f"{rule}: same is an array of {twin.dtype} of shape {twin.shape}; expected a bool or integers of shape "
            f"({n_pre},)."
        )
    real = twin[twin >= 0]
    if real.size and (real.max() >= n_post or np.unique(real).size != real.size):
        raise ValueError(f"{rule}: same must name each post unit 0..{n_post - 1} once at most, or -1; mend the views.")
    return twin.astype(np.int64) if real.size else None


def generator(rule: AbstractRule, key: Key | None) -> np.random.Generator:
    """The host generator that a JAX key stands for."""
    if key is None:
        raise ValueError(f"{rule} draws at random and got key=None; expected a JAX key. Pass key=jax.random.key(seed).")
    if is_traced(key):
        raise TypeError(
            f"{rule} builds its graph on the host and got a key traced by a JAX transformation; build it outside of "
            f"jit, "
            f"vmap and grad and pass the topology in."
        )
    words = np.asarray(jax.random.key_data(key), dtype=np.uint32)
    if words.ndim != 1:
        raise ValueError(f"{rule} got an array of keys of shape {words.shape[:-1]}; expected one key.")
    return np.random.Generator(np.random.SFC64([int(w) for w in words]))


def probability(x: Any, owner: str, name: str) -> float:
    """A probability as a Python float."""
    value = number(x, owner, name)
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"{owner}.{name} is {x!r}; expected a probability, 0 <= {name} <= 1. Divide percentages by 100."
        )
    return value


def positive(x: Any, owner: str, name: str) -> float:
    """A finite number above zero as a Python float."""
    value = number(x, owner, name)
    if not 0.0 < value < math.inf:
        raise ValueError(
            f"{owner}.{name} is {x!r}; expected a finite number above 0. Lengths are in the unit of positions."
        )
    return value


def number(x: Any, owner: str, name: str) -> float:
    """A real number as a Python float."""
    if isinstance(x, bool | str | complex) or x is None:
        raise TypeError(f"{owner}.{name} is {x!r} of type {type(x).__name__}; expected a real number. Pass a float.")
    if is_traced(x):
        raise TypeError(
            f"{owner}.{name} is traced; graphs are drawn on the host, so rules hold plain numbers. Pass a float."
        )
    try:
        return float(x)
    except (TypeError, ValueError):
        raise TypeError(f"{owner}.{name} is {x!r} of type {type(x).__name__}; expected one real number.") from None


def count(x: Any, owner: str, name: str) -> int:
    """A count as a Python int."""
    if isinstance(x, bool | np.bool_):
        raise TypeError(f"{owner}.{name} is {x!r}; expected a whole number. Pass an int.")
    try:
        value = operator.index(x)
    except TypeError:
        raise TypeError(
            f"{owner}.{name} is {x!r} of type {type(x).__name__}; expected a whole number. Pass an int: int({name})."
        ) from None
    if value < 0:
        raise ValueError(f"{owner}.{name} is {value}; expected {name} >= 0.")
    return value


def flag(x: Any, owner: str, name: str) -> bool:
    """A yes or no as a Python bool."""
    if not isinstance(x, bool | np.bool_):
        raise TypeError(f"{owner}.{name} is {x!r} of type {type(x).__name__}; expected True or False.")
    return bool(x)


def check_pairs(rule: AbstractRule, n_pre: int, n_post: int, n_syn: float) -> None:
    """Raise before anything is allocated for a graph that 32-bit synapse indices cannot hold."""
    if n_syn >= 2**31 or n_pre * n_post > MAX_PAIRS:
        raise ValueError(
            f"{rule} between {n_pre} and {n_post} units makes about {n_syn:.3g} synapses; expected fewer than 2**31 "
            f"(and at "
            f"most 2**53 pairs). Split the projection over views of the populations."
        )
