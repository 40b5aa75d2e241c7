"""Whether what flows together in a node is what the node says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..base import float_dtype
from ..core import AbstractNode, Clock, Structure

_POINTS = 4


@eqx.filter_jit
def _jacobian(node, y, z, inp):
    flat, unravel = ravel_pytree(y)
    return jax.jacfwd(lambda flat: ravel_pytree(node.vector_field(unravel(flat), z, inp))[0])(flat)


def check_structure(node: AbstractNode, *, inp: float = 1.0) -> None:
    """Raise a ValueError if the flow of a node couples more than its `structure` says.

    Solvers believe the structure: on a coupled field `ExponentialEuler` and the implicit solvers would be wrong without
    a sign. Looks at the Jacobian of the vector field at random states. Of a `DIAGONAL` node each of several numbers
    that a unit has of one variable may depend on itself and on other variables only, as `ExponentialEuler` needs it.

    !!! example
        `check_structure(Population(MyUnit(), 3))` in the tests of your own unit.
    """
    if node.structure is Structure.OPERATOR:
        return
    for k in range(_POINTS):
        clock = Clock.of("check_structure", jnp.asarray(k, jnp.int32), 0.1, jax.random.key(k))
        y, z = node.init(clock)
        leaves, tree = jax.tree_util.tree_flatten_with_path(y)
        keys = jax.random.split(clock.key, max(len(leaves), 1))
        # states beside the initial ones, some of them far, so that no term is switched off or zero by symmetry in all
        values = [x + 10.0 ** (k - 2) * jax.random.normal(key, x.shape, x.dtype) for key, (_, x) in zip(keys, leaves)]
        y = jax.tree.unflatten(tree, values)
        jacobian = np.asarray(_jacobian(node, y, z, jnp.asarray(inp, float_dtype())))
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, x in leaves for _ in range(x.size)]
        units = np.concatenate([np.repeat(np.arange(x.shape[0]), x[:1].size) for _, x in leaves] or [np.zeros(0, int)])
        variable = np.asarray(names)
        apart = units[:, None] != units[None, :]
        within = (variable[:, None] == variable[None, :]) & ~np.eye(len(names), dtype=bool)
        coupled = apart | within if node.structure is Structure.DIAGONAL else apart
        wrong = np.argwhere(coupled & (jacobian != 0))
        if len(wrong):
            i, j = wrong[0]
            raise ValueError(
                f"d({names[i]})/dt of unit {units[i]} depends on {names[j]} of unit {units[j]}, but the structure of "
                f"the node is {node.structure}. Declare `structure = bs.Structure."
                f"{'OPERATOR' if units[i] != units[j] else 'BLOCK'}`, or couple units through an edge."
            )
