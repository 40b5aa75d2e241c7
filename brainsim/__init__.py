"""brainsim: a differentiable brain simulator on JAX."""

from importlib import import_module as _import
from importlib.metadata import PackageNotFoundError as _NotFound, version as _version
from typing import TYPE_CHECKING as _CHECKING, Any as _Any

from .connect import (
    AbstractKernel as AbstractKernel,
    AbstractRule as AbstractRule,
    AllToAll as AllToAll,
    Built as Built,
    DenseMatrix as DenseMatrix,
    DifferenceOfGaussiansKernel as DifferenceOfGaussiansKernel,
    DiscKernel as DiscKernel,
    DistanceDependent as DistanceDependent,
    ExponentialKernel as ExponentialKernel,
    FixedInDegree as FixedInDegree,
    FixedOutDegree as FixedOutDegree,
    FixedProbability as FixedProbability,
    FixedTotalNumber as FixedTotalNumber,
    FromCOO as FromCOO,
    FromCSR as FromCSR,
    GaussianKernel as GaussianKernel,
    OneToOne as OneToOne,
    Procedural as Procedural,
    SmallWorld as SmallWorld,
    from_sparse as from_sparse,
    grid_positions as grid_positions,
    synapse_lengths as synapse_lengths,
)
from .connectome import Connectome as Connectome
from .core import (
    INSTANT as INSTANT,
    AbstractDelay as AbstractDelay,
    AbstractDistribution as AbstractDistribution,
    AbstractEdge as AbstractEdge,
    AbstractInput as AbstractInput,
    AbstractNode as AbstractNode,
    AbstractNoise as AbstractNoise,
    AbstractProcess as AbstractProcess,
    AbstractReceptor as AbstractReceptor,
    AbstractShortTerm as AbstractShortTerm,
    AbstractSurrogate as AbstractSurrogate,
    AbstractUnit as AbstractUnit,
    ArcTan as ArcTan,
    Clock as Clock,
    Coupling as Coupling,
    Crossing as Crossing,
    Damped as Damped,
    Deposit as Deposit,
    Emitted as Emitted,
    Exponential as Exponential,
    Gamma as Gamma,
    GapJunctions as GapJunctions,
    Gaussian as Gaussian,
    GaussianDelay as GaussianDelay,
    HalfDrop as HalfDrop,
    LinearDelay as LinearDelay,
    LogNormal as LogNormal,
    Network as Network,
    Normal as Normal,
    PairCoupling as PairCoupling,
    PiecewiseExponential as PiecewiseExponential,
    Population as Population,
    Projection as Projection,
    Rectangular as Rectangular,
    Sigmoid as Sigmoid,
    Sigmoidal as Sigmoidal,
    Source as Source,
    State as State,
    Structure as Structure,
    SuperSpike as SuperSpike,
    Triangular as Triangular,
    Uniform as Uniform,
    View as View,
    WhiteNoise as WhiteNoise,
    diffusive as diffusive,
    hardened as hardened,
    initial_state as initial_state,
    pack as pack,
    sinusoidal as sinusoidal,
    synapses_of as synapses_of,
)
from .events import (
    CSR as CSR,
    Convolution as Convolution,
    Dense as Dense,
    DrawnRows as DrawnRows,
    FixedFanin as FixedFanin,
    FixedFanout as FixedFanout,
    backend as backend,
)
from .glia import GChI as GChI, LiRinzel as LiRinzel
from .io import (
    Directory as Directory,
    StoredRun as StoredRun,
    load as load,
    save as save,
    to_neo as to_neo,
)
from .masses import (
    Epileptor as Epileptor,
    ExcInhWongWang as ExcInhWongWang,
    FitzHughNagumo as FitzHughNagumo,
    JansenRit as JansenRit,
    Kuramoto as Kuramoto,
    MontbrioPazoRoxin as MontbrioPazoRoxin,
    ReducedWongWang as ReducedWongWang,
    StuartLandau as StuartLandau,
    WilsonCowan as WilsonCowan,
)
from .neurons import (
    ELM as ELM,
    LIF as LIF,
    QIF as QIF,
    AbstractWaveform as AbstractWaveform,
    AdaptiveLIF as AdaptiveLIF,
    AdEx as AdEx,
    CubaLIF as CubaLIF,
    DiscreteNeurons as DiscreteNeurons,
    ExponentialIF as ExponentialIF,
    External as External,
    HodgkinHuxley as HodgkinHuxley,
    Homeostatic as Homeostatic,
    Izhikevich as Izhikevich,
    LeakyIntegrator as LeakyIntegrator,
    MorrisLecar as MorrisLecar,
    OUCurrent as OUCurrent,
    Poisson as Poisson,
    PoissonInput as PoissonInput,
    Ramp as Ramp,
    Regular as Regular,
    Replay as Replay,
    Reset as Reset,
    Sampled as Sampled,
    Sine as Sine,
    StepCurrent as StepCurrent,
    TraubMiles as TraubMiles,
    VoltageClamp as VoltageClamp,
    WangBuzsaki as WangBuzsaki,
)
from .nir._export import to_nir as to_nir
from .nir._import import from_nir as from_nir
from .plasticity import (
    BCM as BCM,
    AbstractBound as AbstractBound,
    AbstractPlasticity as AbstractPlasticity,
    Additive as Additive,
    ClopathSTDP as ClopathSTDP,
    GraupnerBrunel as GraupnerBrunel,
    Integral as Integral,
    LowPass as LowPass,
    Multiplicative as Multiplicative,
    Oja as Oja,
    PairSTDP as PairSTDP,
    PlasticProjection as PlasticProjection,
    PowerLaw as PowerLaw,
    PreCenteredSTDP as PreCenteredSTDP,
    ReducedSTDP as ReducedSTDP,
    RewardSTDP as RewardSTDP,
    SpikeTrace as SpikeTrace,
    SynapticScaling as SynapticScaling,
    TripletSTDP as TripletSTDP,
    VogelsSprekeler as VogelsSprekeler,
)
from .simulate import (
    AbstractAdjoint as AbstractAdjoint,
    AbstractOnlineAdjoint as AbstractOnlineAdjoint,
    AbstractRecording as AbstractRecording,
    AbstractSink as AbstractSink,
    CheckpointedAdjoint as CheckpointedAdjoint,
    Current as Current,
    DirectAdjoint as DirectAdjoint,
    EPropAdjoint as EPropAdjoint,
    Events as Events,
    EventSolution as EventSolution,
    OTTTAdjoint as OTTTAdjoint,
    Rate as Rate,
    SimulationError as SimulationError,
    SLTTAdjoint as SLTTAdjoint,
    Solution as Solution,
    Spikes as Spikes,
    StepCheck as StepCheck,
    Trace as Trace,
    TruncatedAdjoint as TruncatedAdjoint,
    check_dt as check_dt,
    clear_caches as clear_caches,
    compilation_cache as compilation_cache,
    simulate as simulate,
    simulate_events as simulate_events,
    smoothed as smoothed,
    step as step,
    stream as stream,
    summary as summary,
)
from .solvers import (
    SOLVERS as SOLVERS,
    Every as Every,
    ExponentialEuler as ExponentialEuler,
    Substep as Substep,
    check_structure as check_structure,
)
from .synapses import (
    NMDA as NMDA,
    AlphaCond as AlphaCond,
    AlphaCurr as AlphaCurr,
    CouplingPort as CouplingPort,
    Delta as Delta,
    DualExpCond as DualExpCond,
    ExpCond as ExpCond,
    ExpCurr as ExpCurr,
    Gain as Gain,
    GapPort as GapPort,
    HeldCurr as HeldCurr,
    PairPort as PairPort,
    TsodyksMarkram as TsodyksMarkram,
)

if _CHECKING:
    from . import lower as lower, nir as nir, observe as observe, operators as operators, sweep as sweep, train as train


def __getattr__(name: str) -> _Any:
    """Packages imported at their first use: the optimisers of `train` take as long to load as all the rest."""
    if name in ("io", "lower", "observe", "operators", "plot", "sweep", "train"):
        return _import(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


try:
    __version__ = _version("brainsim")
except _NotFound:  # a checkout on the path, not installed
    __version__ = "0+unknown"
