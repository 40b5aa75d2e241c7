"""A reservoir whose inhibition adapts: local rates to their targets, beside one gain tuned for all.

`python -m experiments.ei_reservoir [--quick] [--out PATH]`
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._living import SEEDS, command, spread

HERE = Path(__file__).parent
C, F_E, K, WASH = 10.0, 0.8, 25, 200
DELAYS = 40  # of the memory capacity
SCALES = (0.1, 0.5, 2.0)  # width of the input weights
GAINS = tuple(np.round(np.geomspace(0.5, 2.0, 9), 3).tolist())  # of all inhibition, for the tuned network


def wiring(n: int, scale: float, seed: int) -> tuple[np.ndarray, ...]:
    """Excitation, inhibition, and input weights: K synapses of each kind onto every unit."""
    rng, n_e = np.random.default_rng(seed), int(F_E * n)
    e, i = np.zeros((n, n)), np.zeros((n, n))
    mu_e = 1 / (K * F_E)
    mu_i = F_E / (1 - F_E) * mu_e
    for row in range(n):
        e[row, rng.choice(n_e, K, replace=False)] = np.abs(rng.normal(mu_e, 0.2 * mu_e, K))
        i[row, n_e + rng.choice(n - n_e, K, replace=False)] = np.abs(rng.normal(mu_i, 0.2 * mu_e, K))
    given = rng.uniform(-0.5, 0.5, n) * scale * (rng.random(n) < 0.3)
    return e, i, given


def rates(e: Any, i: Any, given: Any, u: Any) -> Any:
    """The rates in every step, from rest."""

    def step(r, u):
        r = jax.nn.sigmoid(C * ((e - i) @ r + given * u))
        return r, r

    return jax.lax.scan(step, jnp.full(e.shape[0], 0.5), u)[1]


def adapted(e: Any, i: Any, given: Any, u: Any, rho: Any, deltas: tuple[float, ...] = (0.01, 0.001)) -> Any:
    """Inhibition after `A_ij += delta (r_i - rho_i)` on existing synapses, never below 0; once through `u` a delta."""
    mask = i > 0

    def through(i, delta):
        def step(carry, u):
            r, i = carry
            r = jax.nn.sigmoid(C * ((e - i) @ r + given * u))
            i = jnp.where(mask, jnp.maximum(i + delta * (r - rho)[:, None], 0.0), 0.0)
            return (r, i), None

        return jax.lax.scan(step, (rho, i), u)[0][1]

    for delta in deltas:
        i = through(i, delta)
    return i


def designed(e: Any, i: Any, given: Any, u: Any, rho: Any) -> Any:
    """Inhibition scaled row by row so that the mean drive gives every unit its target: one step."""
    need = e @ rho + given * jnp.mean(u) - jnp.log(rho / (1 - rho)) / C
    return i * jnp.maximum(need / (i @ rho), 0.0)[:, None]


def readout(x: Any, y: Any, split: int) -> Any:
    """Predictions of `y` on what lies after `split`, of a ridge regression on what lies before."""
    x = jnp.concatenate([x, jnp.ones((x.shape[0], 1))], 1)
    a = x[:split]
    w = jnp.linalg.solve(a.T @ a + 1e-6 * split * jnp.eye(x.shape[1]), a.T @ y[:split])
    return x[split:] @ w


@partial(jax.jit, static_argnames="split")
def tasks(e: Any, i: Any, given: Any, u: Any, narma: Any, split: int) -> Any:
    """Memory capacity, and the error of NARMA-10 as a share of its standard deviation."""
    x = rates(e, i, given, u)
    past = jnp.stack([jnp.roll(u, k) for k in range(1, DELAYS + 1)], 1)
    x, past, target = x[WASH:], past[WASH:], narma[WASH:]
    found = readout(x, jnp.concatenate([past, target[:, None]], 1), split)
    true = jnp.concatenate([past, target[:, None]], 1)[split:]
    centred, other = found - found.mean(0), true - true.mean(0)
    r2 = jnp.sum(centred * other, 0) ** 2 / jnp.maximum(jnp.sum(centred**2, 0) * jnp.sum(other**2, 0), 1e-12)
    error = jnp.sqrt(jnp.mean((found[:, -1] - true[:, -1]) ** 2) / jnp.var(true[:, -1]))
    return jnp.sum(r2[:-1]), error, jnp.mean(x, 0)


def signals(length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform input in -1..1, and NARMA-10 of the same numbers brought to 0..0.5."""
    u = np.random.default_rng(1000 + seed).uniform(-1, 1, length)
    y, v = np.zeros(length), (u + 1) / 4
    for t in range(10, length - 1):
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * v[t - 9] * v[t] + 0.1
    return u, np.clip(y, 0, 2)


