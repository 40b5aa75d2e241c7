"""Cores that keep their limits, and memory that holds every synapse once, to the bit (I1, I2, I5)."""

import dataclasses

import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import (
    LOIHI,
    LOIHI1,
    LOIHI2,
    SPINNAKER2,
    Cells,
    Image,
    LoweringError,
    Synapses,
    decode,
    legalise,
    merged,
    pack,
    read,
    used,
    write,
)

from .nets import events, tables, words

LIMITS = {rule: fact.value for rule, fact in LOIHI1.limits.items()}


def big(n=3000, fan=40, thresholds=5, decays=3, seed=0, delay=6):
    """A random network of `n` cells that takes several cores."""
    rng = np.random.default_rng(seed)
    cells = Cells(
        n,
        threshold=100 + rng.integers(0, thresholds, n),
        decay_u=500 + rng.integers(0, decays, n),
        decay_v=900,
        bias=rng.integers(-300, 900, n) << 2,
        refractory=3,
    )
    rec = Synapses(
        "P",
        "P",
        np.repeat(np.arange(n), fan),
        rng.integers(0, n, n * fan),
        2 * rng.integers(-100, 100, n * fan),
        delay=rng.integers(0, delay + 1, n * fan),
    )
    inputs = Synapses("x", "P", rng.integers(0, 20, n), np.arange(n), rng.integers(1, 255, n), 1, mixed=False)
    inhibition = Synapses(
        "x", "P", rng.integers(0, 20, n), np.arange(n), -4 * rng.integers(1, 60, n), bits=6, mixed=False
    )
    return Image.of(LOIHI, {"P": cells}, {"rec": rec, "in": inputs, "off": inhibition}, {"x": 20})


def listed(s):
    """Synapses in an order of their own."""
    rows = np.stack([s.sources, s.targets, s.mantissa, s.delay])
    return rows[:, np.lexsort(rows)]


@pytest.mark.core
def test_memory_holds_every_synapse_once():
    image = big()
    layout = legalise(image.tables)
    packed = pack(image, layout)
    again = decode(packed)
    assert layout.n_cores == 3
    for name, s in image.tables.synapses.items():
        other = again.tables.synapses[name]
        assert np.array_equal(listed(s), listed(other))
        assert (s.pre, s.post, s.exponent, s.bits, s.mixed) == (
            other.pre,
            other.post,
            other.exponent,
            other.bits,
            other.mixed,
        )
    for field in dataclasses.fields(Cells):
        assert np.array_equal(
            getattr(image.tables.cells["P"], field.name), getattr(again.tables.cells["P"], field.name)
        )
    x = {"x": events(0, 30, 20)}
    saveat = [bs.Trace("P.u"), bs.Trace("P.v")]
    a, b = (i.simulate(30, inputs=x, saveat=saveat) for i in (image, again))
    assert all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in ("P.u", "P.v"))


def test_limits_are_kept_as_counted_in_the_memory():
    """From the packed bits and lists alone, not from what the allocator counted."""
    image = big()
    layout = legalise(image.tables)
    counted = used(pack(image, layout))
    assert counted.keys() == layout.usage.keys()
    for rule, own in counted.items():
        assert np.array_equal(own, layout.usage[rule]), rule
        assert own.max() <= LIMITS[rule]
        assert f"{rule}: at most {own.max():,} of" in str(layout)


def test_a_core_of_loihi_2_shares_its_memory():
    image = big(n=1500)
    layout = legalise(image.tables, LOIHI2)
    counted = used(pack(image, layout))
    assert counted.keys() == layout.usage.keys() == {"L2-COMP", "L2-MEM"}
    assert all(np.array_equal(own, layout.usage[rule]) for rule, own in counted.items())
    assert layout.n_cores == 2  # 63,000 synapses of some 4 bytes: more than 192 kB, by memory, not by cells
    assert layout.usage["L2-COMP"].max() < LOIHI2.limits["L2-COMP"].value
    assert layout.usage["L2-MEM"].max() <= LOIHI2.limits["L2-MEM"].value


def test_cores_close_at_the_tightest_limit():
    wide = legalise(big(n=1500, fan=2, thresholds=1, decays=1).tables)
    assert wide.n_cores == 2
    assert wide.usage["L1-COMP"].tolist() == [1024, 476]
    many = legalise(big(n=200, fan=2, thresholds=40, decays=1).tables)
    assert many.usage["L1-VTH"].max() == LIMITS["L1-VTH"]
    assert many.n_cores == 5
    tuples = legalise(big(n=200, fan=2, thresholds=1, decays=100).tables)
    assert tuples.usage["L1-CFG"].max() == LIMITS["L1-CFG"]


