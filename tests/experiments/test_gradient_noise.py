"""What the experiment on gradient noise claims, from its committed results."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.gradient_noise.run import GAMMA, PASSED, at_once, rectifier_start, rectifiers

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/gradient_noise/results.json"
SAMPLING = 0.05  # relative standard error of a variance of 20,000 normal numbers: 0.01


def test_the_noise_of_optax_is_that_of_the_source_and_adds_up_to_what_is_given_at_once():
    eta, rate, steps, zero = 0.3, 0.1, 40, jnp.zeros(20_000)
    noise = optax.add_noise(eta, GAMMA, jax.random.key(0))
    state, total = noise.init(zero), zero
    for t in range(steps):
        with jax.numpy_dtype_promotion("standard"):  # optax raises a whole number to the power gamma
            g, state = noise.update(zero, state)
        total = total - rate * g
        if t in (0, 3, steps - 1):
            np.testing.assert_allclose(jnp.var(g), eta / (1 + t) ** GAMMA, rtol=SAMPLING)
    moved = at_once({"w": zero}, jax.random.key(1), rate, eta, steps)["w"]
    np.testing.assert_allclose(jnp.var(moved), jnp.var(total), rtol=SAMPLING)


def test_the_poor_start_passes_nothing_on_through_20_layers():
    x = jax.random.uniform(jax.random.key(0), (196,))
    spread = [jnp.std(rectifiers(rectifier_start(196, d, jax.random.key(1)), x)) for d in (0.1, None)]
    assert spread[0] < 1e-4 < 1e-2 < spread[1]


def test_the_committed_run_says_what_the_readme_does():
    results = json.loads(RESULTS.read_text())
    assert not results["quick"]
    for net in results["nets"].values():
        for made in net["conditions"].values():
            assert len(made["train_accuracy"]) == net["seeds"]
            assert made["passed"] == pytest.approx(np.mean(np.asarray(made["train_accuracy"]) > PASSED))
    tried = results["nets"]["20 layers of rectifiers, MNIST"]["conditions"]
    assert len(tried["poor start"]["train_accuracy"]) == 20
    assert tried["poor start"]["passed"] == 0.0
    assert tried["poor start, noise"]["passed"] >= 0.8
