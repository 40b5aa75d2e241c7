"""Poisson drive: independent sources, and many sources at once."""

import dataclasses
import zlib
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from ..base import Key, check_parameter, float_dtype, is_traced, parameter, to_steps, warn_off_grid
from ..core import (
    JOIN,
    AbstractDeclaredEdge,
    AbstractDistribution,
    AbstractEdge,
    AbstractInput,
    AbstractLink,
    AbstractProcess,
    AbstractScheduledEdge,
    Deposit,
    Endpoint,
    Joined,
    Place,
    side_by_side,
)
from ..events import seed_of, uniform_bits


def _parameter(x: Any) -> Any:
    return x if isinstance(x, AbstractInput | AbstractDistribution) else parameter(x)


def check_rate(owner: str, rate: Any) -> None:
    """Raise unless `rate` is a waveform or finite numbers >= 0."""
    if isinstance(rate, AbstractInput):
        return
    check_parameter(owner, "rate", rate)
    if not is_traced(rate) and not bool(np.all(np.asarray(rate) >= 0)):
        raise ValueError(f"{owner}.rate is {np.asarray(rate)}; expected rates >= 0 (Hz).")


def _check_rate_shape(owner: str, where: str, rate: Any, n: int) -> None:
    if isinstance(rate, AbstractInput):
        rate.check(where, n)
    elif jnp.shape(rate) not in ((), (n,)):
        raise ValueError(
            f"{where}: {owner}.rate has shape {jnp.shape(rate)}; expected () or ({n},), one rate per unit."
        )


def _init_rate(rate: Any, n: int, clock: Any) -> Any:
    return rate.init(n, clock) if isinstance(rate, AbstractInput) else {}


def _rate_now(rate: Any, z: Any, n: int, clock: Any) -> tuple[Array, Any]:
    return rate.value(z, n, clock) if isinstance(rate, AbstractInput) else (rate, z)


def _uniform(key: Key, n: int) -> Float[Array, " n"]:
    """Uniform float32 in [0, 1], multiples of 2^-32: fine enough near 0 for rates of one event in days."""
    return uniform_bits(seed_of(key), n).astype(jnp.float32) * np.float32(2.0**-32)


_ROUNDING = 1e-5


def _probability(rate: Array, clock: Any) -> Array:
    """Of an event in a step."""
    return (1e-3 * clock.dt * rate).astype(jnp.float32)


class Poisson(AbstractProcess):
    """Independent Poisson spikes: in a step each unit emits 1 with probability `rate dt` (at most 1), else 0.

    `inputs={"name": ...}` of the run adds to the rate, so a rate that varies in time is a waveform given here or there;
    where the sum is below 0 it counts as 0. The mean rate is exact; spikes of a unit are at least one step apart, as in
    Brian2. A rate above 1 / dt (10 kHz at 0.1 ms) therefore sets the flag of the source, as NaN does, and the run
    raises: `PoissonInput` draws any number of events a step. The spikes have no derivative with respect to the rate.
    Source: Dayan & Abbott 2001, section 1.4.

    **Arguments:** `rate`: Hz; number, array (n,) or a waveform (`AbstractInput`).
    """

    packable: ClassVar[bool] = True
    single: ClassVar[bool] = True
    rate: Any = eqx.field(converter=_parameter, default=0.0)

    def __check_init__(self) -> None:
        check_rate("Poisson", self.rate)

    def check(self, name, size):
        _check_rate_shape("Poisson", f"Source {name!r}", self.rate, size)

    def init(self, n, clock):
        return {"rate": _init_rate(self.rate, n, clock)}

    def watched(self, z, inp, n, clock):
        rate, _ = _rate_now(self.rate, z["rate"], n, clock)
        return [jnp.where(_probability(rate + inp, clock) <= 1.0 + _ROUNDING, 0.0, jnp.nan).astype(inp.dtype)]

    def emit(self, z, inp, clock):
        rate, state = _rate_now(self.rate, z["rate"], inp.shape[0], clock)
        p = _probability(rate + inp, clock)
        key = jax.random.fold_in(clock.key, zlib.crc32(b"Poisson"))  # the waveform may draw too
        return (_uniform(key, inp.shape[0]) < p).astype(inp.dtype), {"rate": state}


