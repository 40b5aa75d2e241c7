"""Array aliases, checks and units: what every other floor stands on."""

from ._arrays import Key as Key, Param as Param
from ._checks import (
    DIVERGED as DIVERGED,
    check_parameter as check_parameter,
    float_dtype as float_dtype,
    is_traced as is_traced,
    parameter as parameter,
    unknown as unknown,
)
from ._frozen import Frozen as Frozen, FrozenDict as FrozenDict
from ._mesh import (
    alike as alike,
    check_mesh as check_mesh,
    evaluated as evaluated,
    made_of as made_of,
    shapes_of as shapes_of,
    vary_with as vary_with,
    varying as varying,
    warn_of_copies as warn_of_copies,
)
from ._steps import to_steps as to_steps, warn_off_grid as warn_off_grid
from ._text import as_text as as_text
