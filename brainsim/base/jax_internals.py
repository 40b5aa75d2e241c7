"""The parts of JAX beyond its public interface: every import of them in brainsim stands here, and nowhere else.

They change between versions of JAX without a deprecation. What each is for: jaxprs and their parts are read by fusion,
rules of primitives are registered by the kernels, and symbolic zeros say which operands have no tangent.
"""

from jax.core import ShapedArray as ShapedArray, Tracer as Tracer
from jax.custom_derivatives import SymbolicZero as SymbolicZero, zero_from_primal as zero_from_primal
from jax.extend.core import (
    ClosedJaxpr as ClosedJaxpr,
    Jaxpr as Jaxpr,
    Literal as Literal,
    Primitive as Primitive,
    Var as Var,
    jaxpr_as_fun as jaxpr_as_fun,
    primitives as primitives,
)
from jax.extend.core.primitives import cond_p as cond_p
from jax.interpreters import (
    ad as ad,
    batching as batching,
    mlir as mlir,
    partial_eval as partial_eval,
)


def lowering_of(primitive: Primitive) -> object | None:
    """JAX's own rule by which it lowers `primitive` on every platform; None where it is no longer found."""
    return getattr(getattr(mlir, "_lowerings", {}).get(primitive), "rule", None)
