"""Convolutions as connectivity: those of JAX, forward and in all gradients; lists of synapses with shared weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.events import deposit, deposit_all, propagate

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

    x = jnp.where(rng.random(x.shape) < [[1.0], [0.1]], x, 0)  # densely, and by events
    own, back = jax.vjp(c.apply, w, x)
    sent, sent_back = jax.vjp(jax.vmap(lambda w, x: propagate(c, w, x), (None, 0)), w, x)
    theirs, their_back = jax.vjp(known, w, x)
    pre, post, index = c.synapses()
    listed = np.zeros((c.n_post, 2))
    np.add.at(listed, post, np.asarray(x, np.float64).T[pre] * np.asarray(w).reshape(-1)[index, None])
    pairs = [(own, theirs), (sent, theirs), (own, listed.T), *zip(back(ct), their_back(ct), strict=True)]
    pairs += zip(sent_back(ct), their_back(ct), strict=True)
    for a, b in pairs:
        scale = float(np.max(np.abs(b), initial=0.0)) + 1e-30
        np.testing.assert_allclose(a, b, rtol=0, atol=RTOL[x.dtype.name] * scale, err_msg=str(c))


def random_parts(seed=0, share=0.3):
    """A convolution, values of 5 steps with silence, a weight and a ring."""
    rng = np.random.default_rng(seed)
    c = bs.Convolution((6, 5, 4), 12, (3, 2), stride=(1, 2), padding=1, groups=2)
    values = rng.normal(size=(5, c.n_pre + 3)) * (rng.random((5, c.n_pre + 3)) < share)
    return c, *(jnp.asarray(x) for x in (values, rng.normal(size=c.weight_shape), rng.normal(size=(3, c.n_post))))


@pytest.mark.parametrize("share", [0.05, 0.9])
def test_rings_steps_words_and_batches_are_those_of_single_sums(share):
    c, values, weight, ring = random_parts(share=share)
    slots = jnp.asarray([0, 4, 2, 2, 7])
    wanted = ring
    for value, slot in zip(values, slots):
        wanted = wanted.at[slot % 3].add(c.apply(weight, value[3:]))
    packed = [np.packbits(np.asarray(v != 0), bitorder="little") for v in values]
    words = jnp.asarray(np.stack([np.pad(p, (0, -p.size % 4)).view(np.uint32) for p in packed]))
    atol = 1e-5 if ring.dtype == jnp.float32 else 1e-12
    for given in (None, words):
        found = deposit_all(ring, c, weight, values, slots=slots, words=given, first=3)
        np.testing.assert_allclose(found, wanted, atol=atol)
    one = jax.vmap(lambda r, v, s: deposit(r, c, weight, v, slot=s, first=3), (None, 0, 0))(ring, values, slots)
    np.testing.assert_allclose(jnp.sum(one, 0) - 4 * ring, wanted, atol=4 * atol)


def test_derivatives_reach_what_is_active_or_supported_and_those_of_derivatives_close():
    c, values, weight, ring = random_parts()
    value, ct = values[0, 3:], ring[0]
    support = jnp.asarray(np.random.default_rng(1).random(c.n_pre) < 0.2)

    def sent(weight, value):
        return jnp.vdot(ct, propagate(c, weight, value, support))

    def known(weight, value):
        live = jnp.where(support | (value != 0), value, jax.lax.stop_gradient(value))
        return jnp.vdot(ct, c.apply(weight, live))

    for order in (jax.grad, lambda f, argnums: jax.jacfwd(jax.grad(f, 0), argnums)):
        for n in (0, 1):
            np.testing.assert_allclose(order(sent, n)(weight, value), order(known, n)(weight, value), atol=1e-4)
    tangents = (jnp.ones_like(weight), jnp.cos(value))
    for a, b in zip(jax.jvp(sent, (weight, value), tangents), jax.jvp(known, (weight, value), tangents)):
        np.testing.assert_allclose(a, b, rtol=1e-4)


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
