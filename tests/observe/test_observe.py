"""What instruments see, against closed forms and the responses of scipy's integrators."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim import observe

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "fields.json").read_text())
RTOL = 1e-4  # of the peak, what is promised; the steps of 5 ms give better
SETS = {
    "bold_friston2003": observe.Balloon.friston_2003,
    "bold_stephan2007_output": observe.Balloon.stephan_2007,
    "bold_spm2010": observe.Balloon.spm_2010,
}
DT = 5.0  # ms


def _drives():
    t = (np.arange(round(50e3 / DT)) + 0.5) * DT
    return np.stack([np.ones_like(t), 1.0 * (t < 1e3), 0.2 * (t < 20e3)], axis=1)


@pytest.mark.usefixtures("x64")
def test_bold_responses():
    z, drives = _drives(), ["step_1_forever", "box_1s_amplitude_1", "box_20s_amplitude_0.2"]
    balloons = [make() for make in SETS.values()]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *balloons)
    signals = jax.jit(jax.vmap(lambda b: observe.bold(z, dt=DT, tr=DT, balloon=b)))(stacked)
    for signal, name in zip(signals, SETS, strict=True):
        for k, drive in enumerate(drives):
            golden = GOLDEN[name]["responses"][drive]
            peak = golden["peak"]
            at = [round(float(t) * 1e3 / DT) - 1 for t in golden["samples"]]
            expected = list(golden["samples"].values())
            np.testing.assert_allclose(signal[at, k], expected, rtol=0, atol=RTOL * peak, err_msg=f"{name} {drive}")
            np.testing.assert_allclose(jnp.max(signal[:, k]), peak, rtol=RTOL)
            assert abs((int(jnp.argmax(signal[:, k])) + 1) * DT * 1e-3 - golden["peak_s"]) < 0.01
    undershoot = GOLDEN["bold_friston2003"]["responses"]["box_1s_amplitude_1"]["minimum_after_peak"]
    np.testing.assert_allclose(jnp.min(signals[0, :, 1]), undershoot, rtol=1e-3)


@pytest.mark.usefixtures("x64")
def test_gradient_of_bold_against_differences():
    z = jnp.asarray(_drives()[::4, :2])

    def loss(gain, kappa):
        balloon = observe.Balloon.friston_2003()
        balloon = observe.Balloon(
            kappa,
            *(getattr(balloon, k) for k in ("gamma", "tau", "alpha", "rho")),
            k1=balloon.k1,
            k2=balloon.k2,
            k3=balloon.k3,
            V0=balloon.V0,
        )
        return jnp.mean(observe.bold(gain * z, dt=20.0, tr=1000.0, balloon=balloon) ** 2)

    value = jax.jit(loss)
    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(0.7, 0.65)
    h = 1e-5
    np.testing.assert_allclose(grads[0], (value(0.7 + h, 0.65) - value(0.7 - h, 0.65)) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(grads[1], (value(0.7, 0.65 + h) - value(0.7, 0.65 - h)) / (2 * h), rtol=1e-6)


def test_bold_refuses_times_that_do_not_fit():
    with pytest.raises(ValueError, match="expected a multiple of dt"):
        observe.bold(jnp.zeros((100, 2)), dt=10.0, tr=725.0)
    with pytest.raises(ValueError, match="do not fill a volume"):
        observe.bold(jnp.zeros((10, 2)), dt=10.0, tr=720.0)


HEADS = {
    "eeg_sphere_homogeneous": ((90.0,), (0.33,)),
    "eeg_sphere_3_shells": ((80.0, 85.0, 90.0), (0.33, 0.0042, 0.33)),
    "eeg_sphere_4_shells": ((79.0, 80.0, 85.0, 90.0), (0.33, 1.79, 0.0042, 0.33)),
}


@pytest.mark.parametrize("name", HEADS)
def test_eeg_of_a_dipole(name):
    golden, (radii, sigma) = GOLDEN[name], HEADS[name]
    where, electrodes = np.array([golden["dipole_position_m"]]) * 1e3, np.array(golden["electrodes_m"]) * 1e3
    lead = observe.eeg_lead_field(where, electrodes, radii=radii, conductivity=sigma)
    v = lead[:, 0] @ (jnp.asarray(golden["dipole_Am"]) * 1e9)
    np.testing.assert_allclose(v, np.array(golden["V"]) * 1e6, rtol=RTOL)


def test_equal_shells_are_the_homogeneous_sphere():
    rng = np.random.default_rng(0)
    where, electrodes = rng.normal(size=(5, 3)) * 20, rng.normal(size=(7, 3))
    electrodes *= 90 / np.linalg.norm(electrodes, axis=1, keepdims=True)
    electrodes[0], where[0], where[1] = [0, 0, 90], [0, 0, 40], [0, 0, 0]  # above the dipole, and at the centre
    one = observe.eeg_lead_field(where, electrodes)
    shells = observe.eeg_lead_field(where, electrodes, radii=(80, 85, 90), conductivity=(0.33, 0.33, 0.33))
    np.testing.assert_allclose(shells, one, rtol=1e-4, atol=1e-6)


def test_meg_of_a_dipole():
    golden = GOLDEN["meg_sphere"]
    where, sensors = np.array([golden["dipole_position_m"]]) * 1e3, np.array(golden["sensors_m"]) * 1e3
    lead = observe.meg_lead_field(where, sensors)
    b = lead[:, 0] @ (jnp.asarray(golden["dipole_Am"]) * 1e9)
    np.testing.assert_allclose(b, np.array(golden["B_T"]) * 1e15, rtol=RTOL)
    radial = observe.meg_lead_field(where, sensors, orientations=where / np.linalg.norm(where))
    np.testing.assert_allclose(radial, 0.0, atol=1e-5 * float(jnp.max(jnp.abs(lead))))


def test_places_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="dipole 0 lies 91 mm"):
        observe.eeg_lead_field([[0, 0, 91.0]], [[0, 0, 90.0]])
    with pytest.raises(ValueError, match="electrode 0 lies 50 mm from the centre, inside the head"):
        observe.eeg_lead_field([[0, 0, 10.0]], [[0, 0, 50.0]])


def test_downsampling_keeps_what_is_slow_and_drops_what_is_fast():
    t = jnp.linspace(0.0, 4.0, 4000, endpoint=False)
    slow, fast = jnp.sin(2 * jnp.pi * 5 * t), jnp.sin(2 * jnp.pi * 80 * t)
    x = observe.downsample(jnp.stack([slow, fast], axis=1), 10)  # to 100 Hz: Nyquist 50 Hz
    inner = slice(20, -20)
    np.testing.assert_allclose(x[inner, 0], slow[::10][inner], atol=5e-3)  # the ripple of a Hamming window
    assert float(jnp.max(jnp.abs(x[inner, 1]))) < 5e-3
    with pytest.raises(ValueError, match="factor is 0"):
        observe.downsample(x, 0)


def test_a_balloon_is_a_node():
    net = bs.Network({"B": bs.Population(observe.Balloon.friston_2003(), 3, i_e=jnp.asarray([0.0, 0.5, 1.0]))})
    sol = bs.simulate(net, t1=4000.0, dt=10.0, key=jax.random.key(0))
    signal = net.nodes["B"].unit.signal(sol.state.nodes["B"].y["unit"])
    expected = observe.bold(jnp.broadcast_to(jnp.asarray([0.0, 0.5, 1.0]), (400, 3)), dt=10.0, tr=4000.0)[0]
    np.testing.assert_allclose(signal, expected, rtol=2e-3)  # two solvers at 10 ms
