"""The Epileptor: how seizures begin and end."""

from typing import Any, ClassVar

import diffrax
import jax.numpy as jnp

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, start


class Epileptor(AbstractUnit):
    r"""Fast discharges (`x1`, `y1`), spike-and-wave events (`x2`, `y2`), a slow permittivity `z` that moves between
    seizure and rest, and a filter `g`:

    $$\dot x_1 = y_1 - f_1(x_1, x_2) - z + I_1 + c, \quad \dot y_1 = 1 - 5 x_1^2 - y_1$$
    $$\dot z = r\, (4 (x_1 - x_0) - z - 0.1 \min(z, 0)^7)$$
    $$\dot x_2 = -y_2 + x_2 - x_2^3 + I_2 + 0.002 g - 0.3 (z - 3.5), \quad \tau_2 \dot y_2 = -y_2 + f_2(x_2)$$
    $$\dot g = x_1 - \gamma g$$

    with $f_1 = x_1^3 - 3 x_1^2$ where $x_1 < 0$, else $(x_2 - 0.6 (z - 4)^2) x_1$, and $f_2 = 6 \max(x_2 + 0.25, 0)$.
    The kinks of $f_1$, $f_2$ and $z^7$ lower the order of a solver in the steps that cross them. The unit of time is
    the step's, ms in name only. The input c of the node and of its ports is added to $I_1$; the local field potential
    is $x_2 - x_1$.

    Source: Jirsa et al. 2014, doi:10.1093/brain/awu133, table 1.

    **Arguments:** `x0`: excitability, epileptogenic above about -2.05; `I1`, `I2`: constant inputs; `r`: rate of z;
    `tau2`: time constant of `y2`; `gamma`: rate of the filter.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    x0: Param = -1.6
    I1: Param = 3.1
    I2: Param = 0.45
    r: Param = 0.00035
    tau2: Param = 10.0
    gamma: Param = 0.01

    def __check_init__(self) -> None:
        positive(self, "tau2")

    def init(self, n, clock):
        return start(n, x1=-1.6, y1=-11.8, z=3.3, x2=-0.9, y2=0.0, g=-100.0)

    def emit(self, y, z, s):
        return y["x1"]

    def vector_field(self, y, z, inp):
        x1, y1, slow, x2, y2, g = (y[name] for name in ("x1", "y1", "z", "x2", "y2", "g"))
        away = slow - 4.0
        f1 = jnp.where(x1 < 0, x1 * x1 * (x1 - 3.0), (x2 - 0.6 * away * away) * x1)
        f2 = 6.0 * jnp.maximum(x2 + 0.25, 0.0)
        return {
            "x1": y1 - f1 - slow + self.I1 + inp,
            "y1": 1.0 - 5.0 * x1 * x1 - y1,
            "z": self.r * (4.0 * (x1 - self.x0) - slow - 0.1 * jnp.minimum(slow, 0.0) ** 7),
            "x2": -y2 + x2 - x2 * x2 * x2 + self.I2 + 0.002 * g - 0.3 * (slow - 3.5),
            "y2": (f2 - y2) * (1.0 / self.tau2),
            "g": x1 - self.gamma * g,
        }
