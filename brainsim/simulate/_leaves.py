"""Arrays of a PyTree by name, and back: how networks and states are kept on disk without pickling code."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Every array leaf of `tree` under its path; random keys as their data."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in named if _is_array(leaf)}
    return {name: np.asarray(jax.random.key_data(x) if _is_key(x) else x) for name, x in arrays.items()}


def from_arrays(like: Any, arrays: dict[str, np.ndarray], what: str) -> Any:
    """`like` (arrays or their shapes) with its arrays replaced; ValueError names the first that is missing or unfit."""
    named, tree = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, leaf in named:
        name = jax.tree_util.keystr(path)
        if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            leaves.append(leaf)
            continue
        if name not in arrays:
            raise ValueError(
                f"{what} has no array {name}; it was saved from another network. Give the network it was saved from."
            )
        x = arrays[name]
        expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if x.shape != expected.shape or x.dtype != expected.dtype:
            raise ValueError(
                f"{what}: array {name} is {x.dtype}{list(x.shape)}, expected {expected.dtype}{list(expected.shape)}. "
                f"Give the network it was saved from, and the same jax_enable_x64."
            )
        leaves.append(jax.random.wrap_key_data(jnp.asarray(x)) if _is_key(leaf) else jnp.asarray(x))
    return jax.tree_util.tree_unflatten(tree, leaves)
