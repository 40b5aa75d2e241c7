"""NIR, the exchange format of neuromorphic libraries: `bs.from_nir`, `bs.to_nir`, and what they are made of."""

from ._check import FIELDS as FIELDS, Problem as Problem, check as check
from ._dialects import (
    DIALECTS as DIALECTS,
    NORSE as NORSE,
    ROCKPOOL as ROCKPOOL,
    SINABS as SINABS,
    SNNTORCH as SNNTORCH,
    SPIKINGJELLY as SPIKINGJELLY,
    SPINNAKER2 as SPINNAKER2,
    SPYX as SPYX,
    Dialect as Dialect,
)
from ._file import write as write
from ._graph import Graph as Graph, NIRError as NIRError, Node as Node
from ._import import NIRNetwork as NIRNetwork
from ._read import read as read
