"""Array aliases of the whole house."""

from typing import TYPE_CHECKING, Any, TypeAlias

from jaxtyping import Array, Float, PRNGKeyArray

if TYPE_CHECKING:  # a type checker sees the number of the default, the code the array the converter makes of it
    Param: TypeAlias = Any
else:
    Param: TypeAlias = Float[Array, "..."]
    """A parameter: shape () or (n,)."""

Key: TypeAlias = PRNGKeyArray
