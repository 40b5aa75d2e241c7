"""`fit`: it finds what it should, goes on where it was killed, and says what is wrong before it compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import optimistix as optx
import pytest

import brainsim as bs
from brainsim import train

LM = optx.LevenbergMarquardt(rtol=1e-5, atol=1e-5)
QUIET = {"progress": False}
T = np.linspace(0.0, 3.0, 30)
DATA = 2.0 * np.exp(-T / 0.7) + 0.5
BOUNDS = {"a": (0.5, 5.0), "tau": train.Log(0.1, 10.0), "c": train.Identity()}
MODEL = {"a": jnp.asarray(1.0), "tau": jnp.asarray(2.0), "c": jnp.asarray(0.0)}
FOUND_RTOL = 2e-3  # where the loss is 1e-7 of what it was; float32


def curve(m):
    t = jnp.asarray(T, m["a"].dtype)
    return m["a"] * jnp.exp(-t / m["tau"]) + m["c"]


def misfit(m):
    return train.difference(curve(m), DATA)


def squares(m):
    return jnp.mean(misfit(m) ** 2)


METHODS = {
    "adam": (squares, optax.adam(optax.cosine_decay_schedule(0.2, 400)), 400),
    "plateau": (squares, optax.chain(optax.adam(0.2), optax.contrib.reduce_on_plateau(0.5, patience=20)), 500),
    "levenberg-marquardt": (train.LeastSquares(misfit), LM, 40),
    "cma-es": (squares, train.CMAES(), 120),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_the_curve(name):
    loss, method, steps = METHODS[name]
    if name == "cma-es":
        pytest.importorskip("cma")
    got = train.fit(MODEL, loss, BOUNDS, method=method, steps=steps, **QUIET)
    found = [float(got.parameters[k]) for k in ("a", "tau", "c")]
    np.testing.assert_allclose(
        found, [2.0, 0.7, 0.5], rtol=30 * FOUND_RTOL if name in ("adam", "plateau") else FOUND_RTOL
    )
    assert got.loss == pytest.approx(float(squares(got.net)), rel=1e-2, abs=1e-10)
    assert got.history.shape == (len(got.seconds), 1)
    assert got.reports == []


@pytest.mark.core
def test_starts_run_as_one_batch_and_the_best_is_returned():
    got = train.fit(
        MODEL, train.LeastSquares(misfit), BOUNDS, method=LM, starts=4, spread=0.5, key=jax.random.key(0), **QUIET
    )
    assert got.losses.shape == (4,)
    assert got.loss == got.losses.min() == got.losses[got.start]
    assert got.ends["tau"].shape == (4,)
    assert got.stopped == "converged"
    alone = train.fit(MODEL, train.LeastSquares(misfit), BOUNDS, method=LM, **QUIET)
    np.testing.assert_allclose(got.ends["tau"][0], alone.parameters["tau"], rtol=FOUND_RTOL)  # start 0 is the model


def test_starts_can_be_given_and_patience_ends_a_fit():
    starts = {"a": [1.0, 3.0]}
    got = train.fit(MODEL, squares, BOUNDS, starts=starts, steps=1000, patience=20, tol=1e-3, **QUIET)
    assert got.stopped == "patience"
    assert len(got.history) < 1000


def test_time_is_a_limit_too():
    got = train.fit(MODEL, squares, BOUNDS, steps=10**6, seconds=0.2, **QUIET)
    assert got.stopped == "seconds"
    assert 0.2 < got.seconds[-1] - got.seconds[0] < 20.0  # a step more, on a busy machine


def test_values_are_put_in_by_name():
    net = train.with_parameters(lif(), {"P.unit.tau_m": 12.0, "P.i_e": jnp.asarray(60.0)})
    assert (float(net.nodes["P"].unit.tau_m), float(net.nodes["P"].i_e)) == (12.0, 60.0)
    with pytest.raises(ValueError, match=r"Did you mean 'P.unit.tau_m'"):
        train.with_parameters(lif(), {"P.unit.taum": 12.0})
    with pytest.raises(ValueError, match=r"has shape \(2,\); expected \(\)"):
        train.with_parameters(lif(), {"P.unit.tau_m": [12.0, 13.0]})


def test_bounds_hold_and_the_table_tells():
    got = train.fit(MODEL, train.LeastSquares(misfit, 0.1), BOUNDS | {"a": (0.5, 1.5)}, method=LM, **QUIET)
    assert got.parameters["a"] <= 1.5
    assert got.__rich__().columns[0].header == "parameter"
    assert "a: " in repr(got)


def minibatch(m, k):
    return jnp.mean(misfit(m)[(7 * k + 3 * jnp.arange(10, dtype=k.dtype)) % 30] ** 2)


class Killed(Exception):
    """What ends a fit in the middle."""


@pytest.mark.optimised
@pytest.mark.parametrize("name", ["adam", "levenberg-marquardt", "cma-es"])
def test_a_killed_fit_goes_on_bit_for_bit(name, tmp_path):
    loss, method, _ = METHODS[name]
    if name == "adam":
        loss = minibatch
    elif name == "cma-es":
        pytest.importorskip("cma")
        loss = lambda m, k: squares(m)  # noqa: E731
    else:
        loss = train.LeastSquares(lambda m, k: misfit(m))

    def batches(k, stop=None):
        if k == stop:
            raise Killed
        return jnp.asarray(k, jnp.int32)

    same = {"method": method, "steps": 14, "starts": 2, "key": jax.random.key(1), "spread": 0.3, **QUIET}
    whole = train.fit(MODEL, loss, BOUNDS, batches=batches, **same)
    with pytest.raises(Killed):
        train.fit(MODEL, loss, BOUNDS, batches=lambda k: batches(k, 5), checkpoint=tmp_path, every=2, **same)
    asked = []

    def seen(k):
        asked.append(k)
        return batches(k)

    resumed = train.fit(MODEL, loss, BOUNDS, batches=seen, checkpoint=tmp_path, every=2, resume=True, **same)
    assert 4 in asked
    assert not {1, 2, 3} & set(asked)
    assert np.array_equal(whole.history, resumed.history)
    assert all(np.array_equal(whole.ends[k], resumed.ends[k]) for k in whole.ends)
    with pytest.raises(FileExistsError, match="resume=True"):
        train.fit(MODEL, loss, BOUNDS, batches=batches, checkpoint=tmp_path, **same)
    with pytest.raises(ValueError, match="starts = 2, not 1"):
        train.fit(MODEL, loss, BOUNDS, batches=batches, checkpoint=tmp_path, resume=True, **same | {"starts": 1})


def test_a_step_into_nan_is_reported_taken_back_and_halved():
    model = {"a": jnp.asarray(3.0)}
    loss = lambda m: m["a"] - jnp.log(m["a"] - 1.0)  # noqa: E731  least at 2, NaN below 1
    with pytest.warns(UserWarning, match=r"step 1, start 0: the loss is nan at a = -2"):
        got = train.fit(model, loss, {"a": train.Identity()}, method=optax.sgd(10.0), steps=60, **QUIET)
    assert got.reports
    assert got.loss < float(loss(model))
    assert np.isfinite(got.parameters["a"])


def test_a_gradient_that_is_nan_names_its_parameter_and_a_dead_fit_raises():
    model = {"a": jnp.asarray(1.0), "b": jnp.asarray(1.0)}
    loss = lambda m: m["a"] ** 2 + jnp.sqrt(0.0 * m["b"])  # noqa: E731
    both = {"a": train.Identity(), "b": train.Identity()}
    with pytest.warns(UserWarning, match="gradient of b is not finite at b = 1"), pytest.raises(train.FitError):
        train.fit(model, loss, both, steps=60, **QUIET)


def lif():
    return bs.Network({"P": bs.Population(bs.LIF(tau_m=20.0, g_l=10.0), 1, i_e=50.0)})


def potential(net, t1=20.0):
    return bs.simulate(net, t1=t1, dt=0.5, key=jax.random.key(0), saveat=[bs.Trace("P.v")])["P.v"][:, 0]


def never(net):
    raise AssertionError("the loss was asked")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"P.unit.tau": (1.0, 9.0)}, "loss": never}, "Did you mean 'P.unit.tau_m'"),
        ({"parameters": {"P.unit.tau_m": (1.0, 9.0)}, "loss": never}, r"start of 'P.unit.tau_m' is 20, which Bounded"),
        ({"parameters": {"P.unit.tau_m": (30.0, 9.0)}, "loss": never}, "low < high"),
        ({"parameters": {"P.unit.e_l": train.Softplus()}, "loss": never}, "excludes"),
        ({"loss": lambda net: potential(net)}, r"an array of shape \(40,\); expected one number"),
        ({"loss": lambda net: jnp.sum(potential(net)) * jnp.nan}, "loss is nan at the start"),
        ({"loss": lambda net: train.voltage(potential(net), np.zeros(50))}, "data longer than the run"),
        ({"starts": 3, "loss": never}, "give key="),
        ({"starts": {"P.unit.tau": [1.0]}, "loss": never}, "starts of parameter 'P.unit.tau' does not exist"),
        ({"starts": {"P.unit.tau_m": [10.0, 99.0]}, "loss": never}, "a start of 'P.unit.tau_m' is 99"),
        ({"resume": True}, "needs checkpoint="),
    ],
)
def test_bad_values_are_named_before_the_fit_compiles(change, message):
    given = {"loss": lambda net: train.voltage(potential(net), np.zeros(40)), "parameters": {"P.unit.tau_m": (5, 50)}}
    given |= {k: v for k, v in change.items() if k in given}
    rest = {k: v for k, v in change.items() if k not in given}
    with pytest.raises(ValueError, match=message):
        train.fit(lif(), given["loss"], given["parameters"], **rest, **QUIET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": ["P.unit.tau_m"]}, "expected a dict"),
        ({"parameters": {"P.unit.tau_m": 5.0}}, r"expected a pair \(low, high\)"),
        ({"method": "adam"}, "expected an optax transformation"),
        ({"method": LM}, "needs residuals"),
        ({"loss": 3.0}, "expected a function of the network"),
    ],
)
def test_bad_types_are_named(change, message):
    given = {"loss": never, "parameters": {"P.unit.tau_m": (5.0, 50.0)}} | change
    with pytest.raises(TypeError, match=message):
        train.fit(lif(), given.pop("loss"), given.pop("parameters"), **given, **QUIET)


def test_parameters_are_named_by_node_and_edge():
    receptors = {"exc": bs.ExpCond()}
    net = bs.Network(
        {"P": bs.Population(bs.LIF(), 3, receptors, noise=bs.WhiteNoise({"v": 0.5}), init={"v": -60.0})},
        {"PP": bs.Projection("P", "P.exc", bs.AllToAll(), weight=1.0)},
        key=jax.random.key(0),
    )
    known = train.parameters(net)
    names = {"P.unit.tau_m", "P.receptors.exc.tau", "P.noise.sigma.v", "P.i_e", "P.init_values.v", "PP.weight"}
    assert names <= set(known)
    assert known["P.unit.tau_m"] == 20.0


@pytest.mark.parametrize(
    "transform", [train.Bounded(-2.0, 5.0), train.Log(0.1, 10.0), train.Softplus(-1.0), train.Identity()]
)
def test_transforms_are_bijections_whose_draws_stay_in_the_bounds(transform):
    p = jnp.asarray([0.2, 1.0, 4.5])
    np.testing.assert_allclose(transform.forward(transform.inverse(p)), p, rtol=1e-5)
    drawn = jax.vmap(lambda key: transform.draw(key, p, 1.0))(jax.random.split(jax.random.key(0), 200))
    assert np.all(transform.allows(np.asarray(drawn)))
    assert np.std(drawn[:, 1]) > 0.1
    np.testing.assert_allclose(transform.draw(jax.random.key(0), p, 0.0), p, rtol=1e-6)


@pytest.mark.core
def test_the_bound_of_a_line_is_the_textbook_one():
    t = np.linspace(-1.0, 2.0, 20)
    model = {"slope": jnp.asarray(2.0), "offset": jnp.asarray(-1.0), "idle": jnp.asarray(1.0)}
    line = train.LeastSquares(lambda m: m["slope"] * jnp.asarray(t, m["slope"].dtype) + m["offset"], 0.1)
    got = train.cramer_rao(model, line, {"slope": train.Identity(), "offset": train.Identity()})
    design = np.stack([t, np.ones_like(t)], 1)
    np.testing.assert_allclose(got.covariance, 0.01 * np.linalg.inv(design.T @ design), rtol=1e-4)
    np.testing.assert_allclose(got.relative, got.sd / [2.0, 1.0])
    got = train.cramer_rao(model, line, {"slope": train.Identity(), "idle": train.Identity()})
    assert np.isinf(got.sd[1])  # no residual sees it
    assert np.isfinite(got.sd[0])


def test_a_parameter_without_a_gradient_is_reported_with_what_to_use_instead():
    net = bs.Network({"P": bs.Population(bs.LIF(t_ref=2.0), 1, i_e=150.0)})

    def loss(net):
        sol = bs.simulate(net, t1=20.0, dt=0.1, key=jax.random.key(0), saveat=[bs.Trace("P.v")])
        return jnp.mean((sol["P.v"] + 55.0) ** 2)

    with pytest.warns(UserWarning, match=r"P\.unit\.t_ref is exactly zero.*CMAES"):
        fitted = train.fit(net, loss, {"P.unit.t_ref": (0.0, 5.0)}, steps=2, progress=False)
    assert "LinearDelay" in fitted.reports[0]
    # the other one moves
    still = [r for r in train.fit(net, loss, {"P.i_e": (0.0, 500.0)}, steps=2, progress=False).reports if "zero" in r]
    assert not still


def test_an_end_at_a_bound_is_reported():
    with pytest.warns(UserWarning, match="a ends at its bound 2"):
        train.fit({"a": jnp.asarray(1.0)}, lambda m: (m["a"] - 9.0) ** 2, {"a": (0.0, 2.0)}, steps=300, progress=False)


def test_of_mini_batches_the_last_point_is_returned():
    """The least loss is that of the easiest batch, here the first, wherever the parameters were then."""
    loss = lambda x, easy: (x["a"] - 1.0) ** 2 - easy  # noqa: E731
    start, free = {"a": jnp.asarray(3.0)}, {"a": bs.train.Identity()}
    given = dict(steps=30, batches=lambda k: jnp.asarray(10.0 if k == 0 else 0.0), progress=False)
    assert float(bs.train.fit(start, loss, free, **given).parameters["a"]) == 3.0
    last = bs.train.fit(start, loss, free, last=True, **given)
    assert float(last.parameters["a"]) < 2.5
    assert last.loss == pytest.approx(last.history[-1, 0])
    with pytest.raises(TypeError, match="last=True with CMAES"):
        bs.train.fit(start, loss, free, method=bs.train.CMAES(), last=True, **given)
