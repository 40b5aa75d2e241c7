"""From layers to operators: layers that mean the same map of functions on every grid."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Key, float_dtype
from ._grid import MODE, Boundary


def _drawn(key: Key, shape: tuple[int, ...], fan: float) -> Array:
    """Uniform weights of as many inputs."""
    return jax.random.uniform(key, shape, float_dtype(), -1, 1) * float(np.sqrt(1.0 / fan))


def coordinates(shape: tuple[int, ...], dtype: Any) -> Float[Array, "axes ..."]:
    """The centres of the cells of a grid of the unit interval or square."""
    axes = [jnp.linspace(0.5 / n, 1.0 - 0.5 / n, n, dtype=dtype) for n in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"))


def _points(x: Array) -> Array:
    """(channels, ...) as (channels, points)."""
    return x.reshape(x.shape[0], -1)


class PixelConv(eqx.Module):
    """A convolution of `size` pixels an axis, however far apart these are: what a CNN is made of, not an operator.

    **Arguments:** `inp`, `out`: channels; `axes`: of the grid, 1 or 2; `boundary`. Called with (inp, ...) arrays.
    """

    kernel: Float[Array, "out inp ..."]
    boundary: Boundary = eqx.field(static=True)

    def __init__(
        self, inp: int, out: int, *, key: Key, axes: int = 1, size: int = 5, boundary: Boundary = Boundary.PERIODIC
    ) -> None:
        self.kernel = _drawn(key, (out, inp, *[size] * axes), inp * size**axes)
        self.boundary = boundary

    def __call__(self, x: Float[Array, "inp ..."]) -> Float[Array, "out ..."]:
        return _convolved(x, self.kernel, self.boundary)


def _convolved(x: Array, kernel: Array, boundary: Boundary) -> Array:
    half = [n // 2 for n in kernel.shape[2:]]
    x = jnp.pad(x, [(0, 0), *((n, n) for n in half)], mode=MODE[boundary])
    return jax.lax.conv_general_dilated(x[None], kernel, [1] * len(half), "VALID")[0]


class KernelConv(eqx.Module):
    r"""A convolution with a kernel of a width in space: $u(x) = \int_{|x - y| \le r} k(x - y)\, v(y)\, dy$.

    The kernel is linear between `size` values an axis, which are learnt; on a grid of spacing h it is evaluated at
    multiples of h and the integral is a sum times h.

    **Arguments:** `inp`, `out`: channels; `radius`: r, of a grid of length 1; `size`: values an axis, odd; `axes`: of
    the grid, 1 or 2; `boundary`. Called with (inp, ...) arrays; returns (out, ...).

    **Raises:** ValueError for a size that is even, and for a grid with less than 3 points within 2 r.

    Source: Berner et al. 2025, arXiv:2506.10973; Liu-Schiaffini et al. 2024, arXiv:2402.16845.
    """

    values: Float[Array, "out inp ..."]
    radius: float = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)

    def __init__(
        self,
        inp: int,
        out: int,
        *,
        key: Key,
        radius: float,
        size: int = 5,
        axes: int = 1,
        boundary: Boundary = Boundary.PERIODIC,
    ) -> None:
        if size % 2 == 0 or size < 3:
            raise ValueError(f"KernelConv.size is {size}; expected an odd number >= 3, with a value at 0.")
        if not 0 < radius < 0.5:
            raise ValueError(f"KernelConv.radius is {radius}; expected a part of the grid between 0 and 0.5.")
        # a density: times the volume of the kernel it has the size of the weights of a convolution
        self.values = _drawn(key, (out, inp, *[size] * axes), inp) / (2 * radius) ** axes
        self.radius, self.boundary = radius, boundary

    def __call__(self, x: Float[Array, "inp ..."]) -> Float[Array, "out ..."]:
        kernel = self.values
        for axis, n in enumerate(x.shape[1:], start=2):
            reach, size = self.radius * n, kernel.shape[axis]
            if reach < 1:
                raise ValueError(f"KernelConv: {n} points an axis, of which none lie within {self.radius} of another.")
            half = int(np.ceil(reach + 0.5 - 1e-6)) - 1
            pixels = np.arange(-half, half + 1)
            # of a cell at the end as much as lies within the radius
            share = np.clip(reach - np.abs(pixels) + 0.5, 0.0, 1.0)
            at = np.clip(pixels / reach + 1.0, 0.0, 2.0) * 0.5 * (size - 1)
            hats = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(size))) * share[:, None] / n
            kernel = jnp.moveaxis(jnp.tensordot(jnp.asarray(hats, x.dtype), kernel, (1, axis)), 0, axis)
        return _convolved(x, kernel, self.boundary)


class IntegralLayer(eqx.Module):
    r"""An integral with a kernel of low rank: $u(x) = \sum_r \phi_r(x) \int \psi_r(y) \cdot v(y)\, dy$.

    $\phi$ and $\psi$ are small networks of the coordinates (0 to 1); the integral is the mean over the cells.

    **Arguments:** `inp`, `out`: channels; `rank`; `hidden`: width of the networks; `axes`. Called with (inp, ...)
    arrays; returns (out, ...).

    Source: Kovachki et al. 2023, arXiv:2108.08481, section 4.2.
    """

    phi: eqx.nn.MLP
    psi: eqx.nn.MLP
    inp: int = eqx.field(static=True)
    out: int = eqx.field(static=True)

    def __init__(self, inp: int, out: int, *, key: Key, rank: int = 4, hidden: int = 24, axes: int = 1) -> None:
        one, two = jax.random.split(key)
        self.phi = eqx.nn.MLP(axes, out * rank, hidden, 2, jax.nn.gelu, key=one)
        self.psi = eqx.nn.MLP(axes, inp * rank, hidden, 2, jax.nn.gelu, key=two)
        self.inp, self.out = inp, out

    def __call__(self, x: Float[Array, "inp ..."]) -> Float[Array, "out ..."]:
        at = _points(coordinates(x.shape[1:], x.dtype)).T
        v, phi, psi = _points(x), jax.vmap(self.phi)(at), jax.vmap(self.psi)(at)
        inner = jnp.einsum("pir,ip->r", psi.reshape(at.shape[0], self.inp, -1), v) * (1.0 / at.shape[0])
        return jnp.einsum("por,r->op", phi.reshape(at.shape[0], self.out, -1), inner).reshape(-1, *x.shape[1:])


class AttentionLayer(eqx.Module):
    r"""Attention as an operator: $u(x) = \int e^{q(x) \cdot k(y)} W v(y)\, dy / \int e^{q(x) \cdot k(y)}\, dy$.

    The integrals are sums over the cells; cells of unequal size need their sizes as `weights`. The coordinates are
    channels of q and k. Memory grows with the square of the number of points.

    **Arguments:** `inp`, `out`: channels; `size`: of q and k; `axes`. Called with (inp, ...) arrays and `weights`, the
    sizes of the cells, None where they are equal; returns (out, ...).

    Source: Berner et al. 2025, arXiv:2506.10973; Calvello et al. 2024, arXiv:2406.06486.
    """

    query: Float[Array, "size channels"]
    keys: Float[Array, "size channels"]
    value: Float[Array, "out inp"]

    def __init__(self, inp: int, out: int, *, key: Key, size: int = 16, axes: int = 1) -> None:
        one, two, three = jax.random.split(key, 3)
        shape = (size, inp + 2 * axes)
        self.query, self.keys = _drawn(one, shape, shape[1]), _drawn(two, shape, shape[1])
        self.value = _drawn(three, (out, inp), inp)

    def __call__(self, x: Float[Array, "inp ..."], weights: Array | None = None) -> Float[Array, "out ..."]:
        at = coordinates(x.shape[1:], x.dtype) * (2 * jnp.pi)
        seen = _points(jnp.concatenate([x, jnp.sin(at), jnp.cos(at)]))
        scores = (self.query @ seen).T @ (self.keys @ seen) * (1.0 / float(np.sqrt(self.query.shape[0])))
        if weights is not None:
            scores = scores + jnp.log(weights.reshape(1, -1))
        return (self.value @ _points(x) @ jax.nn.softmax(scores, axis=1).T).reshape(-1, *x.shape[1:])


class OperatorNetwork(eqx.Module):
    """Layers `gelu(L(u) + W u + b)` between a lift and a projection, both pointwise, whatever L is.

    **Arguments:** `inp`, `out`: channels; `layer`: `layer(width, width, key=key)` makes an L, such as `PixelConv` or
    `functools.partial(KernelConv, radius=0.05)`; `width`; `layers`. Called with (inp, ...) arrays; returns (out, ...).
    It is resolution-agnostic if its layers are.
    """

    lift: Float[Array, "width inp"]
    inner: list[Any]
    mixes: list[Float[Array, "width width"]]
    biases: list[Float[Array, " width"]]
    last: Float[Array, "out width"]

    def __init__(
        self, inp: int, out: int, layer: Callable[..., Any], *, key: Key, width: int = 16, layers: int = 4
    ) -> None:
        keys = jax.random.split(key, 2 * layers + 2)
        self.lift, self.last = _drawn(keys[-2], (width, inp), inp), _drawn(keys[-1], (out, width), width)
        self.inner = [layer(width, width, key=k) for k in keys[:layers]]
        self.mixes = [_drawn(k, (width, width), width) for k in keys[layers : 2 * layers]]
        self.biases = [jnp.zeros(width, float_dtype()) for _ in range(layers)]

    def __call__(self, x: Float[Array, "inp ..."]) -> Float[Array, "out ..."]:
        mixed = lambda weight, x: jnp.tensordot(weight, x, 1)  # noqa: E731
        x = mixed(self.lift, x)
        for inner, mix, bias in zip(self.inner, self.mixes, self.biases, strict=True):
            x = jax.nn.gelu(inner(x) + mixed(mix, x) + bias.reshape(-1, *[1] * (x.ndim - 1)))
        return mixed(self.last, x)
