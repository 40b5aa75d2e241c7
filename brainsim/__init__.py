"""brainsim: a differentiable brain simulator on JAX."""

from .core import (
    INSTANT as INSTANT,
    AbstractDistribution as AbstractDistribution,
    AbstractEdge as AbstractEdge,
    AbstractInput as AbstractInput,
    AbstractNode as AbstractNode,
    AbstractNoise as AbstractNoise,
    AbstractProcess as AbstractProcess,
    AbstractReceptor as AbstractReceptor,
    AbstractSurrogate as AbstractSurrogate,
    AbstractUnit as AbstractUnit,
    ArcTan as ArcTan,
    Clock as Clock,
    Exponential as Exponential,
    Gamma as Gamma,
    GapJunctions as GapJunctions,
    Gaussian as Gaussian,
    LogNormal as LogNormal,
    Network as Network,
    Normal as Normal,
    PiecewiseExponential as PiecewiseExponential,
    Population as Population,
    Projection as Projection,
    Rectangular as Rectangular,
    Sigmoid as Sigmoid,
    Source as Source,
    State as State,
    SuperSpike as SuperSpike,
    Triangular as Triangular,
    Uniform as Uniform,
    WhiteNoise as WhiteNoise,
    initial_state as initial_state,
)
from .connect import *  # noqa: F403
from .events import CSR as CSR, Dense as Dense, FixedFanout as FixedFanout, backend as backend
from .io import Directory as Directory, StoredRun as StoredRun, load as load, save as save, to_neo as to_neo
from .neurons import *  # noqa: F403
from .simulate import (
    CheckpointedAdjoint as CheckpointedAdjoint,
    DirectAdjoint as DirectAdjoint,
    Events as Events,
    Rate as Rate,
    SimulationError as SimulationError,
    Solution as Solution,
    Spikes as Spikes,
    Trace as Trace,
    compilation_cache as compilation_cache,
    simulate as simulate,
    step as step,
    stream as stream,
    summary as summary,
)
from .solvers import ExponentialEuler as ExponentialEuler
from .synapses import *  # noqa: F403
