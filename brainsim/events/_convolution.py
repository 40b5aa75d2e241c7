"""Convolutions and pools as connectivity: weights that are shared between places."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._formats import AbstractMap


def _whole(name: str, x: Any, axes: int, least: int) -> tuple[int, ...]:
    """One whole number for every axis, of one or of as many."""
    given: Any = (x,) * axes if isinstance(x, int | np.integer) and not isinstance(x, bool) else x
    good = isinstance(given, tuple | list) and len(given) == axes
    if not good or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < least for n in given):
        raise ValueError(
            f"Convolution.{name} is {x!r}; expected a whole number >= {least}, or {axes} of them, one for each axis."
        )
    return tuple(int(n) for n in given)


def _paddings(x: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    if x == "valid":
        return ((0, 0),) * len(kernel)
    if x == "same":
        reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((r // 2, r - r // 2) for r in reach)
    if isinstance(x, tuple | list) and all(isinstance(p, tuple | list) and len(p) == 2 for p in x):
        ends = [_whole("padding", [p[k] for p in x], len(kernel), 0) for k in (0, 1)]
        return tuple(zip(*ends, strict=True))
    return tuple((p, p) for p in _whole("padding", x, len(kernel), 0))


class Convolution(AbstractMap):
    r"""A convolution in one or two dimensions, from units in the order (place..., channel) to such units,

    $$\mathrm{out}[y, o] = \sum_{k, c} w[k, c, o]\ \mathrm{in}[s\,y + d\,k - p,\ c].$$

    As in every neural-network library the kernel is not flipped. The weight is one array (*kernel, channels_in /
    groups, channels): one trainable leaf, shared by all places; a single number serves as well, and a pool is just
    that: `Convolution.pool`.

    **Arguments:**

    - `shape`: of what is sent, (length, channels) or (height, width, channels).
    - `channels`: of what arrives.
    - `kernel`: its size, one number or one for each axis.
    - `stride`, `dilation`: step of the window, and distance of its taps.
    - `padding`: zeros before and after: a number, one for each axis, pairs (before, after), "valid" for none, or
      "same", which keeps the size where the stride is 1.
    - `groups`: parts of the channels that do not see each other.

    `out_shape` is the shape of what arrives. The cost follows the events; where many units are active, it is that of
    matrix products. `apply` is the dense form by itself, in JAX.

    Example: `bs.Projection("image", "cells", bs.Convolution((34, 34, 2), 16, 3, padding=1), weight=w)`, with w of shape
    (3, 3, 2, 16).
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    kernel: tuple[int, ...] = eqx.field(static=True)
    stride: tuple[int, ...] = eqx.field(static=True)
    padding: tuple[tuple[int, int], ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)
    groups: int = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)
    n_pre: int = eqx.field(static=True)
    n_post: int = eqx.field(static=True)

    def __init__(
        self,
        shape: Any,
        channels: int,
        kernel: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        if not isinstance(shape, tuple | list) or len(shape) not in (2, 3):
            raise ValueError(
                f"Convolution.shape is {shape!r}; expected (length, channels) or (height, width, channels)."
            )
        self.shape = _whole("shape", shape, len(shape), 1)
        axes = len(shape) - 1
        (self.channels,), (self.groups,) = _whole("channels", channels, 1, 1), _whole("groups", groups, 1, 1)
        self.kernel, self.stride = _whole("kernel", kernel, axes, 1), _whole("stride", stride, axes, 1)
        self.dilation = _whole("dilation", dilation, axes, 1)
        self.padding = _paddings(padding, self.kernel, self.dilation)
        if self.shape[-1] % self.groups or self.channels % self.groups:
            raise ValueError(
                f"Convolution.groups is {self.groups}; expected a divisor of {self.shape[-1]} and {self.channels}, the "
                "channels."
            )
        parts = zip(self.shape, self.kernel, self.stride, self.padding, self.dilation)
        places = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts)
        if min(places) < 1:
            raise ValueError(
                f"Convolution: the window of {self.kernel} with dilation {self.dilation} is larger than "
                f"{self.shape[:-1]} with padding {self.padding}. Pad more, or take a smaller kernel."
            )
        self.out_shape = (*places, self.channels)
        self.n_pre, self.n_post = math.prod(self.shape), math.prod(self.out_shape)

    @staticmethod
    def pool(shape: Any, kernel: Any, *, stride: Any = None, padding: Any = 0) -> "Convolution":
        """Sums over windows of every channel by itself: a weight of 1 is a sum pool, of `1 / size` an average pool.

        `stride`: None for windows that do not overlap.
        """
        channels = shape[-1]
        stride = kernel if stride is None else stride
        return Convolution(shape, channels, kernel, stride=stride, padding=padding, groups=channels)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (*self.kernel, self.shape[-1] // self.groups, self.channels)

    @property
    def n_syn(self) -> int:
        """Number of synapses, those from beyond the border included."""
        return self.n_post * math.prod(self.weight_shape[:-1])

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the kernels are told of it: a convolution in one dimension is one of height 1."""
        lead = () if len(self.shape) == 3 else (1,)
        before = tuple(p for p, _ in self.padding)
        places = (*lead, *self.shape, *lead, *self.out_shape, *lead, *self.kernel, *lead, *self.stride)
        border = () if lead == () else (0,)
        return (*places, *border, *before, *lead, *self.dilation, self.groups)

    def _taps(self, x: Array) -> list[Array]:
        """The padded input as every tap of the kernel sees it, each (..., *places, channels)."""
        lead = x.ndim - len(self.shape)
        x = jnp.pad(x, ((0, 0),) * lead + self.padding + ((0, 0),))
        seen = []
        for tap in itertools.product(*map(range, self.kernel)):
            first = [d * k for d, k in zip(self.dilation, tap, strict=True)]
            window = [slice(f, f + s * (n - 1) + 1, s) for f, s, n in zip(first, self.stride, self.out_shape)]
            seen.append(x[(..., *window, slice(None))])
        return seen

    def apply(self, weight: Float[Array, "..."], value: Float[Array, "... n_pre"]) -> Float[Array, "... n_post"]:
        lead = value.shape[:-1]
        seen = self._taps(value.reshape(*lead, *self.shape))
        if weight.ndim == 0 and self.groups == self.shape[-1] == self.channels:
            return (weight * sum(seen[1:], seen[0])).reshape(*lead, self.n_post)
        weight = jnp.broadcast_to(weight, self.weight_shape)
        g, within = self.groups, self.shape[-1] // self.groups
        highest = jax.lax.Precision.HIGHEST
        places = math.prod(self.out_shape[:-1])
        if g == 1:
            columns = jnp.concatenate(seen, -1).reshape(*lead, places, -1)
            out = jnp.matmul(columns, weight.reshape(-1, self.channels), precision=highest)
        else:
            columns = jnp.stack([x.reshape(*lead, places, g, within) for x in seen], -2)
            columns = columns.reshape(*lead, places, g, -1)
            taps = weight.reshape(-1, within, g, self.channels // g)
            taps = jnp.moveaxis(taps, 2, 0).reshape(g, -1, self.channels // g)
            out = jnp.einsum("...pgk,gko->...pgo", columns, taps, precision=highest)
        return out.reshape(*lead, self.n_post)

    def to_coo(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs (pre, post) of the synapses within the border, by tap, input channel and unit that receives."""
        pre, post, _ = self.synapses()
        return pre, post

    def synapses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(pre, post, index)` of the synapses within the border; `index`: place in the flattened weight."""
        axes, found = len(self.kernel), []
        within, out_within = self.shape[-1] // self.groups, self.channels // self.groups
        post = np.arange(self.n_post)
        *place, o = np.unravel_index(post, self.out_shape)
        for row in itertools.product(*map(range, self.weight_shape[:-1])):
            *tap, c = row
            at = [place[a] * self.stride[a] + tap[a] * self.dilation[a] - self.padding[a][0] for a in range(axes)]
            good = np.all([(x >= 0) & (x < n) for x, n in zip(at, self.shape)], axis=0)
            channel = (o // out_within) * within + c
            pre = np.ravel_multi_index(tuple(x[good] for x in (*at, channel)), self.shape)
            index = np.ravel_multi_index((*(np.full(pre.size, k) for k in row), o[good]), self.weight_shape)
            found.append((pre, post[good], index))
        return tuple(np.concatenate(x).astype(np.int32) for x in zip(*found, strict=True))  # pyright: ignore[reportReturnType]
