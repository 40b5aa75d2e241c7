"""The fused step of a node is the step: against XLA for every unit, solver and receptor; batched, differentiated."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.core import AbstractUnit, Clock
from brainsim.events import _ffi
from brainsim.fusion import Program, fused
from brainsim.solvers import SOLVERS, fusion, prepared, update

pytestmark = pytest.mark.skipif(not _ffi.loaded(), reason="the pure path fuses nothing")
core = pytest.mark.core

FLOAT = jnp.zeros(()).dtype
N, DT = 45, 0.1  # neither a multiple of a vector's length nor of a word's
RECEPTORS = {"exc": bs.ExpCond(tau=5.0, e_rev=0.0), "inh": bs.ExpCond(tau=10.0, e_rev=-80.0)}
# one step: what differs is the rounding of some tens of operations, on states of order 100
NEAR = {"rtol": 2e-5, "atol": 2e-4} if np.float32 == FLOAT else {"rtol": 1e-12, "atol": 1e-11}

UNITS = {
    "LIF": bs.LIF(t_ref=2.0),
    "QIF": bs.QIF(),
    "ExponentialIF": bs.ExponentialIF(),
    "AdEx": bs.AdEx(),
    "Izhikevich": bs.Izhikevich(),
    "AdaptiveLIF": bs.AdaptiveLIF(),
    "CubaLIF": bs.CubaLIF(),
    "LeakyIntegrator": bs.LeakyIntegrator(),
    "HodgkinHuxley": bs.HodgkinHuxley(),
    "TraubMiles": bs.TraubMiles(),
    "WangBuzsaki": bs.WangBuzsaki(),
    "MorrisLecar": bs.MorrisLecar(),
}


def clock(n, seed=0):
    return Clock.of("P", jnp.asarray(n, jnp.int32), DT, jax.random.key(seed))


def start(pop, depth=3):
    """A state spread over many situations, and rings with arrivals in every row."""
    y, z = pop.init(clock(0))
    leaves, tree = jax.tree.flatten(y)
    keys = jax.random.split(jax.random.key(5), len(leaves) + 1)
    spread = [x + 3.0 * jax.random.uniform(k, x.shape, x.dtype) for k, x in zip(keys, leaves)]
    rings = {
        port: jnp.abs(jax.random.normal(jax.random.fold_in(keys[-1], i), (depth, pop.size), FLOAT))
        for i, port in enumerate(sorted(pop.ports))
    }
    if "refractory" in z:
        z = z | {"refractory": jnp.arange(pop.size, dtype=jnp.int32) % 3}
    return jax.tree.unflatten(tree, spread), z, rings


def both(pop, solver, inp=None):
    """One step, fused and by XLA."""
    pop = pop.ready()
    inp = jnp.linspace(-50.0, 400.0, pop.size, dtype=FLOAT) if inp is None else inp
    y, z, rings = start(pop)
    assert fusion(pop, solver, "P", {p: 3 for p in pop.ports}) == "fused"
    solver = prepared(pop, solver, y, z, clock(4).dt)
    return (
        jax.jit(lambda y, z, r, f=f: update(pop, solver, y, z, r, inp, clock(4), fuse=f))(y, z, rings)
        for f in (True, False)
    )


def same(fused, xla):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **NEAR), fused[:3], xla[:3])
    np.testing.assert_array_equal(fused.events.value, xla.events.value)
    if xla.events.support is not None:
        np.testing.assert_array_equal(fused.events.support, xla.events.support)
    bits = np.unpackbits(np.asarray(fused.events.words).view(np.uint8), bitorder="little")
    np.testing.assert_array_equal(bits[: len(fused.events.value)], np.asarray(fused.events.value) != 0)
    assert not bits[len(fused.events.value) :].any()
    assert int(fused.count) == int(xla.count) == np.count_nonzero(fused.events.value)
    assert bool(fused.not_finite) == bool(xla.not_finite)


@core
@pytest.mark.parametrize("name", UNITS)
def test_every_unit(name):
    """Exponential Euler, with two conductances: the fused step equals XLA's to rounding."""
    receptors = RECEPTORS if name != "CubaLIF" else {}
    same(*both(bs.Population(UNITS[name], N, receptors, init={"v": bs.Uniform(-70.0, -45.0)}), bs.ExponentialEuler()))


EXPLICIT = [kind for kind, rule in SOLVERS.items() if not rule.implicit]


