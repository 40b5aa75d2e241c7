"""Spike-timing-dependent plasticity: by pairs of spikes and by triplets."""

import equinox as eqx

from ..base import Param
from ._checked import ordered, positive
from ._rule import AbstractBound, AbstractPlasticity, Additive
from ._traces import SpikeTrace


class PairSTDP(AbstractPlasticity):
    r"""Potentiation of pre before post, depression of post before pre, by all pairs of spikes.

    A post event adds $A_+ f_+(w) x$ to the weight, a pre event takes $A_- f_-(w) y$ from it, with traces x of the pre
    and y of the post unit that decay with $\tau_\pm$ and jump by 1 at an event. A single pair at distance
    $\Delta = t_{post} - t_{pre}$ changes an additive weight by $A_+ e^{-\Delta / \tau_+}$, $\Delta > 0$, or
    $-A_- e^{\Delta / \tau_-}$. NEST's `stdp_synapse` is `a_plus = lambda W`, `a_minus = alpha lambda W` with a
    `PowerLaw` bound; agreement of delivered weights: 1e-12 (float64).

    **Arguments:**

    - `tau_plus`, `tau_minus`: ms.
    - `a_plus`, `a_minus`: change by a pair at distance 0, in the unit of the weight.
    - `w_min`, `w_max`: bounds.
    - `bound`: `bs.Additive()`, `bs.Multiplicative()` or `bs.PowerLaw(mu_plus, mu_minus)`.
    - `nearest`: True: only the last event of each side counts, in every pairing (the symmetric nearest-neighbour
      form, `stdp_nn_symm_synapse` of NEST); `PreCenteredSTDP` and `ReducedSTDP` are the two others.

    Source: Song, Miller & Abbott 2000, doi:10.1038/78829; Morrison, Diesmann & Gerstner 2008,
    doi:10.1007/s00422-008-0233-1.
    """

    tau_plus: Param = 20.0
    tau_minus: Param = 20.0
    a_plus: Param = 0.01
    a_minus: Param = 0.0105
    w_min: Param = 0.0
    w_max: Param = 1.0
    bound: AbstractBound = Additive()
    nearest: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        positive(self, "tau_plus", "tau_minus")
        ordered(self)

    def traces(self):
        return {
            "x": SpikeTrace("pre", self.tau_plus, self.nearest),
            "y": SpikeTrace("post", self.tau_minus, self.nearest),
        }

    def on_pre(self, syn, pre, post, mod):
        return {"w": syn.w - self.a_minus * self.bound.down(syn.w, self.w_min, self.w_max) * post.y}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + self.a_plus * self.bound.up(syn.w, self.w_min, self.w_max) * pre.x}


class PreCenteredSTDP(AbstractPlasticity):
    """Pairs in which every pre event is paired with the post event before and the one after it, and a post event with
    all pre events since the last one.

    `stdp_nn_pre_centered_synapse` of NEST. Every synapse keeps `k`: the pre events since its last pairing, decayed to
    the last of them. **Arguments:** as of `PairSTDP`. Source: Morrison, Diesmann & Gerstner 2008, fig. 7b,
    doi:10.1007/s00422-008-0233-1.
    """

    tau_plus: Param = 20.0
    tau_minus: Param = 20.0
    a_plus: Param = 0.01
    a_minus: Param = 0.0105
    w_min: Param = 0.0
    w_max: Param = 1.0
    bound: AbstractBound = Additive()

    def __check_init__(self) -> None:
        positive(self, "tau_plus", "tau_minus")
        ordered(self)

    def traces(self):
        return {"x": SpikeTrace("pre", self.tau_plus, True), "y": SpikeTrace("post", self.tau_minus, True)}

    def synapse(self):
        return {"k": 0.0}

    def on_pre(self, syn, pre, post, mod):
        w = syn.w - self.a_minus * self.bound.down(syn.w, self.w_min, self.w_max) * post.y
        return {"w": w, "k": syn.k * pre.x + 1.0}

    def on_post(self, syn, pre, post, mod):
        up = self.a_plus * self.bound.up(syn.w, self.w_min, self.w_max)
        return {"w": syn.w + up * syn.k * pre.x, "k": 0.0}


