"""Convolutions as connectivity: those of JAX, forward and in all gradients; lists of synapses with shared weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs

RTOL = {"float32": 1e-5, "float64": 1e-12}
"""Of the largest entry: some hundred terms in another order."""


def convolution(rng):
    """A random one, in one or two dimensions."""
    while True:
        axes, g = int(rng.integers(1, 3)), int(rng.choice([1, 1, 2, 3]))
        pick = lambda low, high, n=axes: tuple(int(x) for x in rng.integers(low, high, n))  # noqa: E731
        padding = tuple(zip(pick(0, 3), pick(0, 3), strict=True))
        try:
            return bs.Convolution(
                (*pick(3, 9), g * int(rng.integers(1, 3))),
                g * int(rng.integers(1, 4)),
                pick(1, 4),
                stride=pick(1, 4),
                dilation=pick(1, 3),
                padding=padding,
                groups=g,
            )
        except ValueError:  # a window larger than its input
            continue


def agree(seed):
    """Compare one random convolution with `lax.conv` and with its list of synapses."""
    rng = np.random.default_rng(seed)
    c = convolution(rng)
    x, w, ct = (jnp.asarray(rng.normal(size=s)) for s in ((2, c.n_pre), c.weight_shape, (2, c.n_post)))
    space = "HW"[: len(c.kernel)]

    def known(w, x):
        out = jax.lax.conv_general_dilated(
            x.reshape(2, *c.shape),
            w,
            c.stride,
            c.padding,
            rhs_dilation=c.dilation,
            dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
            feature_group_count=c.groups,
            precision="highest",
        )
        return out.reshape(2, c.n_post)

    own, back = jax.vjp(c.apply, w, x)
    theirs, their_back = jax.vjp(known, w, x)
    pre, post, index = c.synapses()
    listed = np.zeros((c.n_post, 2))
    np.add.at(listed, post, np.asarray(x, np.float64).T[pre] * np.asarray(w).reshape(-1)[index, None])
    pairs = [(own, theirs), (own, listed.T), *zip(back(ct), their_back(ct), strict=True)]
    for a, b in pairs:
        scale = float(np.max(np.abs(b), initial=0.0)) + 1e-30
        np.testing.assert_allclose(a, b, rtol=0, atol=RTOL[x.dtype.name] * scale, err_msg=str(c))


@pytest.mark.parametrize("seed", range(4))
def test_a_convolution_is_that_of_jax(seed):
    agree(seed)


def test_a_convolution_is_that_of_jax_in_double_precision(x64):
    agree(4)


@pytest.mark.slow
def test_many_convolutions_are_those_of_jax():
    for seed in range(500):
        agree(seed)


@pytest.mark.slow
def test_many_convolutions_are_those_of_jax_in_double_precision(x64):
    for seed in range(500):
        agree(seed)


def test_pools_are_sums_over_windows():
    x = jnp.arange(24.0).reshape(4, 3, 2)
    c = bs.Convolution.pool((4, 3, 2), 2, stride=(2, 1))
    assert c.out_shape == (2, 2, 2)
    expected = sum(x[a::2, b:][:2, :2] for a in (0, 1) for b in (0, 1))
    np.testing.assert_array_equal(c.apply(jnp.asarray(1.0), x.reshape(-1)), expected.reshape(-1))
    weights = jnp.full(c.weight_shape, 0.25)
    np.testing.assert_array_equal(c.apply(weights, x.reshape(-1)), 0.25 * expected.reshape(-1))


@pytest.mark.parametrize("delay", [bs.INSTANT, 0.2])
def test_a_projection_with_shared_weights_is_one_with_a_list_of_synapses(delay):
    c = bs.Convolution((4, 4, 2), 3, (3, 2), stride=(1, 2), padding="same")
    rng = np.random.default_rng(0)
    w, x = jnp.asarray(rng.integers(-3, 4, c.weight_shape) / 4.0), rng.integers(0, 2, (12, c.n_pre)).astype(float)
    pre, post, index = c.synapses()

    def run(connect, weight):
        cells = bs.DiscreteNeurons(c.n_post, 0.5, v_th=1.0, surrogate=bs.Triangular())
        edge = bs.Projection("in", "cells", connect, weight=weight, delay=delay)
        net = bs.Network({"in": bs.Source(bs.External(), c.n_pre), "cells": cells}, {"e": edge})
        where = lambda net: net.edges["e"].weight  # noqa: E731

        def loss(weight):
            new = eqx.tree_at(where, net, weight)
            sol = bs.simulate(new, t1=1.2, key=jax.random.key(0), inputs={"in": x}, saveat=[bs.Events("cells")])
            return jnp.sum(sol["cells.events"] * jnp.arange(1.0, 13.0)[:, None]), sol["cells.events"]

        return jax.grad(loss, has_aux=True)(where(net))

    shared, spikes = run(c, w)
    listed, same = run(bs.FromCOO(pre, post), w.reshape(-1)[index])
    assert np.any(spikes != 0)
    np.testing.assert_array_equal(spikes, same)
    summed = np.zeros(w.size)
    np.add.at(summed, index, np.asarray(listed))
    np.testing.assert_allclose(shared.reshape(-1), summed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(shape=(4,)), "length, channels"),
        (dict(kernel=(3, 3, 3)), "kernel"),
        (dict(stride=0), "stride"),
        (dict(groups=3), "divisor"),
        (dict(kernel=7), "larger than"),
        (dict(padding=-1), "padding"),
    ],
)
def test_bad_convolutions_are_named(change, said):
    good = dict(shape=(4, 4, 2), channels=4, kernel=3)
    with pytest.raises(ValueError, match=said):
        bs.Convolution(**good | change)


def test_delays_per_synapse_are_refused():
    c = bs.Convolution((4, 2), 3, 2)
    nodes = {"a": bs.Source(bs.External(), 8), "b": bs.DiscreteNeurons(c.n_post)}
    with pytest.raises(ValueError, match="share their weights and their delay"):
        bs.Network(nodes, {"e": bs.Projection("a", "b", c, weight=1.0, delay=np.ones(8))})
