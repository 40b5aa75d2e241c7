"""What a PyTree is, in words that can be kept in a file and compared: classes, static fields, arrays."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_ARRAY = re.compile(r"^([\w<>]+\[[\d, ]*\]) [0-9a-f]{16}$")


def digest(data: Any) -> str:
    """16 hexadecimal digits that two different byte strings do not share."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def describe(tree: Any, *, values: bool = True) -> dict[str, str]:
    """One entry for every class, static field and array of `tree`, under its path: `{".nodes['P'].unit": "LIF", ...}`.

    An array is described by type and shape, and with `values` by a digest of its bytes, so two descriptions are equal
    only if the trees compute the same, up to the code of classes and functions, which are described by their names.
    """
    found: dict[str, str] = {}

    def visit(path: str, x: Any) -> None:
        if isinstance(x, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
            found[path] = f"{x.dtype}{list(x.shape)}"
            if values and not isinstance(x, jax.ShapeDtypeStruct):
                is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
                data = jax.random.key_data(x) if isinstance(x, jax.Array) and is_key else x
                found[path] += f" {digest(np.ascontiguousarray(data))}"
        elif isinstance(x, type):
            found[path] = x.__name__
        elif dataclasses.is_dataclass(x):
            found[path] = type(x).__name__
            for field in dataclasses.fields(x):
                visit(f"{path}.{field.name}", getattr(x, field.name, None))
        elif isinstance(x, Mapping):
            for name in x:
                visit(f"{path}[{name!r}]", x[name])
        elif isinstance(x, list | tuple):
            for k, one in enumerate(x):
                visit(f"{path}[{k}]", one)
        elif isinstance(x, bool | int | float | complex | str | None):
            found[path] = repr(x)
        elif hasattr(x, "__qualname__"):
            found[path] = x.__qualname__
        else:
            text = repr(x)
            found[path] = type(x).__name__ if " at 0x" in text else text

    visit("", tree)
    return found


def structure(described: dict[str, str]) -> dict[str, str]:
    """A description without the values of arrays."""
    return {path: _ARRAY.sub(r"\1", entry) for path, entry in described.items()}


def difference(stored: dict[str, str], given: dict[str, str]) -> str | None:
    """The first entry in which two descriptions differ, as "weight = 1, not 2"; None if they agree."""
    for path in given | stored:
        was, now = stored.get(path), given.get(path)
        if was == now:
            continue
        name = path.removeprefix(".") or "it"
        if was is not None and now is not None and _ARRAY.sub(r"\1", was) == _ARRAY.sub(r"\1", now):
            return f"other values of {name}"
        return f"{name} = {'nothing' if was is None else was}, not {'nothing' if now is None else now}"
    return None
