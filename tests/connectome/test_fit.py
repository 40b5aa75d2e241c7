"""Parameters shared by type, through a gather: their gradients, and a fit to rates of named neurons."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import brainsim as bs
from brainsim import train

N, T1 = 90, 100.0
TYPES = np.repeat(["drive", "relay", "stop"], N // 3)


@pytest.fixture(scope="module")
def brain():
    rng = np.random.default_rng(0)
    pre, post = rng.integers(0, N, (2, 1500))
    edges = {"pre_row": pre, "post_row": post, "count": rng.integers(1, 6, 1500)}
    edges["sign"] = np.where(TYPES == "stop", -1, 1)[pre]
    return bs.Connectome({"id": np.arange(N), "type": TYPES}, edges)


class ByType(eqx.Module):
    """A network whose weights, thresholds and time constants are shared by type."""

    gain: Array  # of each pair of types
    v_th: Array  # of each type
    tau_m: Array
    net: bs.Network
    type_of: Array
    pair_of: Array
    synapses: Array

    def __init__(self, brain):
        types, type_of = brain.groups("type")
        pairs, pair_of = brain.pairs("type")
        self.type_of, self.pair_of, self.synapses = map(jnp.asarray, (type_of, pair_of, brain.weight))
        self.gain, self.v_th, self.tau_m = jnp.full(len(pairs), 0.1), jnp.ones(len(types)), jnp.full(len(types), 10.0)
        unit = bs.CubaLIF(tau_syn=3.0, tau_m=np.full(N, 10.0), v_th=np.ones(N), t_ref=2.0)
        drive = np.where(TYPES == "drive", 1.5, 0.8)
        cells = bs.Population(unit, N, {"g": bs.Delta("i")}, i_e=drive, init={"v": bs.Uniform(0.0, 1.0)})
        wiring = bs.Projection("brain", "brain.g", brain.connect, weight=brain.weight, delay=1.8)
        self.net = bs.Network({"brain": cells}, {"wiring": wiring})

    def rates(self, by: Array) -> Array:
        """Mean rate (Hz) of every type."""
        unit = self.net.nodes["brain"].unit
        of_cell = self.v_th[self.type_of], self.tau_m[self.type_of]
        unit = eqx.tree_at(lambda u: (u.v_th, u.tau_m), unit, of_cell)
        weight = self.synapses * self.gain[self.pair_of]
        net = eqx.tree_at(lambda n: (n.nodes["brain"].unit, n.edges["wiring"].weight), self.net, (unit, weight))
        sol = bs.simulate(net, t1=T1, dt=0.2, key=jax.random.key(0), saveat=[bs.Events("brain")])
        return by @ sol["brain.events"].sum(0) / (N // 3) * (1e3 / T1)


BY = jnp.asarray([name == TYPES for name in np.unique(TYPES)], jnp.float32)


def test_groups_and_pairs_line_up_with_neurons_and_edges(brain):
    types, of = brain.groups()
    assert types.tolist() == ["drive", "relay", "stop"]
    assert types[of].tolist() == TYPES.tolist()
    pairs, of = brain.pairs()
    assert pairs[of].tolist() == np.stack([TYPES[brain.pre], TYPES[brain.post]], 1).tolist()
    assert len(pairs) == len({tuple(pair) for pair in pairs.tolist()})
    with pytest.raises(ValueError, match="no column 'kind'"):
        brain.pairs("kind")


def test_a_gradient_by_type_is_the_sum_over_its_neurons(brain):
    model = ByType(brain)

    def spikes(unit_v_th, per_type):
        v_th = unit_v_th + per_type[model.type_of]
        net = eqx.tree_at(lambda n: n.nodes["brain"].unit.v_th, model.net, v_th)
        weight = 0.1 * model.synapses
        net = eqx.tree_at(lambda n: n.edges["wiring"].weight, net, weight)
        sol = bs.simulate(net, t1=20.0, dt=0.2, key=jax.random.key(0), saveat=[bs.Events("brain")])
        return sol["brain.events"].sum()

    cells, types = jax.grad(spikes, (0, 1))(jnp.ones(N), jnp.zeros(3))
    summed = np.zeros(3)
    np.add.at(summed, np.asarray(model.type_of), np.asarray(cells))
    assert np.abs(cells).max() > 0
    np.testing.assert_allclose(types, summed, rtol=1e-4)


@pytest.mark.slow
def test_a_fit_of_gains_thresholds_and_time_constants_reaches_the_rates_of_types(brain):
    start = ByType(brain)
    aim = eqx.tree_at(
        lambda m: (m.gain, m.v_th, m.tau_m),
        start,
        (
            start.gain * jnp.linspace(0.3, 1.8, start.gain.size),
            jnp.asarray([1.1, 0.9, 1.2]),
            jnp.asarray([8.0, 14.0, 10.0]),
        ),
    )
    wanted, before = aim.rates(BY), start.rates(BY)
    assert float(jnp.min(wanted)) > 5.0
    bounds = {"gain": train.Log(0.005, 1.0), "v_th": (0.5, 2.0), "tau_m": (5.0, 30.0)}
    loss = lambda m: jnp.mean(((m.rates(BY) - wanted) / 10.0) ** 2)  # noqa: E731
    fitted = train.fit(start, loss, bounds, steps=40, progress=False)
    off, were = (np.abs(np.asarray(x - wanted)).max() for x in (fitted.net.rates(BY), before))
    assert were > 5.0
    assert off < min(2.0, 0.2 * were)
