"""The abstraction: hybrid systems (init, flow, jump), their nodes and edges, and the network."""

from ._coupling import Coupling as Coupling, Sigmoidal as Sigmoidal
from ._crossing import SINCE as SINCE, Crossing as Crossing
from ._delay import (
    AbstractDelay as AbstractDelay,
    GaussianDelay as GaussianDelay,
    LinearDelay as LinearDelay,
)
from ._deposit import Deposit as Deposit
from ._distributions import (
    AbstractDistribution as AbstractDistribution,
    Exponential as Exponential,
    Gamma as Gamma,
    LogNormal as LogNormal,
    Normal as Normal,
    Uniform as Uniform,
)
from ._edge import (
    AbstractDeclaredEdge as AbstractDeclaredEdge,
    AbstractEdge as AbstractEdge,
    AbstractLink as AbstractLink,
    AbstractScheduledEdge as AbstractScheduledEdge,
)
from ._fitted import fitted as fitted
from ._gap import GapJunctions as GapJunctions, WiredGapJunctions as WiredGapJunctions
from ._hardened import hardened as hardened, listed as listed
from ._input import AbstractInput as AbstractInput
from ._join import JOIN as JOIN, Joined as Joined, Place as Place, side_by_side as side_by_side
from ._network import (
    AbstractGraph as AbstractGraph,
    Network as Network,
    ScheduledNetwork as ScheduledNetwork,
    initial_state as initial_state,
    run_key as run_key,
)
from ._node import (
    AbstractNode as AbstractNode,
    AbstractProcess as AbstractProcess,
    Population as Population,
    Source as Source,
)
from ._pack import pack as pack
from ._pair_coupling import PairCoupling as PairCoupling, diffusive as diffusive, sinusoidal as sinusoidal
from ._part import Part as Part, Parts as Parts
from ._projection import Projection as Projection, WiredProjection as WiredProjection
from ._routed import AbstractDelayed as AbstractDelayed, AbstractRouted as AbstractRouted
from ._short_term import AbstractShortTerm as AbstractShortTerm, listened as listened
from ._state import (
    Clock as Clock,
    Emitted as Emitted,
    InputState as InputState,
    NodeState as NodeState,
    State as State,
    View as View,
    name_hash as name_hash,
    ring_slot as ring_slot,
    unflagged as unflagged,
)
from ._surrogate import (
    AbstractSurrogate as AbstractSurrogate,
    ArcTan as ArcTan,
    Damped as Damped,
    Gaussian as Gaussian,
    HalfDrop as HalfDrop,
    PiecewiseExponential as PiecewiseExponential,
    Rectangular as Rectangular,
    Sigmoid as Sigmoid,
    SuperSpike as SuperSpike,
    Triangular as Triangular,
)
from ._synapses import Synapses as Synapses, synapses_of as synapses_of
from ._time import Exact as Exact, Instant as Instant, earlier as earlier, instant_of_step as instant_of_step
from ._unit import (
    AbstractNoise as AbstractNoise,
    AbstractReceptor as AbstractReceptor,
    AbstractUnit as AbstractUnit,
    Parametrised as Parametrised,
    Structure as Structure,
    WhiteNoise as WhiteNoise,
)
from ._units import Units as Units, columns as columns
from ._wiring import (
    INSTANT as INSTANT,
    Endpoint as Endpoint,
    Route as Route,
    by_synapse as by_synapse,
    check_steps as check_steps,
    delay_steps as delay_steps,
    drawn_weight as drawn_weight,
    lowest_conductance as lowest_conductance,
    ring_depth as ring_depth,
    value_of as value_of,
    wire as wire,
    within_line as within_line,
)
