"""A study in a file of its own, as workers in other processes import it."""

import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs

KEY = jax.random.key(5)
SPACE = bs.sweep.Grid({"i_e": np.linspace(160.0, 400.0, 8), "trial": range(3)}, units={"i_e": "pA"})


def model(p, key):
    cells = bs.Population(bs.LIF(), 20, init={"v": bs.Uniform(-60.0, -50.0)})
    net = bs.train.with_parameters(bs.Network({"P": cells}), {"P.i_e": p["i_e"]})
    sol = bs.simulate(net, t1=30.0, key=key)
    return {"rate": sol.rates["P"], "v": jnp.mean(sol.state.nodes["P"].y["unit"]["v"])}
