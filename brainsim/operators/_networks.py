"""Neural operators and the networks they are measured by: modules of (channels, ny, nx) arrays."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..base import Key, float_dtype
from ._grid import MODE, Boundary


class _Conv(eqx.Module):
    """A convolution with the boundary of the grid, without a bias; `stride` 2 halves the grid."""

    kernel: Float[Array, "out inp k k"]
    boundary: Boundary = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    @staticmethod
    def of(inp: int, out: int, k: int, boundary: Boundary, key: Key, stride: int = 1) -> "_Conv":
        scale = np.sqrt(1.0 / (inp * k * k))
        return _Conv(jax.random.uniform(key, (out, inp, k, k), float_dtype(), -1, 1) * scale, boundary, stride)

    def __call__(self, x: Array) -> Array:
        half = self.kernel.shape[-1] // 2
        x = jnp.pad(x, ((0, 0), (half, half), (half, half)), mode=MODE[self.boundary])
        return jax.lax.conv(x[None], self.kernel, (self.stride, self.stride), "VALID")[0]


class _Up(eqx.Module):
    """A transposed convolution of 4 x 4 that doubles the grid."""

    kernel: Float[Array, "out inp 4 4"]

    @staticmethod
    def of(inp: int, out: int, key: Key) -> "_Up":
        scale = np.sqrt(1.0 / (inp * 4))
        return _Up(jax.random.uniform(key, (out, inp, 4, 4), float_dtype(), -1, 1) * scale)

    def __call__(self, x: Array) -> Array:
        pad = ((2, 2), (2, 2))
        return jax.lax.conv_general_dilated(x[None], self.kernel, (1, 1), pad, lhs_dilation=(2, 2))[0]


class _MgConv(eqx.Module):
    """A V-cycle of learnt convolutions: at each level `u += S (f - A u)` some times, then restriction, on the way up
    prolongation. Every iteration has weights of its own."""

    first: _Conv
    smoothers: list[list[tuple[_Conv, _Conv]]]  # by level: (A, S) of every iteration
    down: list[tuple[_Conv, _Conv]]  # of u and f
    up: list[_Up]

    @staticmethod
    def of(inp: int, width: int, iterations: tuple[int, ...], boundary: Boundary, key: Key) -> "_MgConv":
        keys = iter(jax.random.split(key, 1 + 2 * sum(iterations) + 3 * len(iterations)))
        f = [inp, *[width] * (len(iterations) - 1)]
        pairs = [
            [
                (_Conv.of(width, c, 3, boundary, next(keys)), _Conv.of(c, width, 3, boundary, next(keys)))
                for _ in range(count)
            ]
            for c, count in zip(f, iterations, strict=True)
        ]
        down = [
            (
                _Conv.of(width, width, 3, boundary, next(keys), stride=2),
                _Conv.of(c, width, 3, boundary, next(keys), stride=2),
            )
            for c in f[:-1]
        ]
        up = [_Up.of(width, width, next(keys)) for _ in f[:-1]]
        return _MgConv(_Conv.of(inp, width, 3, boundary, next(keys)), pairs, down, up)

    def __call__(self, f: Array) -> Array:
        u, levels = self.first(f), []
        for level, pairs in enumerate(self.smoothers):
            for A, S in pairs:
                u = u + S(f - A(u))
            levels.append(u)
            if level < len(self.down):
                of_u, of_f = self.down[level]
                u, f = of_u(u), of_f(f - pairs[-1][0](u) if pairs else f)
        for u, up in zip(levels[-2::-1], self.up[::-1], strict=True):
            levels[-1] = u + up(levels[-1])
        return levels[-1]


class MgNO(eqx.Module):
    r"""The multigrid neural operator: layers `act(V(u) + W u + b)` with a learnt V-cycle V and a 1 x 1 convolution W.

    No lifting and no projection but a last 1 x 1. Its stencils belong to one spacing: it is not resolution-agnostic.

    **Arguments:** `inp`, `out`: channels; `width`: channels within; `layers`; `iterations`: smoothing steps at each
    level, the finest first; `boundary`: a `Boundary` (Dirichlet, periodic, Neumann).

    Called with (inp, ny, nx), where `2^(levels - 1)` divides ny and nx (else ValueError); returns (out, ny, nx).

    Source: He, Liu & Xu 2024, arXiv:2310.19809.
    """

    cycles: list[_MgConv]
    mixes: list[_Conv]
    biases: list[Float[Array, " width"]]
    last: _Conv

    def __init__(
        self,
        inp: int,
        out: int,
        *,
        key: Key,
        width: int = 24,
        layers: int = 4,
        iterations: tuple[int, ...] = (1, 1, 1, 2),
        boundary: Boundary = Boundary.ZERO,
    ) -> None:
        sizes = [inp, *[width] * layers]
        keys = jax.random.split(key, 2 * layers + 1)
        self.cycles = [_MgConv.of(c, width, tuple(iterations), boundary, keys[2 * k]) for k, c in enumerate(sizes[:-1])]
        self.mixes = [_Conv.of(c, width, 1, boundary, keys[2 * k + 1]) for k, c in enumerate(sizes[:-1])]
        self.biases = [jnp.zeros(width, float_dtype()) for _ in range(layers)]
        self.last = _Conv.of(width, out, 1, boundary, keys[-1])

    def __call__(self, x: Float[Array, "inp ny nx"]) -> Float[Array, "out ny nx"]:
        coarsest = 2 ** len(self.cycles[0].down)
        if x.shape[1] % coarsest or x.shape[2] % coarsest:
            raise ValueError(
                f"MgNO: the grid is {x.shape[1:]}; expected sides that {coarsest} divides, for "
                f"{len(self.cycles[0].down) + 1} levels. Take fewer iterations=, or another grid."
            )
        for cycle, mix, bias in zip(self.cycles, self.mixes, self.biases, strict=True):
            x = jax.nn.gelu(cycle(x) + mix(x) + bias[:, None, None])
        return self.last(x)


class FNO(eqx.Module):
    r"""The Fourier neural operator: layers `gelu(F^-1(R F(u)) + W u + b)` with learnt weights R of the lowest modes.

    The two coordinates, 0 to 1, are channels of its input. It means the same operator at every resolution.

    **Arguments:** `inp`, `out`: channels; `width`; `layers`; `modes`: kept per axis.

    Called with (inp, ny, nx), ny >= 2 modes and nx >= 2 modes (else ValueError); returns (out, ny, nx).

    Source: Li et al. 2021, arXiv:2010.08895.
    """

    lift: _Conv
    spectral: list[Float[Array, "2 2 width width m m"]]  # real and imaginary part, of positive and negative rows
    mixes: list[_Conv]
    biases: list[Float[Array, " width"]]
    last: _Conv
    modes: int = eqx.field(static=True)

    def __init__(self, inp: int, out: int, *, key: Key, width: int = 16, layers: int = 4, modes: int = 6) -> None:
        keys = jax.random.split(key, 2 * layers + 2)
        shape = (2, 2, width, width, modes, modes)
        self.lift = _Conv.of(inp + 2, width, 1, Boundary.ZERO, keys[-2])
        self.spectral = [jax.random.normal(k, shape, float_dtype()) / width for k in keys[:layers]]
        self.mixes = [_Conv.of(width, width, 1, Boundary.ZERO, k) for k in keys[layers : 2 * layers]]
        self.biases = [jnp.zeros(width, float_dtype()) for _ in range(layers)]
        self.last = _Conv.of(width, out, 1, Boundary.ZERO, keys[-1])
        self.modes = modes

    def _filtered(self, x: Array, weight: Array) -> Array:
        m = self.modes
        hat = jnp.fft.rfft2(x, norm="forward")
        low = jnp.stack([hat[:, :m, :m], hat[:, -m:, :m]])
        mixed = jnp.einsum("siyx,soiyx->soyx", low, jax.lax.complex(weight[0], weight[1]))
        out = jnp.zeros((mixed.shape[1], *hat.shape[1:]), hat.dtype)
        return jnp.fft.irfft2(out.at[:, :m, :m].set(mixed[0]).at[:, -m:, :m].set(mixed[1]), x.shape[1:], norm="forward")

    def __call__(self, x: Float[Array, "inp ny nx"]) -> Float[Array, "out ny nx"]:
        ny, nx = x.shape[1:]
        if min(ny, nx) < 2 * self.modes:
            raise ValueError(f"FNO: the grid is {(ny, nx)}; expected sides >= {2 * self.modes}, twice the modes.")
        axes = [jnp.linspace(0.5 / n, 1.0 - 0.5 / n, n, dtype=x.dtype) for n in (ny, nx)]
        x = self.lift(jnp.concatenate([x, jnp.stack(jnp.meshgrid(*axes, indexing="ij"))]))
        for weight, mix, bias in zip(self.spectral, self.mixes, self.biases, strict=True):
            x = jax.nn.gelu(self._filtered(x, weight) + mix(x) + bias[:, None, None])
        return self.last(x)


class UNet(eqx.Module):
    """A plain U-Net of 3 x 3 convolutions, two a level, as a baseline.

    **Arguments:** `inp`, `out`: channels; `width`: of the finest level, doubled at each coarser one; `levels`;
    `boundary`. Called with (inp, ny, nx), where `2^(levels - 1)` divides ny and nx (else ValueError).

    Source: Ronneberger, Fischer & Brox 2015, doi:10.1007/978-3-319-24574-4_28.
    """

    down: list[tuple[_Conv, _Conv]]
    up: list[tuple[_Up, _Conv]]
    last: _Conv

    def __init__(
        self, inp: int, out: int, *, key: Key, width: int = 12, levels: int = 3, boundary: Boundary = Boundary.ZERO
    ) -> None:
        keys = iter(jax.random.split(key, 4 * levels + 1))
        sizes = [width * 2**k for k in range(levels)]
        self.down = [
            (
                _Conv.of(a, b, 3, boundary, next(keys), stride=1 if k == 0 else 2),
                _Conv.of(b, b, 3, boundary, next(keys)),
            )
            for k, (a, b) in enumerate(zip([inp, *sizes[:-1]], sizes, strict=True))
        ]
        self.up = [
            (_Up.of(b, a, next(keys)), _Conv.of(2 * a, a, 3, boundary, next(keys)))
            for a, b in itertools.pairwise(sizes)
        ]
        self.last = _Conv.of(width, out, 1, boundary, next(keys))

    def __call__(self, x: Float[Array, "inp ny nx"]) -> Float[Array, "out ny nx"]:
        coarsest = 2 ** (len(self.down) - 1)
        if x.shape[1] % coarsest or x.shape[2] % coarsest:
            raise ValueError(f"UNet: the grid is {x.shape[1:]}; expected sides that {coarsest} divides.")
        seen: list[Any] = []
        for one, two in self.down:
            x = jax.nn.gelu(two(jax.nn.gelu(one(x))))
            seen.append(x)
        for (up, conv), skip in zip(self.up[::-1], seen[-2::-1], strict=True):
            x = jax.nn.gelu(conv(jnp.concatenate([up(x), skip])))
        return self.last(x)