class ReducedSTDP(AbstractPlasticity):
    """Pairs of immediate neighbours only: a post event with the pre event right before it, a pre event with the post
    event right before it.

    `stdp_nn_restr_synapse` of NEST. Every synapse keeps `k`: 1 where a pre event was its last, 0 elsewhere.
    **Arguments:** as of `PairSTDP`. Source: Morrison, Diesmann & Gerstner 2008, fig. 7c,
    doi:10.1007/s00422-008-0233-1.
    """

    tau_plus: Param = 20.0
    tau_minus: Param = 20.0
    a_plus: Param = 0.01
    a_minus: Param = 0.0105
    w_min: Param = 0.0
    w_max: Param = 1.0
    bound: AbstractBound = Additive()

    def __check_init__(self) -> None:
        positive(self, "tau_plus", "tau_minus")
        ordered(self)

    def traces(self):
        return {"x": SpikeTrace("pre", self.tau_plus, True), "y": SpikeTrace("post", self.tau_minus, True)}

    def synapse(self):
        return {"k": 0.0}

    def on_pre(self, syn, pre, post, mod):
        down = self.a_minus * self.bound.down(syn.w, self.w_min, self.w_max)
        return {"w": syn.w - down * (1.0 - syn.k) * post.y, "k": 1.0}

    def on_post(self, syn, pre, post, mod):
        up = self.a_plus * self.bound.up(syn.w, self.w_min, self.w_max)
        return {"w": syn.w + up * syn.k * pre.x, "k": 0.0}


class TripletSTDP(AbstractPlasticity):
    r"""STDP by pairs and triplets, which depends on rates as synapses of cortex do.

    A post event adds $r_1 (A_2^+ + A_3^+ o_2)$, a pre event takes $o_1 (A_2^- + A_3^- r_2)$, with traces
    $r_1, r_2$ of the pre unit ($\tau_+, \tau_x$) and $o_1, o_2$ of the post unit ($\tau_-, \tau_y$), each as it was
    before the event itself.

    **Arguments:** `a2_plus`, `a3_plus`, `a2_minus`, `a3_minus`: amplitudes, in the unit of the weight; `tau_plus`,
    `tau_x`, `tau_minus`, `tau_y`: ms; `w_min`, `w_max`: bounds. The defaults are those fitted to visual cortex (all to
    all); `TripletSTDP.hippocampus()` has those of hippocampal cultures.

    Source: Pfister & Gerstner 2006, doi:10.1523/JNEUROSCI.1425-06.2006, eqs. 3 and 4, table 4.
    """

    a2_plus: Param = 5e-10
    a3_plus: Param = 6.2e-3
    a2_minus: Param = 7e-3
    a3_minus: Param = 2.3e-4
    tau_plus: Param = 16.8
    tau_x: Param = 101.0
    tau_minus: Param = 33.7
    tau_y: Param = 125.0
    w_min: Param = 0.0
    w_max: Param = 1.0

    def __check_init__(self) -> None:
        positive(self, "tau_plus", "tau_minus", "tau_x", "tau_y")
        ordered(self)

    @staticmethod
    def hippocampus(**changed: Param) -> "TripletSTDP":
        """The parameters of the full model fitted to hippocampal cultures, all to all (table 4); keywords change
        some."""
        fitted = dict(a2_plus=6.1e-3, a3_plus=6.7e-3, a2_minus=1.6e-3, a3_minus=1.4e-3, tau_x=946.0, tau_y=27.0)
        return TripletSTDP(**(fitted | changed))

    def traces(self):
        pre = {"r1": SpikeTrace("pre", self.tau_plus), "r2": SpikeTrace("pre", self.tau_x)}
        return pre | {"o1": SpikeTrace("post", self.tau_minus), "o2": SpikeTrace("post", self.tau_y)}

    def on_pre(self, syn, pre, post, mod):
        return {"w": syn.w - post.o1 * (self.a2_minus + self.a3_minus * pre.r2)}

    def on_post(self, syn, pre, post, mod):
        return {"w": syn.w + pre.r1 * (self.a2_plus + self.a3_plus * post.o2)}
