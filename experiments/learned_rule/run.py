"""A rule of plasticity recovered from what it has learnt: by gradient through plasticity, and by evolution.

`python -m experiments.learned_rule [--quick] [--out PATH]`. A hidden rule (six numbers) changes 1,000 synapses for a
second; given are the spikes and the weights in the end. The error of a candidate rule is minimised by Adam, whose
gradient goes through the 2,000 steps of plasticity, and by CMA-ES, which gets the same processor time.
"""

import time
from pathlib import Path
from typing import Any

import cma
import jax
import jax.numpy as jnp
import numpy as np
import optax

import brainsim as bs

from .._living import SEEDS, command, spread

HERE = Path(__file__).parent
PRE, POST, DT = 50, 20, 0.5
NAMES = ("a_plus", "a_minus", "tau_plus", "tau_minus", "mu_plus", "mu_minus")
HIDDEN = np.log([0.05, 0.04, 17.0, 34.0, 0.3, 0.6])
"""The logarithms of the rule that is to be found."""


def network(seed: int, t1: float) -> bs.Network:
    """Units that emit given trains; half of the pre units of a post unit are followed by it."""
    rng = np.random.default_rng(seed)
    trains = [np.sort(rng.uniform(1, t1, rng.poisson(0.02 * t1))) for _ in range(PRE + POST)]
    follows = [np.sort(rng.choice(PRE, PRE // 10, replace=False)) for _ in range(POST)]
    for j, sources in enumerate(follows):
        extra = np.concatenate([trains[i] + rng.normal(8.0, 4.0, trains[i].size) for i in sources])
        trains[PRE + j] = np.sort(np.concatenate([trains[PRE + j], rng.choice(extra, extra.size // 2, replace=False)]))

    def source(own):
        """A train each, at most one event in a step."""
        steps = [np.unique(np.clip(np.round(x / DT), 1, t1 / DT - 1)) for x in own]
        units = np.repeat(np.arange(len(own)), [len(x) for x in steps])
        return bs.Source(bs.Replay(np.concatenate(steps) * DT, units), len(own))

    cells = bs.Population(bs.LIF(e_l=0.0, v_reset=0.0, v_th=1.0), POST, {"kick": bs.Delta(), "syn": bs.ExpCurr()})
    nodes = {"A": source(trains[:PRE]), "D": source(trains[PRE:]), "B": cells}
    start = rng.uniform(0.2, 0.8, PRE * POST)
    edges = {
        "K": bs.Projection("D", "B.kick", bs.OneToOne(), weight=10.0),
        "S": bs.PlasticProjection("A", "B.syn", bs.AllToAll(), weight=start, rule=rule(HIDDEN)),
    }
    return bs.Network(nodes, edges, key=jax.random.key(seed))


def rule(p: Any) -> bs.AbstractPlasticity:
    a_plus, a_minus, tau_plus, tau_minus, mu_plus, mu_minus = jnp.exp(jnp.asarray(p))
    bound = bs.PowerLaw(mu_plus, mu_minus)
    return bs.PairSTDP(tau_plus=tau_plus, tau_minus=tau_minus, a_plus=a_plus, a_minus=a_minus, bound=bound)


def weights(net: bs.Network, p: Any, t1: float) -> Any:
    """What the rule makes of the weights."""
    names = ("tau_plus", "tau_minus", "a_plus", "a_minus", "bound.mu_plus", "bound.mu_minus")
    order = [NAMES.index(name.removeprefix("bound.")) for name in names]
    values = {f"S.rule.{name}": jnp.exp(p[k]) for name, k in zip(names, order)}
    net = bs.train.with_parameters(net, values)
    return bs.simulate(net, t1=t1, dt=DT, key=jax.random.key(0), throw=False).state.edges["S"]["w"]


def one(seed: int, t1: float, steps: int) -> dict[str, Any]:
    """Both searches from one start."""
    net, unseen = network(seed, t1), network(100 + seed, t1)
    target = weights(net, jnp.asarray(HIDDEN), t1)
    scale = float(jnp.var(target))
    start = jnp.asarray(HIDDEN + np.random.default_rng(seed).uniform(-1.2, 1.2, HIDDEN.size))

    @jax.jit
    def loss(p):
        return jnp.mean((weights(net, p, t1) - target) ** 2) / scale

    both = jax.jit(jax.value_and_grad(lambda p: jnp.log(loss(p))))  # errors span orders of magnitude
    both(start), loss(start)  # compiled before the clock runs
    method = optax.adam(optax.cosine_decay_schedule(0.15, steps))

    @jax.jit
    def moved(p, state, g):
        change, state = method.update(g, state, p)
        return optax.apply_updates(p, change), state

    p, state, curve, began = start, method.init(start), [], time.process_time()
    for _ in range(steps):
        value, g = both(p)
        curve.append([time.process_time() - began, float(jnp.exp(value))])
        p, state = moved(p, state, g)
    budget = time.process_time() - began
    options = {"seed": seed + 1, "verbose": -9}
    evolution, other = cma.CMAEvolutionStrategy(np.asarray(start), 0.5, options), []
    began = time.process_time()
    while time.process_time() - began < budget:
        asked = evolution.ask()
        evolution.tell(asked, [float(loss(jnp.asarray(x))) for x in asked])
        other.append([time.process_time() - began, float(evolution.result.fbest)])
    found = {"gradient": p, "evolution": jnp.asarray(evolution.result.xbest)}
    truth = weights(unseen, jnp.asarray(HIDDEN), t1)
    unheld = float(jnp.var(truth))

    def report(p):
        off = jnp.mean((weights(unseen, p, t1) - truth) ** 2) / unheld
        return {
            "error": float(loss(p)),
            "error_unseen": float(off),
            "parameters": np.exp(np.asarray(p, float)).tolist(),
            "worst_factor": float(np.exp(np.max(np.abs(np.asarray(p) - HIDDEN)))),
        }

    out = {name: report(p) for name, p in found.items()}
    out["gradient"] |= {"curve": curve, "evaluations": steps}
    out["evolution"] |= {"curve": other, "evaluations": int(evolution.result.evaluations)}
    off = float(np.exp(np.max(np.abs(np.asarray(start) - HIDDEN))))
    out["start"] = {"error": float(loss(start)), "worst_factor": off}
    return out | {"budget_s": budget}


def work(quick: bool) -> dict[str, Any]:
    t1, steps = (100.0, 10) if quick else (1000.0, 150)
    runs = [one(seed, t1, steps) for seed in range(1 if quick else SEEDS)]
    rows = [("search", "error", "error, unseen trains", "worst factor of a parameter", "evaluations")]
    for name in ("start", "gradient", "evolution"):
        of = [run[name] for run in runs]
        columns = [spread(x[k] for x in of) if k in of[0] else "-" for k in ("error", "error_unseen", "worst_factor")]
        rows.append((name, *columns, of[0].get("evaluations", "-")))
    return {"hidden": np.exp(HIDDEN).tolist(), "names": list(NAMES), "t1_ms": t1, "runs": runs, "table": rows}


def figure(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    for run in results["runs"]:
        for k, name in enumerate(("gradient", "evolution")):
            t, error = np.array(run[name]["curve"]).T
            ax.semilogy(t, error, color=f"C{k}", label=name if run is results["runs"][0] else None)
    ax.set(xlabel="processor time (s)", ylabel="error of the weights (share of variance)")
    ax.legend()
    fig.savefig(path, dpi=90)


def main() -> None:
    command(HERE, __doc__ or "", work, figure)