@pytest.mark.parametrize("kind", EXPLICIT, ids=lambda kind: kind.__name__)
def test_every_explicit_solver(kind):
    same(*both(bs.Population(bs.MorrisLecar(), N, RECEPTORS), kind()))
    if SOLVERS[kind].sense is not None:
        noisy = bs.Population(bs.LIF(), N, RECEPTORS, noise=bs.WhiteNoise({"v": 0.5}))
        same(*both(noisy, kind()))


@pytest.mark.parametrize(
    "receptor",
    [bs.Delta(), bs.ExpCurr(), bs.DualExpCond(), bs.AlphaCurr(), bs.AlphaCond(), bs.NMDA()],
    ids=lambda r: type(r).__name__,
)
def test_every_receptor(receptor):
    same(*both(bs.Population(bs.LIF(), N, {"a": receptor}), bs.ExponentialEuler()))


SURROGATES = [bs.Triangular(5.0), bs.Rectangular(), bs.PiecewiseExponential(), bs.SuperSpike(), bs.ArcTan()]
SURROGATES += [bs.Sigmoid(), bs.Gaussian()]


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_every_surrogate(surrogate):
    same(*both(bs.Population(bs.LIF(), N, RECEPTORS, surrogate=surrogate), diffrax.Euler()))


def test_substeps_and_parameters_per_unit():
    unit = bs.LIF(tau_m=jnp.linspace(5.0, 50.0, N, dtype=FLOAT), v_th=jnp.linspace(-58.0, -40.0, N, dtype=FLOAT))
    same(*both(bs.Population(unit, N, RECEPTORS), bs.Substep(diffrax.Heun(), 3)))
    same(
        *both(bs.Population(unit, N, RECEPTORS, i_e=jnp.arange(N, dtype=FLOAT)), diffrax.Euler(), jnp.zeros((), FLOAT))
    )


class Written(AbstractUnit):
    """A unit of a user's own, with a variable that nothing changes."""

    rate: float = 0.3

    def init(self, n, clock):
        return {"v": jnp.zeros(n, FLOAT), "still": jnp.ones(n, FLOAT)}, {"kind": jnp.arange(n, dtype=jnp.int32)}

    def vector_field(self, y, z, inp):
        return {"v": self.rate * inp - jnp.tanh(y["v"]), "still": jnp.zeros_like(y["v"])}

    def guard(self, y, z):
        return y["v"] - 1.0

    def reset(self, y, z, s, inp, clock):
        return y | {"v": y["v"] * (1 - s)}, z


def test_a_unit_of_the_users_own():
    same(*both(bs.Population(Written(), N), diffrax.Euler()))
    same(*both(bs.Population(Written(), N), diffrax.Tsit5()))


class Odd(Written):  # a state that is no array of units
    def init(self, n, clock):
        y, _ = super().init(n, clock)
        return y, {"k": jnp.zeros((), jnp.int32)}

    def reset(self, y, z, s, inp, clock):
        return y, {"k": z["k"] + 1}


class Dice(Written):  # only to have a jump that draws
    def reset(self, y, z, s, inp, clock):
        return y | {"v": jax.random.normal(clock.key, s.shape, s.dtype)}, z


class Ranked(Written):
    structure = bs.Structure.OPERATOR

    def vector_field(self, y, z, inp):
        return {"v": jnp.sort(y["v"]), "still": y["still"]}


@pytest.mark.parametrize(
    "pop, solver, reason",
    [
        (bs.Population(bs.LIF(), 8), diffrax.Euler(), "fewer than 32 units"),
        (bs.Population(Ranked(), N), diffrax.Euler(), "its units flow together"),
        (bs.Population(Dice(), N), diffrax.Euler(), "random numbers"),
        (bs.Population(bs.HodgkinHuxley(), N), diffrax.Kvaerno3(), "iterates"),
        (bs.Population(Odd(), N), diffrax.Euler(), "shape ()"),
        (bs.Population(bs.LIF(), N, {"gap": bs.GapPort()}), diffrax.Euler(), "several numbers"),
        (bs.Source(bs.Poisson(10.0), N), diffrax.Euler(), "random numbers"),
    ],
)
def test_what_is_not_fused_says_why(pop, solver, reason):
    said = fusion(pop, solver, "P", {p: 2 for p in pop.ports})
    assert said.startswith("XLA (")
    assert reason in said


