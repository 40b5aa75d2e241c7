"""Cells whose firing rate is differentiated, and the slopes of the rate they are compared with."""

import functools
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs
from brainsim import train

INPUTS, RATE_IN, BURN = 50, 10.0, 100.0  # Poisson inputs of a cell, Hz each; ms that are not counted


class MCurrent(bs.AbstractUnit):
    """A user's cell: `TraubMiles` with a slow potassium current that adapts it."""

    g_m: float = 20.0  # nS
    v_half: float = -35.0  # mV
    tau_p: float = 100.0  # ms
    cell: bs.TraubMiles = bs.TraubMiles()

    def _cell(self, y):
        return {k: y[k] for k in ("v", "m", "h", "n")}

    def init(self, n, clock):
        y, z = self.cell.init(n, clock)
        return {**y, "p": jnp.zeros(n)}, z

    def vector_field(self, y, z, inp):
        dy = self.cell.vector_field(self._cell(y), z, inp + self.g_m * y["p"] * (-90.0 - y["v"]))
        p_inf = 1.0 / (1.0 + jnp.exp((self.v_half - y["v"]) * 0.1))
        return {**dy, "p": (p_inf - y["p"]) * (1.0 / self.tau_p)}

    def guard(self, y, z):
        return self.cell.guard(y, z)

    def reset(self, y, z, s, inp, clock):
        return y, self.cell.reset(self._cell(y), z, s, inp, clock)[1]


class Case(NamedTuple):
    """A cell, its constant current (pA), the weight of its inputs (pA), and by how much each parameter is moved to
    either side for the slope."""

    unit: Any
    i_e: float
    weight: float
    steps: dict[str, float]
    solver: Any = None
    noise: float = 0.0


LIF = bs.LIF(tau_m=20.0, e_l=-65.0, v_th=-50.0, v_reset=-60.0, t_ref=2.0, g_l=10.0)
CURRENT, WEIGHT = "P.i_e", "SP.weight"


def of_unit(**steps):
    return {f"P.unit.{name}": h for name, h in steps.items()}


CASES = {
    "LIF": Case(
        LIF,
        130.0,
        10.0,
        {CURRENT: 4.0, WEIGHT: 0.5} | of_unit(tau_m=1.0, g_l=0.3, e_l=0.5, v_th=0.5, v_reset=1.0),
    ),
    "AdEx": Case(
        bs.AdEx(), 900.0, 60.0, {CURRENT: 30.0, WEIGHT: 4.0} | of_unit(v_t=1.0, b=8.0, v_reset=3.0, tau_w=15.0, g_l=1.5)
    ),
    "Izhikevich": Case(bs.Izhikevich(), 8.0, 1.0, {CURRENT: 0.5, WEIGHT: 0.15} | of_unit(a=0.002, d=0.8, c=3.0)),
    "TraubMiles": Case(bs.TraubMiles(), 150.0, 20.0, {CURRENT: 20.0, WEIGHT: 4.0} | of_unit(v_t=1.0)),
    "WangBuzsaki": Case(
        bs.WangBuzsaki(),
        0.75,
        0.1,
        {CURRENT: 0.1, WEIGHT: 0.03} | of_unit(phi=0.5),
        bs.Substep(diffrax.Heun(), 5),
    ),
    "HodgkinHuxley": Case(bs.HodgkinHuxley(), 10.0, 1.0, {CURRENT: 2.0, WEIGHT: 0.5} | of_unit(g_k=3.0)),
    "MCurrent": Case(MCurrent(), 300.0, 20.0, {CURRENT: 20.0, WEIGHT: 4.0} | of_unit(g_m=3.0)),
}


def network(case, cells):
    noise = bs.WhiteNoise({"v": case.noise}) if case.noise else None
    pop = bs.Population(case.unit, cells, {"e": bs.ExpCurr(5.0)}, i_e=case.i_e, noise=noise)
    pairs = bs.FromCOO(np.arange(cells * INPUTS), np.arange(cells * INPUTS) // INPUTS)
    edge = bs.Projection("S", "P.e", pairs, weight=case.weight)
    return bs.Network({"S": bs.Source(bs.Poisson(RATE_IN), cells * INPUTS), "P": pop}, {"SP": edge})


def rate_of(case, cells, dt, t1, seed=1):
    """The mean rate (Hz) after the burn-in as a function of the named parameters, and where they are."""
    net = network(case, cells)
    known = train.parameters(net)
    first = round(BURN / dt)

    def rate(values):
        sol = bs.simulate(
            train.with_parameters(net, values),
            t1=t1,
            dt=dt,
            key=jax.random.key(seed),
            solver=case.solver and {"P": case.solver},
            saveat=[bs.Rate("P")],
        )
        return jnp.mean(sol["P.rate"][first:])

    return rate, {name: jnp.asarray(known[name], jnp.float32) for name in case.steps}


def gradient(case, cells, dt, t1, seed=1):
    """The rate and its gradient by name."""
    rate, start = rate_of(case, cells, dt, t1, seed)
    value, g = jax.jit(jax.value_and_grad(rate))(start)
    return float(value), {name: float(x) for name, x in g.items()}


def slopes(case, cells, dt, t1, seed=1):
    """Central differences with common random numbers, by name."""
    rate, start = rate_of(case, cells, dt, t1, seed)
    f = functools.partial(jax.jit(rate))
    moved = lambda name, h: float(f(start | {name: start[name] + h}))  # noqa: E731
    return {name: (moved(name, h) - moved(name, -h)) / (2 * h) for name, h in case.steps.items()}
