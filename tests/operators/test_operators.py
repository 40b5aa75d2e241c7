"""Fields against Amari's theory and direct sums, multigrid against its rate, operators as modules and nodes."""

from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from scipy.ndimage import convolve as direct

import brainsim as bs
from brainsim.operators import (
    FNO,
    AmariField,
    AttentionLayer,
    Boundary,
    IntegralLayer,
    KernelConv,
    MgNO,
    OperatorField,
    OperatorNetwork,
    PixelConv,
    PoissonMultigrid,
    UNet,
)
from brainsim.operators._grid import convolve, extended, transform

MODES = {Boundary.PERIODIC: "wrap", Boundary.ZERO: "constant", Boundary.REFLECTING: "reflect"}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("boundary", Boundary)
def test_convolution_is_the_direct_sum(boundary):
    shape, spacing = (12, 16), 0.5
    x = np.random.default_rng(0).normal(size=shape)
    kernel = lambda d: jnp.where(d <= 2.0, jnp.exp(-d), 0.0)  # noqa: E731
    at = np.arange(-4, 5) * spacing
    stencil = np.asarray(kernel(jnp.asarray(np.hypot(*np.meshgrid(at, at, indexing="ij"))))) * spacing**2
    got = convolve(transform(kernel, extended(boundary, shape), spacing), jnp.asarray(x), boundary)
    np.testing.assert_allclose(got, direct(x, stencil, mode=MODES[boundary]), atol=1e-12)


def mexican(d):
    return 3.0 * jnp.exp(-0.5 * d**2) - 1.2 * jnp.exp(-0.5 * (d / 3.0) ** 2)


def _line(n=256, spacing=0.1, **given):
    return AmariField.of(mexican, n, spacing=spacing, beta=200.0, h=-0.6, tau=10.0, **given)


@pytest.mark.usefixtures("x64")
def test_the_width_of_a_bump_is_that_of_amari():
    """Of a steep field W(a) + h = 0, with W the integral of the kernel from 0 to the width a, and w(a) < 0."""
    from scipy.integrate import quad
    from scipy.optimize import brentq

    w = lambda x: 3.0 * np.exp(-0.5 * x**2) - 1.2 * np.exp(-0.5 * (x / 3.0) ** 2)  # noqa: E731
    width = brentq(lambda a: quad(w, 0, a)[0] - 0.6, 2.0, 8.0)
    assert w(width) < 0
    x = (np.arange(256) - 128) * 0.1
    net = bs.Network({"F": bs.Population(_line(), 256, init={"u": jnp.where(jnp.abs(x) < 1.0, 1.0, -0.6)})})
    u = bs.simulate(net, t1=200.0, dt=1.0, key=jax.random.key(0)).state.nodes["F"].y["unit"]["u"]
    got = 0.1 * float(jnp.sum(jax.nn.sigmoid(200.0 * u)))
    assert abs(got - width) < 0.1, (got, width)  # a cell of the grid


@pytest.mark.core
def test_a_field_in_a_network_of_spikes():
    """Both ways, under grad and stream-like pieces."""
    field = bs.Population(AmariField.of(mexican, (8, 8), tau=5.0), 64, {"in": bs.ExpCurr(tau=5.0)})
    cells = bs.Population(bs.LIF(), 64, {"exc": bs.ExpCond(tau=5.0)}, i_e=150.0)
    edges = {
        "up": bs.Projection("P", "F.in", bs.OneToOne(), weight=0.2, delay=1.0),
        "down": bs.Projection("F", "P.exc", bs.OneToOne(), weight=1.0, delay=1.0),
    }
    net = bs.Network({"F": field, "P": cells}, edges)

    def loss(h):
        now = eqx.tree_at(lambda net: net.nodes["F"].unit.h, net, h)
        sol = bs.simulate(now, t1=20.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Trace("F.u", every=50)])
        return jnp.mean(sol["F.u"] ** 2)

    slope = jax.jit(jax.grad(loss))(jnp.asarray(-0.5))
    assert np.isfinite(slope)
    assert abs(float(slope)) > 1e-3
    whole = bs.simulate(net, t1=20.0, dt=0.1, key=jax.random.key(0))
    half = bs.simulate(net, t1=10.0, dt=0.1, key=jax.random.key(0))
    rest = bs.simulate(net, t1=20.0, dt=0.1, state=half.state)
    for a, b in zip(jax.tree.leaves(whole.state.nodes), jax.tree.leaves(rest.state.nodes), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "boundary, n",
    [(Boundary.ZERO, 63), (Boundary.PERIODIC, 64)]
    + [pytest.param(b, n, marks=pytest.mark.slow) for b, n in [(Boundary.ZERO, 127), (Boundary.ZERO, 255)]]
    + [pytest.param(Boundary.PERIODIC, n, marks=pytest.mark.slow) for n in (128, 256)],
)
def test_a_cycle_contracts_by_less_than_a_fifth(boundary, n):
    grid = PoissonMultigrid(n, boundary)
    u = np.random.default_rng(0).normal(size=(n, n))
    u = jnp.asarray(u - (u.mean() if boundary is Boundary.PERIODIC else 0.0))
    zero = jnp.zeros_like(u)

    def turn(u, _):
        u = grid.cycle(u, zero)
        u = u - jnp.mean(u) if boundary is Boundary.PERIODIC else u
        return u, jnp.linalg.norm(u)

    _, norms = jax.jit(lambda u: jax.lax.scan(turn, u, length=25))(u)
    rates = norms[1:] / norms[:-1]
    assert float(jnp.max(rates[19:])) < 0.2, rates  # the first cycles contract by 0.07, and would hide a fault
    assert float(jnp.max(rates)) < 0.2


