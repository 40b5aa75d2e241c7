"""Lowering to neuromorphic chips: integer cells that match an emulator word for word, images that run as networks."""

from ._canonical import (
    Connection as Connection,
    Graph as Graph,
    Group as Group,
    LoweringError as LoweringError,
    canonical as canonical,
)
from ._chip_cell import ChipLIF as ChipLIF, ChipPort as ChipPort
from ._dialects import (
    BRIAN2_LOIHI as BRIAN2_LOIHI,
    DIALECTS as DIALECTS,
    LAVA as LAVA,
    LOIHI as LOIHI,
    NENGO_LOIHI as NENGO_LOIHI,
    Dialect as Dialect,
    Rounding as Rounding,
)
from ._discretise import (
    Lowered as Lowered,
    Scales as Scales,
    Words as Words,
    discretise as discretise,
    rounded as rounded,
    weight_errors as weight_errors,
)
from ._float_image import FloatImage as FloatImage, float_image as float_image
from ._image import Image as Image
from ._interval import Bounds as Bounds, bounds as bounds
from ._ledger import (
    Ledger as Ledger,
    Overflows as Overflows,
    ledger as ledger,
    overflows as overflows,
    tiles as tiles,
)
from ._legalise import Layout as Layout, legalise as legalise, merged as merged
from ._nir import of_nir as of_nir
from ._outcome import Fidelity as Fidelity, Outcome as Outcome, lower as lower, run_of as run_of
from ._pack import (
    Packed as Packed,
    decode as decode,
    pack as pack,
    read as read,
    used as used,
    write as write,
)
from ._place import place as place
from ._tables import Cells as Cells, Synapses as Synapses, nearest_bias as nearest_bias
from ._targets import (
    IDEAL as IDEAL,
    LOIHI1 as LOIHI1,
    LOIHI2 as LOIHI2,
    SPINNAKER2 as SPINNAKER2,
    TARGETS as TARGETS,
    Fact as Fact,
    Grade as Grade,
    Target as Target,
)
from ._tuned import tuned as tuned
