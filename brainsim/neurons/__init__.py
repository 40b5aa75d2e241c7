"""Units, sources and waveforms."""

from ._integrate_and_fire import LIF as LIF