@pytest.mark.usefixtures("x64")
def test_multigrid_solves_poisson():
    n = 31
    x = (np.arange(n) + 1) / (n + 1)
    u = np.sin(np.pi * x)[:, None] * np.sin(2 * np.pi * x)[None]
    grid = PoissonMultigrid(n)
    got = jax.jit(grid.solve)(grid.operator(jnp.asarray(u)))
    np.testing.assert_allclose(got, u, atol=1e-7)


def test_grids_that_cannot_be_coarsened_are_refused():
    with pytest.raises(ValueError, match="n is 64, which cannot be halved"):
        PoissonMultigrid(64)
    with pytest.raises(ValueError, match="expected sides that 8 divides"):
        MgNO(1, 1, key=jax.random.key(0), width=2)(jnp.zeros((1, 12, 16)))
    with pytest.raises(ValueError, match="twice the modes"):
        FNO(1, 1, key=jax.random.key(0), width=2)(jnp.zeros((1, 8, 8)))
    with pytest.raises(ValueError, match=r"has the shape \(4, 4\), 16 units, and the population 15"):
        bs.Network({"F": bs.Population(AmariField.of(mexican, (4, 4)), 15)})


def test_fno_is_the_same_operator_at_another_resolution():
    fno = FNO(1, 1, key=jax.random.key(0), width=4, modes=3)

    def smooth(n):
        x = jnp.linspace(0.5 / n, 1.0 - 0.5 / n, n)
        return (jnp.sin(2 * jnp.pi * x)[:, None] * jnp.cos(2 * jnp.pi * x)[None])[None]

    fine = fno(smooth(64))[0].reshape(16, 4, 16, 4).mean((1, 3))
    scale = float(jnp.max(jnp.abs(fine)))
    assert float(jnp.max(jnp.abs(fno(smooth(16))[0] - fine))) < 0.05 * scale


@pytest.mark.parametrize("make", [lambda k: MgNO(1, 1, key=k, width=3, layers=2), lambda k: UNet(1, 1, key=k, width=4)])
def test_an_operator_is_a_node_whose_weights_have_gradients(make):
    module = make(jax.random.key(0))
    net = bs.Network({"F": bs.Population(OperatorField(module, (8, 8)), 64, i_e=jnp.linspace(-1.0, 1.0, 64))})

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(module):
        now = eqx.tree_at(lambda net: net.nodes["F"].unit.module, net, module)
        return jnp.mean(bs.simulate(now, t1=1.0, dt=0.2, key=jax.random.key(0)).state.nodes["F"].y["unit"]["u"] ** 2)

    value, grads = loss(module)
    leaves = jax.tree.leaves(eqx.filter(grads, eqx.is_inexact_array))
    assert float(value) > 0
    assert sum(float(jnp.sum(jnp.abs(x))) > 0 for x in leaves) > 0.5 * len(leaves)
    h = 1e-2
    shifted = [eqx.tree_at(lambda m: m.last.kernel, module, module.last.kernel + s * h) for s in (1, -1)]
    difference = (loss(shifted[0])[0] - loss(shifted[1])[0]) / (2 * h)
    np.testing.assert_allclose(jnp.sum(grads.last.kernel), difference, rtol=2e-2)


