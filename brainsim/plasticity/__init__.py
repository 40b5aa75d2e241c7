"""Long-term plasticity: rules, traces, and the projection whose weights change."""

from ._calcium import GraupnerBrunel as GraupnerBrunel
from ._edge import PlasticProjection as PlasticProjection
from ._rates import BCM as BCM, Oja as Oja, VogelsSprekeler as VogelsSprekeler
from ._reward import RewardSTDP as RewardSTDP
from ._rule import (
    AbstractBound as AbstractBound,
    AbstractPlasticity as AbstractPlasticity,
    Additive as Additive,
    Multiplicative as Multiplicative,
    PowerLaw as PowerLaw,
)
from ._scaling import Normalised as Normalised, SynapticScaling as SynapticScaling
from ._stdp import (
    PairSTDP as PairSTDP,
    PreCenteredSTDP as PreCenteredSTDP,
    ReducedSTDP as ReducedSTDP,
    TripletSTDP as TripletSTDP,
)
from ._traces import Integral as Integral, LowPass as LowPass, SpikeTrace as SpikeTrace
from ._voltage import ClopathSTDP as ClopathSTDP
