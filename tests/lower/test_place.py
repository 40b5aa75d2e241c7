"""Cells on cores: fewer hops, no limit broken, no word changed (I5)."""

import dataclasses
import itertools

import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import LOIHI, LOIHI1, LOIHI2, Cells, Image, Synapses, decode, ledger, legalise, pack, place, used

SMALL = dataclasses.replace(  # 64 cells a core: small networks take many
    LOIHI1, limits={**LOIHI1.limits, "L1-COMP": dataclasses.replace(LOIHI1.limits["L1-COMP"], value=64)}
)


def small_world(n, k=20, rewired=0.02, seed=0):
    """A ring of `n` cells, each with its k neighbours, numbered at random: sources and targets."""
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(n), k)
    near = np.r_[-k // 2 : 0, 1 : k // 2 + 1]
    target = np.where(rng.random(n * k) < rewired, rng.integers(0, n, n * k), (source + np.tile(near, n)) % n)
    names = rng.permutation(n)
    return names[source], names[target]


def layered(side, channels):
    """Layers of `channels` maps of side x side cells, each reaching 3 x 3 of all maps of the next."""
    begin = np.cumsum([0, *(c * side * side for c in channels)])
    y, x = np.indices((side, side))
    found = []
    for k, (before, after) in enumerate(itertools.pairwise(channels)):
        for a, b, dy, dx in np.ndindex(before, after, 3, 3):
            to_y, to_x = y + dy - 1, x + dx - 1
            ok = (to_y >= 0) & (to_y < side) & (to_x >= 0) & (to_x < side)
            here, there = begin[k] + a * side * side + y * side + x, begin[k + 1] + b * side * side + to_y * side + to_x
            found.append(np.stack([here[ok], there[ok]]))
    return np.concatenate(found, axis=1)


def image(source, target, **how):
    n = int(max(source.max(), target.max())) + 1
    rng = np.random.default_rng(1)
    cells = Cells(n, threshold=100, decay_v=400, bias=rng.integers(0, 800, n), **how)
    return Image.of(LOIHI, {"P": cells}, {"rec": Synapses("P", "P", source, target, np.full(source.size, 8))}, {})


def hops(net, layout, rate):
    """Rate-weighted hops by plain loops over the tables."""
    core, total = layout.core["P"], 0.0
    rec = net.tables.synapses["rec"]
    for cell in range(core.size):
        for other in {int(core[t]) for t in rec.targets[rec.sources == cell]}:
            a, b = int(core[cell]) // 4, other // 4
            total += rate[cell] * (abs(a // 4 - b // 4) + abs(a % 4 - b % 4))
    return total


@pytest.mark.core
def test_placed_cells_have_fewer_hops_and_the_same_words():
    net = image(*small_world(1000))
    rate = np.random.default_rng(2).lognormal(size=1000)
    plain = legalise(net.tables, SMALL)
    start, placed = (place(net.tables, SMALL, rates={"P": rate}, rounds=rounds) for rounds in (0, 20))
    before, snake, after = (hops(net, layout, rate) for layout in (plain, start, placed))
    assert snake < 0.5 * before
    assert after < 0.97 * snake
    again = place(net.tables, SMALL, rates={"P": rate}, rounds=20)
    assert np.array_equal(again.core["P"], placed.core["P"])
    packed = pack(net, placed)
    for rule, own in used(packed).items():
        assert np.array_equal(own, placed.usage[rule])
        assert own.max() <= SMALL.limits[rule].value
    saveat = [bs.Trace("P.v"), bs.Events("P")]
    a, b = (i.simulate(40, saveat=saveat) for i in (net, decode(packed)))
    assert np.asarray(a["P.events"]).sum() > 500
    assert all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in ("P.v", "P.events"))
    books = [ledger(net, layout, {"P": a["P.events"]}, {"P": a["P.v"]}) for layout in (plain, placed)]
    assert books[1].packets < books[0].packets
    assert books[1].hops_east_west + books[1].hops_north_south < 0.6 * (
        books[0].hops_east_west + books[0].hops_north_south
    )


def test_cells_of_other_registers_keep_their_cores_apart():
    threshold = 100 + np.random.default_rng(0).integers(0, 20, 300)
    source, target = small_world(300)
    cells = Cells(300, threshold=threshold, decay_u=300)
    net = Image.of(LOIHI, {"P": cells}, {"rec": Synapses("P", "P", source, target, np.full(source.size, 8))}, {})
    layout = place(net.tables, SMALL, rounds=10)
    assert layout.usage["L1-VTH"].max() <= 8
    with pytest.raises(ValueError, match="the mesh of loihi2 is not known"):
        place(net.tables, LOIHI2)


@pytest.mark.slow
@pytest.mark.parametrize("name, least", [("small world", 0.7), ("layered", 0.8)])
def test_hops_of_large_networks(name, least):
    """Fewer than in the order of numbers by so much, and 3 % fewer than in reverse Cuthill-McKee order on a snake."""
    source, target = small_world(8000) if name == "small world" else layered(18, (2, 8, 8, 4))
    net = image(source, target)
    n = net.tables.cells["P"].size
    rate = np.random.default_rng(2).lognormal(size=n)
    plain = legalise(net.tables, SMALL)
    start, placed = (place(net.tables, SMALL, rates={"P": rate}, rounds=rounds) for rounds in (0, 60))
    before, snake, after = (hops(net, layout, rate) for layout in (plain, start, placed))
    print(name, n, before, 1 - snake / before, 1 - after / before, 1 - after / snake)
    assert after < (1 - least) * before
    assert after < 0.97 * snake


@pytest.mark.slow
def test_hundred_thousand_cells_compile_in_half_a_minute():
    """Placed and packed, from tables: 30 s of processor time and 2 GB."""
    import resource
    import time

    source, target = small_world(100_000, k=20, rewired=0.0)
    net = image(source, target)
    began = time.process_time()
    packed = pack(net, place(net.tables, LOIHI1, rounds=10))
    seconds, memory = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds:.1f} s, {memory:.2f} GB")
    assert packed.words.size > 1000
    assert seconds < 30
    assert memory < 2