def _bandlimited(n, axes=1):
    x = (np.arange(n) + 0.5) / n
    wave = np.sin(2 * np.pi * x) + 0.5 * np.cos(4 * np.pi * x)
    return jnp.asarray(wave if axes == 1 else wave[:, None] * wave[None], jnp.float32)[None]


LAYERS = {
    "kernel": partial(KernelConv, radius=0.1),
    "integral": IntegralLayer,
    "attention": AttentionLayer,
    "pixels": PixelConv,
}


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_the_same_operator_on_finer_grids(name, axes):
    """Second order in the spacing, or first at the ends of a kernel; a CNN is another map on every grid."""
    net = OperatorNetwork(1, 1, partial(LAYERS[name], axes=axes), key=jax.random.key(0), width=4, layers=2)
    coarse, fine = (24, 48) if axes == 2 else (64, 128)
    x = eqx.filter_jit(net)(_bandlimited(fine, axes))[0]
    mean = x.reshape(*([coarse, fine // coarse] * axes)).mean(tuple(range(1, 2 * axes, 2)))
    off = float(jnp.sqrt(jnp.mean((eqx.filter_jit(net)(_bandlimited(coarse, axes))[0] - mean) ** 2)) / jnp.std(mean))
    assert off > {1: 0.045, 2: 0.1}[axes] if name == "pixels" else off < {1: 0.03, 2: 0.06}[axes], off


def test_a_kernel_of_as_many_points_is_a_convolution_of_pixels():
    n, size = 40, 5
    layer = KernelConv(2, 3, key=jax.random.key(0), radius=2.5 / n, size=size)
    pixel = PixelConv(2, 3, key=jax.random.key(0), size=size)
    at = np.arange(-2, 3) * (1 / n)
    knots = np.linspace(-2.5 / n, 2.5 / n, size)
    kernel = np.stack([[np.interp(at, knots, row) for row in rows] for rows in np.asarray(layer.values)]) / n
    pixel = eqx.tree_at(lambda p: p.kernel, pixel, jnp.asarray(kernel, jnp.float32))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, n)), jnp.float32)
    np.testing.assert_allclose(layer(x), pixel(x), rtol=1e-4, atol=1e-6)


def test_attention_weighs_cells_by_their_size():
    """A cell cut into two halves changes nothing, where no query or key sees the place."""
    layer = AttentionLayer(2, 3, key=jax.random.key(0))
    blind = lambda a: a.at[:, 2:].set(0.0)  # noqa: E731
    layer = eqx.tree_at(lambda a: (a.query, a.keys), layer, (blind(layer.query), blind(layer.keys)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6)), jnp.float32)
    whole, cut = jnp.full(6, 1 / 6), jnp.concatenate([x[:, :1], x], 1)
    halves = jnp.concatenate([jnp.full(2, 1 / 12), whole[1:]])
    np.testing.assert_allclose(layer(cut, halves)[:, 1:], layer(x, whole), rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(layer(cut)[:, 1:] - layer(x)))) > 1e-3


def test_layers_refuse_what_is_no_kernel():
    with pytest.raises(ValueError, match="expected an odd number"):
        KernelConv(1, 1, key=jax.random.key(0), radius=0.1, size=4)
    with pytest.raises(ValueError, match="8 points an axis, of which none lie within"):
        KernelConv(1, 1, key=jax.random.key(0), radius=0.1)(jnp.zeros((1, 8)))


@pytest.mark.usefixtures("x64")
def test_an_implicit_step_of_a_field_needs_no_matrix():
    """Krylov iterations give the step and the gradient that the dense Jacobian gives."""
    field = AmariField.of(mexican, (6, 6), spacing=0.5, tau=2.0)
    net = bs.Network({"F": bs.Population(field, 36, init={"u": np.random.default_rng(0).normal(size=36)})})

    def end(h, linear):
        now = eqx.tree_at(lambda n: n.nodes["F"].unit.h, net, h)
        finder = diffrax.VeryChord(rtol=1e-10, atol=1e-10, linear_solver=linear)
        solver = diffrax.ImplicitEuler(root_finder=finder)
        sol = bs.simulate(now, t1=6.0, dt=2.0, solver={"F": solver}, key=jax.random.key(0))
        return jnp.sum(sol.state.nodes["F"].y["unit"]["u"] ** 2)

    found = [
        jax.jit(jax.value_and_grad(lambda h, how=how: end(h, how)))(jnp.asarray(-0.5))
        for how in (lx.AutoLinearSolver(well_posed=None), lx.GMRES(rtol=1e-12, atol=1e-12))
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-8)
