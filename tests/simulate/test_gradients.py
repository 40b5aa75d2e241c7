"""Gradients of whole runs: finite differences where the system is smooth, adjoint against adjoint where it is not."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from tests.nets import balanced

FD_RTOL = 1e-5  # central differences in float64 with a relative step of 1e-6
ADJOINT_RTOL = 1e-10  # the same operations in float64, summed in another order


class Smooth(bs.AbstractUnit):
    """Two coupled smooth variables whose events are graded by an arrival; never spikes, so the run is
    differentiable."""

    tau: float = 10.0
    v_half: float = -40.0

    def init(self, n, clock):
        return {"v": jnp.full(n, -60.0), "w": jnp.zeros(n)}, {}

    def vector_field(self, y, z, inp):
        gate = jax.nn.sigmoid((y["v"] - self.v_half) / 5.0)
        return {"v": (-60.0 - y["v"] - 3.0 * y["w"] + inp / 10.0) * (1.0 / self.tau), "w": (gate - y["w"]) / 20.0}

    def guard(self, y, z):
        return jnp.full_like(y["v"], -1.0)

    def reset(self, y, z, s, inp, clock):
        return y, z


def smooth_net():
    source = bs.Source(Ramp(), 3)
    cells = bs.Population(Smooth(), 2, {"exc": bs.ExpCond(tau=5.0)}, i_e=20.0)
    connect = bs.FromCOO([0, 0, 1, 2], [0, 1, 1, 0])
    edge = bs.Projection("S", "P.exc", connect, weight=[1.0, 0.5, 2.0, 0.7], delay=[0.0, 0.2, 0.5, 0.1])
    return bs.Network({"S": source, "P": cells}, {"SP": edge}, key=jax.random.key(0))


class Ramp(bs.AbstractProcess):
    """Emits its input: graded, smooth events."""

    def check(self, name, size):
        assert size >= 0

    def init(self, n, clock):
        return {}

    def emit(self, z, inp, clock):
        return inp, z


LEAVES = {
    "weight": lambda net: net.edges["SP"].weight,
    "tau of the unit": lambda net: net.nodes["P"].unit.tau,
    "tau of the receptor": lambda net: net.nodes["P"].receptors["exc"].tau,
    "reversal": lambda net: net.nodes["P"].receptors["exc"].e_rev,
    "threshold-like": lambda net: net.nodes["P"].unit.v_half,
    "current": lambda net: net.nodes["P"].i_e,
}
SOLVERS = [bs.ExponentialEuler(), diffrax.Euler(), diffrax.Tsit5()]


def loss_of(net, x, drive, solver, adjoint):
    net = net if x is None else eqx.tree_at(x[0], net, x[1])
    sol = bs.simulate(
        net,
        t1=10.0,
        dt=0.1,
        key=jax.random.key(0),
        solver=solver,
        inputs={"S": drive},
        saveat=(bs.Trace("P.v"),),
        adjoint=adjoint,
    )
    return jnp.mean(jnp.sin(0.1 * sol["P.v"]))


def difference(f, x, eps):
    """Central differences of `f` at every entry of `x`."""
    flat = np.asarray(x, float).ravel()
    out = []
    for k in range(flat.size):
        h = eps * max(1.0, abs(flat[k]))
        up, down = flat.copy(), flat.copy()
        up[k] += h
        down[k] -= h
        out.append((f(jnp.asarray(up.reshape(np.shape(x)))) - f(jnp.asarray(down.reshape(np.shape(x))))) / (2 * h))
    return np.asarray(out).reshape(np.shape(x))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_gradient_equals_finite_differences(x64, solver):
    """By every leaf, in three programs: value, gradient and forward mode in all leaves at once."""
    net = smooth_net()
    drive = jnp.linspace(0.0, 1.0, 300).reshape(100, 3)
    where = lambda net: [of(net) for of in LEAVES.values()]  # noqa: E731
    f = jax.jit(lambda x: loss_of(net, (where, [x[leaf] for leaf in LEAVES]), drive, solver, None))
    x = dict(zip(LEAVES, where(net), strict=True))
    gradient = jax.grad(f)(x)
    along = jax.jit(lambda tangent: jax.jvp(f, (x,), (tangent,))[1])
    for leaf, g in gradient.items():
        wanted = difference(lambda a, leaf=leaf: f(x | {leaf: a}), x[leaf], 1e-6)
        np.testing.assert_allclose(g, wanted, rtol=FD_RTOL, atol=1e-10, err_msg=leaf)
        tangent = along(jax.tree.map(jnp.zeros_like, x) | {leaf: jnp.ones_like(x[leaf])})
        np.testing.assert_allclose(tangent, jnp.sum(g), rtol=1e-9, err_msg=leaf)


@pytest.mark.core
def test_gradient_of_inputs_and_initial_state(x64):
    net = smooth_net()
    drive = jnp.linspace(0.0, 1.0, 300).reshape(100, 3)
    f = jax.jit(lambda row: loss_of(net, None, drive.at[50].set(row), bs.ExponentialEuler(), None))
    np.testing.assert_allclose(jax.grad(f)(drive[50]), difference(f, drive[50], 1e-6), rtol=FD_RTOL, atol=1e-10)
    state = bs.initial_state(net, dt=0.1, key=jax.random.key(0))

    @jax.jit
    def from_state(v):
        begun = eqx.tree_at(lambda s: s.nodes["P"].y["unit"]["v"], state, v)
        sol = bs.simulate(net, t0=0.0, t1=10.0, dt=0.1, state=begun, inputs={"S": drive}, saveat=(bs.Trace("P.v"),))
        return jnp.mean(jnp.sin(0.1 * sol["P.v"]))

    v = jnp.asarray([-60.0, -50.0])
    np.testing.assert_allclose(jax.grad(from_state)(v), difference(from_state, v, 1e-6), rtol=FD_RTOL)


def test_checkpointed_equals_direct_through_spikes(x64):
    net = balanced(40, surrogate=bs.Triangular(5.0))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(net, adjoint):
        sol = bs.simulate(
            net,
            t1=10.0,
            dt=0.1,
            key=jax.random.key(2),
            saveat=(bs.Events("P"), bs.Trace("P.v", every=2)),
            adjoint=adjoint,
        )
        return jnp.mean(sol["P.events"]) + 1e-3 * jnp.mean(sol["P.v"] ** 2)

    direct = gradient(net, bs.DirectAdjoint())
    assert sum(float(jnp.sum(jnp.abs(g))) for g in jax.tree.leaves(direct)) > 0
    for segments in (None, 7, 40):
        kept = gradient(net, bs.CheckpointedAdjoint(segments))
        for a, b in zip(jax.tree.leaves(direct), jax.tree.leaves(kept), strict=True):
            atol = 1e-12 * float(jnp.max(jnp.abs(a), initial=1.0))
            np.testing.assert_allclose(a, b, rtol=ADJOINT_RTOL, atol=atol, err_msg=f"{segments} segments")


@pytest.mark.core
def test_vmap_of_grad_equals_the_loop():
    net = smooth_net()
    drive = jnp.linspace(0.0, 1.0, 300).reshape(100, 3)
    g = jax.grad(lambda tau: loss_of(net, (LEAVES["tau of the unit"], tau), drive, bs.ExponentialEuler(), None))
    taus = jnp.asarray([8.0, 10.0, 12.0])
    np.testing.assert_allclose(jax.vmap(g)(taus), jnp.stack([g(t) for t in taus]), rtol=1e-4)


@pytest.mark.core
def test_compact_spikes_refuse_to_be_differentiated():
    net = balanced(20)

    def loss(tau):
        other = eqx.tree_at(lambda m: m.nodes["P"].unit.tau_m, net, tau)
        sol = bs.simulate(other, t1=1.0, dt=0.1, key=jax.random.key(0), saveat=(bs.Spikes("P"),))
        return jnp.sum(sol["P.spikes"].counts.astype(tau.dtype))

    with pytest.raises(TypeError, match="Events"):
        jax.grad(loss)(net.nodes["P"].unit.tau_m)


@pytest.mark.parametrize("adjoint", [bs.DirectAdjoint(), bs.CheckpointedAdjoint()])
def test_the_derivative_of_a_batch_is_the_batch_of_derivatives(adjoint):
    """Two steps that jax batches before it differentiates: values and shapes must not depend on the order."""
    net = bs.Network({"P": bs.Population(bs.LIF(), 1)})

    def v(i_e):
        changed = eqx.tree_at(lambda net: net.nodes["P"].i_e, net, i_e)
        run = {"t1": 4.0, "dt": 0.5, "key": jax.random.key(0), "adjoint": adjoint}
        return bs.simulate(changed, **run, saveat=[bs.Trace("P.v")])["P.v"]

    i_e, ones = jnp.asarray([10.0, 50.0, 90.0]), jnp.ones(3)
    together = jax.jvp(jax.vmap(v), (i_e,), (ones,))
    apart = jax.vmap(lambda x, t: jax.jvp(v, (x,), (t,)))(i_e, ones)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