_TERMS = 16  # terms of the distribution per turn of the loop, which XLA fuses into one pass
_MEAN = 64.0  # exp(-mean) must be far from the smallest float32


def poisson_counts(key: Key, mean: Array, n: int) -> Float[Array, " n"]:
    """Poisson counts by inversion: the number of k with `u < P(N > k)`, exact to float32 rounding. No derivative.

    Faster than `jax.random.poisson` for the small means of a step. A large mean is the sum of several smaller ones. NaN
    where the mean is NaN or infinite.
    """
    mean = jax.lax.stop_gradient(mean).astype(jnp.float32)
    known = jnp.broadcast_to(jnp.isfinite(mean), (n,))  # a unit with a rate of NaN leaves the others alone
    mean = jnp.where(jnp.isfinite(mean), jnp.maximum(mean, 0.0), jnp.zeros_like(mean))
    parts = jnp.maximum(jnp.ceil(jnp.max(mean, initial=0.0) / _MEAN).astype(jnp.int32), 1)
    mean = mean / parts.astype(jnp.float32)

    def draw(i, total):
        u = _uniform(jax.random.fold_in(key, i), n)

        def turn(carry):
            k, p, tail, count = carry
            for _ in range(_TERMS):
                count = count + (u < tail).astype(jnp.float32)
                k = k + 1.0
                p = p * mean / k
                # The tail by subtraction loses its digits: hold it between its first term and a geometric series.
                first, ratio = p * mean / (k + 1.0), mean / (k + 2.0)
                most = jnp.where(ratio < 1.0, first / jnp.where(ratio < 1.0, 1.0 - ratio, 1.0), 1.0)
                tail = jnp.clip(tail - p, first, most)
            return k, p, tail, count

        start = jnp.zeros((), jnp.float32), jnp.exp(-mean), -jnp.expm1(-mean), jnp.zeros(n, jnp.float32)
        return total + jax.lax.while_loop(lambda carry: jnp.any(u < carry[2]), turn, start)[3]

    counts = jax.lax.fori_loop(0, parts, draw, jnp.zeros(n, jnp.float32))
    return jnp.where(known, counts, jnp.nan).astype(float_dtype())


_FINEST = 2.0**-33
"""Probability of more events below which the words of 32 bits have no place for them."""

_MOST = 64
"""Thresholds of a table: means up to about 28 a step."""

_LARGEST = 2**24
"""Numbers of a table with a column for each unit."""


def thresholds(mean: np.ndarray) -> UInt32[Array, "k ..."] | None:
    """`2^32 P(N > k)`, k = 0, 1, ..., of Poisson numbers of `mean`, () or (n,): the number of events is how many
    of them a random word lies below. None where they would be too many."""
    import scipy.special  # slow to import

    if not np.all(np.isfinite(mean)):  # the run flags it
        return None
    values, place = np.unique(np.maximum(mean, 0.0), return_inverse=True)
    tails: list[np.ndarray] = []
    while not tails or tails[-1].max(initial=0.0) > _FINEST:
        if len(tails) == _MOST:
            return None
        tails.append(scipy.special.gammainc(len(tails) + 1.0, values))  # P(N > k) = P(Gamma(k + 1) < mean)
    words = np.minimum(np.round(np.stack(tails) * 2.0**32), 2.0**32 - 1).astype(np.uint32)
    if len(tails) * mean.size > _LARGEST:
        return None
    return jnp.asarray(words[:, place.reshape(mean.shape)])