def test_the_cotangent_of_what_is_not_batched_counts_every_element():
    """Outputs that depend on one operand each, one batched and one shared: the cotangents of both have full size."""
    shapes = [jax.ShapeDtypeStruct((40,), FLOAT)] * 2
    program = Program(jax.make_jaxpr(lambda v, w: (2 * v, 3 * w))(*shapes), 40, 0, 0, (-1, -1), ())
    batch, w = jnp.ones((3, 40), FLOAT), jnp.ones(40, FLOAT)

    def loss(batch, w, k):
        return jnp.sum(jax.vmap(lambda v: jnp.sum(fused(program, [], [v, w], [])[0][k]))(batch))

    for k, (of_batch, of_w) in enumerate([(2.0, 0.0), (0.0, 9.0)]):
        ours = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)(batch, w, k)
        np.testing.assert_array_equal(ours[0], np.full((3, 40), of_batch))
        np.testing.assert_array_equal(ours[1], np.full(40, of_w))


POP = bs.Population(bs.LIF(t_ref=2.0), N, RECEPTORS, init={"v": bs.Uniform(-70.0, -45.0)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("unit", [0, N - 1])
def test_nan_and_infinity_are_seen(value, unit):
    y, z, rings = start(POP)
    z = {"refractory": jnp.zeros(N, jnp.int32)}  # a unit in its refractory period is held at the reset potential
    step = jax.jit(lambda y: update(POP, diffrax.Euler(), y, z, rings, jnp.zeros((), FLOAT), clock(0)))
    assert not step(y).not_finite
    y["unit"]["v"] = y["unit"]["v"].at[unit].set(value)
    assert step(y).not_finite


def run(pop, inp, steps=40):
    """Some steps, and the state and all events at their end."""
    y, z, rings = start(pop)

    def body(carry, n):
        new = update(pop, bs.ExponentialEuler(), *carry, inp, Clock.of("P", n, DT, jax.random.key(0)))
        return (new.y, new.z, new.rings), new.events.value

    return jax.lax.scan(body, (y, z, rings), jnp.arange(steps, dtype=jnp.int32))


@pytest.mark.optimised
@core
def test_batched_over_parameters_is_the_loop_bit_for_bit():
    with_tau = lambda tau: bs.Population(bs.LIF(tau_m=tau, t_ref=2.0), N, RECEPTORS)  # noqa: E731
    one = jax.jit(lambda tau, inp: run(with_tau(tau), inp))
    taus, inputs = jnp.linspace(5.0, 40.0, 3, dtype=FLOAT), jnp.linspace(100.0, 300.0, 3, dtype=FLOAT)
    for axes in ((0, None), (None, 0), (0, 0)):
        batched = jax.jit(jax.vmap(lambda tau, inp: run(with_tau(tau), inp), in_axes=axes))(
            taus if axes[0] == 0 else taus[0], inputs if axes[1] == 0 else inputs[0]
        )
        for b in range(3):
            single = one(taus[b if axes[0] == 0 else 0], inputs[b if axes[1] == 0 else 0])
            jax.tree.map(lambda s, x, b=b: np.testing.assert_array_equal(s, x[b]), single, batched)


@pytest.mark.optimised
@core
def test_gradients_are_those_of_xla_and_values_those_of_the_plain_run():
    pop = bs.Population(
        bs.LIF(t_ref=2.0), N, RECEPTORS, surrogate=bs.Triangular(10.0), init={"v": bs.Uniform(-70.0, -45.0)}
    )

    def loss(args, fuse=True):
        tau, inp, arrivals = args
        own = bs.Population(bs.LIF(tau_m=tau, t_ref=2.0), N, RECEPTORS, surrogate=bs.Triangular(10.0))
        y, z, rings = start(pop)
        new = update(own, bs.ExponentialEuler(), y, z, rings | {"exc": arrivals}, inp, clock(4), fuse=fuse)
        return (
            jnp.sum(jnp.sin(new.y["unit"]["v"]))
            + jnp.sum(new.events.value * jnp.arange(N, dtype=FLOAT))
            + jnp.sum(new.rings["exc"] ** 2)
        )

    args = jnp.asarray(20.0, FLOAT), jnp.linspace(0.0, 300.0, N, dtype=FLOAT), start(pop)[2]["exc"]
    value, mine = jax.jit(jax.value_and_grad(loss))(args)
    theirs = jax.jit(jax.grad(lambda args: loss(args, False)))(args)
    assert value == jax.jit(loss)(args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), mine, theirs)
    tangent = jax.tree.map(jnp.cos, args)
    forward = jax.jit(lambda args: jax.jvp(loss, (args,), (tangent,))[1])(args)
    total = sum(jnp.vdot(g, t) for g, t in zip(jax.tree.leaves(mine), jax.tree.leaves(tangent)))
    np.testing.assert_allclose(forward, total, rtol=1e-4)


def moved(args, fuse=True):
    """A smooth function of the state, the input and the arrivals of two steps: every operand but the scalars moves."""
    y, inp, rings = args
    pop = bs.Population(bs.MorrisLecar(), N, RECEPTORS, surrogate=bs.Triangular(10.0))
    _, z, _ = start(pop)
    for n in (4, 5):
        new = update(pop, bs.ExponentialEuler(), y, z, rings, inp, clock(n), fuse=fuse)
        y, z, rings = new.y, new.z, new.rings
    out = [jnp.sum(jnp.sin(0.1 * x)) for x in jax.tree.leaves((y, rings))]
    return sum(out) + jnp.sum(new.events.value * jnp.arange(N, dtype=FLOAT))


ORDERS = {
    "grad": lambda f, a, t: jax.grad(f)(a),
    "jvp": lambda f, a, t: jax.jvp(f, (a,), (t,))[1],
    "grad of checkpoint": lambda f, a, t: jax.grad(jax.checkpoint(f))(a),
    "vmap of grad": lambda f, a, t: jax.vmap(jax.grad(f))(jax.tree.map(lambda x: jnp.stack([x, 1.01 * x]), a)),
    "grad of vmap": lambda f, a, t: jax.grad(
        lambda a: jnp.sum(
            jax.vmap(lambda y, k: f((y, a[1] * k, a[2])), (0, 0))(
                jax.tree.map(lambda x: jnp.stack([x, 1.01 * x]), a[0]), jnp.asarray([1.0, 0.9], FLOAT)
            )
        )
    )(a),
    "jvp of grad": lambda f, a, t: jax.jvp(jax.grad(f), (a,), (t,))[1],
    "grad of jvp": lambda f, a, t: jax.grad(lambda a: jax.jvp(f, (a,), (t,))[1])(a),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=core) if n in ("grad", "jvp") else n for n in ORDERS])
