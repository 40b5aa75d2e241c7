"""One way to run a network: `simulate`, `step` for closed loops, `stream` to disk."""

from ._adjoint import (
    AbstractAdjoint as AbstractAdjoint,
    CheckpointedAdjoint as CheckpointedAdjoint,
    DirectAdjoint as DirectAdjoint,
    TruncatedAdjoint as TruncatedAdjoint,
    in_one as in_one,
    in_segments as in_segments,
)
from ._cache import clear_caches as clear_caches, compilation_cache as compilation_cache
from ._check_dt import StepCheck as StepCheck, check_dt as check_dt
from ._checks import strong as strong
from ._describe import describe as describe, difference as difference, digest as digest, structure as structure
from ._events import simulate_events as simulate_events
from ._leaves import from_arrays as from_arrays, to_arrays as to_arrays
from ._observation import (
    AbstractObservation as AbstractObservation,
    ends as ends,
    means as means,
    slots as slots,
)
from ._online import AbstractOnlineAdjoint as AbstractOnlineAdjoint
from ._online_rules import EPropAdjoint as EPropAdjoint, OTTTAdjoint as OTTTAdjoint, SLTTAdjoint as SLTTAdjoint
from ._saveat import (
    AbstractRecording as AbstractRecording,
    Current as Current,
    Events as Events,
    Origin as Origin,
    Rate as Rate,
    Spikes as Spikes,
    Trace as Trace,
)
from ._simulate import simulate as simulate
from ._smoothed import smoothed as smoothed
from ._solution import (
    ONE_OF_A_BATCH as ONE_OF_A_BATCH,
    EventSolution as EventSolution,
    SimulationError as SimulationError,
    Solution as Solution,
    SpikeTrain as SpikeTrain,
    is_batch as is_batch,
    units_of as units_of,
)
from ._step import step as step, with_input_states as with_input_states
from ._stream import AbstractSink as AbstractSink, stream as stream
from ._summary import Summary as Summary, summary as summary
