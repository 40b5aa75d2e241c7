"""Views of populations: which units an edge over `"P[a:b:c]"` reads and reaches, in every format."""

import jax
import numpy as np
import pytest

import brainsim as bs

from .parts import arrivals, arrived, replay, run, tally

N_STEPS, N_PRE, N_POST = 12, 6, 7
EVENTS = [(m, m % N_PRE) for m in range(10)]
# pre, post, the units they name
CASES = {
    "head": ("S[:4]", "T[2:]", range(4), range(2, 7)),
    "odd": ("S[1::2]", "T[:6:3]", range(1, 6, 2), range(0, 6, 3)),
    "tail": ("S[-2:]", "T[-3:-1]", range(4, 6), range(4, 6)),
    "whole": ("S", "T", range(N_PRE), range(N_POST)),
}


def expected(pre, post, w):
    i, j = np.meshgrid(pre, post, indexing="ij")
    return arrivals(EVENTS, i.ravel(), j.ravel(), w.ravel(), [1] * w.size, N_POST, N_STEPS)


@pytest.fixture(scope="module")
def sol():
    nodes, edges = {"S": replay(EVENTS, N_PRE)}, {}
    for name, (pre, post, units_pre, units_post) in CASES.items():
        n, m = len(units_pre), len(units_post)
        w = np.arange(1.0, n * m + 1).reshape(n, m)
        i, j = (x.ravel()[::-1] for x in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
        rules = {
            "csr": (bs.FromCOO(i, j), w.ravel()[::-1]),
            "fanout": (bs.AllToAll(), w),
            "dense": (bs.Dense(n, m), w),
        }
        for kind, (rule, weight) in rules.items():
            target = f"{name}_{kind}"
            nodes[target] = tally(N_POST)
            edges[f"to_{target}"] = bs.Projection(pre, post.replace("T", target), rule, weight=weight)
    net = bs.Network(nodes, edges)
    return run(net, N_STEPS, [bs.Trace(f"{target}.v") for target in nodes if target != "S"])


@pytest.mark.core
@pytest.mark.parametrize("kind", ["csr", "fanout", "dense"])
@pytest.mark.parametrize("name", CASES)
def test_a_view_reads_and_reaches_the_units_it_names(sol, name, kind):
    _, _, pre, post = CASES[name]
    w = np.arange(1.0, len(pre) * len(post) + 1).reshape(len(pre), len(post))
    np.testing.assert_array_equal(arrived(sol[f"{name}_{kind}.v"]), expected(pre, post, w))


@pytest.mark.parametrize(
    "pre, post, pairs",
    [
        ("P", "P", [(i, j) for i in range(6) for j in range(6) if i != j]),
        ("P[:4]", "P", [(i, j) for i in range(4) for j in range(6) if i != j]),
        ("P[::2]", "P[1:5]", [(i, j) for i in (0, 2, 4) for j in (1, 2, 3, 4) if i != j]),
        ("P[:3]", "P[3:]", [(i, j) for i in range(3) for j in range(3, 6)]),
        ("P", "Q", [(i, j) for i in range(6) for j in range(6)]),
    ],
)
def test_autapses_are_left_out_wherever_views_overlap(pre, post, pairs):
    net = bs.Network(
        {"P": tally(6), "Q": tally(6)},
        {"E": bs.Projection(pre, post, bs.FixedProbability(1.0, autapses=False), weight=1.0)},
        key=jax.random.key(0),
    )
    i, j = net.edges["E"].connect.to_coo()
    start, _, step = net.edges["E"].route.units_pre or (0, 6, 1)
    assert sorted(zip((i * step + start).tolist(), j.tolist(), strict=True)) == pairs
