"""What a NIR file leaves open, and how each library fills it: the update of a neuron in one step."""

import dataclasses
from typing import Any

import numpy as np

from ..neurons import DiscreteNeurons, Reset
from ._graph import Node


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a library runs a NIR graph in steps: what the file does not say.

    NIR states equations in continuous time. Libraries differ in the decay of a step, the gain of what arrives, whether
    a neuron on its threshold spikes, what a spike does, and when the bias of a recurrent edge begins to act. Each of
    the named dialects reproduces the recorded rasters of its library bit for bit; take one and give it the step,
    `bs.nir.NORSE.at(dt=0.1)`.

    **Arguments:**

    - `name`: of the library.
    - `dt`: the step (ms); None: to be given.
    - `exponential`: decays are exp(-dt / tau), else 1 - dt / tau.
    - `whole_input`: what arrives enters i and v in full; else by `dt / tau` times `w_in` and `r`.
    - `input_decays`: what arrives at i decays in the step in which it arrives.
    - `at_threshold`: v = v_threshold is a spike.
    - `reset`, `if_reset`: what a spike does to a leaky neuron and to an IF.
    - `cuba_reset`: to one with a synaptic current, where that differs.
    - `several`: trunc(v / v_threshold) spikes in a step; an IF then stays above -v_threshold.
    - `lagged`: a spike acts, and is recorded by `NIRNetwork.run`, in the step after it; over recurrent edges too.
    - `bias_at_start`: the bias of a recurrent Affine acts in step 0 already.
    - `reads_leak`: `v_leak` counts; else it must be 0.
    - `channel_last`: an Affine after a Flatten has its columns in the order (height, width, channel).
    - `levels`: weights into a population are cut to -levels..levels integers; 0: they stay.
    - `lead_in`: steps by which the input comes late.
    """

    name: str
    dt: float | None = None
    exponential: bool = False
    whole_input: bool = True
    input_decays: bool = False
    at_threshold: bool = False
    reset: Reset = Reset.ZERO
    if_reset: Reset | None = None
    cuba_reset: Reset | None = None
    several: bool = False
    lagged: bool = False
    bias_at_start: bool = False
    reads_leak: bool = False
    channel_last: bool = False
    levels: int = 0
    lead_in: int = 0

    def at(self, dt: float) -> "Dialect":
        """The dialect with steps of `dt` ms."""
        return dataclasses.replace(self, dt=dt)

    def keeps(self, tau: Any) -> np.ndarray:
        """What decays with `tau` (s) keeps of itself in a step."""
        assert self.dt is not None
        ratio = self.dt * 1e-3 / np.asarray(tau, np.float64)
        return np.exp(-ratio) if self.exponential else 1.0 - ratio

    def tau(self, keeps: Any) -> np.ndarray:
        """The time constant (s) with which `keeps` is left after a step."""
        assert self.dt is not None
        keeps = np.asarray(keeps, np.float64)
        return self.dt * 1e-3 / (-np.log(keeps) if self.exponential else 1.0 - keeps)

    def gain(self, tau: Any, scale: Any) -> np.ndarray:
        """What enters of an input that is multiplied by `scale` and decays with `tau` (s)."""
        return np.ones(()) if self.whole_input else self.part(tau) * np.asarray(scale, np.float64)

    def part(self, tau: Any) -> np.ndarray:
        """dt over `tau` (s)."""
        assert self.dt is not None
        return self.dt * 1e-3 / np.asarray(tau, np.float64)

    def neurons(self, node: Node, size: int, bias: dict[str, Any], late: tuple[str, ...]) -> DiscreteNeurons:
        """The neurons of one primitive."""
        p = {k: flat(x, size) for k, x in node.fields.items() if not isinstance(x, str | dict)}
        leak = p.get("v_leak", np.zeros(())) if self.reads_leak else np.zeros(())
        own: dict[str, Any] = {"bias": bias, "late": late}
        if node.type == "Threshold":
            return DiscreteNeurons(
                size, 0.0, v_th=p["threshold"], reset=Reset.NONE, at_threshold=self.at_threshold, **own
            )
        beta = np.ones(())
        if (tau := p.get("tau", p.get("tau_mem"))) is not None:
            beta = self.keeps(tau)
            own |= {"gain_v": self.gain(tau, p["r"]), "offset_v": (1.0 - beta) * leak, "v_start": leak}
        if node.type.startswith("Cuba"):
            alpha = self.keeps(p["tau_syn"])
            own |= {"alpha": alpha, "gain_i": alpha if self.input_decays else self.gain(p["tau_syn"], p["w_in"])}
            own |= {"offset_i": (1.0 - alpha) * leak, "i_start": leak}
        if "v_threshold" not in p:
            return DiscreteNeurons(size, beta, **own)
        reset = self.reset
        if node.type == "IF":
            reset = self.if_reset or reset
            own["v_min"] = -p["v_threshold"] if self.several else None
        elif node.type == "CubaLIF":
            reset = self.cuba_reset or reset
        own |= {"v_th": p["v_threshold"], "reset": reset, "several": self.several}
        return DiscreteNeurons(size, beta, at_threshold=self.at_threshold, **own)


def flat(x: Any, size: int) -> np.ndarray:
    """An attribute as one number, or one for each neuron."""
    a = np.asarray(x)
    return a.reshape(()) if a.size == 1 and size != 1 else a.reshape(size) if a.size == size else a.reshape(())


NORSE = Dialect("Norse", whole_input=False, reads_leak=True)
"""Norse 1.1: forward Euler, reset to 0 at v > v_threshold; an IF adds what arrives in full."""

SNNTORCH = Dialect("snnTorch", bias_at_start=True)
"""snnTorch 1.0, run directly with reset_mechanism="zero", reset_delay=False; its import of recurrent graphs differs."""

SPIKINGJELLY = Dialect("SpikingJelly", at_threshold=True)
"""SpikingJelly 2.0: reset to 0 at v >= v_threshold."""

SINABS = Dialect("Sinabs", exponential=True, reset=Reset.SUBTRACT, several=True)
"""Sinabs 3.1: exponential decay, several spikes a step; its `tau` counts steps, so that dt = 1000 ms."""

SPYX = Dialect("Spyx", reset=Reset.LATE_SUBTRACT, cuba_reset=Reset.SUBTRACT, lagged=True, channel_last=True)
"""Spyx 1.0: the spike of a step is the crossing of the step before."""

ROCKPOOL = Dialect("Rockpool", exponential=True, input_decays=True, reset=Reset.SUBTRACT, several=True)
"""Rockpool 3.1 (LIFTorch): exponential decay of what arrives too, several spikes a step."""

SPINNAKER2 = Dialect("SpiNNaker 2", levels=127, lead_in=1)
"""py-spinnaker2: weights of a population as integers up to 127, one step before the first input."""

DIALECTS = {d.name: d for d in (NORSE, SNNTORCH, SPIKINGJELLY, SINABS, SPYX, ROCKPOOL, SPINNAKER2)}
"""The named dialects."""
