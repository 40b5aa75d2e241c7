"""Elementwise programs over the units of a node, compiled to one pass in place."""

from ._fused import Program as Program, fused as fused, unavailable as unavailable, why_not as why_not
