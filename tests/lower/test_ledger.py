"""Counts and energies of a run on many cores: those of SANA-FE 2.2.9, and of plain loops."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import (
    DIALECTS,
    LOIHI,
    LOIHI1,
    Cells,
    Image,
    LoweringError,
    Synapses,
    ledger,
    legalise,
    overflows,
    place,
    tiles,
)

from .nets import events, tables

FILE = Path(__file__).parents[1] / "golden" / "chips" / "sanafe.json"
ENERGY = 1e-12
"""Relative: sums of some thousand floats of 64 bits."""


def placed(image, core):
    """A layout with the cells of "P" on `core`."""
    layout, n = legalise(image.tables), int(core.max()) + 1
    slot = np.zeros(core.size, np.int64)
    for c in range(n):
        slot[core == c] = np.arange(np.sum(core == c))
    usage = {rule: np.zeros(n, np.int64) for rule in layout.usage}
    return dataclasses.replace(layout, core={"P": core}, slot={"P": slot}, usage=usage)


@pytest.mark.core
def test_counts_and_energies_are_those_of_sana_fe():
    given = json.loads(FILE.read_text())
    net, counts, energy = (given[k] for k in ("net", "counts", "energy"))
    n, steps = len(net["threshold"]), net["steps"]
    cells = Cells(n, threshold=net["threshold"], decay_u=4095, decay_v=0, bias=64 * np.array(net["bias"]))
    rec = Synapses("P", "P", net["source"], net["target"], net["mantissa"])
    image = Image.of(LOIHI, {"P": cells}, {"rec": rec}, {})
    layout = placed(image, np.array(net["core"]))
    sol = image.simulate(steps, saveat=[bs.Events("P"), bs.Trace("P.v")])
    got = ledger(image, layout, {"P": sol["P.events"]}, {"P": sol["P.v"]})
    assert got.spikes.sum() == counts["neurons_fired"]
    assert got.updated.sum() == counts["neurons_updated"]
    assert got.synaptic_events.sum() == counts["spikes"]
    assert got.packets == counts["packets_sent"]
    assert got.hops_east_west + got.hops_north_south == counts["hops"]
    pj = got.energy(LOIHI1.energy["sana-fe"])
    parts = {"synapse": ("synaptic event",), "soma": ("neuron, accessed", "neuron, updated", "neuron, spiked")}
    parts |= {"network": ("packet", "hop east-west", "hop north-south"), "total": tuple(pj)}
    for part, of in parts.items():
        assert 1e-12 * sum(pj[k] for k in of) == pytest.approx(energy[part], rel=ENERGY)
    low = sum(got.energy(LOIHI1.energy["davies"]).values())
    assert 0 < low < sum(pj.values())
    assert f"{counts['packets_sent']:,} packets" in str(got)
    with pytest.raises(ValueError, match="nothing is counted for"):
        got.energy({"laser": LOIHI1.limits["L1-COMP"]})


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_no_overflow_is_silent(dialect):
    """Every wrap and clip is counted (I7), and none happens where it is proved that none can."""
    for strong in (False, True):
        if strong and dialect.u_range is None:
            continue
        cells, synapses, inputs = tables(3, dialect, strong=strong)
        image, x = Image.of(dialect, cells, synapses, inputs), events(4, 50, 8)
        sol = image.simulate(50, inputs={"x": x}, saveat=[bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")])
        u, v = np.asarray(sol["P.u"]), np.asarray(sol["P.v"])
        found = overflows(image, {"P": sol["P.events"], "x": x}, {"P": u}, {"P": v})["P"]
        steady = image.tables.bounds["P"].steady
        assert not np.any((found.wraps + found.clips)[steady])
        if strong:
            jumps = np.abs(np.diff(u, axis=0)) > 2**23  # weights are far below: u has turned over
            assert np.all(found.wraps >= jumps.sum(0) * (dialect.q_bits is None))
            assert found.wraps.sum() > 0
        with pytest.raises(AssertionError):
            overflows(image, {"P": sol["P.events"], "x": x}, {"P": u + (u == u.max())}, {"P": v})


def test_counts_are_those_of_plain_loops():
    cells, synapses, inputs = tables(1, LOIHI)
    image, steps = Image.of(LOIHI, cells, synapses, inputs), 40
    x, n = events(2, steps, 8), cells["P"].size
    core = np.random.default_rng(0).integers(0, 30, n)
    layout = placed(image, core)
    sol = image.simulate(steps, inputs={"x": x}, saveat=[bs.Events("P"), bs.Trace("P.v")])
    s, v = np.asarray(sol["P.events"]), np.asarray(sol["P.v"])
    got = ledger(image, layout, {"P": s, "x": x}, {"P": v})
    assert s.sum() > 20
    synaptic, packets, outside, ew, ns = np.zeros(layout.n_cores, int), 0, 0, 0, 0
    arrived = np.zeros((steps + 70, n), bool)
    for t in range(steps):
        for name, emitted in (("P", s), ("x", x)):
            for k in np.flatnonzero(emitted[t]):
                cores = set()
                for rec in synapses.values():
                    if rec.pre != name:
                        continue
                    for j in np.flatnonzero(rec.sources == k):
                        synaptic[core[rec.targets[j]]] += 1
                        cores.add(int(core[rec.targets[j]]))
                        arrived[t + 1 + rec.delay[j], rec.targets[j]] = True
                if name == "x":
                    outside += len(cores)
                    continue
                packets += len(cores)
                for c in cores:
                    a, b = core[k] // 4, c // 4
                    ew, ns = ew + abs(a // 4 - b // 4), ns + abs(a % 4 - b % 4)
    assert np.array_equal(got.synaptic_events.sum(0), synaptic)
    assert (got.packets, got.input_packets) == (packets, outside)
    assert (got.hops_east_west, got.hops_north_south) == (ew, ns)
    assert np.array_equal(got.accessed, np.bincount(core, minlength=layout.n_cores) * steps)
    before = np.concatenate([np.zeros((1, n)), np.where(s > 0, 0, v)[:-1]])
    busy = arrived[:steps] | (before != 0) | (cells["P"].bias != 0)
    assert np.array_equal(got.updated.sum(0), np.bincount(core, weights=busy.sum(0), minlength=layout.n_cores))
    assert got.sent.sum() == packets
    assert got.received.sum() == packets + outside
    check_latency(got)


def check_latency(got):
    """The slowest core of every step by plain loops."""
    of = {k: f.value for k, f in LOIHI1.latency["sana-fe"].items()}
    where, low, high = tiles(got.layout), 0.0, 0.0
    assert 4 <= len({tuple(t) for t in where.tolist()}) < 29
    for t in range(got.steps):
        sends, takes = [], []
        for c in range(got.layout.n_cores):
            soma = of["neuron, accessed"] * got.cells[c] + of["neuron, updated"] * got.updated[t, c]
            sends.append(soma + of["neuron, spiked"] * got.spikes[t, c] + of["packet, sent"] * got.sent[t, c])
            takes.append(of["packet, received"] * got.received[t, c] + of["synaptic event"] * got.synaptic_events[t, c])
        way = max(
            of["hop east-west"] * abs(where[a][0] - where[b][0])
            + of["hop north-south"] * abs(where[a][1] - where[b][1])
            for a, b in zip(*np.nonzero(got.traffic), strict=True)
        )
        low += max(*sends, *takes) + of["barrier of 4 tiles"]
        high += max(sends) + max(takes) + of["barrier of 4 tiles"] + way * bool(got.sent[t].sum())
    assert got.latency(LOIHI1.latency["sana-fe"]) == pytest.approx((low, high), rel=ENERGY)
    with pytest.raises(ValueError, match=r"Ledger\.latency: nothing is counted for \['laser'\]"):
        got.latency({"laser": LOIHI1.limits["L1-COMP"]})


def test_several_chips_stand_in_a_row():
    """Core 127 is the last of a chip, core 128 the first of the next, one column further."""
    n = 130
    cells = {"P": Cells(n, threshold=10, bias=300)}
    image = Image.of(LOIHI, cells, {"rec": Synapses("P", "P", [0, 127, 128], [128, 129, 127], [2, 2, 2])}, {})
    layout = placed(image, np.arange(n))
    assert layout.n_chips == 2
    assert layout.chip.tolist() == [0] * 128 + [1] * 2
    assert "on 2 chips" in str(layout)
    assert tiles(layout)[[127, 128]].tolist() == [[7, 3], [8, 0]]
    sol = image.simulate(6, saveat=[bs.Events("P"), bs.Trace("P.v")])
    got = ledger(image, layout, {"P": sol["P.events"]}, {"P": sol["P.v"]})
    each = np.asarray(sol["P.events"]).sum(0)[[0, 127, 128]]
    assert got.hops_between_chips == each.sum() > 0
    assert got.hops_east_west == each @ [8, 1, 1]
    assert got.hops_north_south == each @ [0, 3, 3]
    assert f"{got.hops_between_chips:,} between chips" in str(got)


def test_a_network_too_large_for_a_chip_takes_several():
    tables_ = Image.of(LOIHI, {"P": Cells(1200, threshold=np.arange(1200))}, {}, {}).tables  # 8 thresholds a core
    with pytest.raises(LoweringError, match=r"\[L1-CORES\] chip: 150 are needed.* Give chips=2 or more"):
        legalise(tables_)
    layout = legalise(tables_, chips=2)
    assert layout.n_cores == 150
    assert layout.n_chips == 2
    assert place(tables_, chips=2, rounds=1).n_chips == 2
    with pytest.raises(ValueError, match=r"chips=0; expected a whole number of chips >= 1"):
        legalise(tables_, chips=0)
