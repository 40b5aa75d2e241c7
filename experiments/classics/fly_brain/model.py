"""The fly's brain as integrate-and-fire neurons (Shiu et al. 2024, doi:10.1038/s41586-024-07763-9)."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import brainsim as bs

W_SYN, W_KICK = 0.275, 250 * 0.275  # mV: of a synapse, of an event of the stimulus


class Neuron(bs.AbstractUnit):
    """`tau_m dv/dt = v_0 - v + g`, `tau_g dg/dt = -g`; at `v > v_th` a spike: `v = v_0`.

    Quirks of the published code, both on by default: `clear`, a spike sets g to 0; `freeze`, while refractory g stands
    still and takes no arrivals, as v always does. v moves by the mean of g over a step of `dt`, so that exponential
    Euler is exact. A unit is refractory for the steps between two spikes, and for one step at least.
    """

    tau_m: float = 20.0  # ms
    tau_g: float = 5.0  # ms
    v_0: float = -52.0  # mV
    v_th: float = -45.0  # mV
    t_ref: float = 2.2  # ms
    stimulated: float = 0.0  # 1 where a cell is never refractory
    dt: float = 0.1  # ms
    clear: bool = eqx.field(static=True, default=True)
    freeze: bool = eqx.field(static=True, default=True)

    def init(self, n, clock):
        return {"v": jnp.full(n, self.v_0), "g": jnp.zeros(n, self.v_0.dtype)}, {"refractory": jnp.zeros(n, jnp.int32)}

    def vector_field(self, y, z, inp):
        decay_m, decay_g = jnp.exp(-self.dt / self.tau_m), jnp.exp(-self.dt / self.tau_g)
        mean = self.tau_g / (self.tau_g - self.tau_m) * (decay_g - decay_m) / (1.0 - decay_m)
        moves = jnp.where(z["refractory"] > 1, 0.0, 1.0).astype(y["v"].dtype)
        dv, dg = (self.v_0 - y["v"] + mean * y["g"]) * (1 / self.tau_m), -y["g"] * (1 / self.tau_g)
        return {"v": moves * dv, "g": moves * dg if self.freeze else dg}

    def held(self, z):
        return {name: z["refractory"] > 0 for name in ("v", "g") if self.freeze or name == "v"}

    def guard(self, y, z):
        return jnp.where(z["refractory"] > 1, self.v_0 - self.v_th, y["v"] - self.v_th)

    def reset(self, y, z, s, inp, clock):
        steps = jnp.where(self.stimulated > 0, 1, jnp.maximum(clock.steps(self.t_ref), 1))
        left = jnp.where(s > 0, steps, jnp.maximum(z["refractory"] - 1, 0))
        return {"v": y["v"] + s * (self.v_0 - y["v"]), "g": y["g"] * (1 - s) if self.clear else y["g"]}, {
            "refractory": left
        }


def fly_brain(
    brain: bs.Connectome, stimulus: Any, stimulated: np.ndarray, silenced: Any = (), gain: Any = None, **quirks: bool
) -> bs.Network:
    """The network: `stimulus` is a process such as `bs.Poisson(150.0)`, one unit for each of the `stimulated` cells.

    `gain` (n,) multiplies what each neuron sends; 0 silences it as `silenced` does, for runs that share one wiring.
    """
    n, k = len(brain), len(stimulated)
    unit = Neuron(stimulated=np.isin(np.arange(n), stimulated).astype(float), **quirks)
    brain = brain.silenced(silenced)
    rules = {"weight": W_SYN * brain.weight, "delay": 1.8} | ({} if gain is None else {"short_term": bs.Gain(gain)})
    wiring = bs.Projection("brain", "brain.g", brain.connect, **rules)
    kicks = bs.Projection("stimulus", "brain.v", bs.FromCOO(np.arange(k), stimulated), weight=W_KICK)
    population = bs.Population(unit, n, {"g": bs.Delta("g"), "v": bs.Delta("v")})
    return bs.Network({"brain": population, "stimulus": bs.Source(stimulus, k)}, {"wiring": wiring, "kicks": kicks})
