"""Images against plain loops over 64-bit integers, in every dialect, however they are run; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.lower import BRIAN2_LOIHI, DIALECTS, LAVA, LOIHI, NENGO_LOIHI, Cells, Image, Synapses, nearest_bias
from brainsim.lower._arithmetic import decay, shift_down, wrap_turns
from brainsim.lower._tables import bias_registers

from .nets import events, tables, words

EVERY = [bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")]
STEPS = 60


def _words(sol):
    return [np.asarray(sol[f"P.{k}"]).astype(np.int64) for k in ("u", "v", "events")]


@pytest.mark.core
@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_words_are_those_of_64_bit_integers(dialect, strong):
    if strong and dialect is BRIAN2_LOIHI:
        pytest.skip("without a wrap strong weights leave 24 bits, which is refused: below")
    given = tables(3, dialect, strong=strong)
    x = {"x": events(4, STEPS, 8)}
    image = Image.of(dialect, *given)
    got = _words(image.simulate(STEPS, inputs=x, saveat=EVERY))
    want = words(dialect, *given, x)
    assert sum(int(np.sum(a != b)) for a, b in zip(got, want, strict=True)) == 0
    assert want[2].sum() > 20
    if strong:  # and the wraps have happened
        assert np.abs(want[0]).max() > 0.9 * 2**23


def test_bounds_hold():
    for seed in range(6):
        for dialect in DIALECTS.values():
            given = tables(seed, dialect, strong=bool(seed % 2) and dialect is not BRIAN2_LOIHI)
            proved = Image.of(dialect, *given).tables.bounds["P"]
            u, v, _ = words(dialect, *given, {"x": events(seed, STEPS, 8, rate=0.5)})
            assert np.all((u >= proved.u_low) & (u <= proved.u_high))
            v = np.where(v == dialect.marker, 0, v)
            assert np.all((v >= proved.v_low) & (v <= proved.v_high))


@pytest.mark.optimised
def test_however_it_is_run(monkeypatch):
    """One run, two halves, a batch, XLA alone: the same bits, over wraps and delays (I6)."""
    given = tables(5, NENGO_LOIHI, strong=True)
    image, x = Image.of(NENGO_LOIHI, *given), events(6, STEPS, 8)
    whole = image.simulate(STEPS, inputs={"x": x}, saveat=EVERY)
    first = image.simulate(STEPS // 2, inputs={"x": x[: STEPS // 2]}, saveat=EVERY)
    second = image.simulate(STEPS // 2, inputs={"x": x[STEPS // 2 :]}, state=first.state, saveat=EVERY)
    halves = [np.concatenate(pair) for pair in zip(_words(first), _words(second), strict=True)]
    batch = jnp.asarray(np.stack([x, events(7, STEPS, 8)]), jnp.result_type(float))
    many = jax.vmap(lambda x: image.simulate(STEPS, inputs={"x": x}, saveat=EVERY))(batch)
    for got in (halves, [a[0] for a in _words(many)]):
        assert all(np.array_equal(a, b) for a, b in zip(_words(whole), got, strict=True))
    monkeypatch.setenv("BRAINSIM_FUSION", "off")
    jax.clear_caches()
    try:
        plain = Image.of(NENGO_LOIHI, *given)
        assert "XLA (BRAINSIM_FUSION=off)" in str(plain.summary())
        again = plain.simulate(STEPS, inputs={"x": x}, saveat=EVERY)
    finally:
        monkeypatch.undo()
        jax.clear_caches()
    assert all(np.array_equal(a, b) for a, b in zip(_words(whole), _words(again), strict=True))


@pytest.mark.core
def test_arithmetic():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.integers(1 - 2**24, 2**24, 200_000), [0, 1 - 2**24, 2**24 - 1, 4095, -4096, 4097]])
    keep = np.concatenate([rng.integers(0, 4097, 200_000), [0, 4096, 4096, 4095, 4095, 1]])
    got = jax.jit(decay)(np.float32(x), np.float32(keep))
    assert np.array_equal(np.asarray(got).astype(np.int64), np.sign(x) * ((np.abs(x) * keep) >> 12))
    q = rng.integers(-(2**23), 2**23, 100_000)
    assert np.array_equal(np.asarray(wrap_turns(np.float32(q), 22)), (q + 2**21) % 2**22 - 2**21)
    assert np.array_equal(np.asarray(shift_down(np.float32(q) * 2.0**-3)), q >> 3)
    for f in (lambda x: wrap_turns(x, 22), shift_down):
        assert jax.grad(f)(jnp.asarray(12.0)) == 1.0
    slopes = jax.grad(lambda x, k: decay(x, k), argnums=(0, 1))(jnp.asarray(1000.0), jnp.asarray(1024.0))
    assert slopes == (0.25, 1000 / 4096)


def test_what_cannot_be_proved_is_watched():
    """brian2-loihi wraps nothing: a cell without decay runs out of 24 bits, and says so instead of rounding."""
    cells = {"P": Cells(2, threshold=131_071, decay_u=[0, 4096], decay_v=4096)}
    synapses = {"in": Synapses("x", "P", [0, 0], [0, 1], [254, 254], 7)}
    image = Image.of(BRIAN2_LOIHI, cells, synapses, {"x": 1})
    proved = image.tables.bounds["P"]
    assert proved.exact.tolist() == [False, True]
    assert "exact in float32 1" in str(proved)
    x = {"x": np.ones((30, 1))}
    if jnp.result_type(float) == jnp.float32:
        with pytest.raises(bs.SimulationError, match="'P'"):
            image.simulate(30, inputs=x)
    u, _, _ = _words(image.simulate(8, inputs={"x": x["x"][:8]}, saveat=EVERY))
    assert u[-1].tolist() == [7 * 254 * 2**13, 254 * 2**13]


@pytest.mark.parametrize("dialect", [LOIHI, LAVA], ids=["loihi", "lava"])
def test_sums_beyond_24_bits_are_exact(dialect):
    """What arrives in a step may be more than u holds: float32 rounds such a sum, but not what is left of it."""
    k, n, steps = 12, 20, 200
    mantissa = np.where(np.arange(k) % 3, 220, 198)
    source, target = (x.reshape(-1) for x in np.indices((k, n)))
    cells = {"P": Cells(n, threshold=131_071, decay_u=np.linspace(2900, 4000, n).astype(int), decay_v=2000)}
    weak = Synapses("y", "P", np.arange(n), np.arange(n), 2 * np.arange(n))
    synapses = {"strong": Synapses("x", "P", source, target, mantissa[source], 7), "weak": weak}
    given, x = (cells, synapses, {"x": k, "y": n}), {"x": events(1, steps, k, 0.8), "y": events(2, steps, n, 0.5)}
    image = Image.of(dialect, *given)
    assert np.all(image.tables.bounds["P"].exact)
    assert not np.any(image.tables.bounds["P"].steady)
    got, want = _words(image.simulate(steps, inputs=x, saveat=EVERY)), words(dialect, *given, x)
    assert sum(int(np.sum(a != b)) for a, b in zip(got, want, strict=True)) == 0
    assert (x["x"] @ mantissa).max() * 2**13 > 1.1 * 2**24
    assert np.mean(want[0] % 2) > 0.2  # u is odd, so that sums were rounded
    more = Synapses("y", "P", np.arange(n), np.arange(n), 254, 7)  # too much to be turned once
    proved = Image.of(dialect, cells, synapses | {"more": more, "most": more}, {"x": k, "y": n}).tables.bounds["P"]
    assert not np.any(proved.exact[:10])
    assert "may not be and are watched" in str(proved)


def test_a_chip_reads_128_in_the_step_of_a_spike():
    image = Image.of(LOIHI, {"P": Cells(1, threshold=10, bias=300)}, {}, {})
    v = np.asarray(image.simulate(5, saveat=[bs.Trace("P.v")])["P.v"])[:, 0]
    assert v.tolist() == [300, 600, 128, 300, 600]


def test_biases_and_their_registers():
    assert [x.tolist() for x in bias_registers([5, -4096, 4096, 8190, -(4096 << 7)])] == [
        [5, -4096, 2048, 4095, -4096],
        [0, 0, 1, 1, 7],
    ]
    assert nearest_bias([4097, 8193.2, -1e9, 524_000.0]).tolist() == [4096, 8192, -(4096 << 7), 4094 << 7]


P, IN = {"P": Cells(2, threshold=10)}, Synapses("x", "P", [0], [0], [2])


def _bad(dialect=LOIHI, cells=P, synapse=IN, inputs=None):
    return Image.of(dialect, cells, {"in": synapse}, {"x": 1} if inputs is None else inputs)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: Cells(0, threshold=1), r"Cells\.size is 0; expected a whole number of cells >= 1"),
        (lambda: Cells(2, threshold=2**17), r"Cells\.threshold contains 131072; expected 0 to 131071"),
        (lambda: Cells(2, threshold=1, decay_u=-1), r"Cells\.decay_u contains -1; expected 0 to 4096"),
        (lambda: Cells(2, threshold=1, refractory=65), r"Cells\.refractory contains 65; expected 1 to 64"),
        (lambda: Cells(2, threshold=[1, 2, 3]), r"Cells\.threshold has shape \(3,\); expected \(\) or \(2,\)"),
        (lambda: Cells(2, threshold=1, bias=8191), r"bias contains 8191; .* such as 8190"),
        (lambda: Synapses("x", "P", [0], [0], [300]), r"Synapses\.mantissa contains 300; expected -256 to 255"),
        (lambda: Synapses("x", "P", [0], [0, 1], [2]), r"sources of shape \(1,\) and targets of shape \(2,\)"),
        (lambda: Synapses("x", "P", [0], [0], [2], 8), r"Synapses\.exponent contains 8; expected -8 to 7"),
        (lambda: Synapses("x", "P", [0], [0], [2], delay=63), r"Synapses\.delay contains 63; expected 0 to 62"),
        (lambda: Synapses("x", "P", [0, 1], [0, 0], [2, -2], mixed=False), r"has both signs; .* mixed=True"),
        (lambda: _bad(cells={"P": Cells(2, threshold=1, decay_u=4096)}), r"cells 'P': Cells\.decay_u contains 4096"),
        (lambda: _bad(LAVA, {"P": Cells(2, threshold=1, refractory=2)}), r"lava has no refractory period"),
        (lambda: _bad(BRIAN2_LOIHI, {"P": Cells(2, threshold=1, bias=1)}), r"brian2-loihi has no bias"),
        (lambda: _bad(inputs={"P": 1}), r"\['P'\] name both cells and inputs"),
        (lambda: _bad(inputs={"y": 1}), r"synapses 'in': pre: group 'x' does not exist"),
        (lambda: _bad(synapse=Synapses("x", "P", [0], [2], [2])), r"reach unit 2 of 'P', which has 2"),
        (lambda: _bad(synapse=Synapses("x", "P", [0], [0], [3])), r"synapses 'in': mantissa / 2 = 1.5 lies"),
        (lambda: _bad(synapse=Synapses("x", "P", [0], [0], [2], -2)), r"mantissa 2\^-2 = 0.5 lies between"),
        (
            lambda: _bad(NENGO_LOIHI, synapse=Synapses("x", "P", [0], [0], [2], -8)),
            r"contains -8; expected -7",
        ),
        (lambda: _bad().simulate(2, inputs={"y": 1.0}), r"input 'y' does not exist"),
        (lambda: _bad().simulate(2, inputs={"x": 2.0}), r"inputs\['x'\] contains 2; expected 0 or 1"),
        (lambda: bs.lower.ChipLIF(v_th=0.5, dialect=LOIHI), r"ChipLIF\.v_th contains 0.5; expected whole numbers"),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_registers_are_integers():
    with pytest.raises(TypeError, match=r"Cells\.threshold is of type float64; expected integers"):
        Cells(2, threshold=10.0)
