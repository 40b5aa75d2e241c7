"""The two passes of a step over synapses: columns of post events, rows of pre events."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32

from ..base import is_traced, to_steps
from ..core import Clock
from ..events import CSR
from ..fusion import Rows, rows
from ._rule import AbstractPlasticity


class Columns(eqx.Module):
    """The synapses by post unit, within a unit by delay: entry k is synapse `order[k]`, from pre unit `source[k]`."""

    indptr: Int32[Array, " n_post_plus_1"]
    order: Int32[Array, " n_syn"]
    source: Int32[Array, " n_syn"]

    def by_age(self, targets: Array, age: Array, depth: int) -> tuple[Array, "Columns"]:
        """Targets and columns with unit i at age a as unit `i * depth + a`."""
        n = (self.indptr.shape[0] - 1) * depth
        seen = targets * depth + age
        count = jnp.zeros(n, jnp.int32).at[seen].add(1)
        indptr = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(count, dtype=jnp.int32)])
        return seen, Columns(indptr, self.order, self.source)

    def sorted_by(self, delay: Array) -> Bool[Array, ""]:
        """Whether the synapses of every unit are in the order of their delays."""
        late = delay[self.order]
        border = jnp.zeros(late.shape[0] + 1, bool).at[self.indptr].set(True)
        return jnp.all((late[1:] >= late[:-1]) | border[1:-1])


def columns_of(graph: CSR, delay: Any) -> Columns:
    """The columns of a graph; `delay`: None, or one of every synapse."""
    known = not any(is_traced(x) for x in (graph.indptr, graph.stored, delay))
    np_ = np if known else jnp  # sorted once, on the host, or in every run
    post, begin = np_.asarray(graph.indices), np_.asarray(graph.indptr)
    pre = np_.searchsorted(begin, np.arange(post.size, dtype=np.int32), side="right").astype(np.int32) - 1
    order = np_.lexsort((post,) if delay is None else (np_.asarray(delay), post)).astype(np.int32)
    indptr = np_.searchsorted(post[order], np.arange(graph.n_post + 1, dtype=np.int32)).astype(np.int32)
    return Columns(*(jnp.asarray(x) for x in (indptr, order, pre[order])))


class Ends(NamedTuple):
    """What the rule sees of both ends in a step: by name, of every unit; `pre_of_post`: of pre units in `on_post`."""

    pre: dict[str, Array]
    pre_of_post: dict[str, Array]
    post: dict[str, Array]
    mod: Any


class Happened(NamedTuple):
    """The events that a part of a rule follows: those of row i at `first + i`, and packed, if somebody has them so."""

    value: Array
    words: Any = None
    first: int = 0


def updated(
    edge: Any, ends: Ends, happened: dict[str, Happened], syn: dict[str, Array], clock: Clock
) -> dict[str, Array]:
    """The values of synapses after the events of a step, `happened` by part of the rule."""
    parts = ("on_post", "on_pre") if edge.wired.first == "post" else ("on_pre", "on_post")
    for i, name in enumerate(parts):
        if getattr(type(edge.wired.rule), name) is not getattr(AbstractPlasticity, name):
            syn = _part(edge, name, ends, happened[name], syn, alone=i == 0)
    return syn if edge.wired.rule.totals() is None else _normalised(edge, syn, clock)


def _normalised(edge: Any, syn: dict[str, Array], clock: Clock) -> dict[str, Array]:
    """The weights onto each post unit scaled to their total, where that is due at the end of this step."""
    total, every = edge.wired.rule.totals()
    columns, n_post, w = edge.columns, edge.wired.connect.n_post, syn["w"]
    m = int(to_steps(np.asarray(every), clock.step or float(clock.dt)))
    n_seen = columns.indptr.shape[0] - 1  # post units, or those at every age
    due = jnp.where(jax.lax.rem(clock.n + 1, jnp.asarray(m, clock.n.dtype)) == 0, 1, 0)
    events = jnp.ones(n_seen, w.dtype), None, due
    graph, ages = Rows(columns.indptr, columns.source, columns.order), n_seen // n_post
    count = lambda scalars, row, far, values: [values[0], values[0]]  # noqa: E731
    w, sums = rows(count, events, graph, [], [], [], [w], [jnp.zeros(n_seen, w.dtype)])
    found = jnp.sum(sums.reshape(n_post, ages), 1)
    factor = jnp.where(found > 0, total / jnp.where(found > 0, found, jnp.ones_like(found)), jnp.ones_like(found))
    low, high = (None if x is None else jnp.broadcast_to(x, (n_post,)) for x in edge.wired.rule.bounds)
    row = [_at_ages(x, ages) for x in (factor, low, high) if x is not None]

    def scale(scalars, row, far, values):
        w, given = values[0] * row[0], iter(row[1:])
        w = w if low is None else jnp.maximum(w, next(given))
        return [w if high is None else jnp.minimum(w, next(given))]

    (w,) = rows(scale, events, graph, [], row, [], [w])
    return syn | {"w": w}


def _at_ages(x: Array, ages: int) -> Array:
    """The numbers of post units for each of their ages."""
    return x if ages == 1 else jnp.broadcast_to(x[:, None], (x.shape[0], ages)).reshape(-1)


def _part(edge: Any, name: str, ends: Ends, events: Happened, syn: dict[str, Array], alone: bool) -> dict[str, Array]:
    """One pass; `alone`: that of the other side has not acted yet."""
    rule, column = edge.wired.rule, name == "on_post"
    pre, post = (ends.pre_of_post if column else ends.pre), ends.post
    if column:
        graph = Rows(edge.columns.indptr, edge.columns.source, edge.columns.order)
    else:
        graph = Rows(edge.wired.connect.indptr, edge.targets, jnp.zeros(0, jnp.int32))
    if alone:
        other = pre if column else post
        other = other | {"value": jnp.zeros_like(other["value"])}
        pre, post = (other, post) if column else (pre, other)
    leaves, tree = jax.tree.flatten(rule)
    scalars = [x for x in leaves if x.ndim == 0]
    wide = {f"rule{k}": x for k, x in enumerate(leaves) if x.ndim}  # one number per post unit
    mod = ends.mod
    if mod is not None and mod.ndim:
        wide["mod"] = mod
    elif mod is not None:
        scalars.append(mod)
    n_seen = edge.columns.indptr.shape[0] - 1  # post units, or those at every age
    post = post | {k: _at_ages(x, n_seen // x.shape[0]) for k, x in wide.items()}
    near, far = (post, pre) if column else (pre, post)

    def change(scalars, near_values, far_values, values):
        at = dict(zip(near, near_values)), dict(zip(far, far_values))
        post, pre = at if column else at[::-1]
        given, old = iter(scalars), dict(zip(syn, values))
        here = jax.tree.unflatten(tree, [post[f"rule{k}"] if x.ndim else next(given) for k, x in enumerate(leaves)])
        signal = None if mod is None else post["mod"] if mod.ndim else next(given)
        spaces = (SimpleNamespace(**x) for x in (old, pre, post))
        new = {k: jnp.asarray(x, old[k].dtype) for k, x in getattr(here, name)(*spaces, signal).items()}
        new = {k: here.bounded(x) if k == "w" else x for k, x in new.items()}
        return [*(old | new).values()]

    value, words, first = events
    given = [*near.values()], [*far.values()], [*syn.values()]
    new = rows(change, (value, words, jnp.where(edge.wired.frozen, 0, 1)), graph, scalars, *given, first=first)
    return dict(zip(syn, new))
