"""Couplings over tracts: against a plain delayed loop, of order 2, differentiable, resumable, with a past."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import same

N = 36  # enough for the fused pass
SPEED = 3.0
RNG = np.random.default_rng(0)
PRE, POST = np.nonzero(RNG.random((N, N)) < 0.2)
WEIGHT = RNG.uniform(0.2, 1.0, PRE.size) / 7
LENGTHS = RNG.uniform(3.0, 30.0, PRE.size)
START = RNG.uniform(0.0, 0.3, N)
EXACT = 1e-12  # of values near 0.3: some hundred roundings
LIST = bs.FromCOO(PRE, POST)


def _net(**given):
    cells = bs.Population(bs.WilsonCowan(), N, {"net": bs.CouplingPort()}, init={"E": START})
    given = {"weight": WEIGHT, "lengths": LENGTHS, "speed": SPEED} | given
    return bs.Network({"R": cells}, {"long": bs.Coupling("R", "R", LIST, **given)})


def _phases(**given):
    port = {"net": bs.PairPort("theta")}
    omega = np.linspace(0.2, 0.3, N)
    cells = bs.Population(bs.Kuramoto(omega), N, port, init={"theta": 6.0 * START})
    given = {"function": bs.sinusoidal, "weight": WEIGHT, "lengths": LENGTHS, "speed": SPEED} | given
    return bs.Network({"R": cells}, {"long": bs.PairCoupling("R", "R", LIST, **given)})


def _heun(field, y, dt):
    k1 = field(y)
    return y + 0.5 * dt * (k1 + field(y + dt * k1))


def _delayed(past, k):
    """Values of pre units that are `k` + x steps old, between two samples; past[0] is the newest."""
    whole = np.floor(k).astype(int)
    share = k - whole
    return (1 - share) * past[whole, PRE] + share * past[whole + 1, PRE]


def _plain_masses(steps, dt, lengths=LENGTHS, history=None):
    unit = bs.WilsonCowan()
    field = jax.jit(lambda y, c: jnp.stack(list(unit.vector_field({"E": y[0], "I": y[1]}, {}, c).values())))
    y = np.stack([START, np.full(N, 0.05)])
    k = lengths / SPEED / dt
    line = int(np.ceil(k.max())) + 3
    past = np.broadcast_to(START, (line, N)).copy() if history is None else history[:line].copy()
    for _ in range(steps):
        c = np.zeros(N)
        # the mean of the two ends of the step: x(t - d) and x(t + dt - d)
        np.add.at(c, POST, WEIGHT * 0.5 * (_delayed(past, k) + _delayed(past, k - 1)))
        y = _heun(lambda y, c=c: np.asarray(field(y, c)), y, dt)
        past = np.concatenate([y[:1], past[:-1]])
    return y


def _run(net, t1, dt, **given):
    return bs.simulate(net, t1=t1, dt=dt, key=jax.random.key(0), **given)


@pytest.mark.usefixtures("x64")
def test_a_plain_delayed_loop_gives_the_same():
    sol = _run(_net(), 20.0, 0.1)
    y = sol.state.nodes["R"].y["unit"]
    np.testing.assert_allclose(np.stack([y["E"], y["I"]]), _plain_masses(200, 0.1), rtol=0, atol=EXACT)
    history = np.random.default_rng(1).uniform(0, 0.3, (150, N))
    y = _run(_net(history=history), 5.0, 0.1).state.nodes["R"].y["unit"]
    np.testing.assert_allclose(y["E"], _plain_masses(50, 0.1, history=history)[0], rtol=0, atol=EXACT)


@pytest.mark.usefixtures("x64")
def test_rounded_delays_are_those_of_the_grid():
    on_grid = np.round(LENGTHS / SPEED, 1) * SPEED
    y = _run(_net(rounded=True), 10.0, 0.1).state.nodes["R"].y["unit"]
    np.testing.assert_allclose(y["E"], _plain_masses(100, 0.1, on_grid)[0], rtol=0, atol=EXACT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make, variable", [(_net, "E"), (_phases, "theta")], ids=["Coupling", "PairCoupling"])
def test_order_two_in_dt(make, variable):
    def end(dt):
        return np.asarray(_run(make(), 12.0, dt).state.nodes["R"].y["unit"][variable])

    steps = [0.2, 0.1, 0.05]
    values = [end(dt) for dt in [*steps, 0.0125]]
    errors = [np.max(np.abs(v - values[-1])) for v in values[:-1]]
    # the reference is off by 1/16 of the smallest error
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) < 0.15), (errors, orders)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make, variable", [(_net, "E"), (_phases, "theta")], ids=["Coupling", "PairCoupling"])
def test_gradients_in_speed_weights_and_lengths(make, variable):
    net = make(max_delay=12.0)
    edge = lambda net: net.edges["long"]  # noqa: E731

    def loss(speed, gain, longer):
        put = (speed, gain * WEIGHT, LENGTHS + longer)
        now = eqx.tree_at(lambda net: (edge(net).speed, edge(net).weight, edge(net).lengths), net, put)
        return jnp.mean(_run(now, 6.0, 0.1).state.nodes["R"].y["unit"][variable] ** 2)

    at = (jnp.asarray(3.0), jnp.asarray(1.0), jnp.asarray(0.0))
    grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*at)
    value, h = jax.jit(loss), 1e-6
    for k in range(3):
        up, down = ([x + s * h * (i == k) for i, x in enumerate(at)] for s in (1, -1))
        np.testing.assert_allclose(grads[k], (value(*up) - value(*down)) / (2 * h), rtol=1e-5)


@pytest.mark.optimised
@pytest.mark.parametrize("make", [_net, _phases])
def test_pieces_have_the_bits_of_the_whole(make):
    net = make()
    whole, half = _run(net, 40.0, 0.1), _run(net, 20.0, 0.1)
    rest = bs.simulate(net, t1=40.0, dt=0.1, state=half.state)
    assert same(whole.state, rest.state)


def test_a_coupled_network_is_played():
    text = str(bs.summary(_net(), dt=0.1))
    assert "one call" in text, text


@pytest.mark.usefixtures("x64")
def test_two_phases_lock_as_the_closed_form_says():
    """Half the difference of two Kuramoto phases: `tan(d / 2) = tan(d_0 / 2) exp(-2 K t)` for equal frequencies."""
    port = {"net": bs.PairPort("theta")}
    pair = bs.Population(bs.Kuramoto(0.25), 2, port, init={"theta": jnp.asarray([0.0, 1.5])})
    edge = bs.PairCoupling(
        "P", "P", bs.FromCOO([0, 1], [1, 0]), weight=0.05, delay=0.0, function=bs.sinusoidal, max_delay=0.1
    )
    theta = _run(bs.Network({"P": pair}, {"e": edge}), 20.0, 0.01).state.nodes["P"].y["unit"]["theta"]
    expected = 2 * np.arctan(np.tan(0.75) * np.exp(-2 * 0.05 * 20.0))
    np.testing.assert_allclose(theta[1] - theta[0], expected, rtol=2e-3)  # a delay of 0 is seen half a step late


def test_a_function_of_what_is_sent():
    f = bs.Sigmoidal(middle=0.15, slope=20.0)
    np.testing.assert_allclose(f(jnp.asarray([0.15, 1.0])), [0.5, 1.0], atol=1e-6)
    one = _run(_net(function=f), 5.0, 0.1).state.nodes["R"].y["unit"]["E"]
    other = _run(_net(function=lambda x: jax.nn.sigmoid(20.0 * (x - 0.15))), 5.0, 0.1).state.nodes["R"].y["unit"]["E"]
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"lengths= \(mm\) with speed="):
        _net(speed=None)
    with pytest.raises(ValueError, match="speed is -1"):
        _net(speed=-1.0)
    with pytest.raises(ValueError, match="beyond the line of max_delay"):
        _net(max_delay=1.0)
    with pytest.raises(TypeError, match=r"expected f\(x_post, x_pre\) of two arrays"):
        _phases(function=jnp.sin)
    with pytest.raises(ValueError, match=r"history has shape \(5, 3\)"):
        _net(history=np.zeros((5, 3)))


class _Leak(bs.AbstractUnit):
    """A mass of one's own: it follows its input."""

    tau: float = 20.0

    def init(self, n, clock):
        return {"x": jnp.full(n, 0.5)}, {}

    def vector_field(self, y, z, inp):
        return {"x": (inp - y["x"]) * (1.0 / self.tau)}

    def emit(self, y, z, s):
        return y["x"]


