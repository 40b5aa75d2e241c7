"""How long a run took, compilation apart."""

import functools
import time

import jax.monitoring

_compiled = [0.0]
_traced = [0.0]


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event.endswith("jaxpr_trace_duration"):  # traces nest: the outermost, which ends last, holds the others
        _traced[0] = max(_traced[0], duration_secs)
    elif event.startswith("/jax/core/compile/"):
        _compiled[0] += duration_secs


@functools.cache
def _listening() -> bool:
    """Whether JAX tells how long it compiles, from the first run on; where it no longer does, that is part of the time
    of the run."""
    register = getattr(jax.monitoring, "register_event_duration_secs_listener", None)
    if register is not None:
        register(_listen)
    return register is not None


class Watch:
    """`with Watch() as w: ...` then `w.compile_s` and `w.run_s` (seconds)."""

    def __enter__(self) -> "Watch":
        _listening()
        self._start, self._before = time.perf_counter(), _compiled[0]
        _traced[0] = 0.0
        return self

    def __exit__(self, *_) -> None:
        self.compile_s = _compiled[0] - self._before + _traced[0]
        self.run_s = max(time.perf_counter() - self._start - self.compile_s, 0.0)
