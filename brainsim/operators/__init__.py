"""Fields and operators: neural fields on grids, multigrid, and neural operators as modules and as nodes."""

from ._fields import AmariField as AmariField, OperatorField as OperatorField
from ._grid import Boundary as Boundary
from ._layers import (
    AttentionLayer as AttentionLayer,
    IntegralLayer as IntegralLayer,
    KernelConv as KernelConv,
    OperatorNetwork as OperatorNetwork,
    PixelConv as PixelConv,
)
from ._multigrid import PoissonMultigrid as PoissonMultigrid
from ._networks import FNO as FNO, MgNO as MgNO, UNet as UNet