def test_masses_drive_poisson_sources_whose_rate_drives_masses():
    """x = 0.5 at 80 Hz a unit of x makes 40 Hz; their mean in kHz through a low-pass of 50 ms is 0.04."""
    n, tau = 2000, 50.0
    nodes = {
        "M": bs.Population(_Leak(), 1, i_e=0.5),
        "S": bs.Source(bs.Poisson(), n, driven=True),
        "R": bs.Population(_Leak(), 1, {"rate": bs.ExpCurr(tau=tau)}),
    }
    edges = {
        "drive": bs.Coupling("M", "S.rate", bs.FromCOO([0] * n, range(n)), weight=80.0, delay=1.0),
        "mean": bs.Projection("S", "R.rate", bs.AllToAll(), weight=1.0 / (n * tau)),
    }
    saveat = [bs.Rate("S", every=1000), bs.Trace("R.x", every=10)]
    sol = _run(bs.Network(nodes, edges), 1000.0, 0.1, saveat=saveat)
    spikes = 40.0 * 1e-3 * 900.0 * n
    assert abs(float(jnp.mean(sol["S.rate"][1:])) - 40.0) < 4 * 40.0 / np.sqrt(spikes)  # four standard errors
    np.testing.assert_allclose(jnp.mean(sol["R.x"][40:, 0]), 0.04, rtol=0.02)
