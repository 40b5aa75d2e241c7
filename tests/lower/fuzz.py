"""Random networks in an image and in an emulator, word for word.

    python -m tests.lower.fuzz PEER PYTHON [--nets 200] [--seed 0]

PEER is nengo-loihi, brian2-loihi or lava, PYTHON an interpreter that has it (tests/golden/peers/loihi.py says which
versions). Prints how often every feature occurred, the words compared and those that differ; exits 1 if any does.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import brainsim as bs
from brainsim.lower import DIALECTS, Cells, Image, Synapses

from .nets import events

LAG = {"nengo-loihi": 0, "brian2-loihi": 1, "lava": 0}
"""By how many steps an input of the peer is earlier than one of an image."""
SCRIPT = Path(__file__).parents[1] / "golden" / "peers" / "loihi.py"


def drawn(dialect, seed, steps):
    """One random network with every feature of the peer, as an image's tables, and its input."""
    rng = np.random.default_rng(seed)
    n, n_in = int(rng.integers(33, 120)), int(rng.integers(4, 40))
    peer, strong = dialect.name, bool(rng.random() < 0.25) and dialect.u_range is not None
    each = (lambda f: f(n)) if peer == "nengo-loihi" else (lambda f: np.repeat(f(1), n))
    slow = rng.random() < 0.5
    top = 800 if slow else dialect.decay_u_max + 1
    exponent = int(rng.integers(0, 5))
    bias = np.zeros(n, np.int64)
    if dialect.bias:
        bias = rng.integers(-300, 600, n) << exponent
    threshold = each(lambda k: rng.integers(20, 2000, k))
    if strong:
        threshold = np.full(n, 131_071)
    cells = Cells(
        n,
        threshold=threshold,
        decay_u=each(lambda k: rng.integers(0, top, k)),
        decay_v=each(lambda k: rng.integers(0, top if slow else 4096, k)),
        bias=bias,
        refractory=each(lambda k: rng.integers(1, 6, k)) if dialect.refractory else 1,
        v_min=1 - 2 ** int(rng.integers(14, 24)) if peer == "nengo-loihi" else 1 - 2**23,
        v_max=2 ** (9 + 2 * int(rng.integers(5, 8))) - 1 if peer == "nengo-loihi" and not strong else 2**23 - 1,
    )
    synapses = {}
    for name, pre, size in (("in", "x", n_in), ("rec", "P", n)):
        source, target = np.nonzero(rng.random((size, n)) < rng.choice([0.05, 0.2, 0.6]))
        mantissa = rng.integers(int(-256 * rng.random()), 255, source.size)
        e = int(rng.integers(-4, 4)) if not strong else 7 - (name == "rec") * 2
        bits = int(rng.choice([5, 6, 8]))
        delay = np.zeros(source.size, np.int64)
        if peer == "brian2-loihi":
            delay[:] = rng.integers(0, 6)
        elif peer == "lava" and rng.random() < 0.5:
            delay = rng.integers(0, 9, source.size)
        mixed = peer != "lava" or bool(np.any(mantissa > 0) and np.any(mantissa < 0))
        synapses[name] = Synapses(pre, "P", source, target, mantissa, e, bits=bits, delay=delay, mixed=mixed)
    x = events(seed + 1, steps, n_in, rate=float(rng.choice([0.05, 0.2, 0.5])))
    return {"P": cells}, synapses, {"x": n_in}, x, exponent


def stored(cells, synapses, inputs, x, exponent):
    """The network as the peer's script reads it."""
    p = cells["P"]
    out = {"n": p.size, "n_in": inputs["x"], "x": x.astype(np.int64), "bias_exponent": exponent}
    names = ("threshold", "decay_u", "decay_v", "bias", "refractory", "v_min", "v_max")
    out |= {k: np.asarray(getattr(p, k)) for k in names}
    for name, s in synapses.items():
        fields = {"source": s.sources, "target": s.targets, "mantissa": s.mantissa, "delay": s.delay}
        out |= {f"{name}_{k}": np.asarray(v) for k, v in fields.items()}
        out |= {f"{name}_exponent": s.exponent, f"{name}_bits": s.bits}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(LAG))
    parser.add_argument("python")
    parser.add_argument("--nets", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    a = parser.parse_args()
    dialect, lag = DIALECTS[a.peer], LAG[a.peer]
    nets = {str(a.seed + k): drawn(dialect, 10_000 + a.seed + k, a.steps) for k in range(a.nets)}
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder, "nets.npz"), Path(folder, "words.npz")
        np.savez(given, **{f"{k}/{name}": v for k, net in nets.items() for name, v in stored(*net).items()})
        subprocess.run([a.python, SCRIPT, a.peer, given, got], check=True, stdout=subprocess.DEVNULL)
        with np.load(got) as file:
            words = {k: file[k] for k in file}
    total, seen = Counter(), Counter()
    for k, (cells, synapses, inputs, x, _) in nets.items():
        image = Image.of(dialect, cells, synapses, inputs)
        x = np.concatenate([x, np.zeros((lag, x.shape[1]))])
        saveat = [bs.Trace("P.u"), bs.Trace("P.v"), bs.Events("P")]
        proved = image.tables.bounds["P"]
        sol = image.simulate(len(x), inputs={"x": x}, saveat=saveat, throw=False)
        if any(int(code) for code, _ in sol.flags.values()):
            total["nets that left 24 bits, and said so"] += 1
            continue
        ours = np.stack([np.asarray(sol[f"P.{k}"])[lag:] for k in ("u", "v", "events")], axis=1).astype(np.int64)
        total["nets"] += 1
        total["words"] += ours.size
        total["mismatching words"] += int(np.sum(ours != words[k]))
        total["nets with a mismatch"] += int(np.any(ours != words[k]))
        total["spikes"] += int(ours[:, 2].sum())
        total["cells proved exact"] += int(proved.exact.sum())
        total["cells"] += proved.exact.size
        u = ours[:, 0]
        seen["|u| > 2^23 - 2^19"] += int(np.abs(u).max() > 2**23 - 2**19)
        seen["negative exponent"] += any(s.exponent < 0 for s in synapses.values())
        seen["delays"] += any(s.delay.any() for s in synapses.values())
        seen["refractory > 1"] += bool(np.any(cells["P"].refractory > 1))
        seen["bias"] += bool(np.any(cells["P"].bias))
        seen["fewer than 8 bits"] += any(s.bits < 8 for s in synapses.values())
        seen["a spike"] += bool(ours[:, 2].any())
    print(a.peer, dict(total), "of these nets with", dict(seen))
    sys.exit(total["mismatching words"] > 0)


if __name__ == "__main__":
    main()
