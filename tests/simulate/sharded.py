"""A program over four devices of the host, run by test_sharding.py: prints what it found as JSON."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import brainsim as bs

BY = PartitionSpec("m")
COLLECTIVES = ("all-gather", "all-reduce", "collective-permute", "all-to-all")
LAWS = {
    "Normal": bs.Normal(-55.0, 5.0),
    "bounded Normal": bs.Normal(1.0, 0.7, low=0.0),
    "Uniform": bs.Uniform(0.3, 1.7),
    "LogNormal": bs.LogNormal(-0.7, 0.9),
    "Exponential": bs.Exponential(2.0),
    "Gamma": bs.Gamma(4.0, 0.5),
}


def network():
    cells = bs.Population(
        bs.LIF(), 40, {"e": bs.ExpCurr(5.0), "i": bs.ExpCond(5.0, -80.0)}, i_e=200.0, init={"v": bs.Normal(-55.0, 5.0)}
    )
    rule = bs.FixedProbability(0.2)
    edges = {
        "e": bs.Projection("P[:32]", "P.e", rule, weight=5.0, delay=1.0),
        "i": bs.Projection("P[32:]", "P.i", rule, weight=2.0, delay=1.0),
        "s": bs.Projection("S", "P.e", rule, weight=10.0, delay=bs.Uniform(0.5, 2.0)),
    }
    return bs.Network({"P": cells, "S": bs.Source(bs.Poisson(20.0), 20)}, edges, key=jax.random.key(0))


NET = network()


def member(i, key, spikes=True):
    net = bs.train.with_parameters(NET, {"P.i_e": i})
    saveat = [bs.Trace("P.v", every=10), bs.Rate("P"), *([bs.Spikes("P")] if spikes else [])]
    sol = bs.simulate(net, t1=20.0, dt=0.1, key=key, saveat=saveat, throw=False)
    counts = sol["P.spikes"].counts if spikes else jnp.zeros(())
    return {"v": sol["P.v"], "counts": counts, "rate": jnp.mean(sol["P.rate"])}


def rate(i, key):
    return member(i, key, spikes=False)["rate"]


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((4,), ("m",), axis_types=(kind,))


def over(f, check):
    return jax.jit(jax.shard_map(jax.vmap(f), mesh=mesh(), in_specs=BY, out_specs=BY, check_vma=check))


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


def run_members(out):
    i, keys = jnp.linspace(180.0, 260.0, 8), jax.random.split(jax.random.key(1), 8)
    one = jax.jit(jax.vmap(member))(i, keys)
    assert float(jnp.sum(one["counts"])) > 20
    for check in (True, False):
        shared = over(member, check)
        text = shared.lower(i, keys).compile().as_text()
        out[f"played, check_vma={check}"] = "brainsim_scan" in text
        out[f"collectives, check_vma={check}"] = [x for x in COLLECTIVES if x in text]
        out[f"same bits, check_vma={check}"] = same(one, shared(i, keys))
    slope = lambda i, key: jax.jvp(lambda i: rate(i, key), (i,), (jnp.ones_like(i),))[1]  # noqa: E731
    for name, f in {"grad": jax.grad(rate), "jvp": slope}.items():
        a, b = (np.asarray(g(i, keys)) for g in (jax.jit(jax.vmap(f)), over(f, True)))
        out[name] = float(np.max(np.abs(a - b)) / np.max(np.abs(a)))


def draw_values(out):
    keys = jax.random.split(jax.random.key(3), 8)
    out["draws"] = {}
    for name, law in LAWS.items():

        def f(key, law=law):
            pop = bs.Population(bs.LIF(), 103, init={"v": law})
            net = bs.Network({"P": pop})
            return bs.initial_state(net, dt=0.1, key=key).nodes["P"].y["unit"]["v"]

        alone = np.stack([np.asarray(f(key)) for key in keys])
        ways = [jax.jit(jax.vmap(f))(keys), jax.lax.scan(lambda c, key, f=f: (c, f(key)), 0, keys)[1]]
        ways += [jax.jit(lambda keys, f=f: jnp.stack([f(key) for key in keys]))(keys), over(f, True)(keys)]
        out["draws"][name] = max(float(np.max(np.abs(np.asarray(x) - alone) / np.abs(alone))) for x in ways)


def sweep_members(out):
    model = lambda p, key: member(p["i"], key, spikes=False)  # noqa: E731
    space = bs.sweep.Grid({"i": np.linspace(180.0, 260.0, 11)})
    kw = dict(key=jax.random.key(0), progress=False)
    found = [
        bs.sweep.run(model, space, chunk=chunk, devices=jax.devices()[:n], **kw).dataset()
        for chunk, n in ((11, 1), (8, 4))
    ]
    out["sweep"] = all(np.array_equal(found[0][k], found[1][k]) for k in found[0])


def segmented_members(out):
    """Members that stop after one segment to six, in places that are refilled."""

    def advance(p, carry):
        step = jax.random.normal(jax.random.fold_in(carry["key"], carry["k"]))
        return carry | {"x": carry["x"] + p["i"] * step, "k": carry["k"] + 1}

    start = lambda p, key: {"x": jnp.zeros(()), "k": jnp.zeros((), jnp.int32), "key": key}  # noqa: E731
    parts = bs.sweep.Segments(start, advance, lambda p, carry: {"x": carry["x"], "k": carry["k"]}, 6)
    space = bs.sweep.Grid({"i": np.linspace(1.0, 2.0, 200)})
    kw = dict(key=jax.random.key(0), stop=lambda out: out["x"] > 1.0, progress=False)
    ways = [(64, 1), (32, 4), (8, 2)]
    found = [bs.sweep.run(parts, space, chunk=c, devices=jax.devices()[:n], **kw).dataset() for c, n in ways]
    out["segments"] = all(np.array_equal(found[0][k], other[k]) for other in found[1:] for k in found[0])
    out["segments of a member"] = np.unique(found[0]["k"]).tolist()


def warnings_and_refusals(out):
    for kind in (AxisType.Auto, AxisType.Explicit):
        i = jax.device_put(jnp.linspace(180.0, 260.0, 8), NamedSharding(mesh(kind), BY))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                jax.jit(jax.vmap(lambda i: rate(i, jax.random.key(0))))(i)
            except ValueError as e:
                out[f"refused, {kind.name}"] = str(e)
        out[f"warned, {kind.name}"] = [str(w.message) for w in told if "devices" in str(w.message)]


if __name__ == "__main__":
    found: dict = {"devices": len(jax.devices())}
    for part in (run_members, draw_values, sweep_members, segmented_members, warnings_and_refusals):
        part(found)
    print(json.dumps(found))
