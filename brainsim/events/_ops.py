"""Send events over a connectivity, and record them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32, UInt32

from . import _ffi, _pure
from ._convolution import Convolution
from ._formats import CSR, AbstractMap, AbstractTopology, FixedFanin, FixedFanout
from ._primitives import CONVOLVED, DRAWN, append_p, collect_p, place_p, room_p, scatter_p, tally_p
from ._procedural import DrawnRows


def deposit(
    inbox: Float[Array, "depth n_post"],
    topology: AbstractTopology,
    weight: Any,
    value: Float[Array, " n"],
    *,
    support: Bool[Array, " n"] | None = None,
    words: UInt32[Array, " n_words"] | None = None,
    first: int = 0,
    slot: Int[Array, ""] | int = 0,
    delay: Int32[Array, "..."] | None = None,
) -> Float[Array, "depth n_post"]:
    r"""Add the events of the pre units to the inbox of the post units, in place where the old inbox is not needed.

    $$\mathrm{inbox}[(\mathrm{slot} + d_j) \bmod D,\ \mathrm{post}_j] \mathrel{+}= \mathrm{value}_{\mathrm{pre}_j} w_j$$

    for every synapse `j` of the rows with a value other than zero; the cost follows their number.

    - `inbox`: (D, n_post), arrivals of the next D steps, a ring.
    - `topology`: `CSR`, `FixedFanout`, `FixedFanin`, `Dense`, `DrawnRows` or `Convolution`.
    - `weight`: one for all, shape (); or per synapse, (n_syn,), (n_pre, k) for a fan-out, (n_post, k) for a fan-in or,
      for `Dense`, (n_pre, n_post); for a `Convolution` its `weight_shape`; for `DrawnRows` that draw their weights the
      two parameters of the law, (2,).
    - `value`: (n,), 1 for a spike, 0 for silence, or graded; n >= first + n_pre.
    - `support`: (n,) the rows where `value` has a derivative. The cotangent of `value` is computed for the rows
      `support | (value != 0)` and is 0 elsewhere; None means every row (a dense backward pass).
    - `words`: (ceil(n / 32),) the events packed, bit k of word w set where value[32 w + k] != 0, if somebody has them:
      they spare the search for events.
    - `first`: the unit of `value` that is row 0 of the topology: units of a part send without a copy.
    - `slot`: the ring's place of the current step.
    - `delay`: int32, per synapse, in steps, shaped like per-synapse weights; None is 0. Not for `Dense`,
      `DrawnRows` and `Convolution`.

    Returns the new inbox; differentiable in `inbox`, `weight` and `value`, forward and backward, to any order. Raises
    ValueError or TypeError when shapes or types do not fit.
    """
    return _deposit("deposit", (), inbox, topology, weight, value, support, words, first, slot, delay)


def deposit_all(
    inbox: Float[Array, "depth n_post"],
    topology: AbstractTopology,
    weight: Any,
    values: Float[Array, "t n"],
    *,
    slots: Int[Array, " t"],
    support: Bool[Array, "t n"] | None = None,
    words: UInt32[Array, "t n_words"] | None = None,
    first: int = 0,
    delay: Int32[Array, "..."] | None = None,
) -> Float[Array, "depth n_post"]:
    """Add the events of many steps to one inbox: the sum over t of `deposit` of row t of `values` at slots[t].

    Arguments as in `deposit`, with a leading axis t for those that change from step to step. One call, and so are its
    cotangents: that of the weight accumulates over the steps where it lies.
    """
    steps = jnp.shape(values)[:1]
    return _deposit("deposit_all", steps, inbox, topology, weight, values, support, words, first, slots, delay)


def propagate(
    topology: AbstractTopology,
    weight: Any,
    value: Float[Array, " n"],
    support: Bool[Array, " n"] | None = None,
    *,
    words: UInt32[Array, " n_words"] | None = None,
    first: int = 0,
) -> Float[Array, " n_post"]:
    """What every post unit receives from the events: the product value @ W, at the cost of the events.

    Arguments as in `deposit`; returns (n_post,).
    """
    value = jnp.asarray(value)
    _floating("propagate: value", value)
    inbox = jnp.zeros((1, topology.n_post), value.dtype)
    return _deposit("propagate", (), inbox, topology, weight, value, support, words, first, 0, None).reshape(-1)


def collect(
    inbox: Float[Array, "depth n_post"], slot: Int[Array, ""] | int = 0
) -> tuple[Float[Array, " n_post"], Float[Array, "depth n_post"]]:
    """Take the arrivals of the current step out of the inbox: row `slot` mod D, which is cleared, in place.

    One operation, because reading and then clearing a row of a carried inbox makes XLA copy the whole ring every step.
    Returns the arrivals (n_post,) and the inbox (D, n_post); differentiable in `inbox`.
    """
    row, inbox = collect_p.bind(_ring("collect", inbox), _slot("collect", slot))
    return row, inbox


def place(
    inbox: Float[Array, "depth n_post"], row: Float[Array, " n_post"], slot: Int[Array, ""] | int = 0
) -> Float[Array, "depth n_post"]:
    """Put `row` where `collect` takes it from: row `slot` mod D of the inbox is replaced. Transpose of `collect`."""
    inbox, row = _ring("place", inbox), jnp.asarray(row)
    if row.shape != inbox.shape[1:]:
        raise ValueError(f"place: row has shape {row.shape}; expected {inbox.shape[1:]}, as a row of the inbox.")
    _typed("place", "row", row, inbox.dtype)
    return place_p.bind(inbox, row, _slot("place", slot))


def room(n: int) -> Int32[Array, " n"]:
    """Room for a list of `append`: `n` zeros, whose memory is taken only as far as the list is written."""
    return room_p.bind(n=n)


def append(
    buffer: Int32[Array, " cap"],
    count: Int32[Array, ""],
    value: Float[Array, " n"],
    words: UInt32[Array, " n_words"] | None = None,
    *,
    many: bool = False,
) -> tuple[Int32[Array, " cap"], Int32[Array, ""]]:
    """Append the indices of the non-zero entries of `value` to a list, in place.

    With `many`, an entry k that is a whole number above 1 stands for k events: its index is appended k times.

    `buffer` (cap,) holds the list, `count` () its length, `words` the events packed as in `deposit`. The count runs
    past the capacity when the list overflows, the buffer never does. Returns the new pair. Not differentiable: raises
    TypeError under `grad` and `jvp`.
    """
    buffer, count, value = jnp.asarray(buffer), jnp.asarray(count), jnp.asarray(value)
    for name, x, ndim in (("buffer", buffer, 1), ("count", count, 0)):
        if x.dtype != jnp.int32 or x.ndim != ndim:
            raise TypeError(f"append: {name} is {x.dtype}{list(x.shape)}; expected int32 with {ndim} axes.")
    if value.ndim != 1:
        raise ValueError(f"append: value has shape {value.shape}; expected (n,).")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        value = value.astype(jnp.float32)
    buffer, count = append_p.bind(buffer, count, value, _words("append", words, value.shape), many=many)
    return buffer, count


def tally(
    value: Float[Array, " n"], others: Sequence[Float[Array, "..."]], *, many: bool = False
) -> tuple[Int32[Array, ""], Bool[Array, ""]]:
    """Number of non-zero entries of `value`, and whether anything in `others` is NaN or not below `DIVERGED` in size.

    Has no derivative.

    With `many`, an entry k that is a whole number above 1 counts k times.

    One operation, because XLA's reductions of mid-size arrays cost more than the update of a neuron.
    """
    value, others = lax.stop_gradient((value, list(others)))

    one_type = all(x.dtype == value.dtype for x in others)
    count = tally_p.bind if one_type else _pure.tally
    counted, bad = count(value, *others, rank=0, many=many)
    return counted, bad > 0


def backend(platform: str = "cpu") -> str:
    """Which path the operators take on a platform, `"cpu"` or `"cuda"`: `kernels`, or `pure (reason)`."""
    if platform not in ("cpu", "cuda"):
        raise ValueError(f"backend: platform is {platform!r}; expected 'cpu' or 'cuda'. All others take the pure path.")
    return _ffi.status(platform)


def _deposit(owner, steps, inbox, topology, weight, value, support, words, first, slot, delay):
    """`deposit` with a leading axis `steps`, () or (t,), of value, support, words and slot."""
    inbox, value = jnp.asarray(inbox), jnp.asarray(value)
    _floating(f"{owner}: inbox", inbox)
    if inbox.ndim != 2 or inbox.shape[1] != topology.n_post or inbox.shape[0] < 1:
        raise ValueError(
            f"{owner}: inbox has shape {inbox.shape}; expected (depth >= 1, n_post = {topology.n_post}), "
            "one row for each step of the ring."
        )
    if inbox.size >= 2**31:
        raise ValueError(f"{owner}: inbox has {inbox.size} entries; expected fewer than 2**31. Shorten the delays.")
    _units(owner, value, steps, first, topology.n_pre)
    _typed(owner, "value", value, inbox.dtype)
    weight = _weight(owner, weight, topology, inbox.dtype)
    if support is not None:
        support = jnp.asarray(support)
        _shaped(owner, "support", support, value.shape)
        _typed(owner, "support", support, jnp.dtype(bool))
    words = _words(owner, words, value.shape)
    slot = _slot(owner, slot, steps)
    if isinstance(topology, AbstractMap):
        if delay is not None:
            raise ValueError(
                f"{owner}: a {type(topology).__name__} has no delays per synapse. Use CSR or FixedFanout, or move "
                "the slot."
            )
        if not isinstance(topology, Convolution):
            return _deposit_map(inbox, topology, weight, value, support, slot, first)
    lead = tuple(1 for _ in steps)
    if isinstance(topology, Convolution):
        support = jnp.zeros((*steps, 0), bool) if support is None else support
        base, weight = (x.reshape(*lead, *x.shape) for x in (inbox, weight.reshape(-1)))
        out = CONVOLVED.scatter.bind(base, value, weight, support, words, slot, window=topology, first=first)
        return out.reshape(inbox.shape)
    if isinstance(topology, DrawnRows):
        if delay is not None:
            raise ValueError(f"{owner}: DrawnRows has no delays per synapse. Use a stored format, or move the slot.")
        if support is None:
            support = jnp.zeros((*steps, 0), bool)
        shared = (inbox, topology.theta(weight), topology.seed, jnp.asarray(topology.plan.tables()))
        base, theta, seed, tables = (x.reshape(*lead, *x.shape) for x in shared)
        operands = (base, value, theta, support, words, slot, seed, tables)
        return DRAWN.scatter.bind(*operands, plan=topology.plan, first=first).reshape(inbox.shape)
    if delay is None:
        delay = jnp.zeros((0,), jnp.int32)
    else:
        delay = jnp.asarray(delay)
        _shaped(owner, "delay", delay, *_per_synapse(topology))
        _typed(owner, "delay", delay, jnp.dtype(jnp.int32))
        delay = delay.reshape(-1)
    if isinstance(topology, FixedFanin):
        weight, delay = (x.reshape(-1)[topology.order] if x.size > 1 else x for x in (weight, delay))
        topology = topology.rows
    indptr, indices, fanout = _arrays(topology)
    if support is None:
        support = jnp.zeros((*steps, 0), bool)
    shared = (inbox, weight.reshape(-1), delay, indptr, indices)
    base, weight, *rest = (x.reshape(*lead, *x.shape) for x in shared)
    static = dict(n_pre=topology.n_pre, fanout=fanout, first=first, sorted_rows=topology.sorted_rows)
    return scatter_p.bind(base, value, weight, support, words, slot, *rest, **static).reshape(inbox.shape)


def _deposit_map(inbox, topology, weight, value, support, slot, first):
    """The dense map; a dense weight has a dense backward pass, but the same derivative as the sparse formats."""
    if support is not None:
        value = jnp.where(support | (value != 0), value, lax.stop_gradient(value))
    out = topology.apply(weight, value[..., first : first + topology.n_pre])
    return inbox.at[jnp.mod(slot, inbox.shape[0])].add(out)


def _arrays(topology: AbstractTopology) -> tuple[Array, Array, int]:
    """indptr (empty where rows have one length), targets as stored and that length (-1 where they have not)."""
    if isinstance(topology, CSR):
        return topology.indptr, topology.stored, -1
    if isinstance(topology, FixedFanout):
        return jnp.zeros((0,), jnp.int32), topology.indices.reshape(-1), topology.k
    raise TypeError(f"deposit: topology is a {type(topology).__name__}; expected one of brainsim.events.")


def _per_synapse(topology: AbstractTopology) -> list[tuple[int, ...]]:
    """The shapes an array with one entry per synapse may have."""
    if isinstance(topology, AbstractMap):
        return [topology.weight_shape]
    if isinstance(topology, FixedFanout):
        return [(topology.n_pre, topology.k), (topology.n_syn,)]
    if isinstance(topology, FixedFanin):
        return [(topology.n_post, topology.k), (topology.n_syn,)]
    return [(topology.n_syn,)]


def _weight(owner: str, weight: Any, topology: AbstractTopology, dtype: Any) -> Array:
    """The weight as an array of the inbox's type, of one of the shapes allowed."""
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        weight = jnp.asarray(weight, dtype)
    weight = jnp.asarray(weight)
    if isinstance(topology, DrawnRows):
        _shaped(owner, "weight", weight, () if topology.law == "one" else (2,))
    else:
        _shaped(owner, "weight", weight, (), *_per_synapse(topology))
    _typed(owner, "weight", weight, dtype)
    return weight


