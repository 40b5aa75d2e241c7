"""Fitting and training: parameters by name, losses, bounds of what data can tell, gradients kept in hand."""

from ._fit import fit as fit
from ._fitted import FitError as FitError, Fitted as Fitted
from ._losses import (
    coincidence as coincidence,
    cross_entropy as cross_entropy,
    difference as difference,
    first_spike_latency as first_spike_latency,
    isi as isi,
    isi_statistics as isi_statistics,
    l1 as l1,
    l2 as l2,
    latencies as latencies,
    power_spectrum as power_spectrum,
    rate as rate,
    rate_band as rate_band,
    rates as rates,
    spectrum as spectrum,
    spike_count as spike_count,
    van_rossum as van_rossum,
    victor_purpura as victor_purpura,
    voltage as voltage,
)
from ._methods import CMAES as CMAES
from ._parameters import parameters as parameters, with_parameters as with_parameters
from ._residuals import AbstractResiduals as AbstractResiduals, LeastSquares as LeastSquares
from ._sensitivity import Sensitivity as Sensitivity, cramer_rao as cramer_rao
from ._shooting import MultipleShooting as MultipleShooting
from ._stability import (
    ClippedAdjoint as ClippedAdjoint,
    GradientNorms as GradientNorms,
    gradient_norms as gradient_norms,
)
from ._transforms import (
    AbstractTransform as AbstractTransform,
    Bounded as Bounded,
    Identity as Identity,
    Log as Log,
    Softplus as Softplus,
)
