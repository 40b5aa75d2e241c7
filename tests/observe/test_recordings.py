"""What instruments record within a run, against the same functions of a recorded run."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import observe

KEY = jax.random.key(0)
DT = 0.5  # ms
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "fields.json").read_text())
LEAD = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
MASSES = (bs.Trace("R.S"), bs.Events("R"))


@pytest.fixture(scope="module")
def masses():
    cells = bs.Population(bs.ReducedWongWang(I_0=0.32), 4, {"net": bs.CouplingPort()}, init={"S": [0.1, 0.2, 0.3, 0.4]})
    pre, post = np.nonzero(1 - np.eye(4))
    edge = bs.Coupling("R", "R", bs.FromCOO(pre, post), weight=0.03, lengths=10.0, speed=3.0)
    return bs.Network({"R": cells}, {"RR": edge})


@pytest.fixture(scope="module")
def cells():
    ports = {"exc": bs.ExpCond(tau=2.0, e_rev=0.0), "inh": bs.ExpCond(tau=5.0, e_rev=-80.0)}
    rule = bs.FixedProbability(0.2)
    edges = {
        "e": bs.Projection("P[:24]", "P.exc", rule, weight=0.6, delay=1.0),
        "i": bs.Projection("P[24:]", "P.inh", rule, weight=3.0, delay=1.0),
    }
    return bs.Network({"P": bs.Population(bs.LIF(), 30, ports, i_e=400.0)}, edges, key=KEY)


def _instruments():
    return [
        observe.BOLD([(0.5, "R.S")], every=100),
        observe.EEG("R.S", LEAD, every=20),
        observe.Downsampled("R.S", every=10, half_width=4, name="slow"),
        observe.Downsampled(observe.EEG("R.S", LEAD), every=20, half_width=3, name="slow EEG"),
    ]


KEYS = ("BOLD", "EEG", "slow", "slow EEG")


def test_they_are_the_functions_of_what_was_recorded(masses):
    run = lambda saveat: bs.simulate(masses, t1=200.0, dt=DT, key=KEY, saveat=saveat)  # noqa: E731
    whole, S = run(_instruments()), run([bs.Trace("R.S")])["R.S"]
    z = 0.5 * S.reshape(-1, 10, 4).mean(1)
    np.testing.assert_allclose(whole["BOLD"], observe.bold(z, dt=5.0, tr=50.0), rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(whole["EEG"], S[19::20] @ LEAD.T, rtol=1e-5, atol=1e-6)
    # downsample begins with the first sample and looks ahead; the recording ends windows and comes later
    for key, x, every, half in (("slow", S, 10, 4), ("slow EEG", S @ LEAD.T, 20, 3)):
        late = observe.downsample(x[every - 1 :], every, half_width=half)
        np.testing.assert_allclose(whole[key][2 * half :], late[half:-half], rtol=1e-4, atol=1e-5)
        assert np.all(np.abs(whole[key][0] - x[0]) < np.abs(x[9] - x[0]) + 1e-6)  # no transient from 0
    np.testing.assert_allclose(whole.times("BOLD"), 50.0 * np.arange(1, 5))


@pytest.mark.optimised
def test_a_run_in_pieces_has_the_same_bits(masses, tmp_path):
    kept = _instruments()
    whole = bs.simulate(masses, t1=300.0, dt=DT, key=KEY, saveat=kept)
    first = bs.simulate(masses, t1=100.0, dt=DT, key=KEY, saveat=kept)
    rest = bs.simulate(masses, t1=300.0, dt=DT, state=first.state, saveat=kept)
    given = dict(t1=300.0, chunk=100.0, dt=DT, key=KEY, saveat=kept, progress=False)
    last = bs.stream(masses, sink=bs.Directory(tmp_path), **given)
    stored = bs.StoredRun(tmp_path)
    for key in KEYS:
        assert np.array_equal(whole[key], np.concatenate([first[key], rest[key]])), key
        assert np.array_equal(whole[key], stored[key]), key
    for a, b in zip(jax.tree.leaves(whole.state.recordings), jax.tree.leaves(last.recordings), strict=True):
        assert np.array_equal(a, b)


def test_gradients_against_differences(masses, x64):
    """In the activity, the balloon, the lead field and a factor, through checkpointed segments."""
    lead = LEAD.astype(jnp.float64)

    def loss(p):
        net = eqx.tree_at(lambda n: n.nodes["R"].unit.I_0, masses, p["I_0"])
        balloon = eqx.tree_at(lambda b: b.tau, observe.Balloon.friston_2003(), p["tau"])
        net = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, net)
        kept = [
            observe.BOLD([(p["factor"], "R.S")], every=100, balloon=balloon),
            observe.Downsampled(observe.EEG("R.S", p["lead"] * lead), every=20, half_width=3, name="EEG"),
        ]
        sol = bs.simulate(net, t1=150.0, dt=DT, key=KEY, saveat=kept)
        return 1e3 * jnp.mean(sol["BOLD"] ** 2) + 1e-3 * jnp.mean(sol["EEG"] ** 2)

    at = {"I_0": 0.32, "tau": 0.98, "factor": 0.5, "lead": 1.0}
    at = {k: jnp.asarray(x) for k, x in at.items()}
    value, slope = jax.jit(loss), jax.jit(jax.grad(loss))(at)
    for name, x in at.items():
        up, down = (value(at | {name: x + s * 1e-5}) for s in (1, -1))
        np.testing.assert_allclose(slope[name], (up - down) / 2e-5, rtol=1e-5, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_bold_of_a_source_is_golden():
    """A second of drive, through the whole run."""
    golden = GOLDEN["bold_friston2003"]["responses"]["box_1s_amplitude_1"]
    drive = bs.Population(bs.operators.OperatorField(jnp.zeros_like, 1, tau=1e9), 1, init={"u": [1.0]})
    net = bs.Network({"R": drive})
    begin = bs.simulate(net, t1=1000.0, dt=1.0, key=KEY, saveat=[observe.BOLD("R.u", every=10)])
    off = eqx.tree_at(lambda s: s.nodes["R"].y["unit"]["u"], begin.state, jnp.zeros(1))
    after = bs.simulate(net, t1=20e3, dt=1.0, state=off, saveat=[observe.BOLD("R.u", every=10)])
    signal = np.concatenate([begin["BOLD"], after["BOLD"]])[:, 0]
    at = {float(t): x for t, x in golden["samples"].items() if 0 < float(t) <= 20}
    assert len(at) > 3
    got = [signal[round(t * 100) - 1] for t in at]
    np.testing.assert_allclose(got, list(at.values()), rtol=0, atol=1e-4 * golden["peak"])
    np.testing.assert_allclose(signal.max(), golden["peak"], rtol=1e-4)


def test_the_lfp_of_point_neurons(cells):
    kept = [bs.Current("P[:24].exc", name="E"), bs.Current("P[:24].inh", name="I")]
    lfp = [observe.LFP("P[:24]", every=5, delay=6.0), observe.Downsampled(observe.LFP("P[:24]"), every=5, name="slow")]
    sol = bs.simulate(cells, t1=60.0, dt=0.1, key=KEY, saveat=kept + lfp)
    E, I = np.asarray(sol["E"]).sum(1), np.asarray(sol["I"]).sum(1)
    assert E.max() > 0
    assert I.min() < 0
    late = np.concatenate([np.zeros(60), E])[: E.size]
    scale = np.abs(E).max()
    np.testing.assert_allclose(sol["LFP"], (late - 1.65 * I)[4::5], atol=1e-5 * scale)
    filtered = observe.downsample(jnp.asarray((late - 1.65 * I)[4:]), 5)[10:-10]
    np.testing.assert_allclose(sol["slow"][20:], filtered, atol=1e-4 * scale)


def test_bold_of_spikes(cells):
    """Rates and their sums are seen in Hz."""
    seen = [(0.01, bs.Rate("P[:24]")), (-0.005, bs.Rate("P[24:]"))]
    sol = bs.simulate(cells, t1=60.0, dt=0.1, key=KEY, saveat=[observe.BOLD(seen, every=200), *(r for _, r in seen)])
    z = 0.01 * sol["P[:24].rate"] - 0.005 * sol["P[24:].rate"]
    z = jnp.asarray(z).reshape(-1, 50).mean(1)[:, None]
    assert float(jnp.max(z)) > 0
    np.testing.assert_allclose(sol["BOLD"], observe.bold(z, dt=5.0, tr=20.0)[:, 0], rtol=1e-4, atol=1e-8)


def test_what_cannot_be_seen_is_refused(masses, cells):
    with pytest.raises(ValueError, match=r"BOLD\.every is 0"):
        observe.BOLD("R.S", every=0)
    with pytest.raises(TypeError, match="of is 3; expected a variable such as"):
        observe.BOLD(3, every=10)
    with pytest.raises(ValueError, match="with every = 5; expected every = 1"):
        observe.BOLD(bs.Trace("R.S", every=5), every=10)
    with pytest.raises(TypeError, match="of adds up LFP, which has a state"):
        observe.BOLD([(1.0, observe.LFP("P"))], every=10)
    with pytest.raises(ValueError, match="is of 4 sources"):
        bs.simulate(cells, t1=1.0, key=KEY, saveat=[observe.EEG("P.v", LEAD)])
    with pytest.raises(ValueError, match="does not exist"):
        bs.simulate(masses, t1=10.0, dt=DT, key=KEY, saveat=[observe.BOLD("R.x", every=10)])
    with pytest.raises(ValueError, match="does not divide the 30 steps"):
        bs.simulate(masses, t1=15.0, dt=DT, key=KEY, saveat=[observe.BOLD("R.S", every=20)])
