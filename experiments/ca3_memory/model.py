"""An associative memory after CA3: what it must recall, counted in whole numbers, and the network that recalls it."""

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import jax
import numpy as np

import brainsim as bs

UNITS, ACTIVE = 400, 16
"""Cells, and how many of them a pattern has."""
DT, CYCLE, WAVES = 1.0, 40, 4
"""Step (ms), time from one wave of spikes to the next (steps), waves of a recall; the cue is the first."""
GAIN, MARGIN = 16, 2.5
"""A cell fires where `active - GAIN missing > MARGIN`; in the network all three are divided by GAIN."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Patterns (n, UNITS) of 0 and 1, and which cells share one, (UNITS, UNITS) of bool, no cell with itself."""

    patterns: np.ndarray
    together: np.ndarray

    @staticmethod
    def of(n: int, seed: int) -> "Memory":
        """`n` random patterns of ACTIVE cells, stored by Hebb's rule with binary synapses (Willshaw et al. 1969)."""
        rng = np.random.default_rng(seed)
        patterns = np.zeros((n, UNITS), np.int64)
        for row in patterns:
            row[rng.permutation(UNITS)[:ACTIVE]] = 1
        together = patterns.T @ patterns > 0
        np.fill_diagonal(together, False)
        return Memory(patterns, together)

    def cues(self, known: int, n: int, seed: int) -> np.ndarray:
        """The first `known` cells, in a random order, of each of the first `n` patterns, (n, UNITS)."""
        rng, found = np.random.default_rng([seed, known]), np.zeros((n, UNITS), np.int64)
        for row, pattern in zip(found, self.patterns, strict=False):
            row[rng.permutation(np.flatnonzero(pattern))[:known]] = 1
        return found

    def recall(self, cue: np.ndarray, inhibition: bool = True) -> np.ndarray:
        """What every wave must be, (WAVES, n, UNITS), in whole numbers; without inhibition a cell asks for half a
        pattern, whatever is active."""
        waves = [cue]
        for _ in range(WAVES - 1):
            active, present = waves[-1].sum(1, keepdims=True) - waves[-1], waves[-1] @ self.together
            drive = active - GAIN * (active - present) > MARGIN if inhibition else 2 * present >= ACTIVE
            waves.append(drive.astype(np.int64))
        return np.stack(waves)


def network(memory: Memory, inhibition: bool = True) -> bs.Network:
    """Cells that lose their current within a step and their voltage within a cycle, each connected to all others.

    A synapse of two cells of one pattern has weight 1 / GAIN, any other 1 / GAIN - 1: the excitation of a synapse and
    the inhibition that every active cell sends to all (by interneurons that follow at once) in one number.
    """
    cell = bs.CubaLIF(tau_syn=DT, tau_m=4.0, r=4.0, v_th=MARGIN / GAIN)
    weight = np.where(memory.together, 1.0, 0.0) - (1.0 - 1.0 / GAIN)
    if not inhibition:
        weight = np.where(memory.together, 2 * MARGIN / GAIN / (ACTIVE - 1), 0.0)
    source, target = np.nonzero(~np.eye(UNITS, dtype=bool))
    recurrent = bs.Projection(
        "CA3", "CA3.i", bs.FromCOO(source, target), weight=weight[source, target], delay=(CYCLE - 1) * DT
    )
    return bs.Network(
        {"cue": bs.Source(bs.External(), UNITS), "CA3": bs.Population(cell, UNITS, {"i": bs.Delta("i")})},
        {"in": bs.Projection("cue", "CA3.i", bs.OneToOne(), weight=0.5), "recurrent": recurrent},
    )


def played(cue: np.ndarray) -> np.ndarray:
    """A cue (n, UNITS) as events in the first step of a recall, (n, steps, UNITS)."""
    x = np.zeros((len(cue), WAVES * CYCLE, UNITS), np.float32)
    x[:, 0] = cue
    return x


@eqx.filter_jit
def spikes(net: bs.Network, x: jax.Array, dt: float) -> jax.Array:
    """Spikes of the cells in every recall, (n, steps, UNITS)."""

    def one(x: jax.Array) -> jax.Array:
        how: dict[str, Any] = dict(solver=diffrax.Euler(), key=jax.random.key(0), inputs={"cue": x})
        return bs.simulate(net, t1=WAVES * CYCLE * dt, dt=dt, saveat=[bs.Events("CA3")], **how)["CA3.events"]

    return jax.vmap(one)(x)


def waves(events: np.ndarray) -> tuple[np.ndarray, int]:
    """Cells active in every wave, (WAVES, n, UNITS), and how many spikes lie outside of the steps of the waves."""
    events = np.asarray(events) > 0
    first = int(np.flatnonzero(events.any((0, 2)))[0])
    steps = first + CYCLE * np.arange(WAVES)
    return events[:, steps].swapaxes(0, 1).astype(np.int64), int(events.sum() - events[:, steps].sum())
