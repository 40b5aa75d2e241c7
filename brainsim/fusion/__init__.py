"""Elementwise programs over the units of a node, compiled to one pass in place, and their derivatives."""

from . import _tangent as _tangent  # the rules of the derivative
from ._call import call as call
from ._fused import Program as Program, fused as fused, unavailable as unavailable, why_not as why_not
from ._rows import Rows as Rows, rows as rows
from ._scan import forget as forget, observed as observed, observing as observing, scan as scan
from ._undo import undoing_scan as undoing_scan
