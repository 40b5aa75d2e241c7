"""Sources of events that are not random: regular, replayed, given from outside.

The time of an event is the end of its step, so an event at t is emitted in the step n = round(t / dt) - 1. Of a replay
the first step emits what is nearer to 0; a regular train has no event there.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import Param, check_parameter, float_dtype, is_traced, parameter
from ..core import AbstractInput, AbstractProcess, Exact, earlier
from ._shared import not_negative, positive


class Regular(AbstractProcess):
    """Regular spikes at `phase + k period`, k = 0, 1, ... (t = 0 excepted), each in the step whose end is nearest.

    The times are counted in steps between spikes, so they do not drift in float32. More than one spike in a step count.

    **Arguments:** `period` > 0 and `phase` >= 0: ms; number or array (n,). See `Regular.of_rate` for Hz.
    """

    packable: ClassVar[bool] = True
    period: Param = eqx.field(converter=parameter)
    phase: Param = eqx.field(converter=parameter, default=0.0)

    def __check_init__(self) -> None:
        positive(self, "period")
        not_negative(self, "phase")

    @staticmethod
    def of_rate(rate: Any, phase: Any = 0.0) -> "Regular":
        """Regular spikes at `rate` > 0 (Hz); `phase` in ms."""
        rate = parameter(rate)
        check_parameter("Regular.of_rate", "rate", rate)
        if not is_traced(rate) and not bool(np.all(np.asarray(rate) > 0)):
            raise ValueError(f"Regular.of_rate: rate is {np.asarray(rate)}; expected rates > 0 (Hz).")
        return Regular(1e3 / rate, phase)

    def check(self, name, size):
        for field in ("period", "phase"):
            shape = jnp.shape(getattr(self, field))
            if shape not in ((), (size,)):
                raise ValueError(
                    f"Source {name!r}: Regular.{field} has shape {shape}; expected () or ({size},), one per unit."
                )

    def init(self, n, clock):
        period, first = self.period / clock.dt, self.phase / clock.dt
        # the spikes of the past and of t = 0 are over
        over = jnp.maximum(jnp.floor((0.5 - first) / period) + 1.0, 0.0)
        return {"wait": jnp.broadcast_to(first + over * period, (n,))}

    def emit(self, z, inp, clock):
        period, wait = self.period / clock.dt, z["wait"] - 1.0  # steps from the end of this step to the next spike
        count = jnp.maximum(jnp.floor((0.5 - wait) / period) + 1.0, 0.0)
        # the tie at half a step belongs to the next one
        count = jnp.where(wait < 0.5, count, jnp.zeros_like(count))
        return jax.lax.stop_gradient(count).astype(inp.dtype), {"wait": wait + count * period}


class Replay(AbstractProcess):
    """Recorded spikes: unit `ids[k]` emits at `times[k]`; several spikes of a unit in one step add up.

    `Replay(*sol.spikes("P"))` emits in the very steps of the recording, however late. A step costs two binary searches
    in the list plus its own spikes. Past the last spike it is silent; what is nearer to 0 than to the end of the first
    step is emitted in the first. Times are those of the state, so that a list for a run after a burn-in begins at the
    end of that. The list is part of the network, no matter how long; it is no trainable parameter.

    Other times or units may be put in by `eqx.tree_at`, a batch of trains under `vmap`, in any order: a run sorts them.
    Those that are negative, NaN or of units that do not exist set the flag of the source.

    **Arguments:** `times`: ms >= 0, in any order; `ids`: unit numbers >= 0, of the same length.
    """

    times: Float[Array, " n_spikes"]
    ids: Int[Array, " n_spikes"]
    exact: Exact
    fault: Float[Array, ""]  # set by `at`: NaN where times or ids cannot be

    def __init__(self, times: Any, ids: Any) -> None:
        self.fault = jnp.zeros((), float_dtype())
        if is_traced(times) or is_traced(ids):
            _two_lists(times, ids)
            self.times, self.exact, self.ids = parameter(times), Exact.of(times), jnp.asarray(ids).astype(jnp.int32)
            return
        t, i = np.asarray(times), np.asarray(ids)
        _two_lists(t, i)
        if i.size and not np.issubdtype(i.dtype, np.integer):
            raise TypeError(
                f"Replay.ids is of type {i.dtype}; expected whole numbers of units. Convert with ids.astype(int)."
            )
        if t.size and (t.dtype == object or not np.issubdtype(t.dtype, np.number) or np.iscomplexobj(t)):
            raise TypeError(f"Replay.times is of type {t.dtype}; expected real numbers (ms).")
        t = t.astype(np.float64)
        if not np.all(np.isfinite(t)) or np.any(t < 0):
            raise ValueError(
                "Replay.times contains NaN, infinity or negative times; expected times >= 0 (ms). Remove or shift them."
            )
        if np.any(i < 0):
            raise ValueError(f"Replay.ids contains {int(i.min())}; expected unit numbers >= 0.")
        order = np.argsort(t, kind="stable")
        self.times, self.exact = parameter(t[order]), Exact.of(t[order])
        self.ids = jnp.asarray(i[order], jnp.int32)

    def check(self, name, size):
        largest = -1 if is_traced(self.ids) else int(np.max(np.asarray(self.ids), initial=-1))
        if largest >= size:
            raise ValueError(
                f"Source {name!r}: Replay.ids contains unit {largest}; the source has {size} units. Raise its size."
            )

    def at(self, size, dt):
        times, ids = jax.lax.stop_gradient(self.times), self.ids
        _two_lists(times, ids)
        rest = self.exact.rest(times)
        good = jnp.all((times >= 0) & (ids >= 0) & (ids < size))
        ahead, more = times[1:] - times[:-1], rest[1:] - rest[:-1]
        sorted_ = jnp.all((ahead > 0) | ((ahead == 0) & (more >= 0)))

        def sort(args):
            order = jnp.lexsort((args[1], args[0]))
            return tuple(x[order] for x in args)

        times, rest, ids = jax.lax.cond(sorted_, lambda args: args, sort, (times, rest, ids))
        fault = jnp.where(good, 0.0, jnp.nan).astype(self.fault.dtype)
        new = times, Exact(times, rest), ids, fault
        return eqx.tree_at(lambda p: (p.times, p.exact, p.ids, p.fault), self, new)

    def watched(self, z, inp, n, clock):
        return [self.fault]

    def init(self, n, clock):
        return {}

    @property
    def silent_from(self):
        known = self.times.size and not is_traced(self.times)
        return float(np.max(np.asarray(self.times))) if known else None

    def emit(self, z, inp, clock):
        # Times nearest to the end of this step lie between its middle and that of the next one.
        times = jax.lax.stop_gradient(self.times)
        first, end = (earlier(times, self.exact, clock.instant(late)) for late in (0.5, 1.5))
        first = jnp.where(clock.n == 0, jnp.zeros_like(first), first)
        value = jnp.zeros_like(inp)
        if not self.ids.shape[0]:
            return value, z
        return jax.lax.fori_loop(first, end, lambda k, v: v.at[self.ids[k]].add(1.0), jax.lax.stop_gradient(value)), z


def _two_lists(times: Any, ids: Any) -> None:
    t, i = jnp.shape(times), jnp.shape(ids)
    if len(t) != 1 or i != t:
        raise ValueError(f"Replay: times of shape {t} and ids of shape {i}; expected two lists of one length.")


class External(AbstractProcess):
    """Emits what `inputs={"name": ...}` of the run holds: an array (n_steps, n) of spikes or graded values, or a
    waveform.

    Row k is emitted in step k of the run, wherever that begins. A run without an input for it raises; 0.0 is silence.
    Gradients flow into the inputs; the backward pass is dense.
    """

    packable: ClassVar[bool] = True
    needs_input: ClassVar[bool] = True

    def check(self, name, size):
        pass

    def init(self, n, clock):
        return {}

    def emit(self, z, inp, clock):
        return inp, z

    def graded(self, inp):
        if inp is None or isinstance(inp, AbstractInput):
            return jnp.asarray(inp is not None)
        return jnp.any((inp < 0) | (inp != jnp.floor(inp)))
