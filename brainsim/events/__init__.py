"""Connectivity formats and the event operators on them."""

from ._convolution import Convolution as Convolution
from ._formats import (
    CSR as CSR,
    AbstractMap as AbstractMap,
    AbstractTopology as AbstractTopology,
    Dense as Dense,
    FixedFanin as FixedFanin,
    FixedFanout as FixedFanout,
    Narrow as Narrow,
)
from ._noise import normals as normals, uniform_bits as uniform_bits
from ._ops import (
    append as append,
    backend as backend,
    collect as collect,
    deposit as deposit,
    deposit_all as deposit_all,
    place as place,
    propagate as propagate,
    room as room,
    tally as tally,
)
from ._pages import LARGE as LARGE, on_huge_pages as on_huge_pages
from ._procedural import DrawnRows as DrawnRows
from ._pure import multiplicity as multiplicity
from ._random import seed_of as seed_of
from ._targets import Rows as Rows
