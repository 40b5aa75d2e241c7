"""Array aliases of the whole house."""

from typing import TypeAlias

from jaxtyping import Array, Float, PRNGKeyArray

Param: TypeAlias = Float[Array, "..."]
"""A parameter: shape () or (n,)."""

Key: TypeAlias = PRNGKeyArray
