"""What is run for a member of a sweep."""

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Key

Outputs = dict[str, Any]
FLAG = "flag"


class Segments(NamedTuple):
    """A model that runs in segments, so that members can be stopped between them.

    `start(p, key) -> carry` begins, `advance(p, carry) -> carry` runs one segment, `finish(p, carry) -> dict of arrays`
    reads the results, of which `stop` decides. At most `n` segments are run.
    """

    start: Callable[[dict[str, Any], Key], Any]
    advance: Callable[[dict[str, Any], Any], Any]
    finish: Callable[[dict[str, Any], Any], Outputs]
    n: int


Model = Callable[[dict[str, Any], Key], Outputs] | Segments


def segments(model: Model) -> Segments:
    """`model` in segments: a plain function is one."""
    if isinstance(model, Segments):
        if isinstance(model.n, bool) or not isinstance(model.n, int) or model.n < 1:
            raise ValueError(f"Segments.n is {model.n!r}; expected a whole number of segments >= 1.")
        return model
    if not callable(model):
        raise TypeError(f"sweep: the model is {model!r}; expected a function model(p, key) -> dict, or Segments.")
    return Segments(lambda p, key: (p, key), lambda p, carry: model(*carry), lambda p, out: out, 1)


def with_flag(outputs: Any) -> Outputs:
    """The results with a flag: that of the model, or 1 where a result is not finite."""
    if not isinstance(outputs, dict) or not outputs:
        raise TypeError(f"sweep: the model returns {type(outputs).__name__}; expected a dict of arrays by name.")
    for name, x in outputs.items():
        if not isinstance(name, str) or not hasattr(jnp.asarray(x), "dtype"):
            raise TypeError(f"sweep: the model returns {name!r}: {x!r}; expected arrays by name.")
    found = {name: jnp.asarray(x) for name, x in outputs.items()}
    if FLAG not in found:
        bad = [jnp.any(~jnp.isfinite(x)) for x in found.values() if jnp.issubdtype(x.dtype, jnp.inexact)]
        found[FLAG] = jnp.any(jnp.stack(bad)).astype(jnp.int32) if bad else jnp.asarray(0, jnp.int32)
    if found[FLAG].shape:
        raise TypeError(f"sweep: the model's {FLAG!r} has shape {found[FLAG].shape}; expected one number a member.")
    return found


def identity(model: Segments, p: Any, key: Any) -> str:
    """A hash of what a model computes: its three programs and the values of their constants."""
    digest = hashlib.sha256(str(model.n).encode())
    carry = jax.eval_shape(model.start, p, key)
    programs = (model.start, p, key), (model.advance, p, carry), (model.finish, p, carry)
    for function, *arguments in programs:
        closed = jax.make_jaxpr(function)(*arguments)
        # addresses differ from process to process
        digest.update(re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
        for x in closed.consts:
            x = jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            digest.update(f"{x.dtype}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()[:16]