def _units(owner: str, value: jax.Array, steps: tuple[int, ...], first: Any, n_pre: int) -> None:
    """Raise unless `value` has the rows `first` to `first + n_pre`."""
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise ValueError(f"{owner}: first is {first!r}; expected the number of a unit, >= 0.")
    if value.ndim != len(steps) + 1 or value.shape[-1] < first + n_pre:
        wanted = ", ".join([*map(str, steps), f"n >= {first + n_pre}"])
        raise ValueError(
            f"{owner}: value has shape {value.shape}; expected ({wanted}): first = {first} and n_pre = {n_pre}."
        )


def _words(owner: str, words: Any, shape: tuple[int, ...]) -> jax.Array:
    """The packed words of values of this shape; empty where there are none."""
    if words is None:
        return jnp.zeros((*shape[:-1], 0), jnp.uint32)
    words = jnp.asarray(words)
    _shaped(owner, "words", words, (*shape[:-1], -(-shape[-1] // 32)))
    _typed(owner, "words", words, jnp.dtype(jnp.uint32))
    return words


def _slot(owner: str, slot: Any, steps: tuple[int, ...] = ()) -> jax.Array:
    """The ring's place as int32, one for each of the `steps`."""
    slot = jnp.asarray(slot)
    if slot.shape != steps or not jnp.issubdtype(slot.dtype, jnp.integer):
        wanted = f"{steps[0]} whole numbers" if steps else "one whole number"
        raise TypeError(f"{owner}: slot has shape {slot.shape} and dtype {slot.dtype}; expected {wanted}.")
    return slot.astype(jnp.int32)


def _floating(what: str, x: jax.Array) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{what} has dtype {x.dtype}; expected a floating type. Convert with .astype('float32').")


def _typed(owner: str, name: str, x: jax.Array, dtype: Any) -> None:
    if x.dtype != dtype:
        raise TypeError(f"{owner}: {name} has dtype {x.dtype}; expected {dtype}. Convert with .astype('{dtype}').")


def _ring(owner: str, inbox: Any) -> Array:
    inbox = jnp.asarray(inbox)
    _floating(f"{owner}: inbox", inbox)
    if inbox.ndim != 2 or inbox.shape[0] < 1:
        raise ValueError(f"{owner}: inbox has shape {inbox.shape}; expected (depth >= 1, n_post).")
    return inbox


def _shaped(owner: str, name: str, x: jax.Array, *shapes: tuple[int, ...]) -> None:
    if x.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(f"{owner}: {name} has shape {x.shape}; expected {wanted} for this topology.")