def test_cells_of_equal_threshold_share_a_core_where_that_takes_fewer():
    cells = Cells(320, threshold=100 + np.arange(320) // 10, decay_u=300 + np.arange(320) % 10)
    layout = legalise(Image.of(LOIHI, {"P": cells}, {}, {}).tables)
    assert layout.n_cores == 4  # 32 thresholds, 8 a core; in the order of decays each core would see them all
    assert layout.usage["L1-CFG"].tolist() == [10] * 4


def test_where_cells_lie_changes_no_word():
    image = big(n=300, fan=20)
    layout = legalise(image.tables)
    rng = np.random.default_rng(1)
    core = {"P": rng.choice([0, 1, 3, 6], 300)}  # some cores are empty
    slot = {"P": np.zeros(300, np.int64)}
    for c in range(7):
        some = np.flatnonzero(core["P"] == c)
        slot["P"][rng.permutation(some)] = np.arange(some.size)
    moved = dataclasses.replace(layout, core=core, slot=slot)
    x = {"x": events(0, 30, 20)}
    saveat = [bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")]
    runs = [decode(pack(image, where)).simulate(30, inputs=x, saveat=saveat) for where in (layout, moved)]
    for k in ("P.u", "P.v", "P.events"):
        assert np.array_equal(np.asarray(runs[0][k]), np.asarray(runs[1][k]))


def test_random_tables_come_back():
    for seed in range(40):
        given = tables(seed, LOIHI, n=(1, 37, 89)[seed % 3])  # few shapes to compile
        given[0]["P"] = dataclasses.replace(given[0]["P"], v_min=1 - 2**23)
        image = Image.of(LOIHI, *given)
        layout = legalise(image.tables)
        packed = pack(image, layout)
        assert all(np.array_equal(own, layout.usage[rule]) for rule, own in used(packed).items())
        again = decode(packed).tables
        assert all(np.array_equal(listed(s), listed(again.synapses[k])) for k, s in given[1].items())
        assert np.array_equal(again.cells["P"].bias, given[0]["P"].bias)


def test_duplicates_are_added_up():
    given = tables(1, LOIHI)
    s = Synapses("P", "P", [0, 0, 1, 0], [1, 1, 2, 1], [10, 20, 30, 40], delay=[0, 0, 0, 3])
    assert listed(merged(s)).tolist() == [[0, 1, 0], [1, 2, 1], [30, 30, 40], [0, 0, 3]]
    x = {"x": events(0, 40, 8)}
    a, b = (words(LOIHI, given[0], given[1] | {"rec": t}, given[2], x) for t in (s, merged(s)))
    assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
    many = Synapses("P", "P", [0, 0], [1, 1], [200, 200])
    assert merged(many) is many


def test_an_image_is_a_file(tmp_path):
    pytest.importorskip("h5py")
    image = big(n=300, fan=5)
    packed = pack(image, legalise(image.tables))
    write(tmp_path / "image.h5", packed)
    again = read(tmp_path / "image.h5")
    assert all(np.array_equal(x, getattr(again, k)) for k, x in vars(packed).items() if k != "about")
    assert np.array_equal(listed(decode(again).tables.synapses["rec"]), listed(image.tables.synapses["rec"]))
    import h5py

    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(ValueError, match="is no image of a chip"):
        read(tmp_path / "other.h5")


def _fan_in(n, size=1):
    return Image.of(
        LOIHI,
        {"P": Cells(size, threshold=10)},
        {"in": Synapses("x", "P", np.arange(n), np.zeros(n, int), np.full(n, 2))},
        {"x": n},
    )


def _edges(k):
    synapses = {f"e{j}": Synapses("x", "P", [0], [0], [2]) for j in range(k)}
    return Image.of(LOIHI, {"P": Cells(1, threshold=10)}, synapses, {"x": 1})


@pytest.mark.parametrize(
    "rule, image",
    [
        ("L1-IN", _fan_in(4097)),
        ("L1-FMT", _edges(9)),
        ("L1-CORES", Image.of(LOIHI, {"P": Cells(128 * 1024 + 1, threshold=10)}, {}, {})),
        ("L1-CORES", Image.of(LOIHI, {"P": Cells(1200, threshold=np.arange(1200))}, {}, {})),
    ],
)
def test_what_does_not_fit_is_refused_with_its_rule(rule, image):
    with pytest.raises(LoweringError, match=rf"\[{rule}\] .*{LIMITS[rule]:,.0f}".replace(",", "")) as e:
        legalise(image.tables)
    assert e.value.rule == rule


def test_more_refusals():
    image = _fan_in(3)
    with pytest.raises(ValueError, match="spinnaker2 has no integer cells"):
        legalise(image.tables, SPINNAKER2)
    clipped = Image.of(LOIHI, {"P": Cells(1, threshold=10, v_min=-1023)}, {}, {})
    with pytest.raises(ValueError, match="have limits of v"):
        pack(clipped, legalise(clipped.tables))
