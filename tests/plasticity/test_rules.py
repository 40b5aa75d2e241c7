"""Rules whose synapses are visited at events only, against all synapses in every step."""

import jax
import numpy as np
import pytest

import brainsim as bs

from .parts import DT, run, told

N = 2500
RNG = np.random.default_rng(7)
PRE = [sorted(RNG.choice(N - 1, 12, replace=False)) for _ in range(3)]
POST = [sorted(RNG.choice(N - 1, 12, replace=False)) for _ in range(2)]
S, F = (np.array([[n in t for t in trains] for n in range(N)], float) for trains in (PRE, POST))
KEEP = {tau: np.exp(-DT / tau) for tau in (20.0, 15.0, 10.0, 7.0, 100.0, 500.0, 1000.0)}


def rules():
    """By name the rule and the options of its edge."""
    pair = bs.PairSTDP(a_plus=0.02, a_minus=0.01, w_max=9.0)
    calcium = bs.GraupnerBrunel(tau=5e3)
    reward = bs.RewardSTDP(tau_e=500.0, a_plus=0.02, a_minus=0.01, w_min=-9.0, w_max=9.0)
    return {
        "reward": (reward, dict(modulator="M.v")),
        "scaled": (bs.SynapticScaling(pair, rate=[20.0, 80.0], tau=100.0, beta=1e-4), {}),
        "calcium": (calcium, {}),
        "calcium_pre": (calcium, dict(first="pre")),
        "oja": (bs.Oja(eta=0.05), {}),
        "bcm": (bs.BCM(eta=0.05, tau_theta=500.0), {}),
        "clopath": (bs.ClopathSTDP(w_max=9.0), {}),
    }


@pytest.fixture(scope="module")
def states():
    """The final state of every edge, and the modulator in every step."""
    with jax.enable_x64(True):
        edges = {
            name: bs.PlasticProjection("A", "B.syn", bs.AllToAll(), weight=0.4, rule=rule, **options)
            for name, (rule, options) in rules().items()
        }
        m = bs.Population(bs.LeakyIntegrator(tau_m=100.0, e_l=0.0), 1, i_e=0.1, init={"v": -0.02})
        sol = run(told(PRE, POST, edges, M=m), N, [bs.Trace("M.v")])
        return sol.state.edges, np.asarray(sol["M.v"])[:, 0]


def traces(tau, events):
    """The trace of every unit before the events of each step."""
    x, out = np.zeros(events.shape[1]), []
    for s in events:
        x = x * KEEP[tau]
        out.append(x)
        x = x + s
    return np.array(out)


def now(z, name):
    return np.asarray(z[name]).reshape(3, 2)


def test_reward_turns_eligibility_into_weight(states):
    z, m = states[0]["reward"], states[1]
    x, y = traces(20.0, S), traces(20.0, F)
    w, e = np.full((3, 2), 0.4), np.zeros((3, 2))
    for n in range(N):
        e = e * KEEP[500.0]
        w = w + DT * m[n] * e
        e = e + 0.02 * np.outer(x[n], F[n]) - 0.01 * np.outer(S[n], y[n])
    seen = now(z, "w") + now(z, "e") * (np.asarray(z["q"])[:, None] - now(z, "seen"))
    np.testing.assert_allclose(seen, w, rtol=1e-9)
    assert np.ptp(w) > 0.1


def test_scaling_is_one_factor_beside_the_other_rule(states):
    z = states[0]["scaled"]
    x, y, rate = traces(20.0, S), traces(20.0, F), traces(100.0, F)
    w = np.full((3, 2), 0.4)
    for n in range(N):
        w = w * np.exp(DT * 1e-4 * (np.array([20.0, 80.0]) - 1e3 * rate[n] / 100.0))
        w = np.clip(w + 0.02 * np.outer(x[n], F[n]), 0, 9)
        w = np.clip(w - 0.01 * np.outer(S[n], y[n]), 0, 9)
    seen = now(z, "w") * np.exp(np.asarray(z["factor"])[None] - now(z, "scaled"))
    np.testing.assert_allclose(seen, w, rtol=1e-9)


@pytest.mark.parametrize("name", ["calcium", "calcium_pre"])
def test_calcium_moves_the_efficacy_in_closed_form(states, name):
    fine, gp, gd, tau = 40, 321.808, 200.0, 5e3
    rho, c, h = np.full((3, 2), 0.4), np.zeros((3, 2)), DT / fine
    last = np.full((3, 2), 0.4)
    for n in range(N):
        for _ in range(fine):
            c = c * np.exp(-h / 20.0)
            rho = rho + h / tau * (-rho * (1 - rho) * (0.5 - rho) + gp * (1 - rho) * (c > 1.3) - gd * rho * (c > 1.0))
        hit = (S[n][:, None] > 0) | (F[n][None] > 0)
        c = c + S[n][:, None] + 2.0 * F[n][None]
        last = np.where(hit, rho, last)
    assert np.max(np.abs(last - 0.4)) > 0.2
    np.testing.assert_allclose(now(states[0][name], "w"), last, atol=2e-3)


def test_oja(states):
    x, y, w = traces(100.0, S), traces(100.0, F), np.full((3, 2), 0.4)
    for n in range(N):
        w = np.where(F[n] > 0, np.clip(w + 0.05 * (x[n][:, None] - y[n] * w), 0, 1), w)
    np.testing.assert_allclose(now(states[0]["oja"], "w"), w, rtol=1e-10)


def test_bcm(states):
    x, y, w, theta = traces(100.0, S), traces(100.0, F), np.full((3, 2), 0.4), np.zeros(2)
    for n in range(N):
        theta = theta + (y[n] ** 2 - theta) * (1 - KEEP[500.0])
        w = np.where(F[n] > 0, np.clip(w + 0.05 * x[n][:, None] * (y[n] - theta), 0, 1), w)
    np.testing.assert_allclose(now(states[0]["bcm"], "w"), w, rtol=1e-10)


def test_clopath(states):
    x, w = traces(15.0, S), np.full((3, 2), 0.4)
    low = high = -70.6  # of a potential that is 0 at the end of every step
    for n in range(N):
        low, high = low * KEEP[10.0], high * KEEP[7.0]
        w = w + 8e-5 / 15.0 * x[n][:, None] * DT * 45.3 * max(high + 70.6, 0)
        w = np.clip(w - 14e-5 * S[n][:, None] * max(low + 70.6, 0), 0, 9)
    np.testing.assert_allclose(now(states[0]["clopath"], "w"), w, rtol=1e-9)
    assert np.max(np.abs(w - 0.4)) > 0.01


def test_a_double_well_has_two_stable_states():
    with jax.enable_x64(True):
        rule, rho = bs.GraupnerBrunel(tau=5e3), np.asarray([0.1, 0.49, 0.5, 0.51, 0.9])
        far = np.asarray([float(rule._after(_Syn(r), 0.0, 5e5)["w"]) for r in rho])
    np.testing.assert_allclose(far, [0, 0, 0.5, 1, 1], atol=1e-6)


class _Syn:
    c = 0.0

    def __init__(self, w):
        self.w = w
