"""Connection rules: who sends to whom."""

from ._data import FromCOO as FromCOO, FromCSR as FromCSR, from_sparse as from_sparse
from ._kernels import (
    AbstractKernel as AbstractKernel,
    DifferenceOfGaussiansKernel as DifferenceOfGaussiansKernel,
    DiscKernel as DiscKernel,
    ExponentialKernel as ExponentialKernel,
    GaussianKernel as GaussianKernel,
)
from ._procedural import Procedural as Procedural
from ._random import (
    FixedInDegree as FixedInDegree,
    FixedOutDegree as FixedOutDegree,
    FixedProbability as FixedProbability,
    FixedTotalNumber as FixedTotalNumber,
)
from ._regular import (
    AllToAll as AllToAll,
    DenseMatrix as DenseMatrix,
    OneToOne as OneToOne,
    SmallWorld as SmallWorld,
)
from ._rule import AbstractRule as AbstractRule, Built as Built
from ._spatial import (
    DistanceDependent as DistanceDependent,
    grid_positions as grid_positions,
    synapse_lengths as synapse_lengths,
)
