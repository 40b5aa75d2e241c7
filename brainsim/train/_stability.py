"""Gradients through long recurrent runs: see where they explode, and keep them in hand.

In every step near threshold a surrogate multiplies the gradient by up to `1 + slope * jump`; through recurrent weights
these factors multiply along time, and after some hundred steps a gradient may be 1e20, or NaN. What to do, in this
order:

1. Look: `gradient_norms` says which node it is, and how fast it grows.
2. Widen the surrogate to the jump of the reset (`Population.surrogate`), or cut the gradient through the reset
   (`detach_reset=True`).
3. Damp it: `bs.Damped(surrogate, 0.3)` lets through a part of the slope, so that paths over many spikes fade.
   In a network driven by noise, choose the factor so that the mean slope is the density of potentials at threshold,
   which is the derivative of the chance of a spike; a surrogate of 10 mV at steps of 0.25 ms then wants 0.02 to 0.03,
   and its gradients have the direction of finite differences (`experiments/ei_tuning`).
4. Clip along time: `adjoint=ClippedAdjoint(every=20, max_norm=1.0)`. Beyond the window the direction is kept and the
   size is not: a biased gradient, but a finite one.
5. Ask for less: a loss in short windows, from the state of the run before.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.table import Table

from ..base import as_text, float_dtype
from ..core import Network, State
from ..simulate import AbstractAdjoint, in_segments

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _parts(state: State, name: str) -> list[Any]:
    """The flowing state of a node and what is on its way to it."""
    return [state.nodes[name].y, state.inbox[name]]


def _norm(tree: Any) -> Float[Array, ""]:
    floats = [x for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.sqrt(sum((jnp.sum(x**2) for x in floats), start=jnp.zeros((), float_dtype())))


@jax.custom_vjp
def _tap(tree: Any, probe: Array, most: Array) -> Any:
    """`tree`; backward, the norm of its cotangent is that of `probe`, and the cotangent is cut to norm `most`."""
    return tree


def _tap_back(most: Array, cotangent: Any) -> tuple[Any, Array, Array]:
    norm = _norm(cotangent)
    # what is not finite has no direction worth keeping
    factor = jnp.where(norm > most, most / jnp.where(norm > 0, norm, 1.0), 1.0)
    factor = jnp.where(jnp.isfinite(norm), factor, jnp.where(jnp.isfinite(most), 0.0, 1.0))
    cut = jax.tree.map(lambda x: jnp.where(factor == 0, jnp.zeros_like(x), x * factor.astype(x.dtype)), cotangent)
    return cut, norm, jnp.zeros_like(most)


_tap.defvjp(lambda tree, probe, most: (tree, most), _tap_back)


def _tapped(carry: Any, probes: dict[str, Array] | None, most: Array) -> Any:
    """`carry` with a tap on every node of the `State` in it; without probes nothing is measured."""

    def one(x: Any) -> Any:
        if not isinstance(x, State):
            return x
        for name, probe in (probes or dict.fromkeys(x.nodes, jnp.zeros_like(most))).items():
            parts = _parts(x, name)
            smooth, rest = eqx.partition(parts, eqx.is_inexact_array)
            parts = eqx.combine(_tap(smooth, probe, most), rest)
            x = eqx.tree_at(lambda s, name=name: _parts(s, name), x, parts)
        return x

    return jax.tree.map(one, carry, is_leaf=lambda x: isinstance(x, State))


class _Windows(AbstractAdjoint):
    """Windows of `every` steps, computed again in the backward pass, with taps at their starts."""

    probes: dict[str, Float[Array, " windows"]] | None
    most: Float[Array, ""]
    every: int = eqx.field(static=True)

    def scan(self, segment, carry, kept, xs, length, thin):
        def tapped(carry, k):
            if self.probes is not None:
                return _tapped(carry, {name: p[k] for name, p in self.probes.items()}, self.most)
            return _tapped(carry, None, self.most)

        return in_segments(segment, carry, kept, xs, length, thin, self.every, tapped)


class ClippedAdjoint(AbstractAdjoint):
    """Cuts the gradient of every node's state to a norm of `max_norm` at every `every`-th step, going backward.

    The run is computed again window by window, as with `CheckpointedAdjoint`. What is cut keeps its direction; what is
    not finite is dropped. For reverse mode only.

    **Arguments:** `every`: in steps; `max_norm`: in the unit of loss per unit of state.

    !!! Example
        `simulate(net, ..., adjoint=bs.train.ClippedAdjoint(every=20, max_norm=1.0))`
    """

    every: int = eqx.field(static=True)
    max_norm: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"ClippedAdjoint.every is {self.every!r}; expected a whole number of steps >= 1.")
        if not self.max_norm > 0:
            raise ValueError(f"ClippedAdjoint.max_norm is {self.max_norm!r}; expected a number > 0.")

    def scan(self, segment, carry, kept, xs, length, thin):
        most = jnp.asarray(self.max_norm, float_dtype())
        return _Windows(None, most, self.every).scan(segment, carry, kept, xs, length, thin)


class GradientNorms:
    """`steps`: (windows,), where; `norms`: node -> (windows,), the norm of the gradient of the loss by its state there.

    `growth(node)` is the factor per step, going backward; `worst` the node whose gradient becomes largest.
    """

    def __init__(self, steps: np.ndarray, norms: dict[str, np.ndarray]) -> None:
        self.steps, self.norms = steps, norms

    def growth(self, node: str) -> float:
        """By what factor the gradient grows in a step, going backward: the slope of its logarithm."""
        norm = self.norms[node]
        fine = np.isfinite(norm) & (norm > 0)
        if fine.sum() < 2:
            return float("nan")
        return float(np.exp(-np.polyfit(self.steps[fine], np.log(norm[fine]), 1)[0]))

    @property
    def worst(self) -> str:
        """The node whose gradient becomes largest; what is not finite is larger than anything."""
        return max(self.norms, key=lambda name: np.max(np.where(np.isnan(self.norms[name]), np.inf, self.norms[name])))

    def __rich__(self) -> Table:
        table = Table("node", "largest", "at step", "factor per step", "not finite up to step")
        for name, norm in self.norms.items():
            fine = np.where(np.isfinite(norm), norm, -1.0)
            k, bad = int(np.argmax(fine)), np.flatnonzero(~np.isfinite(norm))
            until = str(self.steps[bad[-1]]) if bad.size else ""
            table.add_row(name, f"{fine[k]:.3g}", str(self.steps[k]), f"{self.growth(name):.4f}", until)
        return table

    __str__ = as_text
    __repr__ = as_text

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """The norms against the step; matplotlib."""
        from ..plot._axes import axes, colour

        ax = axes(ax)
        for k, (name, norm) in enumerate(self.norms.items()):
            ax.plot(self.steps, norm, color=colour(k), label=name)
        ax.set(xlabel="step", ylabel="norm of the gradient", yscale="log")
        ax.legend(frameon=False)
        return ax


def gradient_norms(
    loss: Callable[[AbstractAdjoint], Array], net: Network, *, steps: int, every: int = 1
) -> GradientNorms:
    """How large the gradient of a loss by the state of every node is, at every `every`-th of `steps` steps.

    **Arguments:** `loss`: `loss(adjoint)`, a scalar, which passes `adjoint` on to `simulate`; `net`: the network whose
    nodes it runs; `steps`: of the run.

    **Raises:** ValueError where `every` does not divide `steps`.

    !!! Example

            >>> import brainsim as bs, jax, jax.numpy as jnp
            >>> net = bs.Network({"P": bs.Population(bs.LeakyIntegrator(tau_m=10.0), 1)})
            >>> def loss(adjoint):
            ...     sol = bs.simulate(net, t1=20.0, dt=0.5, key=jax.random.key(0), saveat=[bs.Trace("P.v")],
            ...                       adjoint=adjoint)
            ...     return jnp.sum(sol["P.v"][-1])
            >>> round(bs.train.gradient_norms(loss, net, steps=40).growth("P"), 4)  # exp(-0.5 / 10): it fades
            0.9512
    """
    if every < 1 or steps % every:
        raise ValueError(f"gradient_norms: every = {every} does not divide {steps} steps. Choose one that does.")
    unbounded = jnp.asarray(jnp.inf, float_dtype())
    probes = {name: jnp.zeros(steps // every, float_dtype()) for name in net.nodes}
    norms = jax.grad(lambda probes: loss(_Windows(probes, unbounded, every)))(probes)
    return GradientNorms(every * np.arange(steps // every), {name: np.asarray(x) for name, x in norms.items()})
