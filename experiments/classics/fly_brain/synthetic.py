"""A wiring with the size and the degree statistics of the fly's brain, for where the real tables are not at hand."""

import numpy as np

import brainsim as bs

NEURONS, EDGES, SYNAPSES, INHIBITORY = 138_639, 15_091_983, 54_492_922, 0.35
"""FlyWire v783 as Shiu et al. 2024 use it; the share of inhibitory neurons is near that of GABA and glutamate there."""


def synthetic(neurons: int = NEURONS, edges: int | None = None, seed: int = 0) -> bs.Connectome:
    """Pairs drawn with log-normal propensities (sigma 1) to send and to receive, geometric synapse counts.

    Degrees are as unequal as measured (standard deviation 1.3 times the mean); who meets whom is chance, so that there
    are no cell types and no reciprocal pairs beyond those of chance.
    """
    rng = np.random.default_rng(seed)
    edges = round(EDGES * (neurons / NEURONS)) if edges is None else edges
    ends = []
    for _ in ("pre", "post"):
        propensity = rng.lognormal(0.0, 1.0, neurons)
        bounds = np.cumsum(propensity / propensity.sum())
        ends.append(np.minimum(np.searchsorted(bounds, rng.random(edges)), neurons - 1).astype(np.int32))
    sign = np.where(rng.random(neurons) < INHIBITORY, -1, 1).astype(np.int8)
    count = rng.geometric(EDGES / SYNAPSES, edges).astype(np.int32)
    pairs = {"pre_row": ends[0], "post_row": ends[1], "count": count, "sign": sign[ends[0]]}
    return bs.Connectome({"id": np.arange(neurons), "transmitter": np.where(sign < 0, "gaba", "acetylcholine")}, pairs)
