"""Units, sources and waveforms."""

from ._adaptive import AdaptiveLIF as AdaptiveLIF, AdEx as AdEx, Izhikevich as Izhikevich
from ._clamp import VoltageClamp as VoltageClamp
from ._current_based import CubaLIF as CubaLIF, LeakyIntegrator as LeakyIntegrator
from ._discrete import DiscreteNeurons as DiscreteNeurons, Reset as Reset
from ._elm import ELM as ELM
from ._hodgkin_huxley import (
    HodgkinHuxley as HodgkinHuxley,
    MorrisLecar as MorrisLecar,
    TraubMiles as TraubMiles,
    WangBuzsaki as WangBuzsaki,
)
from ._homeostatic import Homeostatic as Homeostatic
from ._integrate_and_fire import LIF as LIF, QIF as QIF, ExponentialIF as ExponentialIF
from ._poisson import Poisson as Poisson, PoissonInput as PoissonInput
from ._sources import External as External, Regular as Regular, Replay as Replay
from ._waveforms import (
    AbstractWaveform as AbstractWaveform,
    OUCurrent as OUCurrent,
    Ramp as Ramp,
    Sampled as Sampled,
    Sine as Sine,
    StepCurrent as StepCurrent,
    Sum as Sum,
)