def counts_below(key: Key, table: UInt32[Array, "k ..."], n: int) -> Float[Array, " n"]:
    """Poisson numbers of the means of a table of `thresholds`: integers throughout, so the same everywhere."""
    words = uniform_bits(seed_of(key), n)
    total = jnp.zeros(n, float_dtype())
    for k in range(table.shape[0]):
        total = total + (words < table[k]).astype(total.dtype)
    return total


class PoissonInput(AbstractDeclaredEdge):
    """`n` independent Poisson sources onto every unit of `post`, drawn at once: in a step `weight` times Poisson(n rate
    dt) arrives.

    Exact for the superposition of Poisson processes (Brian2 draws the binomial number of n Bernoulli sources). What is
    drawn in step k arrives at step `k + 1 + delay / dt`. Differentiable in `weight`, not in `rate`. The numbers are
    drawn by inversion, from the tails of the law in double precision and a word of 32 bits for each unit, where the
    rate is known before the run and its mean in a step is below about 28; a rate that varies in time, that is
    differentiated or batched, or is larger, is drawn by a loop over the terms of the law, which is slower.

    **Arguments:**

    - `post`: `"P"`, `"P.exc"`, `"P[:100].exc"`.
    - `n`: number of sources for each post unit.
    - `rate`: of each source, Hz; number, array (n_post,) or a waveform.
    - `weight`: of every source (nS, pA or mV, as the port's receptor has it); number, array (n_post,) or distribution.
    - `delay`: ms >= 0, a number: it shifts what varies in time, and nothing else.
    """

    post: str = eqx.field(static=True)
    n: int = eqx.field(static=True)
    rate: Any = eqx.field(converter=_parameter)
    weight: Any = eqx.field(converter=_parameter)
    delay: float = eqx.field(static=True, default=0.0, converter=float)

    def __check_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 0:
            raise ValueError(f"PoissonInput.n is {self.n!r}; expected a whole number of sources >= 0.")
        check_rate("PoissonInput", self.rate)
        if not 0.0 <= self.delay < np.inf:
            raise ValueError(f"PoissonInput.delay is {self.delay:g}; expected a number >= 0 (ms).")
        if not isinstance(self.weight, AbstractDistribution):
            check_parameter("PoissonInput", "weight", self.weight)

    def wire(self, where, nodes, key):
        end = Endpoint.parse(f"{where}.post", self.post)
        units = end.units(where, nodes)
        port = end.port_of(where, nodes)
        if nodes[end.node].ports[port] != nodes[end.node].size:
            raise ValueError(
                f"{where}: port {end.node}.{port} takes a coupling, not events; name a port with a receptor of events."
            )
        weight = self.weight
        if isinstance(weight, AbstractDistribution):
            if key is None:
                raise ValueError(f"{where}.weight is drawn from {weight}; give Network(..., key=jax.random.key(0)).")
            weight = weight.sample(key, (len(units),))
        elif jnp.shape(weight) not in ((), (len(units),)):
            raise ValueError(
                f"{where}.weight has shape {jnp.shape(weight)}; expected () or ({len(units)},), one per post unit."
            )
        _check_rate_shape("PoissonInput", where, self.rate, len(units))
        target = _Target(end.node, port, (units.start, units.stop, units.step))
        return WiredPoissonInput(n=self.n, rate=self.rate, weight=weight, delay=self.delay, table=None, target=target)


class _Target(NamedTuple):
    """The units of a port."""

    node: str
    port: str
    units: tuple[int, int, int]

    @property
    def size(self) -> int:
        return len(range(*self.units))


class _Onto(AbstractLink):
    """An edge that reads nothing."""

    target: eqx.AbstractVar[_Target]

    @property
    def reads(self):
        return {}

    @property
    def writes(self):
        return self.target.node, self.target.port

    @property
    def instant(self):
        return False


