"""Mean fields of spiking networks with slow NMDA synapses: reduced Wong-Wang, and its excitatory-inhibitory form."""

from typing import Any, ClassVar

import diffrax

from ..base import Param
from ..core import AbstractUnit
from ._shared import positive, rectified, start


class ReducedWongWang(AbstractUnit):
    r"""The fraction `S` of open NMDA channels of one region:

    $$\dot S = -S / \tau_s + (1 - S)\, \gamma H(x), \quad x = w J_N S + I_0 + c, \quad
    H(x) = \frac{a x - b}{1 - \exp(-d (a x - b))}$$

    The input c (nA) of the node and of its ports is added to x: a coupling of strength G has the weights `G J_N C_ij`.
    The defaults are those of the source; another common set is `w` = 0.6, `I_0` = 0.33.

    Source: Deco et al. 2013, doi:10.1523/JNEUROSCI.1091-13.2013, eq. 1 to 3.

    **Arguments:** `a` (Hz/nA), `b` (Hz), `d` (s): of the rate H (Hz); `gamma`: 0.641 / 1000, for t in ms; `tau_s`: time
    constant (ms); `w`: recurrence; `J_N`: synaptic coupling (nA); `I_0`: constant current (nA).
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    a: Param = 270.0
    b: Param = 108.0
    d: Param = 0.154
    gamma: Param = 0.641e-3
    tau_s: Param = 100.0
    w: Param = 0.9
    J_N: Param = 0.2609
    I_0: Param = 0.3

    def __check_init__(self) -> None:
        positive(self, "tau_s", "d")

    def init(self, n, clock):
        return start(n, S=0.1)

    def emit(self, y, z, s):
        return y["S"]

    def vector_field(self, y, z, inp):
        S = y["S"]
        h = rectified(self.a * (self.w * self.J_N * S + self.I_0 + inp) - self.b, self.d)
        return {"S": -S * (1.0 / self.tau_s) + (1.0 - S) * self.gamma * h}


class ExcInhWongWang(AbstractUnit):
    r"""Open fractions `S_e` (NMDA) and `S_i` (GABA) of a region with an excitatory and an inhibitory pool:

    $$\dot S_e = -S_e / \tau_e + (1 - S_e)\, \gamma_e H_e(I_e), \quad \dot S_i = -S_i / \tau_i + \gamma_i H_i(I_i)$$
    $$I_e = W_e I_0 + w_p J_N S_e - J_i S_i + c, \quad I_i = W_i I_0 + J_N S_e - S_i$$

    with $H_k(x) = (a_k x - b_k) / (1 - \exp(-d_k (a_k x - b_k)))$. The input c (nA) of the node and of its ports is
    added to $I_e$; `J_i` is the local inhibition that feedback inhibition control adjusts.

    Source: Deco et al. 2014, doi:10.1523/JNEUROSCI.5068-13.2014, eq. 3 to 8.

    **Arguments:** `a_e`, `a_i` (Hz/nA), `b_e`, `b_i` (Hz), `d_e`, `d_i` (s): of the rates; `tau_e`, `tau_i`: time
    constants (ms); `w_p`: recurrence; `J_N`, `J_i`: synaptic couplings (nA); `W_e`, `W_i`: shares of the constant
    current `I_0` (nA); `gamma_e`, `gamma_i`: kinetic factors, for t in ms.
    """

    default_solver: ClassVar[Any] = diffrax.Heun()
    a_e: Param = 310.0
    b_e: Param = 125.0
    d_e: Param = 0.16
    tau_e: Param = 100.0
    w_p: Param = 1.4
    J_N: Param = 0.15
    W_e: Param = 1.0
    a_i: Param = 615.0
    b_i: Param = 177.0
    d_i: Param = 0.087
    tau_i: Param = 10.0
    J_i: Param = 1.0
    W_i: Param = 0.7
    I_0: Param = 0.382
    gamma_e: Param = 0.641e-3
    gamma_i: Param = 1e-3

    def __check_init__(self) -> None:
        positive(self, "tau_e", "tau_i", "d_e", "d_i")

    def init(self, n, clock):
        return start(n, S_e=0.1, S_i=0.05)

    def emit(self, y, z, s):
        return y["S_e"]

    def vector_field(self, y, z, inp):
        S_e, S_i = y["S_e"], y["S_i"]
        i_e = self.W_e * self.I_0 + self.w_p * self.J_N * S_e - self.J_i * S_i + inp
        i_i = self.W_i * self.I_0 + self.J_N * S_e - S_i
        h_e, h_i = rectified(self.a_e * i_e - self.b_e, self.d_e), rectified(self.a_i * i_i - self.b_i, self.d_i)
        return {
            "S_e": -S_e * (1.0 / self.tau_e) + (1.0 - S_e) * self.gamma_e * h_e,
            "S_i": -S_i * (1.0 / self.tau_i) + self.gamma_i * h_i,
        }
