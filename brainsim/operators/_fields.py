"""Neural fields: units that lie on a grid and flow together."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import Param, float_dtype
from ..core import AbstractUnit, Structure
from ._grid import Boundary, convolve, extended, transform


def _shape(owner: str, shape: Any) -> tuple[int, ...]:
    shape = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if len(shape) not in (1, 2) or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"{owner}.shape is {shape!r}; expected one or two whole numbers >= 1.")
    return shape


def _check_size(where: str, unit: Any, n: int) -> None:
    if n != math.prod(unit.shape):
        raise ValueError(
            f"{where}: {type(unit).__name__} has the shape {unit.shape}, {math.prod(unit.shape)} units, and the "
            f"population {n}; expected the same."
        )


class AmariField(AbstractUnit):
    r"""A neural field on a grid of one or two dimensions:

    $$\tau \dot u(x) = -u(x) + \int w(|x - x'|)\, f(u(x'))\, dx' + h + c(x), \quad f(u) = 1 / (1 + \exp(-\beta u))$$

    with the threshold at u = 0. The integral is a sum over the grid, by FFT; the transform of the kernel is computed
    once, at construction, and is a parameter. The input c of the node and of its ports is added; the field sends f(u).
    Units are numbered by rows. Its default solver is `diffrax.Heun()`.

    **Arguments:** use `AmariField.of(kernel, shape, ...)`, with w as a function of an array of distances. `hat`: the
    real half transform of the kernel on the extended grid; `shape`: number of grid points, (n,) or (ny, nx);
    `boundary`: a `Boundary`; `tau`: time constant (ms); `h`: resting level; `beta`: slope of f.

    **Raises:** ValueError for a shape that is no grid, a kernel that is not finite, a population of another size.

    Source: Amari 1977, doi:10.1007/BF00337259.
    """

    structure: ClassVar[Structure] = Structure.OPERATOR
    default_solver: ClassVar[Any] = diffrax.Heun()
    hat: Param
    shape: tuple[int, ...] = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True, default=Boundary.PERIODIC)
    tau: Param = 10.0
    h: Param = -0.5
    beta: Param = 5.0

    @classmethod
    def of(
        cls,
        kernel: Callable[[Any], Any],
        shape: Any,
        *,
        spacing: float = 1.0,
        boundary: Boundary = Boundary.PERIODIC,
        **parameters: Any,
    ) -> "AmariField":
        """The field with the weights `kernel(distance)`, on a grid of (n,) or (ny, nx) points `spacing` apart."""
        shape = _shape("AmariField", shape)
        if not isinstance(boundary, Boundary):
            raise TypeError(f"AmariField.boundary is {boundary!r}; expected one such as Boundary.PERIODIC.")
        return cls(transform(kernel, extended(boundary, shape), spacing), shape, boundary, **parameters)

    def check(self, where, n):
        _check_size(where, self, n)

    def init(self, n, clock):
        return {"u": jnp.broadcast_to(jnp.asarray(self.h, float_dtype()), (n,))}, {}

    def fired(self, u: Array) -> Array:
        """f(u)."""
        return jax.nn.sigmoid(self.beta * u)

    def vector_field(self, y, z, inp):
        u = y["u"]
        received = convolve(self.hat, self.fired(u).reshape(self.shape), self.boundary).reshape(-1)
        return {"u": (received - u + self.h + inp) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return self.fired(y["u"])


class _Function(eqx.Module):
    """A plain function as a module."""

    function: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return self.function(x)


def _as_module(module: Any) -> eqx.Module:
    if isinstance(module, type) or not callable(module):
        raise TypeError(f"OperatorField.module is {module!r}; expected a function or an equinox module.")
    return module if isinstance(module, eqx.Module) else _Function(cast(Callable, module))


class OperatorField(AbstractUnit):
    r"""A field whose flow is a module, e.g. a neural operator: $\tau \dot u = F(u) - u + c$.

    The module is called with u as an array (1, n) or (1, ny, nx), one channel, and returns that shape; its parameters
    are those of the network, so that `fit` and `grad` go through both. The input c of the node and of its ports is
    added; the field sends u. Its default solver is `diffrax.Heun()`.

    **Arguments:** `module`: F, a function or an equinox module; `shape`: n or (ny, nx); `tau`: time constant (ms).

    **Raises:** ValueError for a module that changes the shape, or a population of another size.
    """

    structure: ClassVar[Structure] = Structure.OPERATOR
    default_solver: ClassVar[Any] = diffrax.Heun()
    module: Any = eqx.field(converter=_as_module)
    shape: tuple[int, ...] = eqx.field(static=True, converter=lambda shape: _shape("OperatorField", shape))
    tau: Param = 10.0

    def check(self, where, n):
        _check_size(where, self, n)
        row = jax.ShapeDtypeStruct((1, *self.shape), float_dtype())
        made = eqx.filter_eval_shape(self.module, row)
        if getattr(made, "shape", None) != row.shape:
            raise ValueError(f"{where}: the module makes {made} of {row.shape}; expected the same shape.")

    def init(self, n, clock):
        return {"u": jnp.zeros(n, float_dtype())}, {}

    def vector_field(self, y, z, inp):
        u = y["u"]
        return {"u": (self.module(u.reshape(1, *self.shape)).reshape(-1) - u + inp) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return y["u"]
