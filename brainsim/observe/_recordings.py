"""What instruments see of a run, recorded within it: nothing of every step is kept."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Param, parameter
from ..simulate import AbstractObservation, AbstractRecording, Current, Origin, Trace, ends, means, slots
from ._balloon import Balloon
from ._downsample import low_pass


class _Weighted(AbstractRecording):
    """The sum of recordings of single steps, each times a factor."""

    of: tuple[AbstractRecording, ...]
    factors: tuple[Any, ...]
    every: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        for r in self.of:
            if isinstance(r, AbstractObservation):
                raise TypeError(
                    f"of adds up {type(r).__name__}, which has a state; expected variables, rates or currents. Record "
                    "each and add the samples."
                )

    @property
    def key(self):
        return "+".join(r.key for r in self.of)

    @property
    def sources(self):
        return tuple(s for r in self.of for s in r.sources)

    def check(self, net):
        for r in self.of:
            r.check(net)

    def origin(self, net):
        return self.of[0].origin(net)

    def sample(self, views, nodes, edges) -> Any:
        return tuple(r.sample(views, nodes, edges) for r in self.of)

    def result(self, samples, net, dt):
        return sum(f * r.result(x, net, dt) for f, r, x in zip(self.factors, self.of, samples, strict=True))


def _seen(of: Any) -> AbstractRecording:
    """The recording that `of` stands for: a variable, a recording, or the sum of several times factors."""
    if isinstance(of, str):
        return Trace(target=of)
    if isinstance(of, list | tuple) and of and all(isinstance(pair, tuple) and len(pair) == 2 for pair in of):
        return _Weighted(of=tuple(_seen(r) for _, r in of), factors=tuple(parameter(f) for f, _ in of))
    if not isinstance(of, AbstractRecording):
        raise TypeError(
            f"of is {of!r}; expected a variable such as 'R.S', a recording such as bs.Rate('E'), or a list of these "
            "with factors, such as [(1.0, 'R.y1'), (-1.0, 'R.y2')]."
        )
    if of.every != 1:
        raise ValueError(f"of is {of!r}, with every = {of.every}; expected every = 1: what is seen is every step.")
    return of


class _Instrument(AbstractObservation):
    """An observation of what another recording sees."""

    of: eqx.AbstractVar[AbstractRecording]
    name: eqx.AbstractVar[str]

    @property
    def key(self):
        return self.name

    @property
    def sources(self):
        return self.of.sources

    def check(self, net):
        self.of.check(net)

    def origin(self, net):
        return self.of.origin(net)._replace(kind=type(self).__name__)

    def sample(self, views, nodes, edges):
        return self.of.sample(views, nodes, edges)

    def _see(self, before: Any, rows: Any, first: Array, net: Any, dt: float) -> tuple[Any, Array]:
        """The state of what is seen, and its values at every step."""
        if isinstance(self.of, AbstractObservation):
            return self.of.follow(before, rows, first, net, dt)
        return before, self.of.result(rows, net, dt)

    def begin(self, sample, net, dt):
        before = self.of.begin(sample, net, dt) if isinstance(self.of, AbstractObservation) else ()

        def one() -> Any:
            row = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), sample)
            return self._see(before, row, jnp.zeros((), jnp.int32), net, dt)[1][0]

        return before, self.start(jax.eval_shape(one), dt)

    def follow(self, state, rows, first, net, dt):
        before, own = state
        before, rows = self._see(before, rows, first, net, dt)
        own, found = self.observe(own, rows, first, dt)
        return (before, own), found

    @abc.abstractmethod
    def start(self, seen: jax.ShapeDtypeStruct, dt: float) -> Any:
        """Its own state before the run, of values of this shape."""

    @abc.abstractmethod
    def observe(self, state: Any, rows: Array, first: Array, dt: float) -> tuple[Any, Array]:
        """As `follow`, of the values that are seen."""


class BOLD(_Instrument):
    """The BOLD signal of activity, integrated along with the run: one volume every `every` steps, (volumes, n).

    The balloon takes steps of at most `step` ms, through each of which its input is the mean of the activity; so memory
    holds a volume and no more, and `bold` of a recorded activity gives the same. Differentiable in the activity, the
    factors and the parameters of the balloon. A run that goes on from a state goes on with the balloons too.

    **Arguments:** `of`: the activity z, without unit (z = 1 is a strong drive): a variable such as `"R.S"`, a recording
    such as `bs.Rate("E")`, or a sum of these times factors, `[(0.05, bs.Rate("E"))]`; `every`: repetition time, in
    steps; `balloon`: default `Balloon.friston_2003()`; `step`: largest step of the balloon (ms); `name`: in the
    solution.

    **Raises:** TypeError or ValueError for an activity that is no recording of every step.

    !!! Example
        `bs.simulate(net, ..., dt=0.1, saveat=[bs.observe.BOLD("R.S", every=7200)])["BOLD"]`, every 720 ms.
    """

    of: AbstractRecording = eqx.field(converter=_seen)
    every: int = eqx.field(static=True)
    balloon: Balloon = eqx.field(default_factory=Balloon.friston_2003)
    step: float = eqx.field(static=True, default=5.0)
    name: str = eqx.field(static=True, default="BOLD")

    def __check_init__(self) -> None:
        _whole("BOLD.every", self.every)
        if not isinstance(self.balloon, Balloon):
            raise TypeError(f"BOLD.balloon is {self.balloon!r}; expected a Balloon, e.g. Balloon.stephan_2007().")
        if not self.step > 0:
            raise ValueError(f"BOLD.step is {self.step}; expected a step of the balloon > 0 ms, at most 20.")

    def start(self, seen, dt):
        return self.balloon.rest(seen.shape), jnp.zeros(seen.shape, seen.dtype)

    def observe(self, state, rows, first, dt):
        (y, part), m = state, _part_of(self.every, self.step / dt)
        part, z, complete = means(part, rows, first, m)

        def step(y, row):
            z, complete = row
            y = jax.tree.map(lambda new, old: jnp.where(complete, new, old), self.balloon.step(y, z, m * dt), y)
            return y, y

        y, path = jax.lax.scan(step, y, (z, complete))
        volume = first // self.every + jnp.arange(slots(rows.shape[0], self.every), dtype=jnp.int32)
        at = jnp.clip((volume + 1) * (self.every // m) - 1 - first // m, 0, z.shape[0] - 1)
        return (y, part), self.balloon.signal(jax.tree.map(lambda x: x[at], path))


class EEG(_Instrument):
    """What sensors see of sources: `lead_field` times their activity at every `every`-th step, (samples, sensors).

    A lead field is given, or that of a sphere (`eeg_lead_field`; of `meg_lead_field` it is an MEG). Samples hold what
    is faster than half their rate as aliases; `Downsampled(EEG(...), every=...)` filters it out.

    **Arguments:** `of`: the activity, such as `"R.y1"`, `bs.Current("P.exc")` or `[(1.0, "R.y1"), (-1.0, "R.y2")]`;
    `lead_field`: (sensors, sources); `every`: in steps; `name`: in the solution.

    **Raises:** ValueError for a lead field of another number of sources.
    """

    of: AbstractRecording = eqx.field(converter=_seen)
    lead_field: Float[Array, "sensors sources"] = eqx.field(converter=parameter)
    every: int = eqx.field(static=True, default=1)
    name: str = eqx.field(static=True, default="EEG")

    def __check_init__(self) -> None:
        _whole("EEG.every", self.every)
        if jnp.ndim(self.lead_field) != 2:
            raise ValueError(
                f"EEG.lead_field has shape {jnp.shape(self.lead_field)}; expected (sensors, sources). Give "
                "eeg_lead_field the orientations of its dipoles."
            )

    def check(self, net):
        super().check(net)
        origin, sources = self.of.origin(net), self.lead_field.shape[1]
        n = net.sizes.get(origin.node, sources) if origin.units is None else len(origin.units)
        if n != sources:
            raise ValueError(f"EEG.lead_field is of {sources} sources, and {self.of.key!r} of {n}; expected as many.")

    def origin(self, net):
        return Origin("EEG")

    def start(self, seen, dt):
        return ()

    def observe(self, state, rows, first, dt):
        # one product after the other, so that its rounding does not depend on how many there are
        return state, jax.lax.map(lambda x: self.lead_field @ x, rows[ends(first, rows.shape[0], self.every)])


class LFP(AbstractObservation):
    r"""The local field potential of point neurons, as the reference weighted sum of their synaptic currents:

    $$\mathrm{LFP}(t) = \sum_i I_{exc,i}(t - \delta) - \alpha \sum_i I_{inh,i}(t)$$

    at every `every`-th step, (samples,), in pA: up to a factor and an offset the potential that the same currents make
    in pyramidal cells of the same drive. Inhibitory currents are negative, so that both add up. Before the run they
    count as 0.

    **Arguments:** `node`: the pyramidal cells, `"E"` or `"E[:100]"`; `exc`, `inh`: their ports; `every`: in steps;
    `delay`: $\delta$ (ms), `ratio`: $\alpha$, as published; `name`: in the solution.

    **Raises:** ValueError for ports that the node has not, or a delay below 0.

    Source: Mazzoni et al. 2015, doi:10.1371/journal.pcbi.1004584.
    """

    node: str = eqx.field(static=True)
    exc: str = eqx.field(static=True, default="exc")
    inh: str = eqx.field(static=True, default="inh")
    every: int = eqx.field(static=True, default=1)
    delay: float = eqx.field(static=True, default=6.0)
    ratio: Param = 1.65
    name: str = eqx.field(static=True, default="LFP")

    def __check_init__(self) -> None:
        _whole("LFP.every", self.every)
        if not self.delay >= 0:
            raise ValueError(f"LFP.delay is {self.delay}; expected a delay of the excitatory currents >= 0 ms.")

    @property
    def key(self):
        return self.name

    @property
    def sources(self):
        return Current(target=f"{self.node}.{self.exc}"), Current(target=f"{self.node}.{self.inh}")

    def check(self, net):
        for current in self.sources:
            current.check(net)

    def origin(self, net):
        return Origin("LFP")

    def sample(self, views, nodes, edges) -> Any:
        return tuple(jnp.sum(current.sample(views, nodes, edges)) for current in self.sources)

    def begin(self, sample, net, dt):
        return jnp.zeros(round(self.delay / dt), sample[0].dtype)

    def follow(self, state, rows, first, net, dt):
        exc, inh = rows
        line = jnp.concatenate([state, exc])
        at = ends(first, exc.shape[0], self.every)
        return line[exc.shape[0] :], line[at] - self.ratio * inh[at]


class Downsampled(_Instrument):
    """A recording at every `every`-th step, after a low-pass filter below the new Nyquist frequency.

    The filter of `downsample`, made causal: sample k, at `times(key)[k]`, is that of `half_width` samples earlier, as
    in a recording system with an analogue filter. What was before the run counts as its first value.

    **Arguments:** `of`: what is sampled, such as `"R.S"`, `bs.Rate("E")`, `EEG(...)`, `LFP("E")` or a sum of variables
    times factors; `every`: in steps, > 1; `half_width`: of the filter, in samples; `name`: in the solution, None: that
    of what is sampled.
    """

    of: AbstractRecording = eqx.field(converter=_seen)
    every: int = eqx.field(static=True)
    half_width: int = eqx.field(static=True, default=10)
    name: Any = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _whole("Downsampled.every", self.every)
        _whole("Downsampled.half_width", self.half_width)
        if self.every == 1:
            raise ValueError("Downsampled.every is 1, which leaves all samples; record what it is of itself.")

    @property
    def key(self):
        return self.name or self.of.key

    def start(self, seen, dt):
        return jnp.zeros((2 * self.half_width, *seen.shape), seen.dtype), jnp.asarray(True)

    def observe(self, state, rows, first, dt):
        # sums[k]: the k-th of the samples that are not complete; each step adds to all of them
        (sums, new), m = state, self.every
        flat = rows.reshape(rows.shape[0], -1)
        by_sample = low_pass(m, self.half_width)[1:].reshape(-1, m)[::-1]
        taps = jnp.asarray(by_sample.T, rows.dtype)  # (phase, sample)
        before = jnp.asarray(1.0 - np.cumsum(by_sample.sum(1)), rows.dtype)  # of what came before
        sums = sums.reshape(sums.shape[0], -1)
        sums = jnp.where(new, before[:, None] * flat[:1], sums)

        def step(sums, row):
            x, phase = row
            sums = sums + taps[phase][:, None] * x[None]
            shifted = jnp.concatenate([sums[1:], jnp.zeros_like(sums[:1])])
            return jnp.where(phase == m - 1, shifted, sums), sums[0]

        phases = (first + jnp.arange(flat.shape[0], dtype=jnp.int32)) % m
        sums, firsts = jax.lax.scan(step, sums, (flat, phases))
        found = firsts[ends(first, flat.shape[0], m)]
        own = sums.reshape(-1, *rows.shape[1:]), jnp.asarray(False)
        return own, found.reshape(-1, *rows.shape[1:])


def _whole(what: str, x: Any) -> None:
    if isinstance(x, bool) or not isinstance(x, int) or x < 1:
        raise ValueError(f"{what} is {x!r}; expected a whole number of steps >= 1.")


def _part_of(whole: int, most: float) -> int:
    """The largest divisor of `whole` up to `most`."""
    return max(m for m in range(1, max(1, min(whole, int(most + 1e-6))) + 1) if whole % m == 0)