class WiredPoissonInput(_Onto, AbstractEdge):
    """A `PoissonInput` in a network; `table`: `thresholds` for steps of one dt, None where a loop draws."""

    n: int = eqx.field(static=True)
    rate: Any = eqx.field(converter=_parameter)
    weight: Any = eqx.field(converter=_parameter)
    delay: float = eqx.field(static=True)
    table: UInt32[Array, "k ..."] | None
    target: _Target = eqx.field(static=True)

    def known(self, dt):
        if isinstance(self.rate, AbstractInput) or is_traced(self.rate):
            return self
        table = thresholds(1e-3 * self.n * dt * np.asarray(self.rate, np.float64))
        return eqx.tree_at(lambda edge: edge.table, self, table, is_leaf=lambda x: x is None)

    def check(self, where, dt):
        warn_off_grid(where, "a delay", np.asarray(self.delay), dt)

    def schedule(self, where, dt):
        steps = 1 + to_steps(jnp.asarray(self.delay), dt)
        return ScheduledPoissonInput(
            n=self.n, rate=self.rate, weight=self.weight, table=self.table, steps=steps, target=self.target
        )

    def depth(self, dt):
        return 1 + int(to_steps(np.asarray(self.delay), dt))

    def init(self, clock):
        return {"rate": _init_rate(self.rate, self.target.size, clock)}


class ScheduledPoissonInput(_Onto, AbstractScheduledEdge):
    """A Poisson input at one dt."""

    n: int = eqx.field(static=True)
    rate: Any
    weight: Any
    table: UInt32[Array, "k ..."] | None
    steps: Any
    target: _Target = eqx.field(static=True)

    def send(self, z, views, clock):
        node, port, part = self.target
        rate, state = _rate_now(self.rate, z["rate"], self.target.size, clock)
        key = jax.random.fold_in(clock.key, zlib.crc32(b"Poisson"))
        if self.table is None:
            counts = poisson_counts(key, 1e-3 * self.n * clock.dt * rate, self.target.size)
        else:
            counts = counts_below(key, self.table, self.target.size)
        return {"rate": state}, [Deposit(node, port, self.weight * counts, self.steps, part=part)]


def _join(edges: dict[str, WiredPoissonInput], places: dict[str, Place]) -> list[Joined]:
    """Inputs onto different units of one packed port as one; those with a waveform apart."""
    joined: list[Joined] = []
    sets: list[tuple[Any, np.ndarray, dict[str, WiredPoissonInput]]] = []
    for name, edge in edges.items():
        node, port, part = edge.target
        to = places[node]
        units = to.units(part)
        if to.node == node or isinstance(edge.rate, AbstractInput) or edge.delay:
            joined.append(Joined(dataclasses.replace(edge, target=_Target(to.node, port, units)), {name: None}))
            continue
        end = to.node, port
        free = [(place, members) for at, place, members in sets if at == end and np.all(place[slice(*units)] == -1)]
        place, members = free[0] if free else (np.full(to.size, -1), {})
        if not free:
            sets.append((end, place, members))
        # where the units are among those of all members side by side
        place[slice(*units)] = sum(m.target.size for m in members.values()) + np.arange(edge.target.size)
        members[name] = edge
    for (node, port), place, members in sets:
        # the mean of a step is n rate dt: members of unlike n become single sources of n times the rate
        alike = len({m.n for m in members.values()}) == 1
        rates = [m.rate if alike else m.n * m.rate for m in members.values()]
        weights, sizes = [m.weight for m in members.values()], [m.target.size for m in members.values()]
        if np.any(place == -1):  # units without input
            nothing = jnp.zeros((), float_dtype())
            rates, weights, sizes = [*rates, nothing], [*weights, nothing], [*sizes, 1]
        rate, weight = side_by_side(rates, sizes, place), side_by_side(weights, sizes, place)
        first = next(iter(members.values()))
        edge = dataclasses.replace(
            first, n=first.n if alike else 1, rate=rate, weight=weight, target=_Target(node, port, (0, place.size, 1))
        )
        joined.append(Joined(edge, dict.fromkeys(members)))
    return joined


JOIN[WiredPoissonInput] = _join