def targets(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(2000 + seed)
    return np.clip(rng.beta(2, 2, n), 0.02, 0.98) if kind == "mixed" else np.full(n, float(kind))


def work(quick: bool) -> dict[str, Any]:
    n, length, seeds = (150, 800, 1) if quick else (400, 4000, SEEDS)
    kinds = ("0.2", "0.5", "mixed")
    with jax.enable_x64(True):
        found = [case(n, length, scale, seed, kinds) for scale in SCALES for seed in range(seeds)]
    rows: list[tuple] = [("input scale", "network", "memory capacity", "NARMA-10 error", "largest error of a rate")]
    for scale in SCALES:
        of = [x for x in found if x["scale"] == scale]
        for name in of[0]["networks"]:
            own = [x["networks"][name] for x in of]
            off = spread(x["rate_error"] for x in own) if "rate_error" in own[0] else "-"
            rows.append((scale, name, spread(x["memory"] for x in own), spread(x["narma"] for x in own), off))
    return {"units": n, "steps": length, "gains": list(GAINS), "cases": found, "table": rows}


def case(n: int, length: int, scale: float, seed: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    """All networks for one input and one seed."""
    e, i, given = map(jnp.asarray, wiring(n, scale, seed))
    u, narma = map(jnp.asarray, signals(length, seed))
    split = 2 * (length - WASH) // 3

    def scored(i, rho=None):
        memory, error, mean = tasks(e, i, given, u, narma, split=split)
        out = {"memory": float(memory), "narma": float(error)}
        return out if rho is None else out | {"rate_error": float(jnp.max(jnp.abs(mean - rho)))}

    sweep = [scored(g * i) for g in GAINS]
    networks = {"balanced, not tuned": scored(i), "one gain, tuned": max(sweep, key=lambda x: x["memory"])}
    for kind in kinds:
        rho = jnp.asarray(targets(kind, n, seed))
        networks[f"adapted, rates {kind}"] = scored(adapted(e, designed(e, i, given, u, rho), given, u, rho), rho)
    rho = jnp.full(n, 0.2)
    networks["designed in one step, rates 0.2"] = scored(designed(e, i, given, u, rho), rho)
    memory = [x["memory"] for x in sweep]
    best = GAINS[int(np.argmax(memory))]
    return {"scale": scale, "seed": seed, "best_gain": best, "sweep": memory, "networks": networks}


def figure(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(SCALES), figsize=(9, 3), layout="constrained", sharey=True)
    for ax, scale in zip(axes, SCALES):
        of = [x for x in results["cases"] if x["scale"] == scale]
        ax.semilogx(results["gains"], np.mean([x["sweep"] for x in of], 0), "k.-", label="one gain for all")
        for k, name in enumerate([x for x in of[0]["networks"] if x.startswith("adapted")]):
            ax.axhline(np.mean([x["networks"][name]["memory"] for x in of]), color=f"C{k}", label=name)
        ax.set(title=f"input scale {scale}", xlabel="gain of inhibition")
    axes[0].set(ylabel="memory capacity")
    axes[0].legend(fontsize=6)
    fig.savefig(path, dpi=90)


def main() -> None:
    command(HERE, __doc__ or "", work, figure)
