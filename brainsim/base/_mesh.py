"""Arrays inside `jax.shard_map`: each knows over which axes of the mesh it varies, and so must every result.

`shard_map` checks that what goes into one operation varies over the same axes, and JAX's own functions cast what does
not. Primitives of other packages, and equations that are run again, do that here.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from .jax_internals import Literal, ShapedArray, jaxpr_as_fun


def varying(x: Any) -> frozenset:
    """The axes of a mesh, mapped over by `shard_map`, that an array (or its aval) varies over."""
    aval = x if isinstance(x, ShapedArray) else jax.typeof(x)
    return getattr(aval, "vma", None) or getattr(getattr(aval, "manual_axis_type", None), "varying", frozenset())


def made_of(operands: Any, shape: Any, dtype: Any) -> Any:
    """The aval of a result of `operands`: it varies over every axis that one of them varies over."""
    plain = ShapedArray(tuple(shape), dtype)
    axes = frozenset().union(*map(varying, operands))
    if not axes:
        return plain
    of = max(operands, key=lambda x: len(varying(x)))
    if varying(of) != axes:
        raise NotImplementedError("operands that vary over different axes of a mesh")
    sharding = of.sharding.update(spec=PartitionSpec(*(None,) * len(shape)))
    return of.update(shape=tuple(shape), dtype=dtype, weak_type=False, sharding=sharding)


def alike(a: Any, b: Any) -> bool:
    """Whether two avals are of one shape and type, on whatever mesh."""
    return a.shape == b.shape and a.dtype == b.dtype and a.weak_type == b.weak_type


def vary_with(tree: Any, *others: Any) -> Any:
    """The arrays of `tree`, varying over every axis that they or `others` vary over: what a scan carries must."""
    axes = frozenset().union(*(varying(x) for x in jax.tree.leaves((tree, others)) if hasattr(x, "dtype")))

    def cast(x):
        missing = tuple(axes - varying(x)) if hasattr(x, "dtype") else ()
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree) if axes else tree


def shapes_of(tree: Any) -> Any:
    """`tree` with shapes in place of its arrays, each varying over the axes that any of them varies over."""
    leaves = jax.tree.leaves(tree)
    most = max(leaves, key=lambda x: len(varying(x)), default=None)
    if most is None or not varying(most):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    of = jax.typeof(most)

    def shape(x):
        sharding = of.sharding.update(spec=PartitionSpec(*(None,) * x.ndim))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding, manual_axis_type=of.manual_axis_type)

    return jax.tree.map(shape, tree)


def evaluated(closed: Any, *args: Any) -> list[Any]:
    """The outputs of a ClosedJaxpr, every operand of an equation varying over the axes of all arguments."""
    args = vary_with(args)
    if not any(map(varying, args)):
        return jaxpr_as_fun(closed)(*args)
    known = dict(zip((*closed.jaxpr.constvars, *closed.jaxpr.invars), (*closed.consts, *args), strict=True))

    def read(v: Any) -> Any:
        return jnp.asarray(v.val, getattr(v.aval, "dtype", None)) if isinstance(v, Literal) else known[v]

    for eqn in closed.jaxpr.eqns:
        ins = vary_with([read(v) for v in eqn.invars])
        if eqn.primitive.name in ("pvary", "pcast"):
            outs = ins
        else:
            outs = eqn.primitive.bind(*ins, **eqn.primitive.get_bind_params(eqn.params))
        known.update(zip(eqn.outvars, outs if isinstance(outs, list | tuple) else [outs], strict=True))
    return [read(v) for v in closed.jaxpr.outvars]


def warn_of_copies(context: Any) -> None:
    """Warn where a kernel is lowered, with JAX's `axis_context`, for arrays that `jit` spreads over devices."""
    if getattr(context, "num_devices", None) not in (None, 1):
        warnings.warn(
            f"Arrays sharded over {context.num_devices} devices reach brainsim through jit, which gathers them and "
            "runs the whole batch on every device. Use jax.shard_map over the members, or bs.sweep.run.",
            stacklevel=2,
        )


def check_mesh(owner: str, tree: Any) -> None:
    """Raise on arrays that lie on a mesh with explicit axes, outside of `shard_map`."""
    for x in jax.tree.leaves(tree):
        if isinstance(x, jax.Array):
            mesh = jax.typeof(x).sharding.mesh
            if AxisType.Explicit in mesh.axis_types and set(mesh.explicit_axes) - varying(x):
                raise ValueError(
                    f"{owner}: an array of shape {x.shape} is sharded over the explicit axes {mesh.explicit_axes} of a "
                    "mesh; expected arrays on one device, or a part of them inside jax.shard_map. Make the mesh with "
                    "axis_types=(jax.sharding.AxisType.Auto,) and use jax.shard_map over the members, or bs.sweep.run."
                )