def test_derivatives_of_every_order_are_those_of_xla(name):
    pop = bs.Population(bs.MorrisLecar(), N, RECEPTORS)
    y, _, rings = start(pop)
    args = y, jnp.linspace(0.0, 100.0, N, dtype=FLOAT), rings
    tangent = jax.tree.map(lambda x: jnp.cos(3 * x), args)
    mine, theirs = (
        jax.jit(lambda a, f=f: ORDERS[name](lambda a: moved(a, f), a, tangent))(args) for f in (True, False)
    )
    scale = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(theirs))
    near = 2e-4 if np.float32 == FLOAT else 1e-10
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=near, atol=near * scale), mine, theirs)


@pytest.mark.optimised
@core
def test_many_units_and_batches_share_threads_and_give_the_same():
    """Above the size from which threads share the work: the same numbers as in pieces below it."""
    n = 20_000
    key = jax.random.key(3)
    v, inp = jax.random.uniform(key, (n,), FLOAT, -70.0, -45.0), jax.random.uniform(key, (n,), FLOAT, 0.0, 300.0)

    def step(v, inp):
        pop = bs.Population(bs.LIF(t_ref=2.0), v.shape[0], RECEPTORS)
        y, z = pop.init(clock(0))
        y["unit"]["v"] = v
        rings = {p: jnp.ones((2, v.shape[0]), FLOAT) for p in RECEPTORS}
        new = update(pop, bs.ExponentialEuler(), y, z, rings, inp, clock(1))
        return new.y, new.z, new.events.value, new.count

    whole = jax.jit(step)(v, inp)
    pieces = [jax.jit(step)(v[k : k + 5000], inp[k : k + 5000]) for k in range(0, n, 5000)]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *(p[:3] for p in pieces))
    jax.tree.map(np.testing.assert_array_equal, whole[:3], joined)
    assert int(whole[3]) == sum(int(p[3]) for p in pieces)
