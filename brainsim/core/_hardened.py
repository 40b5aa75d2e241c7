"""`hardened`: a network whose delays were learnt, as it will run."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..events import Dense, FixedFanout
from ._delay import AbstractDelay
from ._network import Network
from ._projection import WiredProjection
from ._wiring import ring_depth


def listed(edge: WiredProjection, width: int) -> WiredProjection:
    """`edge` with the matrix of its `Dense` connection as a list of synapses onto a port of `width` units."""
    units = np.arange(*edge.route.units_post, dtype=np.int32)
    return dataclasses.replace(edge, connect=FixedFanout(np.tile(units, (edge.connect.n_pre, 1)), width))


def hardened(net: Network, dt: float) -> Network:
    """`net` with plain delays of whole steps of `dt` (ms) in the place of those that were learnt.

    A delay `d` becomes `dt * round(d / dt)`, halves upward, within the line. A `Dense` connection with a delay per
    synapse, which runs as a convolution over time, becomes a list of synapses (`FixedFanout`), which runs from event
    to event. Of a `GaussianDelay` narrower than a step nothing is lost: once all shares but one have underflowed, the
    two networks are the same but for the rounding of sums.

    **Raises:** ValueError where `dt` is not > 0.

    !!! Example

            >>> import brainsim as bs
            >>> edge = bs.Projection("A", "A", bs.OneToOne(), weight=1.0, delay=bs.LinearDelay(0.76), max_delay=2.0)
            >>> net = bs.Network({"A": bs.Population(bs.LIF(), 3, {"in": bs.Delta()})}, {"AA": edge})
            >>> float(bs.hardened(net, dt=0.5).edges["AA"].delay)
            1.0
    """

    def hard(edge: Any) -> Any:
        if not isinstance(edge, WiredProjection) or edge.instant:
            return edge
        if isinstance(edge.delay, AbstractDelay):
            end = dt * (ring_depth(edge.max_delay, dt) - 1)
            edge = dataclasses.replace(edge, delay=jnp.minimum(edge.delay.hardened(dt), end), max_delay=end)
        if isinstance(edge.connect, Dense) and jnp.ndim(edge.delay):
            edge = listed(edge, net.nodes[edge.writes[0]].size)
        return edge

    if not dt > 0:
        raise ValueError(f"hardened: dt is {dt!r}; expected a step > 0 (ms).")
    return Network(net.nodes, {name: hard(edge) for name, edge in net.edges.items()}, parts=net.parts)
